//! Another program's firewall in the way.
//!
//! A packet is dropped if any chain drops it, so an accept in our table does not help where
//! another one's policy is to drop what is forwarded (Docker sets that up). Only there, rules that
//! accept the pods' packets are added, and marked with the cluster's id so that they can be removed.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::batch::{Batch, CREATE, DELETE_RULE, GET_CHAIN, GET_RULE, NEW_RULE, kind};
use super::chains::{FORWARD, INPUT};
use super::expr::{Expr, Field, Verdict, within};
use super::family::Family;
use crate::Error;
use crate::netlink::{Item, Socket};

/// NFPROTO_INET, for tables of both families; 0 asks for all.
const INET: u8 = 1;
const ALL: u8 = 0;
/// NF_DROP.
const DROP: u32 = 0;
/// NFTNL_UDATA_RULE_COMMENT.
const COMMENT: u8 = 0;
/// The tables that the old iptables made in this network namespace.
const LEGACY: &str = "/proc/net/ip_tables_names";

/// A chain of another program whose policy is to drop.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Obstacle {
    family: u8,
    table: String,
    chain: String,
    hook: u32,
}

/// A rule of ours in such a chain.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Marked {
    family: u8,
    table: String,
    chain: String,
    handle: Vec<u8>,
    comment: Vec<u8>,
}

/// Sees to it that pods get through other programs' chains: if our rules there are not the ones
/// needed, replaces them in one transaction. Returns what a person has to know.
pub(crate) fn open(socket: &mut Socket, table: &str, pods: &[IpNet]) -> Result<Vec<String>, Error> {
    let obstacles = obstacles(socket, table)?;
    let present = rules(socket, table)?;
    let forward: Vec<&Obstacle> = obstacles.iter().filter(|obstacle| obstacle.hook == FORWARD).collect();
    if !is_open(&forward, &present, table, pods) {
        let mut batch = Batch::default();
        present.iter().for_each(|rule| rule.remove(&mut batch));
        for obstacle in forward {
            for pods in obstacle.concerned(pods) {
                for field in [Field::Saddr, Field::Daddr] {
                    obstacle.pass(&mut batch, table, field, pods);
                }
            }
        }
        batch.commit(socket)?;
    }
    let input = obstacles.iter().filter(|obstacle| obstacle.hook == INPUT).map(Obstacle::warning);
    let v4 = pods.iter().copied().filter(|pods| pods.addr().is_ipv4());
    Ok(input.chain(v4.filter_map(legacy)).collect())
}

/// Appends the removal of all our rules in other programs' chains; says which they are.
pub(crate) fn close(socket: &mut Socket, batch: &mut Batch, table: &str) -> Result<Vec<String>, Error> {
    let rules = rules(socket, table)?;
    rules.iter().for_each(|rule| rule.remove(batch));
    Ok(rules.iter().map(|rule| format!("a rule from the chain {} of the table {}", rule.chain, rule.table)).collect())
}

/// True if each obstacle has its two rules for each range of pods, and nothing else has any.
fn is_open(obstacles: &[&Obstacle], present: &BTreeSet<Marked>, table: &str, pods: &[IpNet]) -> bool {
    let at = |rule: &&Marked, obstacle: &Obstacle| {
        (rule.family, &rule.table, &rule.chain) == (obstacle.family, &obstacle.table, &obstacle.chain)
    };
    let served = |obstacle: &&Obstacle| {
        obstacle.concerned(pods).all(|pods| {
            let comment = comment(table, Some(pods));
            present.iter().filter(|rule| at(rule, obstacle) && rule.comment == comment).count() == 2
        })
    };
    let wanted: usize = obstacles.iter().map(|obstacle| 2 * obstacle.concerned(pods).count()).sum();
    present.len() == wanted && obstacles.iter().all(served)
}

/// Our rules, in all tables.
fn rules(socket: &mut Socket, table: &str) -> Result<BTreeSet<Marked>, Error> {
    let mut rules = BTreeSet::new();
    let listed = socket.dump(kind(GET_RULE), ALL, |_| {}, |item| rules.extend(marked(&item, table)));
    listed.map_err(|error| failed(&error, "list the rules of the kernel"))?;
    Ok(rules)
}

impl Marked {
    fn remove(&self, batch: &mut Batch) {
        let doing = format!("remove a rule from the chain {} of the table {}", self.chain, self.table);
        batch.push_for(self.family, DELETE_RULE, 0, doing, |out| {
            out.text(1, &self.table);
            out.text(2, &self.chain);
            out.attr(3, &self.handle);
        });
    }
}

