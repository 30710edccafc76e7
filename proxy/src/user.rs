//! The user-space data plane: ports of Services on addresses of this machine, relayed to their
//! endpoints.
//!
//! It needs no privilege, reaches `localhost`, tries the next endpoint when one does not answer,
//! and, because its sockets are made by functions that it is handed, can listen in one network
//! namespace and connect from another. A port is open while its Service has ready endpoints, so that
//! otherwise clients are refused at once. TCP and UDP; SCTP is left to the kernel.

mod affinity;
mod backends;
mod copy;
mod header;
mod plan;
mod refusals;
mod splice;
mod tcp;
mod udp;

use std::collections::BTreeMap;
use std::io::{
    self,
    ErrorKind::{AddrNotAvailable, PermissionDenied},
};
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use socket2::{Domain, SockRef, Socket, Type};
use state::{Protocol, Snapshot};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use affinity::Affinity;
use backends::{Backends, Choice};
pub use header::ProxyProtocol;
use plan::{Frontend, plan};
use refusals::Refusals;

/// How often a port that was taken is tried again, and how often one at an address that is not this
/// machine's.
const RETRY: Duration = Duration::from_secs(2);
const ABSENT: Duration = Duration::from_secs(30);
/// For how long one endpoint may take to answer before the next is tried.
const PATIENCE: Duration = Duration::from_secs(3);
/// How many clients may wait in the kernel for their connection to be accepted.
const BACKLOG: u32 = 4096;

/// Makes a socket at, or connected to, an address, in whatever network namespace that is.
pub type Open<T> = Arc<dyn Fn(SocketAddr) -> BoxFuture<'static, io::Result<T>> + Send + Sync>;

/// What to listen on and how to go on from there.
#[derive(Clone)]
pub struct Config {
    /// The addresses on which every NodePort is opened, usually 127.0.0.1.
    pub addresses: Vec<IpAddr>,
    /// Whether the ports of Services of type LoadBalancer are opened there, too, once they have an address: for
    /// who cannot reach that.
    pub load_balancers: bool,
    /// Whether the cluster IPs, externalIPs and load balancers' addresses of Services are served,
    /// too, as far as they are addresses of this machine.
    pub service_addresses: bool,
    /// The node whose ports these are, for traffic policies of Local.
    pub node_name: String,
    /// How ports are opened over TCP.
    pub listen: Open<TcpListener>,
    /// How ports are opened over UDP.
    pub bind: Open<UdpSocket>,
    /// How endpoints are reached over TCP.
    pub connect: Open<TcpStream>,
    /// How endpoints are reached over UDP.
    pub associate: Open<UdpSocket>,
    /// Whether, and how, endpoints are told over TCP who the client is.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Ports open at once.
    pub max_ports: usize,
    /// TCP connections relayed at once, over all ports; further ones wait in the kernel's queue.
    pub max_connections: usize,
    /// UDP clients served at once, over all ports; further ones are not answered.
    pub max_flows: usize,
    /// For how long a UDP client and its endpoint may be silent before they are forgotten.
    pub udp_idle: Duration,
    /// For how long connections may go on after the shutdown; with more than none the shutdown counts as
    /// an upgrade, in which another process has the ports, too (`reuse_port`).
    pub grace: Duration,
}

impl Config {
    /// Relays from 127.0.0.1 to endpoints that this process can reach itself.
    pub fn local(node_name: &str) -> Self {
        Config {
            addresses: vec![IpAddr::from([127, 0, 0, 1])],
            load_balancers: false,
            service_addresses: false,
            node_name: node_name.to_owned(),
            listen: Arc::new(|at| Box::pin(async move { listen(at, false) })),
            bind: Arc::new(|at| Box::pin(async move { bind(at, false) })),
            connect: Arc::new(|to| Box::pin(TcpStream::connect(to))),
            associate: Arc::new(|to| Box::pin(associate(to))),
            proxy_protocol: None,
            max_ports: 10_000,
            max_connections: 10_000,
            max_flows: 10_000,
            udp_idle: Duration::from_secs(60),
            grace: Duration::ZERO,
        }
    }

