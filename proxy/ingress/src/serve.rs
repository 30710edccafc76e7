//! The threads that clients talk to.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use proxy::user::Open;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{interval, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::head::Client;
use crate::pool::Pool;
use crate::{Table, forward, tls};

/// How long a client may take for its handshake or the head of a request, and a connection may rest.
const HEAD: Duration = Duration::from_secs(60);
/// A pause after a failed accept: out of descriptors, most likely.
const PAUSE: Duration = Duration::from_millis(100);
/// How often connections to endpoints are looked through.
const SWEEP: Duration = Duration::from_secs(10);

/// A door for clients.
#[derive(Debug)]
pub struct Listener {
    /// The listening socket, from whatever network namespace.
    pub socket: TcpListener,
    /// Whether TLS is spoken there.
    pub tls: bool,
}

/// What a server needs.
#[derive(Clone)]
pub struct Config {
    /// How endpoints are reached.
    pub connect: Open<TcpStream>,
    /// How many threads clients are shared among.
    pub threads: usize,
    /// For how long requests under way may go on after the shutdown.
    pub grace: Duration,
}

/// Answers clients by a Table.
pub struct Server {
    config: Config,
    table: watch::Receiver<Arc<Table>>,
}

/// What one thread has for its own.
pub(crate) struct Thread {
    pub(crate) pool: Arc<Pool>,
    pub(crate) connect: Open<TcpStream>,
    table: watch::Receiver<Arc<Table>>,
}

impl Server {
    /// A server that answers by the `table` of the moment.
    pub fn new(config: Config, table: watch::Receiver<Arc<Table>>) -> Self {
        Server { config, table }
    }

    /// Serves until `shutdown`, on threads of its own; requests under way have their grace then.
    ///
    /// # Errors
    /// When a thread or a socket cannot be had.
    pub async fn run(self, listeners: Vec<Listener>, shutdown: CancellationToken) -> io::Result<()> {
        let acceptor = TlsAcceptor::from(tls::config(self.table.clone()).map_err(io::Error::other)?);
        let running = TaskTracker::new();
        for number in 0..self.config.threads {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let doors = listeners.iter().map(|door| Ok((door.socket.try_clone()?, door.tls.then(|| acceptor.clone()))));
            let doors: Vec<_> = doors.collect::<io::Result<_>>()?;
            let thread =
                Thread { pool: Arc::default(), connect: self.config.connect.clone(), table: self.table.clone() };
            let serving = serve(Arc::new(thread), doors, self.config.grace, shutdown.clone());
            let token = running.token();
            std::thread::Builder::new().name(format!("ingress-{number}")).spawn(move || {
                if let Err(error) = runtime.block_on(serving) {
                    warn!("failed to serve ingress: {error}");
                }
                drop(token);
            })?;
        }
        drop(listeners);
        running.close();
        running.wait().await;
        Ok(())
    }
}

/// One thread.
async fn serve(
    thread: Arc<Thread>,
    doors: Vec<(TcpListener, Option<TlsAcceptor>)>,
    grace: Duration,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let graceful = Arc::new(GracefulShutdown::new());
    let accepting = TaskTracker::new();
    for (socket, acceptor) in doors {
        socket.set_nonblocking(true)?;
        SockRef::from(&socket).set_tcp_nodelay(true)?;
        let listener = tokio::net::TcpListener::from_std(socket)?;
        let (thread, graceful, shutdown) = (thread.clone(), Arc::clone(&graceful), shutdown.clone());
        accepting.spawn(async move {
            shutdown.run_until_cancelled(accept(listener, acceptor, thread, graceful)).await;
        });
    }
    let sweep = async {
        let mut interval = interval(SWEEP);
        loop {
            interval.tick().await;
            thread.pool.sweep();
        }
    };
    shutdown.run_until_cancelled(sweep).await;
    accepting.close();
    accepting.wait().await;
    if let Some(graceful) = Arc::into_inner(graceful) {
        timeout(grace, graceful.shutdown()).await.ok();
    }
    Ok(())
}

async fn accept(
    listener: tokio::net::TcpListener,
    acceptor: Option<TlsAcceptor>,
    thread: Arc<Thread>,
    graceful: Arc<GracefulShutdown>,
) {
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                debug!("failed to accept a connection: {error}");
                sleep(PAUSE).await;
                continue;
            }
        };
        let watcher = graceful.watcher();
        let (thread, acceptor) = (thread.clone(), acceptor.clone());
        tokio::spawn(async move {
            match acceptor {
                None => talk(stream, from, false, thread, watcher).await,
                Some(acceptor) => match timeout(HEAD, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => talk(stream, from, true, thread, watcher).await,
                    Ok(Err(error)) => debug!("TLS with {from}: {error}"),
                    Err(_) => debug!("TLS with {from}: no handshake within {HEAD:?}"),
                },
            }
        });
    }
}

/// Serves one client's connection to its end.
async fn talk(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    from: SocketAddr,
    tls: bool,
    thread: Arc<Thread>,
    watcher: hyper_util::server::graceful::Watcher,
) {
    let client = Arc::new(Client::new(from, tls));
    let service = service_fn(move |request| {
        let (thread, client) = (thread.clone(), client.clone());
        async move {
            let table = thread.table.borrow().clone();
            Ok::<_, Infallible>(forward::answer(&thread, &table, &client, request).await)
        }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(HEAD);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        debug!("connection with {from}: {error}");
    }
}
