//! Both halves together, on a host or with the node isolated.

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, UdpSocket},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use futures::FutureExt as _;
use k8s_openapi::api::core::v1::Node;
use kube::{Api, runtime::wait::await_condition};
use rustix::net::{AddressFamily, SocketType, bind, socket, sockopt};
use state::Snapshot;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{Control, Puller, Worker, control::Listeners, worker::pull};
use crate::{
    config::Options,
    data::{Dir, Lock},
    isolated::{self, Inside, Namespaces},
};

/// DNS sockets that share the port, one for each core up to this many.
const DNS_SOCKETS: usize = 2;

/// How long the node may take to be ready.
const READY: Duration = Duration::from_secs(30);

/// A cluster whose ports are taken, addresses known and network set up.
pub struct Cluster {
    options: Options,
    half: Half,
    core: Core,
    _lock: Lock,
}

/// Where the node is.
enum Half {
    Here(Worker),
    Inside(Namespaces, Inside, std::os::unix::net::UnixStream),
}

/// What is in this process wherever the node is.
struct Core {
    control: Control,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    dns: dns::Server,
    /// Ends the watch behind the Snapshots, DNS and the relays.
    stop: CancellationToken,
}

impl Cluster {
    /// Takes the directory's lock and all ports, and sets up the node's network. `progress` is told the steps.
    ///
    /// # Errors
    /// Anything that is taken, missing or forbidden, with what to do about it; nothing is left then.
    pub async fn bind(options: Options, progress: &(dyn Fn(&str) + Sync)) -> anyhow::Result<Self> {
        options.check()?;
        if !options.isolated && !rustix::process::geteuid().is_root() {
            bail!("a node on this machine's network needs root: use sudo, or `--isolated`, which needs none");
        }
        let dir = Dir::new(&options.data_dir)?;
        let lock = dir.lock()?;
        let config = options.node(&dir, dir.id()?);
        progress("taking the API server's port");
        let listeners = Listeners::bind(&options)?;
        let opening = tokio::task::spawn_blocking({
            let (options, dir) = (options.clone(), dir.clone());
            move || Control::bind(&options, &dir, listeners)
        });
        progress("setting up the node's network");
        let half = if options.isolated {
            let (namespaces, inside, pulls) = isolated::start(&config).await?;
            Half::Inside(namespaces, inside, pulls)
        } else {
            Half::Here(Worker::bind(config, puller(&dir)?).await?)
        };
        progress("opening the store");
        let core = match opening.await? {
            Ok(control) => Core::bind(&options, &half, control).await,
            Err(error) => Err(error),
        };
        match core {
            Ok(core) => Ok(Self { options, half, core, _lock: lock }),
            Err(error) => {
                if let Half::Here(worker) = half {
                    worker.teardown().await?;
                }
                Err(error)
            }
        }
    }

    /// Where the host reaches the API server.
    #[must_use]
    pub fn api(&self) -> SocketAddr {
        self.core.control.api
    }

    /// The node's address.
    #[must_use]
    pub fn node(&self) -> Ipv4Addr {
        match &self.half {
            Half::Here(worker) => worker.address(),
            Half::Inside(..) => self.options.node_ip.unwrap_or(crate::config::ISOLATED_NODE),
        }
    }

    /// A client in this process, with all rights.
    #[must_use]
    pub fn client(&self) -> kube::Client {
        self.core.control.client()
    }

    /// What was mended when the store was opened.
    #[must_use]
    pub fn recovered(&self) -> Option<&str> {
        self.core.control.recovered.as_deref()
    }

    /// The way into the isolated node's network.
    #[must_use]
    pub fn inside(&self) -> Option<Inside> {
        match &self.half {
            Half::Here(_) => None,
            Half::Inside(_, inside, _) => Some(inside.clone()),
        }
    }

    /// Runs everything until `shutdown`: first the pods are stopped, last the store is closed.
    ///
    /// # Errors
    /// When a part fails; the others are stopped then.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let Core { control, snapshots, dns, stop } = self.core;
        let client = control.client();
        let control_stop = CancellationToken::new();
        let control = tokio::spawn(control.run(control_stop.clone()));
        let mut services = JoinSet::new();
        let dns_stop = stop.clone();
        services.spawn(async move { dns.run(dns_stop).await.map_err(anyhow::Error::from) });
        let mut relays = proxy::user::Config::local(&self.options.node_name);
        let node = match self.half {
            Half::Here(worker) => worker.run_with(client, snapshots.clone(), shutdown).boxed(),
            Half::Inside(namespaces, inside, pulls) => {
                through(&mut relays, &inside);
                let images = image::Store::open(&self.options.data_dir.join("images"))?;
                services.spawn(isolated::serve_pulls(pulls, images));
                run_inside(namespaces, inside, shutdown).boxed()
            }
        };
        services.spawn(proxy::user::Relays::new(relays).run(snapshots, stop.clone()).map(Ok));
        let result = node.await;
        stop.cancel();
        while let Some(ended) = services.join_next().await {
            if let Ok(Err(error)) = ended {
                tracing::warn!("{error:#}");
            }
        }
        control_stop.cancel();
        control.await??;
        result
    }
}

