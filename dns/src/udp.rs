//! A UDP socket: a thread that answers what is ready in batches, and leaves the rest to tasks.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, OpCode, ResponseCode};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};
use rustix::net::{Shutdown, shutdown};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::endpoint::Slot;
use crate::metrics::Counter;
use crate::question::Question;
use crate::request::{Context, Transport};
use crate::servers::Servers;

mod batch;
mod envelope;

use batch::{BATCH, Batch};
use envelope::{Envelope, informed, send};

/// How many questions of one socket may be on the slow way; more get SERVFAIL at once.
const SLOW: usize = 1024;

/// How many bytes of questions may wait in the kernel: some thousands, counted with its overhead.
const BUFFER: usize = 4 << 20;

/// How long to wait after the socket could not be read, so that a lasting error costs nothing.
const PAUSE: Duration = Duration::from_millis(10);

/// A socket's thread; it ends when this is dropped.
pub(crate) struct Listener {
    socket: Arc<UdpSocket>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Starts to answer; questions of the slow way become `tasks` of this runtime, which
    /// `shutdown` ends.
    pub(crate) fn spawn(
        socket: UdpSocket,
        index: usize,
        slot: Arc<Slot<Servers>>,
        tasks: TaskTracker,
        shutdown: CancellationToken,
    ) -> std::io::Result<Self> {
        socket.set_nonblocking(false)?;
        // What is lost in a burst costs its client seconds. With privileges the system's limit
        // does not count; without them it is what it allows.
        if set_socket_recv_buffer_size_force(&socket, BUFFER).is_err() {
            let _ = set_socket_recv_buffer_size(&socket, BUFFER);
        }
        let (address, informed) = (socket.local_addr()?, informed(&socket)?);
        let socket = Arc::new(socket);
        let stop = Arc::new(AtomicBool::new(false));
        let permits = Arc::new(Semaphore::new(SLOW));
        let slow =
            Slow { socket: socket.clone(), index, slot, address, runtime: Handle::current(), tasks, shutdown, permits };
        let stopped = stop.clone();
        let thread =
            std::thread::Builder::new().name("dns-udp".into()).spawn(move || answer(&slow, informed, &stopped))?;
        Ok(Listener { socket, stop, thread: Some(thread) })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // On a socket without a peer this is an error, but it wakes the thread that waits on it.
        let _ = shutdown(&*self.socket, Shutdown::Read);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What questions of the slow way need.
struct Slow {
    socket: Arc<UdpSocket>,
    /// The number of the socket among those of its address.
    index: usize,
    slot: Arc<Slot<Servers>>,
    /// The socket's own.
    address: SocketAddr,
    runtime: Handle,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    permits: Arc<Semaphore>,
}

fn answer(slow: &Slow, informed: bool, stop: &AtomicBool) {
    wait(&slow.socket);
    let mut batch = Batch::new(informed);
    let mut turn = 0;
    while !stop.load(Ordering::Acquire) {
        match batch.receive(&slow.socket, true) {
            Ok(count) => slow.answer(&mut batch, count, &mut turn),
            Err(error) => {
                tracing::debug!("dns udp: {error}");
                std::thread::sleep(PAUSE);
            }
        }
    }
    // What came before the end is answered; then the kernel has nothing more.
    for _ in 0..BUFFER / BATCH {
        match batch.receive(&slow.socket, false) {
            Ok(count @ 1..) => slow.answer(&mut batch, count, &mut turn),
            _ => break,
        }
    }
}

/// Waits until there is something to receive: before that a socket needs no buffers.
fn wait(socket: &UdpSocket) {
    while let Err(Errno::INTR) = poll(&mut [PollFd::new(socket, PollFlags::IN)], None) {}
}

impl Slow {
    /// Answers a batch that was received: what is ready at once, the rest by tasks.
    fn answer(&self, batch: &mut Batch, count: usize, turn: &mut usize) {
        // A reload takes effect between two batches.
        let servers = self.slot.get();
        let limits = servers.limits();
        let begin = (limits || servers.metered()).then(Instant::now);
        let mut seen = Vec::new();
        for index in 0..count {
            *turn += 1;
            if let (true, Some(now)) = (limits, begin) {
                let (packet, envelope) = batch.question(index);
                if servers.excess(packet, envelope.client().ip(), now) {
                    if turn.is_multiple_of(2) {
                        let truncated = |packet: &[u8], out: &mut [u8]| Question::parse(packet)?.truncated(out);
                        batch.answer(index, |packet, _, out| Some((truncated(packet, out)?, ())));
                    }
                    continue;
                }
            }
            let hit = batch.answer(index, |packet, envelope, out| {
                let hit = servers.ready(packet, || (envelope.client(), Transport::Udp), out, *turn)?;
                Some((hit.length, hit.seen))
            });
            match hit {
                Some(hit) => seen.extend(hit),
                None => {
                    let (packet, envelope) = batch.question(index);
                    self.take(&servers, packet, envelope);
                }
            }
        }
        batch.send(&self.socket);
        if let Some(begin) = begin {
            // Of all that were in the batch: that is how long they took.
            let took = begin.elapsed();
            seen.iter().for_each(|(meter, seen)| meter.count(Counter::Thread(self.index), seen, took));
        }
    }

    /// Lets a task answer.
    fn take(&self, servers: &Arc<Servers>, packet: &[u8], envelope: &Envelope) {
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            if packet.len() >= 12 && packet[2] & 0x80 == 0 {
                let id = u16::from_be_bytes([packet[0], packet[1]]);
                let busy = Message::error_msg(id, OpCode::Query, ResponseCode::ServFail);
                send(&self.socket, &busy.to_vec().unwrap_or_default(), envelope);
            }
            return;
        };
        let (socket, servers, packet, envelope) = (self.socket.clone(), servers.clone(), packet.to_vec(), *envelope);
        let server = SocketAddr::new(envelope.server().unwrap_or(self.address.ip()), self.address.port());
        let context =
            Context { client: envelope.client(), server, transport: Transport::Udp, servers: servers.clone() };
        let task = async move {
            if let Some(reply) = servers.resolve(&packet, context).await {
                send(&socket, &reply, &envelope);
            }
            drop(permit);
        };
        self.tasks.spawn_on(self.shutdown.clone().run_until_cancelled_owned(task), &self.runtime);
    }
}
