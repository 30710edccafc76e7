//! The server: a Corefile made into chains behind open sockets, and made anew while it answers.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use futures::future::BoxFuture;
use hickory_proto::rr::Name;
use tokio::sync::Mutex;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::chain;
use crate::corefile::{self, Block, Key};
use crate::endpoint::{Endpoint, Listening, Scheme};
use crate::plugin::bind;
use crate::servers::{self, Servers};
use crate::{Config, Error, Snapshots, Sockets};

/// What plugins get from outside the Corefile.
pub(crate) struct Environment {
    /// The cluster.
    pub(crate) snapshots: Snapshots,
    /// What `ns.dns.<domain>` leads to.
    pub(crate) address: Option<IpAddr>,
    /// Where the server itself listens: it must not forward there.
    pub(crate) addresses: Vec<SocketAddr>,
}

/// A DNS server. It answers from when it is made until it is dropped or [`run`](Server::run) ends.
pub struct Server {
    address: Option<IpAddr>,
    port: u16,
    snapshots: Snapshots,
    sockets: Sockets,
    /// What is open; locked for as long as a reload takes.
    open: Mutex<BTreeMap<Endpoint, Listening>>,
    tasks: TaskTracker,
    stop: CancellationToken,
    _stop: DropGuard,
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
            open: Mutex::default(),
            tasks: TaskTracker::new(),
            _stop: stop.clone().drop_guard(),
            stop,
        };
        server.reload(&config.corefile).await?;
        Ok(server)
    }

    /// Puts another Corefile in place of the present one, without losing a question: sockets that
    /// both need are kept, questions on their way are answered by the chain that they entered.
    ///
    /// # Errors
    /// As [`bind`](Server::bind); then everything stays as it was.
    pub async fn reload(&self, corefile: &str) -> Result<(), Error> {
        let mut open = self.open.lock().await;
        let mut blocks = corefile::parse(corefile)?;
        for key in blocks.iter_mut().flat_map(|block| &mut block.keys).filter(|key| key.port == 53) {
            key.port = self.port;
        }
        let mut wanted = self.build(&blocks)?;
        let new: Vec<Endpoint> = wanted.keys().filter(|endpoint| !open.contains_key(endpoint)).copied().collect();
        let mut opened = BTreeMap::new();
        for endpoint in new {
            let Some(servers) = wanted.remove(&endpoint) else { continue };
            let listening = Listening::open(endpoint, servers, &self.sockets, &self.tasks, &self.stop).await;
            let listening = listening.map_err(|error| Error::Listen { server: endpoint.to_string(), error })?;
            opened.insert(endpoint, listening);
        }
        // From here on nothing can fail.
        open.retain(|endpoint, listening| match wanted.remove(endpoint) {
            Some(servers) => {
                listening.slot.set(servers);
                true
            }
            None => false,
        });
        open.append(&mut opened);
        for key in blocks.iter().flat_map(|block| &block.keys) {
            tracing::info!("{}", key.to_string().trim_start_matches("dns://"));
        }
        Ok(())
    }

    /// The servers of each endpoint that the blocks name. What runs beside them ends when the last
    /// question that entered them is answered.
    fn build(&self, blocks: &[Block]) -> Result<BTreeMap<Endpoint, Arc<Servers>>, Error> {
        let endpoints = blocks.iter().map(endpoints).collect::<Result<Vec<_>, _>>()?;
        let addresses = endpoints.iter().flatten().flat_map(|(endpoint, _)| {
            // Where no address is named, ours is among those that are listened on.
            let named = self.address.filter(|_| endpoint.address.ip().is_unspecified());
            let named = named.map(|ip| SocketAddr::new(ip, endpoint.address.port()));
            named.into_iter().chain([endpoint.address])
        });
        let addresses = addresses.collect();
        let environment = Environment { snapshots: self.snapshots.clone(), address: self.address, addresses };
        let (mut servers, mut background) = (BTreeMap::<_, Vec<_>>::new(), Vec::<BoxFuture<'static, ()>>::new());
        for (block, endpoints) in blocks.iter().zip(endpoints) {
            let (chain, mut tasks) = chain::build(block, &environment)?;
            background.append(&mut tasks);
            for (endpoint, zone) in endpoints {
                servers.entry(endpoint).or_default().push(servers::Server { zone, chain: chain.clone() });
            }
        }
        let token = self.stop.child_token();
        for task in background {
            self.tasks.spawn(token.clone().run_until_cancelled_owned(task));
        }
        let held = Arc::new(token.drop_guard());
        let servers = servers.into_iter();
        Ok(servers.map(|(endpoint, servers)| (endpoint, Arc::new(Servers::new(servers, held.clone())))).collect())
    }

    /// Answers until `shutdown`; then all sockets are closed.
    pub async fn run(&self, shutdown: CancellationToken) {
        shutdown.cancelled().await;
        self.stop.cancel();
        // Their threads wake at once, and are waited for.
        self.open.lock().await.clear();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Where a block listens, and for which zone.
fn endpoints(block: &Block) -> Result<Vec<(Endpoint, Name)>, corefile::Error> {
    let mut addresses = bind::addresses(block)?;
    if addresses.is_empty() {
        addresses.push(Ipv6Addr::UNSPECIFIED.into());
    }
    let endpoint = |key: &Key, ip| Endpoint { scheme: Scheme::Dns, address: SocketAddr::new(ip, key.port) };
    let of = |key| addresses.iter().map(move |ip| (endpoint(key, *ip), key.zone.clone()));
    Ok(block.keys.iter().flat_map(of).collect())
}

#[cfg(test)]
mod tests;
