//! Clients of HTTP/2 that do not open their windows.

use std::sync::Arc;

use ingress::{Bounds, Policy};
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use crate::frames::*;
use crate::message::Message;
use crate::world::{PATIENCE, SHORT, World, endpoint};

const CANCEL: u32 = 8;

/// Answers a request for ever, or when it is told to; says when its connection is gone.
async fn answer(stream: TcpStream, go: Arc<Notify>, gone: mpsc::UnboundedSender<String>) {
    let mut stream = BufReader::new(stream);
    let Ok(Some(request)) = Message::request(&mut stream).await else { return };
    let endless = request.start.contains("/endless");
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n").await.unwrap();
    if !endless {
        go.notified().await;
    }
    let block = vec![b'x'; if endless { 1 << 20 } else { 1 }];
    while stream.write_all(&block).await.is_ok() {
        if !endless {
            // Until the other side has closed.
            Message::request(&mut stream).await.ok();
        }
    }
    gone.send(request.start).unwrap();
}

/// The next frame of a kind on a stream; pings are answered.
async fn next(client: &mut Framed, kind: u8, stream: u32) -> Frame {
    let wanted = async {
        loop {
            let next = client.next().await.expect("no end");
            match (next.kind, next.flags) {
                (PING, 0) => client.stream.write_all(&frame(PING, ACK, 0, &next.payload)).await.unwrap(),
                _ if (next.kind, next.stream) == (kind, stream) => return next,
                _ => {}
            }
        }
    };
    timeout(PATIENCE, wanted).await.unwrap_or_else(|_| panic!("no {kind} on {stream}"))
}

/// What it holds at the endpoint is given back; the connection, and answers that it is not to blame for, go on.
#[tokio::test]
async fn answers_that_are_not_taken_are_given_up() {
    let request = |path| GET.map(|(name, value)| (name, if name == ":path" { path } else { value }));
    let more = |stream, by: u32| frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
    // The window of each stream, and more of stream 1's and of the connection's.
    for (name, window, first, all) in [
        ("never opened", 0, None, None),
        ("closed in the middle", 0, Some(100_000), Some(1 << 20)),
        ("closed for the connection", 1 << 20, None, None),
    ] {
        let (go, (gone, mut left)) = (Arc::new(Notify::new()), mpsc::unbounded_channel());
        let told = go.clone();
        let at = endpoint(move |stream, _| answer(stream, told.clone(), gone.clone())).await;
        let bounds = Bounds { patience: SHORT, ..Bounds::default() };
        let world = World::with(vec![at], Policy::default(), bounds, 1);
        let mut client = Framed::connect(world.at, &setting(4, window)).await;
        client.stream.write_all(&asks(1, &request("/endless"))).await.unwrap();
        client.stream.write_all(&asks(3, &request("/waits"))).await.unwrap();
        for (stream, by) in [(1, first), (0, all)] {
            let Some(by) = by else { continue };
            client.stream.write_all(&more(stream, by)).await.unwrap();
        }
        let reset = next(&mut client, RST_STREAM, 1).await;
        assert_eq!(reset.code(), CANCEL, "{name}");
        let end = timeout(PATIENCE, left.recv()).await.expect("the endpoint is rid of it");
        assert_eq!(end.as_deref(), Some("GET /endless HTTP/1.1"), "{name}");
        client.stream.write_all(&[more(3, 10), more(0, 10)].concat()).await.unwrap();
        go.notify_one();
        assert_eq!(&*next(&mut client, DATA, 3).await.payload, b"x", "{name}");
    }
}
