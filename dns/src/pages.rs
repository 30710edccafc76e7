//! What is told over HTTP beside the answers: /metrics, /health and /ready.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::StatusCode;

use crate::metrics::{Collector, Exposition, Metrics, PANICS};

/// A page at an address, named for its directive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) directive: &'static str,
    pub(crate) path: &'static str,
    pub(crate) address: SocketAddr,
}

/// Says whether something is ready.
pub(crate) type Check = Box<dyn Fn() -> bool + Send + Sync>;

/// What a server block has beside its chain.
#[derive(Default)]
pub(crate) struct Beside {
    pub(crate) pages: Vec<Page>,
    /// What has to be ready for the block to be, by the names of the plugins.
    pub(crate) checks: Vec<(&'static str, Check)>,
    /// What its plugins count.
    pub(crate) collectors: Vec<Collector>,
    /// Whether its questions are counted.
    pub(crate) metered: bool,
    /// How long it goes on when it is told to end.
    pub(crate) lameduck: Duration,
}

/// What the pages are made from.
#[derive(Default)]
pub(crate) struct Site {
    pub(crate) pages: Vec<Page>,
    pub(crate) checks: Vec<(&'static str, Check)>,
    /// With the server that counts.
    pub(crate) collectors: Vec<(String, Collector)>,
    /// Server, zone and the plugins in use, of counted blocks.
    pub(crate) enabled: Vec<(String, String, Vec<&'static str>)>,
    /// The checksum of the Corefile, in hexadecimal.
    pub(crate) version: String,
    pub(crate) metrics: Arc<Metrics>,
    /// Set when the server is about to end.
    pub(crate) leaving: Arc<AtomicBool>,
}

impl Site {
    /// The page at a path of an address.
    pub(crate) fn page(&self, address: SocketAddr, path: &str) -> (StatusCode, String) {
        if !self.pages.iter().any(|page| page.address == address && page.path == path) {
            return (StatusCode::NOT_FOUND, "404 page not found\n".into());
        }
        match path {
            "/metrics" => (StatusCode::OK, self.metrics()),
            "/health" => (StatusCode::OK, "OK".into()),
            _ => self.ready(),
        }
    }

    fn ready(&self) -> (StatusCode, String) {
        if self.leaving.load(Ordering::Relaxed) {
            return (StatusCode::SERVICE_UNAVAILABLE, "Shutting down".into());
        }
        let mut waiting: Vec<&str> = self.checks.iter().filter(|(_, ready)| !ready()).map(|(name, _)| *name).collect();
        waiting.sort_unstable();
        match &waiting[..] {
            [] => (StatusCode::OK, "OK".into()),
            waiting => (StatusCode::SERVICE_UNAVAILABLE, waiting.join(",")),
        }
    }

    fn metrics(&self) -> String {
        let mut out = Exposition::default();
        self.metrics.expose(&mut out);
        let build = [("version", env!("CARGO_PKG_VERSION")), ("revision", ""), ("goversion", "")];
        let help = "A metric with a constant '1' value labeled by version, revision, and goversion.";
        out.gauge("coredns_build_info", help, &build, 1.);
        let panics = PANICS.load(Ordering::Relaxed);
        out.counter("coredns_panics_total", "A metrics that counts the number of panics.", &[], panics);
        let help = "Counter of the number of failed reload attempts.";
        let failed = self.metrics.reloads_failed.load(Ordering::Relaxed);
        out.counter("coredns_reload_failed_total", help, &[], failed);
        let help = "A metric that indicates the hash of the running configuration.";
        out.gauge("coredns_reload_version_info", help, &[("hash", "sha512"), ("value", &self.version)], 1.);
        for (server, zone, plugins) in &self.enabled {
            for name in plugins {
                let help = "A metric that indicates whether a plugin is enabled on per server and zone basis.";
                let labels = [("server", &**server), ("zone", zone), ("view", ""), ("name", name)];
                out.gauge("coredns_plugin_enabled", help, &labels, 1.);
            }
        }
        for (server, collector) in &self.collectors {
            collector(&mut out, server);
        }
        process(&mut out);
        out.text()
    }
}

/// Ticks of a second in proc(5), on every architecture of Linux that this runs on.
const TICKS: f64 = 100.;

/// What the process takes of the machine, as the clients of Prometheus tell it; proc(5).
fn process(out: &mut Exposition) {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let number = |text: &str, index| text.split_whitespace().nth(index).and_then(|word| word.parse::<f64>().ok());
    let stat = read("/proc/self/stat");
    // The name of the process is in brackets and may hold anything.
    let times = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    if let (Some(user), Some(system)) = (number(times, 11), number(times, 12)) {
        let help = "Total user and system CPU time spent in seconds.";
        out.gauge("process_cpu_seconds_total", help, &[], (user + system) / TICKS);
    }
    let status = read("/proc/self/status");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    if let Some(kilobytes) = resident.and_then(|text| number(text, 0)) {
        let help = "Resident memory size in bytes.";
        out.gauge("process_resident_memory_bytes", help, &[], kilobytes * 1024.);
    }
}

#[cfg(test)]
mod tests;
