//! Endpoints that say what they saw, a server before them, and a client that writes its requests itself.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use ingress::{Canary, Config, Listener, Matcher, Path, Policy, Route, Rules, Server, Table, Upstream};
use state::Key;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// An endpoint whose answer is its name, the request's line, and its headers, a line each. The status is that of the
/// header `want`.
pub(crate) async fn endpoint(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = service_fn(move |request: Request<Incoming>| answer(name, request));
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
        }
    });
    at
}

/// What such an endpoint answers.
pub(crate) async fn answer(
    name: &'static str,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (parts, body) = request.into_parts();
    let length = body.collect().await?.to_bytes().len();
    let mut text = format!("{name}\n{} {} {length}\n", parts.method, parts.uri);
    for (name, value) in &parts.headers {
        text += &format!("{name}: {}\n", value.to_str().unwrap());
    }
    let want = parts.headers.get("want").map_or("200", |want| want.to_str().unwrap());
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = StatusCode::from_bytes(want.as_bytes()).unwrap();
    Ok(response)
}

/// A port of 127.0.0.1 where nobody listens, and that nobody else gets.
pub(crate) fn nobody() -> SocketAddr {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let at = socket.local_addr().unwrap();
    std::mem::forget(socket);
    at
}

/// The upstream of a Service with these endpoints.
pub(crate) fn upstream(service: &str, endpoints: &[SocketAddr]) -> Arc<Upstream> {
    let upstream = Upstream::new(Key::new("default", service), "http");
    upstream.update(endpoints.to_vec());
    Arc::new(upstream)
}

/// A route of `app.com`.
pub(crate) fn route(backend: &Arc<Upstream>, policy: Policy) -> Route {
    Route {
        ingress: Key::new("default", "app"),
        path: "/".into(),
        tls: false,
        backend: Some(backend.clone()),
        policy: Arc::new(policy),
        canary: None,
        pattern: None,
    }
}

/// A canary that takes nothing by itself.
pub(crate) fn canary(backend: &Arc<Upstream>) -> Canary {
    Canary {
        header: None,
        header_value: None,
        header_pattern: None,
        cookie: None,
        weight: 0,
        total: 100,
        backend: backend.clone(),
    }
}

/// A server with one route for all of `app.com`.
pub(crate) struct World {
    pub(crate) at: SocketAddr,
    _stop: DropGuard,
}

impl World {
    pub(crate) async fn new(route: Route) -> Self {
        World::with(route, |server| server)
    }

    /// One with a server that differs.
    pub(crate) fn with(route: Route, change: impl FnOnce(Server) -> Server) -> Self {
        let paths = vec![Path { matcher: Matcher::Prefix("".into()), route: Arc::new(route) }];
        let table = Table { hosts: HashMap::from([("app.com".into(), Rules::new(paths, None))]), ..Table::default() };
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = socket.local_addr().unwrap();
        let connect: proxy::user::Open<TcpStream> = Arc::new(|to| Box::pin(TcpStream::connect(to)));
        let (_, table) = watch::channel(Arc::new(table));
        let stop = CancellationToken::new();
        let config = Config { connect, threads: 2, grace: Duration::ZERO };
        tokio::spawn(change(Server::new(config, table)).run(vec![Listener { socket, tls: false }], stop.clone()));
        World { at, _stop: stop.drop_guard() }
    }

    pub(crate) async fn client(&self) -> SendRequest<Full<Bytes>> {
        let stream = TcpStream::connect(self.at).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        sender
    }

    /// Asks on a new connection, with `NAME: VALUE` headers.
    pub(crate) async fn ask(&self, line: &str, headers: &[&str]) -> Answer {
        let (method, target) = line.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(target).header("host", "app.com");
        for header in headers {
            let (name, value) = header.split_once(": ").unwrap();
            request = request.header(name, value);
        }
        let request = request.body(Full::default()).unwrap();
        let response = self.client().await.send_request(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: hyper::HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The endpoint's name.
    pub(crate) fn name(&self) -> &str {
        self.body.lines().next().unwrap_or_default()
    }

    /// The target that it saw.
    pub(crate) fn target(&self) -> &str {
        self.body.lines().nth(1).and_then(|line| line.split(' ').nth(1)).unwrap_or_default()
    }

    /// A header that it saw.
    pub(crate) fn saw(&self, name: &str) -> Option<&str> {
        self.body.lines().skip(2).find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}
