//! Snapshot → what the programs may choose. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use state::{Protocol, Service, Snapshot};

use super::Config;
use crate::endpoints::{Backends, Place, backends};

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
    let (was, is) = (Place::new(&config.node_name, older), Place::new(&config.node_name, newer));
    let mut addresses: BTreeSet<IpAddr> = BTreeSet::new();
    let mut touch = |service: Option<&Arc<Service>>| addresses.extend(service.iter().flat_map(|s| s.cluster_ips()));
    for key in newer.services.changed(&older.services) {
        touch(older.services.get(key));
        touch(newer.services.get(key));
    }
    if was != is {
        newer.services.iter().for_each(|(_, service)| touch(Some(service)));
    }
    let mut steps = Steps::new();
    for address in addresses {
        for (frontend, endpoints) in frontends(older, address, &was, config) {
            steps.entry(frontend).or_default().old = endpoints;
        }
        for (frontend, endpoints) in frontends(newer, address, &is, config) {
            steps.entry(frontend).or_default().new = endpoints;
        }
    }
    steps.retain(|_, step| step.old != step.new);
    steps
}

/// The frontends of the Service that has an address: those whose every new connection goes to any
/// of their endpoints. Session affinity, refusals and drops are left to nftables, and so are the
/// addresses that the node answers itself.
fn frontends(
    snapshot: &Snapshot,
    address: IpAddr,
    place: &Place,
    config: &Config,
) -> BTreeMap<Frontend, Vec<SocketAddr>> {
    let service = snapshot.service_at(address).filter(|service| service.affinity.is_none() && !service.other_proxy);
    let Some(service) = service.filter(|_| !config.local.contains(&address)) else { return BTreeMap::new() };
    // Of two ports with one number the first one counts.
    let ports = service.ports.iter().filter(|port| port.protocol != Protocol::Sctp).rev();
    let at = ports.filter_map(|port| {
        let frontend = Frontend { socket: SocketAddr::new(address, port.port), protocol: port.protocol };
        match backends(service, port, place, service.internal_local, address.is_ipv4()) {
            Backends::Ready(endpoints) => Some((frontend, endpoints)),
            Backends::Elsewhere | Backends::None => None,
        }
    });
    at.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Cluster, PortOf};

    const WEB: [PortOf; 1] = [(Protocol::Tcp, 80, Some(30001))];

    fn config() -> Config {
        Config { cluster_id: "c0ffee".into(), node_name: "node".into(), local: vec![[10, 96, 0, 10].into()] }
    }

    /// What a step does, in words.
    fn told(older: &Snapshot, newer: &Snapshot) -> Vec<String> {
        let list = |endpoints: &[SocketAddr]| endpoints.iter().map(|e| format!(" {e}")).collect::<String>();
        let steps = steps(older, newer, &config()).into_iter();
        steps.map(|(at, step)| format!("{}:{} →{}", at.socket, list(&step.old), list(&step.new))).collect()
    }

    #[test]
    fn a_change_names_what_it_changes() {
        let none = Snapshot::default();
        let mut cluster = Cluster::new();
        cluster.service("web", "10.96.0.80", &WEB);
        cluster.endpoints("web", &WEB, 8080, &["10.244.0.2", "fd00::2"]);
        cluster.service("db", "fd00:96::5", &WEB);
        cluster.endpoints("db", &WEB, 5432, &["10.244.0.2", "fd00::2"]);
        let first = cluster.snapshot();
        let all = ["10.96.0.80:80: → 10.244.0.2:8080", "[fd00:96::5]:80: → [fd00::2]:5432"];
        assert_eq!(told(&none, &first), all);
        assert!(told(&first, &first).is_empty());
        cluster.endpoints("web", &WEB, 8080, &["10.244.0.3"]);
        let second = cluster.snapshot();
        assert_eq!(told(&first, &second), ["10.96.0.80:80: 10.244.0.2:8080 → 10.244.0.3:8080"]);
        cluster.remove("db");
        assert_eq!(told(&second, &cluster.snapshot()), ["[fd00:96::5]:80: [fd00::2]:5432 →"]);
    }

    /// The watch may tell of the new owner first.
    #[test]
    fn an_address_goes_from_one_service_to_another() {
        let mut cluster = Cluster::new();
        cluster.service("a", "10.96.0.80", &WEB);
        cluster.endpoints("a", &WEB, 8080, &["10.244.0.2"]);
        let of_a = cluster.snapshot();
        cluster.service("b", "10.96.0.80", &WEB);
        cluster.endpoints("b", &WEB, 8080, &["10.244.0.3"]);
        let both = cluster.snapshot();
        cluster.remove("a");
        assert_eq!(told(&of_a, &both), ["10.96.0.80:80: 10.244.0.2:8080 → 10.244.0.3:8080"]);
        assert!(told(&both, &cluster.snapshot()).is_empty());
    }

    #[test]
    fn what_any_endpoint_may_not_serve_is_left_alone() {
        let edits: [fn(&mut Service); 4] = [
            |service| service.affinity = Some(10_800),
            |service| service.other_proxy = true,
            |service| service.ports[0].protocol = Protocol::Sctp,
            |service| service.address = state::Address::ClusterIp(vec![[10, 96, 0, 10].into()]),
        ];
        for edit in edits {
            let mut cluster = Cluster::new();
            cluster.service_with("web", "10.96.0.80", &WEB, edit);
            cluster.endpoints("web", &WEB, 8080, &["10.244.0.2"]);
            assert!(told(&Snapshot::default(), &cluster.snapshot()).is_empty());
        }
    }
}
