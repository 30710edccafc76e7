//! Our table as the kernel gets it: sets, chains and their rules, and elements.

use std::net::Ipv4Addr;

use state::Protocol;

use super::Config;
use super::batch::{
    APPEND, Batch, CREATE, DELETE_ELEMENT, DELETE_TABLE, NEW_CHAIN, NEW_ELEMENT, NEW_RULE, NEW_SET, NEW_TABLE,
};
use super::chains::{Chain, chains};
use super::expr::{Expr, Field, R0, R1, R2, R3, Verdict};
use super::rules::{Change, Element, Frontend, Pick};
use crate::netlink::Buffer;

/// How many elements one message holds; an attribute ends at 64 KiB, an element takes up to 80 bytes.
const CHUNK: usize = 500;

/// The types of nft, which it joins in six bits each for a concatenation: ipv4_addr, inet_proto,
/// inet_service and mark (for the number of an endpoint).
const ADDRESS: u32 = 7;
const TRANSPORT: u32 = 12;
const PORT: u32 = 13;
const INDEX: u32 = 19;
/// NFT_SET_MAP and NFT_DATA_VERDICT.
const MAP: u32 = 0x8;
const VERDICT: u32 = 0xffff_ff00;

/// A map or set: name, types of the key, types of the data. A verdict is the type `VERDICT`.
struct Set(&'static str, &'static [u32], &'static [u32]);

const SETS: [Set; 7] = [
    Set("services", &[ADDRESS, TRANSPORT, PORT], &[VERDICT]),
    Set("endpoints", &[ADDRESS, TRANSPORT, PORT, INDEX], &[ADDRESS, PORT]),
    Set("refused", &[ADDRESS, TRANSPORT, PORT], &[]),
    Set("external", &[ADDRESS, TRANSPORT, PORT], &[]),
    Set("hairpin", &[ADDRESS, ADDRESS], &[]),
    Set("local", &[ADDRESS], &[]),
    Set("untracked", &[ADDRESS, TRANSPORT, PORT], &[]),
];

/// The name of a cluster's table.
pub(crate) fn name(cluster_id: &str) -> String {
    format!("coracle-{cluster_id}")
}

/// Puts an empty table in the place of whatever has its name; with what follows in the same
/// batch, no packet ever sees it empty.
pub(crate) fn replace(batch: &mut Batch, table: &str, config: &Config) {
    remove(batch, table);
    batch.push(NEW_TABLE, CREATE, format!("add the table {table}"), |out| out.text(1, table));
    for (set, id) in SETS.iter().zip(1..) {
        batch.push(NEW_SET, CREATE, format!("add the set {}", set.0), |out| set.encode(table, id, out));
    }
    let chains = chains(config);
    for chain in &chains {
        add_chain(batch, table, chain);
    }
    for chain in &chains {
        add_rules(batch, table, chain);
    }
    let local = config.node_addresses.iter().chain(&config.local).chain(&config.dns);
    let mut local: Vec<Ipv4Addr> = local.copied().collect();
    local.sort();
    local.dedup();
    elements(batch, NEW_ELEMENT, table, "local", &local, |address, out| key(&[&address.octets()], out));
    let dns: Vec<Frontend> = config.dns.iter().flat_map(|address| dns(*address)).collect();
    elements(batch, NEW_ELEMENT, table, "untracked", &dns, |frontend, out| frontend.encode(None, out));
}

/// Removes the table, whether it exists or not.
pub(crate) fn remove(batch: &mut Batch, table: &str) {
    batch.push(NEW_TABLE, CREATE, format!("add the table {table}"), |out| out.text(1, table));
    batch.push(DELETE_TABLE, 0, format!("remove the table {table}"), |out| out.text(1, table));
}

/// A chain that leads to one endpoint of a frontend that has so many; None for what needs none.
pub(crate) fn add_pick(batch: &mut Batch, table: &str, pick: Pick) {
    let choose = match pick {
        Pick::Random(modulus) => Expr::Random { modulus, to: R3 },
        Pick::Sticky(modulus) => Expr::ClientHash { modulus, to: R3 },
        Pick::Drop => return,
    };
    let [address, transport, port] = frontend(Field::Daddr, Field::Dport);
    let found = Expr::Map { map: "endpoints", register: R0 };
    let rule = vec![address, transport, port, choose, found, Expr::Dnat(R0, R1)];
    let chain = Chain { name: pick.chain(), base: None, rules: vec![rule] };
    add_chain(batch, table, &chain);
    add_rules(batch, table, &chain);
}

/// Removes and then adds elements, so that one that changes its value is there once.
pub(crate) fn change(batch: &mut Batch, table: &str, change: &Change) {
    let removed: Vec<Element> = change.removed.iter().rev().copied().collect();
    for group in removed.chunk_by(|a, b| a.set() == b.set()) {
        let encode = |element: &Element, out: &mut Buffer| element.key(out);
        elements(batch, DELETE_ELEMENT, table, group[0].set(), group, encode);
    }
    let added: Vec<Element> = change.added.iter().copied().collect();
    for group in added.chunk_by(|a, b| a.set() == b.set()) {
        let encode = |element: &Element, out: &mut Buffer| {
            element.key(out);
            element.value(out);
        };
        elements(batch, NEW_ELEMENT, table, group[0].set(), group, encode);
    }
}

/// The registers R0 to R2 as a key of a frontend.
pub(crate) fn frontend(address: Field, port: Field) -> [Expr; 3] {
    [Expr::Load(address, R0), Expr::Load(Field::Transport, R1), Expr::Load(port, R2)]
}

/// Where DNS is asked at an address.
fn dns(address: Ipv4Addr) -> [Frontend; 2] {
    [Protocol::Tcp, Protocol::Udp].map(|protocol| Frontend { address, protocol, port: 53 })
}

fn add_chain(batch: &mut Batch, table: &str, chain: &Chain) {
    batch.push(NEW_CHAIN, CREATE, format!("add the chain {}", chain.name), |out| {
        out.text(1, table);
        out.text(3, &chain.name);
        if let Some(base) = &chain.base {
            out.nest(4, |out| {
                out.number(1, base.hook);
                out.number(2, base.priority as u32);
            });
            out.number(5, 1);
            out.text(7, base.kind);
        }
    });
}

fn add_rules(batch: &mut Batch, table: &str, chain: &Chain) {
    for rule in &chain.rules {
        let names: Vec<&str> = rule.iter().map(Expr::name).collect();
        let doing = format!("add a rule to the chain {} ({})", chain.name, names.join(", "));
        batch.push(NEW_RULE, CREATE | APPEND, doing, |out| {
            out.text(1, table);
            out.text(2, &chain.name);
            out.nest(4, |out| rule.iter().for_each(|expr| expr.encode(out)));
        });
    }
}

fn elements<T>(batch: &mut Batch, message: u16, table: &str, set: &str, all: &[T], encode: impl Fn(&T, &mut Buffer)) {
    let verb = if message == NEW_ELEMENT { "add to" } else { "remove from" };
    let flags = if message == NEW_ELEMENT { CREATE } else { 0 };
    for chunk in all.chunks(CHUNK) {
        batch.push(message, flags, format!("{verb} the set {set}"), |out| {
            out.text(1, table);
            out.text(2, set);
            out.nest(3, |out| chunk.iter().for_each(|element| out.nest(1, |out| encode(element, out))));
        });
    }
}

/// The key of an element: its fields, each padded to a register.
fn key(fields: &[&[u8]], out: &mut Buffer) {
    out.nest(1, |out| out.attr(1, &padded(fields)));
}

fn padded(fields: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16);
    for field in fields {
        bytes.extend_from_slice(field);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

impl Set {
    fn encode(&self, table: &str, id: u32, out: &mut Buffer) {
        let Set(name, key, data) = *self;
        let joined = |types: &[u32]| types.iter().fold(0, |joined, kind| joined << 6 | kind);
        out.text(1, table);
        out.text(2, name);
        out.number(3, if data.is_empty() { 0 } else { MAP });
        out.number(4, joined(key));
        out.number(5, 4 * key.len() as u32);
        match data {
            [] => {}
            [VERDICT] => out.number(6, VERDICT),
            _ => {
                out.number(6, joined(data));
                out.number(7, 4 * data.len() as u32);
            }
        }
        out.number(10, id);
    }
}

impl Pick {
    /// The name of its chain.
    pub(crate) fn chain(self) -> String {
        match self {
            Pick::Random(count) => format!("n{count}"),
            Pick::Sticky(count) => format!("h{count}"),
            Pick::Drop => String::new(),
        }
    }
}

impl Frontend {
    fn encode(&self, index: Option<u32>, out: &mut Buffer) {
        let protocol = match self.protocol {
            Protocol::Tcp => [6],
            Protocol::Udp => [17],
            Protocol::Sctp => [132],
        };
        let (address, port) = (self.address.octets(), self.port.to_be_bytes());
        match index {
            // What numgen and jhash put into a register is in the order of the host.
            Some(index) => key(&[&address, &protocol, &port, &index.to_ne_bytes()], out),
            None => key(&[&address, &protocol, &port], out),
        }
    }
}

impl Element {
    /// The map or set that it belongs to.
    pub(crate) fn set(&self) -> &'static str {
        match self {
            Element::Service(..) => "services",
            Element::Endpoint(..) => "endpoints",
            Element::Refused(_) => "refused",
            Element::External(_) => "external",
            Element::Hairpin(_) => "hairpin",
        }
    }

    fn key(&self, out: &mut Buffer) {
        match self {
            Element::Endpoint(frontend, index, _) => frontend.encode(Some(*index), out),
            Element::Hairpin(address) => key(&[&address.octets(), &address.octets()], out),
            Element::Service(frontend, _) | Element::Refused(frontend) | Element::External(frontend) => {
                frontend.encode(None, out);
            }
        }
    }

    fn value(&self, out: &mut Buffer) {
        match self {
            Element::Service(_, Pick::Drop) => out.nest(2, |out| Verdict::Drop.encode(out)),
            Element::Service(_, pick) => out.nest(2, |out| Verdict::Goto(&pick.chain()).encode(out)),
            Element::Endpoint(_, _, to) => {
                let address = padded(&[&to.ip().octets(), &to.port().to_be_bytes()]);
                out.nest(2, |out| out.attr(1, &address));
            }
            Element::Refused(_) | Element::External(_) | Element::Hairpin(_) => {}
        }
    }
}
