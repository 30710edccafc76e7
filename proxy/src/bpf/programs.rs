//! What the kernel runs when a pod's process connects, sends, receives, or asks for its peer.
//!
//! One generator writes each program for both families. Addresses are of 16 bytes everywhere, those
//! of IPv4 mapped into IPv6, so that a socket of IPv6 that speaks to `::ffff:10.96.0.1` finds the
//! same Service. Whatever a program does not find it leaves alone, and nftables sees to it.

use std::os::fd::{AsRawFd, RawFd};

use super::assembler::Reg::*;
use super::assembler::Size::*;
use super::assembler::{Assembler, Helper, Instruction, Label, Reg};
use super::maps::{DIRECTION, Maps, Memory, PORT, PROTOCOL, REVERSE, SPOT, TCP, UDP};

/// The family of addresses that a hook hands over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

/// What a program does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    /// A TCP socket connects to an endpoint. Sockets of UDP keep what they connect to, so they
    /// would stick to an endpoint that is gone; nftables leads each of their packets.
    Connect,
    /// A datagram goes to the endpoint that its socket uses for the Service, while it lives.
    Send,
    /// A datagram of an endpoint comes from the Service.
    Receive,
    /// The peer of a TCP socket is the Service.
    Peer,
}

/// A place where the kernel runs a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hook {
    /// The program's name in the kernel, under 16 characters.
    pub(crate) name: &'static str,
    /// Its number in `enum bpf_attach_type`.
    pub(crate) attach: u32,
    family: Family,
    act: Act,
}

/// All of them. What reverses an address stands before what changes it.
pub(crate) const HOOKS: [Hook; 8] = [
    Hook { name: "coracle_recv4", attach: 19, family: Family::V4, act: Act::Receive },
    Hook { name: "coracle_recv6", attach: 20, family: Family::V6, act: Act::Receive },
    Hook { name: "coracle_peer4", attach: 29, family: Family::V4, act: Act::Peer },
    Hook { name: "coracle_peer6", attach: 30, family: Family::V6, act: Act::Peer },
    Hook { name: "coracle_send4", attach: 14, family: Family::V4, act: Act::Send },
    Hook { name: "coracle_send6", attach: 15, family: Family::V6, act: Act::Send },
    Hook { name: "coracle_conn4", attach: 10, family: Family::V4, act: Act::Connect },
    Hook { name: "coracle_conn6", attach: 11, family: Family::V6, act: Act::Connect },
];

/// Offsets in `struct bpf_sock_addr`.
const USER_IP4: i16 = 4;
const USER_IP6: i16 = 8;
const USER_PORT: i16 = 24;
const SOCKET_PROTOCOL: i16 = 36;

/// The stack, from its end. Keys overlap where one begins with another: a flow is (cookie,
/// frontend), a pair is (frontend, endpoint), a slot is (frontend, generation, index).
const COOKIE: i16 = -56;
const FRONTEND: i16 = COOKIE + 8;
const ENDPOINT: i16 = FRONTEND + SPOT;
const GENERATION: i16 = ENDPOINT;
const INDEX: i16 = GENERATION + 4;
/// A second flow: (cookie, endpoint), for the way back.
const BACK_COOKIE: i16 = -88;
const BACK: i16 = BACK_COOKIE + 8;

/// The words of `::ffff:0:0/96` before the address.
const MAPPED: [i32; 3] = [0, 0, i32::from_ne_bytes([0, 0, 0xff, 0xff])];

impl Hook {
    /// The program for it.
    pub(crate) fn program(self, maps: &Maps, memory: &Memory) -> Vec<Instruction> {
        let mut asm = Assembler::default();
        let done = asm.label();
        asm.copy(R6, R1);
        let writer = Writer { family: self.family, maps, memory, done };
        match self.act {
            Act::Connect => writer.connect(&mut asm),
            Act::Send => writer.send(&mut asm),
            Act::Receive => writer.reverse(&mut asm, memory.flows.as_raw_fd()),
            Act::Peer => writer.reverse(&mut asm, memory.peers.as_raw_fd()),
        }
        asm.place(done);
        // The system call goes on.
        asm.set(R0, 1);
        asm.exit();
        asm.finish()
    }
}

/// Writes a program whose register R6 is the context; jumps to `done` end it.
struct Writer<'a> {
    family: Family,
    maps: &'a Maps,
    memory: &'a Memory,
    done: Label,
}

