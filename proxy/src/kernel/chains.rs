//! The chains of our tables, and the rules in them: those that never change, and those that pick an endpoint.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Config;
use super::expr::{Expr, Field, Register, Verdict, within};
use super::family::{Family, network, octets};
use super::rules::{Pick, Side};
use super::table::AFFINITY;

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

/// IPS_DST_NAT, and the states "established" or "related", and "invalid".
const TRANSLATED: u32 = 0x20;
const KNOWN: u32 = 6;
const INVALID: u32 = 1;
const TCP: u8 = 6;
/// The only port that is kept out of connection tracking.
const DNS: u16 = 53;

/// The number of the first endpoint for clients inside, in the map that holds both kinds.
pub(crate) const INSIDE: u32 = 1 << 24;

/// What the rules of one family have to know.
struct Scene<'a> {
    family: Family,
    config: &'a Config,
    /// The source of connections that need one of this node.
    node: Option<IpAddr>,
    pods: Option<IpNet>,
    services: Option<IpNet>,
}

/// All chains that never change, in an order in which none names a later one.
pub(crate) fn chains(family: Family, config: &Config) -> Vec<Chain> {
    let scene = Scene {
        family,
        config,
        node: config.node_address(family),
        pods: network(&config.pod_cidrs, family),
        services: network(&config.service_cidrs, family),
    };
    let refuse = vec![vec![Expr::Load(Field::Transport, 0), equals(vec![TCP]), Expr::Reset], vec![Expr::Unreachable]];
    let mut chains = vec![
        Chain { name: "refuse".into(), base: None, rules: refuse },
        base("nat", "nat-prerouting", PREROUTING, DNAT, scene.prerouting()),
        base("nat", "nat-output", OUTPUT, DNAT, vec![scene.translate("inside"), scene.translate("services")]),
        base("nat", "nat-postrouting", POSTROUTING, SNAT, scene.source()),
        base("filter", "filter-input", INPUT, FILTER, vec![known(), scene.refused()]),
        base("filter", "filter-forward", FORWARD, FILTER, scene.forward()),
        base("filter", "filter-output", OUTPUT, FILTER, scene.output()),
    ];
    if let Some(dns) = config.dns.iter().find(|address| Family::of(**address) == family) {
        let untrack = |mut rule: Vec<Expr>, with: &[Expr]| {
            rule.extend(with.iter().cloned().chain([Expr::Untrack]));
            rule
        };
        let questions = untrack(scene.dns(Field::Daddr, Field::Dport), &[]);
        // Others asked another address, perhaps, and the answer is to come from that one.
        let clients = [scene.pods, Some(IpNet::from(*dns))].into_iter().flatten();
        let answers = clients
            .map(|net| untrack(scene.dns(Field::Saddr, Field::Sport), &within(Field::Daddr, net, true)))
            .collect::<Vec<_>>();
        chains.push(base("filter", "raw-prerouting", PREROUTING, RAW, vec![questions.clone()]));
        chains.push(base("filter", "raw-output", OUTPUT, RAW, [vec![questions], answers].concat()));
        chains.push(base("nat", "nat-input", INPUT, SNAT, scene.asked_elsewhere().into_iter().collect()));
    }
    chains
}

fn base(kind: &'static str, name: &str, hook: u32, priority: i32, rules: Vec<Vec<Expr>>) -> Chain {
    Chain { name: name.into(), base: Some(Base { kind, hook, priority }), rules }
}

/// Address, transport and port from a register on: a frontend.
fn frontend(family: Family, at: Register, address: Field, port: Field) -> Vec<Expr> {
    let transport = at + family.registers();
    vec![Expr::Load(address, at), Expr::Load(Field::Transport, transport), Expr::Load(port, transport + 1)]
}

/// Ends the look at packets of connections that were let through.
fn known() -> Vec<Expr> {
    vec![Expr::Load(Field::State, 0), any(KNOWN), Expr::Verdict(Verdict::Accept)]
}

