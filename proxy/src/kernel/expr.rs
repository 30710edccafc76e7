//! The expressions of nf_tables that our rules are made of, and their attributes on the wire
//! (linux/netfilter/nf_tables.h).

use ipnet::Ipv4Net;

use crate::netlink::Buffer;

/// A register of 32 bits; wider values take several in a row. These are NFT_REG32_00 and on.
pub(crate) type Register = u32;
pub(crate) const R0: Register = 8;
pub(crate) const R1: Register = 9;
pub(crate) const R2: Register = 10;
pub(crate) const R3: Register = 11;
/// A scratch register that no key reaches.
pub(crate) const R8: Register = 16;
/// NFT_REG_VERDICT.
const VERDICT: Register = 0;

/// Fixed, so that a client keeps its endpoint over a restart.
const HASH_SEED: u32 = 0xc0ac1e;
/// NF_NAT_RANGE_PROTO_RANDOM_FULLY: without it, two new connections at once can pick the same
/// source port and one loses its first packet.
const RANDOM_PORTS: u32 = 0x10;

/// What happens to a packet next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict<'a> {
    Drop,
    Accept,
    Goto(&'a str),
}

impl Verdict<'_> {
    /// Appends the verdict as an NFTA_DATA_VERDICT.
    pub(crate) fn encode(self, out: &mut Buffer) {
        let code: i32 = match self {
            Verdict::Drop => 0,
            Verdict::Accept => 1,
            Verdict::Goto(_) => -4,
        };
        out.nest(2, |out| {
            out.number(1, code as u32);
            if let Verdict::Goto(chain) = self {
                out.text(2, chain);
            }
        });
    }
}

/// A field of the packet, or what connection tracking knows about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    /// Source and destination address.
    Saddr,
    Daddr,
    /// Source and destination port of TCP, UDP and SCTP alike.
    Sport,
    Dport,
    /// The transport's number.
    Transport,
    /// IPv4 or IPv6, in a table of both.
    Family,
    /// Destination address and port of the first packet, before translation.
    OriginalDaddr,
    OriginalDport,
    /// The bits of IPS_*.
    Status,
    /// The bits of the connection's state.
    State,
}

