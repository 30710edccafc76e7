//! The planes under measure: the only place that knows how they are made.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use proxy::kernel::{Config, Plane};
use proxy::{bpf, user};
use state::Snapshot;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::cluster;
use super::topology::NODE;

/// The cluster's id, and the address of its DNS, which its node answers.
const ID: &str = "be9c41";
const DNS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10));

/// The kernel plane in this network namespace, with nothing loaded yet.
pub(crate) fn kernel() -> anyhow::Result<Plane> {
    Ok(Plane::open(Config {
        cluster_id: ID.into(),
        node_name: "node".into(),
        node_addresses: vec![NODE.into()],
        pod_cidrs: vec!["10.244.0.0/15".parse()?],
        service_cidrs: vec!["10.96.0.0/12".parse()?],
        dns: vec![DNS],
        local: Vec::new(),
        own_network: true,
        keep: false,
    })?)
}

/// The BPF plane, and the cgroup of its clients; both end with this value.
pub(crate) struct Sockets {
    plane: Option<bpf::Plane>,
    /// Where cgroups of version 2 are, and the cgroup.
    root: PathBuf,
    cgroup: PathBuf,
}

impl Sockets {
    pub(crate) fn open(services: usize, snapshot: &Arc<Snapshot>) -> anyhow::Result<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        let mount = mounts.lines().find(|line| line.contains(" - cgroup2 ")).context("no cgroups of version 2")?;
        let root = PathBuf::from(mount.split(' ').nth(4).context("no mount point")?);
        // One cluster has one cgroup on a machine.
        let cluster_id = format!("b{services:05}");
        let cgroup = root.join(format!("coracle-{cluster_id}"));
        let plane = bpf::Plane::open(bpf::Config { cluster_id, node_name: "node".into(), local: vec![DNS] })?;
        let mut this = Self { plane: Some(plane), root, cgroup };
        this.plane.as_mut().context("no plane")?.apply(snapshot)?;
        Ok(this)
    }

    /// This process is a pod's until the value ends; sockets stay what they were made as.
    pub(crate) fn enter(&self) -> anyhow::Result<Inside<'_>> {
        join(&self.cgroup)?;
        Ok(Inside(self))
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        let removed = self.plane.take().map(bpf::Plane::remove);
        removed.and_then(Result::err).iter().for_each(|error| eprintln!("failed to {error}"));
    }
}

/// Being in the cgroup of pods.
pub(crate) struct Inside<'a>(&'a Sockets);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let left = join(&self.0.root);
        left.err().iter().for_each(|error| eprintln!("{error:#}"));
    }
}

fn join(cgroup: &Path) -> anyhow::Result<()> {
    std::fs::write(cgroup.join("cgroup.procs"), "0").with_context(|| format!("enter {}", cgroup.display()))
}

/// The user-space plane at the node's address, on one thread as the programs beside it; says a line as soon as it
/// answers, and ends when it is killed.
pub(crate) fn relay() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
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
