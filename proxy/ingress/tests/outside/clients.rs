//! Clients that are slow, silent, many, or no clients at all.

use std::net::SocketAddr;
use std::time::Duration;

use ingress::{Bounds, Policy};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::message::{Message, Raw, request};
use crate::world::{PATIENCE, SHORT, World, echo, endpoint};

/// How often a slow client sends something.
const DRIP: Duration = Duration::from_millis(50);

/// Sends pieces slowly, the last one again and again, and waits until the server is tired of it; returns what it said.
async fn given_up(at: SocketAddr, pieces: &[&[u8]]) -> Vec<u8> {
    let (mut reader, mut writer) = TcpStream::connect(at).await.unwrap().into_split();
    let pieces: Vec<Vec<u8>> = pieces.iter().map(|piece| piece.to_vec()).collect();
    let dripping = tokio::spawn(async move {
        let Some((last, first)) = pieces.split_last() else { return writer.writable().await.unwrap() };
        for piece in first {
            writer.write_all(piece).await.unwrap();
        }
        while writer.write_all(last).await.is_ok() {
            sleep(DRIP).await;
        }
    });
    let mut said = Vec::new();
    // A reset is an end as well.
    let read = timeout(PATIENCE, reader.read_to_end(&mut said)).await;
    read.unwrap_or_else(|_| panic!("still open, having said {:?}", String::from_utf8_lossy(&said))).ok();
    dripping.abort();
    said
}

/// The begin of a TLS handshake: a record that says it has 512 bytes.
const HELLO: &[u8] = b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03";
/// HTTP/2 (RFC 9113, section 3.4), with empty SETTINGS.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

