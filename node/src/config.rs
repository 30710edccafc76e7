//! What the agent is told.

use futures::future::BoxFuture;
use ipnet::Ipv4Net;
use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::Arc,
};

/// Pulls an image into the store: reference, credentials. In the isolated shape another process,
/// which has the host's network, does it. The error is a text for an event.
pub type Pull = Arc<dyn Fn(String, Option<image::Credentials>) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// What [`crate::Agent::new`] has to know.
#[derive(Clone)]
pub struct Config {
    /// The Node object's name.
    pub node_name: String,
    /// The node's address, from [`crate::Network::node_address`].
    pub node_address: Ipv4Addr,
    /// Its further addresses, which the Node tells, too.
    pub more_addresses: Vec<IpAddr>,
    /// Six lower-case hex digits; part of the name of every link and cgroup.
    pub cluster_id: String,
    /// Where pods live: `pods/<uid>/…`. Absolute.
    pub data_dir: PathBuf,
    /// The node's own part of the pod range, a /24.
    pub pod_cidr: Ipv4Net,
    /// `cluster.local`.
    pub cluster_domain: String,
    /// The name server of pods.
    pub dns_address: Ipv4Addr,
    /// The program that is started as `exe shim DIR` for each pod.
    pub exe: PathBuf,
    /// This user namespace has one user only, its root: a container of another is refused with a
    /// message that says so.
    pub single_uid: bool,
    /// Labels of the Node beyond Kubernetes' own.
    pub labels: BTreeMap<String, String>,
    /// How images are pulled.
    pub pull: Pull,
    /// The Unix socket of the kubelet API; replaced when it is there.
    pub kubelet_socket: PathBuf,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("node_name", &self.node_name)
            .field("node_address", &self.node_address)
            .field("cluster_id", &self.cluster_id)
            .field("data_dir", &self.data_dir)
            .finish_non_exhaustive()
    }
}
