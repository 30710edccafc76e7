//! A Node: where its NodePorts and pods are.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::NodeSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use crate::Key;
use crate::service::key;

/// The taint of a node whose machine the cluster's autoscaler takes away.
const LEAVING: &str = "ToBeDeletedByClusterAutoscaler";
/// The label of a node that load balancers are to leave out.
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// A Node as the network sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name; the namespace is empty.
    pub key: Key,
    /// Its internal addresses, then its external ones.
    pub addresses: Vec<IpAddr>,
    /// The label `topology.kubernetes.io/zone`.
    pub zone: Option<Arc<str>>,
    /// The ranges that its pods' addresses come from, at most one of each family.
    pub pod_cidrs: Vec<IpNet>,
    /// Its condition `Ready`.
    pub ready: bool,
    /// It is being deleted, or the cluster's autoscaler is about to take its machine away: load
    /// balancers should not send it new connections (KEP-3836).
    pub leaving: bool,
    /// The label `node.kubernetes.io/exclude-from-external-load-balancers`, whatever its value.
    pub excluded: bool,
}

/// What is read of a Node's status; the list of its images alone can be many kilobytes.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Status {
    addresses: Option<Vec<NodeAddress>>,
    conditions: Option<Vec<Condition>>,
}

#[derive(Debug, Clone, Deserialize)]
struct NodeAddress {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

/// One condition of a Node or a Pod.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

/// True when the condition `Ready` is.
pub(crate) fn ready(conditions: &Option<Vec<Condition>>) -> bool {
    conditions.iter().flatten().any(|c| c.kind == "Ready" && c.status == "True")
}

impl Node {
    pub(crate) fn read(meta: &ObjectMeta, spec: &NodeSpec, status: &Status) -> Self {
        let of = |kind: &'static str| status.addresses.iter().flatten().filter(move |a| a.kind == kind);
        let addresses = of("InternalIP").chain(of("ExternalIP")).filter_map(|a| a.address.parse().ok());
        let label = |name| meta.labels.as_ref().and_then(|labels| labels.get(name));
        let zone = label("topology.kubernetes.io/zone");
        // The first of several is in both fields.
        let single = spec.pod_cidr.iter().filter(|_| spec.pod_cidrs.is_none());
        let ranges = single.chain(spec.pod_cidrs.iter().flatten());
        Node {
            key: key(meta),
            addresses: addresses.collect(),
            zone: zone.map(|zone| zone.as_str().into()),
            pod_cidrs: ranges.filter_map(|range| range.parse().ok()).collect(),
            ready: ready(&status.conditions),
            leaving: meta.deletion_timestamp.is_some()
                || spec.taints.iter().flatten().any(|taint| taint.key == LEAVING),
            excluded: label(EXCLUDED).is_some(),
        }
    }
}
