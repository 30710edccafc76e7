//! A Pod: the few of its fields that names and addresses need.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use crate::Key;
use crate::node::{Condition, ready};
use crate::service::key;

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
    /// Its condition `Ready`.
    pub ready: bool,
}

/// What is read of a Pod's spec: all else is skipped as the JSON is parsed.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Spec {
    node_name: Option<Arc<str>>,
    hostname: Option<Arc<str>>,
    subdomain: Option<Arc<str>>,
    host_network: Option<bool>,
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
            hostname: spec.hostname,
            subdomain: spec.subdomain,
            node: spec.node_name,
            ready: ready(&status.conditions),
        }
    }
}