impl Scene<'_> {
    /// A packet to a frontend goes where the map says.
    fn translate(&self, map: &'static str) -> Vec<Expr> {
        let mut rule = frontend(self.family, 0, Field::Daddr, Field::Dport);
        rule.push(Expr::VerdictMap { map, register: 0 });
        rule
    }

    fn prerouting(&self) -> Vec<Vec<Expr>> {
        let inside =
            self.pods.map(|pods| [within(Field::Saddr, pods, true).to_vec(), self.translate("inside")].concat());
        inside.into_iter().chain([self.translate("services")]).collect()
    }

    /// A packet to a frontend without endpoints is refused.
    fn refused(&self) -> Vec<Expr> {
        let mut rule = frontend(self.family, 0, Field::Daddr, Field::Dport);
        rule.extend([contains("refused", true), refuse()]);
        rule
    }

    /// What comes to DNS on this node, or from it: it needs no translation, and loses no packets in races to insert
    /// connections. Every packet comes by here, so the look at the port, which nearly all of them fail, is the first.
    fn dns(&self, address: Field, port: Field) -> Vec<Expr> {
        let mut rule = frontend(self.family, 0, address, port);
        rule.rotate_right(1);
        let register = self.family.registers() + 1;
        rule.insert(1, Expr::Compare { register, value: DNS.to_be_bytes().into(), equal: true });
        rule.push(contains("untracked", true));
        rule
    }

    /// A pod that asked DNS at another address, as only what was translated is known here: it becomes the node, since
    /// answers to pods are not translated back.
    fn asked_elsewhere(&self) -> Option<Vec<Expr>> {
        let mut rule = self.dns(Field::Daddr, Field::Dport);
        rule.extend(within(Field::Saddr, self.pods?, true));
        rule.push(Expr::Snat(self.node?));
        Some(rule)
    }

    /// Whose source address must change so that the answer comes back this way.
    fn source(&self) -> Vec<Vec<Expr>> {
        let Some(node) = self.node else {
            return Vec::new();
        };
        let own = if self.config.own_network { Expr::Snat(node) } else { Expr::Masquerade };
        // From outside to a NodePort: the endpoint may be on another node, and would answer past us.
        let mut external = frontend(self.family, 0, Field::OriginalDaddr, Field::OriginalDport);
        external.extend([contains("external", true), own.clone()]);
        // A pod that reaches itself would answer without leaving.
        let [from, to] = [Expr::Load(Field::Saddr, 0), Expr::Load(Field::Daddr, self.family.registers())];
        let hairpin = vec![from, to, contains("hairpin", true), own.clone()];
        // From another address of this node than the one that all know the way to.
        let differs = Expr::Compare { register: 0, value: octets(node), equal: false };
        let translated = [Expr::Load(Field::Status, 0), any(TRANSLATED)];
        let mut other = [&translated[..], &[Expr::Load(Field::Saddr, 0), contains("local", true)]].concat();
        other.extend([differs.clone(), own.clone()]);
        let mut rules = vec![external, hairpin, other];
        let (Some(pods), Some(services)) = (self.pods, self.services) else {
            return rules;
        };
        // Not from a pod, but to a cluster IP: from this node, or by way of it.
        let mut cluster = translated.to_vec();
        cluster.extend(within(Field::OriginalDaddr, services, true));
        cluster.extend(within(Field::Saddr, pods, false));
        cluster.extend([Expr::Load(Field::Saddr, 0), differs, own]);
        rules.push(cluster);
        if self.config.own_network {
            // A pod that reaches the world.
            let mut world = within(Field::Saddr, pods, true).to_vec();
            world.extend(within(Field::Daddr, pods, false));
            world.extend(within(Field::Daddr, services, false));
            world.extend([Expr::Load(Field::Daddr, 0), contains("local", false), Expr::Masquerade]);
            rules.push(world);
        }
        rules
    }

    fn forward(&self) -> Vec<Vec<Expr>> {
        let mut rules = vec![known(), self.refused()];
        // What is still on its way to a cluster IP here belongs to no Service.
        rules.extend(self.services.map(|services| {
            let mut unknown = within(Field::Daddr, services, true).to_vec();
            unknown.push(refuse());
            unknown
        }));
        // An answer that connection tracking does not know would leave with the pod's address, and
        // make the client reset the connection (kubernetes/kubernetes#74839).
        rules.extend(self.pods.map(|pods| {
            let mut invalid = within(Field::Saddr, pods, true).to_vec();
            invalid.extend([Expr::Load(Field::State, 0), any(INVALID), Expr::Verdict(Verdict::Drop)]);
            invalid
        }));
        rules
    }

    fn output(&self) -> Vec<Vec<Expr>> {
        let mut rules = vec![known(), self.refused()];
        rules.extend(self.services.map(|services| {
            let mut unknown = within(Field::Daddr, services, true).to_vec();
            unknown.extend([Expr::Load(Field::Daddr, 0), contains("local", false), refuse()]);
            unknown
        }));
        rules
    }
}

