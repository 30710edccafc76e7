//! TCP: accept, connect to an endpoint, copy both ways.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::backends::Choice;
use super::{Connect, PATIENCE};

/// How many endpoints one connection tries.
const TRIES: usize = 5;
/// A pause after a failed accept: out of descriptors, most likely.
const PAUSE: Duration = Duration::from_millis(100);
/// After such a silence a connection's buffer is let go.
const IDLE: Duration = Duration::from_secs(1);
/// The first read after a silence, and what reads grow to while they come back full: bulk
/// transfers need the large one.
const SMALL: usize = 8 * 1024;
const LARGE: usize = 256 * 1024;

/// One port.
#[derive(Clone)]
pub(crate) struct Relay {
    pub(crate) choice: Arc<Choice>,
    pub(crate) connect: Connect,
    pub(crate) connections: Arc<Semaphore>,
    /// Ends the connections; the port itself may be closed before.
    pub(crate) shutdown: CancellationToken,
}

impl Relay {
    pub(crate) async fn run(self, listener: TcpListener, close: CancellationToken, tasks: TaskTracker) {
        let accept = async {
            loop {
                let (client, from) = match listener.accept().await {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        debug!("failed to accept a connection: {error}");
                        tokio::time::sleep(PAUSE).await;
                        continue;
                    }
                };
                let Ok(permit) = self.connections.clone().acquire_owned().await else {
                    return;
                };
                let relay = self.clone();
                tasks.spawn(async move {
                    let shutdown = relay.shutdown.clone();
                    shutdown.run_until_cancelled(relay.serve(client, from)).await;
                    drop(permit);
                });
            }
        };
        close.run_until_cancelled(accept).await;
    }

    async fn serve(self, client: TcpStream, from: SocketAddr) {
        let Some(endpoint) = self.reach(from).await else {
            reset(&client);
            return;
        };
        client.set_nodelay(true).ok();
        endpoint.set_nodelay(true).ok();
        drop(self);
        if let Err(error) = copy(client, endpoint).await {
            debug!("connection from {from} broke: {error}");
        }
    }

    /// The first endpoint that answers, beginning with the one whose turn it is.
    async fn reach(&self, client: SocketAddr) -> Option<TcpStream> {
        for endpoint in self.choice.order(client.ip()).into_iter().take(TRIES) {
            match tokio::time::timeout(PATIENCE, (self.connect)(endpoint)).await {
                Ok(Ok(stream)) => return Some(stream),
                Ok(Err(error)) => debug!("endpoint {endpoint} refused: {error}"),
                Err(_) => debug!("endpoint {endpoint} did not answer in time"),
            }
        }
        None
    }
}

/// Copies both ways until both sides have ended, or breaks both when one breaks.
async fn copy(a: TcpStream, b: TcpStream) -> io::Result<()> {
    let (mut from_a, mut to_a) = a.into_split();
    let (mut from_b, mut to_b) = b.into_split();
    let result = tokio::try_join!(pump(&mut from_a, &mut to_b), pump(&mut from_b, &mut to_a));
    if result.is_err() {
        reset(from_a.as_ref());
        reset(from_b.as_ref());
    }
    result.map(|_| ())
}

/// Copies one way to its end, and then ends that way of the other side. An idle connection holds
/// no buffer.
async fn pump(from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf) -> io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        match tokio::time::timeout(IDLE, from.readable()).await {
            Ok(ready) => ready?,
            Err(_) => {
                buffer = Vec::new();
                from.readable().await?;
            }
        }
        if buffer.is_empty() {
            buffer = vec![0; SMALL];
        }
        match from.try_read(&mut buffer) {
            Ok(0) => return to.shutdown().await.or_else(already_closed),
            Ok(length) => {
                to.write_all(&buffer[..length]).await?;
                if length == buffer.len() && length < LARGE {
                    buffer = vec![0; LARGE.min(4 * length)];
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// The other side has closed in both directions by itself.
fn already_closed(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::NotConnected => Ok(()),
        _ => Err(error),
    }
}

/// Has the socket's end be a reset, so that the peer does not take it for a proper one.
fn reset(stream: &TcpStream) {
    SockRef::from(stream).set_linger(Some(Duration::ZERO)).ok();
}
