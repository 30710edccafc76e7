//! The server: sockets, Snapshots, and the tasks between them.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use state::Snapshot;
use tokio::sync::watch::Receiver;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::without_loops;
use crate::forward::Upstreams;
use crate::resolve::Resolver;
use crate::tcp::Limits;
use crate::zone::Zone;
use crate::{Config, Error, Sockets, tcp, udp};

/// A DNS server on sockets that are bound already.
pub struct Server {
    resolver: Arc<Resolver>,
    sockets: Sockets,
    snapshots: Receiver<Arc<Snapshot>>,
}

impl Server {
    /// Checks the settings. Upstreams that are the server's own addresses are left out, with a
    /// warning. Until the first whole Snapshot, names of the cluster get SERVFAIL.
    pub fn new(config: Config, sockets: Sockets, snapshots: Receiver<Arc<Snapshot>>) -> Result<Self, Error> {
        for socket in &sockets.udp {
            let address = socket.local_addr()?;
            if address.is_ipv6() {
                return Err(Error::Family(address));
            }
        }
        let upstreams = Upstreams::new(without_loops(&config.upstreams, &sockets.addresses()));
        let resolver = Arc::new(Resolver::new(Zone::new(&config)?, upstreams));
        Ok(Server { resolver, sockets, snapshots })
    }

    /// Answers until `shutdown`; then all sockets are closed.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let Server { resolver, sockets, mut snapshots } = self;
        take(&resolver, snapshots.borrow_and_update().clone());
        let (tasks, mut listeners) = (TaskTracker::new(), Vec::new());
        for socket in sockets.udp {
            listeners.push(udp::Listener::spawn(socket, resolver.clone(), tasks.clone(), shutdown.clone())?);
        }
        for listener in sockets.tcp {
            listener.set_nonblocking(true)?;
            let listener = tokio::net::TcpListener::from_std(listener)?;
            tasks.spawn(tcp::serve(listener, resolver.clone(), Limits::default(), tasks.clone(), shutdown.clone()));
        }
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                changed = snapshots.changed() => match changed {
                    Ok(()) => take(&resolver, snapshots.borrow_and_update().clone()),
                    // Nothing new will come: what is known is still answered.
                    Err(_) => {
                        shutdown.cancelled().await;
                        break;
                    }
                },
            }
        }
        // Their threads wake at once, and are waited for.
        drop(listeners);
        tasks.close();
        tasks.wait().await;
        Ok(())
    }
}

/// Puts a Snapshot into the zone.
fn take(resolver: &Resolver, snapshot: Arc<Snapshot>) {
    let serial = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut zone = resolver.zone.write().unwrap_or_else(|poisoned| poisoned.into_inner());
    zone.update(snapshot, serial as u32);
}

#[cfg(test)]
mod tests;
