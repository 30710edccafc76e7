//! The chains of our table that do not depend on Services, and the rules in them.

use super::Config;
use super::expr::{Expr, Field, R0, R1, Verdict, within};
use super::table::frontend;

/// A chain and its rules.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) name: String,
    /// Where packets enter it; None for a chain that others lead to.
    pub(crate) base: Option<Base>,
    pub(crate) rules: Vec<Vec<Expr>>,
}

/// A hook of the kernel.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Base {
    pub(crate) kind: &'static str,
    pub(crate) hook: u32,
    pub(crate) priority: i32,
}

/// NF_INET_*.
const PREROUTING: u32 = 0;
pub(crate) const INPUT: u32 = 1;
pub(crate) const FORWARD: u32 = 2;
const OUTPUT: u32 = 3;
const POSTROUTING: u32 = 4;

/// Before connection tracking; translation; and just before other programs' filters, whose drop
/// would turn a refusal into a time-out.
const RAW: i32 = -300;
const DNAT: i32 = -100;
const SNAT: i32 = 100;
const FILTER: i32 = -10;

/// IPS_DST_NAT, and the state "invalid".
const TRANSLATED: [u8; 4] = 0x20u32.to_ne_bytes();
const INVALID: [u8; 4] = 1u32.to_ne_bytes();
const TCP: u8 = 6;

/// All chains, in an order in which none names a later one.
pub(crate) fn chains(config: &Config) -> Vec<Chain> {
    let refuse = vec![vec![Expr::Load(Field::Transport, R0), equals(vec![TCP]), Expr::Reset], vec![Expr::Unreachable]];
    let mut chains = vec![
        Chain { name: "refuse".into(), base: None, rules: refuse },
        base("nat", "nat-prerouting", PREROUTING, DNAT, vec![translate()]),
        base("nat", "nat-output", OUTPUT, DNAT, vec![translate()]),
        base("nat", "nat-postrouting", POSTROUTING, SNAT, source(config)),
        base("filter", "filter-input", INPUT, FILTER, vec![refused()]),
        base("filter", "filter-forward", FORWARD, FILTER, forward(config)),
        base("filter", "filter-output", OUTPUT, FILTER, output(config)),
    ];
    if config.dns.is_some() {
        let [to, from] = [(Field::Daddr, Field::Dport), (Field::Saddr, Field::Sport)].map(|(a, p)| untrack(a, p));
        chains.push(base("filter", "raw-prerouting", PREROUTING, RAW, vec![to.clone()]));
        chains.push(base("filter", "raw-output", OUTPUT, RAW, vec![to, from]));
    }
    chains
}

fn base(kind: &'static str, name: &str, hook: u32, priority: i32, rules: Vec<Vec<Expr>>) -> Chain {
    Chain { name: name.into(), base: Some(Base { kind, hook, priority }), rules }
}

/// A packet to a frontend goes to one of its endpoints.
fn translate() -> Vec<Expr> {
    let mut rule = frontend(Field::Daddr, Field::Dport).to_vec();
    rule.push(Expr::VerdictMap { map: "services", register: R0 });
    rule
}

/// A packet to a frontend without endpoints is refused.
fn refused() -> Vec<Expr> {
    let mut rule = frontend(Field::Daddr, Field::Dport).to_vec();
    rule.extend([contains("refused", true), refuse()]);
    rule
}

/// DNS on this node needs no translation, and loses no packets in races to insert connections.
fn untrack(address: Field, port: Field) -> Vec<Expr> {
    let mut rule = frontend(address, port).to_vec();
    rule.extend([contains("untracked", true), Expr::Untrack]);
    rule
}

/// Whose source address must change so that the answer comes back this way.
fn source(config: &Config) -> Vec<Vec<Expr>> {
    let node = config.node_addresses[0].octets();
    // From outside to a NodePort: the endpoint may be on another node, and would answer past us.
    let mut external = frontend(Field::OriginalDaddr, Field::OriginalDport).to_vec();
    external.extend([contains("external", true), Expr::Snat(node)]);
    // A pod that reaches itself would answer without leaving.
    let [from, to] = [Expr::Load(Field::Saddr, R0), Expr::Load(Field::Daddr, R1)];
    let hairpin = vec![from, to, contains("hairpin", true), Expr::Snat(node)];
    // Not from a pod, but to a cluster IP: from this node, or by way of it.
    let mut cluster = vec![Expr::Load(Field::Status, R0)];
    cluster.push(Expr::Bits { register: R0, mask: TRANSLATED, value: [0; 4], equal: false });
    cluster.extend(within(Field::OriginalDaddr, config.service_cidr, true));
    cluster.extend(within(Field::Saddr, config.pod_cidr, false));
    let differs = Expr::Compare { register: R0, value: node.to_vec(), equal: false };
    cluster.extend([Expr::Load(Field::Saddr, R0), differs, Expr::Snat(node)]);
    // A pod that reaches the world.
    let mut world = within(Field::Saddr, config.pod_cidr, true).to_vec();
    world.extend(within(Field::Daddr, config.pod_cidr, false));
    world.extend(within(Field::Daddr, config.service_cidr, false));
    world.extend([Expr::Load(Field::Daddr, R0), contains("local", false), Expr::Masquerade]);
    vec![external, hairpin, cluster, world]
}

fn forward(config: &Config) -> Vec<Vec<Expr>> {
    // What is still on its way to a cluster IP here belongs to no Service.
    let mut unknown = within(Field::Daddr, config.service_cidr, true).to_vec();
    unknown.push(refuse());
    // An answer that connection tracking does not know would leave with the pod's address, and
    // make the client reset the connection (kubernetes/kubernetes#74839).
    let mut invalid = within(Field::Saddr, config.pod_cidr, true).to_vec();
    invalid.push(Expr::Load(Field::State, R0));
    invalid.push(Expr::Bits { register: R0, mask: INVALID, value: [0; 4], equal: false });
    invalid.push(Expr::Verdict(Verdict::Drop));
    vec![refused(), unknown, invalid]
}

fn output(config: &Config) -> Vec<Vec<Expr>> {
    let mut unknown = within(Field::Daddr, config.service_cidr, true).to_vec();
    unknown.extend([Expr::Load(Field::Daddr, R0), contains("local", false), refuse()]);
    vec![refused(), unknown]
}

fn refuse() -> Expr {
    Expr::Verdict(Verdict::Goto("refuse"))
}

fn contains(set: &'static str, member: bool) -> Expr {
    Expr::Contains { set, register: R0, member }
}

fn equals(value: Vec<u8>) -> Expr {
    Expr::Compare { register: R0, value, equal: true }
}
