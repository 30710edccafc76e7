use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use rustls::ServerConfig;
use socket2::{SockRef, TcpKeepalive};
use stall::Stall;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::identity::Identity;
use crate::pki;
use crate::server::{ApiServer, Service};

mod stall;

/// Connections of one listener at a time; further ones wait to be accepted.
const CONNECTIONS: usize = 8192;
/// Requests on one HTTP/2 connection at a time.
const STREAMS: u32 = 1024;
/// Bytes of the headers of a request.
const HEADERS: u32 = 64 << 10;
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a client may take for the head of a request. It counts while a connection rests, too, so it is longer than
/// the 90 seconds for which clients in Go and Rust keep one.
const HEAD: Duration = Duration::from_secs(120);
/// How often a quiet HTTP/2 client is asked whether it is still there, and how long it may take to answer.
const PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));
/// How long a client may take nothing of what is sent to it: one that no longer reads a watch is dropped.
const STALL: Duration = Duration::from_secs(60);
/// When a quiet TCP connection is asked whether it is still there, and how often until it is given up.
const ALIVE: (Duration, Duration, u32) = (Duration::from_secs(60), Duration::from_secs(15), 4);
/// How long requests under way are waited for at shutdown.
const DRAIN: Duration = Duration::from_secs(2);
/// How long to wait after an accept that failed, as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

impl ApiServer {
    /// Serves HTTPS until the shutdown: HTTP/1.1 and HTTP/2, users by their client certificates. Then streams end at
    /// once, other requests under way are finished, and it returns.
    pub async fn serve_tls(
        &self,
        listener: std::net::TcpListener,
        tls: Arc<ServerConfig>,
        shutdown: CancellationToken,
    ) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let acceptor = TlsAcceptor::from(tls);
        let door = Door::new(shutdown);
        while let Some((permit, (stream, peer))) = door.next(|| listener.accept()).await {
            let (server, acceptor, watcher) = (self.clone(), acceptor.clone(), door.graceful.watcher());
            tokio::spawn(async move {
                let connection = async {
                    // Small answers are sent at once.
                    let _ = stream.set_nodelay(true);
                    let stream: TcpStream = stream;
                    let alive = TcpKeepalive::new().with_time(ALIVE.0).with_interval(ALIVE.1).with_retries(ALIVE.2);
                    let _ = SockRef::from(&stream).set_tcp_keepalive(&alive);
                    let stream = timeout(HANDSHAKE, acceptor.accept(stream)).await.ok()?.ok()?;
                    let certificates = stream.get_ref().1.peer_certificates();
                    let identity = certificates.and_then(|all| pki::identity(all.first()?));
                    talk(stream, server.connection(identity), watcher).await;
                    Some(())
                };
                if connection.await.is_none() {
                    tracing::debug!(%peer, "no TLS handshake");
                }
                drop(permit);
            });
        }
        self.drain(door).await;
        Ok(())
    }

    /// Serves plain HTTP on a Unix socket until the shutdown, as [`serve_tls`](ApiServer::serve_tls) does. Who may
    /// connect to it acts as `identity`: the rights of the socket's file are the authentication.
    pub async fn serve_unix(
        &self,
        listener: std::os::unix::net::UnixListener,
        identity: Identity,
        shutdown: CancellationToken,
    ) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        let door = Door::new(shutdown);
        while let Some((permit, (stream, _))) = door.next(|| listener.accept()).await {
            let (service, watcher) = (self.service(identity.clone()), door.graceful.watcher());
            tokio::spawn(async move {
                talk(stream, service, watcher).await;
                drop(permit);
            });
        }
        self.drain(door).await;
        Ok(())
    }

    async fn drain(&self, door: Door) {
        self.end_streams();
        let _ = timeout(DRAIN, door.graceful.shutdown()).await;
    }
}

/// Lets connections in, as many as there may be, until the shutdown.
struct Door {
    shutdown: CancellationToken,
    places: Arc<Semaphore>,
    graceful: GracefulShutdown,
}

impl Door {
    fn new(shutdown: CancellationToken) -> Self {
        Door { shutdown, places: Arc::new(Semaphore::new(CONNECTIONS)), graceful: GracefulShutdown::new() }
    }

    /// The next connection, with its place; None at the shutdown.
    async fn next<C, F>(&self, accept: impl Fn() -> F) -> Option<(OwnedSemaphorePermit, C)>
    where
        F: Future<Output = io::Result<C>>,
    {
        let come = async {
            let permit = self.places.clone().acquire_owned().await.ok()?;
            loop {
                match accept().await {
                    Ok(connection) => return Some((permit, connection)),
                    Err(error) => {
                        tracing::warn!(%error, "accept");
                        sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        };
        self.shutdown.run_until_cancelled(come).await?
    }
}

/// HTTP on one connection, to its end.
async fn talk(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, service: Service, watcher: Watcher) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEADERS as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HEADERS)
        .max_concurrent_streams(STREAMS)
        .keep_alive_interval(PING.0)
        .keep_alive_timeout(PING.1);
    let connection =
        builder.serve_connection_with_upgrades(TokioIo::new(Stall::new(stream, STALL)), service).into_owned();
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(error, "connection");
    }
}
