//! What the data plane counts, under kube-proxy's names (those of its nftables mode), so that dashboards and alerts made
//! for it go on working.
//!
//! A Snapshot is applied to IPv4 and IPv6 in one transaction, so what has a label `ip_family` has the same value for both.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use state::{Service, Snapshot};

mod exposition;

pub use exposition::{Exposition, Histogram};

/// The families, as labels.
const FAMILIES: [&str; 2] = ["ip_family=\"IPv4\"", "ip_family=\"IPv6\""];

/// For how long a change may wait to be in the kernel before the plane counts as ill: twice kube-proxy's period.
const LATE: Duration = Duration::from_secs(60);

/// The counts of one node's data plane; it is shared by the plane and by who asks.
#[derive(Debug, Default)]
pub struct Metrics(Mutex<Tally>);

/// How the data plane is at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// When the kernel last had all that was known; none before the first time.
    pub updated: Option<Timestamp>,
    /// False when a change has waited for too long.
    pub healthy: bool,
}

#[derive(Debug, Default)]
struct Tally {
    /// One for each whole load, and for each difference.
    full: Histogram,
    partial: Histogram,
    conntrack: Histogram,
    services: Changes,
    endpoints: Changes,
    /// Since when a change has been waiting.
    waiting: Option<Timestamp>,
    queued: Option<Timestamp>,
    updated: Option<Timestamp>,
    failures: u64,
    cleanup_failures: u64,
    forgotten: u64,
    mended: u64,
    /// Answers of `/healthz` and `/livez`: well, ill.
    asked: [[u64; 2]; 2],
}

#[derive(Debug, Default)]
struct Changes {
    total: u64,
    pending: u64,
}

impl Changes {
    fn add(&mut self, count: u64) {
        self.total += count;
        self.pending += count;
    }
}

impl Metrics {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A Snapshot came that is to be applied.
    pub fn queued(&self, older: &Snapshot, newer: &Snapshot) {
        self.tally().queued(older, newer, Timestamp::now());
    }

    /// The last Snapshot that came is in the kernel: as a whole, or as a difference to the one before.
    pub fn synced(&self, took: Duration, full: bool) {
        self.tally().synced(took, full, Timestamp::now());
    }

    /// It could not be applied.
    pub fn failed(&self) {
        self.tally().failures += 1;
    }

    /// What was made could not be removed.
    pub fn cleanup_failed(&self) {
        self.tally().cleanup_failures += 1;
    }

    /// Connections to endpoints that left were looked for, and so many deleted.
    pub fn forgot(&self, count: usize, took: Duration) {
        let mut tally = self.tally();
        tally.forgotten += count as u64;
        tally.conntrack.observe(took);
    }

    /// The tables differed from the Snapshot by someone else's doing, and were mended.
    pub fn mended(&self) {
        self.tally().mended += 1;
    }

    /// How often they were.
    pub fn mends(&self) -> u64 {
        self.tally().mended
    }

    /// A page about health was answered.
    pub(crate) fn asked(&self, live: bool, well: bool) {
        self.tally().asked[usize::from(live)][usize::from(!well)] += 1;
    }

    /// How the plane is.
    pub fn health(&self, now: Timestamp) -> Health {
        let tally = self.tally();
        let late = |since: Timestamp| now.duration_since(since) >= LATE.try_into().unwrap_or_default();
        Health { updated: tally.updated, healthy: !tally.waiting.is_some_and(late) }
    }

    /// All of it, in the text format of Prometheus (0.0.4); `snapshot` is the last one and `node` is this one.
    pub fn text(&self, snapshot: &Snapshot, node: &str) -> String {
        let mut out = Exposition::default();
        self.tally().expose(&mut out);
        out.head(
            "sync_proxy_rules_no_local_endpoints_total",
            "gauge",
            "Services of policy Local without endpoints here.",
        );
        let internal: fn(&Service) -> bool = |service| service.internal_local;
        let external: fn(&Service) -> bool = |service| service.external_local;
        for (policy, is_local) in [("internal", internal), ("external", external)] {
            for (family, v6) in FAMILIES.into_iter().zip([false, true]) {
                let services = snapshot.services.iter().filter(|(_, service)| is_local(service));
                let count = services.filter(|(_, service)| elsewhere(service, node, v6)).count();
                out.sample("", &format!("{family},traffic_policy=\"{policy}\""), count as f64);
            }
        }
        out.text()
    }
}

