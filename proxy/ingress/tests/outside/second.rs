//! HTTP/2 to the letter: what RFC 9113 says of each kind of mistake, section by section.

use std::sync::Arc;

use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::frames::*;
use crate::message::Message;
use crate::world::{PATIENCE, World, echo, endpoint, said};

const PROTOCOL: u32 = 1;
const FLOW: u32 = 3;
const CLOSED: u32 = 5;
const SIZE: u32 = 6;
const REFUSED: u32 = 7;
const COMPRESSION: u32 = 9;
const CALM: u32 = 11;

/// What is to follow.
#[derive(Debug, Clone)]
enum Expect {
    /// As if nothing were wrong: stream 1 is answered with 200.
    Answer,
    /// Nothing, and PING is answered.
    Nothing,
    /// The end of the connection, with one of these codes if it is said why.
    Connection(&'static [u32]),
    /// That of a stream, with one of these codes; that of the connection is allowed (section 5.4).
    Stream(&'static [u32]),
    /// A stream's end as malformed, or 400 (section 8.1.1).
    Malformed,
}
use Expect::{Answer, Connection, Malformed, Nothing, Stream};

#[derive(Clone)]
struct Case {
    section: &'static str,
    what: &'static str,
    sent: Vec<u8>,
    expect: Expect,
}

fn case(section: &'static str, what: &'static str, sent: &[Vec<u8>], expect: Expect) -> Case {
    Case { section, what, sent: sent.concat(), expect }
}

/// Sections 4 and 5: frames and streams.
fn streams() -> Vec<Case> {
    let get = || asks(1, &GET);
    let long = vec![0; 16_385];
    vec![
        case("4.1", "a kind that nobody knows", &[frame(0x16, 0, 0, b"what"), get()], Answer),
        case("4.1", "flags that nobody knows", &[frame(PING, 0x16, 0, &[0; 8]), get()], Answer),
        case("4.1", "the reserved bit", &[frame(PING, 0, 1 << 31, &[0; 8]), get()], Answer),
        case("4.2", "a DATA frame too long", &[begins(1, &[]), frame(DATA, 0, 1, &long)], Connection(&[SIZE])),
        case("4.2", "a HEADERS frame too long", &[frame(HEADERS, 5, 1, &long)], Connection(&[SIZE])),
        case("4.3", "fields that are none", &[frame(HEADERS, 5, 1, &[0xff; 8])], Connection(&[COMPRESSION])),
        case("4.3", "an index of nothing", &[frame(HEADERS, 5, 1, &[0xfe])], Connection(&[COMPRESSION])),
        case("4.3", "index 0", &[frame(HEADERS, 5, 1, &[0x80])], Connection(&[COMPRESSION])),
        case(
            "4.3",
            "a table larger than allowed",
            &[frame(HEADERS, 5, 1, &[&[0x3f, 0xe1, 0xff, 0x03][..], &fields(&GET)].concat())],
            Connection(&[COMPRESSION]),
        ),
        case("4.3", "a smaller table", &[frame(HEADERS, 5, 1, &[&[0x20][..], &fields(&GET)].concat())], Answer),
        case(
            "4.3",
            "a smaller table after fields",
            &[frame(HEADERS, 5, 1, &[&fields(&GET)[..], &[0x20]].concat())],
            Connection(&[COMPRESSION]),
        ),
        case(
            "4.3",
            "another frame amid fields",
            &[frame(HEADERS, 1, 1, &fields(&GET)), frame(PING, 0, 0, &[0; 8])],
            Connection(&[PROTOCOL]),
        ),
        case(
            "4.3",
            "another stream amid fields",
            &[frame(HEADERS, 1, 1, &fields(&GET)), asks(3, &GET)],
            Connection(&[PROTOCOL]),
        ),
        case("5.1", "DATA, idle", &[frame(DATA, 1, 1, b"x")], Connection(&[PROTOCOL])),
        case("5.1", "RST_STREAM, idle", &[frame(RST_STREAM, 0, 1, &[0; 4])], Connection(&[PROTOCOL])),
        case("5.1", "WINDOW_UPDATE, idle", &[frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])], Connection(&[PROTOCOL])),
        case("5.1", "CONTINUATION, idle", &[frame(CONTINUATION, 4, 1, &fields(&GET))], Connection(&[PROTOCOL])),
        case("5.1", "DATA after the end", &[get(), frame(DATA, 1, 1, b"x")], Stream(&[CLOSED, PROTOCOL])),
        case("5.1", "HEADERS after the end", &[get(), get()], Stream(&[CLOSED, PROTOCOL])),
        case(
            "5.1",
            "CONTINUATION after the end",
            &[get(), frame(CONTINUATION, 4, 1, &fields(&GET))],
            Stream(&[CLOSED, PROTOCOL]),
        ),
        case(
            "5.1",
            "HEADERS after RST_STREAM",
            &[begins(1, &[]), frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]), get()],
            Stream(&[CLOSED, PROTOCOL]),
        ),
        case(
            "5.1",
            "WINDOW_UPDATE after RST_STREAM",
            &[begins(1, &[]), frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]), frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])],
            Nothing,
        ),
        case("5.1.1", "an even stream", &[asks(2, &GET)], Connection(&[PROTOCOL])),
        case("5.1.1", "a smaller stream", &[asks(5, &GET), asks(3, &GET)], Connection(&[PROTOCOL, CLOSED])),
        case(
            "5.1.2",
            "too many streams",
            &(0..2000).map(|number| begins(number * 2 + 1, &[])).collect::<Vec<_>>(),
            Stream(&[REFUSED, PROTOCOL, CALM]),
        ),
    ]
}