impl Core {
    async fn bind(options: &Options, half: &Half, mut control: Control) -> anyhow::Result<Self> {
        let api = options.api(control.api.port());
        let dns = SocketAddrV4::new(options.dns(), 53);
        let (listener, sockets) = match half {
            Half::Here(_) if options.listens_everywhere().is_some() => (Ok(None), host_sockets(dns)),
            Half::Here(_) => (TcpListener::bind(api).map(Some), host_sockets(dns)),
            Half::Inside(_, inside, _) => (inside.listen(api).await.map(Some), inside_sockets(inside, dns).await),
        };
        let listener = listener.with_context(|| format!("listen on {api} for pods that ask the API server"))?;
        listener.into_iter().for_each(|listener| control.listen(listener));
        let sockets = sockets.with_context(|| format!("listen on {dns} for DNS"))?;
        let config = dns::Config {
            cluster_domain: options.cluster_domain.clone(),
            address: Some(options.dns()),
            upstreams: dns::host_resolvers(),
            ..dns::Config::default()
        };
        let stop = CancellationToken::new();
        let snapshots = state::watch(control.client(), stop.clone());
        let dns = dns::Server::new(config, sockets, snapshots.clone()).context("start DNS")?;
        Ok(Self { control, snapshots, dns, stop })
    }
}

/// Waits until the node is ready.
///
/// # Errors
/// When it is not in time, or the API server is gone.
pub async fn node_ready(client: kube::Client, name: &str) -> anyhow::Result<()> {
    let ready = |node: Option<&Node>| {
        let conditions = node.and_then(|node| node.status.as_ref()?.conditions.as_ref());
        conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
    };
    let waited = tokio::time::timeout(READY, await_condition(Api::<Node>::all(client), name, ready)).await;
    waited.with_context(|| format!("node {name} is not ready after {READY:?}"))??;
    Ok(())
}

fn puller(dir: &Dir) -> anyhow::Result<Puller> {
    let images = image::Store::open(&dir.join("images"))?;
    Ok(Arc::new(move |reference, credentials| {
        let images = images.clone();
        async move { pull(&images, &reference, credentials).await }.boxed()
    }))
}

async fn inside_sockets(inside: &Inside, address: SocketAddrV4) -> std::io::Result<dns::Sockets> {
    let mut udp = Vec::new();
    for _ in 0..DNS_SOCKETS {
        udp.push(inside.bind(address).await?);
    }
    Ok(dns::Sockets { udp, tcp: vec![inside.listen(address).await?] })
}

fn host_sockets(address: SocketAddrV4) -> std::io::Result<dns::Sockets> {
    let datagrams = || -> std::io::Result<UdpSocket> {
        let fd = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
        sockopt::set_socket_reuseport(&fd, true)?;
        bind(&fd, &address)?;
        Ok(UdpSocket::from(fd))
    };
    let udp = std::iter::repeat_with(datagrams).take(DNS_SOCKETS).collect::<Result<_, _>>()?;
    Ok(dns::Sockets { udp, tcp: vec![TcpListener::bind(address)?] })
}

/// Lets relayed connections start inside.
fn through(relays: &mut proxy::user::Config, inside: &Inside) {
    let (tcp, udp) = (inside.clone(), inside.clone());
    relays.connect = Arc::new(move |to| {
        let inside = tcp.clone();
        async move { inside.connect(to).await }.boxed()
    });
    relays.associate = Arc::new(move |to| {
        let inside = udp.clone();
        async move {
            let socket = inside.udp().await?;
            socket.set_nonblocking(true)?;
            socket.connect(to)?;
            tokio::net::UdpSocket::from_std(socket)
        }
        .boxed()
    });
}

async fn run_inside(mut namespaces: Namespaces, inside: Inside, shutdown: CancellationToken) -> anyhow::Result<()> {
    inside.start().await.context("start the isolated node")?;
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = namespaces.ended() => bail!("the isolated node ended unexpectedly; its log is above"),
    }
    namespaces.stop(&inside).await;
    Ok(())
}
