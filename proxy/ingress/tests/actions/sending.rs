//! How requests reach endpoints, and how answers come back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use ingress::{Policy, Protocol, Timeouts};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::world::{World, answer, endpoint, nobody, route, upstream};

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn endpoints_that_refuse_are_passed_over() {
    let app = upstream("app", &[nobody(), nobody(), endpoint("app").await]);
    let world = World::new(route(&app, Policy::default())).await;
    for line in ["GET /", "POST /", "GET /", "DELETE /", "PATCH /"] {
        assert_eq!(world.ask(line, &[]).await.name(), "app", "{line}");
    }
    app.update(vec![nobody()]);
    assert_eq!(world.ask("GET /", &[]).await.status, 502);
    app.update(Vec::new());
    assert_eq!(world.ask("GET /", &[]).await.status, 503);
}

/// An endpoint that does what it is told with each connection.
async fn raw<F: Future<Output = ()> + Send + 'static>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    at
}

/// All that comes until the client's connection ends, or what was waited for.
async fn talk(world: &World, said: &str, until: &str) -> String {
    let mut stream = TcpStream::connect(world.at).await.unwrap();
    stream.write_all(said.as_bytes()).await.unwrap();
    let mut heard = Vec::new();
    let hearing = async {
        while !String::from_utf8_lossy(&heard).contains(until) && stream.read_buf(&mut heard).await.unwrap() > 0 {}
    };
    timeout(SOON, hearing).await.unwrap();
    String::from_utf8_lossy(&heard).into_owned()
}

fn impatient() -> Policy {
    let short = Duration::from_secs(1);
    Policy { timeouts: Timeouts { connect: short, send: short, read: short }, ..Policy::default() }
}

#[tokio::test]
async fn requests_are_sent_again_only_if_that_is_safe() {
    // It takes the request and closes the connection.
    let closes = raw(|mut stream| async move {
        let _ = stream.read(&mut [0; 1024]).await;
    });
    let app = upstream("app", &[closes.await, endpoint("app").await]);
    let world = World::new(route(&app, Policy::default())).await;
    for (line, expected) in [("GET /", [200, 200]), ("PUT /", [200, 200]), ("POST /", [200, 502])] {
        let mut answers = [world.ask(line, &[]).await.status, world.ask(line, &[]).await.status];
        answers.sort();
        assert_eq!(answers, expected, "{line}");
    }
    let silent = raw(|stream| async move {
        let _stream = stream;
        std::future::pending().await
    });
    let app = upstream("app", &[silent.await]);
    let world = World::new(route(&app, impatient())).await;
    assert_eq!(world.ask("POST /", &[]).await.status, 504);
    assert_eq!(world.ask("GET /", &[]).await.status, 504);
    let slow = "POST / HTTP/1.1\r\nHost: app.com\r\nContent-Length: 5\r\n\r\nabc";
    assert!(talk(&world, slow, "\r\n\r\n").await.starts_with("HTTP/1.1 408 "), "the client is silent");
}

#[tokio::test]
async fn bodies_within_their_bounds() {
    let app = upstream("app", &[endpoint("app").await]);
    let world = World::new(route(&app, Policy { body: Some(8), ..Policy::default() })).await;
    let head = "POST / HTTP/1.1\r\nHost: app.com\r\nConnection: close\r\n";
    let cases = [
        ("Content-Length: 8\r\n\r\n12345678", "200 "),
        ("Content-Length: 9\r\n\r\n123456789", "413 "),
        ("Transfer-Encoding: chunked\r\n\r\n8\r\n12345678\r\n0\r\n\r\n", "200 "),
        ("Transfer-Encoding: chunked\r\n\r\n8\r\n12345678\r\n1\r\n9\r\n0\r\n\r\n", "413 "),
        ("Expect: 100-continue\r\nContent-Length: 3\r\n\r\n", "100 "),
        ("Transfer-Encoding: chunked\r\n\r\n8\r\n1234", "408 "),
        ("Transfer-Encoding: chunked\r\n\r\nzz\r\n", "400 "),
    ];
    let short = World::new(route(&app, Policy { body: Some(8), ..impatient() })).await;
    for (rest, expected) in cases {
        let world = if expected == "408 " { &short } else { &world };
        let heard = talk(world, &format!("{head}{rest}"), "\r\n\r\n").await;
        assert!(heard.starts_with(&format!("HTTP/1.1 {expected}")), "{rest}: {heard}");
    }
    for (line, want, length) in [("HEAD /", "200", 0), ("GET /", "204", 0), ("GET /", "304", 0)] {
        let answer = world.ask(line, &[&format!("Want: {want}")]).await;
        assert_eq!((answer.status.to_string().as_str(), answer.body.len()), (want, length), "{line}");
    }
    let head = world.ask("HEAD /", &[]).await;
    assert!(head.header("content-length").unwrap().parse::<usize>().unwrap() > 0, "{head:?}");
}

#[tokio::test]
async fn an_endpoint_notices_that_the_client_went() {
    let (said, mut heard) = tokio::sync::mpsc::channel(4);
    let waits = raw(move |mut stream| {
        let said = said.clone();
        async move {
            let mut bytes = [0; 4096];
            while stream.read(&mut bytes).await.is_ok_and(|length| length > 0) {
                said.send("request").await.unwrap();
            }
            said.send("closed").await.unwrap();
        }
    });
    let world = World::new(route(&upstream("app", &[waits.await]), Policy::default())).await;
    let mut stream = TcpStream::connect(world.at).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: app.com\r\n\r\n").await.unwrap();
    assert_eq!(timeout(SOON, heard.recv()).await.unwrap(), Some("request"));
    drop(stream);
    assert_eq!(timeout(SOON, heard.recv()).await.unwrap(), Some("closed"));
}

