//! A cluster with a node: both halves together, on a host or with the node isolated.
//!
//! bind → run → drain. What can fail is bound first; what has begun ends in the opposite order.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    sync::{Arc, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, bail};
use apiserver::Identity;
use futures::{FutureExt as _, future::BoxFuture};
use k8s_openapi::api::core::v1::Node;
use kube::{Api, runtime::wait::await_condition};
use state::Snapshot;
use tokio::{net::UnixStream, runtime::Handle, sync::watch, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Cluster, Control, Puller, Settings, Worker,
    coredns::CoreDns,
    ingress,
    listen::{self, Listeners},
    worker::pull,
};
use crate::{
    config::Options,
    data::Dir,
    isolated::{self, Inside, Namespaces},
};

/// How long the node may take to be ready.
const READY: Duration = Duration::from_secs(30);

/// Where a cluster with a node is.
pub(super) struct Place {
    api: SocketAddr,
    name: String,
    address: Ipv4Addr,
    inside: Option<Inside>,
    /// A process in an isolated node's namespaces.
    process: Option<u32>,
}

/// The node's half of a cluster.
enum Half {
    Here(Worker),
    Inside(Namespaces, Inside, std::os::unix::net::UnixStream),
}

impl Half {
    /// Undoes what was bound on a host; namespaces end by themselves.
    async fn teardown(self) -> anyhow::Result<()> {
        match self {
            Half::Here(worker) => worker.teardown().await,
            Half::Inside(..) => Ok(()),
        }
    }
}

/// What is in this process wherever the node is.
struct Services {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    dns: CoreDns,
    /// The balancer, which gives Services addresses, and the Ingress controller.
    doors: [BoxFuture<'static, ()>; 2],
    /// Ends the watch behind the Snapshots, DNS, the relays and the doors.
    stop: CancellationToken,
}

/// With a node.
impl Cluster {
    /// Takes the directory's lock and all ports, sets up the node's network, and starts everything. `progress` is told
    /// the steps.
    ///
    /// # Errors
    /// Anything that is taken, missing or forbidden, with what to do about it; nothing is left then.
    pub(crate) async fn with_node(options: Options, progress: &(dyn Fn(&str) + Sync)) -> anyhow::Result<Self> {
        options.check()?;
        if !options.isolated && !rustix::process::geteuid().is_root() {
            bail!("a node on this machine's network needs root: use sudo, or `--isolated`, which needs none");
        }
        let dir = Dir::new(&options.data_dir)?;
        let lock = dir.lock()?;
        let config = options.node(&dir, dir.id()?);
        progress("taking the API server's port");
        let listeners = Listeners::bind(&options)?;
        let api = listeners.api;
        let settings = settings(&options, &dir, api);
        let opening = tokio::task::spawn_blocking(|| Control::open(settings));
        progress("setting up the node's network");
        let half = if options.isolated {
            let (namespaces, inside, pulls) = isolated::start(&config, &options.binary).await?;
            Half::Inside(namespaces, inside, pulls)
        } else {
            Half::Here(Worker::bind(config, puller(&dir)?).await?)
        };
        progress("opening the store");
        let bound = match opening.await? {
            Ok(control) => begin(&options, &dir, &half, &control, listeners).await.map(|services| (control, services)),
            Err(error) => Err(error),
        };
        let (control, services) = match bound {
            Ok(bound) => bound,
            Err(error) => {
                half.teardown().await?;
                return Err(error);
            }
        };
        let place = Place::of(&options, api, &half);
        let stop = CancellationToken::new();
        let (running, shutdown) = (control.clone(), stop.clone());
        let running = tokio::spawn(async move {
            let _lock = lock;
            let result = run(options, half, services, running.component("kubelet"), shutdown).await;
            running.end().await;
            result
        });
        let mut cluster = Self::new(control, stop, running);
        *cluster.access.get_mut().unwrap_or_else(PoisonError::into_inner) = Some(cluster.control.access(api)?);
        cluster.place = Some(place);
        Ok(cluster)
    }

    /// Where the host reaches the API server, unless there is no node.
    #[must_use]
    pub fn api(&self) -> Option<SocketAddr> {
        self.place.as_ref().map(|place| place.api)
    }

    /// The node's address.
    #[must_use]
    pub fn node(&self) -> Option<Ipv4Addr> {
        self.place.as_ref().map(|place| place.address)
    }

    /// The way into an isolated node's network.
    #[must_use]
    pub fn inside(&self) -> Option<Inside> {
        self.place.as_ref()?.inside.clone()
    }

    /// A process in an isolated node's namespaces.
    pub(crate) fn process_inside(&self) -> Option<u32> {
        self.place.as_ref()?.process
    }

