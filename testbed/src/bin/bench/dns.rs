//! The cluster's DNS under the load of dnsperf, beside other servers with the same names.
//!
//! The servers are on one machine and dnsperf is on another: two network namespaces with a wire between them. All servers
//! of a case run at the same time and are asked in turns, in several rounds; the medians are printed. The CPU that is
//! counted is that of the server's process, with what the kernel does in its name.

mod cluster;
mod hickory;
mod load;
mod peer;
mod raw;
pub(crate) mod server;

use std::path::Path;

use anyhow::{Context as _, bail};

use self::load::{Flood, Questions};
use self::peer::Peer;
use crate::meter::median;

/// Services where there are some.
const SOME: usize = 1000;
/// External names that stay in a cache.
const CACHED: usize = 1000;
/// External names of one load that do not: more than are asked in its time.
const UNCACHED: usize = 500_000;
/// Changes whose way into an answer is measured.
const CHANGES: usize = 200;
/// Changes in each second while answers are measured.
const UPDATES: u32 = 1000;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// What is measured; all by default
    #[arg(long, value_parser = ["names", "external", "updates"])]
    only: Option<String>,
    /// How long each load lasts
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// How often each server is asked; the medians are printed
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Services where there are many
    #[arg(long, default_value_t = 100_000)]
    services: usize,
}

impl Options {
    fn wants(&self, part: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only == part)
    }
}

/// Enters namespaces and measures there.
pub(crate) fn outside() -> anyhow::Result<()> {
    let mut command = testbed::unshare();
    let status = command.arg(std::env::current_exe()?).arg("dns-inside").args(std::env::args_os().skip(2)).status()?;
    if !status.success() {
        bail!("bench dns: {status}");
    }
    Ok(())
}

/// Measures in the current namespaces.
pub(crate) fn inside(options: &Options) -> anyhow::Result<()> {
    testbed::uplink();
    let dir = tempfile::tempdir()?;
    let bench = Bench { options, dir: dir.path() };
    println!("medians of {} rounds; ratio: to the raw loop with a constant answer, in the same round", options.rounds);
    println!(
        "{:34} {:>9} {:>6} {:>9} {:>6} {:>8} {:>8}",
        "", "per CPU s", "ratio", "each s", "CPU %", "p50 ms", "p99 ms"
    );
    let _upstream = Peer::upstream()?;
    if options.wants("names") {
        for services in [1, SOME, options.services] {
            let mut peers = bench.start(&peer::ALL, services)?;
            bench.case(&format!("{services} Services"), &mut peers, |_| cluster::names(services), "NOERROR")?;
            if services == SOME {
                bench.case("NXDOMAIN", &mut peers, |_| cluster::missing(services), "NXDOMAIN")?;
            }
        }
    }
    if options.wants("external") {
        let mut peers = bench.start(&["raw", "coracle", "unbound", "dnsmasq"], SOME)?;
        let names = |count: usize, load: usize| (0..count).map(move |at| format!("host-{at}.zone-{load}.example"));
        bench.case("external, cached", &mut peers, |_| names(CACHED, 0), "NOERROR")?;
        bench.case("external, uncached", &mut peers, |load| names(UNCACHED, load), "NOERROR")?;
    }
    if options.wants("updates") {
        bench.updates()?;
    }
    Ok(())
}

struct Bench<'a> {
    options: &'a Options,
    dir: &'a Path,
}

