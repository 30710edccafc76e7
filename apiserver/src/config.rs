use std::io;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use futures::future::BoxFuture;
use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncWrite};

/// A connection to a node's kubelet API.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Opens a connection to the kubelet API of the node of that name.
pub type Kubelet = Arc<dyn Fn(&str) -> BoxFuture<'static, io::Result<Box<dyn Io>>> + Send + Sync>;

/// What an [`ApiServer`](crate::ApiServer) has to know.
#[derive(Clone)]
pub struct Config {
    /// Where Services get their addresses from: one range, or one of each family; that of the first is the default.
    pub services: Vec<IpNet>,
    /// Where Services get their node ports from.
    pub node_ports: RangeInclusive<u16>,
    /// How nodes are reached for logs, exec, attach and port-forward.
    pub kubelet: Kubelet,
}

impl Default for Config {
    /// The ranges of Kubernetes, and no node in reach.
    fn default() -> Self {
        Config {
            services: vec![IpNet::new_assert(Ipv4Addr::new(10, 96, 0, 0).into(), 12)],
            node_ports: 30000..=32767,
            kubelet: Arc::new(|node: &str| {
                let error = io::Error::new(io::ErrorKind::NotConnected, format!("no way to node {node}"));
                Box::pin(async move { Err(error) })
            }),
        }
    }
}
