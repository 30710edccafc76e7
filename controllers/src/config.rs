//! What the controllers are told about the cluster.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use ipnet::Ipv4Net;

/// The facts and limits that the controllers work by.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where pods reach the API server: the endpoint of the `kubernetes` Service.
    pub api: SocketAddrV4,
    /// The range that ClusterIPs come from; its first address is the `kubernetes` Service's.
    pub services: Ipv4Net,
    /// The range that nodes get their pod ranges from.
    pub pods: Ipv4Net,
    /// The prefix length of one node's pod range.
    pub node_prefix: u8,
    /// The CA certificate (PEM) that is published in each namespace as `kube-root-ca.crt`.
    pub ca: Option<String>,
    /// How long a node may leave its Lease unrenewed before it is Unknown (kube-controller-manager's
    /// `--node-monitor-grace-period`).
    pub node_grace: Duration,
    /// How many finished pods may stay before the oldest are deleted (`--terminated-pod-gc-threshold`).
    pub finished_pods: usize,
    /// How long a node may be gone before the pods bound to it are removed by force.
    pub gone_node_grace: Duration,
}

impl Config {
    /// The defaults of Kubernetes, with the API server at `api`.
    pub fn new(api: SocketAddrV4) -> Config {
        Config {
            api,
            services: Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 12),
            pods: Ipv4Net::new_assert(Ipv4Addr::new(10, 244, 0, 0), 16),
            node_prefix: 24,
            ca: None,
            node_grace: Duration::from_secs(40),
            finished_pods: 12_500,
            gone_node_grace: Duration::from_secs(40),
        }
    }
}