    /// Opens ports in this process's network namespace with SO_REUSEPORT: the next process, of the
    /// same user, can open them before this one closes them, so that no client is refused.
    pub fn reuse_port(mut self) -> Self {
        self.listen = Arc::new(|at| Box::pin(async move { listen(at, true) }));
        self.bind = Arc::new(|at| Box::pin(async move { bind(at, true) }));
        self
    }
}

fn listen(at: SocketAddr, reuse_port: bool) -> io::Result<TcpListener> {
    let socket = if at.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if at.is_ipv6() {
        SockRef::from(&socket).set_only_v6(true)?;
    }
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(reuse_port)?;
    socket.bind(at)?;
    socket.listen(BACKLOG)
}

fn bind(at: SocketAddr, reuse_port: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(at), Type::DGRAM, None)?;
    if at.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_port(reuse_port)?;
    socket.set_nonblocking(true)?;
    socket.bind(&at.into())?;
    UdpSocket::from_std(socket.into())
}

async fn associate(to: SocketAddr) -> io::Result<UdpSocket> {
    let any = if to.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(to).await?;
    Ok(socket)
}

/// An open port.
struct Port {
    backends: watch::Sender<Arc<Backends>>,
    close: CancellationToken,
    /// Ends when the port is free again.
    task: JoinHandle<()>,
}

/// What all ports share.
struct Shared {
    config: Config,
    /// Room for connections and flows.
    connections: Arc<Semaphore>,
    flows: Arc<Semaphore>,
    clients: Mutex<Affinity>,
    refusals: Refusals,
    /// Ports are closed because another process takes them over.
    handover: AtomicBool,
}

impl Shared {
    fn new(config: Config) -> Arc<Self> {
        let connections = Arc::new(Semaphore::new(config.max_connections));
        let flows = Arc::new(Semaphore::new(config.max_flows));
        let (clients, refusals, handover) = Default::default();
        Arc::new(Shared { config, connections, flows, clients, refusals, handover })
    }
}

/// The relays of one node.
pub struct Relays {
    shared: Arc<Shared>,
    open: BTreeMap<Frontend, Port>,
    /// Ports that could not be opened, and when they are tried again.
    closed: BTreeMap<Frontend, Instant>,
    /// It was reported that there are too many.
    full: bool,
    /// The ports and connections, and what ends the connections.
    tasks: TaskTracker,
    cut: CancellationToken,
}

impl Relays {
    /// Relays with no port open yet.
    pub fn new(config: Config) -> Self {
        Relays::sharing(Shared::new(config))
    }

    fn sharing(shared: Arc<Shared>) -> Self {
        let (open, closed, full, tasks, cut) = Default::default();
        Relays { shared, open, closed, full, tasks, cut }
    }

