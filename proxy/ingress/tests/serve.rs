//! Clients, a server, and endpoints, over loopback.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use ingress::{Config, Listener, Matcher, Path, Policy, Route, Rules, Server, Table, Upstream};
use state::Key;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// An endpoint that says its name, the path and the headers that it saw.
async fn endpoint(name: &'static str) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = service_fn(move |request: Request<Incoming>| async move {
                let host = request.headers()["host"].to_str().unwrap().to_owned();
                let (path, from) = (request.uri().to_string(), request.headers()["x-forwarded-for"].clone());
                let body = request.into_body().collect().await?.to_bytes().len();
                let text = format!("{name} {host} {path} {} {body}", from.to_str().unwrap());
                Ok::<_, hyper::Error>(Response::new(Full::new(Bytes::from(text))))
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
        }
    });
    at
}

fn rules(paths: Vec<(Matcher, Arc<Upstream>)>) -> Rules {
    let path = |(matcher, upstream): (Matcher, Arc<Upstream>)| Path {
        matcher,
        route: Arc::new(Route {
            ingress: Key::new("default", "app"),
            path: "/".into(),
            tls: false,
            backend: Some(upstream),
            policy: Arc::new(Policy::default()),
            canary: None,
            pattern: None,
        }),
    };
    Rules::new(paths.into_iter().map(path).collect(), None)
}

fn serve(table: Table) -> (SocketAddr, CancellationToken) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = socket.local_addr().unwrap();
    let config = Config { connect: Arc::new(|to| Box::pin(TcpStream::connect(to))), threads: 1, grace: Duration::ZERO };
    let (_, table) = watch::channel(Arc::new(table));
    let stop = CancellationToken::new();
    tokio::spawn(Server::new(config, table).run(vec![Listener { socket, tls: false }], stop.clone()));
    (at, stop)
}

async fn client(at: SocketAddr) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(at).await.unwrap();
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn get(client: &mut SendRequest<Full<Bytes>>, host: &str, path: &str, body: Vec<u8>) -> (u16, String) {
    client.ready().await.unwrap();
    let request = Request::post(path).header("host", host).body(Full::new(Bytes::from(body))).unwrap();
    let response = client.send_request(request).await.unwrap();
    let status = response.status().as_u16();
    (status, String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
}

#[tokio::test]
async fn requests_go_by_host_and_path_over_connections_that_stay() {
    let upstream = |name, at| {
        let upstream = Upstream::new(Key::new("default", name), "http");
        upstream.update(vec![at]);
        Arc::new(upstream)
    };
    let front = upstream("frontend", endpoint("frontend").await);
    let back = upstream("backend", endpoint("backend").await);
    let app = rules(vec![(Matcher::Prefix("/api".into()), back), (Matcher::Prefix("".into()), front)]);
    let table = Table { hosts: HashMap::from([("app.com".into(), app)]), ..Table::default() };
    let (at, stop) = serve(table);
    let mut client = client(at).await;
    let mut answer = async |host: &str, path: &str| get(&mut client, host, path, vec![b'x'; 70_000]).await;
    for _ in 0..3 {
        assert_eq!(answer("app.com", "/").await, (200, "frontend app.com / 127.0.0.1 70000".into()));
        assert_eq!(
            answer("App.com:80", "/api/x?y=1").await,
            (200, "backend App.com:80 /api/x?y=1 127.0.0.1 70000".into())
        );
    }
    assert_eq!(answer("other.com", "/").await.0, 404);
    stop.cancel();
}
