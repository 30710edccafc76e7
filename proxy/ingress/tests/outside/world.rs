//! A server with one route to whatever endpoints.

use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ingress::{Bounds, Certificates, Config, Listener, Policy, Route, Server, Table, Timeouts, Upstream};
use state::Key;
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::message::Message;

/// How long a client or an endpoint may be silent, in tests about that; a busy machine is not to be taken for silence.
pub(crate) const SHORT: Duration = Duration::from_secs(1);
/// How long what is to happen may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A server and all that it is told.
pub(crate) struct World {
    /// Without TLS.
    pub(crate) at: SocketAddr,
    /// With TLS.
    pub(crate) tls: SocketAddr,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) table: watch::Sender<Arc<Table>>,
    _stop: DropGuard,
}

impl World {
    /// Everything goes to these endpoints.
    pub(crate) fn new(endpoints: Vec<SocketAddr>) -> World {
        World::with(endpoints, Policy::default(), Bounds::default(), 2)
    }

    /// The same with short patience for clients and endpoints.
    pub(crate) fn impatient(endpoints: Vec<SocketAddr>) -> World {
        World::with(endpoints, hasty(), Bounds { patience: SHORT, ..Bounds::default() }, 1)
    }

    /// The same with short patience for endpoints.
    pub(crate) fn hasty(endpoints: Vec<SocketAddr>) -> World {
        World::with(endpoints, hasty(), Bounds::default(), 1)
    }

    pub(crate) fn with(endpoints: Vec<SocketAddr>, policy: Policy, bounds: Bounds, threads: usize) -> World {
        let upstream = Arc::new(Upstream::new(Key::new("default", "app"), "http"));
        upstream.update(endpoints);
        let (sender, receiver) = watch::channel(Arc::new(table(&upstream, policy, Certificates::default())));
        let listeners = [false, true].map(|tls| (TcpListener::bind("127.0.0.1:0").unwrap(), tls));
        let [at, tls] = [0, 1].map(|number: usize| listeners[number].0.local_addr().unwrap());
        let connect: proxy::user::Open<TcpStream> = Arc::new(|to| Box::pin(TcpStream::connect(to)));
        let server = Server::new(Config { connect, threads, grace: PATIENCE }, receiver).bounded(bounds);
        let stop = CancellationToken::new();
        let listeners = listeners.map(|(socket, tls)| Listener { socket, tls });
        tokio::spawn(server.run(listeners.into(), stop.clone()));
        World { at, tls, upstream, table: sender, _stop: stop.drop_guard() }
    }
}

pub(crate) fn hasty() -> Policy {
    Policy { timeouts: Timeouts { connect: SHORT, send: SHORT, read: SHORT }, body: None, ..Policy::default() }
}

/// Everything goes to one upstream.
pub(crate) fn table(upstream: &Arc<Upstream>, policy: Policy, certificates: Certificates) -> Table {
    let route = Route {
        ingress: Key::new("default", "app"),
        path: "/".into(),
        tls: false,
        backend: Some(upstream.clone()),
        policy: Arc::new(policy),
        canary: None,
        pattern: None,
    };
    Table { default: Some(Arc::new(route)), certificates, ..Table::default() }
}

/// An endpoint that does as it is told with each connection, which it gets with its number.
pub(crate) async fn endpoint<F: Future<Output = ()> + Send>(
    with: impl Fn(TcpStream, usize) -> F + Clone + Send + Sync + 'static,
) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut number = 0;
        while let Ok((stream, _)) = listener.accept().await {
            let with = with.clone();
            tokio::spawn(async move { with(stream, number).await });
            number += 1;
        }
    });
    at
}

/// What an endpoint saw.
#[derive(Debug, Default, Clone)]
pub(crate) struct Seen {
    /// Whole requests, well-formed.
    pub(crate) requests: Arc<Mutex<Vec<Message>>>,
    /// What was none, and why.
    pub(crate) wrong: Arc<Mutex<Vec<String>>>,
}

/// An endpoint that reads requests to the letter and answers with the id, the target and the length of the body.
pub(crate) async fn echo() -> (SocketAddr, Seen) {
    let seen = Seen::default();
    let noted = seen.clone();
    let at = endpoint(move |stream, _| echoes(stream, noted.clone())).await;
    (at, seen)
}

/// What `echo` does with one connection.
pub(crate) async fn echoes(stream: TcpStream, seen: Seen) {
    stream.set_nodelay(true).unwrap();
    let mut stream = BufReader::new(stream);
    loop {
        match Message::request(&mut stream).await {
            Ok(Some(message)) => {
                let answer = said(&message);
                seen.requests.lock().unwrap().push(message);
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
            // One that breaks off was never whole.
            Err(error) if error.kind() != std::io::ErrorKind::InvalidData => return,
            Err(error) => return seen.wrong.lock().unwrap().push(error.to_string()),
            Ok(None) => return,
        }
    }
}

/// The answer to a request.
pub(crate) fn said(request: &Message) -> String {
    let id = request.header("x-id").unwrap_or("none");
    let target = request.start.split(' ').nth(1).unwrap_or_default();
    let body = match request.start.starts_with("HEAD ") {
        true => String::new(),
        false => format!("{id} {target} {}", request.body.len()),
    };
    format!("HTTP/1.1 200 OK\r\nx-id: {id}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}