/// Section 6: the definitions of frames.
fn definitions() -> Vec<Case> {
    let get = || asks(1, &GET);
    vec![
        case("6.1", "DATA of the connection", &[frame(DATA, 0, 0, b"x")], Connection(&[PROTOCOL])),
        case(
            "6.1",
            "padding beyond the frame",
            &[begins(1, &[]), frame(DATA, PADDED | END_STREAM, 1, &[9, 1])],
            Connection(&[PROTOCOL]),
        ),
        case("6.1", "padding", &[begins(1, &[]), frame(DATA, PADDED | END_STREAM, 1, &[2, 1, 0, 0])], Answer),
        case("6.2", "HEADERS of the connection", &[asks(0, &GET)], Connection(&[PROTOCOL])),
        case("6.2", "padding beyond the frame", &[frame(HEADERS, PADDED | 5, 1, &[9, 0x82])], Connection(&[PROTOCOL])),
        case(
            "6.2",
            "HEADERS with a priority",
            &[frame(HEADERS, 0x25, 1, &[&[0, 0, 0, 0, 9][..], &fields(&GET)].concat())],
            Answer,
        ),
        case("6.3", "PRIORITY", &[frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 9]), get()], Answer),
        case("6.3", "PRIORITY of the connection", &[frame(PRIORITY, 0, 0, &[0, 0, 0, 3, 9])], Connection(&[PROTOCOL])),
        case("6.3", "PRIORITY too short", &[frame(PRIORITY, 0, 1, &[0; 4])], Stream(&[SIZE])),
        case("6.4", "RST_STREAM of the connection", &[frame(RST_STREAM, 0, 0, &[0; 4])], Connection(&[PROTOCOL])),
        case("6.4", "RST_STREAM too short", &[begins(1, &[]), frame(RST_STREAM, 0, 1, &[0; 3])], Connection(&[SIZE])),
        case("6.5", "SETTINGS acknowledged, with payload", &[frame(SETTINGS, ACK, 0, &[0; 6])], Connection(&[SIZE])),
        case("6.5", "SETTINGS of a stream", &[frame(SETTINGS, 0, 1, &[])], Connection(&[PROTOCOL])),
        case("6.5", "SETTINGS too short", &[frame(SETTINGS, 0, 0, &[0; 5])], Connection(&[SIZE])),
        case("6.5.2", "ENABLE_PUSH of 2", &[setting(2, 2)], Connection(&[PROTOCOL])),
        case("6.5.2", "MAX_CONCURRENT_STREAMS of 0", &[setting(3, 0), get()], Answer),
        case("6.5.2", "INITIAL_WINDOW_SIZE too large", &[setting(4, 1 << 31)], Connection(&[FLOW])),
        case("6.5.2", "MAX_FRAME_SIZE too small", &[setting(5, 16_383)], Connection(&[PROTOCOL])),
        case("6.5.2", "MAX_FRAME_SIZE too large", &[setting(5, 1 << 24)], Connection(&[PROTOCOL])),
        case("6.5.2", "a setting that nobody knows", &[setting(0x99, 1), get()], Answer),
        case(
            "6.6",
            "PUSH_PROMISE of a client",
            &[begins(1, &[]), frame(PUSH_PROMISE, 4, 1, &[&[0, 0, 0, 2][..], &fields(&GET)].concat())],
            Connection(&[PROTOCOL]),
        ),
        case("6.7", "PING of a stream", &[frame(PING, 0, 1, &[0; 8])], Connection(&[PROTOCOL])),
        case("6.7", "PING too short", &[frame(PING, 0, 0, &[0; 7])], Connection(&[SIZE])),
        case("6.7", "PING acknowledged unasked", &[frame(PING, ACK, 0, &[7; 8]), get()], Answer),
        case("6.8", "GOAWAY of a stream", &[frame(GOAWAY, 0, 1, &[0; 8])], Connection(&[PROTOCOL])),
    ]
}

