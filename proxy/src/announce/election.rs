//! Who announces an address: a function of what all nodes know, and of whom this one believes dead.
//!
//! Every node ranks the same candidates in the same order (rendezvous hashing, for each address anew), so that all of
//! them agree without a word, and a node that comes or goes moves no address but its own. The first one in rank that is
//! alive announces.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use state::{Key, Map, Node, Protocol, Service};

/// How many addresses are announced; further ones are left out.
const ADDRESSES: usize = 1024;
/// How many nodes, and Services on them, one node watches; of further ones it believes what the API says.
const PROBES: usize = 64;
/// How a node is asked whether it can have an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Probe {
    /// By its proxy's health, and by a connection to a nodePort of TCP, if there is any: one that is refused will do.
    Node(IpAddr, Option<u16>),
    /// At a `healthCheckNodePort` over HTTP: 200 says that the node has endpoints of the Service.
    Endpoints(SocketAddr),
}

/// A node that may announce an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) node: Arc<str>,
    pub(crate) probe: Probe,
}

/// An address that is to be announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    /// The Services that have it.
    pub(crate) services: Vec<Key>,
    /// The first one of these that is alive announces it.
    pub(crate) candidates: Vec<Candidate>,
}

impl Claim {
    /// Whether the node `me` announces the address, if these are dead. A node never believes itself dead.
    pub(crate) fn is_for(&self, me: &str, dead: &BTreeSet<Probe>) -> bool {
        let alive = |candidate: &&Candidate| &*candidate.node == me || !dead.contains(&candidate.probe);
        let first = self.candidates.iter().find(alive);
        first.is_some_and(|first| &*first.node == me)
    }
}

/// True when a Service has addresses that are announced here, and not by the load balancer of another class.
pub(crate) fn announced(service: &Service) -> bool {
    crate::balancer::serves(service) && !service.other_proxy && !service.load_balancer_ips.is_empty()
}

/// All addresses of these Services, but those of a machine; with who may announce them.
pub(crate) fn claims(services: &BTreeMap<Key, Arc<Service>>, nodes: &Map<Key, Arc<Node>>) -> BTreeMap<IpAddr, Claim> {
    let nodes: Vec<&Node> = nodes.iter().map(|(_, node)| &**node).collect();
    let machines: BTreeSet<IpAddr> = nodes.iter().flat_map(|node| node.addresses.iter().copied()).collect();
    let usable = |address: &IpAddr| {
        let special = address.is_loopback() || address.is_unspecified() || address.is_multicast();
        !special && !machines.contains(address)
    };
    let mut all = BTreeMap::<IpAddr, Vec<&Service>>::new();
    for service in services.values() {
        for address in service.load_balancer_ips.iter().copied().filter(usable) {
            all.entry(address).or_default().push(service);
        }
    }
    // The same for all addresses: a node is asked once.
    let mut ports = services.values().flat_map(|service| &service.ports).filter(|port| port.protocol == Protocol::Tcp);
    let port = ports.find_map(|port| port.node_port);
    let claim = |(address, services): (IpAddr, Vec<&Service>)| {
        let candidates = candidates(address, &services, &nodes, port);
        (address, Claim { services: services.iter().map(|service| service.key.clone()).collect(), candidates })
    };
    all.into_iter().take(ADDRESSES).map(claim).collect()
}

/// Those that are best fit, in rank: with endpoints where the Services want that, ready, and not about to leave.
/// Where nobody has endpoints, or nobody is ready, the others will do: a refusal is better than silence. But a node
/// without an address of the family serves none.
fn candidates(address: IpAddr, services: &[&Service], nodes: &[&Node], port: Option<u16>) -> Vec<Candidate> {
    let local = services.iter().filter(|service| service.external_local);
    let (places, checks): (Vec<_>, Vec<_>) =
        local.map(|service| (places(service), service.health_check_node_port)).unzip();
    let fitness = |node: &Node| {
        let has = places.iter().all(|places| places.contains(&*node.key.name));
        (has, node.ready && !node.leaving)
    };
    let own = |node: &Node| node.addresses.iter().copied().find(|own| own.is_ipv4() == address.is_ipv4());
    let allowed = nodes.iter().filter(|node| !node.excluded);
    let mut allowed: Vec<(&Node, IpAddr)> = allowed.filter_map(|node| Some((*node, own(node)?))).collect();
    let best = allowed.iter().map(|(node, _)| fitness(node)).max();
    allowed.retain(|(node, _)| Some(fitness(node)) == best);
    allowed.sort_by_cached_key(|(node, _)| (Reverse(score(&node.key.name, address)), node.key.name.clone()));
    let candidate = |(node, own): (&Node, IpAddr)| {
        let probe = match checks.iter().flatten().next() {
            Some(check) => Probe::Endpoints(SocketAddr::new(own, *check)),
            None => Probe::Node(own, port),
        };
        Candidate { node: node.key.name.clone(), probe }
    };
    allowed.into_iter().map(candidate).collect()
}

/// The nodes with endpoints of a Service that are ready, or still serve while they terminate (KEP-1669).
fn places(service: &Service) -> BTreeSet<&str> {
    let serves = service.endpoints.iter().filter(|one| one.ready || one.serving && one.terminating);
    serves.filter_map(|one| one.node.as_deref()).collect()
}

/// How much a node is an address's own: FNV-1a over both, with murmur3's last step, as only few bits differ.
fn score(node: &str, address: IpAddr) -> u64 {
    let octets = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let mut hash = node.as_bytes().iter().chain(&octets).fold(0xcbf2_9ce4_8422_2325, fold);
    for factor in [0xff51_afd7_ed55_8ccd_u64, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(factor);
    }
    hash ^ (hash >> 33)
}

/// Whom the node `me` has to watch: those ranked ahead of it, for whatever address.
pub(crate) fn ahead(claims: &BTreeMap<IpAddr, Claim>, me: &str) -> BTreeSet<Probe> {
    let ahead = claims.values().filter_map(|claim| {
        let rank = claim.candidates.iter().position(|candidate| &*candidate.node == me)?;
        Some(&claim.candidates[..rank])
    });
    let probes: BTreeSet<Probe> = ahead.flatten().map(|candidate| candidate.probe).collect();
    probes.into_iter().take(PROBES).collect()
}

#[cfg(test)]
mod tests;
