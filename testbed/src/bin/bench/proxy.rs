//! The ways to a Service beside the direct way to its pods.
//!
//! Each way has network namespaces of its own, of the same shape: a client, a node that forwards, three pods, a machine
//! outside. They are measured in turns, in several rounds; the medians are printed. Everything that has to do with packets
//! runs on one CPU; what is counted is the time on it of client, server, relay and the kernel's thread for packets, so that
//! other programs on this machine disturb little.

mod changes;
mod client;
mod cluster;
mod iptables;
mod ours;
mod peer;
mod server;
mod topology;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::ValueEnum as _;

use self::client::Load;
use self::peer::{From, Kind, Peer};
use crate::meter::{median, ran};

pub(crate) use self::changes::inside as changes;
pub(crate) use self::ours::relay;

/// Services where there are many.
const MANY: usize = 10_000;
/// The procfs of the machine, where the kernel's threads are: `outside` hands it in.
const MACHINE: &str = "/proc/self/fd/0";

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// What is measured; all by default
    #[arg(long, value_parser = ["changes", "kernel", "places", "user"])]
    only: Option<String>,
    /// The loads that are measured; all by default
    #[arg(long, value_delimiter = ',')]
    loads: Vec<Load>,
    /// Ways whose names begin so, beside the direct one; all by default
    #[arg(long, value_delimiter = ',')]
    ways: Vec<String>,
    /// How long each load lasts
    #[arg(long, default_value_t = 0.3)]
    seconds: f64,
    /// How often each way is taken; the medians are printed
    #[arg(long, default_value_t = 7)]
    rounds: usize,
}

impl Options {
    fn wants(&self, part: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only == part)
    }

    fn has(&self, kind: Kind) -> bool {
        self.ways.is_empty() || kind == Kind::Direct || self.ways.iter().any(|way| kind.name().starts_with(way))
    }

    /// Starts what is there, and says what is not.
    fn start(&self, kinds: &[Kind], dir: &Path) -> anyhow::Result<Vec<Peer>> {
        let mut peers = Vec::new();
        for kind in kinds.iter().filter(|kind| self.has(**kind)) {
            match Peer::start(*kind, dir) {
                Ok(peer) => peers.push(peer),
                Err(error) if *kind == Kind::Direct => return Err(error),
                Err(error) => println!("without {}: {error:#}", kind.name()),
            }
        }
        Ok(peers)
    }
}

/// Enters namespaces and measures there.
pub(crate) fn outside() -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("bench proxy needs root: run it with sudo");
    }
    let mut command = testbed::unshare();
    command.arg(std::env::current_exe()?).arg("proxy-inside").args(std::env::args_os().skip(2));
    let status = command.stdin(File::open("/proc")?).status()?;
    if !status.success() {
        bail!("bench proxy: {status}");
    }
    Ok(())
}

/// Answers in all pods of a topology.
pub(crate) fn server(topology: &str) -> anyhow::Result<()> {
    server::run(&topology::Topology::of(topology))
}

/// Measures in the current namespaces.
pub(crate) fn inside(options: &Options) -> anyhow::Result<()> {
    testbed::text(std::process::Command::new("mount").args(["-t", "tmpfs", "tmpfs", "/run"]).env_clear());
    let dir = tempfile::tempdir()?;
    if options.wants("changes") {
        all_changes(dir.path())?;
    }
    if options.only.as_deref() == Some("changes") {
        return Ok(());
    }
    let bench = Bench { options, ksoftirqd: pin()? };
    println!(
        "medians of {} rounds; ratio: to the direct path, in the same round; tracked: to one by a router that tracks connections",
        options.rounds
    );
    let many = |program| [Kind::Iptables(program, 1), Kind::Iptables(program, MANY)];
    if options.wants("kernel") || options.wants("places") {
        let mut kinds = vec![Kind::Direct, Kind::Tracked, Kind::Kernel(1), Kind::Kernel(MANY)];
        kinds.extend(["iptables-restore", "iptables-legacy-restore"].into_iter().flat_map(many));
        let mut peers = options.start(&kinds, dir.path())?;
        if options.wants("kernel") {
            peers.extend(options.start(&[Kind::Sockets(1), Kind::Sockets(MANY)], dir.path())?);
            bench.cases("pod to cluster IP", &peers, From::Pod, Load::value_variants())?;
            peers.retain(|peer| !matches!(peer.kind, Kind::Sockets(_)));
        }
        if options.wants("places") {
            bench.cases("node to cluster IP", &peers, From::Node, &[Load::Small, Load::New])?;
            bench.cases("outside to NodePort", &peers, From::Outside, &[Load::Small, Load::New])?;
        }
    }
    if options.wants("user") {
        let peers = options.start(&[Kind::Direct, Kind::User, Kind::Nginx, Kind::Haproxy], dir.path())?;
        bench.cases("outside to NodePort by user space", &peers, From::Outside, Load::value_variants())?;
    }
    Ok(())
}

fn all_changes(dir: &Path) -> anyhow::Result<()> {
    for services in [1, MANY, 50_000] {
        let topology = topology::Topology::build(&format!("changes{services}"))?;
        let mut command = topology.command("node");
        let status = command.arg(std::env::current_exe()?).arg("proxy-changes").arg(services.to_string()).status()?;
        if !status.success() {
            bail!("{command:?}: {status}");
        }
    }
    for program in ["iptables-restore", "iptables-legacy-restore"] {
        let topology = topology::Topology::build(program)?;
        if let Err(error) = changes::iptables(&topology, program, MANY, dir) {
            println!("without {program}: {error:#}");
        }
    }
    Ok(())
}

