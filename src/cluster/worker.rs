//! The node's half: its network, its agent, and the kernel's data plane.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use anyhow::Context as _;
use futures::future::BoxFuture;
use image::Credentials;
use node::{Agent, Network, NetworkConfig};
use proxy::{
    Metrics,
    announce::{self, Announcer},
    health,
    kernel::Plane,
};
use state::{Kind, Scope, Snapshot};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{config::NodeConfig, unix};

/// Brings an image into the store; the error is a text for an event.
pub(crate) type Puller =
    Arc<dyn Fn(String, Option<Credentials>) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// The image that is inside the binary.
const BUILTIN: &str = "coracle/echo";

/// A node whose network is set up.
pub(crate) struct Worker {
    config: NodeConfig,
    network: Network,
    /// The node's, the one of IPv4 first.
    addresses: Vec<IpAddr>,
    images: image::Store,
    /// Puts the built-in image into the store, beside all else that has to be done first.
    builtin: JoinHandle<Result<(), image::Error>>,
    pull: Puller,
}

impl Worker {
    /// Sets up the node's network in the current namespace, and the image store.
    ///
    /// # Errors
    /// No privilege, a range that is in use, a directory that cannot be written.
    pub(crate) async fn bind(config: NodeConfig, pull: Puller) -> anyhow::Result<Self> {
        let images = image::Store::open(&config.data_dir.join("images"))?;
        let builtin = tokio::task::spawn_blocking({
            let images = images.clone();
            move || images.add_builtin(BUILTIN, &std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into()))
        });
        let network = Network::setup(NetworkConfig {
            cluster_id: config.cluster_id.clone(),
            service_cidr: config.service_cidr,
            pod_cidr: config.cluster_cidr,
            dns_address: config.dns,
            gateway: config.gateway,
            node_address: config.node_ip,
            data_dir: config.data_dir.join("node"),
        })
        .await
        .context("set up the node's network")?;
        let addresses = [network.node_address().into()].into_iter().chain(config.node_ip_v6()).collect();
        Ok(Self { config, network, addresses, images, builtin, pull })
    }

    /// The node's address.
    #[must_use]
    pub(crate) fn address(&self) -> Ipv4Addr {
        self.network.node_address()
    }

    /// All of the node's addresses: one of IPv6, too, where Services have some.
    #[must_use]
    pub(crate) fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// Runs pods until `shutdown`, over the API server's Unix socket.
    ///
    /// # Errors
    /// What [`Self::run_with`] says.
    pub(crate) async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let client = unix::client(self.config.data_dir.join("run/api.sock"), "kubelet");
        let watching = CancellationToken::new();
        let scope = Scope { kinds: vec![Kind::Service, Kind::Slice, Kind::Node, Kind::Pod], ..Scope::default() };
        let snapshots = state::watch(client.clone(), scope, watching.clone());
        let result = self.run_with(client, snapshots, shutdown).await;
        watching.cancel();
        result
    }

    /// Runs pods and the kernel's data plane until `shutdown`; stops the pods and removes all that was made.
    ///
    /// # Errors
    /// When the kernel lacks what the data plane needs, or something could not be removed.
    pub(crate) async fn run_with(
        mut self,
        client: kube::Client,
        snapshots: watch::Receiver<Arc<Snapshot>>,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let announcer = Announcer::new(self.announced()).telling(client.clone());
        let (plane, agent) = match self.prepare(client).await {
            Ok(parts) => parts,
            Err(error) => {
                self.teardown().await?;
                return Err(error);
            }
        };
        // Pods are stopped while their Services still work.
        let unneeded = CancellationToken::new();
        let sockets = at_sockets(self.config.bpf, self.sockets(), snapshots.clone(), unneeded.clone());
        let sockets = tokio::spawn(sockets);
        let metrics = Arc::<Metrics>::default();
        let health = health::Server::new(self.health(), metrics.clone(), snapshots.clone());
        let health = tokio::spawn(health.run(unneeded.clone()));
        // What comes for an address finds rules for it.
        let announcer = tokio::spawn(announcer.run(plane.applied(), unneeded.clone()));
        let plane = tokio::spawn(plane.counting(metrics).run(snapshots, unneeded.clone()));
        let ran = agent.run(shutdown).await;
        unneeded.cancel();
        announcer.await?;
        health.await?;
        let removed = plane.await?;
        sockets.await?;
        self.teardown().await?;
        ran.context("run pods")?;
        removed.context("remove the kernel's data plane")
    }

    async fn prepare(&mut self, client: kube::Client) -> anyhow::Result<(Plane, Agent)> {
        let (address, config) = (self.address(), &self.config);
        let plane = proxy::kernel::Config {
            cluster_id: config.cluster_id.clone(),
            node_name: config.node_name.clone(),
            node_addresses: self.addresses.clone(),
            pod_cidrs: vec![config.cluster_cidr.into()],
            service_cidrs: [config.service_cidr.into()]
                .into_iter()
                .chain(config.service_cidr_v6.map(Into::into))
                .collect(),
            dns: vec![config.dns.into()],
            local: Vec::new(),
            own_network: true,
            keep: false,
        };
        let plane = tokio::task::spawn_blocking(|| Plane::open(plane)).await?;
        let plane = plane.context("set up the kernel's data plane")?;
        (&mut self.builtin).await?.context("make the built-in image")?;
        let agent = Agent::new(self.agent_config(address), self.images.clone(), client).await;
        Ok((plane, agent.context("start the node agent")?))
    }

    fn sockets(&self) -> proxy::bpf::Config {
        proxy::bpf::Config {
            cluster_id: self.config.cluster_id.clone(),
            node_name: self.config.node_name.clone(),
            local: vec![self.config.dns.into()],
        }
    }

    /// Where load balancers ask for the endpoints of a Service.
    fn health(&self) -> health::Config {
        health::Config {
            node_name: self.config.node_name.clone(),
            healthz: self.addresses.iter().map(|own| (*own, health::PORT).into()).collect(),
            for_nodes: true,
            metrics: None,
            addresses: self.addresses.clone(),
            mode: "nftables",
            eligible: Arc::new(true.into()),
        }
    }

    /// Which addresses of load balancers are this node's.
    fn announced(&self) -> announce::Config {
        announce::Config {
            node_name: self.config.node_name.clone(),
            skip_links: format!("cor{}", self.config.cluster_id),
        }
    }

    fn agent_config(&self, address: Ipv4Addr) -> node::Config {
        let config = &self.config;
        node::Config {
            node_name: config.node_name.clone(),
            node_address: address,
            more_addresses: self.addresses[1..].to_owned(),
            cluster_id: config.cluster_id.clone(),
            data_dir: config.data_dir.join("node"),
            pod_cidr: config.pod_cidr(),
            cluster_domain: config.cluster_domain.clone(),
            dns_address: config.dns,
            exe: "/proc/self/exe".into(),
            single_uid: config.single_uid,
            labels: Default::default(),
            pull: self.pull.clone(),
            kubelet_socket: config.data_dir.join("run/kubelet.sock"),
        }
    }

    /// Undoes [`Self::bind`].
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) async fn teardown(self) -> anyhow::Result<()> {
        self.network.teardown().await.context("remove the node's network")
    }
}

