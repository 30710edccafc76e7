//! The user-space data plane: NodePorts on given addresses, relayed to ready endpoints.
//!
//! It needs no privilege, reaches `localhost`, tries the next endpoint when one does not answer,
//! and, because connections are made by a function that it is handed, can start them in another
//! network namespace. A port is open while its Service has ready endpoints, so that otherwise
//! clients are refused at once. TCP and UDP; SCTP is left to the kernel.

mod backends;
mod tcp;
mod udp;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use state::{Key, Protocol, Snapshot};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::endpoints::Place;
use backends::{Backends, Choice};

/// How often a port that was taken is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// For how long one endpoint may take to answer before the next is tried.
const PATIENCE: Duration = Duration::from_secs(3);

/// Makes the TCP connection to an endpoint, in whatever network namespace the endpoints are.
pub type Connect = Arc<dyn Fn(SocketAddr) -> BoxFuture<'static, io::Result<TcpStream>> + Send + Sync>;

/// Makes a UDP socket that is connected to an endpoint, in the endpoints' network namespace.
pub type Associate = Arc<dyn Fn(SocketAddr) -> BoxFuture<'static, io::Result<UdpSocket>> + Send + Sync>;

/// What to listen on and how to go on from there.
#[derive(Clone)]
pub struct Config {
    /// The addresses on which every NodePort is opened, usually 127.0.0.1.
    pub addresses: Vec<IpAddr>,
    /// The node whose NodePorts these are, for traffic policies of Local.
    pub node_name: String,
    /// How endpoints are reached over TCP.
    pub connect: Connect,
    /// How endpoints are reached over UDP.
    pub associate: Associate,
    /// TCP connections relayed at once, over all ports; further ones wait in the kernel's queue.
    pub max_connections: usize,
    /// UDP clients served at once on one port; further ones are not answered.
    pub max_flows: usize,
    /// For how long a UDP client may be silent before its endpoint is forgotten.
    pub udp_idle: Duration,
}

impl Config {
    /// Relays from 127.0.0.1 to endpoints that this process can reach itself.
    pub fn local(node_name: &str) -> Self {
        Config {
            addresses: vec![IpAddr::from([127, 0, 0, 1])],
            node_name: node_name.to_owned(),
            connect: Arc::new(|to| Box::pin(TcpStream::connect(to))),
            associate: Arc::new(|to| Box::pin(associate(to))),
            max_connections: 10_000,
            max_flows: 10_000,
            udp_idle: Duration::from_secs(60),
        }
    }
}

async fn associate(to: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(SocketAddr::from(([0, 0, 0, 0], 0))).await?;
    socket.connect(to).await?;
    Ok(socket)
}

/// A port that is, or should be, open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Listen {
    protocol: Protocol,
    at: SocketAddr,
}

/// An open port.
struct Open {
    backends: watch::Sender<Arc<Backends>>,
    close: CancellationToken,
    /// Ends when the port is free again.
    task: JoinHandle<()>,
}

/// The relays of one node.
pub struct Relays {
    config: Config,
    open: BTreeMap<Listen, Open>,
    /// Ports that were reported as taken.
    taken: BTreeSet<Listen>,
    connections: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl Relays {
    /// Relays with no port open yet.
    pub fn new(config: Config) -> Self {
        let connections = Arc::new(Semaphore::new(config.max_connections));
        let (open, taken, tasks) = Default::default();
        Relays { config, open, taken, connections, tasks }
    }

    /// Opens and closes ports as the Snapshots have it, until `shutdown`; then closes all ports
    /// and connections. A connection outlives its Service's port, as in the kernel.
    pub async fn run(mut self, mut snapshots: watch::Receiver<Arc<Snapshot>>, shutdown: CancellationToken) {
        let mut more = true;
        snapshots.mark_changed();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                changed = snapshots.changed(), if more => more = changed.is_ok(),
                () = tokio::time::sleep(RETRY), if !self.taken.is_empty() => {}
            }
            let snapshot = snapshots.borrow_and_update().clone();
            if snapshot.synced {
                self.follow(plan(&snapshot, &self.config), &shutdown).await;
            }
        }
        self.open.values().for_each(|open| open.close.cancel());
        self.tasks.close();
        self.tasks.wait().await;
    }

    async fn follow(&mut self, wanted: BTreeMap<Listen, Arc<Backends>>, shutdown: &CancellationToken) {
        self.taken.retain(|listen| wanted.contains_key(listen));
        let unwanted = self.open.extract_if(.., |listen, _| !wanted.contains_key(listen));
        for (_, open) in unwanted.collect::<Vec<_>>() {
            open.close.cancel();
            open.task.await.ok();
        }
        for (listen, backends) in wanted {
            match self.open.get(&listen) {
                Some(open) => {
                    open.backends.send_if_modified(|old| {
                        let differs = *old != backends;
                        *old = backends;
                        differs
                    });
                }
                None => self.listen(listen, backends, shutdown).await,
            }
        }
    }

    async fn listen(&mut self, listen: Listen, backends: Arc<Backends>, shutdown: &CancellationToken) {
        let service = backends.service.clone();
        let close = shutdown.child_token();
        let (sender, receiver) = watch::channel(backends);
        let choice = Choice::new(receiver);
        let result = match listen.protocol {
            Protocol::Tcp => TcpListener::bind(listen.at).await.map(|listener| {
                let relay = tcp::Relay {
                    choice: Arc::new(choice),
                    connect: self.config.connect.clone(),
                    connections: self.connections.clone(),
                    shutdown: shutdown.clone(),
                };
                self.tasks.spawn(relay.run(listener, close.clone(), self.tasks.clone()))
            }),
            _ => UdpSocket::bind(listen.at).await.map(|socket| {
                let relay = udp::Relay::new(socket, choice, &self.config);
                self.tasks.spawn(relay.run(close.clone()))
            }),
        };
        match result {
            Ok(task) => {
                if self.taken.remove(&listen) {
                    info!("{} {} is free now and leads to the Service {service}", listen.protocol, listen.at);
                }
                self.open.insert(listen, Open { backends: sender, close, task });
            }
            Err(error) if self.taken.insert(listen) => warn!(
                "failed to open {} {} for the Service {service}: {error}; trying again every {} seconds",
                listen.protocol,
                listen.at,
                RETRY.as_secs()
            ),
            Err(_) => {}
        }
    }
}

/// The ports that should be open, and where they lead.
fn plan(snapshot: &Snapshot, config: &Config) -> BTreeMap<Listen, Arc<Backends>> {
    let mut wanted = BTreeMap::new();
    let place = Place::new(&config.node_name, snapshot);
    let mut services: Vec<(&Key, _)> = snapshot.services.iter().collect();
    services.sort_by_key(|(key, _)| *key);
    for (_, service) in services {
        for port in service.ports.iter().filter(|port| port.protocol != Protocol::Sctp) {
            let Some(number) = port.node_port else {
                continue;
            };
            let Some(backends) = Backends::new(service, port, &place) else {
                continue;
            };
            let backends = Arc::new(backends);
            for address in &config.addresses {
                let listen = Listen { protocol: port.protocol, at: SocketAddr::new(*address, number) };
                wanted.entry(listen).or_insert_with(|| backends.clone());
            }
        }
    }
    wanted
}

#[cfg(test)]
mod tests;