#[tokio::test]
async fn silent_and_slow_clients_are_given_up() {
    let (at, seen) = echo().await;
    let world = World::impatient(vec![at]);
    let cases: &[(&str, SocketAddr, &[&[u8]])] = &[
        ("nothing", world.at, &[]),
        ("half a head", world.at, &[b"GET / HTTP/1.1\r\nhost: a\r\nx", b""]),
        ("a head that goes on", world.at, &[b"GET / HTTP/1.1\r\nhost: a\r\nx: ", b"y"]),
        ("nothing after a request", world.at, &[b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", b""]),
        ("half of HTTP/2's preface", world.at, &[&PREFACE[..10], b""]),
        ("nothing after HTTP/2's preface", world.at, &[PREFACE, b""]),
        ("nothing, where TLS is spoken", world.tls, &[]),
        ("half a handshake", world.tls, &[HELLO, b""]),
        ("a handshake that goes on", world.tls, &[HELLO, b"\0"]),
        ("half a body", world.at, &[b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nabc", b""]),
    ];
    let began = Instant::now();
    let ended = cases.iter().map(async |(name, at, pieces)| {
        given_up(*at, pieces).await;
        println!("{name}: after {:?}", began.elapsed());
    });
    futures::future::join_all(ended).await;
    assert!(seen.wrong.lock().unwrap().is_empty());
}

/// A client that does not take its answer gives back what it holds: its endpoint's connection, that is.
#[tokio::test]
async fn a_client_that_does_not_read_is_given_up() {
    let (gone, mut left) = tokio::sync::mpsc::unbounded_channel();
    let at = endpoint(move |mut stream, _| {
        let gone = gone.clone();
        async move {
            assert_ne!(stream.read(&mut [0; 1024]).await.unwrap(), 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n").await.unwrap();
            let block = vec![0; 1 << 20];
            while stream.write_all(&block).await.is_ok() {}
            gone.send(()).unwrap();
        }
    })
    .await;
    let world = World::impatient(vec![at]);
    let mut client = Raw::connect(world.at).await;
    client.send(request("GET", "/", "1", "")).await;
    timeout(PATIENCE, left.recv()).await.expect("the endpoint is rid of it");
}

/// A steady upload and a steady download may take as long as they like.
#[tokio::test]
async fn slow_but_steady_is_no_fault() {
    let pieces = 24;
    assert!(DRIP * 2 * pieces > SHORT * 2);
    let at = endpoint(move |stream, _| async move {
        let mut stream = tokio::io::BufReader::new(stream);
        let Ok(Some(request)) = Message::request(&mut stream).await else { return };
        let head = format!("HTTP/1.1 200 OK\r\nx-length: {}\r\ntransfer-encoding: chunked\r\n\r\n", request.body.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..pieces {
            sleep(DRIP * 2).await;
            stream.write_all(b"3\r\nabc\r\n").await.unwrap();
        }
        stream.write_all(b"0\r\n\r\n").await.unwrap();
    })
    .await;
    let world = World::impatient(vec![at]);
    let mut client = Raw::connect(world.at).await;
    client.send(format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", pieces * 3)).await;
    for _ in 0..pieces {
        sleep(DRIP * 2).await;
        client.send("abc").await;
    }
    let answer = timeout(PATIENCE, client.answer()).await.unwrap().unwrap().unwrap();
    assert_eq!((answer.status(), answer.header("x-length"), answer.body.len()), (200, Some("72"), 72));
}

#[tokio::test]
async fn no_more_connections_than_there_are_places() {
    let (at, _) = echo().await;
    let bounds = Bounds { connections: 8, ..Bounds::default() };
    let world = World::with(vec![at], Policy::default(), bounds, 2);
    let mut clients = Vec::new();
    let waiting = loop {
        let mut client = Raw::connect(world.at).await;
        client.send(request("GET", "/", "1", "")).await;
        match timeout(SHORT * 2, client.answer()).await {
            Ok(answer) => assert_eq!(answer.unwrap().unwrap().status(), 200),
            Err(_) => break client,
        }
        clients.push(client);
        assert!(clients.len() <= 8, "more than there are places");
    };
    assert_eq!(clients.len(), 8);
    let mut waiting = waiting;
    drop(clients.pop());
    let answer = timeout(PATIENCE, waiting.answer()).await.expect("a place").unwrap().unwrap();
    assert_eq!(answer.status(), 200);
}

/// The memory of this process, which is that of the server too, in bytes.
pub(crate) fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[tokio::test]
async fn thousands_of_idle_connections_are_cheap() {
    /// Both sides are here, and those to the endpoint: half as many as files are commonly allowed.
    const MANY: usize = 2000;
    /// For each connection, in both places.
    const BYTES: usize = 32 << 10;
    let limits = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limits.maximum, ..limits }).unwrap();
    let (at, _) = echo().await;
    let world = World::new(vec![at]);
    let mut clients = vec![Raw::connect(world.at).await];
    assert_eq!(clients[0].ask(&request("GET", "/", "1", "")).await.status(), 200);
    let before = resident();
    for _ in 0..MANY {
        let mut client = Raw::connect(world.at).await;
        assert_eq!(client.ask(&request("GET", "/", "1", "")).await.status(), 200);
        clients.push(client);
    }
    let used = resident().saturating_sub(before);
    println!("{} bytes each", used / MANY);
    assert!(used < MANY * BYTES, "{} bytes each", used / MANY);
    // Nobody is in anybody's way.
    assert_eq!(clients[MANY / 2].ask(&request("GET", "/", "1", "")).await.status(), 200);
}

/// What is no TLS at all, or no version of it that is spoken, does not disturb those who speak it.
#[tokio::test]
async fn garbage_instead_of_a_handshake_is_refused() {
    let (at, _) = echo().await;
    let world = World::impatient(vec![at]);
    let cases: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\nhost: app.com\r\n\r\n",
        b"\x16\x03\x01\xff\xff",
        // An alert, a record of no known kind, an empty one, and SSL 2.
        b"\x15\x03\x03\0\x02\x02\x28",
        b"\xff\x03\x03\0\x01\0",
        b"\x16\x03\x03\0\0",
        b"\x80\x2e\x01\0\x02\0\x15\0\0\0\x10",
    ];
    for bytes in cases {
        let mut stream = TcpStream::connect(world.tls).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut said = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut said)).await.expect("closed").ok();
        assert!(!said.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&said));
    }
    let mut client = Raw::connect(world.at).await;
    assert_eq!(client.ask(&request("GET", "/", "1", "")).await.status(), 200);
}

/// A connection that has left HTTP keeps its place.
#[tokio::test]
async fn tunnels_have_places_too() {
    let at = endpoint(|mut stream, _| async move {
        assert_ne!(stream.read(&mut [0; 1024]).await.unwrap(), 0);
        let switched = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
        stream.write_all(switched).await.unwrap();
        // Until the other side has closed.
        stream.read_to_end(&mut Vec::new()).await.ok();
    })
    .await;
    let world = World::with(vec![at], Policy::default(), Bounds { connections: 8, ..Bounds::default() }, 1);
    let mut tunnels = Vec::new();
    loop {
        let mut client = Raw::connect(world.at).await;
        client.send(request("GET", "/", "1", "").replace("x-id", "connection: upgrade\r\nupgrade: x\r\nx-id")).await;
        match timeout(SHORT, Message::answer(&mut client.stream, true)).await {
            Ok(answer) if answer.as_ref().unwrap().as_ref().unwrap().status() == 101 => {}
            Ok(answer) => break assert_eq!(answer.unwrap().unwrap().status(), 503),
            Err(_) => break,
        }
        tunnels.push(client);
        assert!(tunnels.len() <= 8, "more than there are places");
    }
    assert!(tunnels.len() >= 3, "only {} places", tunnels.len());
}