/// True when a Service has ready endpoints of a family, but none on this node.
fn elsewhere(service: &Service, node: &str, v6: bool) -> bool {
    let mut ready = service.endpoints.iter().filter(|e| e.ready && e.address.is_ipv6() == v6).peekable();
    ready.peek().is_some() && ready.all(|endpoint| endpoint.node.as_deref() != Some(node))
}

impl Tally {
    fn queued<'a>(&mut self, older: &'a Snapshot, newer: &'a Snapshot, now: Timestamp) {
        for key in newer.services.changed(&older.services) {
            let (old, new) = (older.services.get(key), newer.services.get(key));
            let endpoints = |service: Option<&'a Arc<Service>>| service.map_or(&[][..], |service| &service.endpoints);
            let same = endpoints(old) == endpoints(new);
            self.endpoints.add(u64::from(!same));
            // What differs otherwise is seen only where the endpoints are the same, or the Service is new or gone.
            self.services.add(u64::from(same || old.is_none() || new.is_none()));
        }
        self.queued = Some(now);
        self.waiting.get_or_insert(now);
    }

    fn synced(&mut self, took: Duration, full: bool, now: Timestamp) {
        let histogram = if full { &mut self.full } else { &mut self.partial };
        histogram.observe(took);
        (self.services.pending, self.endpoints.pending) = (0, 0);
        self.waiting = None;
        self.updated = Some(now);
    }

    fn expose(&self, out: &mut Exposition) {
        let histogram = |out: &mut Exposition, name, help, histogram: &Histogram| {
            out.head(name, "histogram", help);
            FAMILIES.iter().for_each(|family| out.histogram(family, histogram));
        };
        let all = self.full.with(&self.partial);
        histogram(out, "sync_proxy_rules_duration_seconds", "How long rules took to be in the kernel.", &all);
        histogram(out, "sync_full_proxy_rules_duration_seconds", "The same, of whole tables.", &self.full);
        histogram(out, "sync_partial_proxy_rules_duration_seconds", "The same, of differences.", &self.partial);
        let help = "How long it took to delete connections to endpoints that left.";
        histogram(out, "conntrack_reconciler_sync_duration_seconds", help, &self.conntrack);

        let mut each = |name, kind, help, value: f64| {
            out.head(name, kind, help);
            FAMILIES.iter().for_each(|family| out.sample("", family, value));
        };
        let seconds = |time: Option<Timestamp>| time.map_or(0., |time| time.as_microsecond() as f64 / 1e6);
        each(
            "sync_proxy_rules_last_timestamp_seconds",
            "gauge",
            "When rules were last applied.",
            seconds(self.updated),
        );
        let queued = seconds(self.queued);
        each("sync_proxy_rules_last_queued_timestamp_seconds", "gauge", "When a change last came.", queued);
        for (name, help, count) in [
            ("sync_proxy_rules_nftables_sync_failures_total", "Rules the kernel refused.", self.failures),
            ("sync_proxy_rules_nftables_cleanup_failures_total", "Failed removals.", self.cleanup_failures),
            ("conntrack_reconciler_deleted_entries_total", "Connections that were deleted.", self.forgotten),
        ] {
            each(name, "counter", help, count as f64);
        }
        for (what, changes) in [("service", &self.services), ("endpoint", &self.endpoints)] {
            for (name, kind, help, count) in [
                ("changes_total", "counter", "Changes that came.", changes.total),
                ("changes_pending", "gauge", "Changes that are not in the kernel yet.", changes.pending),
            ] {
                out.head(&format!("sync_proxy_rules_{what}_{name}"), kind, help);
                out.sample("", "", count as f64);
            }
        }
        for (name, answers) in ["proxy_healthz_total", "proxy_livez_total"].into_iter().zip(self.asked) {
            out.head(name, "counter", "Answers of this page.");
            let codes = ["code=\"200\"", "code=\"503\""].into_iter().zip(answers);
            codes.for_each(|(code, count)| out.sample("", code, count as f64));
        }
        out.own("proxy_mended_total", "counter", "How often rules were mended that another program had changed.");
        out.sample("", "", self.mended as f64);
    }
}

#[cfg(test)]
mod tests;
