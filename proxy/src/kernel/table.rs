//! Our table as the kernel gets it: sets, chains and their rules, and elements.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use state::Protocol;

use super::Config;
use super::batch::{
    APPEND, Batch, CREATE, DELETE_ELEMENT, DELETE_TABLE, NEW_CHAIN, NEW_ELEMENT, NEW_RULE, NEW_SET, NEW_TABLE,
};
use super::chains::{Chain, chains};
use super::expr::Verdict;
use super::family::{Family, Value};
use super::frontends::Frontend;
use super::rules::{Change, Element, Pick, Side, Target};
use crate::netlink::Buffer;

/// How many elements one message holds; an attribute ends at 64 KiB, an element takes up to 128 bytes.
const CHUNK: usize = 500;

/// How many clients with session affinity are remembered; those beyond go to any endpoint each time.
const CLIENTS: u32 = 1 << 18;
/// The map that packets fill: what clients with session affinity are remembered by.
pub(crate) const AFFINITY: &str = "affinity";

/// A field of a key or of data.
#[derive(Clone, Copy)]
enum Type {
    Address,
    Transport,
    Port,
    /// The index or id of an endpoint.
    Number,
}
use Type::{Address, Number, Port, Transport};

/// NFT_SET_*, and the type NFT_DATA_VERDICT.
const INTERVAL: u32 = 0x4;
const MAP: u32 = 0x8;
const TIMEOUT: u32 = 0x10;
const DYNAMIC: u32 = 0x20;
const CONCATENATED: u32 = 0x80;
const VERDICT: u32 = 0xffff_ff00;

