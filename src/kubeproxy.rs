//! `coracle proxy`: the Services of any Kubernetes on this node; it takes kube-proxy's place.

use std::{
    future::pending,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, bail};
use ipnet::IpNet;
use proxy::{
    Metrics, health,
    kernel::{self, Plane},
    user,
};
use state::{Kind, Scope, Snapshot};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, interval},
};
use tokio_util::sync::CancellationToken;

use self::place::{NodePorts, Place, Wanted};
use crate::{client, config, progress::say, up::stop_signals};

mod place;
mod ranges;

/// How long the node's object may take to be there before the proxy goes on without.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the machine's addresses are looked at.
const LOOK: Duration = Duration::from_secs(10);

/// How long relayed connections may go on when the relays end.
const GRACE: Duration = Duration::from_secs(20);

/// Which cluster, which node of it, and how; under kube-proxy's names where it has them.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How to reach the API server. Else $KUBECONFIG, ~/.kube/config or, in a pod, its service account
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Name of this node. Else the machine's name in lower case
    #[arg(long, value_name = "NAME")]
    hostname_override: Option<String>,
    /// Addresses of the cluster's pods, one range for each family. Else those of this node's pods, as its object says
    #[arg(long, value_name = "CIDR,...", value_delimiter = ',')]
    cluster_cidr: Vec<IpNet>,
    /// Addresses of Services, one range for each family. Else what the cluster's ServiceCIDRs say
    #[arg(long, value_name = "CIDR,...", value_delimiter = ',')]
    service_cidr: Vec<IpNet>,
    /// At which of this machine's addresses NodePorts are: those in these ranges, or "primary", the node's own
    #[arg(long, value_name = "CIDR,...", default_value = "primary")]
    nodeport_addresses: NodePorts,
    /// How connections get to endpoints: "auto" is "user" where the kernel does not let it
    #[arg(long, alias = "proxy-mode", value_enum, default_value_t = config::Plane::Kernel)]
    plane: config::Plane,
    /// Where /healthz and /livez are; "" is nowhere
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:10256", value_parser = listen)]
    healthz_bind_address: Listen,
    /// Where /metrics, /proxyMode and /healthz are; "" is nowhere
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:10249", value_parser = listen)]
    metrics_bind_address: Listen,
    /// Part of the name of what is made on this machine; a proxy with the same one takes it over
    #[arg(long, value_name = "ID", default_value = "proxy", value_parser = cluster_id)]
    cluster_id: String,
    /// Remove what a proxy left on this machine, and say what it was
    #[arg(long)]
    cleanup: bool,
}

/// Where to listen, if at all; clap takes an `Option` for a flag that may be left out.
type Listen = std::option::Option<SocketAddr>;

/// Serves until SIGINT or SIGTERM. The rules stay then, so that Services go on until the next proxy takes them over.
///
/// # Errors
/// A kubeconfig that cannot be used, no privilege, a kernel that lacks something.
pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    if options.cleanup {
        return cleanup(options.cluster_id).await;
    }
    let shutdown = stop_signals()?;
    let client = client::connect(options.kubeconfig.as_deref()).await?;
    let name = options.hostname_override.clone().unwrap_or_else(hostname).trim().to_lowercase();
    tracing::info!("Coracle-{} is the proxy of the node {name}", env!("CARGO_PKG_VERSION"));
    let kinds = vec![Kind::Service, Kind::Slice, Kind::Node];
    let scope = Scope { kinds, node: Some(name.clone()), ..Scope::default() };
    let snapshots = state::watch(client.clone(), scope, shutdown.clone());
    let given = (!options.service_cidr.is_empty()).then(|| options.service_cidr.clone());
    let (known, ranges) = watch::channel(given.clone());
    let find = async {
        match given {
            None => ranges::follow(client, known).await,
            Some(_) => pending().await,
        }
    };
    let wanted = Wanted { node_ports: options.nodeport_addresses.clone(), pods: options.cluster_cidr.clone() };
    let (sender, places) = watch::channel(None);
    let proxy = Proxy { options, name, snapshots, eligible: Arc::default(), metrics: Arc::default() };
    tokio::select! {
        result = proxy.run(places, &shutdown) => result,
        () = proxy.locate(wanted, ranges, sender) => Ok(()),
        () = find => Ok(()),
    }
}

/// What serves Services.
enum Running {
    /// The kernel, with a way to other configurations.
    Kernel(watch::Sender<kernel::Config>, JoinHandle<Result<(), proxy::Error>>),
    /// Relays, with the way to their end.
    User(CancellationToken, JoinHandle<()>),
}

/// The proxy of a node.
struct Proxy {
    options: Options,
    name: String,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    eligible: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
}

