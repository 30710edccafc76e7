//! Coracle's Ingress beside nginx and haproxy as reverse proxies.
//!
//! All of it is in one network namespace, on its loopback: a client, the proxies, and the backends that they share. They
//! are measured in turns, in several rounds; the medians are printed. All runs on one CPU, so that a proxy is asked as
//! much as it can answer; what is counted is the time that the proxy's own process is on it, with the kernel's part for
//! what it sends.

mod backend;
mod case;
mod certificates;
mod http2;
mod load;
mod ours;
mod peer;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustls::RootCertStore;

use self::case::{CASES, Case, Layer, MANY};
use self::load::Load;
pub(crate) use self::ours::relay;
use self::peer::{Kind, Peer};
use crate::meter::{median, ran};

/// Requests over HTTP/2 for each second that a load lasts.
const HTTP2_RATE: f64 = 20_000.0;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The cases that are measured; all by default
    #[arg(long, value_delimiter = ',', value_parser = CASES.map(|case| case.name))]
    only: Vec<String>,
    /// Proxies whose names begin so; all by default
    #[arg(long, value_delimiter = ',')]
    proxies: Vec<String>,
    /// How long each load lasts
    #[arg(long, default_value_t = 0.5)]
    seconds: f64,
    /// How often each proxy is measured; the medians are printed
    #[arg(long, default_value_t = 7)]
    rounds: usize,
}

/// Enters namespaces and measures there.
pub(crate) fn outside() -> anyhow::Result<()> {
    let mut command = testbed::unshare();
    command.arg(std::env::current_exe()?).arg("ingress-inside").args(std::env::args_os().skip(2));
    let status = command.status()?;
    if !status.success() {
        bail!("bench ingress: {status}");
    }
    Ok(())
}

/// Measures in the current namespaces.
pub(crate) fn inside(options: &Options) -> anyhow::Result<()> {
    testbed::text(std::process::Command::new(testbed::need("ip")).args(["link", "set", "lo", "up"]));
    for (key, value) in [("ip_local_port_range", "1024 65535"), ("tcp_tw_reuse", "1")] {
        std::fs::write(format!("/proc/sys/net/ipv4/{key}"), value).context(key)?;
    }
    let dir = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    crate::meter::pin()?;
    backend::start(CASES.iter().map(|case| case.answer))?;
    let roots = certificates::write(MANY, dir.path())?;
    let bench = Bench { options, roots, runtime };
    println!(
        "medians of {} rounds; per CPU s: for each second of the proxy on a CPU; ratio: the first one's to this one's, in the same round",
        options.rounds
    );
    for hosts in [1, MANY] {
        let wanted = |case: &&Case| options.only.is_empty() || options.only.iter().any(|only| only == case.name);
        let cases: Vec<_> = CASES.iter().filter(|case| case.hosts == hosts).filter(wanted).collect();
        if !cases.is_empty() {
            let peers = options.start(hosts, dir.path())?;
            cases.into_iter().try_for_each(|case| bench.case(*case, &peers))?;
        }
    }
    Ok(())
}

impl Options {
    /// Starts what is there, and says what is not.
    fn start(&self, hosts: usize, dir: &Path) -> anyhow::Result<Vec<Peer>> {
        let named =
            |kind: &Kind| self.proxies.is_empty() || self.proxies.iter().any(|name| kind.name().starts_with(name));
        let mut peers = Vec::new();
        for kind in Kind::ALL.into_iter().filter(named) {
            match Peer::start(kind, hosts, dir) {
                Ok(peer) => peers.push(peer),
                Err(error) => println!("without {}: {error:#}", kind.name()),
            }
        }
        if peers.is_empty() {
            bail!("no proxy is left");
        }
        Ok(peers)
    }
}

/// What one round saw of one proxy.
#[derive(Clone, Copy)]
struct Figure {
    /// How much for each second of the proxy on a CPU, and each second.
    per_cpu: f64,
    rate: f64,
    /// Quantiles of an answer's time when there is little to do, in µs.
    half: f64,
    most: f64,
}

struct Bench<'a> {
    options: &'a Options,
    roots: RootCertStore,
    runtime: tokio::runtime::Runtime,
}

impl Bench<'_> {
    fn case(&self, case: Case, peers: &[Peer]) -> anyhow::Result<()> {
        println!("\n{} ({})", case.title, case.name);
        let mut figures: Vec<Vec<Figure>> = vec![Vec::new(); peers.len()];
        for round in 0..self.options.rounds {
            for at in (0..peers.len()).map(|at| (at + round) % peers.len()) {
                let figure = match case.layer {
                    Layer::Http2 => self.http2(case, &peers[at]),
                    _ => self.http1(case, &peers[at]),
                };
                figures[at].push(figure.with_context(|| format!("{}, {}", peers[at].kind.name(), case.title))?);
            }
        }
        println!("{:20} {:>10} {:>6} {:>9} {:>8} {:>8}", "", "per CPU s", "ratio", "each s", "p50 µs", "p99");
        for (peer, own) in peers.iter().zip(&figures) {
            let of = |part: fn(&Figure) -> f64| median(own.iter().map(part));
            let ratio = median(figures[0].iter().zip(own).map(|(first, own)| first.per_cpu / own.per_cpu));
            let (per_cpu, rate) = (of(|one| one.per_cpu), of(|one| one.rate));
            let (half, most) = (of(|one| one.half), of(|one| one.most));
            println!("{:20} {per_cpu:10.0} {ratio:6.3} {rate:9.0} {half:8.0} {most:8.0}", peer.kind.name());
        }
        Ok(())
    }

    fn http1(&self, case: Case, peer: &Peer) -> anyhow::Result<Figure> {
        let load = Load::new(case, peer.to(case.layer), &self.roots)?;
        let time = Duration::from_secs_f64(self.options.seconds);
        let now = || anyhow::Ok((ran(Path::new("/proc"), peer.pid())?, Instant::now()));
        let mut before = None;
        let done = self.runtime.block_on(load.run(time, || before = Some(now())))? * case.weight();
        let (before, after) = (before.context("not begun")??, now()?);
        let times = self.runtime.block_on(load.times(time))?;
        Ok(Figure {
            per_cpu: done / (after.0 - before.0),
            rate: done / after.1.duration_since(before.1).as_secs_f64(),
            half: times.quantile(0.5) * 1e3,
            most: times.quantile(0.99) * 1e3,
        })
    }

    /// Without times: h2load has no moderate pace.
    fn http2(&self, case: Case, peer: &Peer) -> anyhow::Result<Figure> {
        let count = (self.options.seconds * HTTP2_RATE) as usize;
        let before = ran(Path::new("/proc"), peer.pid())?;
        let took = http2::run(&case, peer.to(case.layer), count)?;
        let used = ran(Path::new("/proc"), peer.pid())? - before;
        Ok(Figure { per_cpu: count as f64 / used, rate: count as f64 / took, half: f64::NAN, most: f64::NAN })
    }
}
