//! Which endpoints a port of a Service leads to: the one rule for kernel and user space.

use std::net::{SocketAddr, SocketAddrV4};

use state::{Backend, Port, Service};

/// What a Service's port leads to, seen from one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Backends {
    /// These, in the order of their addresses; never empty.
    Ready(Vec<SocketAddrV4>),
    /// A traffic policy of Local, and all endpoints are on other nodes: packets are dropped, so
    /// that a load balancer's or client's retry can find another node (KEP-2086).
    Elsewhere,
    /// Nothing: connections are refused at once.
    None,
}

/// The endpoints of `port` for clients of the node `node`; `local` when the traffic policy is Local.
///
/// Ready ones; if there is none, those that still serve while they terminate (KEP-1669).
pub(crate) fn backends(service: &Service, port: &Port, node: &str, local: bool) -> Backends {
    let mut all = service.backends(port);
    // The rules and relays are of IPv4.
    all.retain(|backend| backend.address.is_ipv4());
    let near = |backend: &&Backend| !local || backend.endpoint.node.as_deref() == Some(node);
    let ready = |backend: &&Backend| backend.endpoint.ready;
    let leaving = |backend: &&Backend| backend.endpoint.serving && backend.endpoint.terminating;
    let sockets = |chosen: Vec<&Backend>| chosen.into_iter().filter_map(|b| v4(b.socket())).collect::<Vec<_>>();
    let chosen = sockets(all.iter().filter(near).filter(ready).collect());
    if !chosen.is_empty() {
        return Backends::Ready(chosen);
    }
    let chosen = sockets(all.iter().filter(near).filter(leaving).collect());
    if !chosen.is_empty() {
        return Backends::Ready(chosen);
    }
    if local && all.iter().any(|backend| ready(&backend) || leaving(&backend)) {
        return Backends::Elsewhere;
    }
    Backends::None
}

fn v4(socket: SocketAddr) -> Option<SocketAddrV4> {
    match socket {
        SocketAddr::V4(socket) => Some(socket),
        SocketAddr::V6(_) => None,
    }
}
