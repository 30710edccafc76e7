//! How long it takes until the kernel has what a watch has heard.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};
use state::{Index, Snapshot};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::cluster::{self, ENDPOINTS};
use super::{iptables, ours, topology::Topology};
use crate::meter::{median, megabytes, ran};
use crate::process::find;

/// How often all is loaded; the median is printed.
const LOADS: usize = 5;
/// Changes one after the other, and in one burst.
const CHANGES: usize = 200;
const BURST: usize = 1000;
/// How long the kernel may take for one change; and when none came for so long, there is none.
const PATIENCE: Duration = Duration::from_secs(10);
const QUIET: Duration = Duration::from_millis(300);

/// Measures so many Services in the current network namespace.
pub(crate) fn inside(services: usize) -> anyhow::Result<()> {
    let index = cluster::index(services)?;
    let own = std::process::id();
    let before = megabytes(own, "VmRSS")?;
    let (mut took, mut used) = (Vec::new(), Vec::new());
    for _ in 0..LOADS {
        let mut plane = ours::kernel()?;
        let (began, before) = (Instant::now(), ran(Path::new("/proc"), own)?);
        plane.apply(index.snapshot())?;
        took.push(began.elapsed().as_secs_f64() * 1e3);
        used.push((ran(Path::new("/proc"), own)? - before) * 1e3);
        plane.remove()?;
    }
    println!("coracle, {services} Services with {ENDPOINTS} endpoints each");
    let (took, used) = (median(took.into_iter()), median(used.into_iter()));
    println!("{:50} {took:9.2} ms, {used:.2} of them on a CPU", "  from the first Snapshot to the kernel");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let (snapshots, receiver) = watch::channel(Arc::<Snapshot>::default());
    let shutdown = CancellationToken::new();
    let plane = runtime.spawn(ours::kernel()?.run(receiver, shutdown.clone()));
    let mut source = Source { index, services, snapshots, made: 0 };
    let listener = Listener::open()?;
    source.send()?;
    listener.quiet()?;
    let (after, most) = (megabytes(own, "VmRSS")?, megabytes(own, "VmHWM")?);
    println!("{:50} {before:9.1} MB, then {after:.1}, at most {most:.1}", "  memory with the Snapshot alone");

    let mut took = Vec::new();
    for _ in 0..CHANGES {
        let began = Instant::now();
        source.change()?;
        listener.next(PATIENCE)?.context("a change did not come into the kernel")?;
        took.push(began.elapsed().as_secs_f64() * 1e3);
    }
    took.sort_by(f64::total_cmp);
    let [half, most] = [0.5, 0.99].map(|part| took[(CHANGES as f64 * part) as usize]);
    println!("{:50} {half:9.2} ms, p99 {most:.2}", "  an endpoint joins or leaves: event to kernel");
    let began = Instant::now();
    for _ in 0..BURST {
        source.change()?;
    }
    let sent = began.elapsed().as_secs_f64() * 1e3;
    let (count, last) = listener.quiet()?;
    let whole = last.duration_since(began).as_secs_f64() * 1e3;
    println!(
        "{:50} {whole:9.2} ms in {count} transactions; heard in {sent:.2} ms",
        format!("  a burst of {BURST} of these")
    );
    shutdown.cancel();
    runtime.block_on(plane)??;
    Ok(())
}

/// What a watch hears.
struct Source {
    index: Index,
    services: usize,
    snapshots: watch::Sender<Arc<Snapshot>>,
    made: usize,
}

impl Source {
    /// An endpoint joins some Service; when all have one more, they leave again.
    fn change(&mut self) -> anyhow::Result<()> {
        let (number, again) = (self.made % self.services, self.made / self.services);
        // A step that has no divisor in common with the number goes once over all of them.
        let at = number * 7919 % self.services;
        self.made += 1;
        self.index.apply(cluster::slice(at, self.services, ENDPOINTS + 1 - again % 2)?);
        self.send()
    }

    fn send(&self) -> anyhow::Result<()> {
        self.snapshots.send_replace(self.index.snapshot());
        Ok(())
    }
}

/// Hears of transactions of nf_tables in this network namespace.
struct Listener(rustix::fd::OwnedFd);

impl Listener {
    /// NFNLGRP_NFTABLES, as a bit.
    const GROUP: u32 = 1 << 6;
    /// NFT_MSG_NEWGEN of NFNL_SUBSYS_NFTABLES: the last message of a transaction.
    const GENERATION: [u8; 2] = (10u16 << 8 | 15).to_ne_bytes();

    fn open() -> anyhow::Result<Self> {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(netlink::NETFILTER),
        )?;
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, Self::GROUP))?;
        Ok(Self(socket))
    }

    /// When the next transaction ended; None when there is none in that time.
    fn next(&self, time: Duration) -> anyhow::Result<Option<Instant>> {
        let mut buffer = vec![0; 64 << 10];
        let began = Instant::now();
        while let Some(left) = time.checked_sub(began.elapsed()) {
            rustix::net::sockopt::set_socket_timeout(
                &self.0,
                rustix::net::sockopt::Timeout::Recv,
                Some(left.max(Duration::from_millis(1))),
            )?;
            let length = match rustix::net::recv(&self.0, &mut buffer[..], RecvFlags::empty()) {
                Ok((length, _)) => length,
                Err(rustix::io::Errno::AGAIN) => return Ok(None),
                // There were too many messages: those of the elements do not matter.
                Err(rustix::io::Errno::NOBUFS) => continue,
                Err(error) => return Err(error.into()),
            };
            let mut rest = &buffer[..length];
            while let Some((size, message)) = rest.split_first_chunk::<4>() {
                if message.starts_with(&Self::GENERATION) {
                    return Ok(Some(Instant::now()));
                }
                let whole = (u32::from_ne_bytes(*size) as usize).next_multiple_of(4);
                rest = rest.get(whole.max(4)..).unwrap_or_default();
            }
        }
        Ok(None)
    }

    /// Waits until there are no more, and returns how many there were, and when the last one ended.
    fn quiet(&self) -> anyhow::Result<(usize, Instant)> {
        let mut last = self.next(PATIENCE)?.context("nothing came into the kernel")?;
        let mut count = 1;
        while let Some(ended) = self.next(QUIET)? {
            (count, last) = (count + 1, ended);
        }
        Ok((count, last))
    }
}

/// Measures the program that kube-proxy calls, in a topology of its own. (kube-proxy's first call has `--noflush`, too, with
/// which iptables on nf_tables takes more than a minute for this.)
pub(crate) fn iptables(topology: &Topology, program: &str, services: usize, dir: &Path) -> anyhow::Result<()> {
    let program = find(program)?;
    let restore = |text: String, arguments: &[&str]| {
        let path = dir.join("rules");
        std::fs::write(&path, text)?;
        let mut command: Command = topology.command("node");
        let began = Instant::now();
        let status = command.arg(&program).args(arguments).stdin(File::open(&path)?).status()?;
        if !status.success() {
            bail!("{command:?}: {status}");
        }
        anyhow::Ok(began.elapsed().as_secs_f64() * 1e3)
    };
    println!("{}, {services} Services", program.display());
    println!("{:50} {:9.2} ms", "  all rules", restore(iptables::whole(services), &[])?);
    let some =
        (0..3).map(|at| restore(iptables::joins(at, services), &["--noflush"])).collect::<anyhow::Result<Vec<_>>>()?;
    println!("{:50} {:9.2} ms", "  an endpoint joins", median(some.into_iter()));
    Ok(())
}
