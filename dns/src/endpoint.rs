//! What is listened on: the sockets of one address, and the servers behind them.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::available_parallelism;

use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::servers::Servers;
use crate::tcp::Limits;
use crate::{Sockets, tcp, udp};

/// How many UDP sockets share an address at most; there is one for each core.
const SOCKETS: usize = 16;

/// How questions come to a server block: the scheme in front of its zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scheme {
    /// By UDP and TCP.
    Dns,
}

/// An address and what is spoken there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Endpoint {
    pub(crate) scheme: Scheme,
    /// As the Corefile has it: `[::]` when it names none.
    pub(crate) address: SocketAddr,
}

impl fmt::Display for Endpoint {
    /// As CoreDNS writes it: `dns://:53`, `dns://127.0.0.1:53`.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Dns => "dns",
        };
        match self.address.ip().is_unspecified() {
            true => write!(f, "{scheme}://:{}", self.address.port()),
            false => write!(f, "{scheme}://{}", self.address),
        }
    }
}

/// The servers that an endpoint has now.
pub(crate) struct Slot(RwLock<Arc<Servers>>);

impl Slot {
    pub(crate) fn new(servers: Arc<Servers>) -> Self {
        Slot(RwLock::new(servers))
    }

    pub(crate) fn get(&self) -> Arc<Servers> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set(&self, servers: Arc<Servers>) {
        let mut slot = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *slot, servers);
        drop(slot);
        // Not under the lock: it may be the end of a whole configuration.
        drop(old);
    }
}

/// An endpoint whose sockets are open; they close when this is dropped, after what they hold is
/// answered.
pub(crate) struct Listening {
    pub(crate) slot: Arc<Slot>,
    _udp: Vec<udp::Listener>,
    _tcp: DropGuard,
}

impl Listening {
    /// Opens sockets and starts to answer; the work becomes `tasks`, which `shutdown` ends.
    pub(crate) async fn open(
        endpoint: Endpoint,
        servers: Arc<Servers>,
        sockets: &Sockets,
        tasks: &TaskTracker,
        shutdown: &CancellationToken,
    ) -> io::Result<Self> {
        let slot = Arc::new(Slot::new(servers));
        let listener = (sockets.tcp)(endpoint.address).await?;
        let count = available_parallelism().map_or(1, |cores| cores.get().min(SOCKETS));
        let mut udp = Vec::new();
        for _ in 0..count {
            let socket = (sockets.udp)(endpoint.address).await?;
            udp.push(udp::Listener::spawn(socket, slot.clone(), tasks.clone(), shutdown.clone())?);
        }
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let closing = shutdown.child_token();
        let serve = tcp::serve(listener, slot.clone(), Limits::default(), tasks.clone(), closing.clone());
        tasks.spawn(serve);
        Ok(Listening { slot, _udp: udp, _tcp: closing.drop_guard() })
    }
}
