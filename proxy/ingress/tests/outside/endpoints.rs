//! Endpoints that do not keep to HTTP, or leave: the client has one answer that is true, and the next client its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::message::{Message, Raw, request};
use crate::world::{PATIENCE, SHORT, World, echoes, endpoint, said};

/// What an endpoint does with a connection after a request has come.
#[derive(Debug, Clone, Copy)]
enum Then {
    Close,
    Reset,
    Stall,
    /// This again and again.
    Repeat(&'static str),
}

/// What the client is to see.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Client {
    Sees(u16, &'static str),
    /// The answer began and does not end.
    Broken,
    Nothing,
}
use Client::{Broken, Nothing, Sees};

const BODY: &str = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc";
const CASES: &[(&str, &str, Then, Client)] = &[
    ("closes before the head", "", Then::Close, Sees(502, "")),
    ("resets before the head", "", Then::Reset, Sees(502, "")),
    ("stalls before the head", "", Then::Stall, Sees(504, "")),
    ("closes in the head", "HTTP/1.1 200 OK\r\nx:", Then::Close, Sees(502, "")),
    ("resets in the head", "HTTP/1.1 200 OK\r\nx:", Then::Reset, Sees(502, "")),
    ("stalls in the head", "HTTP/1.1 200 OK\r\nx:", Then::Stall, Sees(504, "")),
    ("closes in the body", BODY, Then::Close, Broken),
    ("resets in the body", BODY, Then::Reset, Broken),
    ("stalls in the body", BODY, Then::Stall, Broken),
    ("closes in a chunk", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nabc", Then::Close, Broken),
    ("closes between chunks", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", Then::Close, Broken),
    ("stalls between chunks", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", Then::Stall, Broken),
    ("a chunk that is none", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx\r\nabc\r\n", Then::Stall, Broken),
    ("has no length", "HTTP/1.1 200 OK\r\n\r\nabc", Then::Close, Sees(200, "abc")),
    ("speaks HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\nabc", Then::Close, Sees(200, "abc")),
    (
        "speaks HTTP/1.0, with a length",
        "HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nabc",
        Then::Stall,
        Sees(200, "abc"),
    ),
    (
        "says close",
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 3\r\n\r\nabc",
        Then::Close,
        Sees(200, "abc"),
    ),
    ("says too much", "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabcdef", Then::Stall, Sees(200, "abc")),
    (
        "answers twice",
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbad",
        Then::Stall,
        Sees(200, "abc"),
    ),
    ("has a body with 204", "HTTP/1.1 204 No Content\r\n\r\nabc", Then::Stall, Sees(204, "")),
    ("has a body with 304", "HTTP/1.1 304 Not Modified\r\ncontent-length: 3\r\n\r\nabc", Then::Stall, Sees(304, "")),
    (
        "hints early",
        "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc",
        Then::Stall,
        Sees(200, "abc"),
    ),
    ("hints for ever", "", Then::Repeat("HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"), Sees(502, "")),
    ("says 100 for ever", "", Then::Repeat("HTTP/1.1 100 Continue\r\n\r\n"), Sees(502, "")),
    (
        "a head for ever",
        "HTTP/1.1 200 OK\r\n",
        Then::Repeat("x: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n"),
        Sees(502, ""),
    ),
    (
        "a line for ever",
        "HTTP/1.1 200 ",
        Then::Repeat("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"),
        Sees(502, ""),
    ),
    (
        "switches unasked",
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nabc",
        Then::Stall,
        Sees(502, ""),
    ),
    ("speaks something else", "220 mail.app.com ESMTP\r\n", Then::Stall, Sees(502, "")),
    ("speaks TLS", "\x15\x03\x03\0\x02\x02\x28", Then::Close, Sees(502, "")),
    ("speaks HTTP/2", "\0\0\0\x04\0\0\0\0\0", Then::Stall, Sees(502, "")),
    ("no such status", "HTTP/1.1 42 What\r\n\r\n", Then::Stall, Sees(502, "")),
    (
        "two lengths",
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        Then::Stall,
        Sees(502, ""),
    ),
    ("a fold", "HTTP/1.1 200 OK\r\nx: y\r\n z\r\ncontent-length: 3\r\n\r\nabc", Then::Stall, Sees(502, "")),
    ("a NUL", "HTTP/1.1 200 OK\r\nx: \0\r\ncontent-length: 3\r\n\r\nabc", Then::Stall, Sees(502, "")),
];

/// An endpoint that is as a case says with requests for `/bad`, and good with others.
async fn bad(text: &'static str, then: Then) -> SocketAddr {
    endpoint(move |stream, _| async move {
        let mut stream = BufReader::new(stream);
        while let Ok(Some(request)) = Message::request(&mut stream).await {
            if !request.start.contains("/bad") {
                if stream.write_all(said(&request).as_bytes()).await.is_err() {
                    return;
                }
                continue;
            }
            if stream.write_all(text.as_bytes()).await.is_err() {
                return;
            }
            match then {
                Then::Close => return,
                Then::Reset => {
                    // What was written is read first.
                    sleep(SHORT / 4).await;
                    return stream.get_ref().set_zero_linger().unwrap();
                }
                Then::Stall => {}
                Then::Repeat(text) => {
                    let text = text.repeat(50);
                    while stream.write_all(text.as_bytes()).await.is_ok() {
                        tokio::task::yield_now().await;
                    }
                }
            }
        }
    })
    .await
}

async fn seen(client: &mut Raw) -> Client {
    match timeout(PATIENCE, client.answer()).await {
        Ok(Ok(Some(answer))) if answer.status() < 500 => Sees(answer.status(), String::leak(answer.text())),
        Ok(Ok(Some(answer))) => Sees(answer.status(), ""),
        Ok(Ok(None) | Err(_)) => Broken,
        Err(_) => Nothing,
    }
}

#[tokio::test]
async fn what_endpoints_do_wrong_concerns_one_request() {
    let cases = CASES.iter().map(async |(name, text, then, expected)| {
        let world = World::hasty(vec![bad(text, *then).await]);
        let mut problems = Vec::new();
        for method in ["GET", "POST"] {
            let mut client = Raw::connect(world.at).await;
            client.send(request(method, "/bad", "1", "")).await;
            let found = seen(&mut client).await;
            // Of what has no end, the end may be that of patience.
            let endless = matches!(then, Then::Repeat(_)) && matches!(found, Sees(502 | 504, ""));
            if found != *expected && !endless {
                problems.push(format!("{name}: {method} {found:?} instead of {expected:?}"));
            }
            // The connection may stay; if it does, it is good for more. Another one is in any case.
            for mut client in [client, Raw::connect(world.at).await] {
                client.send(request("GET", "/good", "2", "")).await;
                match seen(&mut client).await {
                    Sees(200, "2 /good 0") => {}
                    Broken if *expected == Broken || *name == "speaks HTTP/1.0" => {}
                    other => problems.push(format!("{name}: {other:?} for a good request after {method}")),
                }
            }
        }
        problems
    });
    // Some at a time: those that go on for ever take the machine, and others are to answer in time.
    let problems = futures::stream::iter(cases).buffer_unordered(8).concat().await;
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[tokio::test]
async fn endpoints_that_are_not_there_are_passed_over() {
    // Nobody listens there, nor gets the port.
    let held = tokio::net::TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let refusing = held.local_addr().unwrap();
    let good = endpoint(|stream, _| echoes(stream, Default::default())).await;
    let world = World::hasty(vec![refusing, good]);
    let mut client = Raw::connect(world.at).await;
    for number in 0..10 {
        let method = ["GET", "POST"][number % 2];
        assert_eq!(client.ask(&request(method, "/", "1", "abc")).await.text(), "1 / 3");
    }
    world.upstream.update(vec![refusing]);
    assert_eq!(client.ask(&request("POST", "/", "1", "abc")).await.status(), 502);
    world.upstream.update(vec![]);
    assert_eq!(client.ask(&request("GET", "/", "1", "")).await.status(), 503);
    // Nobody answers there at all (RFC 5737).
    world.upstream.update(vec!["192.0.2.1:80".parse().unwrap()]);
    let status = client.ask(&request("GET", "/", "1", "")).await.status();
    assert!(matches!(status, 502 | 504), "{status}");
}

/// An answer may come before the request is all there: it is passed on, and the rest of the request is no next one.
#[tokio::test]
async fn an_early_answer_to_a_long_request() {
    let at = endpoint(|mut stream: TcpStream, _| async move {
        if stream.read(&mut [0; 512]).await.is_ok_and(|length| length > 0) {
            stream.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nabc").await.unwrap();
            sleep(SHORT / 2).await;
        }
    })
    .await;
    let world = World::hasty(vec![at]);
    for _ in 0..5 {
        let mut client = Raw::connect(world.at).await;
        client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\nabc").await;
        let answer = timeout(PATIENCE, client.answer()).await.unwrap().unwrap().unwrap();
        assert_eq!((answer.status(), answer.text()), (413, "abc".into()));
        // What follows is body still, and never a request.
        client.send(request("GET", "/smuggled", "2", "")).await;
        assert_eq!(timeout(PATIENCE, client.rest()).await.expect("closed"), []);
    }
}

/// Kept-alive connections are closed at the worst moment: as a request arrives. What may be asked twice is asked
/// again, over another connection; the rest is 502 and nobody else's.
#[tokio::test]
async fn connections_that_close_as_a_request_comes() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let at = endpoint(move |stream, _| {
        let counted = counted.clone();
        async move {
            let mut stream = BufReader::new(stream);
            // One answer for a connection, without a word that it is the last.
            let Ok(Some(request)) = Message::request(&mut stream).await else { return };
            stream.write_all(said(&request).as_bytes()).await.unwrap();
            if Message::request(&mut stream).await.is_ok_and(|next| next.is_some()) {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        }
    })
    .await;
    let world = World::hasty(vec![at]);
    let mut client = Raw::connect(world.at).await;
    for number in 0..50 {
        let id = number.to_string();
        assert_eq!(client.ask(&request("GET", "/", &id, "")).await.text(), format!("{id} / 0"));
    }
    assert!(asked.load(Ordering::Relaxed) > 10, "connections were not kept");
    let statuses: Vec<u16> = {
        let mut statuses = Vec::new();
        for _ in 0..10 {
            statuses.push(client.ask(&request("POST", "/", "1", "abc")).await.status());
        }
        statuses
    };
    assert!(statuses.iter().all(|status| matches!(status, 200 | 502)), "{statuses:?}");
}
