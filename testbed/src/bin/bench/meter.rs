use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;

/// Steps for each doubling of a duration.
const STEPS: u32 = 32;

/// How often which duration was seen, to 2 %.
pub(crate) struct Histogram {
    counts: Vec<u32>,
    pub(crate) total: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; 64 * STEPS as usize], total: 0 }
    }

    pub(crate) fn add(&mut self, took: Duration) {
        let nanos = took.as_nanos().clamp(1 << 10, 1 << 60) as u64;
        let power = nanos.ilog2();
        let step = (nanos >> (power - STEPS.ilog2())) as u32 - STEPS;
        self.counts[(power * STEPS + step) as usize] += 1;
        self.total += 1;
    }

    /// What this part of the durations stays below, in milliseconds.
    pub(crate) fn quantile(&self, part: f64) -> f64 {
        let mut left = (self.total as f64 * part) as u64;
        for (at, count) in self.counts.iter().enumerate() {
            if left < u64::from(*count) {
                let (power, step) = (at as u32 / STEPS, at as u32 % STEPS);
                return f64::from(STEPS + step) * 2f64.powi(power as i32 - STEPS.ilog2() as i32) / 1e6;
            }
            left -= u64::from(*count);
        }
        0.0
    }
}

/// What one measurement saw.
pub(crate) struct Sample {
    pub(crate) histogram: Histogram,
    pub(crate) bytes: u64,
    pub(crate) seconds: f64,
    /// CPU seconds of the server; none when its processes are not known.
    pub(crate) server: Option<f64>,
    /// CPU seconds of this process.
    pub(crate) own: f64,
}

impl Sample {
    pub(crate) fn rate(&self) -> f64 {
        self.histogram.total as f64 / self.seconds
    }
}

/// Measures time and CPU from its start to its end.
pub(crate) struct Meter {
    pids: Vec<u32>,
    began: Instant,
    server: Option<f64>,
    own: f64,
}

impl Meter {
    pub(crate) fn start(pids: &[u32]) -> anyhow::Result<Self> {
        Ok(Self { pids: pids.to_vec(), server: cpu_of(pids)?, own: cpu(std::process::id())?, began: Instant::now() })
    }

    pub(crate) fn stop(self, histogram: Histogram, bytes: u64) -> anyhow::Result<Sample> {
        let seconds = self.began.elapsed().as_secs_f64();
        let server = cpu_of(&self.pids)?.zip(self.server).map(|(now, then)| now - then);
        Ok(Sample { histogram, bytes, seconds, server, own: cpu(std::process::id())? - self.own })
    }
}

fn cpu_of(pids: &[u32]) -> anyhow::Result<Option<f64>> {
    if pids.is_empty() {
        return Ok(None);
    }
    pids.iter().map(|pid| cpu(*pid)).sum::<anyhow::Result<f64>>().map(Some)
}

/// Seconds of CPU that a process has used.
pub(crate) fn cpu(pid: u32) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
    Ok((ticks(11) + ticks(12)) / rustix::param::clock_ticks_per_second() as f64)
}

/// Seconds that the threads of a process have been on a CPU, to the nanosecond, with the interrupts that came meanwhile: a
/// packet between two network namespaces is worked off in the name of who sent it. `proc` is where procfs is.
pub(crate) fn ran(proc: &Path, pid: u32) -> anyhow::Result<f64> {
    let tasks = proc.join(pid.to_string()).join("task");
    let mut nanos = 0.0;
    for task in std::fs::read_dir(&tasks).with_context(|| format!("read {}", tasks.display()))? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        nanos += text.split(' ').next().unwrap_or_default().parse::<f64>().context("schedstat")?;
    }
    Ok(nanos / 1e9)
}

/// Keeps this thread on the last CPU from now on, with all threads and programs that it starts; returns which one it is.
pub(crate) fn pin() -> anyhow::Result<usize> {
    let last = std::thread::available_parallelism()?.get() - 1;
    let mut cpus = rustix::thread::CpuSet::new();
    cpus.set(last);
    rustix::thread::sched_setaffinity(None, &cpus)?;
    Ok(last)
}

/// The value in the middle.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut all: Vec<_> = values.collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or_default()
}

/// A field of `/proc/<pid>/status` that is in kB, in MB.
pub(crate) fn megabytes(pid: u32, key: &str) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    Ok(line.trim_matches([':', ' ', '\t', 'k', 'B']).parse::<f64>().unwrap_or_default() * 1.024 / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles() {
        let mut histogram = Histogram::new();
        for millis in 1..=1000 {
            histogram.add(Duration::from_millis(millis));
        }
        for (part, expected) in [(0.5, 500.0), (0.99, 990.0), (0.0, 1.0)] {
            let found = histogram.quantile(part);
            assert!((found / expected - 1.0).abs() < 0.04, "{part}: {found}");
        }
    }
}
