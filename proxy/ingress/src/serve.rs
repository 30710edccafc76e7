//! The threads that clients talk to.

use std::convert::Infallible;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use http::{HeaderValue, Version};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use proxy::user::Open;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::time::{interval, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::body::Held;
use crate::delivery::{PIECE, Streams};
use crate::gate::Gate;
use crate::grpc::Channels;
use crate::head::Client;
use crate::log::{Log, Sink};
use crate::metrics::Metrics;
use crate::patient::Patient;
use crate::peer::Aside;
use crate::pool::Pool;
use crate::record::Recorder;
use crate::stream::Stream;
use crate::{Table, forward, tls};

/// Connections of clients at once.
const CONNECTIONS: usize = 10_000;
/// For how long a client is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a head may be, over all of its fields, of clients (twice what nginx allows) and of answers to upgrades. As much
/// is read at once, too.
pub(crate) const HEAD: usize = 64 << 10;
/// How much of each answer over HTTP/2 may wait to be sent; hyper's own bound is three times that, for each of 200 streams.
const UNSENT: usize = 128 << 10;
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

/// What clients may have, all together and each.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Connections at once, over all threads; more of them wait in the kernel.
    pub connections: usize,
    /// For how long one may be silent: in its handshake, between requests and in their heads, and when it does not
    /// take its answer.
    pub patience: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds { connections: CONNECTIONS, patience: PATIENCE }
    }
}

/// Answers clients by a Table.
pub struct Server {
    config: Config,
    bounds: Bounds,
    log: Option<Sink>,
    metrics: Option<Arc<Metrics>>,
    table: watch::Receiver<Arc<Table>>,
}

/// What one thread has for its own.
pub(crate) struct Thread {
    pub(crate) pool: Arc<Pool>,
    /// Those over HTTP/2.
    pub(crate) channels: Channels,
    pub(crate) connect: Open<TcpStream>,
    pub(crate) aside: Aside,
    pub(crate) gate: Arc<Gate>,
    pub(crate) recorder: Option<Arc<Recorder>>,
    random: (RandomState, AtomicU64),
    patience: Duration,
    /// Those for connections.
    pub(crate) places: Arc<Semaphore>,
    table: watch::Receiver<Arc<Table>>,
}

impl Thread {
    /// A number that nobody guesses.
    pub(crate) fn random(&self) -> u64 {
        let (hasher, count) = &self.random;
        hasher.hash_one(count.fetch_add(1, Ordering::Relaxed))
    }

    /// A request's id, as nginx makes them.
    pub(crate) fn id(&self) -> HeaderValue {
        let digit = |at: u32, number: u128| b"0123456789abcdef"[(number >> (4 * at)) as usize & 15];
        let number = u128::from(self.random()) << 64 | u128::from(self.random());
        let id: [u8; 32] = std::array::from_fn(|at| digit(at as u32, number));
        HeaderValue::from_bytes(&id).unwrap_or(HeaderValue::from_static("0"))
    }
}

impl Server {
    /// A server that answers by the `table` of the moment.
    pub fn new(config: Config, table: watch::Receiver<Arc<Table>>) -> Self {
        Server { config, bounds: Bounds::default(), log: None, metrics: None, table }
    }

    /// The same with other bounds.
    pub fn bounded(self, bounds: Bounds) -> Self {
        Server { bounds, ..self }
    }

    /// The same with an access log.
    pub fn logging(self, sink: Sink) -> Self {
        Server { log: Some(sink), ..self }
    }

    /// The same, with its requests counted.
    pub fn counting(self, metrics: Arc<Metrics>) -> Self {
        Server { metrics: Some(metrics), ..self }
    }

    /// That of one thread, if there is anything to be recorded.
    fn recorder(&self) -> Option<Arc<Recorder>> {
        let (log, shard) = (self.log.clone().map(Log::new), self.metrics.as_ref().map(|metrics| metrics.shard()));
        (log.is_some() || shard.is_some()).then(|| Arc::new(Recorder { log, shard }))
    }

    /// Serves until `shutdown`, on threads of its own; requests under way have their grace then.
    ///
    /// # Errors
    /// When a thread or a socket cannot be had.
    pub async fn run(self, listeners: Vec<Listener>, shutdown: CancellationToken) -> io::Result<()> {
        let running = self.start(listeners, &shutdown)?;
        running.close();
        running.wait().await;
        Ok(())
    }

    /// Its threads. What is async is compiled with the crate that awaits it, and by that one's options; this is not.
    fn start(self, listeners: Vec<Listener>, shutdown: &CancellationToken) -> io::Result<TaskTracker> {
        let acceptor = TlsAcceptor::from(tls::config(self.table.clone()).map_err(io::Error::other)?);
        let running = TaskTracker::new();
        let places = Arc::new(Semaphore::new(self.bounds.connections));
        let gate = Arc::<Gate>::default();
        for number in 0..self.config.threads {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let doors = listeners.iter().map(|door| Ok((door.socket.try_clone()?, door.tls.then(|| acceptor.clone()))));
            let doors: Vec<_> = doors.collect::<io::Result<_>>()?;
            let thread = Thread {
                pool: Arc::default(),
                channels: Channels::default(),
                connect: self.config.connect.clone(),
                aside: Aside::default(),
                gate: gate.clone(),
                recorder: self.recorder(),
                random: (RandomState::new(), AtomicU64::new(0)),
                patience: self.bounds.patience,
                places: places.clone(),
                table: self.table.clone(),
            };
            let serving = serve(Arc::new(thread), doors, self.config.grace, shutdown.clone());
            let token = running.token();
            std::thread::Builder::new().name(format!("ingress-{number}")).spawn(move || {
                if let Err(error) = runtime.block_on(serving) {
                    warn!("failed to serve ingress: {error}");
                }
                drop(token);
            })?;
        }
        Ok(running)
    }
}

