//! The expressions of nf_tables that our rules are made of, and their attributes on the wire
//! (linux/netfilter/nf_tables.h).

use std::net::IpAddr;

use ipnet::IpNet;

use super::family::{Family, octets};
use crate::netlink::Buffer;

/// One of the 16 registers of 32 bits, by its number; wider values take several in a row.
pub(crate) type Register = u32;
/// NFT_REG_1, which is also NFT_REG32_00; and that.
const WIDE: u32 = 1;
const FIRST: u32 = 8;
/// NFT_META_PRIORITY.
const PRIORITY: u32 = 2;
/// NFT_DYNSET_OP_UPDATE and _DELETE.
const UPDATE: u32 = 1;
const DELETE: u32 = 2;
/// NFT_REG_VERDICT.
const VERDICT: u32 = 0;

/// NF_NAT_RANGE_PROTO_RANDOM_FULLY: without it, two new connections at once can pick the same
/// source port and one loses its first packet.
const RANDOM_PORTS: u32 = 0x10;
/// NF_NAT_RANGE_MAP_IPS; the kernel would add it.
const THESE_ADDRESSES: u32 = 0x1;

/// What happens to a packet next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Drop,
    Accept,
    Goto(String),
}

impl Verdict {
    /// Appends the verdict as an NFTA_DATA_VERDICT.
    pub(crate) fn encode(&self, out: &mut Buffer) {
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
    /// The priority for queues. Forwarding sets it anew.
    Priority,
}

/// One step of a rule. A rule ends where a step does not match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expr {
    /// Reads a field into a register, padded with zeros.
    Load(Field, Register),
    /// Puts bytes into a register.
    Set([u8; 4], Register),
    /// Makes the register the packet's priority.
    Prioritise(Register),
    /// Goes on if the bits under the mask of what begins in the register are (or are not) the value.
    Bits { register: Register, mask: Vec<u8>, value: Vec<u8>, equal: bool },
    /// Goes on if what begins in the register is (or is not) the value.
    Compare { register: Register, value: Vec<u8>, equal: bool },
    /// Goes on if what begins in the register is in the set (or is not).
    Contains { set: &'static str, register: Register, member: bool },
    /// Goes on if the map has what begins in the register, with what it has for it from another register on.
    Map { map: &'static str, from: Register, to: Register },
    /// Follows the verdict that the map has for what begins in the register.
    VerdictMap { map: &'static str, register: Register },
    /// A random number from `offset` on, of so many.
    Random { modulus: u32, offset: u32, to: Register },
    /// Puts key and data into a map for so many seconds from now; where the key is there, only its time begins anew.
    /// Goes on unless the map is full.
    Remember { map: &'static str, key: Register, data: Register, seconds: u32 },
    /// Takes a key out of a map; the data is of no matter, but the kernel wants it.
    Forget { map: &'static str, key: Register, data: Register },
    /// Ends with a verdict.
    Verdict(Verdict),
    /// Sends the connection to the address and the port in these registers.
    Dnat(Register, Register),
    /// Makes the connection come from an address.
    Snat(IpAddr),
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
pub(crate) fn within(field: Field, network: IpNet, equal: bool) -> [Expr; 2] {
    let (mask, value) = (octets(network.netmask()), octets(network.network()));
    [Expr::Load(field, 0), Expr::Bits { register: 0, mask, value, equal }]
}

impl Expr {
    /// Its name in the kernel, which is also that of its module.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Expr::Load(field, _) => field.source(),
            Expr::Prioritise(_) => "meta",
            Expr::Bits { .. } => "bitwise",
            Expr::Compare { .. } => "cmp",
            Expr::Contains { .. } | Expr::Map { .. } | Expr::VerdictMap { .. } => "lookup",
            Expr::Random { .. } => "numgen",
            Expr::Remember { .. } | Expr::Forget { .. } => "dynset",
            Expr::Set(..) | Expr::Verdict(_) => "immediate",
            Expr::Dnat(..) | Expr::Snat(_) => "nat",
            Expr::Masquerade => "masq",
            Expr::Reset | Expr::Unreachable => "reject",
            Expr::Untrack => "notrack",
            Expr::Count => "counter",
        }
    }

    /// Appends it as a list element; some steps are two of the kernel's.
    pub(crate) fn encode(&self, family: Family, out: &mut Buffer) {
        if let Expr::Snat(address) = self {
            element(out, "immediate", |out| set(out, &octets(*address), 0));
        }
        element(out, self.name(), |out| self.attributes(family, out));
        if let Expr::Bits { register, value, equal, .. } = self {
            Expr::Compare { register: *register, value: value.clone(), equal: *equal }.encode(family, out);
        }
    }

    fn attributes(&self, family: Family, out: &mut Buffer) {
        match self {
            Expr::Load(field, to) => field.load(family, *to, out),
            Expr::Set(bytes, to) => set(out, bytes, *to),
            Expr::Prioritise(from) => {
                out.number(2, PRIORITY);
                register(out, 3, *from);
            }
            Expr::Bits { register: at, mask, .. } => {
                register(out, 1, *at);
                register(out, 2, *at);
                out.number(3, mask.len() as u32);
                out.nest(4, |out| out.attr(1, mask));
                out.nest(5, |out| out.attr(1, &vec![0; mask.len()]));
            }
            Expr::Compare { register: at, value, equal } => {
                register(out, 1, *at);
                out.number(2, u32::from(!equal));
                out.nest(3, |out| out.attr(1, value));
            }
            Expr::Contains { set, register, member } => {
                lookup(out, set, *register);
                out.number(5, u32::from(!member));
            }
            Expr::Map { map, from, to } => {
                lookup(out, map, *from);
                register(out, 3, *to);
            }
            Expr::VerdictMap { map, register } => {
                lookup(out, map, *register);
                out.number(3, VERDICT);
            }
            Expr::Random { modulus, offset, to } => {
                register(out, 1, *to);
                out.number(2, *modulus);
                out.number(3, 1);
                out.number(4, *offset);
            }
            Expr::Remember { map, key, data, seconds } => {
                dynamic(out, map, UPDATE, *key, *data);
                out.attr(6, &(u64::from(*seconds) * 1000).to_be_bytes());
            }
            Expr::Forget { map, key, data } => dynamic(out, map, DELETE, *key, *data),
            Expr::Verdict(verdict) => {
                out.number(1, VERDICT);
                out.nest(2, |out| verdict.encode(out));
            }
            Expr::Dnat(address, port) => {
                nat(out, 1, family, *address);
                register(out, 5, *port);
            }
            Expr::Snat(_) => {
                nat(out, 0, family, 0);
                out.number(7, RANDOM_PORTS | THESE_ADDRESSES);
            }
            Expr::Masquerade => out.number(1, RANDOM_PORTS),
            Expr::Reset => out.number(1, 1),
            Expr::Unreachable => {
                out.number(1, 0);
                out.attr(2, &[if family == Family::V4 { 3 } else { 4 }]);
            }
            Expr::Untrack | Expr::Count => {}
        }
    }
}

impl Field {
    fn source(self) -> &'static str {
        match self {
            Field::Saddr | Field::Daddr | Field::Sport | Field::Dport => "payload",
            Field::Transport | Field::Family | Field::Priority => "meta",
            Field::OriginalDaddr | Field::OriginalDport | Field::Status | Field::State => "ct",
        }
    }

    fn load(self, family: Family, to: Register, out: &mut Buffer) {
        register(out, 1, to);
        match self {
            Field::Saddr => payload(out, 1, if family == Family::V4 { 12 } else { 8 }, family.length()),
            Field::Daddr => payload(out, 1, if family == Family::V4 { 16 } else { 24 }, family.length()),
            Field::Sport => payload(out, 2, 0, 2),
            Field::Dport => payload(out, 2, 2, 2),
            Field::Transport => out.number(2, 16),
            Field::Family => out.number(2, 15),
            Field::OriginalDaddr => original(out, if family == Family::V4 { 20 } else { 22 }),
            Field::OriginalDport => original(out, 12),
            Field::Priority => out.number(2, PRIORITY),
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

/// The number of one of our registers. Those that wide ones begin with have two; this is the one that the kernel says.
fn register(out: &mut Buffer, kind: u16, register: Register) {
    out.number(kind, if register.is_multiple_of(4) { WIDE + register / 4 } else { FIRST + register });
}

fn set(out: &mut Buffer, bytes: &[u8], to: Register) {
    register(out, 1, to);
    out.nest(2, |out| out.attr(1, bytes));
}

fn lookup(out: &mut Buffer, set: &str, from: Register) {
    out.text(1, set);
    register(out, 2, from);
}

fn dynamic(out: &mut Buffer, map: &str, operation: u32, key: Register, data: Register) {
    out.text(1, map);
    out.number(3, operation);
    register(out, 4, key);
    register(out, 5, data);
}

/// Source (0) or destination (1) translation.
fn nat(out: &mut Buffer, kind: u32, family: Family, address: Register) {
    out.number(1, kind);
    out.number(2, u32::from(family.number()));
    register(out, 3, address);
}
