//! Which ports should be open, and where they lead; pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use state::{Key, Port, Protocol, Service, Snapshot};

use super::Config;
use super::backends::Backends;
use crate::endpoints::Place;

/// A port that is, or should be, open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Frontend {
    pub(crate) protocol: Protocol,
    pub(crate) at: SocketAddr,
}

/// By what rules a frontend leads on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rules {
    /// The traffic policy is Local.
    pub(crate) local: bool,
    /// The Service's loadBalancerSourceRanges count.
    pub(crate) ranges: bool,
    /// The family of addresses is that of IPv4.
    pub(crate) ipv4: bool,
}

/// The ports of all Services. A port that two of them want is the first's, by name.
pub(crate) fn plan(snapshot: &Snapshot, config: &Config) -> BTreeMap<Frontend, Arc<Backends>> {
    let mut wanted = BTreeMap::new();
    let place = Place::new(&config.node_name, snapshot);
    let mut services: Vec<(&Key, &Arc<Service>)> = snapshot.services.iter().collect();
    services.retain(|(_, service)| !service.other_proxy);
    services.sort_by_key(|(key, _)| *key);
    for (_, service) in services {
        for port in service.ports.iter().filter(|port| port.protocol != Protocol::Sctp) {
            let mut known: BTreeMap<Rules, Option<Arc<Backends>>> = BTreeMap::new();
            for (at, rules) in frontends(service, port, config) {
                let backends = known.entry(rules);
                let backends = backends.or_insert_with(|| Backends::new(service, port, &place, rules).map(Arc::new));
                if let Some(backends) = backends {
                    let frontend = Frontend { protocol: port.protocol, at };
                    wanted.entry(frontend).or_insert_with(|| backends.clone());
                }
            }
        }
    }
    wanted
}

/// Where a port of a Service is reached. Who uses a loopback address is on this node, so the traffic
/// policy for clients outside does not concern him, as with kube-proxy.
fn frontends(service: &Service, port: &Port, config: &Config) -> Vec<(SocketAddr, Rules)> {
    let mut all = Vec::new();
    let mut add = |addresses: &[IpAddr], number: u16, local: bool, ranges: bool| {
        // A Service has a family where it has a cluster IP of it.
        let own = |address: &&IpAddr| service.cluster_ips().iter().any(|ip| ip.is_ipv4() == address.is_ipv4());
        all.extend(addresses.iter().filter(own).map(|address| {
            let rules = Rules { local: local && !address.is_loopback(), ranges, ipv4: address.is_ipv4() };
            (SocketAddr::new(*address, number), rules)
        }));
    };
    if let Some(number) = port.node_port {
        add(&config.addresses, number, service.external_local, false);
    }
    if config.load_balancers && !service.load_balancer_ips.is_empty() {
        add(&config.addresses, port.port, service.external_local, false);
    }
    if config.service_addresses {
        add(service.cluster_ips(), port.port, service.internal_local, false);
        add(&service.external_ips, port.port, service.external_local, false);
        add(&service.load_balancer_ips, port.port, service.external_local, true);
    }
    all
}

#[cfg(test)]
mod tests;
