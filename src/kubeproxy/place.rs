//! Where a proxy is: the addresses and ranges that its rules are made of; pure.

use std::{net::IpAddr, str::FromStr};

use anyhow::Context as _;
use ipnet::IpNet;
use proxy::kernel::Config;
use state::Node;

/// At which addresses NodePorts are, as kube-proxy's `--nodeport-addresses` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NodePorts {
    /// At the first one of each family that the node's object has.
    Primary,
    /// At those of the machine that are in these ranges; of a family without a range at all.
    Within(Vec<IpNet>),
}

impl FromStr for NodePorts {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        if text == "primary" {
            return Ok(Self::Primary);
        }
        let ranges =
            text.split(',').map(|range| range.trim().parse().with_context(|| format!("{range:?} is no range")));
        ranges.collect::<anyhow::Result<_>>().map(Self::Within).context("expected \"primary\" or ranges")
    }
}

/// What is asked for on the command line.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) node_ports: NodePorts,
    /// The pods' ranges; with none, those of the node's object.
    pub(super) pods: Vec<IpNet>,
}

/// Where a proxy is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Those of the NodePorts; not empty.
    pub(super) addresses: Vec<IpAddr>,
    pub(super) pods: Vec<IpNet>,
    pub(super) services: Vec<IpNet>,
}

impl Wanted {
    /// The place of a node on a machine with these addresses; none as long as there is no address.
    pub(super) fn place(&self, node: Option<&Node>, machine: &[IpAddr], services: Vec<IpNet>) -> Option<Place> {
        let known = node.map(|node| node.addresses.as_slice()).filter(|known| !known.is_empty());
        let mut primary = known.unwrap_or(machine).to_vec();
        primary.retain(|address| !address.is_loopback());
        let primary = first_of_each(primary, IpAddr::is_ipv4);
        let addresses = match &self.node_ports {
            NodePorts::Primary => primary,
            NodePorts::Within(ranges) => {
                let wanted = |address: &&IpAddr| {
                    let mut same = ranges.iter().filter(|range| range.addr().is_ipv4() == address.is_ipv4()).peekable();
                    !address.is_loopback() && (same.peek().is_none() || same.any(|range| range.contains(*address)))
                };
                let mut addresses: Vec<IpAddr> = machine.iter().filter(wanted).copied().collect();
                // The first one is where connections to pods come from.
                addresses.sort_by_key(|address| !primary.contains(address));
                addresses
            }
        };
        let pods = match (&self.pods[..], node) {
            ([], Some(node)) => node.pod_cidrs.clone(),
            (pods, _) => pods.to_vec(),
        };
        let family = |range: &IpNet| range.addr().is_ipv4();
        let (pods, services) = (first_of_each(pods, family), first_of_each(services, family));
        (!addresses.is_empty()).then_some(Place { addresses, pods, services })
    }
}

/// The first of each family.
fn first_of_each<T>(all: Vec<T>, is_ipv4: impl Fn(&T) -> bool) -> Vec<T> {
    let mut seen = [false; 2];
    all.into_iter().filter(|one| !std::mem::replace(&mut seen[usize::from(is_ipv4(one))], true)).collect()
}

impl Place {
    /// What the kernel plane is told.
    pub(super) fn config(&self, cluster_id: &str, node_name: &str) -> Config {
        Config {
            cluster_id: cluster_id.to_owned(),
            node_name: node_name.to_owned(),
            node_addresses: self.addresses.clone(),
            pod_cidrs: self.pods.clone(),
            service_cidrs: self.services.clone(),
            dns: Vec::new(),
            local: Vec::new(),
            own_network: false,
            keep: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use state::Key;

    use super::*;

    fn all<T: FromStr<Err: std::fmt::Debug>>(text: &str) -> Vec<T> {
        text.split_whitespace().map(|one| one.parse().unwrap()).collect()
    }

    #[test]
    fn places() {
        let node = |addresses: &str| Node {
            key: Key::new("", "node"),
            addresses: all(addresses),
            zone: None,
            pod_cidrs: all("10.244.1.0/24 fd00:1::/64"),
            ready: true,
            leaving: false,
            excluded: false,
        };
        let machine = "127.0.0.1 ::1 10.0.0.1 192.0.2.9 192.0.2.1 2001:db8::1 fd00::9";
        let dual = "192.0.2.1 192.0.2.9 2001:db8::1";
        for (wanted, node, want) in [
            ("primary", Some(node(dual)), "192.0.2.1 2001:db8::1"),
            ("primary", Some(node("2001:db8::1 192.0.2.1")), "2001:db8::1 192.0.2.1"),
            ("primary", Some(node("127.0.0.1")), ""),
            ("primary", Some(node("")), "10.0.0.1 2001:db8::1"),
            ("primary", None, "10.0.0.1 2001:db8::1"),
            ("192.0.2.0/24,2001:db8::/32", Some(node(dual)), "192.0.2.1 2001:db8::1 192.0.2.9"),
            ("192.0.2.0/24", Some(node(dual)), "192.0.2.1 2001:db8::1 192.0.2.9 fd00::9"),
            ("0.0.0.0/0,fd00::/8", None, "10.0.0.1 192.0.2.9 192.0.2.1 fd00::9"),
            ("198.51.100.0/24,::/128", Some(node(dual)), ""),
        ] {
            let wanted = Wanted { node_ports: wanted.parse().unwrap(), pods: Vec::new() };
            let place = wanted.place(node.as_ref(), &all(machine), all("10.96.0.0/12 10.112.0.0/16 fd00:2::/112"));
            let addresses = place.as_ref().map(|place| place.addresses.clone()).unwrap_or_default();
            assert_eq!(addresses, all::<IpAddr>(want), "{wanted:?} {node:?}");
            if let Some(place) = place {
                assert_eq!(place.services, all::<IpNet>("10.96.0.0/12 fd00:2::/112"));
                assert_eq!(
                    place.pods,
                    if node.is_some() { all::<IpNet>("10.244.1.0/24 fd00:1::/64") } else { Vec::new() }
                );
            }
        }
        let given = Wanted { node_ports: NodePorts::Primary, pods: all("10.200.0.0/16") };
        assert_eq!(given.place(Some(&node(dual)), &[], Vec::new()).unwrap().pods, all::<IpNet>("10.200.0.0/16"));
        assert!("primary,10.0.0.0/8".parse::<NodePorts>().is_err() && "".parse::<NodePorts>().is_err());
    }
}
