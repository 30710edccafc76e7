//! What is listened on: the sockets of one address, and the servers behind them.

use std::fmt;
use std::future::{Future, ready};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::available_parallelism;

use http::header::CONTENT_TYPE;
use http::{Method, Response, StatusCode};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::corefile::Transport;
use crate::pages::Site;
use crate::servers::Servers;
use crate::tcp::Limits;
use crate::{Sockets, tcp, udp, web};

/// How many UDP sockets share an address at most; there is one for each core.
const SOCKETS: usize = 16;

/// How many UDP sockets an address has, each with a thread.
pub(crate) fn threads() -> usize {
    available_parallelism().map_or(1, |cores| cores.get().min(SOCKETS))
}

/// An address and what is spoken there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Endpoint {
    pub(crate) transport: Transport,
    /// As the Corefile has it: `[::]` when it names none.
    pub(crate) address: SocketAddr,
}

impl fmt::Display for Endpoint {
    /// As CoreDNS writes it: `dns://:53`, `dns://127.0.0.1:53`.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let scheme = self.transport.name();
        match self.address.ip().is_unspecified() {
            true => write!(f, "{scheme}://:{}", self.address.port()),
            false => write!(f, "{scheme}://{}", self.address),
        }
    }
}

/// What a reload replaces: what it holds now is read without waiting for a writer.
pub(crate) struct Slot<T>(RwLock<Arc<T>>);

impl<T> Slot<T> {
    pub(crate) fn new(value: Arc<T>) -> Self {
        Slot(RwLock::new(value))
    }

    pub(crate) fn get(&self) -> Arc<T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set(&self, value: Arc<T>) {
        let mut slot = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *slot, value);
        drop(slot);
        // Not under the lock: it may be the end of a whole configuration.
        drop(old);
    }
}

/// An endpoint whose sockets are open; they close when this is dropped, after what they hold is
/// answered.
pub(crate) struct Listening {
    pub(crate) slot: Arc<Slot<Servers>>,
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
        let mut udp = Vec::new();
        for index in 0..threads() {
            let socket = (sockets.udp)(endpoint.address).await?;
            udp.push(udp::Listener::spawn(socket, index, slot.clone(), tasks.clone(), shutdown.clone())?);
        }
        let (limits, held) = (Limits::default(), slot.clone());
        let tcp = listen(listener, limits, tasks, shutdown, move |stream, peer, closing| {
            let slot = held.clone();
            async move {
                let Ok(server) = stream.local_addr() else { return };
                tcp::connection(stream, (peer, server), &slot, limits.idle, closing).await;
            }
        })?;
        Ok(Listening { slot, _udp: udp, _tcp: tcp })
    }
}

/// Opens the pages of an address.
pub(crate) async fn pages(
    address: SocketAddr,
    site: Arc<Slot<Site>>,
    sockets: &Sockets,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) -> io::Result<DropGuard> {
    let limits = Limits { connections: 32, ..Default::default() };
    listen((sockets.tcp)(address).await?, limits, tasks, shutdown, move |stream, _, closing| {
        let site = site.clone();
        web::serve(stream, limits.idle, closing, move |request| {
            let (status, body) = match request.method() {
                &Method::GET | &Method::HEAD => site.get().page(address, request.uri().path()),
                _ => (StatusCode::METHOD_NOT_ALLOWED, String::new()),
            };
            let response = Response::builder().status(status).header(CONTENT_TYPE, "text/plain; version=0.0.4");
            ready(response.body(body.into()).unwrap_or_default())
        })
    })
}

/// Serves a listener until what is returned is dropped.
fn listen<F: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    limits: Limits,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
    connection: impl Fn(TcpStream, SocketAddr, CancellationToken) -> F + Send + Sync + 'static,
) -> io::Result<DropGuard> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let closing = shutdown.child_token();
    let token = closing.clone();
    let connection = move |stream, peer| connection(stream, peer, token.clone());
    tasks.spawn(tcp::serve(listener, limits, tasks.clone(), closing.clone(), connection));
    Ok(closing.drop_guard())
}
