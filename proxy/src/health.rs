//! What load balancers, probes and people ask over HTTP: kube-proxy's `/healthz` and `/livez`, its metrics, and for each
//! Service with a `healthCheckNodePort` whether this node has endpoints of it.
//!
//! A port is open for as long as it is wanted; one that is taken is reported once and tried again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use state::{Key, Snapshot};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{info, warn};

use crate::{Metrics, web};

mod page;

use page::Page;

/// How often a port that was taken is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// How many connections there may be, over all ports; further ones wait to be accepted.
const CONNECTIONS: usize = 256;

/// The port of `/healthz` unless another one is asked for, as kube-proxy's.
pub const PORT: u16 = 10256;

/// What is served where.
#[derive(Debug, Clone)]
pub struct Config {
    /// This node's name.
    pub node_name: String,
    /// Where `/healthz` and `/livez` are, as kube-proxy's `--healthz-bind-address`.
    pub healthz: Vec<SocketAddr>,
    /// That is open only while there are other nodes, which ask whether this one can have a load balancer's addresses.
    pub for_nodes: bool,
    /// Where `/metrics`, `/proxyMode` and another `/healthz` are, as kube-proxy's `--metrics-bind-address`.
    pub metrics: Option<SocketAddr>,
    /// The addresses on which a `healthCheckNodePort` is opened: those of the NodePorts.
    pub addresses: Vec<IpAddr>,
    /// What `/proxyMode` says.
    pub mode: &'static str,
    /// False while the node does not exist or is about to go, so that load balancers leave it in time (KEP-3836).
    pub eligible: Arc<AtomicBool>,
}

/// The servers of one node.
pub struct Server {
    site: Arc<Site>,
    /// The Services with a `healthCheckNodePort`.
    ports: BTreeMap<Key, u16>,
    open: BTreeMap<SocketAddr, Open>,
    /// Addresses that were reported as taken.
    taken: BTreeSet<SocketAddr>,
    places: Arc<Semaphore>,
}

/// An open port.
struct Open {
    page: Page,
    close: DropGuard,
    /// Ends when the port is free again.
    task: JoinHandle<()>,
}

/// What answers are made from.
struct Site {
    config: Config,
    metrics: Arc<Metrics>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
}

impl Server {
    /// A server with no port open yet.
    pub fn new(config: Config, metrics: Arc<Metrics>, snapshots: watch::Receiver<Arc<Snapshot>>) -> Self {
        let site = Arc::new(Site { config, metrics, snapshots });
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        Server { site, ports: BTreeMap::new(), open: BTreeMap::new(), taken: BTreeSet::new(), places }
    }

    /// Serves until `shutdown`, opening and closing ports as the Snapshots have it.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut snapshots = self.site.snapshots.clone();
        let (mut seen, mut more) = (Arc::<Snapshot>::default(), true);
        loop {
            let snapshot = snapshots.borrow_and_update().clone();
            for key in snapshot.services.changed(&seen.services) {
                let service =
                    snapshot.services.get(key).filter(|service| service.external_local && !service.other_proxy);
                match service.and_then(|service| service.health_check_node_port) {
                    Some(port) => self.ports.insert(key.clone(), port),
                    None => self.ports.remove(key),
                };
            }
            seen = snapshot;
            self.follow().await;
            tokio::select! {
                () = shutdown.cancelled() => break,
                changed = snapshots.changed(), if more => more = changed.is_ok(),
                () = tokio::time::sleep(RETRY), if !self.taken.is_empty() => {}
            }
        }
        self.close(|_, _| true).await;
    }

    /// What should be open; of two that want one address, the first in the order of names has it.
    fn plan(&self) -> BTreeMap<SocketAddr, Page> {
        let Config { healthz, for_nodes, metrics, addresses, .. } = &self.site.config;
        let asked = !for_nodes || self.site.snapshots.borrow().nodes.len() > 1;
        let mut wanted = BTreeMap::new();
        let healthz = healthz.iter().filter(|_| asked).map(|at| (*at, Page::Health));
        let own = healthz.chain(metrics.map(|at| (at, Page::Metrics)));
        let services = self.ports.iter().flat_map(|(key, port)| {
            addresses.iter().map(|address| (SocketAddr::new(*address, *port), Page::Service(key.clone())))
        });
        for (at, page) in own.chain(services) {
            wanted.entry(at).or_insert(page);
        }
        wanted
    }

    async fn follow(&mut self) {
        let wanted = self.plan();
        self.taken.retain(|at| wanted.contains_key(at));
        self.close(|at, open| wanted.get(at) != Some(&open.page)).await;
        for (at, page) in wanted {
            if self.open.contains_key(&at) {
                continue;
            }
            match TcpListener::bind(at).await {
                Ok(listener) => {
                    if self.taken.remove(&at) {
                        info!("{at} is free now and has {page}");
                    }
                    let close = CancellationToken::new();
                    let (site, what) = (self.site.clone(), page.clone());
                    let answer = move |path: &str| what.answer(path, &site, jiff::Timestamp::now());
                    let serving = web::serve(listener, self.places.clone(), close.clone(), Arc::new(answer));
                    self.open.insert(at, Open { page, close: close.drop_guard(), task: tokio::spawn(serving) });
                }
                Err(error) if self.taken.insert(at) => warn!(
                    "failed to listen on {at} for {page}: {error}; trying again every {} seconds",
                    RETRY.as_secs()
                ),
                Err(_) => {}
            }
        }
    }

    /// Closes some ports; they are free when this is done.
    async fn close(&mut self, unwanted: impl Fn(&SocketAddr, &Open) -> bool) {
        for (_, Open { close, task, .. }) in self.open.extract_if(.., |at, open| unwanted(at, open)).collect::<Vec<_>>()
        {
            drop(close);
            task.await.ok();
        }
    }
}

impl Site {
    fn eligible(&self) -> bool {
        self.config.eligible.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
