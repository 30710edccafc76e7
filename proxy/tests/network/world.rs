//! Random Snapshots, the same in every run, of few names and addresses, so that things collide: pods in 10.244.0.0/16,
//! Services in 10.96.0.0/16, nodes in 10.7.0.0/16, other addresses in 10.50.0.0/15, and 2001:db8:<the same>::.

use std::cell::Cell;
use std::net::IpAddr;
use std::sync::Arc;

use state::{
    Address, Endpoint, EndpointPort, Hints, HostPort, Index, Key, Kind, Node, Object, Pod, Port, Protocol, Service,
    Slice, Snapshot, Target, Type,
};

/// Numbers that look random.
pub(crate) struct Dice(Cell<u64>);

impl Dice {
    pub(crate) fn roll(&self, sides: u64) -> u64 {
        self.0.set(self.0.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
        (self.0.get() >> 33) % sides
    }

    /// One time in so many.
    fn once_in(&self, sides: u64) -> bool {
        self.roll(sides) == 0
    }
}

/// A cluster to which things happen.
pub(crate) struct World {
    index: Index,
    pub(crate) dice: Dice,
}

/// The ports of every Service: protocol, port, and that of its endpoints.
pub(crate) const PORTS: [(Protocol, u16, u16); 3] =
    [(Protocol::Tcp, 80, 8080), (Protocol::Udp, 80, 8053), (Protocol::Sctp, 90, 9090)];

/// The address of a host in a network.
pub(crate) fn ip(v4: bool, net: u64, host: u64) -> IpAddr {
    let text = if v4 { format!("10.{net}.0.{host}") } else { format!("2001:db8:{net}::{host}") };
    text.parse().expect("an address")
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut index = Index::default();
        Kind::ALL.into_iter().for_each(|kind| _ = index.reset(kind, Vec::new()));
        World { index, dice: Dice(Cell::new(seed)) }
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.index.snapshot()
    }

    /// Something happens.
    pub(crate) fn turn(&mut self) {
        let name = Key::new("default", format!("thing-{}", self.dice.roll(6)));
        match self.dice.roll(16) {
            0 => _ = self.index.delete(Kind::Service, &name),
            1 => _ = self.index.delete(Kind::Pod, &name),
            2 => self.node(),
            3 => self.pod(name),
            4..8 => self.service(name),
            _ => self.slice(name),
        }
    }

    fn node(&mut self) {
        let zone = [None, Some("here".into()), Some("there".into())][self.dice.roll(3) as usize].clone();
        let key = Key::new("", "node");
        self.index.apply(Object::Node(Node {
            key,
            addresses: Vec::new(),
            zone,
            pod_cidrs: Vec::new(),
            ready: true,
            leaving: false,
            excluded: false,
        }));
    }

    fn pod(&mut self, key: Key) {
        let dice = &self.dice;
        let (host, address) = (dice.roll(6), dice.once_in(3).then(|| ip(dice.once_in(2), 7, 1 + dice.roll(2))));
        let node = if dice.once_in(4) { "other" } else { "node" };
        let host_ports =
            vec![HostPort { address, protocol: Protocol::Tcp, port: 30000 + dice.roll(4) as u16, target: 70 }];
        self.index.apply(Object::Pod(Pod {
            key,
            ips: vec![ip(true, 244, host), ip(false, 244, host)],
            host_network: false,
            hostname: None,
            subdomain: None,
            node: Some(node.into()),
            host_ports,
            ready: true,
        }));
    }

    fn service(&mut self, key: Key) {
        let dice = &self.dice;
        let families = [vec![true], vec![false], vec![true, false]][dice.roll(3) as usize].clone();
        let some = |net: u64| -> Vec<IpAddr> {
            families.iter().filter(|_| dice.once_in(2)).map(|v4| ip(*v4, net, dice.roll(3))).collect()
        };
        let (external_ips, load_balancer_ips) = (some(50), some(51));
        let cluster_ips = families.iter().map(|v4| ip(*v4, 96, dice.roll(8))).collect();
        let port = |(protocol, port, _): &(Protocol, u16, u16)| Port {
            name: format!("{protocol}-{port}").into(),
            protocol: *protocol,
            port: *port,
            node_port: dice.once_in(2).then(|| 30000 + dice.roll(4) as u16),
            target: Target::Number(*port),
        };
        let ranges = ["10.9.0.0/24", "10.9.0.0/16", "10.244.0.0/30", "2001:db8:9::/64", "10.7.0.0/24"];
        let ranges = ranges.iter().filter(|_| dice.once_in(4)).map(|range| range.parse().expect("a range")).collect();
        self.index.apply(Object::Service(Service {
            key,
            address: Address::ClusterIp(cluster_ips),
            kind: Type::LoadBalancer,
            ports: PORTS.iter().filter(|_| dice.roll(3) > 0).map(port).collect(),
            affinity: dice.once_in(3).then(|| 10 + dice.roll(2) as u32),
            internal_local: dice.once_in(4),
            external_local: dice.once_in(3),
            publish_not_ready: false,
            external_ips,
            load_balancer_ips,
            balancing: None,
            load_balancer_hosts: Box::default(),
            source_ranges: ranges,
            health_check_node_port: None,
            other_proxy: dice.once_in(16),
            endpoints: Vec::new(),
        }));
    }

    fn slice(&mut self, key: Key) {
        let dice = &self.dice;
        let port = |(protocol, port, target): (Protocol, u16, u16)| EndpointPort {
            name: format!("{protocol}-{port}").into(),
            protocol,
            port: target,
        };
        let ports: Arc<[EndpointPort]> = PORTS.map(port).into();
        let (hints, all_ready) = (dice.once_in(2), dice.once_in(2));
        let endpoints = (0..dice.roll(6)).map(|_| {
            let names = |one: &str| match dice.roll(4) {
                0 => vec![],
                1 => vec![one.into()],
                2 => vec!["there".into(), one.into()],
                _ => vec!["there".into()],
            };
            let hints =
                (hints && dice.roll(8) > 0).then(|| Arc::new(Hints { zones: names("here"), nodes: names("node") }));
            let (ready, host) = (all_ready || dice.once_in(2), dice.roll(8));
            let v4 = dice.once_in(2);
            Endpoint {
                // Some are on the node's own network.
                address: if host == 7 { ip(v4, 7, 1) } else { ip(v4, 244, host) },
                ports: ports.clone(),
                ready,
                serving: ready || dice.once_in(2),
                terminating: !ready && dice.once_in(2),
                hostname: None,
                node: Some(if dice.once_in(2) { "node" } else { "other" }.into()),
                zone: None,
                hints,
                pod: None,
            }
        });
        let endpoints = endpoints.collect();
        self.index.apply(Object::Slice(Slice { key: key.clone(), service: Some(key), endpoints }));
    }
}
