//! Clients of HTTP/2 that make work cheaply: it stays cheap, and others are served meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ingress::Bounds;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};

use crate::clients::resident;
use crate::frames::*;
use crate::message::{Message, Raw, request};
use crate::world::{PATIENCE, SHORT, World, echoes, endpoint, hasty};

/// How much more memory a flood may take.
const MEMORY: usize = 48 << 20;

/// Asks as an honest client meanwhile; the slowest answer took so long.
async fn honest(world: &World) -> std::time::Duration {
    let mut slowest = std::time::Duration::ZERO;
    let mut client = Raw::connect(world.at).await;
    for _ in 0..5 {
        let began = Instant::now();
        assert_eq!(client.ask(&request("GET", "/", "1", "")).await.status(), 200);
        slowest = slowest.max(began.elapsed());
    }
    slowest
}

/// Sends a block again and again, with the numbers of streams counted up; whether the server ended that. What it says
/// is read, or not.
async fn flood(world: &World, first: &[u8], block: impl Fn(u32) -> Vec<u8>, times: u32, reads: bool) -> bool {
    let (mut reader, mut writer) = Framed::connect(world.at, first).await.stream.into_inner().into_split();
    let reading = tokio::spawn(async move {
        let mut sink = vec![0; 1 << 16];
        while reads && reader.read(&mut sink).await.is_ok_and(|length| length > 0) {}
        std::future::pending::<()>().await;
    });
    let mut ended = false;
    for number in 0..times {
        let written = timeout(SHORT * 2, writer.write_all(&block(number))).await;
        ended = !matches!(written, Ok(Ok(())));
        if ended {
            break;
        }
    }
    reading.abort();
    ended
}

/// A name, what is sent first, then again and again with a number, how often, whether what comes is read, and whether
/// the server is to put an end to it.
type Flood = (&'static str, Vec<u8>, Box<dyn Fn(u32) -> Vec<u8>>, u32, bool, bool);

fn floods() -> Vec<Flood> {
    let settings = || frame(SETTINGS, 0, 0, &[]);
    let open = || [settings(), begins(1, &[])].concat();
    let half = || [settings(), frame(HEADERS, END_STREAM, 1, &fields(&GET))].concat();
    let rapid = |number: u32| {
        let pair = |stream: u32| [asks(stream, &GET), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat();
        (0..100).flat_map(|more| pair((number * 100 + more) * 2 + 1)).collect()
    };
    let many = |frame: Vec<u8>| -> Box<dyn Fn(u32) -> Vec<u8>> { Box::new(move |_| frame.repeat(1000)) };
    let field = frame(CONTINUATION, 0, 1, &fields(&[("x", &"y".repeat(16_000))]));
    let bomb = [&[0x40, 1, b'x', 0x7f, 0xa1, 0x1e], &[b'y'; 4000][..], &[0xbe; 12_000]].concat();
    vec![
        ("rapid reset (CVE-2023-44487)", settings(), Box::new(rapid), 500, true, true),
        ("fields without end", half(), Box::new(move |_| field.clone()), 4000, true, true),
        ("empty fields without end", half(), many(frame(CONTINUATION, 0, 1, &[])), 1000, true, true),
        (
            "fields that grow as they are read",
            settings(),
            Box::new(move |number| {
                let request = [&fields(&GET)[..], &bomb].concat();
                frame(HEADERS, END_STREAM | END_HEADERS, number * 2 + 1, &request)
            }),
            200,
            true,
            false,
        ),
        ("pings", settings(), many(frame(PING, 0, 0, &[0; 8])), 50, true, false),
        ("pings whose answers are not read", settings(), many(frame(PING, 0, 0, &[0; 8])), 10_000, false, true),
        ("settings that are not read", settings(), many(setting(4, 1)), 10_000, false, true),
        ("empty data", open(), many(frame(DATA, 0, 1, &[])), 50, true, false),
        ("priorities", open(), many(frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 9])), 50, true, false),
        ("windows by one", open(), many(frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])), 50, true, false),
    ]
}

#[tokio::test]
async fn floods_are_stemmed() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let at = endpoint(move |stream, _| {
        counted.fetch_add(1, Ordering::Relaxed);
        echoes(stream, Default::default())
    })
    .await;
    // Long enough for who asks between two blocks of a flood.
    let world = World::with(vec![at], hasty(), Bounds { patience: PATIENCE / 4, ..Bounds::default() }, 1);
    let mut problems = Vec::new();
    for (name, first, block, times, reads, ends) in floods() {
        let (before, began) = (resident(), Instant::now());
        let (ended, slowest) = tokio::join!(flood(&world, &first, block, times, reads), honest(&world));
        let grown = resident().saturating_sub(before);
        println!("{name}: {grown} bytes, others waited for {slowest:?}, {:?} in all", began.elapsed());
        if ends && !ended {
            problems.push(format!("{name}: not ended"));
        }
        if grown > MEMORY || slowest > PATIENCE / 4 {
            problems.push(format!("{name}: {grown} bytes, others waited for {slowest:?}"));
        }
    }
    let asked = asked.load(Ordering::Relaxed);
    println!("{asked} connections to the endpoint");
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
    assert!(asked < 2000, "{asked} connections to the endpoint");
}

/// Requests whose answers may not be sent hold their endpoint's connections, no more: nothing is read ahead for them.
#[tokio::test]
async fn closed_windows_hold_little() {
    const STREAMS: u32 = 100;
    let at = endpoint(|stream, _| async move {
        let mut stream = tokio::io::BufReader::new(stream);
        while let Ok(Some(asked)) = Message::request(&mut stream).await {
            let length = if asked.start.contains("/small") { 1 } else { 10 << 20 };
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
            let sent =
                stream.write_all(head.as_bytes()).await.is_ok() && stream.write_all(&vec![b'x'; length]).await.is_ok();
            if !sent {
                return;
            }
        }
    })
    .await;
    let world = World::new(vec![at]);
    let mut client = Framed::connect(world.at, &setting(4, 0)).await;
    let before = resident();
    for stream in 0..STREAMS {
        client.stream.write_all(&asks(stream * 2 + 1, &GET)).await.unwrap();
    }
    let mut answers = 0;
    while answers < STREAMS {
        let frame = timeout(PATIENCE, client.next()).await.expect("an answer").expect("no end");
        assert!(frame.kind != DATA || frame.payload.is_empty(), "{frame:?}");
        answers += u32::from(frame.kind == HEADERS);
    }
    let mut other = Raw::connect(world.at).await;
    assert_eq!(other.ask(&request("GET", "/small", "1", "")).await.text(), "x");
    // The endpoint, which is here too, has made its answers whole.
    let grown = resident().saturating_sub(before).saturating_sub((STREAMS as usize) * (10 << 20));
    println!("{grown} bytes for {STREAMS} streams");
    assert!(grown < MEMORY, "{grown} bytes");
}