impl Bench<'_> {
    fn start(&self, names: &[&'static str], services: usize) -> anyhow::Result<Vec<Peer>> {
        names.iter().map(|name| Peer::start(name, services, true, self.dir)).collect()
    }

    /// Measures the servers in turns, and prints a row for each. The names are those of one load; they are counted from 1.
    fn case<N: Iterator<Item = String>>(
        &self,
        what: &str,
        peers: &mut [Peer],
        names: impl Fn(usize) -> N,
        code: &str,
    ) -> anyhow::Result<()> {
        let file = self.dir.join("questions");
        let questions = Questions { file: &file, code };
        let mut floods: Vec<Vec<Flood>> = vec![Vec::new(); peers.len()];
        let mut times: Vec<Vec<(f64, f64)>> = vec![Vec::new(); peers.len()];
        for round in 1..=self.options.rounds {
            std::fs::write(&file, cluster::questions(names(2 * round - 1)))?;
            for (at, peer) in peers.iter().enumerate() {
                floods[at].push(load::flood(peer, &questions, self.options.seconds)?);
            }
            std::fs::write(&file, cluster::questions(names(2 * round)))?;
            for (at, peer) in peers.iter().enumerate() {
                let took = load::times(peer, &questions, self.options.seconds)?;
                times[at].push((took.quantile(0.5), took.quantile(0.99)));
            }
        }
        for (at, peer) in peers.iter().enumerate() {
            let ratios = floods[at].iter().zip(&floods[0]).map(|(own, limit)| own.per_cpu / limit.per_cpu);
            println!(
                "{:34} {:9.0} {:6.2} {:9.0} {:6.0} {:8.3} {:8.3}",
                format!("{what}: {}", peer.name),
                median(floods[at].iter().map(|flood| flood.per_cpu)),
                median(ratios),
                median(floods[at].iter().map(|flood| flood.rate)),
                median(floods[at].iter().map(|flood| flood.busy * 100.0)),
                median(times[at].iter().map(|(half, _)| *half)),
                median(times[at].iter().map(|(_, most)| *most)),
            );
        }
        Ok(())
    }

    /// What records cost, and what changes cost those who ask meanwhile.
    fn updates(&self) -> anyhow::Result<()> {
        let services = self.options.services;
        let mut peer = Peer::start("coracle", services, false, self.dir)?;
        let [bytes, seconds] = peer.hear()?[..] else { bail!("no figures from the server") };
        let records = services * cluster::RECORDS;
        println!("{services} Services, {records} records");
        println!("{:50} {:8.1} bytes", "  beyond the objects, for each record", bytes / records as f64);
        println!("{:50} {:8.1} ms", "  from the first Snapshot to an answer", seconds * 1e3);
        peer.tell(&format!("change {CHANGES}"))?;
        let mut took = peer.hear()?;
        took.sort_by(f64::total_cmp);
        let most = *took.get(took.len() * 99 / 100).context("no changes")?;
        println!(
            "{:50} {:8.3} ms, p99 {:.3}",
            "  from a change to an answer",
            median(took.into_iter()) * 1e3,
            most * 1e3
        );

        let file = self.dir.join("questions");
        std::fs::write(&file, cluster::questions(cluster::names(services)))?;
        let questions = Questions { file: &file, code: "NOERROR" };
        let (mut still, mut busy, mut made) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.options.rounds {
            still.push(load::times(&peer, &questions, self.options.seconds)?.quantile(0.99));
            peer.tell(&format!("updates {UPDATES} {}", self.options.seconds))?;
            busy.push(load::times(&peer, &questions, self.options.seconds)?.quantile(0.99));
            made.push(peer.hear()?.first().copied().unwrap_or_default() / self.options.seconds);
        }
        let (still, busy, made) = (median(still.into_iter()), median(busy.into_iter()), median(made.into_iter()));
        println!("{:50} {still:8.3} ms", "  p99 of answers without updates");
        println!("{:50} {busy:8.3} ms ({:.2})", format!("  p99 with {made:.0} updates each second"), busy / still);
        Ok(())
    }
}

/// A question for the address of a name.
fn question(name: &str) -> Vec<u8> {
    let mut packet = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        packet.push(label.len() as u8);
        packet.extend_from_slice(label.as_bytes());
    }
    packet.extend_from_slice(&[0, 0, 1, 0, 1]);
    packet
}