impl Proxy {
    /// Serves at the places that come, one after the other, until `shutdown`.
    async fn run(
        &self,
        mut places: watch::Receiver<Option<Place>>,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<()> {
        let mut running = None;
        while !shutdown.is_cancelled() {
            let place = places.borrow_and_update().clone();
            if let Some(place) = &place {
                running = Some(self.go_on(running, place, shutdown).await?);
            }
            let relays = matches!(running, Some(Running::User(..))) || self.options.plane == config::Plane::User;
            let stop = shutdown.child_token();
            let health = self.health(place, if relays { "userspace" } else { "nftables" });
            let server = health::Server::new(health, self.metrics.clone(), self.snapshots.clone());
            let server = tokio::spawn(server.run(stop.clone()));
            tokio::select! {
                () = shutdown.cancelled() => {}
                _ = places.changed() => {}
            }
            stop.cancel();
            server.await?;
        }
        match running {
            Some(Running::Kernel(_, plane)) => Ok(plane.await??),
            Some(Running::User(_, relays)) => Ok(relays.await?),
            None => Ok(()),
        }
    }

    /// Goes on at another place: the kernel's plane follows, relays begin anew beside those that end.
    async fn go_on(
        &self,
        running: Option<Running>,
        place: &Place,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<Running> {
        let config = place.config(&self.options.cluster_id, &self.name);
        if let Some(Running::Kernel(configs, _)) = &running {
            configs.send_replace(config);
            return running.context("it runs");
        }
        if self.options.plane != config::Plane::User {
            let (sender, configs) = watch::channel(config.clone());
            match tokio::task::spawn_blocking(|| Plane::open(config)).await? {
                Ok(plane) => {
                    let plane = plane.counting(self.metrics.clone()).follow_configs(configs);
                    let plane = tokio::spawn(plane.run(self.snapshots.clone(), shutdown.clone()));
                    return Ok(Running::Kernel(sender, plane));
                }
                Err(error) if self.options.plane == config::Plane::Auto => {
                    tracing::warn!(
                        "failed to {error}; Services are served by relays, at this machine's addresses only"
                    );
                }
                Err(error) => return Err(error).context("open the kernel's plane"),
            }
        }
        let relays = user::Config {
            addresses: [Ipv4Addr::LOCALHOST.into()].into_iter().chain(place.addresses.iter().copied()).collect(),
            service_addresses: true,
            grace: GRACE,
            ..user::Config::local(&self.name).reuse_port()
        };
        let stop = shutdown.child_token();
        let relays = tokio::spawn(user::Relays::new(relays).run(self.snapshots.clone(), stop.clone()));
        if let Some(Running::User(before, _)) = running {
            before.cancel();
        }
        Ok(Running::User(stop, relays))
    }

    fn health(&self, place: Option<Place>, mode: &'static str) -> health::Config {
        health::Config {
            node_name: self.name.clone(),
            healthz: self.options.healthz_bind_address.into_iter().collect(),
            for_nodes: false,
            metrics: self.options.metrics_bind_address,
            addresses: place.map(|place| place.addresses).unwrap_or_default(),
            mode,
            eligible: self.eligible.clone(),
        }
    }

    /// Finds out for ever where the proxy is: from the node's object, the machine and the cluster's ranges.
    async fn locate(
        &self,
        wanted: Wanted,
        mut ranges: watch::Receiver<Option<Vec<IpNet>>>,
        places: watch::Sender<Option<Place>>,
    ) {
        let mut snapshots = self.snapshots.clone();
        let mut look = interval(LOOK);
        let begin = Instant::now();
        let mut complaint = String::new();
        loop {
            tokio::select! {
                Ok(()) = snapshots.changed() => {}
                Ok(()) = ranges.changed() => {}
                _ = look.tick() => {}
            }
            let (snapshot, services) = (snapshots.borrow_and_update().clone(), ranges.borrow_and_update().clone());
            let node = snapshot.node(&self.name);
            self.eligible.store(node.is_some_and(|node| !node.leaving), Ordering::Relaxed);
            let Some(services) = services.filter(|_| snapshot.synced) else { continue };
            let mut complain = |text: String| {
                if complaint != text {
                    tracing::warn!("{text}");
                    complaint = text;
                }
            };
            if node.is_none() {
                complain(format!("there is no Node {}; --hostname-override says which one this is", self.name));
                if begin.elapsed() < PATIENCE {
                    continue;
                }
            }
            match wanted.place(node.map(AsRef::as_ref), &machine().await, services) {
                Some(place) => {
                    places.send_if_modified(|old| {
                        let differs = old.as_ref() != Some(&place);
                        *old = Some(place);
                        differs
                    });
                }
                None => complain("this machine has none of the wanted addresses: nothing is served".into()),
            }
        }
    }
}

/// The addresses of this machine, those first by which others reach it.
async fn machine() -> Vec<IpAddr> {
    node::machine_addresses().await.unwrap_or_else(|error| {
        tracing::warn!("{error}");
        Vec::new()
    })
}

/// Removes what a proxy left, and says what it was.
async fn cleanup(id: String) -> anyhow::Result<()> {
    let removed =
        tokio::task::spawn_blocking(move || kernel::cleanup(&id)).await?.context("remove what a proxy left")?;
    match removed.is_empty() {
        true => say("nothing of a proxy is on this machine"),
        false => removed.iter().for_each(|what| say(format_args!("removed {what}"))),
    }
    Ok(())
}

/// The machine's name.
fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn listen(text: &str) -> anyhow::Result<Listen> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).context("expected ADDRESS:PORT, like 0.0.0.0:10256")
}

fn cluster_id(text: &str) -> anyhow::Result<String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if text.is_empty() || text.len() > 16 || !text.chars().all(allowed) {
        bail!("expected up to 16 lower-case letters and digits");
    }
    Ok(text.to_owned())
}
