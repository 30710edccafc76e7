//! The clients: one thread with as few system calls as can be, the same for all paths.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::ValueEnum;

use super::server::{FLOOD, LARGE, LARGE_SIZE, PIECE, SMALL, SMALL_SIZE};
use crate::meter::Histogram;

/// Connections and UDP flows at a time.
const CLIENTS: usize = 64;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Time between two questions, where time is what is measured.
const MODERATE: Duration = Duration::from_micros(500);

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Load {
    /// One byte, and 64 bytes as its answer, over connections that stay
    Small,
    /// The same with an answer of 1 KiB
    Large,
    /// A connection for each question
    New,
    /// One stream
    Bulk,
    /// A datagram, and one of 64 bytes as its answer
    Udp,
}

impl Load {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Small => "requests on kept connections, 64 B",
            Self::Large => "requests on kept connections, 1 KiB",
            Self::New => "new connections",
            Self::Bulk => "bulk, MB",
            Self::Udp => "UDP round trips",
        }
    }

    /// As much as can be had in that time, in rounds over all addresses. Begins the count with a function that gets what
    /// is kept ready, so that this is not measured; returns how much it was.
    pub(crate) fn run(self, to: &[SocketAddr], time: Duration, begin: impl FnOnce()) -> anyhow::Result<f64> {
        match self {
            Self::Small => requests(to, time, SMALL, SMALL_SIZE, begin),
            Self::Large => requests(to, time, LARGE, LARGE_SIZE, begin),
            Self::New => connections(to, time, begin),
            Self::Bulk => bytes(to, time, begin),
            Self::Udp => datagrams(to, time, begin),
        }
    }
}

fn requests(to: &[SocketAddr], time: Duration, request: u8, size: usize, begin: impl FnOnce()) -> anyhow::Result<f64> {
    let mut streams = to.iter().cycle().take(CLIENTS).map(connect).collect::<anyhow::Result<Vec<_>>>()?;
    let mut buffer = vec![0; size];
    // The first one of each is slower.
    let mut all = || ask(&mut streams, request, &mut buffer);
    all()?;
    begin();
    count(time, || all().map(|()| CLIENTS as f64))
}

fn connections(to: &[SocketAddr], time: Duration, begin: impl FnOnce()) -> anyhow::Result<f64> {
    let mut buffer = [0; SMALL_SIZE];
    begin();
    count(time, || {
        let mut streams = to.iter().cycle().take(CLIENTS).map(connect).collect::<anyhow::Result<Vec<_>>>()?;
        ask(&mut streams, SMALL, &mut buffer)?;
        Ok(CLIENTS as f64)
    })
}

fn bytes(to: &[SocketAddr], time: Duration, begin: impl FnOnce()) -> anyhow::Result<f64> {
    let mut stream = connect(to.first().context("no address")?)?;
    let mut buffer = vec![0; PIECE];
    stream.write_all(&[FLOOD])?;
    // The window has to open first.
    for _ in 0..256 {
        stream.read_exact(&mut buffer)?;
    }
    begin();
    count(time, || Ok(stream.read(&mut buffer)? as f64 / 1e6))
}

fn datagrams(to: &[SocketAddr], time: Duration, begin: impl FnOnce()) -> anyhow::Result<f64> {
    let socket = |to: &SocketAddr| {
        let socket = UdpSocket::bind(("0.0.0.0", 0))?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket)
    };
    let sockets = to.iter().cycle().take(CLIENTS).map(socket).collect::<anyhow::Result<Vec<_>>>()?;
    let mut buffer = [0; SMALL_SIZE];
    let mut all = || {
        sockets.iter().try_for_each(|socket| socket.send(&[SMALL]).map(drop))?;
        sockets.iter().try_for_each(|socket| socket.recv(&mut buffer).map(drop)).context("no answer over UDP")?;
        Ok(CLIENTS as f64)
    };
    all()?;
    begin();
    count(time, all)
}

/// How long an answer takes when there is little to do: over a connection that stays, and over new ones.
pub(crate) fn times(to: &[SocketAddr], time: Duration, new: bool) -> anyhow::Result<Histogram> {
    let mut kept = [connect(to.first().context("no address")?)?];
    let mut histogram = Histogram::new();
    let mut buffer = [0; SMALL_SIZE];
    let began = Instant::now();
    let mut to = to.iter().cycle();
    while began.elapsed() < time {
        std::thread::sleep(MODERATE);
        let asked = Instant::now();
        if new {
            kept = [connect(to.next().context("no address")?)?];
        }
        ask(&mut kept, SMALL, &mut buffer)?;
        histogram.add(asked.elapsed());
    }
    Ok(histogram)
}

fn connect(to: &SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(to, PATIENCE).with_context(|| format!("connect to {to}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// One request on each of the connections.
fn ask(streams: &mut [TcpStream], request: u8, buffer: &mut [u8]) -> anyhow::Result<()> {
    streams.iter_mut().try_for_each(|stream| stream.write_all(&[request]))?;
    streams.iter_mut().try_for_each(|stream| stream.read_exact(buffer)).context("no answer over TCP")
}

fn count(time: Duration, mut some: impl FnMut() -> anyhow::Result<f64>) -> anyhow::Result<f64> {
    let (began, mut done) = (Instant::now(), 0.0);
    while began.elapsed() < time {
        done += some()?;
    }
    Ok(done)
}
