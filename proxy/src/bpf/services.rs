//! Snapshot → what the programs may choose. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use state::{Protocol, Snapshot};

use super::Config;
use crate::endpoints::{Backends, backends};

/// Where pods connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Frontend {
    pub(crate) socket: SocketAddr,
    /// TCP or UDP.
    pub(crate) protocol: Protocol,
}

/// The endpoints of a frontend before and after a change; none when it is left to nftables.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) old: Vec<SocketAddr>,
    pub(crate) new: Vec<SocketAddr>,
}

/// The frontends that change.
pub(crate) type Steps = BTreeMap<Frontend, Step>;

/// What the step from one Snapshot to the next changes.
pub(crate) fn steps(older: &Snapshot, newer: &Snapshot, config: &Config) -> Steps {
    let changed = newer.services.changed(&older.services);
    let both = changed.flat_map(|key| [older.services.get(key), newer.services.get(key)]);
    let addresses: BTreeSet<IpAddr> = both.flatten().flat_map(|service| service.cluster_ips()).copied().collect();
    let mut steps = Steps::new();
    for address in addresses {
        for (frontend, endpoints) in frontends(older, address, config) {
            steps.entry(frontend).or_default().old = endpoints;
        }
        for (frontend, endpoints) in frontends(newer, address, config) {
            steps.entry(frontend).or_default().new = endpoints;
        }
    }
    steps.retain(|_, step| step.old != step.new);
    steps
}

/// The frontends of the Service that has an address: those whose every new connection goes to any
/// of their endpoints. Session affinity, refusals and drops are left to nftables, and so are the
/// addresses that the node answers itself.
fn frontends(snapshot: &Snapshot, address: IpAddr, config: &Config) -> BTreeMap<Frontend, Vec<SocketAddr>> {
    let service = snapshot.service_at(address).filter(|service| service.affinity.is_none() && !service.other_proxy);
    let Some(service) = service.filter(|_| !config.local.contains(&address)) else { return BTreeMap::new() };
    let ports = service.ports.iter().filter(|port| port.protocol != Protocol::Sctp).rev();
    let at = ports.filter_map(|port| {
        let frontend = Frontend { socket: SocketAddr::new(address, port.port), protocol: port.protocol };
        match backends(service, port, &config.node_name, service.internal_local) {
            Backends::Ready(endpoints) => Some((frontend, endpoints.into_iter().map(SocketAddr::V4).collect())),
            Backends::Elsewhere | Backends::None => None,
        }
    });
    at.collect()
}
