//! The server: a Corefile made into chains behind open sockets, and made anew while it answers.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::corefile::{self, Block};
use crate::endpoint::{self, Endpoint, Listening, Slot};
use crate::metrics::Metrics;
use crate::pages::Site;
use crate::plugin::reload;
use crate::{Config, Error, Snapshots, Sockets};

mod configuration;

use configuration::Configuration;

/// What plugins get from outside the Corefile.
pub(crate) struct Environment {
    /// The cluster.
    pub(crate) snapshots: Snapshots,
    /// What `ns.dns.<domain>` leads to.
    pub(crate) address: Option<IpAddr>,
    /// Where the server itself listens: it must not forward there.
    pub(crate) addresses: Vec<SocketAddr>,
    /// What counts go on over a reload.
    pub(crate) metrics: Arc<Metrics>,
}

/// A DNS server. It answers from when it is made until it is dropped or [`run`](Server::run) ends.
pub struct Server {
    address: Option<IpAddr>,
    port: u16,
    snapshots: Snapshots,
    sockets: Sockets,
    metrics: Arc<Metrics>,
    leaving: Arc<AtomicBool>,
    site: Arc<Slot<Site>>,
    /// Locked for as long as a reload takes.
    open: Mutex<Open>,
    tasks: TaskTracker,
    stop: CancellationToken,
    _stop: DropGuard,
}

/// What is open.
#[derive(Default)]
struct Open {
    endpoints: BTreeMap<Endpoint, Listening>,
    pages: BTreeMap<SocketAddr, DropGuard>,
    /// How long to go on when it is time to end.
    lameduck: Duration,
    /// What was read of the Corefile.
    blocks: Vec<Block>,
}

impl Server {
    /// Reads the Corefile, builds its chains, opens its sockets and begins to answer. Upstreams
    /// that are the server's own addresses are left out, with a warning. Until the first whole
    /// Snapshot, names of the cluster get SERVFAIL.
    ///
    /// # Errors
    /// A Corefile that is wrong, with the line, or an address that can't be had.
    pub async fn bind(config: Config, sockets: Sockets, snapshots: Snapshots) -> Result<Self, Error> {
        let stop = CancellationToken::new();
        let server = Server {
            address: config.address,
            port: config.port,
            snapshots,
            sockets,
            metrics: Arc::default(),
            leaving: Arc::default(),
            site: Arc::new(Slot::new(Arc::default())),
            open: Mutex::default(),
            tasks: TaskTracker::new(),
            _stop: stop.clone().drop_guard(),
            stop,
        };
        server.put(&config.corefile).await?;
        Ok(server)
    }

    /// Puts another Corefile in place of the present one, without losing a question: sockets that
    /// both need are kept, questions on their way are answered by the chain that they entered. One
    /// that reads the same, with all that it imports, changes nothing.
    ///
    /// # Errors
    /// As [`bind`](Server::bind); then everything stays as it was.
    pub async fn reload(&self, corefile: &str) -> Result<(), Error> {
        let put = self.put(corefile).await;
        if put.is_err() {
            self.metrics.reloads_failed.fetch_add(1, Ordering::Relaxed);
        }
        put
    }

    /// How often the Corefile is to be read again, when its plugin `reload` says so.
    pub async fn interval(&self) -> Option<Duration> {
        reload::every(&self.open.lock().await.blocks)
    }

    async fn put(&self, corefile: &str) -> Result<(), Error> {
        let mut open = self.open.lock().await;
        let blocks = corefile::parse(corefile)?;
        if blocks == open.blocks {
            return Ok(());
        }
        let Configuration { mut endpoints, pages, site, lameduck, keys } = self.build(blocks.clone())?;
        let new: Vec<_> = endpoints.extract_if(.., |endpoint, _| !open.endpoints.contains_key(endpoint)).collect();
        let (mut opened, mut opened_pages) = (BTreeMap::new(), BTreeMap::new());
        for (endpoint, servers) in new {
            let listening = Listening::open(endpoint, servers, &self.sockets, &self.tasks, &self.stop).await;
            let listening = listening.map_err(|error| Error::Listen { server: endpoint.to_string(), error })?;
            opened.insert(endpoint, listening);
        }
        for (address, directive) in pages.iter().filter(|(address, _)| !open.pages.contains_key(address)) {
            let guard = endpoint::pages(*address, self.site.clone(), &self.sockets, &self.tasks, &self.stop).await;
            let error = |error| Error::Listen { server: format!("{directive} {address}"), error };
            opened_pages.insert(*address, guard.map_err(error)?);
        }
        // From here on nothing can fail.
        self.site.set(Arc::new(site));
        open.endpoints.retain(|endpoint, listening| match endpoints.remove(endpoint) {
            Some(servers) => {
                listening.slot.set(servers);
                true
            }
            None => false,
        });
        open.endpoints.append(&mut opened);
        open.pages.retain(|address, _| pages.contains_key(address));
        open.pages.append(&mut opened_pages);
        (open.lameduck, open.blocks) = (lameduck, blocks);
        for key in keys {
            tracing::info!("{}", key.trim_start_matches("dns://"));
        }
        Ok(())
    }

    /// Answers until `shutdown`, and for as long after it as a `lameduck` says; then all sockets are
    /// closed.
    pub async fn run(&self, shutdown: CancellationToken) {
        shutdown.cancelled().await;
        self.leaving.store(true, Ordering::Relaxed);
        let lameduck = self.open.lock().await.lameduck;
        tokio::time::sleep(lameduck).await;
        self.stop.cancel();
        // The threads of sockets wake at once, and are waited for.
        *self.open.lock().await = Open::default();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

#[cfg(test)]
mod tests;
