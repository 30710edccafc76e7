//! A Pod: the few of its fields that names and addresses need.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use crate::node::{Condition, ready};
use crate::service::{key, number};
use crate::{Key, Protocol};

/// A Pod as the network sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Namespace and name.
    pub key: Key,
    /// Its addresses; none before it has one and after it has finished.
    pub ips: Vec<IpAddr>,
    /// True when its addresses are those of its node.
    pub host_network: bool,
    /// `spec.hostname`.
    pub hostname: Option<Arc<str>>,
    /// `spec.subdomain`.
    pub subdomain: Option<Arc<str>>,
    /// The node it is bound to.
    pub node: Option<Arc<str>>,
    /// The ports of its node that lead to it; none where its ports are the node's anyway.
    pub host_ports: Vec<HostPort>,
    /// Its condition `Ready`.
    pub ready: bool,
}

/// `hostPort` of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// `hostIP`; none means every address of the node.
    pub address: Option<IpAddr>,
    /// Its transport.
    pub protocol: Protocol,
    /// The node's port.
    pub port: u16,
    /// The pod's port.
    pub target: u16,
}

/// What is read of a Pod's spec: all else is skipped as the JSON is parsed.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Spec {
    node_name: Option<Arc<str>>,
    hostname: Option<Arc<str>>,
    subdomain: Option<Arc<str>>,
    host_network: Option<bool>,
    containers: Option<Vec<Container>>,
    init_containers: Option<Vec<Container>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Container {
    restart_policy: Option<String>,
    ports: Option<Vec<ContainerPort>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ContainerPort {
    container_port: i32,
    host_port: Option<i32>,
    #[serde(rename = "hostIP")]
    host_ip: Option<String>,
    protocol: Option<String>,
}

impl Spec {
    /// The ports of the containers that run for as long as the Pod does (sidecars: KEP-753).
    fn host_ports(&self) -> Vec<HostPort> {
        let sidecars = self.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
        let containers = self.containers.iter().flatten().chain(sidecars);
        let ports = containers.flat_map(|container| container.ports.iter().flatten());
        ports.filter_map(ContainerPort::read).collect()
    }
}

impl ContainerPort {
    fn read(&self) -> Option<HostPort> {
        let address: Option<IpAddr> = self.host_ip.as_deref().and_then(|ip| ip.parse().ok());
        Some(HostPort {
            address: address.filter(|address| !address.is_unspecified()),
            protocol: Protocol::parse(self.protocol.as_deref()),
            port: self.host_port.and_then(number)?,
            target: number(self.container_port)?,
        })
    }
}

/// What is read of a Pod's status.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Status {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Option<Vec<PodIp>>,
    conditions: Option<Vec<Condition>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct PodIp {
    ip: String,
}

impl Pod {
    pub(crate) fn read(meta: &ObjectMeta, spec: Spec, status: &Status) -> Self {
        let finished = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        let mut ips: Vec<IpAddr> = Vec::new();
        for ip in status.pod_ip.iter().chain(status.pod_ips.iter().flatten().map(|p| &p.ip)).filter(|_| !finished) {
            match ip.parse() {
                Ok(ip) if !ips.contains(&ip) => ips.push(ip),
                _ => {}
            }
        }
        Pod {
            key: key(meta),
            ips,
            host_network: spec.host_network == Some(true),
            host_ports: if spec.host_network == Some(true) || finished { Vec::new() } else { spec.host_ports() },
            hostname: spec.hostname,
            subdomain: spec.subdomain,
            node: spec.node_name,
            ready: ready(&status.conditions),
        }
    }
}
