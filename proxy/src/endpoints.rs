//! Which endpoints a port of a Service leads to: the one rule for all planes.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use state::{Address, Backend, Hints, Port, Service, Snapshot};

/// Where a proxy stands: it decides which endpoints are near.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// The node's name.
    pub(crate) node: String,
    /// The node's label `topology.kubernetes.io/zone`.
    pub(crate) zone: Option<Arc<str>>,
}

impl Place {
    /// The place of a node, as far as the Snapshot knows the node.
    pub(crate) fn new(node: &str, snapshot: &Snapshot) -> Self {
        let zone = snapshot.node(node).and_then(|node| node.zone.clone());
        Place { node: node.to_owned(), zone }
    }
}

/// What a Service's port leads to, seen from one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Backends {
    /// These, in the order of their addresses; never empty.
    Ready(Vec<SocketAddr>),
    /// A traffic policy of Local, and all endpoints are on other nodes: packets are dropped, so
    /// that a load balancer's or client's retry can find another node (KEP-2086).
    Elsewhere,
    /// Nothing: connections are refused at once.
    None,
}

impl Backends {
    /// The endpoints, if there are any.
    pub(crate) fn ready(&self) -> &[SocketAddr] {
        match self {
            Backends::Ready(endpoints) => endpoints,
            Backends::Elsewhere | Backends::None => &[],
        }
    }
}

/// The endpoints of `port` with addresses of IPv4, or of IPv6, for clients at `place`; `local` when the traffic
/// policy is Local, which leaves hints out of account.
///
/// Ready ones; if there is none, those that still serve while they terminate (KEP-1669).
pub(crate) fn backends(service: &Service, port: &Port, place: &Place, local: bool, ipv4: bool) -> Backends {
    let mut all = service.backends(port);
    all.retain(|backend| backend.address.is_ipv4() == ipv4);
    let near = |backend: &Backend<'_>| !local || backend.endpoint.node.as_deref() == Some(place.node.as_str());
    let ready = |backend: &Backend<'_>| backend.endpoint.ready;
    let leaving = |backend: &Backend<'_>| backend.endpoint.serving && backend.endpoint.terminating;
    let chosen = |wanted: &dyn Fn(&Backend<'_>) -> bool| -> Vec<Backend<'_>> {
        all.iter().filter(|backend| near(backend) && wanted(backend)).copied().collect()
    };
    let mut found = chosen(&ready);
    if !local {
        allot(&mut found, place);
    }
    if found.is_empty() {
        found = chosen(&leaving);
    }
    match found.iter().map(Backend::socket).collect::<Vec<_>>() {
        found if !found.is_empty() => Backends::Ready(found),
        _ if local && all.iter().any(|backend| ready(backend) || leaving(backend)) => Backends::Elsewhere,
        _ => Backends::None,
    }
}

/// The endpoints of `port` for a program that balances by itself, wherever they are: those of the Service's first
/// family, ready, or else serving while they terminate. Traffic policies and hints are for packets, not for it.
pub fn endpoints(service: &Service, port: &Port) -> Vec<SocketAddr> {
    let first = match &service.address {
        Address::ClusterIp(addresses) => addresses.first().map(IpAddr::is_ipv4),
        Address::Headless | Address::ExternalName(_) => None,
    };
    let ipv4 = first.unwrap_or_else(|| service.backends(port).first().is_none_or(|one| one.address.is_ipv4()));
    backends(service, port, &Place::default(), false, ipv4).ready().to_vec()
}

/// Keeps those of the ready endpoints that are allotted to this node (KEP-3015), else those for its zone (KEP-2433);
/// all of them where one has no hint, or none is for here.
fn allot(ready: &mut Vec<Backend<'_>>, place: &Place) {
    let node = (Some(place.node.as_str()), (|hints| &hints.nodes) as fn(&Hints) -> &Vec<Arc<str>>);
    let zone = (place.zone.as_deref(), (|hints| &hints.zones) as fn(&Hints) -> &Vec<Arc<str>>);
    for (here, names) in [node, zone] {
        let hinted = |backend: &Backend<'_>| backend.endpoint.hints.as_deref().is_some_and(|h| !names(h).is_empty());
        let is_here = |backend: &Backend<'_>| {
            let mut names = backend.endpoint.hints.iter().flat_map(|hints| names(hints));
            names.any(|name| Some(&**name) == here)
        };
        if ready.iter().all(hinted) && ready.iter().any(is_here) {
            return ready.retain(is_here);
        }
    }
}

#[cfg(test)]
mod tests;