/// The rest of section 6: flow control, and fields in several frames.
fn flows() -> Vec<Case> {
    let most = (u32::MAX >> 1).to_be_bytes();
    vec![
        case("6.9", "WINDOW_UPDATE by 0", &[frame(WINDOW_UPDATE, 0, 0, &[0; 4])], Connection(&[PROTOCOL])),
        case(
            "6.9",
            "WINDOW_UPDATE by 0, of a stream",
            &[begins(1, &[]), frame(WINDOW_UPDATE, 0, 1, &[0; 4])],
            Stream(&[PROTOCOL]),
        ),
        case("6.9", "WINDOW_UPDATE too short", &[frame(WINDOW_UPDATE, 0, 0, &[0; 3])], Connection(&[SIZE])),
        case(
            "6.9.1",
            "a window too large",
            &[frame(WINDOW_UPDATE, 0, 0, &most), frame(WINDOW_UPDATE, 0, 0, &most)],
            Connection(&[FLOW]),
        ),
        case(
            "6.9.1",
            "a stream's window too large",
            &[begins(1, &[]), frame(WINDOW_UPDATE, 0, 1, &most), frame(WINDOW_UPDATE, 0, 1, &most)],
            Stream(&[FLOW]),
        ),
        case(
            "6.9.2",
            "a setting that makes it too large",
            &[begins(1, &[]), frame(WINDOW_UPDATE, 0, 1, &[0x7f, 0, 0, 0]), setting(4, u32::MAX >> 1)],
            Connection(&[FLOW]),
        ),
        case(
            "6.10",
            "CONTINUATION",
            &[
                frame(HEADERS, END_STREAM, 1, &fields(&GET[..2])),
                frame(CONTINUATION, 0, 1, &fields(&GET[2..3])),
                frame(CONTINUATION, END_HEADERS, 1, &fields(&GET[3..])),
            ],
            Answer,
        ),
        case(
            "6.10",
            "CONTINUATION of 24 KiB",
            &[
                frame(HEADERS, END_STREAM, 1, &fields(&GET)),
                frame(CONTINUATION, 0, 1, &fields(&[("x", &"y".repeat(12_000))])),
                frame(CONTINUATION, END_HEADERS, 1, &fields(&[("cookie", &"z".repeat(12_000))])),
            ],
            Answer,
        ),
        case(
            "6.10",
            "CONTINUATION after the end of fields",
            &[begins(1, &[]), frame(CONTINUATION, 4, 1, &fields(&[("x", "y")]))],
            Connection(&[PROTOCOL]),
        ),
        case(
            "6.10",
            "CONTINUATION of the connection",
            &[frame(HEADERS, END_STREAM, 1, &fields(&GET)), frame(CONTINUATION, 4, 0, &[])],
            Connection(&[PROTOCOL]),
        ),
    ]
}