/// Stays on the last CPU from now on, with all programs that are started; returns the kernel's thread for packets there.
fn pin() -> anyhow::Result<u32> {
    let name = format!("ksoftirqd/{}\n", crate::meter::pin()?);
    let mut entries = fs::read_dir(MACHINE)?.flatten().map(|entry| entry.path());
    let named = |path: &PathBuf| fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm == name);
    let path = entries.find(named).with_context(|| format!("no thread {name}"))?;
    Ok(path.file_name().and_then(|pid| pid.to_str()).context("no process")?.parse()?)
}

/// What one load saw.
#[derive(Clone, Copy)]
struct Figure {
    /// How much for each second on the CPU.
    per_cpu: f64,
    /// How much in each second of the relay on the CPU.
    per_relay: f64,
    /// How much each second.
    rate: f64,
}

struct Bench<'a> {
    options: &'a Options,
    ksoftirqd: u32,
}

impl Bench<'_> {
    fn cases(&self, what: &str, peers: &[Peer], from: From, loads: &[Load]) -> anyhow::Result<()> {
        for load in loads.iter().filter(|load| self.options.loads.is_empty() || self.options.loads.contains(load)) {
            println!("\n{what}: {}", load.title());
            self.case(peers, from, *load)?;
        }
        if self.options.loads.is_empty() {
            println!("\n{what}: time of an answer");
            self.times(peers, from)?;
        }
        Ok(())
    }

    fn case(&self, peers: &[Peer], from: From, load: Load) -> anyhow::Result<()> {
        // haproxy of Debian 12 has no UDP.
        let peers: Vec<_> = peers.iter().filter(|peer| load != Load::Udp || peer.kind != Kind::Haproxy).collect();
        let mut figures: Vec<Vec<Figure>> = vec![Vec::new(); peers.len()];
        for round in 0..self.options.rounds {
            for at in (0..peers.len()).map(|at| (at + round) % peers.len()) {
                let figure = self.measure(peers[at], from, load);
                figures[at].push(figure.with_context(|| format!("{}, {}", peers[at].name, load.title()))?);
            }
        }
        println!(
            "{:28} {:>9} {:>6} {:>7} {:>9} {:>13}",
            "", "per CPU s", "ratio", "tracked", "each s", "per relay's s"
        );
        let tracked = peers.iter().position(|peer| peer.kind == Kind::Tracked);
        for (peer, own) in peers.iter().zip(&figures) {
            let of = |part: fn(&Figure) -> f64| median(own.iter().map(part));
            let ratio = |to: &[Figure]| median(own.iter().zip(to).map(|(own, to)| own.per_cpu / to.per_cpu));
            let tracked = tracked.map(|at| format!("{:.3}", ratio(&figures[at]))).unwrap_or_default();
            let ratio = ratio(&figures[0]);
            let (per_cpu, rate) = (of(|one| one.per_cpu), of(|one| one.rate));
            let relay = peer.relay.as_ref().map(|_| format!("{:13.0}", of(|one| one.per_relay))).unwrap_or_default();
            println!("{:28} {per_cpu:9.0} {ratio:6.3} {tracked:>7} {rate:9.0} {relay}", peer.name);
        }
        Ok(())
    }

    fn measure(&self, peer: &Peer, from: From, load: Load) -> anyhow::Result<Figure> {
        let (own, machine) = (Path::new("/proc"), Path::new(MACHINE));
        let relay = || peer.relay.as_ref().map_or(Ok(0.0), |relay| ran(own, relay.pid()));
        let all = || {
            let relay = relay()?;
            let both = ran(own, std::process::id())? + ran(own, peer.server.pid())?;
            anyhow::Ok((both + relay + ran(machine, self.ksoftirqd)?, relay, std::time::Instant::now()))
        };
        let mut before = None;
        let time = Duration::from_secs_f64(self.options.seconds);
        let run = || load.run(&peer.addresses(from), time, || before = Some(all()));
        let done = peer.within(from, run)?;
        let (before, after) = (before.context("not begun")??, all()?);
        Ok(Figure {
            per_cpu: done / (after.0 - before.0),
            per_relay: done / (after.1 - before.1),
            rate: done / after.2.duration_since(before.2).as_secs_f64(),
        })
    }

    /// How long answers take, on a kept connection and on new ones.
    fn times(&self, peers: &[Peer], from: From) -> anyhow::Result<()> {
        let time = Duration::from_secs_f64(self.options.seconds);
        let mut figures: Vec<Vec<[f64; 4]>> = vec![Vec::new(); peers.len()];
        for _ in 0..self.options.rounds {
            for (peer, figures) in peers.iter().zip(&mut figures) {
                let mut figure = [0.0; 4];
                for (new, part) in [false, true].into_iter().zip(figure.chunks_mut(2)) {
                    let ask = || client::times(&peer.addresses(from), time, new);
                    let took = peer.within(from, ask).with_context(|| peer.name.clone())?;
                    part.copy_from_slice(&[took.quantile(0.5) * 1e3, took.quantile(0.99) * 1e3]);
                }
                figures.push(figure);
            }
        }
        println!("{:28} {:>8} {:>8} {:>8} {:>8}", "µs", "kept p50", "p99", "new p50", "p99");
        for (peer, figures) in peers.iter().zip(&figures) {
            let [kept, kept_most, new, new_most] = [0, 1, 2, 3].map(|at| median(figures.iter().map(|one| one[at])));
            println!("{:28} {kept:8.1} {kept_most:8.1} {new:8.1} {new_most:8.1}", peer.name);
        }
        Ok(())
    }
}
