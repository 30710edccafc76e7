//! UDP: a socket to an endpoint for each client, forgotten when both are silent.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::backends::Choice;
use super::copy::with_buffer;
use super::{lock, soon};

/// How many datagrams are taken from one socket before others have their turn.
const BATCH: usize = 64;

/// One port.
#[derive(Clone)]
pub(crate) struct Relay {
    pub(crate) socket: Arc<UdpSocket>,
    pub(crate) choice: Arc<Choice>,
    pub(crate) flows: Arc<Mutex<HashMap<SocketAddr, Arc<Flow>>>>,
}

/// A client and its endpoint.
pub(crate) struct Flow {
    client: SocketAddr,
    endpoint: SocketAddr,
    socket: UdpSocket,
    used: Mutex<Instant>,
    end: CancellationToken,
    _room: OwnedSemaphorePermit,
}

impl Relay {
    /// Relays until `close`, which ends the flows, too: without the port there is no way back.
    pub(crate) async fn run(self, close: CancellationToken) {
        let tasks = TaskTracker::new();
        let serve = async {
            loop {
                if poll_fn(|cx| self.socket.poll_recv_ready(cx)).await.is_err() {
                    return;
                }
                if let Some((client, datagram)) = with_buffer(|buffer| self.forward(buffer)) {
                    self.begin(client, &datagram, &close, &tasks).await;
                }
            }
        };
        close.run_until_cancelled(serve).await;
        // They hold the socket, too.
        tasks.close();
        tasks.wait().await;
    }

    /// Passes on what clients send, until there is no more or one of them has no endpoint yet. What
    /// does not fit into an endpoint's queue is dropped, as everywhere on its way.
    fn forward(&self, buffer: &mut [u8]) -> Option<(SocketAddr, Vec<u8>)> {
        for _ in 0..BATCH {
            let (length, client) = match self.socket.try_recv_from(buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) => {
                    debug!("failed to receive a datagram: {error}");
                    continue;
                }
            };
            let Some(flow) = self.flow(client) else {
                return Some((client, buffer[..length].to_vec()));
            };
            self.send(&flow, &buffer[..length]);
        }
        None
    }

    /// The client's flow, unless its endpoint is gone.
    fn flow(&self, client: SocketAddr) -> Option<Arc<Flow>> {
        let flow = lock(&self.flows).get(&client).cloned()?;
        if !flow.end.is_cancelled() && self.choice.now().contains(&flow.endpoint) {
            return Some(flow);
        }
        self.end(&flow);
        None
    }

    fn send(&self, flow: &Arc<Flow>, datagram: &[u8]) {
        *lock(&flow.used) = Instant::now();
        match flow.socket.try_send(datagram) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => self.refused(flow, &error),
        }
    }

    /// A client's first datagram.
    async fn begin(&self, client: SocketAddr, datagram: &[u8], close: &CancellationToken, tasks: &TaskTracker) {
        if !self.choice.now().admits(client.ip()) {
            return debug!("{client} is not in the Service's loadBalancerSourceRanges");
        }
        let Ok(room) = self.choice.shared.flows.clone().try_acquire_owned() else {
            return debug!("too many clients: {client} is not answered");
        };
        for endpoint in self.choice.order(client.ip(), Instant::now()) {
            let socket = match soon((self.choice.shared.config.associate)(endpoint)).await {
                Ok(socket) => socket,
                Err(error) => {
                    self.choice.refused(endpoint, &error, Instant::now());
                    continue;
                }
            };
            let (used, end) = (Mutex::new(Instant::now()), close.child_token());
            let flow = Arc::new(Flow { client, endpoint, socket, used, end, _room: room });
            lock(&self.flows).insert(client, flow.clone());
            self.choice.taken(client.ip(), endpoint, Instant::now());
            // This waits: a new socket is not known to be writable.
            if let Err(error) = flow.socket.send(datagram).await {
                return self.refused(&flow, &error);
            }
            let relay = self.clone();
            tasks.spawn(async move {
                let end = flow.end.clone();
                end.run_until_cancelled(relay.answers(&flow)).await;
                relay.end(&flow);
            });
            return;
        }
    }

    /// Sends the endpoint's datagrams to the client until both were silent for a while, or the
    /// endpoint refuses.
    async fn answers(&self, flow: &Arc<Flow>) {
        let mut silence = pin!(sleep_until(*lock(&flow.used) + self.choice.shared.config.udp_idle));
        loop {
            tokio::select! {
                ready = poll_fn(|cx| flow.socket.poll_recv_ready(cx)) => {
                    if let Err(error) = ready.and_then(|()| with_buffer(|buffer| self.back(flow, buffer))) {
                        return self.refused(flow, &error);
                    }
                }
                () = &mut silence => {
                    let until = *lock(&flow.used) + self.choice.shared.config.udp_idle;
                    if until <= Instant::now() {
                        return;
                    }
                    silence.as_mut().reset(until);
                }
            }
        }
    }

    /// Passes on what has come.
    fn back(&self, flow: &Flow, buffer: &mut [u8]) -> io::Result<()> {
        for _ in 0..BATCH {
            match flow.socket.try_recv(buffer) {
                Ok(length) => {
                    *lock(&flow.used) = Instant::now();
                    self.socket.try_send_to(&buffer[..length], flow.client).ok();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The endpoint's machine said that nobody is there (ICMP), so the next datagram goes to another.
    fn refused(&self, flow: &Arc<Flow>, error: &io::Error) {
        self.choice.refused(flow.endpoint, error, Instant::now());
        self.end(flow);
    }

    fn end(&self, flow: &Arc<Flow>) {
        flow.end.cancel();
        let mut flows = lock(&self.flows);
        if flows.get(&flow.client).is_some_and(|current| Arc::ptr_eq(current, flow)) {
            flows.remove(&flow.client);
        }
    }
}
