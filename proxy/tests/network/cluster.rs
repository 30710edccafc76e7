//! Snapshots for tests, made by the same fold as real ones.

use std::sync::Arc;

use state::{
    Address, Endpoint, EndpointPort, Index, Key, Kind, Object, Port, Protocol, Service, Slice, Snapshot, Target, Type,
};

/// A cluster whose Services all are in the namespace "default".
pub(crate) struct Cluster(pub(crate) Index);

/// A Service's port: protocol, port, nodePort.
pub(crate) type PortOf = (Protocol, u16, Option<u16>);

impl Cluster {
    pub(crate) fn new() -> Self {
        let mut index = Index::default();
        for kind in Kind::ALL {
            index.reset(kind, Vec::new());
        }
        Cluster(index)
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.0.snapshot()
    }

    pub(crate) fn service(&mut self, name: &str, address: &str, ports: &[PortOf]) {
        self.service_with(name, address, ports, |_| {});
    }

    pub(crate) fn service_with(
        &mut self,
        name: &str,
        address: &str,
        ports: &[PortOf],
        edit: impl FnOnce(&mut Service),
    ) {
        let port = |(protocol, port, node_port): &PortOf| Port {
            name: port_name(*protocol, *port),
            protocol: *protocol,
            port: *port,
            node_port: *node_port,
            target: Target::Number(*port),
        };
        let mut service = Service {
            key: Key::new("default", name),
            address: Address::ClusterIp(vec![address.parse().expect("an address")]),
            kind: Type::NodePort,
            ports: ports.iter().map(port).collect(),
            affinity: None,
            internal_local: false,
            external_local: false,
            publish_not_ready: false,
            external_ips: Vec::new(),
            load_balancer_ips: Vec::new(),
            balancing: None,
            load_balancer_hosts: Box::default(),
            source_ranges: Vec::new(),
            health_check_node_port: None,
            other_proxy: false,
            endpoints: Vec::new(),
        };
        edit(&mut service);
        self.0.apply(Object::Service(service));
    }

    /// Gives a Service ready endpoints on the node "node"; its ports lead to `target`.
    pub(crate) fn endpoints(&mut self, name: &str, ports: &[PortOf], target: u16, addresses: &[&str]) {
        let all: Vec<Endpoint> = addresses.iter().map(|address| endpoint(address)).collect();
        self.endpoints_with(name, ports, target, all);
    }

    pub(crate) fn endpoints_with(&mut self, name: &str, ports: &[PortOf], target: u16, mut endpoints: Vec<Endpoint>) {
        let port = |(protocol, port, _): &PortOf| EndpointPort {
            name: port_name(*protocol, *port),
            protocol: *protocol,
            port: target,
        };
        let ports: Arc<[EndpointPort]> = ports.iter().map(port).collect();
        endpoints.iter_mut().for_each(|endpoint| endpoint.ports = ports.clone());
        let service = Some(Key::new("default", name));
        self.0.apply(Object::Slice(Slice { key: Key::new("default", name), service, endpoints }));
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.0.delete(Kind::Service, &Key::new("default", name));
    }
}

/// A ready endpoint on the node "node".
pub(crate) fn endpoint(address: &str) -> Endpoint {
    Endpoint {
        address: address.parse().expect("an address"),
        ports: Arc::new([]),
        ready: true,
        serving: true,
        terminating: false,
        hostname: None,
        node: Some("node".into()),
        zone: None,
        hints: None,
        pod: None,
    }
}

fn port_name(protocol: Protocol, port: u16) -> Arc<str> {
    format!("{protocol}-{port}").into()
}
