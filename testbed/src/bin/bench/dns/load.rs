//! dnsperf, on the machine outside.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use testbed::need;

use super::peer::Peer;
use crate::meter::{Histogram, cpu};

/// Questions that are under way at a time.
const OUTSTANDING: &str = "256";
/// Questions in a second, where time is what is measured.
const MODERATE: &str = "10000";

/// Questions and what their answers have to be.
pub(crate) struct Questions<'a> {
    pub(crate) file: &'a Path,
    pub(crate) code: &'a str,
}

/// What one flood saw.
#[derive(Clone, Copy)]
pub(crate) struct Flood {
    /// Answers in each second of the server's CPU.
    pub(crate) per_cpu: f64,
    /// Answers in each second.
    pub(crate) rate: f64,
    /// The part of one CPU that the server used.
    pub(crate) busy: f64,
}

/// As many questions as the server takes. dnsperf, which needs more CPU for a question than most servers do, shares the
/// server's: while it runs, questions wait for the server as they do under full load.
pub(crate) fn flood(peer: &Peer, questions: &Questions, seconds: f64) -> anyhow::Result<Flood> {
    let before = cpu(peer.pid())?;
    let output = dnsperf(peer, questions, seconds, 0).args(["-q", OUTSTANDING]).output()?;
    let used = (cpu(peer.pid())? - before).max(0.01);
    let text = String::from_utf8_lossy(&output.stdout);
    let after = |title: &str| Some(text.lines().find_map(|line| line.trim().strip_prefix(title))?.trim());
    let number = |title: &str| {
        let word = after(title).and_then(|rest| rest.split_whitespace().next());
        word.and_then(|word| word.parse::<f64>().ok()).with_context(|| format!("no {title:?} from dnsperf:\n{text}"))
    };
    let completed = number("Queries completed:")?;
    let codes = after("Response codes:").unwrap_or_default();
    // The constant answer is the same to all questions.
    if peer.name != "raw" && (!codes.starts_with(questions.code) || codes.contains(',')) {
        bail!("{} answered {codes:?} to {}", peer.name, questions.file.display());
    }
    let took = number("Run time (s):")?;
    Ok(Flood { per_cpu: completed / used, rate: completed / took, busy: used / took })
}

/// How long answers take while the server has little to do; dnsperf has another CPU than the server, if there is one.
pub(crate) fn times(peer: &Peer, questions: &Questions, seconds: f64) -> anyhow::Result<Histogram> {
    let last = std::thread::available_parallelism().map_or(0, |count| count.get() - 1);
    let mut command = dnsperf(peer, questions, seconds, last);
    let mut child = command.args(["-v", "-Q", MODERATE]).stdout(Stdio::piped()).spawn()?;
    let mut histogram = Histogram::new();
    for line in BufReader::new(child.stdout.take().context("no standard output")?).lines() {
        // > NOERROR svc-0.ns-0.svc.cluster.local A 0.000123
        if let [">", _, _, _, took] = line?.split_whitespace().collect::<Vec<_>>()[..] {
            histogram.add(Duration::from_secs_f64(took.parse()?));
        }
    }
    child.wait()?;
    if histogram.total == 0 {
        bail!("{} gave no answers", peer.name);
    }
    Ok(histogram)
}

fn dnsperf(peer: &Peer, questions: &Questions, seconds: f64, cpu: usize) -> Command {
    let (ip, port) = (peer.address.ip().to_string(), peer.address.port().to_string());
    let mut command = testbed::outside("taskset");
    command.args(["-c", &cpu.to_string()]).arg(need("dnsperf")).args(["-s", &ip, "-p", &port, "-t", "1"]);
    command.args(["-l", &seconds.to_string(), "-d"]).arg(questions.file);
    command
}