/// One thread.
async fn serve(
    thread: Arc<Thread>,
    doors: Vec<(TcpListener, Option<TlsAcceptor>)>,
    grace: Duration,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let (accepting, talking) = (TaskTracker::new(), TaskTracker::new());
    for (socket, acceptor) in doors {
        socket.set_nonblocking(true)?;
        SockRef::from(&socket).set_tcp_nodelay(true)?;
        let listener = tokio::net::TcpListener::from_std(socket)?;
        let (thread, talking, shutdown) = (thread.clone(), talking.clone(), shutdown.clone());
        accepting.spawn(async move {
            shutdown.run_until_cancelled(accept(listener, acceptor, thread, talking, &shutdown)).await;
        });
    }
    let sweep = async {
        let mut interval = interval(SWEEP);
        loop {
            interval.tick().await;
            thread.pool.sweep();
            thread.channels.sweep();
        }
    };
    shutdown.run_until_cancelled(sweep).await;
    accepting.close();
    accepting.wait().await;
    talking.close();
    timeout(grace, talking.wait()).await.ok();
    Ok(())
}

async fn accept(
    listener: tokio::net::TcpListener,
    acceptor: Option<TlsAcceptor>,
    thread: Arc<Thread>,
    talking: TaskTracker,
    shutdown: &CancellationToken,
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
        // One waits here at each door of each thread, and the others in the kernel. A door that nobody comes to keeps none.
        let Ok(place) = thread.places.clone().acquire_owned().await else { return };
        let (thread, acceptor, shutdown) = (thread.clone(), acceptor.clone(), shutdown.clone());
        talking.spawn(async move {
            let _place = place;
            let patience = thread.patience;
            let stream = Patient::new(stream, patience);
            match acceptor {
                None => talk(Stream::Plain(stream), from, thread, shutdown).await,
                Some(acceptor) => match timeout(patience, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => talk(Stream::Tls(Box::new(stream.into())), from, thread, shutdown).await,
                    Ok(Err(error)) => debug!("TLS with {from}: {error}"),
                    Err(_) => debug!("TLS with {from}: no handshake within {patience:?}"),
                },
            }
        });
    }
}

/// Serves one client's connection to its end: that of the client, of the server, or of patience.
async fn talk(stream: Stream<Patient>, from: SocketAddr, thread: Arc<Thread>, shutdown: CancellationToken) {
    let client = Arc::new(Client::new(from, matches!(stream, Stream::Tls(_))));
    let patience = thread.patience;
    // Every request under way holds it, until its answer is gone.
    let asked = Arc::new(AtomicUsize::new(0));
    let (asking, silence) = (asked.clone(), silence(asked, patience));
    let service = service_fn(move |request| {
        let (thread, client, asking) = (thread.clone(), client.clone(), asking.clone());
        asking.fetch_add(1, Ordering::Relaxed);
        let piece = if request.version() == Version::HTTP_2 { PIECE } else { usize::MAX };
        async move {
            let table = thread.table.borrow().clone();
            let (response, record) = forward::answer(&thread, &table, &client, request).await;
            Ok::<_, Infallible>(response.map(|body| Held { body, _by: asking, record, piece, rest: Bytes::new() }))
        }
    });
    let mut builder = Builder::new(Streams { patience });
    // Silence is a bound for heads, too; a timer of hyper's would be set for each of them.
    builder.http1().max_buf_size(HEAD);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(patience).enable_connect_protocol();
    builder.http2().max_header_list_size(HEAD as u32 / 2).max_send_buf_size(UNSENT);
    let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    // Polled when it is woken, and not with every step of the connection.
    let mut end = FuturesUnordered::from_iter([async {
        tokio::select! {
            () = shutdown.cancelled() => None,
            () = silence => Some(patience),
        }
    }]);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        Some(bound) = end.next() => {
            connection.as_mut().graceful_shutdown();
            match bound {
                None => connection.await,
                Some(patience) => timeout(patience, connection).await.unwrap_or(Ok(())),
            }
        }
    };
    if let Err(error) = ended {
        debug!("connection with {from}: {error}");
    }
}

/// Ends when no request came and none was under way for so long. (hyper has a limit for heads in HTTP/1 alone.)
async fn silence(asked: Arc<AtomicUsize>, patience: Duration) {
    let mut before = usize::MAX;
    loop {
        let now = asked.load(Ordering::Relaxed);
        // The service and this function hold it always.
        if now == before && Arc::strong_count(&asked) == 2 {
            return;
        }
        before = now;
        sleep(patience).await;
    }
}