impl Pick {
    /// The name of its chain.
    pub(crate) fn chain(self) -> String {
        let side = if self.side == Side::Main { "n" } else { "i" };
        let affinity = self.affinity.map(|seconds| format!("-for-{seconds}s")).unwrap_or_default();
        let guarded = if self.guarded { "-allowed" } else { "" };
        format!("{side}{}{affinity}{guarded}", self.count)
    }

    /// The picks whose chains it needs, each after those that it leads to.
    pub(crate) fn needed(self) -> impl Iterator<Item = Pick> {
        let open = Pick { guarded: false, ..self };
        [open].into_iter().chain(self.guarded.then_some(self))
    }

    /// Its chain, which leads a packet to one of so many endpoints of its frontend.
    pub(crate) fn build(self, family: Family) -> Chain {
        let rules = match self.affinity {
            _ if self.guarded => self.guard(family),
            Some(seconds) => self.sticky(family, seconds),
            None => vec![self.random(family)],
        };
        Chain { name: self.chain(), base: None, rules }
    }

    fn guard(self, family: Family) -> Vec<Vec<Expr>> {
        let mut stranger = frontend(family, 0, Field::Daddr, Field::Dport);
        stranger.push(Expr::Load(Field::Saddr, family.registers() + 2));
        stranger.extend([contains("allowed", false), Expr::Verdict(Verdict::Drop)]);
        let open = Pick { guarded: false, ..self };
        vec![stranger, vec![Expr::Verdict(Verdict::Goto(open.chain()))]]
    }

    fn random(self, family: Family) -> Vec<Expr> {
        let length = family.registers();
        let mut rule = frontend(family, 0, Field::Daddr, Field::Dport);
        rule.push(Expr::Random { modulus: self.count, offset: self.side.offset(), to: length + 2 });
        rule.extend([Expr::Map { map: "endpoints", from: 0, to: 0 }, Expr::Dnat(0, length)]);
        rule
    }

    /// A client that was here goes where it went, if it may still go there; otherwise that is forgotten. A client that
    /// is new goes anywhere, which is remembered unless there are too many. What goes from rule to rule is the endpoint's id, in the packet's
    /// priority: registers would do, but the program nft dies of what they would make of the rules.
    fn sticky(self, family: Family, seconds: u32) -> Vec<Vec<Expr>> {
        let length = family.registers();
        let mut key = vec![Expr::Load(Field::Saddr, 0)];
        key.extend(frontend(family, length, Field::Daddr, Field::Dport));
        let id = 2 * length + 2;
        let known = [Expr::Load(Field::Priority, id), Expr::Compare { register: id, value: vec![0; 4], equal: false }];
        let known = |last: Expr| [&known[..], &key[..], &[last]].concat();
        let remember = known(Expr::Remember { map: AFFINITY, key: 0, data: id, seconds });
        let forget = known(Expr::Forget { map: AFFINITY, key: 0, data: id });
        let none = vec![Expr::Set([0; 4], id), Expr::Prioritise(id)];
        let mut same = key.clone();
        same.extend([Expr::Map { map: AFFINITY, from: 0, to: id }, Expr::Prioritise(id)]);
        let mut new = frontend(family, 0, Field::Daddr, Field::Dport);
        new.push(Expr::Random { modulus: self.count, offset: self.side.offset(), to: length + 2 });
        new.extend([Expr::Map { map: "ids", from: 0, to: id }, Expr::Prioritise(id)]);
        let mut go = frontend(family, 0, Field::Daddr, Field::Dport);
        go.push(Expr::Load(Field::Priority, length + 2));
        go.extend([Expr::Map { map: "sticky", from: 0, to: 0 }, Expr::Dnat(0, length)]);
        vec![none, same, remember.clone(), go.clone(), forget, new, remember, go]
    }
}

impl Side {
    /// The number of its first endpoint in the map `endpoints`.
    pub(crate) fn offset(self) -> u32 {
        if self == Side::Main { 0 } else { INSIDE }
    }
}

fn refuse() -> Expr {
    Expr::Verdict(Verdict::Goto("refuse".into()))
}

fn contains(set: &'static str, member: bool) -> Expr {
    Expr::Contains { set, register: 0, member }
}

fn equals(value: Vec<u8>) -> Expr {
    Expr::Compare { register: 0, value, equal: true }
}

/// Goes on if any of these bits of the first register is set; they are in the order of the host.
fn any(mask: u32) -> Expr {
    Expr::Bits { register: 0, mask: mask.to_ne_bytes().into(), value: vec![0; 4], equal: false }
}
