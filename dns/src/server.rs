//! The server: sockets, the chains of the Corefile, and the tasks between them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures::future::BoxFuture;
use state::Snapshot;
use tokio::sync::watch::Receiver;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::chain;
use crate::corefile;
use crate::servers::{self, Servers};
use crate::tcp::Limits;
use crate::{Config, Error, Sockets, tcp, udp};

/// What plugins get from outside the Corefile.
pub(crate) struct Environment {
    /// The cluster.
    pub(crate) snapshots: Receiver<Arc<Snapshot>>,
    /// What `ns.dns.<domain>` leads to.
    pub(crate) address: Option<IpAddr>,
    /// Where the server itself listens: it must not forward there.
    pub(crate) addresses: Vec<SocketAddr>,
}

/// A DNS server on sockets that are bound already.
pub struct Server {
    servers: Arc<Servers>,
    background: Vec<BoxFuture<'static, ()>>,
    sockets: Sockets,
}

impl Server {
    /// Reads the Corefile and builds its chains. Upstreams that are the server's own addresses are
    /// left out, with a warning. Until the first whole Snapshot, names of the cluster get SERVFAIL.
    pub fn new(config: Config, sockets: Sockets, snapshots: Receiver<Arc<Snapshot>>) -> Result<Self, Error> {
        for socket in &sockets.udp {
            let address = socket.local_addr()?;
            if address.is_ipv6() {
                return Err(Error::Family(address));
            }
        }
        let environment = Environment { snapshots, address: config.address, addresses: sockets.addresses() };
        let (mut servers, mut background) = (Vec::new(), Vec::new());
        for block in corefile::parse(&config.corefile)? {
            let (chain, mut tasks) = chain::build(&block, &environment)?;
            background.append(&mut tasks);
            let server = |key: corefile::Key| servers::Server { zone: key.zone, chain: chain.clone() };
            servers.extend(block.keys.into_iter().map(server));
        }
        Ok(Server { servers: Arc::new(Servers::new(servers)), background, sockets })
    }

    /// Answers until `shutdown`; then all sockets are closed.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let Server { servers, background, sockets } = self;
        let (tasks, mut listeners) = (TaskTracker::new(), Vec::new());
        for task in background {
            tasks.spawn(shutdown.clone().run_until_cancelled_owned(task));
        }
        for socket in sockets.udp {
            listeners.push(udp::Listener::spawn(socket, servers.clone(), tasks.clone(), shutdown.clone())?);
        }
        for listener in sockets.tcp {
            listener.set_nonblocking(true)?;
            let listener = tokio::net::TcpListener::from_std(listener)?;
            tasks.spawn(tcp::serve(listener, servers.clone(), Limits::default(), tasks.clone(), shutdown.clone()));
        }
        shutdown.cancelled().await;
        // Their threads wake at once, and are waited for.
        drop(listeners);
        tasks.close();
        tasks.wait().await;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