/// What a map leads to.
enum Data {
    /// It is a set.
    None,
    Verdict,
    Fields(&'static [Type]),
}

/// A map or set: name, fields of the key, data, flags beside those that follow from the data.
pub(crate) struct Set(pub(crate) &'static str, &'static [Type], Data, u32);

pub(crate) const SETS: [Set; 12] = [
    Set("services", &[Address, Transport, Port], Data::Verdict, 0),
    Set("inside", &[Address, Transport, Port], Data::Verdict, 0),
    Set("endpoints", &[Address, Transport, Port, Number], Data::Fields(&[Address, Port]), 0),
    Set("refused", &[Address, Transport, Port], Data::None, 0),
    Set("external", &[Address, Transport, Port], Data::None, 0),
    Set("allowed", &[Address, Transport, Port, Address], Data::None, INTERVAL | CONCATENATED),
    Set("hairpin", &[Address, Address], Data::None, 0),
    Set(AFFINITY, &[Address, Address, Transport, Port], Data::Fields(&[Number]), TIMEOUT | DYNAMIC),
    Set("ids", &[Address, Transport, Port, Number], Data::Fields(&[Number]), 0),
    Set("sticky", &[Address, Transport, Port, Number], Data::Fields(&[Address, Port]), 0),
    Set("local", &[Address], Data::None, 0),
    Set("untracked", &[Address, Transport, Port], Data::None, 0),
];

/// The name of a cluster's tables.
pub(crate) fn name(cluster_id: &str) -> String {
    format!("coracle-{cluster_id}")
}

/// Puts tables without Services in the place of whatever has their name; with what follows in the same
/// batch, no packet ever sees them so.
pub(crate) fn replace(batch: &mut Batch, table: &str, config: &Config) {
    remove(batch, table);
    for family in config.families() {
        batch.push(family, NEW_TABLE, CREATE, format!("add the table {table}"), |out| {
            out.text(1, table);
            // Not dormant.
            out.number(2, 0);
        });
        for (set, id) in SETS.iter().zip(1..) {
            let doing = format!("add the set {}", set.0);
            batch.push(family, NEW_SET, CREATE, doing, |out| set.encode(family, table, id, out));
        }
        let chains = chains(family, config);
        for chain in &chains {
            add_chain(batch, table, family, chain);
        }
        for chain in &chains {
            add_rules(batch, table, family, chain);
        }
        for (set, keys) in fixed(family, config) {
            let encode = |value: &Value, out: &mut Buffer| key(value, out);
            elements(batch, NEW_ELEMENT, family, table, set, &keys, encode);
        }
    }
}

/// The sets that do not depend on Services, and what is in them.
pub(crate) fn fixed(family: Family, config: &Config) -> [(&'static str, Vec<Value>); 2] {
    let of = |addresses: &[IpAddr]| -> BTreeSet<IpAddr> {
        addresses.iter().copied().filter(|address| Family::of(*address) == family).collect()
    };
    let local = of(&[&config.node_addresses[..], &config.local, &config.dns].concat());
    let dns = of(&config.dns).into_iter().flat_map(|address| {
        [Protocol::Tcp, Protocol::Udp].map(|protocol| Frontend { address, protocol, port: 53 }.value())
    });
    let local = local.into_iter().map(|address| Value::default().address(address));
    [("local", local.collect()), ("untracked", dns.collect())]
}

/// Removes the tables, whether they exist or not.
pub(crate) fn remove(batch: &mut Batch, table: &str) {
    for family in Family::ALL {
        batch.push(family, NEW_TABLE, CREATE, format!("add the table {table}"), |out| out.text(1, table));
        batch.push(family, DELETE_TABLE, 0, format!("remove the table {table}"), |out| out.text(1, table));
    }
}

/// Adds the chain of a pick.
pub(crate) fn add_pick(batch: &mut Batch, table: &str, family: Family, pick: Pick) {
    let chain = pick.build(family);
    add_chain(batch, table, family, &chain);
    add_rules(batch, table, family, &chain);
}

/// Removes and then adds elements, so that one that changes its value is there once.
pub(crate) fn change(batch: &mut Batch, table: &str, change: &Change) {
    let removed: Vec<Element> = change.removed.iter().rev().copied().collect();
    for group in removed.chunk_by(Element::is_beside) {
        let (set, family) = (group[0].set(), group[0].family());
        elements(batch, DELETE_ELEMENT, family, table, set, group, |element, out| element.key(out));
    }
    let added: Vec<Element> = change.added.iter().copied().collect();
    for group in added.chunk_by(Element::is_beside) {
        let (set, family) = (group[0].set(), group[0].family());
        elements(batch, NEW_ELEMENT, family, table, set, group, |element, out| {
            element.key(out);
            element.data(out);
        });
    }
}

fn add_chain(batch: &mut Batch, table: &str, family: Family, chain: &Chain) {
    batch.push(family, NEW_CHAIN, CREATE, format!("add the chain {}", chain.name), |out| {
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

fn add_rules(batch: &mut Batch, table: &str, family: Family, chain: &Chain) {
    for rule in &chain.rules {
        let names: Vec<&str> = rule.iter().map(|expr| expr.name()).collect();
        let doing = format!("add a rule to the chain {} ({})", chain.name, names.join(", "));
        batch.push(family, NEW_RULE, CREATE | APPEND, doing, |out| {
            out.text(1, table);
            out.text(2, &chain.name);
            out.nest(4, |out| rule.iter().for_each(|expr| expr.encode(family, out)));
        });
    }
}

/// Adds or removes elements of a set.
pub(crate) fn elements<T>(
    batch: &mut Batch,
    message: u16,
    family: Family,
    table: &str,
    set: &str,
    all: &[T],
    encode: impl Fn(&T, &mut Buffer),
) {
    let verb = if message == NEW_ELEMENT { "add to" } else { "remove from" };
    let flags = if message == NEW_ELEMENT { CREATE } else { 0 };
    for chunk in all.chunks(CHUNK) {
        batch.push(family, message, flags, format!("{verb} the set {set}"), |out| {
            out.text(1, table);
            out.text(2, set);
            out.nest(3, |out| chunk.iter().for_each(|element| out.nest(1, |out| encode(element, out))));
        });
    }
}

/// The key of an element.
fn key(value: &Value, out: &mut Buffer) {
    out.nest(1, |out| out.attr(1, value.bytes()));
}

impl Type {
    /// The number by which the program nft knows the type.
    fn number(self, family: Family) -> u32 {
        match (self, family) {
            (Address, Family::V4) => 7,
            (Address, Family::V6) => 8,
            (Transport, _) => 12,
            (Port, _) => 13,
            // That of a mark.
            (Number, _) => 19,
        }
    }

    /// How many bytes it takes.
    fn length(self, family: Family) -> u32 {
        match self {
            Address => family.length(),
            Transport => 1,
            Port => 2,
            Number => 4,
        }
    }

    /// nft joins types in six bits each, and pads each field to a register.
    fn join(fields: &[Type], family: Family) -> (u32, u32) {
        let joined = fields.iter().fold(0, |joined, field| joined << 6 | field.number(family));
        (joined, fields.iter().map(|field| field.length(family).next_multiple_of(4)).sum())
    }
}

impl Set {
    fn encode(&self, family: Family, table: &str, id: u32, out: &mut Buffer) {
        let Set(name, key, data, flags) = self;
        let (joined, length) = Type::join(key, family);
        out.text(1, table);
        out.text(2, name);
        out.number(3, flags | if matches!(data, Data::None) { 0 } else { MAP });
        out.number(4, joined);
        out.number(5, length);
        match data {
            Data::None => {}
            Data::Verdict => out.number(6, VERDICT),
            Data::Fields(fields) => {
                let (joined, length) = Type::join(fields, family);
                out.number(6, joined);
                out.number(7, length);
            }
        }
        out.nest(9, |out| {
            if flags & DYNAMIC != 0 {
                out.number(1, CLIENTS);
            }
            if flags & CONCATENATED != 0 {
                let field = |out: &mut Buffer, field: &Type| out.nest(1, |out| out.number(1, field.length(family)));
                out.nest(2, |out| key.iter().for_each(|each| field(out, each)));
            }
        });
        out.number(10, id);
    }
}

impl Frontend {
    pub(crate) fn value(&self) -> Value {
        let protocol = match self.protocol {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        };
        Value::default().address(self.address).field(&[protocol]).field(&self.port.to_be_bytes())
    }
}

impl Element {
    /// The map or set that it belongs to.
    pub(crate) fn set(&self) -> &'static str {
        match self {
            Element::Service(_, Side::Main, _) => "services",
            Element::Service(_, Side::Inside, _) => "inside",
            Element::Endpoint(..) => "endpoints",
            Element::Id(..) => "ids",
            Element::Sticky(..) => "sticky",
            Element::Refused(_) => "refused",
            Element::External(_) => "external",
            Element::Allowed(..) => "allowed",
            Element::Hairpin(_) => "hairpin",
        }
    }

    /// The table that it belongs to.
    pub(crate) fn family(&self) -> Family {
        Family::of(match self {
            Element::Hairpin(address) => *address,
            Element::Service(frontend, ..)
            | Element::Endpoint(frontend, ..)
            | Element::Id(frontend, ..)
            | Element::Sticky(frontend, ..)
            | Element::Refused(frontend)
            | Element::External(frontend)
            | Element::Allowed(frontend, _) => frontend.address,
        })
    }

    /// True if both belong to the same set of the same table.
    fn is_beside(&self, other: &Self) -> bool {
        (self.set(), self.family()) == (other.set(), other.family())
    }

    /// The bytes of its key; those of the last key where it is a range.
    pub(crate) fn keys(&self) -> (Value, Option<Value>) {
        let key = match self {
            Element::Hairpin(address) => Value::default().address(*address).address(*address),
            Element::Service(frontend, ..) | Element::Refused(frontend) | Element::External(frontend) => {
                frontend.value()
            }
            // What numgen puts into a register is in the order of the host.
            Element::Endpoint(frontend, side, index, _) | Element::Id(frontend, side, index, _) => {
                frontend.value().field(&(side.offset() + index).to_ne_bytes())
            }
            Element::Sticky(frontend, id, _) => frontend.value().field(&id.to_ne_bytes()),
            Element::Allowed(frontend, source) => {
                let last = match source {
                    IpNet::V4(source) => IpAddr::V4(source.broadcast()),
                    IpNet::V6(source) => IpAddr::V6(source.broadcast()),
                };
                return (frontend.value().address(source.network()), Some(frontend.value().address(last)));
            }
        };
        (key, None)
    }

    fn key(&self, out: &mut Buffer) {
        let (first, last) = self.keys();
        key(&first, out);
        if let Some(last) = last {
            out.nest(10, |out| out.attr(1, last.bytes()));
        }
    }

    fn data(&self, out: &mut Buffer) {
        match self {
            Element::Service(_, _, target) => {
                let verdict = match target {
                    Target::Drop => Verdict::Drop,
                    Target::Pick(pick) => Verdict::Goto(pick.chain()),
                };
                out.nest(2, |out| verdict.encode(out));
            }
            Element::Id(.., id) => out.nest(2, |out| out.attr(1, &id.to_ne_bytes())),
            Element::Endpoint(.., to) | Element::Sticky(.., to) => {
                let value = Value::default().address(to.ip()).field(&to.port().to_be_bytes());
                out.nest(2, |out| out.attr(1, value.bytes()));
            }
            _ => {}
        }
    }
}
