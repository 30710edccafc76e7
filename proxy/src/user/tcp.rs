//! TCP: accept, connect to an endpoint, copy both ways.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use socket2::{SockFilter, SockRef};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::backends::Choice;
use super::copy::copy;
use super::header::header;
use super::{BACKLOG, soon};

/// A pause after a failed accept: out of descriptors, most likely.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a handshake that has begun may take to its end as the port is closed.
const HANDSHAKE: Duration = Duration::from_millis(50);
/// A filter for a listening socket: drops what has SYN among its flags (RFC 9293, section 3.1).
const NO_SYN: [SockFilter; 4] = [
    SockFilter::new(BPF_LD_B_ABS, 0, 0, 13),
    SockFilter::new(BPF_JSET, 0, 1, 0x02),
    SockFilter::new(BPF_RET, 0, 0, 0),
    SockFilter::new(BPF_RET, 0, 0, u32::MAX),
];
const BPF_LD_B_ABS: u16 = 0x30;
const BPF_JSET: u16 = 0x45;
const BPF_RET: u16 = 0x06;

/// One port.
#[derive(Clone)]
pub(crate) struct Relay {
    pub(crate) choice: Arc<Choice>,
    /// The tasks of the connections, and what ends them; the port itself may be closed before.
    pub(crate) tasks: TaskTracker,
    pub(crate) cut: CancellationToken,
}

impl Relay {
    pub(crate) async fn run(self, listener: TcpListener, close: CancellationToken) {
        // What is accepted inherits it.
        SockRef::from(&listener).set_tcp_nodelay(true).ok();
        let accept = async {
            loop {
                match listener.accept().await {
                    Ok((client, from)) => {
                        let permit = self.choice.shared.connections.clone().acquire_owned().await;
                        self.start(client, from, permit.ok());
                    }
                    Err(error) => {
                        debug!("failed to accept a connection: {error}");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        };
        close.run_until_cancelled(accept).await;
        // The next process has the port, too: those that this one's socket has accepted are not lost
        // with it, and those that come now are told nothing, so that they ask again.
        if self.choice.shared.handover.load(Ordering::Relaxed)
            && SockRef::from(&listener).attach_filter(&NO_SYN).is_ok()
        {
            tokio::time::sleep(HANDSHAKE).await;
        }
        let Ok(listener) = listener.into_std() else {
            return;
        };
        for (client, from) in std::iter::from_fn(|| listener.accept().ok()).take(BACKLOG as usize) {
            if client.set_nonblocking(true).is_ok()
                && let Ok(client) = TcpStream::from_std(client)
            {
                self.start(client, from, self.choice.shared.connections.clone().try_acquire_owned().ok());
            }
        }
    }

    /// Serves a client, when there is room.
    fn start(&self, client: TcpStream, from: SocketAddr, permit: Option<OwnedSemaphorePermit>) {
        if !self.choice.now().admits(from.ip()) {
            debug!("{from} is not in the Service's loadBalancerSourceRanges");
            return reset(&client);
        }
        let Some(permit) = permit else {
            return reset(&client);
        };
        let relay = self.clone();
        self.tasks.spawn(async move {
            let cut = relay.cut.clone();
            cut.run_until_cancelled(relay.serve(client, from)).await;
            drop(permit);
        });
    }

    async fn serve(self, client: TcpStream, from: SocketAddr) {
        let Some(endpoint) = self.reach(&client, from).await else {
            return reset(&client);
        };
        drop(self);
        if let Err(error) = copy(&client, &endpoint).await {
            reset(&client);
            reset(&endpoint);
            debug!("connection from {from} broke: {error}");
        }
    }

    /// The first endpoint that answers, beginning with the one whose turn it is.
    async fn reach(&self, client: &TcpStream, from: SocketAddr) -> Option<TcpStream> {
        let told = self.choice.shared.config.proxy_protocol.map(|version| (version, client.local_addr()));
        for endpoint in self.choice.order(from.ip(), Instant::now()) {
            let attempt = async {
                let mut stream = (self.choice.shared.config.connect)(endpoint).await?;
                stream.set_nodelay(true)?;
                if let Some((version, at)) = &told {
                    stream.write_all(&header(*version, from, at.as_ref().copied().unwrap_or(from))).await?;
                }
                Ok(stream)
            };
            match soon(attempt).await {
                Ok(stream) => {
                    self.choice.taken(from.ip(), endpoint, Instant::now());
                    return Some(stream);
                }
                Err(error) => self.choice.refused(endpoint, &error, Instant::now()),
            }
        }
        None
    }
}

/// Has the socket's end be a reset, so that the peer does not take it for a proper one.
fn reset(stream: &TcpStream) {
    SockRef::from(stream).set_linger(Some(Duration::ZERO)).ok();
}
