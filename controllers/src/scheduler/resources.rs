//! What a pod asks for and what a node has.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, Node, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::quantity::thousandths;

/// Amounts by resource name, in thousandths of its unit.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Resources(BTreeMap<String, i128>);

impl Resources {
    fn read(list: Option<&BTreeMap<String, Quantity>>) -> Resources {
        let amounts = list.into_iter().flatten().map(|(name, amount)| (name.clone(), thousandths(amount)));
        Resources(amounts.collect())
    }

    /// What the node offers to pods.
    pub(super) fn of_node(node: &Node) -> Resources {
        let status = node.status.as_ref();
        Resources::read(status.and_then(|status| status.allocatable.as_ref().or(status.capacity.as_ref())))
    }

    /// What the pod asks for: the sum of its containers, or the most that starting it needs if that is more
    /// (init containers run one after the other, sidecars stay), and its overhead.
    pub(super) fn of_pod(pod: &Pod) -> Resources {
        let Some(spec) = &pod.spec else {
            return Resources::default();
        };
        let mut sum = Resources::default();
        spec.containers.iter().for_each(|container| sum.add(&requests(container)));
        let (mut sidecars, mut start) = (Resources::default(), Resources::default());
        for container in spec.init_containers.iter().flatten() {
            let mut now = requests(container);
            if container.restart_policy.as_deref() == Some("Always") {
                sum.add(&now);
                sidecars.add(&now);
                start.raise(&sidecars);
            } else {
                now.add(&sidecars);
                start.raise(&now);
            }
        }
        sum.raise(&start);
        if let Some(whole) = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()) {
            sum.0.extend(Resources::read(Some(whole)).0);
        }
        sum.add(&Resources::read(spec.overhead.as_ref()));
        sum
    }

    pub(super) fn get(&self, name: &str) -> i128 {
        self.0.get(name).copied().unwrap_or(0)
    }

    pub(super) fn add(&mut self, other: &Resources) {
        for (name, amount) in &other.0 {
            *self.0.entry(name.clone()).or_default() += amount;
        }
    }

    pub(super) fn subtract(&mut self, other: &Resources) {
        for (name, amount) in &other.0 {
            *self.0.entry(name.clone()).or_default() -= amount;
        }
    }

    fn raise(&mut self, other: &Resources) {
        for (name, amount) in &other.0 {
            let own = self.0.entry(name.clone()).or_default();
            *own = (*own).max(*amount);
        }
    }

    /// The amounts that are asked for at all.
    pub(super) fn asked(&self) -> impl Iterator<Item = (&str, i128)> {
        self.0.iter().map(|(name, amount)| (name.as_str(), *amount)).filter(|(_, amount)| *amount > 0)
    }
}

fn requests(container: &Container) -> Resources {
    Resources::read(container.resources.as_ref().and_then(|resources| resources.requests.as_ref()))
}

/// A port of the node that a pod takes: address, protocol, number.
pub(super) type HostPort = (String, String, i32);

/// The ports of the node that the pod takes.
pub(super) fn host_ports(pod: &Pod) -> BTreeSet<HostPort> {
    let Some(spec) = &pod.spec else {
        return BTreeSet::new();
    };
    let own_network = spec.host_network == Some(true);
    let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    let taken = ports.filter_map(|port| {
        let number = port.host_port.or(own_network.then_some(port.container_port)).filter(|n| *n > 0)?;
        let address = port.host_ip.clone().filter(|ip| !ip.is_empty());
        let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
        Some((address.unwrap_or_else(|| ANY.into()), protocol, number))
    });
    taken.collect()
}

const ANY: &str = "0.0.0.0";

/// Two ports conflict on the same number and protocol, unless they are on two different addresses.
pub(super) fn conflict(a: &HostPort, b: &HostPort) -> bool {
    a.1 == b.1 && a.2 == b.2 && (a.0 == b.0 || a.0 == ANY || b.0 == ANY)
}
