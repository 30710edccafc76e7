//! Who has which ports of addresses already, load balancers aside; pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use state::{Key, Protocol, Service, Snapshot};

use super::listeners::Listener;

/// A port of a transport.
pub(crate) type Number = (Protocol, u16);

/// Who has a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Holder {
    /// A Service, by a load balancer's address, as a node port or at an external address.
    Service(Key),
    /// A Pod, by `hostPort`.
    Pod(Key),
    /// A program on the node, which has the socket of this number.
    Program(u64),
}

/// The ports that are taken, each at one address or at all of the node's.
#[derive(Debug, Clone, Default)]
pub(crate) struct Taken(BTreeMap<Number, Vec<(Option<IpAddr>, Holder)>>);

impl Taken {
    /// Those of the `wanted` ports that somebody has on this node. `ours` are the Services that ask for addresses here.
    pub(crate) fn new(
        wanted: &BTreeSet<Number>,
        snapshot: &Snapshot,
        node: &str,
        listeners: Vec<Listener>,
        ours: impl Fn(&Service) -> bool,
    ) -> Self {
        let mut taken = Self::default();
        let mut add = |number: Number, address: Option<IpAddr>, holder: &dyn Fn() -> Holder| {
            if wanted.contains(&number) {
                taken.0.entry(number).or_default().push((address, holder()));
            }
        };
        for Listener { protocol, address, port, socket } in listeners {
            add((protocol, port), Some(address).filter(|ip| !ip.is_unspecified()), &|| Holder::Program(socket));
        }
        for (key, pod) in snapshot.pods.iter().filter(|(_, pod)| pod.node.as_deref() == Some(node)) {
            for port in &pod.host_ports {
                add((port.protocol, port.port), port.address, &|| Holder::Pod(key.clone()));
            }
        }
        for (key, service) in snapshot.services.iter() {
            let foreign = service.load_balancer_ips.iter().filter(|_| !ours(service));
            let addresses: Vec<IpAddr> = service.external_ips.iter().chain(foreign).copied().collect();
            for port in &service.ports {
                let mut has = |address, number| add((port.protocol, number), address, &|| Holder::Service(key.clone()));
                addresses.iter().for_each(|address| has(Some(*address), port.port));
                port.node_port.into_iter().for_each(|number| has(None, number));
            }
        }
        taken
    }

    /// Who has this port of an address, which is one of the node's or not; who asks does not count.
    pub(crate) fn holder(&self, asks: &Key, ip: IpAddr, of_node: bool, number: Number) -> Option<&Holder> {
        let others = self.0.get(&number).into_iter().flatten().filter(|(_, by)| *by != Holder::Service(asks.clone()));
        let mut here = others.filter(|(address, _)| address.map_or(of_node, |address| address == ip));
        here.next().map(|(_, by)| by)
    }
}
