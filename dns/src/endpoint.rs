//! What is listened on: the sockets of one address, and the servers behind them.

use std::fmt;
use std::future::{Future, ready};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::available_parallelism;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{Method, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::corefile::Transport;
use crate::pages::Site;
use crate::servers::Servers;
use crate::tcp::Limits;
use crate::{Sockets, https, tcp, udp, web};

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
        for index in 0..if endpoint.transport == Transport::Dns { threads() } else { 0 } {
            let socket = (sockets.udp)(endpoint.address).await?;
            udp.push(udp::Listener::spawn(socket, index, slot.clone(), tasks.clone(), shutdown.clone())?);
        }
        let (limits, held) = (Limits::default(), slot.clone());
        let tcp = listen(listener, limits, tasks, shutdown, move |stream, peer, closing| {
            connection(endpoint.transport, stream, peer, held.clone(), limits.idle, closing)
        })?;
        Ok(Listening { slot, _udp: udp, _tcp: tcp })
    }
}

/// Answers what is asked on a connection. Without certificates, TLS is left out, as CoreDNS does.
async fn connection(
    transport: Transport,
    stream: TcpStream,
    peer: SocketAddr,
    slot: Arc<Slot<Servers>>,
    idle: Duration,
    closing: CancellationToken,
) {
    let Ok(server) = stream.local_addr() else { return };
    let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let ends = (canonical(peer), canonical(server));
    let tls = if transport == Transport::Dns { None } else { slot.get().tls.clone() };
    let Some(tls) = tls else {
        return speak(transport, stream, ends, slot, idle, closing).await;
    };
    match timeout(idle, TlsAcceptor::from(tls).accept(stream)).await {
        Ok(Ok(stream)) => speak(transport, stream, ends, slot, idle, closing).await,
        Ok(Err(error)) => tracing::debug!("dns tls of {peer}: {error}"),
        Err(_) => tracing::debug!("dns tls of {peer}: no handshake in {idle:?}"),
    }
}

async fn speak(
    transport: Transport,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ends: (SocketAddr, SocketAddr),
    slot: Arc<Slot<Servers>>,
    idle: Duration,
    closing: CancellationToken,
) {
    match transport {
        Transport::Dns | Transport::Tls => tcp::connection(stream, ends, &slot, idle, closing).await,
        Transport::Https => {
            web::serve(stream, idle, closing, move |request| https::answer(request, ends, slot.get(), idle)).await;
        }
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
