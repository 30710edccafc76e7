//! Requests that leave HTTP.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper::ext::Protocol;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use ingress::{Policy, Timeouts};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::world::{World, endpoint, nobody, route, upstream};

const SOON: Duration = Duration::from_secs(20);
const ASKED: &str = "GET /chat HTTP/1.1\r\nHost: app.com\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";

/// An endpoint that agrees and then echoes.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap().to_lowercase();
                assert!(
                    head.starts_with("get /chat ")
                        && head.contains("upgrade: ")
                        && head.contains("x-real-ip: 127.0.0.1\r\n"),
                    "{head}"
                );
                let agreed = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
                stream.write_all(agreed).await.unwrap();
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    at
}

async fn hear(stream: &mut TcpStream, until: &str) {
    let mut heard = Vec::new();
    while !heard.ends_with(until.as_bytes()) {
        let byte = timeout(SOON, stream.read_u8()).await.unwrap();
        heard.push(byte.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&heard))));
    }
}

#[tokio::test]
async fn bytes_go_both_ways_until_both_are_silent() {
    let timeouts = Timeouts { read: Duration::from_secs(1), ..Timeouts::default() };
    let app = upstream("app", &[nobody(), echo().await]);
    let world = World::new(route(&app, Policy { timeouts, ..Policy::default() })).await;
    let mut stream = TcpStream::connect(world.at).await.unwrap();
    stream.write_all(ASKED.as_bytes()).await.unwrap();
    hear(&mut stream, "\r\n\r\n").await;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(2500) {
        stream.write_all(b"hello").await.unwrap();
        hear(&mut stream, "hello").await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let end = timeout(SOON, stream.read(&mut [0; 8])).await.unwrap();
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
}

#[tokio::test]
async fn policies_are_for_them_too() {
    let policy = Policy { deny: vec!["127.0.0.0/8".parse().unwrap()], ..Policy::default() };
    let world = World::new(route(&upstream("app", &[echo().await]), policy)).await;
    let mut stream = TcpStream::connect(world.at).await.unwrap();
    stream.write_all(ASKED.as_bytes()).await.unwrap();
    hear(&mut stream, "HTTP/1.1 403 ").await;
}

#[tokio::test]
async fn what_is_no_upgrade_is_a_request_like_others() {
    let app = upstream("app", &[endpoint("app").await]);
    let world = World::new(route(&app, Policy::default())).await;
    let settings = "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA";
    for headers in [
        &["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", settings][..],
        &["Connection: upgrade", "Upgrade: echo, H2C"],
        &["Upgrade: echo"],
    ] {
        let answer = world.ask("GET /", headers).await;
        let saw = ["upgrade", "connection", "http2-settings"].map(|name| answer.saw(name));
        assert_eq!((answer.status, saw), (200, [None; 3]), "{headers:?}");
    }
}

#[tokio::test]
async fn a_websocket_inside_http2() {
    let app = upstream("app", &[echo().await]);
    let world = World::new(route(&app, Policy::default())).await;
    let stream = TokioIo::new(TcpStream::connect(world.at).await.unwrap());
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    // The server's settings, which allow it, come before this answer.
    let elsewhere = Request::get("http://other.com/").body(Empty::<Bytes>::new()).unwrap();
    assert_eq!(client.send_request(elsewhere).await.unwrap().status(), 404);
    let connect = |app: &'static str| {
        let request = Request::connect(format!("http://{app}/chat")).extension(Protocol::from_static("websocket"));
        request.body(Empty::new()).unwrap()
    };
    let response = client.send_request(connect("app.com")).await.unwrap();
    assert_eq!((response.status(), response.headers().get("upgrade")), (StatusCode::OK, None));
    let mut socket = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    for _ in 0..3 {
        let mut heard = [0; 5];
        socket.write_all(b"hello").await.unwrap();
        timeout(SOON, socket.read_exact(&mut heard)).await.unwrap().unwrap();
        assert_eq!(&heard, b"hello");
    }
    app.update(vec![endpoint("app").await]);
    let response = client.send_request(connect("app.com")).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY, "an endpoint that does not agree");
    response.into_body().collect().await.unwrap();
}
