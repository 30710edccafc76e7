//! Clusters of many Services, one of which leads to the pods that are there.

use std::net::Ipv4Addr;
use std::ops::Range;

use serde_json::json;
use state::{Index, Object};

use super::server;
use super::topology::PODS;
use crate::cluster;

/// The port of all Services.
pub(crate) const PORT: u16 = 80;
/// The NodePort of the one that is asked.
pub(crate) const NODE_PORT: u16 = 30080;
/// Endpoints of each Service.
pub(crate) const ENDPOINTS: usize = PODS.len();

/// The Service that is asked: there are as many before it as behind it.
pub(crate) fn target(services: usize) -> usize {
    services / 2
}

/// The address of a Service.
pub(crate) fn address(index: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(10, 96, 1, 0)) + index as u32)
}

/// The Service that is asked has UDP, too.
pub(crate) fn protocols(index: usize, services: usize) -> &'static [&'static str] {
    if index == target(services) { &["TCP", "UDP"] } else { &["TCP"] }
}

/// The addresses of a Service's endpoints; [`ENDPOINTS`] is one more than it has at first.
pub(crate) fn endpoints(index: usize, services: usize, numbers: Range<usize>) -> impl Iterator<Item = Ipv4Addr> {
    let first = u32::from(Ipv4Addr::new(10, 245, 0, 0)) + index as u32 * 8;
    let asked = index == target(services);
    numbers.map(move |number| match PODS.get(number) {
        Some(pod) if asked => *pod,
        _ => Ipv4Addr::from_bits(first + number as u32),
    })
}

fn service(index: usize, services: usize) -> anyhow::Result<Object> {
    let address = address(index);
    let node_port = (index == target(services)).then_some(NODE_PORT);
    let port = |protocol: &&str| json!({"name": protocol, "protocol": protocol, "port": PORT, "nodePort": node_port});
    let ports = protocols(index, services).iter().map(port).collect::<Vec<_>>();
    let spec = json!({"type": "NodePort", "clusterIP": address, "clusterIPs": [address], "ports": ports});
    cluster::service("default", &format!("svc-{index}"), &spec)
}

/// The first endpoints of a Service.
pub(crate) fn slice(index: usize, services: usize, count: usize) -> anyhow::Result<Object> {
    let port = |protocol: &&str| json!({"name": protocol, "protocol": protocol, "port": server::PORT});
    let endpoint =
        |address: Ipv4Addr| json!({"addresses": [address], "nodeName": "node", "conditions": {"ready": true}});
    let ports = protocols(index, services).iter().map(port).collect();
    let endpoints = endpoints(index, services, 0..count).map(endpoint).collect();
    cluster::slice("default", &format!("svc-{index}"), &ports, endpoints)
}

/// What a watch of so many Services has heard.
pub(crate) fn index(services: usize) -> anyhow::Result<Index> {
    let objects = |index| [service(index, services), slice(index, services, ENDPOINTS)];
    cluster::index((0..services).flat_map(objects))
}
