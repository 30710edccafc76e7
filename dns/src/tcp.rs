//! TCP: messages with their length in front, several at a time on each connection (RFC 7766).

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::FuturesUnordered;
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::codec::{Framed, LengthDelimitedCodec};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::endpoint::Slot;
use crate::request::{Context, Packets, TCP_SIZE, Transport};
use crate::servers::Servers;

/// What clients are granted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// How many connections a listener has at a time; further ones wait to be accepted.
    pub(crate) connections: usize,
    /// How long a connection may be quiet, or leave its answers unread.
    pub(crate) idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { connections: 512, idle: Duration::from_secs(10) }
    }
}

/// How many questions of one connection are worked on at a time.
const PIPELINE: usize = 32;

/// How long to wait when no connection can be accepted (no file descriptors, most often).
const PAUSE: Duration = Duration::from_millis(100);

/// Serves a listener's connections, each by a task of what `connection` makes of it, until
/// `closing`.
pub(crate) async fn serve<F: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    limits: Limits,
    tasks: TaskTracker,
    closing: CancellationToken,
    connection: impl Fn(TcpStream, SocketAddr) -> F,
) {
    let permits = Arc::new(Semaphore::new(limits.connections));
    loop {
        let accepted = async {
            let permit = permits.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            () = closing.cancelled() => return,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let connection = connection(stream, peer);
                tasks.spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!("dns tcp: {error}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Answers the questions of a connection until it is quiet for too long; when it is `closing`, those
/// that were asked by then.
pub(crate) async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    (peer, server): (SocketAddr, SocketAddr),
    slot: &Slot<Servers>,
    idle: Duration,
    closing: CancellationToken,
) {
    let codec = LengthDelimitedCodec::builder().length_field_length(2).max_frame_length(TCP_SIZE).new_codec();
    let mut framed = Framed::new(stream, codec);
    let mut working = FuturesUnordered::new();
    let mut open = true;
    while open || !working.is_empty() {
        tokio::select! {
            Some(answer) = working.next() => {
                let packets: Box<dyn Iterator<Item = Vec<u8>> + Send> = match answer {
                    Some(Packets::One(packet)) => Box::new(std::iter::once(packet)),
                    Some(Packets::Many(packets)) => packets,
                    None => return,
                };
                for packet in packets {
                    if !matches!(timeout(idle, framed.send(Bytes::from(packet))).await, Ok(Ok(()))) {
                        return;
                    }
                }
            }
            question = timeout(idle, framed.next()), if open && working.len() < PIPELINE => match question {
                Ok(Some(Ok(packet))) => {
                    let servers = slot.get();
                    let context =
                        Context { client: peer, server, transport: Transport::Tcp, servers: servers.clone() };
                    working.push(async move { servers.packets(&packet, context).await });
                }
                Ok(Some(Err(error))) => {
                    tracing::debug!("dns tcp of {peer}: {error}");
                    return;
                }
                // It has no more questions, or was quiet for too long.
                Ok(None) | Err(_) => open = false,
            },
            () = closing.cancelled(), if open => open = false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use hickory_proto::op::ResponseCode;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::fixture;
    use crate::request::{Body, Reply};

    /// How long a test waits for what must come.
    const DEADLINE: Duration = Duration::from_secs(10);

    /// A question for the SOA record, with its length in front.
    const SOA: &[u8] = b"\0\x1f\0\x07\x01\0\0\x01\0\0\0\0\0\0\x07cluster\x05local\0\0\x06\0\x01";

    #[tokio::test]
    async fn quiet_connections_make_room_for_others() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let servers = Arc::new(fixture::servers("kubernetes", fixture::cluster().snapshot()));
        let slot = Arc::new(Slot::new(servers));
        let limits = Limits { connections: 2, idle: Duration::from_millis(200) };
        let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let closing = shutdown.clone();
        tasks.spawn(serve(listener, limits, tasks.clone(), shutdown.clone(), move |stream, peer| {
            let (slot, closing) = (slot.clone(), closing.clone());
            async move { connection(stream, (peer, address), &slot, limits.idle, closing).await }
        }));

        let mut quiet = [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
        // Half a question keeps nothing open.
        quiet[0].write_all(&SOA[..20]).await.unwrap();
        let mut third = TcpStream::connect(address).await.unwrap();
        third.write_all(SOA).await.unwrap();
        let mut header = [0; 14];
        let answered = tokio::time::timeout(DEADLINE, third.read_exact(&mut header)).await;
        answered.expect("it is served when another has ended").unwrap();
        assert_eq!(header[2..4], [0, 7]);
        for mut stream in quiet {
            let closed = tokio::time::timeout(DEADLINE, stream.read(&mut header)).await.expect("it is closed");
            assert!(!matches!(closed, Ok(1..)), "{closed:?}");
        }
        shutdown.cancel();
        tasks.close();
        tokio::time::timeout(DEADLINE, tasks.wait()).await.expect("it stops");
    }

    #[tokio::test]
    async fn a_zone_is_made_as_fast_as_it_is_read() {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let servers = fixture::chain(|request| {
            let message = request.reply(ResponseCode::NoError, true, Default::default());
            let messages = std::iter::repeat_with(move || {
                MADE.fetch_add(1, Ordering::Relaxed);
                message.clone()
            });
            Ok(Reply { body: Body::Messages(Box::new(messages.take(1000))), plugin: "transfer" })
        });
        let slot = Slot::new(Arc::new(servers));
        let (mut client, server) = tokio::io::duplex(64);
        let ends = ([127, 0, 0, 1], 53).into();
        let serving = async {
            connection(server, (ends, ends), &slot, DEADLINE, CancellationToken::new()).await;
        };
        let reading = async {
            client.write_all(SOA).await.unwrap();
            let mut answer = [0; 0x1f + 2];
            for index in 1..=1000 {
                client.read_exact(&mut answer).await.unwrap();
                assert_eq!(answer[..4], SOA[..4]);
                // What the connection and its own buffer hold.
                assert!(MADE.load(Ordering::Relaxed) < index + 500, "{index}");
            }
            drop(client);
        };
        tokio::join!(serving, reading);
    }
}