impl Obstacle {
    /// The ranges of pods whose packets it sees.
    fn concerned(&self, pods: &[IpNet]) -> impl Iterator<Item = IpNet> {
        let seen = |pods: &IpNet| [INET, Family::of(pods.addr()).number()].contains(&self.family);
        pods.iter().copied().filter(seen)
    }

    /// Puts a rule that accepts the pods' packets before all others.
    fn pass(&self, batch: &mut Batch, mark: &str, field: Field, pods: IpNet) {
        let family = Family::of(pods.addr());
        let doing = format!("let pods through the chain {} of the table {}", self.chain, self.table);
        let mut rule = Vec::new();
        if self.family == INET {
            rule.extend([
                Expr::Load(Field::Family, 0),
                Expr::Compare { register: 0, value: vec![family.number()], equal: true },
            ]);
        }
        rule.extend(within(field, pods, true));
        rule.extend([Expr::Count, Expr::Verdict(Verdict::Accept)]);
        batch.push_for(self.family, NEW_RULE, CREATE, doing, |out| {
            out.text(1, &self.table);
            out.text(2, &self.chain);
            out.nest(4, |out| rule.iter().for_each(|expr| expr.encode(family, out)));
            out.attr(7, &comment(mark, Some(pods)));
        });
    }

    fn warning(&self) -> String {
        format!(
            "the firewall's chain {} of the table {} drops what it does not know; pods reach DNS and the API on \
             this node only if it lets the pods' addresses in",
            self.chain, self.table
        )
    }
}

/// The base chains of other tables that drop by policy.
fn obstacles(socket: &mut Socket, own: &str) -> Result<BTreeSet<Obstacle>, Error> {
    let mut found = BTreeSet::new();
    let listed = socket.dump(kind(GET_CHAIN), ALL, |_| {}, |item| found.extend(obstacle(&item, own)));
    listed.map_err(|error| failed(&error, "list the chains of the kernel"))?;
    Ok(found)
}

fn obstacle(item: &Item<'_>, own: &str) -> Option<Obstacle> {
    let hook = item.attrs.inner(4).number(1)?;
    let drops = item.attrs.number(5) == Some(DROP) && item.attrs.text(7) == Some("filter");
    let (table, chain) = (item.attrs.text(1)?.to_owned(), item.attrs.text(3)?.to_owned());
    let others = ![INET, Family::V4.number(), Family::V6.number()].contains(&item.family);
    let ours = table == own || others || ![FORWARD, INPUT].contains(&hook);
    (drops && !ours).then_some(Obstacle { family: item.family, table, chain, hook })
}

fn marked(item: &Item<'_>, table: &str) -> Option<Marked> {
    let comment = item.attrs.get(7)?.to_vec();
    let mark = self::comment(table, None);
    // Type and length, and then the mark without its end.
    let ours = comment.first() == mark.first() && comment.get(2..)?.starts_with(&mark[2..mark.len() - 1]);
    let (family, handle) = (item.family, item.attrs.get(3)?.to_vec());
    let (table, chain) = (item.attrs.text(1)?.to_owned(), item.attrs.text(2)?.to_owned());
    ours.then_some(Marked { family, table, chain, handle, comment })
}

/// A rule's comment as nft shows it: type, length, zero-terminated text. It begins with the name of
/// our table.
fn comment(table: &str, pods: Option<IpNet>) -> Vec<u8> {
    let text = format!("{table}: pods {}", pods.map(|pods| pods.to_string()).unwrap_or_default());
    let mut data = vec![COMMENT, text.len() as u8 + 1];
    data.extend_from_slice(text.as_bytes());
    data.push(0);
    data
}

/// A warning if the old iptables may drop what is forwarded: it cannot be seen over nf_tables.
fn legacy(pods: IpNet) -> Option<String> {
    let names = std::fs::read_to_string(LEGACY).unwrap_or_default();
    names.lines().any(|name| name == "filter").then(|| {
        format!(
            "the old iptables (iptables-legacy) has a filter table here, which cannot be looked into; if its \
             FORWARD chain drops, let the pods through: iptables-legacy -I FORWARD -s {pods} -j ACCEPT, and \
             once more with -d"
        )
    })
}

fn failed(error: &std::io::Error, doing: &str) -> Error {
    Error::from_kernel(error.raw_os_error().unwrap_or_default(), doing, true)
}