/// Section 8: requests.
fn requests() -> Vec<Case> {
    let with = |more: &[(&str, &str)]| asks(1, &[&GET[..], more].concat());
    let without = |name: &str| asks(1, &GET.into_iter().filter(|(known, _)| *known != name).collect::<Vec<_>>());
    let but = |name: &str, value| asks(1, &GET.map(|(known, was)| (known, if known == name { value } else { was })));
    let data = |text: &[u8]| frame(DATA, END_STREAM, 1, text);
    let trailers = |more: &[(&str, &str)]| frame(HEADERS, END_STREAM | END_HEADERS, 1, &fields(more));
    vec![
        case("8.1", "a request", &[with(&[])], Answer),
        case(
            "8.1",
            "a body and trailers",
            &[begins(1, &[]), frame(DATA, 0, 1, b"abc"), trailers(&[("x", "y")])],
            Answer,
        ),
        case(
            "8.1",
            "trailers that do not end it",
            &[begins(1, &[]), frame(HEADERS, END_HEADERS, 1, &fields(&[("x", "y")]))],
            Malformed,
        ),
        case(
            "8.1",
            "a pseudo-field in trailers, which is left out",
            &[begins(1, &[]), trailers(&[(":path", "/")])],
            Answer,
        ),
        case("8.1.1", "a body longer than said", &[begins(1, &[("content-length", "1")]), data(b"abc")], Malformed),
        case("8.1.1", "a body shorter than said", &[begins(1, &[("content-length", "9")]), data(b"abc")], Malformed),
        case(
            "8.1.1",
            "two lengths",
            &[begins(1, &[("content-length", "3"), ("content-length", "4")]), data(b"abc")],
            Malformed,
        ),
        case("8.1.1", "a length and no body", &[with(&[("content-length", "5")])], Malformed),
        case("8.2.1", "a value that begins with a space", &[with(&[("x", " y")])], Malformed),
        case("8.2.1", "a value that ends with a tab", &[with(&[("x", "y\t")])], Malformed),
        case("8.2.1", "an empty name", &[with(&[("", "x")])], Malformed),
        case("8.2.1", "a colon in a name", &[with(&[("x:y", "z")])], Malformed),
        case("8.2.1", "a name in capitals", &[with(&[("X-Y", "z")])], Malformed),
        case("8.2.1", "CR LF in a value", &[with(&[("x", "y\r\nz: a")])], Malformed),
        case("8.2.1", "NUL in a value", &[with(&[("x", "y\0")])], Malformed),
        case("8.2.1", "a space in a name", &[with(&[("x y", "z")])], Malformed),
        case("8.2.2", "connection", &[with(&[("connection", "close")])], Malformed),
        case("8.2.2", "transfer-encoding", &[with(&[("transfer-encoding", "chunked")])], Malformed),
        case("8.2.2", "upgrade", &[with(&[("upgrade", "websocket")])], Malformed),
        case("8.2.2", "keep-alive", &[with(&[("keep-alive", "1")])], Malformed),
        case("8.2.2", "te of anything", &[with(&[("te", "gzip")])], Malformed),
        case("8.2.2", "te of trailers", &[with(&[("te", "trailers")])], Answer),
        case("8.3", "a pseudo-field that nobody knows", &[with(&[(":what", "x")])], Malformed),
        case("8.3", "a pseudo-field of answers", &[with(&[(":status", "200")])], Malformed),
        case(
            "8.3",
            "a pseudo-field after others",
            &[asks(1, &[GET[0], GET[1], GET[2], ("x", "y"), GET[3]])],
            Malformed,
        ),
        case("8.3.1", "two paths", &[with(&[(":path", "/")])], Malformed),
        case("8.3.1", "two methods", &[with(&[(":method", "GET")])], Malformed),
        case("8.3.1", "two authorities", &[with(&[(":authority", "app.com")])], Malformed),
        case("8.3.1", "no method", &[without(":method")], Malformed),
        case("8.3.1", "no scheme", &[without(":scheme")], Malformed),
        case("8.3.1", "no path", &[without(":path")], Malformed),
        case("8.3.1", "no host at all", &[without(":authority")], Malformed),
        case("8.3.1", "an empty path", &[but(":path", "")], Malformed),
        case("8.3.1", "a path without a slash", &[but(":path", "x")], Malformed),
        case("8.3.1", "a path with a space", &[but(":path", "/a b HTTP/1.1")], Malformed),
        case("8.3.1", "a method that is none", &[but(":method", "GET / HTTP/1.1\r\n")], Malformed),
        case("8.3.1", "another host", &[with(&[("host", "other.com")])], Malformed),
        case("8.3.1", "the same host", &[with(&[("host", "app.com")])], Answer),
        case("8.3.1", "an authority with a user", &[but(":authority", "a@app.com")], Malformed),
        case("8.5", "CONNECT with a path", &[but(":method", "CONNECT")], Malformed),
    ]
}

/// What came first that decides it: a PING sent at the end is answered after everything else.
async fn decide(client: &mut Framed, expect: &Expect) -> Result<(), String> {
    loop {
        let next = timeout(PATIENCE, client.next()).await.map_err(|_| "nothing")?;
        let Some(frame) = next else {
            return if matches!(expect, Connection(_) | Stream(_) | Malformed) {
                Ok(())
            } else {
                Err("the end".into())
            };
        };
        let status = frame.payload.first().copied();
        match (frame.kind, expect) {
            // h2 often says no more than that the protocol was broken.
            (GOAWAY, Connection(codes) | Stream(codes))
                if codes.contains(&frame.code()) || frame.code() == PROTOCOL =>
            {
                return Ok(());
            }
            (RST_STREAM, Stream(codes)) if codes.contains(&frame.code()) => return Ok(()),
            (GOAWAY | RST_STREAM, Malformed) if frame.code() == PROTOCOL => return Ok(()),
            (HEADERS, Malformed) if status == Some(0x8c) => return Ok(()),
            (HEADERS, Answer) if (frame.stream, status) == (1, Some(0x88)) => return Ok(()),
            (PING, Nothing) if frame.payload == [9; 8] => return Ok(()),
            // Answers to what was right before.
            (SETTINGS | WINDOW_UPDATE | DATA, _) | (HEADERS, Connection(_) | Stream(_)) => {}
            (PING, Answer) => {}
            // Not yet: the request is on its way to its endpoint.
            (PING, Malformed | Stream(_)) => {}
            (PING, _) if frame.payload != [9; 8] => {}
            _ => return Err(format!("{frame:?}")),
        }
    }
}

