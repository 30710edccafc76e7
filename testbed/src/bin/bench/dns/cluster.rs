//! Clusters of many Services, and questions about them.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use serde_json::json;
use state::{Index, Object};

use crate::cluster;

/// The domain of all of them.
pub(crate) const DOMAIN: &str = "cluster.local";
/// Endpoints of each Service.
const ENDPOINTS: usize = 2;
/// The records of one Service: A, SRV of its port and PTR; A and PTR of each endpoint.
pub(crate) const RECORDS: usize = 3 + 2 * ENDPOINTS;
/// Namespaces that the Services are spread over.
const NAMESPACES: usize = 100;
/// The most names in one file of questions.
const NAMES: usize = 100_000;

/// The name of a Service and of its namespace.
fn key(index: usize) -> (String, String) {
    (format!("svc-{index}"), format!("ns-{}", index % NAMESPACES))
}

/// The domain name of a Service.
pub(crate) fn name(index: usize) -> String {
    let (service, namespace) = key(index);
    format!("{service}.{namespace}.svc.{DOMAIN}")
}

/// The address of a Service; each generation has another.
pub(crate) fn address(index: usize, generation: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a80_0000 + index as u32 + ((generation as u32 % 8) << 20))
}

/// A Service with a named port.
pub(crate) fn service(index: usize, generation: usize) -> anyhow::Result<Object> {
    let (name, namespace) = key(index);
    let address = address(index, generation);
    let ports = json!([{"name": "http", "port": 80}]);
    cluster::service(&namespace, &name, &json!({"clusterIP": address, "clusterIPs": [address], "ports": ports}))
}

fn slice(index: usize) -> anyhow::Result<Object> {
    let (name, namespace) = key(index);
    let endpoint = |number: usize| {
        let address = Ipv4Addr::from_bits(0x0b00_0000 + (index * ENDPOINTS + number) as u32);
        let pod = json!({"kind": "Pod", "namespace": namespace, "name": format!("{name}-{number}")});
        json!({"addresses": [address], "conditions": {"ready": true}, "targetRef": pod})
    };
    let endpoints = (0..ENDPOINTS).map(endpoint).collect();
    cluster::slice(&namespace, &name, &json!([{"name": "http", "port": 8080}]), endpoints)
}

/// What a watch of so many Services has heard.
pub(crate) fn index(services: usize) -> anyhow::Result<Index> {
    cluster::index((0..services).flat_map(|index| [service(index, 0), slice(index)]))
}

/// Questions for the addresses of these names, as dnsperf reads them.
pub(crate) fn questions(names: impl Iterator<Item = String>) -> String {
    names.fold(String::new(), |mut text, name| {
        let _ = writeln!(text, "{name} A");
        text
    })
}

/// The names of so many Services, in no order.
pub(crate) fn names(services: usize) -> impl Iterator<Item = String> {
    // A step that has no divisor in common with the number goes once over all of them.
    (0..services.min(NAMES)).map(move |at| name(at * 7919 % services))
}

/// Names that are not there.
pub(crate) fn missing(services: usize) -> impl Iterator<Item = String> {
    (0..services).map(|index| format!("missing-{}", name(index)))
}