/// One step of a rule. A rule ends where a step does not match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expr {
    /// Reads a field into a register, padded with zeros.
    Load(Field, Register),
    /// Goes on if the register's bits under the mask are (or are not) the value.
    Bits { register: Register, mask: [u8; 4], value: [u8; 4], equal: bool },
    /// Goes on if the register is (or is not) the value.
    Compare { register: Register, value: Vec<u8>, equal: bool },
    /// Goes on if what begins in the register is in the set (or is not).
    Contains { set: &'static str, register: Register, member: bool },
    /// Replaces what begins in the register by what the map has for it.
    Map { map: &'static str, register: Register },
    /// Follows the verdict that the map has for what begins in the register.
    VerdictMap { map: &'static str, register: Register },
    /// A random number below the modulus.
    Random { modulus: u32, to: Register },
    /// A hash of the source address below the modulus, by way of a scratch register.
    ClientHash { modulus: u32, to: Register },
    /// Ends with a verdict.
    Verdict(Verdict<'static>),
    /// Sends the connection to the address in the first and the port in the second register.
    Dnat(Register, Register),
    /// Makes the connection come from an address.
    Snat([u8; 4]),
    /// Makes the connection come from the outgoing interface's address.
    Masquerade,
    /// Answers with a TCP reset.
    Reset,
    /// Answers with ICMP port unreachable.
    Unreachable,
    /// Keeps connection tracking, and so translation, away from the packet.
    Untrack,
    /// Counts packets, as iptables expects of every rule it lists.
    Count,
}

/// Goes on if the field's address is in (or not in) the network.
pub(crate) fn within(field: Field, network: Ipv4Net, equal: bool) -> [Expr; 2] {
    let (mask, value) = (network.netmask().octets(), network.network().octets());
    [Expr::Load(field, R0), Expr::Bits { register: R0, mask, value, equal }]
}

impl Expr {
    /// Its name in the kernel, which is also that of its module.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Expr::Load(field, _) => field.source(),
            Expr::Bits { .. } => "bitwise",
            Expr::Compare { .. } => "cmp",
            Expr::Contains { .. } | Expr::Map { .. } | Expr::VerdictMap { .. } => "lookup",
            Expr::Random { .. } => "numgen",
            Expr::ClientHash { .. } => "hash",
            Expr::Verdict(_) => "immediate",
            Expr::Dnat(..) | Expr::Snat(_) => "nat",
            Expr::Masquerade => "masq",
            Expr::Reset | Expr::Unreachable => "reject",
            Expr::Untrack => "notrack",
            Expr::Count => "counter",
        }
    }

    /// Appends it as a list element; some steps are two of the kernel's.
    pub(crate) fn encode(&self, out: &mut Buffer) {
        match self {
            Expr::ClientHash { .. } => Expr::Load(Field::Saddr, R8).encode(out),
            Expr::Snat(address) => element(out, "immediate", |out| {
                out.number(1, R0);
                out.nest(2, |out| out.attr(1, address));
            }),
            _ => {}
        }
        element(out, self.name(), |out| self.attributes(out));
        if let Expr::Bits { register, value, equal, .. } = self {
            Expr::Compare { register: *register, value: value.to_vec(), equal: *equal }.encode(out);
        }
    }

    fn attributes(&self, out: &mut Buffer) {
        match self {
            Expr::Load(field, to) => field.load(*to, out),
            Expr::Bits { register, mask, .. } => {
                out.number(1, *register);
                out.number(2, *register);
                out.number(3, 4);
                out.nest(4, |out| out.attr(1, mask));
                out.nest(5, |out| out.attr(1, &[0; 4]));
            }
            Expr::Compare { register, value, equal } => {
                out.number(1, *register);
                out.number(2, u32::from(!equal));
                out.nest(3, |out| out.attr(1, value));
            }
            Expr::Contains { set, register, member } => {
                lookup(out, set, *register, None);
                out.number(5, u32::from(!member));
            }
            Expr::Map { map, register } => lookup(out, map, *register, Some(*register)),
            Expr::VerdictMap { map, register } => lookup(out, map, *register, Some(VERDICT)),
            Expr::Random { modulus, to } => {
                out.number(1, *to);
                out.number(2, *modulus);
                out.number(3, 1);
            }
            Expr::ClientHash { modulus, to } => {
                out.number(1, R8);
                out.number(2, *to);
                out.number(3, 4);
                out.number(4, *modulus);
                out.number(5, HASH_SEED);
            }
            Expr::Verdict(verdict) => {
                out.number(1, VERDICT);
                out.nest(2, |out| verdict.encode(out));
            }
            Expr::Dnat(address, port) => {
                nat(out, 1, *address);
                out.number(5, *port);
            }
            Expr::Snat(_) => {
                nat(out, 0, R0);
                out.number(7, RANDOM_PORTS);
            }
            Expr::Masquerade => out.number(1, RANDOM_PORTS),
            Expr::Reset => reject(out, 1, 0),
            Expr::Unreachable => reject(out, 0, 3),
            Expr::Untrack | Expr::Count => {}
        }
    }
}

impl Field {
    fn source(self) -> &'static str {
        match self {
            Field::Saddr | Field::Daddr | Field::Sport | Field::Dport => "payload",
            Field::Transport | Field::Family => "meta",
            Field::OriginalDaddr | Field::OriginalDport | Field::Status | Field::State => "ct",
        }
    }

    fn load(self, to: Register, out: &mut Buffer) {
        out.number(1, to);
        match self {
            Field::Saddr => payload(out, 1, 12, 4),
            Field::Daddr => payload(out, 1, 16, 4),
            Field::Sport => payload(out, 2, 0, 2),
            Field::Dport => payload(out, 2, 2, 2),
            Field::Transport => out.number(2, 16),
            Field::Family => out.number(2, 15),
            Field::OriginalDaddr => original(out, 20),
            Field::OriginalDport => original(out, 12),
            Field::Status => out.number(2, 2),
            Field::State => out.number(2, 0),
        }
    }
}

/// An element of a rule's list of expressions.
fn element(out: &mut Buffer, name: &str, fill: impl FnOnce(&mut Buffer)) {
    out.nest(1, |out| {
        out.text(1, name);
        out.nest(2, fill);
    });
}

/// Bytes of the network (1) or transport (2) header.
fn payload(out: &mut Buffer, base: u32, offset: u32, length: u32) {
    out.number(2, base);
    out.number(3, offset);
    out.number(4, length);
}

/// A key of connection tracking in the original direction.
fn original(out: &mut Buffer, key: u32) {
    out.number(2, key);
    out.attr(3, &[0]);
}

fn lookup(out: &mut Buffer, set: &str, from: Register, to: Option<Register>) {
    out.text(1, set);
    out.number(2, from);
    if let Some(to) = to {
        out.number(3, to);
    }
}

/// Source (0) or destination (1) translation of IPv4.
fn nat(out: &mut Buffer, kind: u32, address: Register) {
    out.number(1, kind);
    out.number(2, u32::from(crate::netlink::IPV4));
    out.number(3, address);
}

fn reject(out: &mut Buffer, kind: u32, code: u8) {
    out.number(1, kind);
    out.attr(2, &[code]);
}