#[tokio::test]
async fn an_early_answer_and_trailers() {
    let early = raw(|mut stream| async move {
        let _ = stream.read(&mut [0; 1024]).await;
        let answer = "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno";
        stream.write_all(answer.as_bytes()).await.unwrap();
        while stream.read(&mut [0; 1024]).await.is_ok_and(|length| length > 0) {}
    });
    let world = World::new(route(&upstream("app", &[early.await]), Policy::default())).await;
    let heard = talk(&world, "POST / HTTP/1.1\r\nHost: app.com\r\nContent-Length: 9\r\n\r\nabc", "no").await;
    assert!(heard.starts_with("HTTP/1.1 403 ") && heard.ends_with("no"), "{heard}");

    let trails = raw(|mut stream| async move {
        let _ = stream.read(&mut [0; 1024]).await;
        let answer =
            "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
    });
    let world = World::new(route(&upstream("app", &[trails.await]), Policy::default())).await;
    let asked = "GET / HTTP/1.1\r\nHost: app.com\r\nTE: trailers\r\nConnection: TE\r\n\r\n";
    let heard = talk(&world, asked, "x-sum: 1\r\n").await.to_lowercase();
    assert!(heard.contains("x-sum: 1\r\n"), "{heard}");
}

/// TLS of an endpoint, with a certificate that nobody signed.
fn acceptor(protocols: &[&[u8]]) -> TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(vec!["inner".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

/// Answers over HTTP/2 with the request's body, frame by frame, and trailers.
async fn echo(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let answer = service_fn(|request: Request<Incoming>| async move {
        assert_eq!(request.headers()["te"], "trailers");
        assert_eq!(request.uri().authority().unwrap(), "app.com");
        let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "7".parse().unwrap())]);
        let frames = request.into_body().into_data_stream().map(|data| data.map(Frame::data));
        let frames = frames.chain(futures::stream::iter([Ok(Frame::trailers(trailers))]));
        Ok::<_, hyper::Error>(Response::new(StreamBody::new(frames)))
    });
    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    let _ = builder.serve_connection(TokioIo::new(stream), answer).await;
}

#[tokio::test]
async fn backends_inside_tls() {
    let acceptor = acceptor(&[]);
    let secret = raw(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let answer = service_fn(|request| answer("secret", request));
            let builder = hyper::server::conn::http1::Builder::new();
            let _ = builder.serve_connection(TokioIo::new(stream), answer).await;
        }
    });
    let app = upstream("app", &[secret.await]);
    let world = World::new(route(&app, Policy { protocol: Protocol::Https, ..Policy::default() })).await;
    for _ in 0..3 {
        assert_eq!(world.ask("GET /", &[]).await.name(), "secret");
    }
    app.update(vec![endpoint("plain").await]);
    assert_eq!(world.ask("GET /", &[]).await.status, 502, "no TLS");
}

#[tokio::test]
async fn grpc_streams_both_ways_and_ends_with_trailers() {
    let plain = raw(echo).await;
    let acceptor = acceptor(&[b"h2"]);
    let secret = raw(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                echo(stream).await;
            }
        }
    });
    for (protocol, at) in [(Protocol::Grpc, plain), (Protocol::Grpcs, secret.await)] {
        let app = upstream("app", &[at]);
        let world = World::new(route(&app, Policy { protocol, ..Policy::default() })).await;
        let stream = TokioIo::new(TcpStream::connect(world.at).await.unwrap());
        let (mut client, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        tokio::spawn(connection);
        for round in 0..3 {
            let (said, says) = futures::channel::mpsc::unbounded::<Result<Frame<Bytes>, std::convert::Infallible>>();
            let request = Request::post("http://app.com/pkg.Service/Method").header("te", "trailers");
            let request = request.header("content-type", "application/grpc").body(StreamBody::new(says)).unwrap();
            let mut body = client.send_request(request).await.unwrap().into_body();
            for message in ["one", "two"] {
                said.unbounded_send(Ok(Frame::data(Bytes::from(message)))).unwrap();
                let frame = timeout(SOON, body.frame()).await.unwrap().unwrap().unwrap();
                assert_eq!(frame.into_data().unwrap(), message, "{protocol:?}, round {round}");
            }
            drop(said);
            let end = timeout(SOON, body.frame()).await.unwrap().unwrap().unwrap();
            assert_eq!(end.into_trailers().unwrap()["grpc-status"], "7");
        }
        app.update(vec![nobody()]);
        assert_eq!(world.ask("POST /", &[]).await.status, 502);
    }
}

#[tokio::test]
async fn crumbs_of_cookies_are_joined() {
    let app = upstream("app", &[endpoint("app").await]);
    let world = World::new(route(&app, Policy::default())).await;
    let stream = TokioIo::new(TcpStream::connect(world.at).await.unwrap());
    let (mut client, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("http://app.com/x").header("cookie", "a=1").header("cookie", "b=2");
    let request = request.body(http_body_util::Empty::<Bytes>::new()).unwrap();
    let response = client.send_request(request).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert!(text.contains("GET /x 0\n") && text.contains("\nhost: app.com\n"), "{text}");
    assert!(text.contains("\ncookie: a=1; b=2\n"), "{text}");
}
