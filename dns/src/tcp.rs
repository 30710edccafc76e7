//! TCP: messages with their length in front, several at a time on each connection (RFC 7766).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::FuturesUnordered;
use futures::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::codec::{Framed, LengthDelimitedCodec};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::message::{TCP_SIZE, Transport};
use crate::resolve::Resolver;

/// How many connections there may be at a time; further ones wait to be accepted.
const CONNECTIONS: usize = 512;

/// How many questions of one connection are worked on at a time.
const PIPELINE: usize = 32;

/// How long a connection may be quiet, or leave its answers unread.
const IDLE: Duration = Duration::from_secs(10);

/// How long to wait when no connection can be accepted (no file descriptors, most often).
const PAUSE: Duration = Duration::from_millis(100);

/// Serves a listener's connections, which become `tasks`, until `shutdown`.
pub(crate) async fn serve(
    listener: TcpListener,
    resolver: Arc<Resolver>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = async {
            let permit = permits.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let resolver = resolver.clone();
                let task = async move {
                    connection(stream, peer, &resolver).await;
                    drop(permit);
                };
                tasks.spawn(shutdown.clone().run_until_cancelled_owned(task));
            }
            Err(error) => {
                tracing::warn!("dns tcp: {error}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, resolver: &Resolver) {
    let codec = LengthDelimitedCodec::builder().length_field_length(2).max_frame_length(TCP_SIZE).new_codec();
    let mut framed = Framed::new(stream, codec);
    let mut working = FuturesUnordered::new();
    let mut open = true;
    while open || !working.is_empty() {
        tokio::select! {
            Some(answer) = working.next() => {
                let Some(answer): Option<Vec<u8>> = answer else { return };
                if !matches!(timeout(IDLE, framed.send(Bytes::from(answer))).await, Ok(Ok(()))) {
                    return;
                }
            }
            question = timeout(IDLE, framed.next()), if open && working.len() < PIPELINE => match question {
                Ok(Some(Ok(packet))) => working.push(async move { resolver.resolve(&packet, Transport::Tcp).await }),
                Ok(Some(Err(error))) => {
                    tracing::debug!("dns tcp of {peer}: {error}");
                    return;
                }
                // It has no more questions, or was quiet for too long.
                Ok(None) | Err(_) => open = false,
            },
        }
    }
}