    /// Tells how often an endpoint did not answer, so that another was tried.
    pub fn refusals(&self) -> impl Fn() -> u64 + Send + Sync + 'static {
        let shared = self.shared.clone();
        move || shared.refusals.count.load(Ordering::Relaxed)
    }

    /// As `run`, but on threads of its own, each of which opens each port (so it takes
    /// `Config::reuse_port`) and keeps the connections that it gets: on several cores that is less work.
    pub async fn run_on(
        self,
        threads: usize,
        snapshots: watch::Receiver<Arc<Snapshot>>,
        shutdown: CancellationToken,
    ) -> io::Result<()> {
        let running = TaskTracker::new();
        for number in 0..threads {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let relays = Relays::sharing(self.shared.clone()).run(snapshots.clone(), shutdown.clone());
            let token = running.token();
            std::thread::Builder::new().name(format!("relays-{number}")).spawn(move || {
                runtime.block_on(relays);
                drop(token);
            })?;
        }
        running.close();
        running.wait().await;
        Ok(())
    }

    /// Opens and closes ports as the Snapshots have it, until `shutdown`; then closes all ports, and
    /// the connections, too, when their grace is over. A connection outlives its Service's port, as
    /// in the kernel.
    pub async fn run(mut self, mut snapshots: watch::Receiver<Arc<Snapshot>>, shutdown: CancellationToken) {
        let mut more = true;
        snapshots.mark_changed();
        loop {
            let retry = self.closed.values().min().copied();
            tokio::select! {
                () = shutdown.cancelled() => break,
                changed = snapshots.changed(), if more => more = changed.is_ok(),
                () = tokio::time::sleep_until(retry.unwrap_or_else(Instant::now)), if retry.is_some() => {}
            }
            let snapshot = snapshots.borrow_and_update().clone();
            if snapshot.synced {
                self.follow(plan(&snapshot, &self.shared.config)).await;
            }
        }
        let grace = self.shared.config.grace;
        self.shared.handover.store(!grace.is_zero(), Ordering::Relaxed);
        self.follow(BTreeMap::new()).await;
        self.tasks.close();
        if tokio::time::timeout(grace, self.tasks.wait()).await.is_err() {
            self.cut.cancel();
            self.tasks.wait().await;
        }
    }

    async fn follow(&mut self, wanted: BTreeMap<Frontend, Arc<Backends>>) {
        self.closed.retain(|frontend, _| wanted.contains_key(frontend));
        let unwanted = self.open.extract_if(.., |frontend, _| !wanted.contains_key(frontend));
        let unwanted: Vec<Port> = unwanted.map(|(_, port)| port).collect();
        unwanted.iter().for_each(|port| port.close.cancel());
        for port in unwanted {
            port.task.await.ok();
        }
        let (now, max, mut full) = (Instant::now(), self.shared.config.max_ports, false);
        for (frontend, backends) in wanted {
            if let Some(port) = self.open.get(&frontend) {
                port.backends.send_if_modified(|old| {
                    let differs = *old != backends;
                    *old = backends;
                    differs
                });
            } else if self.open.len() >= max {
                full = true;
            } else if self.closed.get(&frontend).is_none_or(|retry| *retry <= now) {
                self.open(frontend, backends).await;
                // There may be thousands that fail.
                tokio::task::yield_now().await;
            }
        }
        if full && !std::mem::replace(&mut self.full, true) {
            warn!("{max} ports of Services are open, and no more are opened");
        }
    }

    async fn open(&mut self, frontend: Frontend, backends: Arc<Backends>) {
        let Frontend { protocol, at } = frontend;
        let service = backends.service.clone();
        let (error, again) = match self.start(frontend, backends).await {
            Ok(port) => {
                if self.closed.remove(&frontend).is_some() {
                    info!("{protocol} {at} is free now and leads to the Service {service}");
                }
                self.open.insert(frontend, port);
                return;
            }
            Err(error) if matches!(error.kind(), AddrNotAvailable | PermissionDenied) => (error, ABSENT),
            Err(error) => (error, RETRY),
        };
        let known = self.closed.insert(frontend, Instant::now() + again).is_some();
        let seconds = again.as_secs();
        match again {
            _ if known => {}
            _ if error.kind() == PermissionDenied => warn!(
                "{protocol} {at} of the Service {service} takes a privilege to open: \
                 `sudo sysctl net.ipv4.ip_unprivileged_port_start={}` gives it to everyone",
                at.port()
            ),
            ABSENT => debug!("{protocol} {at} of the Service {service} is not opened: {error}"),
            _ => warn!(
                "failed to open {protocol} {at} for the Service {service}: {error}; trying again every {seconds} seconds"
            ),
        }
    }

    async fn start(&self, frontend: Frontend, backends: Arc<Backends>) -> io::Result<Port> {
        let close = CancellationToken::new();
        let (sender, receiver) = watch::channel(backends);
        let choice = Choice::new(frontend, receiver, self.shared.clone());
        let config = &self.shared.config;
        let task = match frontend.protocol {
            Protocol::Tcp => {
                let listener = (config.listen)(frontend.at).await?;
                let relay = tcp::Relay { choice, tasks: self.tasks.clone(), cut: self.cut.clone() };
                self.tasks.spawn(relay.run(listener, close.clone()))
            }
            _ => {
                let socket = Arc::new((config.bind)(frontend.at).await?);
                self.tasks.spawn(udp::Relay { socket, choice, flows: Arc::default() }.run(close.clone()))
            }
        };
        Ok(Port { backends: sender, close, task })
    }
}

/// The result of an attempt that may take a while. Most have one as soon as the kernel is asked for
/// what is new, and need no timer, which takes longer to set than they last.
async fn soon<T>(attempt: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let mut attempt = pin!(attempt);
    tokio::select! {
        biased;
        result = &mut attempt => result,
        () = tokio::task::yield_now() => tokio::time::timeout(PATIENCE, attempt).await?,
    }
}

/// Nothing panics while it holds one of these.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
