//! The servers that this program itself is, each in a process of its own.

use std::io::{BufRead as _, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use state::{Index, Snapshot};
use tokio::sync::watch;

use super::{cluster, hickory, raw};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs one of them until it is killed, or standard input ends.
pub(crate) fn run(name: &str, address: SocketAddr, upstream: SocketAddr, services: usize) -> anyhow::Result<()> {
    let socket = || UdpSocket::bind(address).with_context(|| format!("bind {address}"));
    match name {
        "raw" => raw::serve(&socket()?),
        "hickory" => hickory::serve(socket()?, services),
        "coracle" => Coracle::start(address, upstream, services)?.obey(),
        _ => bail!("{name} is no server"),
    }
}

/// Coracle's DNS, and the cluster that it is told of.
struct Coracle {
    address: SocketAddr,
    index: Index,
    snapshots: watch::Sender<Arc<Snapshot>>,
    generation: usize,
    services: usize,
    _server: dns::Server,
    _runtime: tokio::runtime::Runtime,
}

/// The only place that knows how a server is made: with the Corefile that clusters have.
async fn bind(
    address: SocketAddr,
    upstream: SocketAddr,
    snapshots: watch::Receiver<Arc<Snapshot>>,
) -> anyhow::Result<dns::Server> {
    let corefile = dns::standard(cluster::DOMAIN).replace("/etc/resolv.conf", &upstream.to_string());
    let dns::Sockets { udp, tcp } = dns::Sockets::host();
    let ours = move |asked: SocketAddr| if asked.port() == address.port() { address } else { asked };
    let sockets =
        dns::Sockets { udp: Arc::new(move |asked| udp(ours(asked))), tcp: Arc::new(move |asked| tcp(ours(asked))) };
    let config = dns::Config { corefile, address: None, port: address.port() };
    Ok(dns::Server::bind(config, sockets, Arc::new(move |_| snapshots.clone())).await?)
}

impl Coracle {
    /// Starts it and says on standard output how many bytes it has allocated beyond the Snapshot, and after how many
    /// seconds it answered.
    fn start(address: SocketAddr, upstream: SocketAddr, services: usize) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let index = cluster::index(services)?;
        let (snapshots, receiver) = watch::channel(index.snapshot());
        let (before, began) = (allocated(), Instant::now());
        let server = runtime.block_on(bind(address, upstream, receiver))?;
        let this = Self { address, index, snapshots, generation: 0, services, _server: server, _runtime: runtime };
        this.await_answer(services - 1)?;
        println!("{} {}", allocated().saturating_sub(before), began.elapsed().as_secs_f64());
        Ok(this)
    }

    /// Does what is said on standard input: `change N` makes N changes one after the other, and prints how many seconds
    /// each took to be answered; `updates RATE SECONDS` makes changes at a rate, and prints how many it made.
    fn obey(mut self) -> anyhow::Result<()> {
        for line in std::io::stdin().lock().lines() {
            match line?.split(' ').collect::<Vec<_>>()[..] {
                ["change", count] => {
                    for _ in 0..count.parse()? {
                        let began = Instant::now();
                        let index = self.change()?;
                        self.await_answer(index)?;
                        print!("{} ", began.elapsed().as_secs_f64());
                    }
                    println!();
                }
                ["updates", rate, seconds] => println!("{}", self.updates(rate.parse()?, seconds.parse()?)?),
                ref other => bail!("unknown command {other:?}"),
            }
            std::io::stdout().flush()?;
        }
        Ok(())
    }

    /// Gives the next Service another address, and says so to the server.
    fn change(&mut self) -> anyhow::Result<usize> {
        self.generation += 1;
        let index = self.generation * 7919 % self.services;
        self.index.apply(cluster::service(index, self.generation)?);
        self.snapshots.send_replace(self.index.snapshot());
        Ok(index)
    }

    fn updates(&mut self, rate: f64, seconds: f64) -> anyhow::Result<usize> {
        let began = Instant::now();
        let mut made = 0;
        while began.elapsed().as_secs_f64() < seconds {
            if made as f64 <= began.elapsed().as_secs_f64() * rate {
                self.change()?;
                made += 1;
            } else {
                std::thread::sleep(Duration::from_micros(100));
            }
        }
        Ok(made)
    }

    /// Asks until the answer has the newest address of a Service.
    fn await_answer(&self, index: usize) -> anyhow::Result<()> {
        let socket = UdpSocket::bind((self.address.ip(), 0))?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let (question, address) = (super::question(&cluster::name(index)), cluster::address(index, self.generation));
        let (began, mut answer) = (Instant::now(), [0; 512]);
        while began.elapsed() < PATIENCE {
            socket.send_to(&question, self.address)?;
            if socket.recv(&mut answer).is_ok_and(|length| answer[..length].ends_with(&address.octets())) {
                return Ok(());
            }
        }
        bail!("no answer with the address of Service {index} within {PATIENCE:?}")
    }
}

/// Bytes that are allocated, with malloc's own headers.
fn allocated() -> usize {
    // SAFETY: it has no arguments and only reads the allocator's own counts.
    let info = unsafe { libc::mallinfo2() };
    info.uordblks + info.hblkhd
}
