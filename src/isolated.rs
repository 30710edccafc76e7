//! The node in namespaces of its own: `coracle up --isolated` and `coracle demo`.
//!
//! The main process stays outside. It starts a child that steps into fresh user, network, mount,
//! pid, ipc and uts namespaces, in three stages of the same binary:
//!
//! 1. [`enter`] unshares the user namespace, has the main process map its ids, unshares the rest;
//! 2. [`init`], pid 1 inside, mounts /proc and reaps what is orphaned;
//! 3. [`node()`] is the node: agent, shims and kernel data plane.
//!
//! Main and node talk over two sockets, the node's standard input and output: on the first the
//! main process asks and gets sockets made inside ([`Inside`]); on the second the node asks for
//! images to be pulled (`pull`). When either process dies, the other one's socket ends and
//! everything inside dies with pid 1.

mod fds;
mod ids;
mod pull;
mod stages;

use std::{
    io,
    net::{SocketAddr, SocketAddrV4, TcpListener, UdpSocket},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use serde::{Deserialize, Serialize};
use tokio::{
    io::unix::AsyncFd,
    net::TcpStream,
    process::{Child, Command},
    sync::Mutex,
};

pub(crate) use self::{
    pull::{puller, serve as serve_pulls},
    stages::{enter, init, node},
};
use crate::config::NodeConfig;

/// How long the node may take to stop its pods before it is killed.
const STOP: Duration = Duration::from_secs(15);

/// What the main process asks of the node.
#[derive(Clone, Debug, Deserialize, Serialize)]
enum Ask {
    /// A TCP listener.
    Listen(SocketAddrV4),
    /// A UDP socket that shares its port with others.
    Bind(SocketAddrV4),
    /// A socket to connect from.
    Socket(Transport),
    /// The API server is there: run the agent.
    Start,
    /// Stop all pods and exit.
    Stop,
}

/// A protocol that a relayed connection can have.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
enum Transport {
    Tcp,
    Udp,
}

/// What comes back, a socket beside it where one was asked for.
type Answer = Result<(), String>;

/// The main process's hold on the isolated node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Inside {
    asks: Arc<Mutex<AsyncFd<OwnedFd>>>,
}

/// The child process; killed when dropped.
#[derive(Debug)]
pub(crate) struct Namespaces {
    child: Child,
    /// Only one user id is mapped: pods run as it, whatever their image says.
    pub single_uid: bool,
}

/// Starts the child, as `binary`, and waits until its network is there.
///
/// The child is told to die when the thread that made it does.
///
/// # Errors
/// Where the system forbids user namespaces, with what to do about it; and what the node says.
pub(crate) async fn start(config: &NodeConfig, binary: &Path) -> anyhow::Result<(Namespaces, Inside, UnixStream)> {
    ids::allowed()?;
    let flags = SocketFlags::CLOEXEC;
    let (asks, asks_inside) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let (pulls, pulls_inside) = UnixStream::pair()?;
    let child = Command::new(binary)
        .arg("isolated-enter")
        .arg(serde_json::to_string(config)?)
        .stdin(Stdio::from(asks_inside))
        .stdout(Stdio::from(OwnedFd::from(pulls_inside)))
        .kill_on_drop(true)
        .spawn()
        .context("start the isolated node")?;
    let pid = child.id().context("start the isolated node")?;
    let mut namespaces = Namespaces { child, single_uid: false };
    rustix::io::ioctl_fionbio(&asks, true)?;
    // SAFETY: an `OwnedFd` stays the same open descriptor for as long as it is owned.
    let asks = unsafe { AsyncFd::register(asks) }.map_err(io::Error::from)?;
    fds::receive::<Answer>(&asks).await.context("wait for the user namespace")?.0.map_err(forbidden)?;
    namespaces.single_uid = ids::map(pid)?;
    fds::send(&asks, &namespaces.single_uid, None).await?;
    if let Err(reason) = fds::receive::<Answer>(&asks).await.context("wait for the isolated node")?.0 {
        bail!("{reason}");
    }
    Ok((namespaces, Inside { asks: Arc::new(Mutex::new(asks)) }, pulls))
}

fn forbidden(reason: String) -> anyhow::Error {
    anyhow::anyhow!("make a user namespace: {reason}\n{}", ids::ADVICE)
}

impl Namespaces {
    /// A process in them, as long as they are there.
    pub(crate) fn process(&self) -> Option<u32> {
        self.child.id()
    }

    /// Stops the node's pods, waits for the child, and kills what does not stop.
    pub(crate) async fn stop(mut self, inside: &Inside) {
        // An error says that it is gone.
        let _ = inside.ask(Ask::Stop).await;
        if tokio::time::timeout(STOP, self.child.wait()).await.is_err() {
            tracing::warn!("the isolated node did not stop within {STOP:?} and is killed");
        }
    }

    /// Waits for the child to end by itself.
    pub(crate) async fn ended(&mut self) {
        // An error says that it was waited for already.
        let _ = self.child.wait().await;
    }
}

impl Inside {
    async fn ask(&self, ask: Ask) -> io::Result<Option<OwnedFd>> {
        let asks = self.asks.lock().await;
        fds::send(&asks, &ask, None).await?;
        let (answer, fd) = fds::receive::<Answer>(&asks).await?;
        answer.map_err(io::Error::other)?;
        Ok(fd)
    }

    async fn fd(&self, ask: Ask) -> io::Result<OwnedFd> {
        self.ask(ask).await?.ok_or_else(|| io::Error::other("the isolated node sent no socket"))
    }

    /// A listener inside.
    ///
    /// # Errors
    /// What `bind` says inside.
    pub async fn listen(&self, address: SocketAddrV4) -> io::Result<TcpListener> {
        self.fd(Ask::Listen(address)).await.map(TcpListener::from)
    }

    /// A UDP socket inside, its port shared (`SO_REUSEPORT`).
    ///
    /// # Errors
    /// What `bind` says inside.
    pub async fn bind(&self, address: SocketAddrV4) -> io::Result<UdpSocket> {
        self.fd(Ask::Bind(address)).await.map(UdpSocket::from)
    }

    /// A connection that starts inside.
    ///
    /// # Errors
    /// What `connect` says inside.
    pub async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let fd = self.fd(Ask::Socket(Transport::Tcp)).await?;
        let stream = std::net::TcpStream::from(fd);
        stream.set_nonblocking(true)?;
        tokio::net::TcpSocket::from_std_stream(stream).connect(address).await
    }

    /// An unbound UDP socket inside.
    ///
    /// # Errors
    /// What the kernel says inside.
    pub async fn udp(&self) -> io::Result<UdpSocket> {
        self.fd(Ask::Socket(Transport::Udp)).await.map(UdpSocket::from)
    }

    /// Lets the agent run: the API server answers on its socket.
    ///
    /// # Errors
    /// When the node is gone.
    pub async fn start(&self) -> io::Result<()> {
        self.ask(Ask::Start).await.map(drop)
    }
}