/// Spares the packets of pods the translation, where that is wanted and the kernel allows it; pods do not need it.
async fn at_sockets(
    wanted: bool,
    config: proxy::bpf::Config,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    shutdown: CancellationToken,
) {
    let open = move || match wanted {
        true => proxy::bpf::Plane::open(config).map(Some),
        // A process before this one may have left programs, which would lead to the endpoints of its time.
        false => proxy::bpf::cleanup(&config.cluster_id).map(|()| None),
    };
    let ran = match tokio::task::spawn_blocking(open).await {
        Ok(Ok(Some(plane))) => plane.run(snapshots, shutdown).await,
        Ok(Err(error)) => return tracing::debug!("failed to {error}; pods go to Services by nftables alone"),
        Ok(Ok(None)) | Err(_) => return,
    };
    if let Err(error) = ran {
        tracing::warn!("failed to {error}");
    }
}

/// Pulls unless the image was imported or is built in: then it is what its name means.
pub(crate) async fn pull(
    images: &image::Store,
    reference: &str,
    credentials: Option<Credentials>,
) -> Result<(), String> {
    if let Ok(Some(image)) = images.resolve(reference)
        && image.imported
    {
        return Ok(());
    }
    images.pull(reference, credentials).await.map(drop).map_err(|error| error.to_string())
}
