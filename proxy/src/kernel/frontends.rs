//! Snapshot → what each address and port of a Service, and each port of the node that is a pod's, leads to. Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use state::{Backend, HostPort, Key, Pod, Port, Protocol, Service};

use super::Config;
use crate::endpoints::{Backends, Place, backends};

/// Where clients send packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Frontend {
    /// A cluster IP, external address or address of this node.
    pub(crate) address: IpAddr,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
}

/// Who wants something at a frontend. Where two do, the first one has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    /// A Service.
    Service(Key),
    /// A Pod with a port of the node.
    Pod(Key),
}

/// What is wanted at a frontend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) owner: Owner,
    /// Where it leads.
    pub(crate) backends: Backends,
    /// Where it leads pods and programs of this node, if elsewhere: externalTrafficPolicy Local is for clients outside.
    pub(crate) inside: Option<Vec<SocketAddr>>,
    /// Of UDP, where clients that are there may stay, as connections of TCP do: all endpoints that serve.
    pub(crate) serving: Vec<SocketAddr>,
    /// For how many seconds a client stays with its endpoint.
    pub(crate) affinity: Option<u32>,
    /// Connections go on with the node's address as their source: the endpoint may be on another node, and would
    /// answer past us.
    pub(crate) external: bool,
    /// The only clients that are let through; all, if there is none.
    pub(crate) sources: Vec<IpNet>,
}

impl Claim {
    /// All endpoints that it may lead to.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = SocketAddr> {
        self.backends.ready().iter().chain(self.inside.iter().flatten()).copied()
    }

    /// All endpoints to which clients of UDP may go or go on.
    pub(crate) fn flows(&self) -> impl Iterator<Item = SocketAddr> {
        self.endpoints().chain(self.serving.iter().copied())
    }
}

/// What a Service wants, at all of its frontends.
pub(crate) fn service(service: &Service, place: &Place, config: &Config) -> BTreeMap<Frontend, Claim> {
    let mut claims = BTreeMap::new();
    if service.other_proxy || service.cluster_ips().is_empty() {
        return claims;
    }
    for port in &service.ports {
        for ipv4 in [true, false] {
            let addresses = Addresses::new(service, ipv4, config);
            let mut insert = |address: &IpAddr, number: u16, claim: &Claim| {
                let frontend = Frontend { address: *address, protocol: port.protocol, port: number };
                claims.entry(frontend).or_insert_with(|| claim.clone());
            };
            if !addresses.inside.is_empty() {
                let claim = internal(service, port, place, ipv4);
                addresses.inside.iter().for_each(|address| insert(address, port.port, &claim));
            }
            if addresses.is_external(port) {
                let mut claim = external(service, port, place, ipv4);
                let nodes = port.node_port.iter().flat_map(|number| addresses.nodes.iter().map(move |a| (a, *number)));
                nodes.for_each(|(address, number)| insert(address, number, &claim));
                addresses.others.iter().for_each(|address| insert(address, port.port, &claim));
                let sources = sources(&service.source_ranges, ipv4);
                for address in &addresses.balanced {
                    claim.sources.clone_from(&sources);
                    // What this node itself sends to a load balancer's address that it has comes from that address.
                    let here = config.node_addresses.iter().any(|node| sources.iter().any(|net| net.contains(node)));
                    claim.sources.extend(here.then(|| IpNet::from(**address)));
                    // The kernel takes no ranges that overlap.
                    claim.sources = IpNet::aggregate(&claim.sources);
                    insert(address, port.port, &claim);
                }
            }
        }
    }
    claims
}

/// The addresses of one family by which a Service is reached.
struct Addresses<'a> {
    inside: Vec<&'a IpAddr>,
    nodes: Vec<&'a IpAddr>,
    others: Vec<&'a IpAddr>,
    balanced: Vec<&'a IpAddr>,
}

impl<'a> Addresses<'a> {
    fn new(service: &'a Service, ipv4: bool, config: &'a Config) -> Self {
        let of = |addresses: &'a [IpAddr]| {
            let family = addresses.iter().filter(|address| address.is_ipv4() == ipv4);
            family.filter(|address| config.serves(**address)).collect::<Vec<_>>()
        };
        // A Service has a family where it has a cluster IP of it.
        if !service.cluster_ips().iter().any(|address| address.is_ipv4() == ipv4) {
            return Addresses { inside: Vec::new(), nodes: Vec::new(), others: Vec::new(), balanced: Vec::new() };
        }
        let nodes = of(&config.node_addresses);
        let (inside, others) = (of(service.cluster_ips()), of(&service.external_ips));
        Addresses { inside, nodes, others, balanced: of(&service.load_balancer_ips) }
    }

    fn is_external(&self, port: &Port) -> bool {
        !self.others.is_empty() || !self.balanced.is_empty() || port.node_port.is_some() && !self.nodes.is_empty()
    }
}

fn internal(service: &Service, port: &Port, place: &Place, ipv4: bool) -> Claim {
    Claim {
        owner: Owner::Service(service.key.clone()),
        backends: backends(service, port, place, service.internal_local, ipv4),
        inside: None,
        serving: serving(service, port, ipv4),
        affinity: service.affinity,
        external: false,
        sources: Vec::new(),
    }
}

fn serving(service: &Service, port: &Port, ipv4: bool) -> Vec<SocketAddr> {
    let all = if port.protocol == Protocol::Udp { service.backends(port) } else { Vec::new() };
    let serving = all.iter().filter(|backend| backend.endpoint.serving && backend.address.is_ipv4() == ipv4);
    serving.map(Backend::socket).collect()
}

fn external(service: &Service, port: &Port, place: &Place, ipv4: bool) -> Claim {
    let all = || match backends(service, port, place, false, ipv4) {
        Backends::Ready(endpoints) => endpoints,
        Backends::Elsewhere | Backends::None => Vec::new(),
    };
    Claim {
        backends: backends(service, port, place, service.external_local, ipv4),
        inside: service.external_local.then(all).filter(|endpoints| !endpoints.is_empty()),
        external: !service.external_local,
        ..internal(service, port, place, ipv4)
    }
}

/// The ranges of a family; ranges of the other one alone let everyone in, as with kube-proxy.
fn sources(ranges: &[IpNet], ipv4: bool) -> Vec<IpNet> {
    ranges.iter().filter(|range| range.addr().is_ipv4() == ipv4).copied().collect()
}

/// What a Pod of this node wants: its `hostPort`s.
pub(crate) fn pod(pod: &Pod, config: &Config) -> BTreeMap<Frontend, Claim> {
    let mut claims = BTreeMap::new();
    if !config.own_network || pod.node.as_deref() != Some(config.node_name.as_str()) {
        return claims;
    }
    for port in &pod.host_ports {
        for ip in &pod.ips {
            let claim = Claim {
                owner: Owner::Pod(pod.key.clone()),
                backends: Backends::Ready(vec![SocketAddr::new(*ip, port.target)]),
                inside: None,
                serving: Vec::new(),
                affinity: None,
                external: false,
                sources: Vec::new(),
            };
            for address in host(port, config).filter(|address| address.is_ipv4() == ip.is_ipv4()) {
                let frontend = Frontend { address, protocol: port.protocol, port: port.port };
                claims.entry(frontend).or_insert_with(|| claim.clone());
            }
        }
    }
    claims
}

fn host(port: &HostPort, config: &Config) -> impl Iterator<Item = IpAddr> {
    let all = if port.address.is_none() { config.node_addresses.as_slice() } else { &[] };
    all.iter().copied().chain(port.address)
}