    /// Waits until the node is ready; at once when there is none.
    ///
    /// # Errors
    /// When it is not in time, or the API server is gone.
    pub fn node_ready(&self) -> impl Future<Output = anyhow::Result<()>> + Send + use<> {
        let node = self.place.as_ref().map(|place| (Api::<Node>::all(self.client()), place.name.clone()));
        let ready = |node: Option<&Node>| {
            let conditions = node.and_then(|node| node.status.as_ref()?.conditions.as_ref());
            conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
        };
        async move {
            let Some((api, name)) = node else { return Ok(()) };
            let waited = timeout(READY, await_condition(api, &name, ready)).await;
            waited.with_context(|| format!("node {name} is not ready after {READY:?}"))??;
            Ok(())
        }
    }
}

impl Place {
    fn of(options: &Options, api: SocketAddr, half: &Half) -> Self {
        let (address, inside, process) = match half {
            Half::Here(worker) => (worker.address(), None, None),
            Half::Inside(namespaces, inside, _) => {
                let address = options.node_ip.unwrap_or(crate::config::ISOLATED_NODE);
                (address, Some(inside.clone()), namespaces.process())
            }
        };
        Self { api, name: options.node_name.clone(), address, inside, process }
    }
}

/// What the control plane of a cluster with a node is made of.
fn settings(options: &Options, dir: &Dir, api: SocketAddr) -> Settings {
    let mut controllers = controllers::Config::new(options.api(api.port()));
    controllers.services = options.services();
    controllers.pods = options.pod_cidr;
    Settings {
        directory: Some(dir.path().to_owned()),
        api: apiserver::Config {
            services: options.service_cidr.clone(),
            node_ports: options.node_ports.clone(),
            kubelet: kubelet(dir.kubelet_socket()),
        },
        controllers: Some(controllers),
        names: options.names(),
    }
}

/// Makes what is left to be made, and lets the control plane begin.
async fn begin(
    options: &Options,
    dir: &Dir,
    half: &Half,
    control: &Control,
    listeners: Listeners,
) -> anyhow::Result<Services> {
    let listeners_at = listeners.api;
    let api = options.api(listeners_at.port());
    let listener = match half {
        Half::Here(_) if options.listens_everywhere().is_some() => Ok(None),
        Half::Here(_) => TcpListener::bind(api).map(Some),
        Half::Inside(_, inside, _) => inside.listen(api).await.map(Some),
    };
    let listener = listener.with_context(|| format!("listen on {api} for pods that ask the API server"))?;
    let unix = listen::unix(dir.api_socket())?;
    let tls = control.tls()?;
    control.access(listeners.api)?.write(&dir.join("kubeconfig"))?;
    let stop = CancellationToken::new();
    let client = control.client(Identity::admin());
    let all = state::watch(client.clone(), state::Scope::default(), stop.clone());
    let inside = match half {
        Half::Here(_) => None,
        Half::Inside(_, inside, _) => Some(inside),
    };
    let standard = dns::standard(&options.cluster_domain);
    let dns = CoreDns::bind(client, options.dns(), standard, inside, all.clone(), stop.clone()).await?;
    control.begin().await?;
    let ingress = ingress::place(options, control.component("coracle-ingress"), inside);
    // At once, so that a durable store has one wait for the disk.
    futures::join!(dns.publish(options.dns()), ingress::publish(&ingress.client));
    control.serve_unix(unix);
    for listener in listeners.all.into_iter().chain(listener) {
        control.serve(listener, tls.clone(), &Handle::current());
    }
    let balancer = proxy::balancer::run(
        balancer(options, half, &Place::of(options, listeners_at, half)),
        control.component("load-balancer"),
        all.clone(),
        stop.clone(),
    );
    let ingress = ingress_controller::run(ingress, all.clone(), stop.clone());
    Ok(Services { snapshots: all, dns, doors: [balancer.boxed(), ingress.boxed()], stop })
}

/// Where Services of type LoadBalancer get addresses.
fn balancer(options: &Options, half: &Half, place: &Place) -> proxy::balancer::Config {
    let process = place.process.map_or("self".to_owned(), |process| process.to_string());
    proxy::balancer::Config {
        node_name: place.name.clone(),
        node_addresses: match half {
            Half::Here(worker) => worker.addresses().to_owned(),
            Half::Inside(..) => vec![place.address.into()],
        },
        reserved: options.service_cidr.iter().copied().chain([options.pod_cidr.into()]).collect(),
        network: ["/proc", &process, "net"].iter().collect(),
    }
}

/// Runs everything but the control plane until `shutdown`; the pods are stopped first.
async fn run(
    options: Options,
    half: Half,
    services: Services,
    client: kube::Client,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let Services { snapshots, dns, doors, stop } = services;
    let mut tasks = JoinSet::new();
    let dns_stop = stop.clone();
    tasks.spawn(dns.run(dns_stop).map(Ok));
    doors.into_iter().for_each(|door| _ = tasks.spawn(door.map(Ok)));
    let mut relays = proxy::user::Config::local(&options.node_name);
    let node = match half {
        Half::Here(worker) => worker.run_with(client, snapshots.clone(), shutdown).boxed(),
        Half::Inside(namespaces, inside, pulls) => {
            through(&mut relays, &inside);
            let images = image::Store::open(&options.data_dir.join("images"))?;
            tasks.spawn(isolated::serve_pulls(pulls, images));
            run_inside(namespaces, inside, shutdown).boxed()
        }
    };
    tasks.spawn(proxy::user::Relays::new(relays).run(snapshots, stop.clone()).map(Ok));
    let result = node.await;
    stop.cancel();
    while let Some(ended) = tasks.join_next().await {
        if let Ok(Err(error)) = ended {
            tracing::warn!("{error:#}");
        }
    }
    result
}

fn puller(dir: &Dir) -> anyhow::Result<Puller> {
    let images = image::Store::open(&dir.join("images"))?;
    Ok(Arc::new(move |reference, credentials| {
        let images = images.clone();
        async move { pull(&images, &reference, credentials).await }.boxed()
    }))
}

/// Lets relayed connections start inside, where nobody of the host can go.
fn through(relays: &mut proxy::user::Config, inside: &Inside) {
    relays.load_balancers = true;
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

/// The way to the only node.
fn kubelet(socket: PathBuf) -> apiserver::Kubelet {
    let socket = Arc::new(socket);
    Arc::new(move |_node| {
        let socket = socket.clone();
        async move {
            let stream = UnixStream::connect(&*socket).await?;
            Ok(Box::new(stream) as Box<dyn apiserver::Io>)
        }
        .boxed()
    })
}
