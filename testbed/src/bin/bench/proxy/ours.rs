//! The planes under measure: the only place that knows how they are made.

use std::net::SocketAddr;
use std::sync::Arc;

use proxy::kernel::{Config, Plane};
use proxy::user;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::cluster;
use super::topology::NODE;

/// The kernel plane in this network namespace, with nothing loaded yet.
pub(crate) fn kernel() -> anyhow::Result<Plane> {
    Ok(Plane::open(Config {
        cluster_id: "be9c41".into(),
        node_name: "node".into(),
        node_addresses: vec![NODE.into()],
        pod_cidrs: vec!["10.244.0.0/15".parse()?],
        service_cidrs: vec!["10.96.0.0/12".parse()?],
        dns: Vec::new(),
        local: Vec::new(),
        own_network: true,
        keep: false,
    })?)
}

/// The user-space plane at the node's address; says a line as soon as it answers, and ends when it is killed.
pub(crate) fn relay() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut config = user::Config::local("node");
        config.addresses = vec![NODE.into()];
        let (snapshots, receiver) = watch::channel(cluster::index(1)?.snapshot());
        let relays = tokio::spawn(user::Relays::new(config).run(receiver, CancellationToken::new()));
        let port = SocketAddr::from((NODE, cluster::NODE_PORT));
        while tokio::net::TcpStream::connect(port).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        println!("ready");
        relays.await?;
        drop::<watch::Sender<Arc<_>>>(snapshots);
        Ok(())
    })
}
