//! UDP: a socket to an endpoint for each client, forgotten when the client is silent.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::backends::Choice;
use super::{Associate, Config, PATIENCE};

/// The largest datagram.
const DATAGRAM: usize = 65_535;

/// One port.
pub(crate) struct Relay {
    socket: Arc<UdpSocket>,
    choice: Choice,
    associate: Associate,
    flows: Flows,
    max_flows: usize,
    idle: Duration,
}

/// A client and its endpoint.
#[derive(Clone)]
struct Flow {
    endpoint: SocketAddr,
    socket: Arc<UdpSocket>,
    used: Arc<Mutex<Instant>>,
    end: CancellationToken,
}

type Flows = Arc<Mutex<HashMap<SocketAddr, Flow>>>;

impl Relay {
    pub(crate) fn new(socket: UdpSocket, choice: Choice, config: &Config) -> Self {
        let (associate, flows) = (config.associate.clone(), Flows::default());
        let (max_flows, idle) = (config.max_flows, config.udp_idle);
        Relay { socket: Arc::new(socket), choice, associate, flows, max_flows, idle }
    }

    /// Relays until `close`, which ends the flows, too: without the port there is no way back.
    pub(crate) async fn run(self, close: CancellationToken) {
        let tasks = TaskTracker::new();
        let mut buffer = vec![0; DATAGRAM];
        let serve = async {
            loop {
                match self.socket.recv_from(&mut buffer).await {
                    Ok((length, client)) => self.forward(client, &buffer[..length], &close, &tasks).await,
                    Err(error) => debug!("failed to receive a datagram: {error}"),
                }
            }
        };
        close.run_until_cancelled(serve).await;
        // They hold the socket, too.
        tasks.close();
        tasks.wait().await;
    }

    async fn forward(&self, client: SocketAddr, datagram: &[u8], close: &CancellationToken, tasks: &TaskTracker) {
        let Some(flow) = self.flow(client, close, tasks).await else {
            return;
        };
        *lock(&flow.used) = Instant::now();
        if let Err(error) = flow.socket.send(datagram).await {
            debug!("endpoint {} does not take datagrams: {error}", flow.endpoint);
            flow.end.cancel();
            lock(&self.flows).remove(&client);
        }
    }

    /// The client's flow, unless its endpoint is gone; then, and at first, a new one.
    async fn flow(&self, client: SocketAddr, close: &CancellationToken, tasks: &TaskTracker) -> Option<Flow> {
        let known = lock(&self.flows).get(&client).cloned();
        if let Some(flow) = known {
            if !flow.end.is_cancelled() && self.choice.now().contains(&flow.endpoint) {
                return Some(flow);
            }
            flow.end.cancel();
            lock(&self.flows).remove(&client);
        }
        if lock(&self.flows).len() >= self.max_flows {
            debug!("too many clients: {client} is not answered");
            return None;
        }
        for endpoint in self.choice.order(client.ip()) {
            match tokio::time::timeout(PATIENCE, (self.associate)(endpoint)).await {
                Ok(Ok(socket)) => {
                    let flow = Flow {
                        endpoint,
                        socket: Arc::new(socket),
                        used: Arc::new(Mutex::new(Instant::now())),
                        end: close.child_token(),
                    };
                    lock(&self.flows).insert(client, flow.clone());
                    tasks.spawn(answers(flow.clone(), self.socket.clone(), client, self.flows.clone(), self.idle));
                    return Some(flow);
                }
                Ok(Err(error)) => debug!("endpoint {endpoint} cannot be reached: {error}"),
                Err(_) => debug!("endpoint {endpoint} cannot be reached in time"),
            }
        }
        None
    }
}

/// Sends the endpoint's datagrams to the client until both were silent for a while, or the
/// endpoint refuses.
async fn answers(flow: Flow, to: Arc<UdpSocket>, client: SocketAddr, flows: Flows, idle: Duration) {
    let end = flow.end.clone();
    end.run_until_cancelled(async {
        loop {
            let deadline = *lock(&flow.used) + idle;
            match tokio::time::timeout_at(deadline, flow.socket.readable()).await {
                Ok(Ok(())) => {
                    if let Err(error) = drain(&flow, &to, client).await {
                        debug!("endpoint {} refused: {error}", flow.endpoint);
                        return;
                    }
                }
                Ok(Err(_)) => return,
                Err(_) if *lock(&flow.used) + idle <= Instant::now() => return,
                Err(_) => {}
            }
        }
    })
    .await;
    flow.end.cancel();
    let mut flows = lock(&flows);
    if flows.get(&client).is_some_and(|current| Arc::ptr_eq(&current.socket, &flow.socket)) {
        flows.remove(&client);
    }
}

/// Passes on what has come; an idle flow holds no buffer.
async fn drain(flow: &Flow, to: &UdpSocket, client: SocketAddr) -> io::Result<()> {
    let mut buffer = vec![0; DATAGRAM];
    loop {
        match flow.socket.try_recv(&mut buffer) {
            Ok(length) => {
                *lock(&flow.used) = Instant::now();
                to.send_to(&buffer[..length], client).await.ok();
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Nothing panics while it holds one of these.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
