//! Requests of which two readers may think differently. Whatever is answered, endpoints see one well-formed request for
//! each answer of theirs, and none that was hidden in another.

use std::io::ErrorKind;

use tokio::time::timeout;

use crate::message::{Message, Raw, request};
use crate::world::{PATIENCE, Seen, World, echo};

/// What is sent, before a last good request; and the status codes, that request's too if it may still be answered.
type Case = (&'static str, &'static str, &'static [u16]);

const GOOD: u16 = 200;
const BAD: u16 = 400;
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nhost: app.com\r\n\r\n";

/// The framing of bodies (RFC 9112, section 6; where both are said, the coding is right, and nothing may follow). `SMUGGLED` stands for a whole request.
const FRAMING: &[Case] = &[
    ("a length", "POST /a HTTP/1.1\r\nhost: app.com\r\ncontent-length: 3\r\n\r\nabc", &[GOOD, GOOD]),
    ("chunks", "POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", &[GOOD, GOOD]),
    (
        "chunks, extended",
        "POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\n\r\n",
        &[GOOD, GOOD],
    ),
    (
        "chunks and trailers",
        "POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\ncontent-length: 9\r\nx: y\r\n\r\n",
        &[GOOD, GOOD],
    ),
    (
        "the coding in capitals",
        "POST /a HTTP/1.1\r\nhost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        &[GOOD, GOOD],
    ),
    ("a body of GET", "GET /a HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc", &[GOOD, GOOD]),
    (
        "a body that looks like a request",
        "GET /a HTTP/1.1\r\nhost: a\r\ncontent-length: 43\r\n\r\nSMUGGLED",
        &[GOOD, GOOD],
    ),
    (
        "length, then coding",
        "POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nSMUGGLED",
        &[GOOD],
    ),
    (
        "coding, then length",
        "POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n3\r\nabc\r\n0\r\n\r\nSMUGGLED",
        &[GOOD],
    ),
    (
        "another coding",
        "POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\ncontent-length: 3\r\n\r\nabcSMUGGLED",
        &[BAD],
    ),
    ("another coding alone", "POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\nSMUGGLED", &[BAD]),
    (
        "chunked is not last",
        "POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\nSMUGGLED",
        &[BAD],
    ),
    (
        "two codings, two fields",
        "POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\nSMUGGLED",
        &[BAD],
    ),
    (
        "a coding with a space",
        "POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\nSMUGGLED",
        &[BAD],
    ),
    (
        "a coding behind a fold",
        "POST /a HTTP/1.1\r\nhost: a\r\nx: y\r\n transfer-encoding: chunked\r\n\r\n0\r\n\r\nSMUGGLED",
        &[BAD],
    ),
    (
        "a coding of HTTP/1.0",
        "POST /a HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nSMUGGLED",
        &[BAD],
    ),
    (
        "a vertical tab",
        "POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\nSMUGGLED",
        &[BAD],
    ),
    ("two lengths", "POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\ncontent-length: 43\r\n\r\nSMUGGLED", &[BAD]),
    ("two lengths, one field", "POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 0, 42\r\n\r\nSMUGGLED", &[BAD]),
    ("a length with a sign", "POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: +42\r\n\r\nSMUGGLED", &[BAD]),
    ("a negative length", "POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\nSMUGGLED", &[BAD]),
    ("no length", "POST /a HTTP/1.1\r\nhost: a\r\ncontent-length:\r\n\r\nSMUGGLED", &[BAD]),
    ("a length in hexadecimal", "POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 0x2a\r\n\r\nSMUGGLED", &[BAD]),
    ("a length with a space", "POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 4 2\r\n\r\nSMUGGLED", &[BAD]),
    (
        "a length beyond 64 bits",
        "POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 18446744073709551658\r\n\r\nSMUGGLED",
        &[BAD],
    ),
    (
        "an upgrade with a hidden request",
        "GET /a HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
        &[GOOD, GOOD],
    ),
];

/// Chunks that are none: the head is on its way when they come.
const CHUNKS: &[(&str, &str)] = &[
    ("a size beyond 64 bits", "10000000000000003\r\nabc\r\n0\r\n\r\n"),
    ("a size that is none", "x\r\nabc\r\n0\r\n\r\n"),
    ("a negative size", "-3\r\nabc\r\n0\r\n\r\n"),
    ("a size in 0x", "0x3\r\nabc\r\n0\r\n\r\n"),
    ("a size and more", "3 3\r\nabc\r\n0\r\n\r\n"),
    ("a size before a bare LF", "3\nabc\r\n0\r\n\r\n"),
    ("an extension before a bare LF", "3;a\nabc\r\n0\r\n\r\n"),
    ("no end of a chunk", "3\r\nabc0\r\n\r\n"),
    ("a chunk that is longer", "3\r\nabcd\r\n0\r\n\r\n"),
    ("an endless extension", "3;LONG"),
    ("endless trailers", "0\r\nTRAILERS"),
];

/// Heads that are none (RFC 9112, sections 2 to 5).
const HEADS: &[Case] = &[
    ("an empty line before", "\r\nGET /a HTTP/1.1\r\nhost: a\r\n\r\n", &[GOOD, GOOD]),
    ("an absolute form", "GET http://app.com/a HTTP/1.1\r\nhost: other\r\n\r\n", &[GOOD, GOOD]),
    ("a fold", "GET /a HTTP/1.1\r\nhost: a\r\nx: y\r\n z\r\n\r\n", &[BAD]),
    ("a bare CR", "GET /a HTTP/1.1\r\nhost: a\r\nx: y\rz\r\n\r\n", &[BAD]),
    ("NUL", "GET /a HTTP/1.1\r\nhost: a\r\nx: y\0z\r\n\r\n", &[BAD]),
    ("NUL in the target", "GET /a\0 HTTP/1.1\r\nhost: a\r\n\r\n", &[BAD]),
    ("a space in the target", "GET /a b HTTP/1.1\r\nhost: a\r\n\r\n", &[BAD]),
    ("no version", "GET /a\r\nhost: a\r\n\r\n", &[BAD]),
    ("another version", "GET /a HTTP/1.2\r\nhost: a\r\n\r\n", &[BAD]),
    ("a field without a colon", "GET /a HTTP/1.1\r\nhost: a\r\nxy\r\n\r\n", &[BAD]),
    ("a field without a name", "GET /a HTTP/1.1\r\nhost: a\r\n: y\r\n\r\n", &[BAD]),
    ("a space in a name", "GET /a HTTP/1.1\r\nhost: a\r\nx y: z\r\n\r\n", &[BAD]),
    ("a space before the fields", "GET /a HTTP/1.1\r\n x: y\r\nhost: a\r\n\r\n", &[BAD]),
    ("no host", "GET /a HTTP/1.1\r\nx: y\r\n\r\n", &[BAD, GOOD]),
    ("two hosts", "GET /a HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", &[BAD, GOOD]),
    ("a host that is none", "GET /a HTTP/1.1\r\nhost: a/b?\r\n\r\n", &[BAD, GOOD]),
    ("a host with a space", "GET /a HTTP/1.1\r\nhost: a b\r\n\r\n", &[BAD, GOOD]),
    ("CONNECT", "CONNECT app.com:443 HTTP/1.1\r\nhost: app.com:443\r\n\r\n", &[405, GOOD]),
    ("TRACE", "TRACE /a HTTP/1.1\r\nhost: a\r\n\r\n", &[405, GOOD]),
    ("garbage", "\x16\x03\x01\x02\0\x01\0\x01\u{7f}\r\n\r\n", &[BAD]),
    ("HTTP/2's preface, broken", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", &[BAD]),
    ("a name of 70 kB", "GET /a HTTP/1.1\r\nhost: a\r\nLONG: x\r\n\r\n", &[431]),
    ("a value of 70 kB", "GET /a HTTP/1.1\r\nhost: a\r\nx: LONG\r\n\r\n", &[431]),
    ("200 fields", "GET /a HTTP/1.1\r\nhost: a\r\nMANY\r\n", &[431]),
    ("a target of 70 kB", "GET /LONG HTTP/1.1\r\nhost: a\r\n\r\n", &[431]),
];

/// Sends a case and a last request on a connection of its own, and returns all answers.
async fn sent(world: &World, text: &str) -> Vec<Message> {
    let mut client = Raw::connect(world.at).await;
    let many: String = (0..200).map(|number| format!("x-{number}: y\r\n")).collect();
    let text = text.replace("SMUGGLED", SMUGGLED).replace("LONG", &"x".repeat(70_000));
    let trailers: String = (0..10_000).map(|number| format!("x-{number}: y\r\n")).collect();
    client.send(text.replace("MANY", &many).replace("TRAILERS", &trailers)).await;
    client.send(request("GET", "/last", "last", "").replace("x-id", "connection: close\r\nx-id")).await;
    timeout(PATIENCE, client.rest()).await.unwrap_or_else(|_| panic!("not closed after {text:?}"))
}

/// Asserts that every answer of the endpoint is that to one whole request, and returns what else there is to say.
fn told(name: &str, seen: &Seen, answers: &[Message]) -> Option<String> {
    let requests = std::mem::take(&mut *seen.requests.lock().unwrap());
    let wrong = std::mem::take(&mut *seen.wrong.lock().unwrap());
    let targets: Vec<_> = requests.iter().filter_map(|request| request.start.split(' ').nth(1)).collect();
    let relayed: Vec<String> = answers.iter().filter(|answer| answer.status() == 200).map(Message::text).collect();
    let expected: Vec<String> = requests
        .iter()
        .zip(&targets)
        .map(|(request, target)| {
            format!("{} {target} {}", request.header("x-id").unwrap_or("none"), request.body.len())
        })
        .collect();
    let fine = wrong.is_empty() && expected == relayed && !targets.contains(&"/smuggled");
    (!fine).then(|| format!("{name}: the endpoint saw {targets:?} and {wrong:?}, the answers are {relayed:?}"))
}

#[tokio::test]
async fn endpoints_see_what_was_asked_and_nothing_else() {
    let (at, seen) = echo().await;
    let world = World::new(vec![at]);
    let mut problems = Vec::new();
    for (name, text, expected) in FRAMING.iter().chain(HEADS) {
        let answers = sent(&world, text).await;
        let statuses: Vec<u16> = answers.iter().map(Message::status).collect();
        problems.extend(told(name, &seen, &answers));
        if statuses != *expected {
            problems.push(format!("{name}: {statuses:?} instead of {expected:?}"));
        }
    }
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[tokio::test]
async fn broken_chunks_end_the_request_and_the_connection() {
    let (at, seen) = echo().await;
    let world = World::new(vec![at]);
    let mut problems = Vec::new();
    for (name, text) in CHUNKS {
        let head = "POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
        let answers = sent(&world, &format!("{head}{text}")).await;
        problems.extend(told(name, &seen, &answers));
        let statuses: Vec<u16> = answers.iter().map(Message::status).collect();
        if !matches!(statuses[..], [] | [BAD]) {
            problems.push(format!("{name}: {statuses:?}"));
        }
    }
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

/// Bare line feeds end lines here, as for nginx: what matters is that endpoints see none.
#[tokio::test]
async fn line_feeds_alone_do_not_reach_endpoints() {
    let (at, seen) = echo().await;
    let world = World::new(vec![at]);
    let answers = sent(&world, "POST /a HTTP/1.1\nhost: a\nx: y\ncontent-length: 3\n\nabc").await;
    assert_eq!(told("line feeds", &seen, &answers), None);
    assert_eq!(answers.len(), 2);
}

/// Hop-by-hop fields are not passed on, whatever they name (RFC 9110, section 7.6.1).
#[tokio::test]
async fn a_connection_field_takes_nothing_away_that_endpoints_rely_on() {
    let (at, seen) = echo().await;
    let world = World::new(vec![at]);
    let mut client = Raw::connect(world.at).await;
    let named = "connection: x-forwarded-for, x-real-ip, host, content-length, x-secret\r\nx-secret: 1\r\n\
         x-forwarded-for: 1.2.3.4\r\nx-real-ip: 1.2.3.4\r\nx-forwarded-proto: https\r\nproxy-connection: x\r\nkeep-alive: 1\r\n";
    let answer = client.ask(&request("POST", "/a", "1", "abc").replace("x-id", &format!("{named}x-id"))).await;
    assert_eq!(answer.text(), "1 /a 3");
    let request = seen.requests.lock().unwrap().pop().unwrap();
    let expected = [
        ("host", Some("app.com")),
        ("x-forwarded-for", Some("127.0.0.1")),
        ("x-real-ip", Some("127.0.0.1")),
        ("x-forwarded-proto", Some("http")),
        ("x-secret", None),
        ("connection", None),
        ("proxy-connection", None),
        ("keep-alive", None),
    ];
    for (name, value) in expected {
        assert_eq!(request.header(name), value, "{name} in {request:?}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_early_leaves_nothing_behind() {
    let (at, seen) = echo().await;
    let world = World::new(vec![at]);
    for _ in 0..20 {
        let mut client = Raw::connect(world.at).await;
        client.send("POST /gone HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nabc").await;
        drop(client);
        let mut client = Raw::connect(world.at).await;
        assert_eq!(client.ask(&request("POST", "/here", "2", "abc")).await.text(), "2 /here 3");
        client.send("GET /half HTTP/1.1\r\nhost:").await;
        tokio::io::AsyncWriteExt::shutdown(&mut client.stream).await.unwrap();
        match timeout(PATIENCE, client.answer()).await.expect("the end") {
            Ok(None) => {}
            Ok(Some(answer)) => assert_eq!(answer.status(), BAD),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
    assert_eq!(*seen.wrong.lock().unwrap(), [""; 0]);
    assert!(seen.requests.lock().unwrap().iter().all(|request| request.start.contains("/here")));
}