impl Writer<'_> {
    fn connect(&self, asm: &mut Assembler) {
        self.only(asm, TCP);
        self.read_address(asm, FRONTEND);
        self.find_service(asm);
        self.choose(asm);
        self.copy_spot(asm, ENDPOINT, BACK);
        asm.store_number(Byte, R10, BACK + DIRECTION, REVERSE);
        self.cookie(asm, BACK_COOKIE);
        self.update(asm, self.memory.peers.as_raw_fd(), BACK_COOKIE, FRONTEND);
        self.write_address(asm, ENDPOINT);
    }

    fn send(&self, asm: &mut Assembler) {
        let (choose, chosen, known) = (asm.label(), asm.label(), asm.label());
        self.only(asm, UDP);
        self.read_address(asm, FRONTEND);
        self.find_service(asm);
        self.cookie(asm, COOKIE);
        // The choice before, if its endpoint lives.
        self.look_up(asm, self.memory.flows.as_raw_fd(), COOKIE);
        asm.jump_if(R0, 0, choose);
        self.copy_from(asm, R0, ENDPOINT);
        self.look_up(asm, self.maps.pairs.as_raw_fd(), FRONTEND);
        asm.jump_unless(R0, 0, chosen);
        asm.place(choose);
        self.choose(asm);
        self.update(asm, self.memory.flows.as_raw_fd(), COOKIE, ENDPOINT);
        asm.place(chosen);
        // The way back.
        self.copy_spot(asm, ENDPOINT, BACK);
        asm.store_number(Byte, R10, BACK + DIRECTION, REVERSE);
        asm.load(Double, R2, R10, COOKIE);
        asm.store(Double, R10, BACK_COOKIE, R2);
        self.look_up(asm, self.memory.flows.as_raw_fd(), BACK_COOKIE);
        asm.jump_unless(R0, 0, known);
        self.update(asm, self.memory.flows.as_raw_fd(), BACK_COOKIE, FRONTEND);
        asm.place(known);
        self.write_address(asm, ENDPOINT);
    }

    /// Puts the Service that `map` has for the socket's peer in the place of the peer.
    fn reverse(&self, asm: &mut Assembler, map: RawFd) {
        asm.load(Word, R3, R6, SOCKET_PROTOCOL);
        self.read_address(asm, BACK);
        asm.store_number(Byte, R10, BACK + DIRECTION, REVERSE);
        self.cookie(asm, BACK_COOKIE);
        self.look_up(asm, map, BACK_COOKIE);
        asm.jump_if(R0, 0, self.done);
        self.copy_from(asm, R0, FRONTEND);
        self.write_address(asm, FRONTEND);
    }

    /// Ends unless the socket is of this protocol, which goes on in R3.
    fn only(&self, asm: &mut Assembler, protocol: u8) {
        asm.load(Word, R3, R6, SOCKET_PROTOCOL);
        asm.jump_unless(R3, protocol.into(), self.done);
    }

    /// Copies the address of the context to the stack, with the protocol in R3.
    fn read_address(&self, asm: &mut Assembler, to: i16) {
        for (word, number) in (0..).zip(MAPPED) {
            match self.family {
                Family::V4 => asm.store_number(Word, R10, to + 4 * word, number),
                Family::V6 => {
                    asm.load(Word, R2, R6, USER_IP6 + 4 * word);
                    asm.store(Word, R10, to + 4 * word, R2);
                }
            }
        }
        asm.load(Word, R2, R6, self.last_word());
        asm.store(Word, R10, to + 12, R2);
        asm.load(Word, R2, R6, USER_PORT);
        asm.store(Half, R10, to + PORT, R2);
        asm.store(Byte, R10, to + PROTOCOL, R3);
        asm.store_number(Byte, R10, to + DIRECTION, 0);
    }

    /// Puts an address of the stack into the context.
    fn write_address(&self, asm: &mut Assembler, from: i16) {
        if self.family == Family::V6 {
            for word in 0..3 {
                asm.load(Word, R2, R10, from + 4 * word);
                asm.store(Word, R6, USER_IP6 + 4 * word, R2);
            }
        }
        asm.load(Word, R2, R10, from + 12);
        asm.store(Word, R6, self.last_word(), R2);
        asm.load(Half, R2, R10, from + PORT);
        asm.store(Word, R6, USER_PORT, R2);
    }

    fn last_word(&self) -> i16 {
        match self.family {
            Family::V4 => USER_IP4,
            Family::V6 => USER_IP6 + 12,
        }
    }

    /// Ends unless the frontend is a Service's. Its generation and number of endpoints go to R7 and
    /// R8; they come by one load, because the kernel may use their memory for another Service's.
    fn find_service(&self, asm: &mut Assembler) {
        self.look_up(asm, self.maps.services.as_raw_fd(), FRONTEND);
        asm.jump_if(R0, 0, self.done);
        asm.load(Double, R7, R0, 0);
        asm.copy(R8, R7);
        // The generation is the half in front.
        asm.shift_right(if cfg!(target_endian = "little") { R8 } else { R7 }, 32);
    }

    /// Copies one of the endpoints, at random, to the stack; ends if it has just gone.
    fn choose(&self, asm: &mut Assembler) {
        asm.call(Helper::Random);
        asm.remainder(R0, R8);
        asm.store(Word, R10, GENERATION, R7);
        asm.store(Word, R10, INDEX, R0);
        self.look_up(asm, self.maps.endpoints.as_raw_fd(), FRONTEND);
        asm.jump_if(R0, 0, self.done);
        self.copy_from(asm, R0, ENDPOINT);
    }

    fn copy_spot(&self, asm: &mut Assembler, from: i16, to: i16) {
        asm.copy(R0, R10);
        asm.add(R0, from.into());
        self.copy_from(asm, R0, to);
    }

    /// Copies what a register points to to the stack: address, port, protocol and direction.
    fn copy_from(&self, asm: &mut Assembler, from: Reg, to: i16) {
        for offset in (0..SPOT).step_by(4) {
            asm.load(Word, R2, from, offset);
            asm.store(Word, R10, to + offset, R2);
        }
    }

    /// The number of the socket, which is used once as long as the kernel runs.
    fn cookie(&self, asm: &mut Assembler, to: i16) {
        asm.copy(R1, R6);
        asm.call(Helper::Cookie);
        asm.store(Double, R10, to, R0);
    }

    /// Leaves a pointer to the value, or nothing, in R0.
    fn look_up(&self, asm: &mut Assembler, map: RawFd, key: i16) {
        asm.map(R1, map);
        asm.copy(R2, R10);
        asm.add(R2, key.into());
        asm.call(Helper::Lookup);
    }

    fn update(&self, asm: &mut Assembler, map: RawFd, key: i16, value: i16) {
        asm.map(R1, map);
        asm.copy(R2, R10);
        asm.add(R2, key.into());
        asm.copy(R3, R10);
        asm.add(R3, value.into());
        asm.set(R4, 0);
        asm.call(Helper::Update);
    }
}