#[tokio::test]
async fn mistakes_end_what_they_should_end() {
    let (at, seen) = echo().await;
    let world = World::new(vec![at]);
    let mut problems = Vec::new();
    for Case { section, what, sent, expect } in [streams(), definitions(), flows(), requests()].concat() {
        let mut client = Framed::connect(world.at, &frame(SETTINGS, 0, 0, &[])).await;
        client.stream.write_all(&sent).await.ok();
        client.stream.write_all(&frame(PING, 0, 0, &[9; 8])).await.ok();
        if let Err(found) = decide(&mut client, &expect).await {
            problems.push(format!("{section} {what}: {found} instead of {expect:?}"));
        }
        problems.extend(std::mem::take(&mut *seen.wrong.lock().unwrap()));
    }
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[tokio::test]
async fn settings_and_pings_are_answered() {
    let (at, _) = echo().await;
    let world = World::new(vec![at]);
    let mut client = Framed::connect(world.at, &setting(4, 3)).await;
    client.stream.write_all(&frame(PING, 0, 0, b"abcdefgh")).await.unwrap();
    let (mut settings, mut acknowledged) = (false, false);
    loop {
        let frame = timeout(PATIENCE, client.next()).await.unwrap().unwrap();
        match (frame.kind, frame.flags) {
            (SETTINGS, 0) => settings = true,
            (SETTINGS, ACK) => acknowledged = true,
            (PING, ACK) => break assert_eq!(frame.payload, b"abcdefgh"),
            _ => {}
        }
    }
    assert!(settings && acknowledged);
    // The window is 3: so much comes, and the rest with more of it, as the setting that raises it also does.
    client.stream.write_all(&asks(1, &GET)).await.unwrap();
    let mut sizes = Vec::new();
    while sizes.iter().sum::<usize>() < b"none / 0".len() {
        let frame = timeout(PATIENCE, client.next()).await.unwrap().unwrap();
        if frame.kind == DATA {
            sizes.push(frame.payload.len());
            let more = if sizes.len() == 1 {
                crate::frames::frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 2])
            } else {
                setting(4, 100)
            };
            client.stream.write_all(&more).await.unwrap();
        }
    }
    assert_eq!(sizes, [3, 2, 3]);
}

/// Section 6.8: who has begun is answered, and told that there is nothing more to be had.
#[tokio::test]
async fn requests_under_way_are_answered_at_the_end() {
    let (asked, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (told, goes) = (asked.clone(), go.clone());
    let at = endpoint(move |stream, _| {
        let (asked, go) = (told.clone(), goes.clone());
        async move {
            let mut stream = BufReader::new(stream);
            let Ok(Some(request)) = Message::request(&mut stream).await else { return };
            asked.notify_one();
            go.notified().await;
            stream.write_all(said(&request).as_bytes()).await.unwrap();
        }
    })
    .await;
    let world = World::new(vec![at]);
    let mut client = Framed::connect(world.at, &frame(SETTINGS, 0, 0, &[])).await;
    client.stream.write_all(&asks(1, &GET)).await.unwrap();
    timeout(PATIENCE, asked.notified()).await.expect("a request");
    drop(world);
    let (mut last, mut answer) = (None, Vec::new());
    while let Some(next) = timeout(PATIENCE, client.next()).await.expect("an end") {
        match (next.kind, next.flags) {
            (PING, 0) => client.stream.write_all(&frame(PING, ACK, 0, &next.payload)).await.unwrap(),
            (GOAWAY, _) => {
                assert_eq!(next.code(), 0);
                last = Some(next.payload[..4].to_vec());
                go.notify_one();
            }
            (DATA, _) => answer.extend(next.payload),
            _ => {}
        }
    }
    assert_eq!((last.as_deref(), &*answer), (Some(&[0, 0, 0, 1][..]), &b"none / 0"[..]));
}
