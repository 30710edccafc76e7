//! The text that Prometheus reads (its exposition format 0.0.4).

use std::fmt::Write;
use std::time::Duration;

/// Upper bounds in seconds: from a millisecond, each twice the one before.
const BOUNDS: [f64; 15] = {
    let (mut bounds, mut index) = ([0.001; 15], 1);
    while index < 15 {
        bounds[index] = bounds[index - 1] * 2.;
        index += 1;
    }
    bounds
};

/// How many durations were within each bound but not within the one before, and their sum.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    counts: [u64; BOUNDS.len() + 1],
    sum: f64,
}

impl Histogram {
    /// Counts one.
    pub fn observe(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        self.counts[BOUNDS.partition_point(|bound| *bound < seconds)] += 1;
        self.sum += seconds;
    }

    /// Both together.
    pub fn with(&self, other: &Self) -> Self {
        let mut both = self.clone();
        both.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
        both.sum += other.sum;
        both
    }
}

/// Metrics, each a head and then its samples.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
    /// That of the last head.
    name: String,
}

impl Exposition {
    /// Begins a metric of kube-proxy.
    pub fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.begin(&format!("kubeproxy_{name}"), kind, help);
    }

    /// Begins a metric that kube-proxy does not have.
    pub fn own(&mut self, name: &str, kind: &str, help: &str) {
        self.begin(&format!("coracle_{name}"), kind, help);
    }

    /// Begins a metric of anyone.
    pub fn begin(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        self.name = name.to_owned();
    }

    /// A sample with its labels, as they are written.
    pub fn sample(&mut self, suffix: &str, labels: &str, value: f64) {
        let name = &self.name;
        let _ = match labels {
            "" => writeln!(self.text, "{name}{suffix} {value}"),
            labels => writeln!(self.text, "{name}{suffix}{{{labels}}} {value}"),
        };
    }

    /// The samples of a histogram.
    pub fn histogram(&mut self, labels: &str, histogram: &Histogram) {
        let mut below = 0;
        for (bound, count) in BOUNDS.iter().map(f64::to_string).chain(["+Inf".into()]).zip(histogram.counts) {
            below += count;
            self.sample("_bucket", &format!("{labels},le=\"{bound}\""), below as f64);
        }
        self.sample("_sum", labels, histogram.sum);
        self.sample("_count", labels, below as f64);
    }

    /// All of it.
    pub fn text(self) -> String {
        self.text
    }
}
