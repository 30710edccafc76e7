//! What is counted of resolvers, which CoreDNS calls proxies. They are the process's: several
//! blocks, and one Corefile after another, may ask the same.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_proto::op::ResponseCode;

use super::Exposition;
use super::tally::{Histogram, TIMES, read};
use crate::rcode;

/// How resolvers are asked.
const PROTOCOLS: [&str; 3] = ["udp", "tcp", "tcp-tls"];

/// All resolvers.
#[derive(Default)]
pub(crate) struct Proxies {
    all: Mutex<BTreeMap<SocketAddr, Arc<Proxy>>>,
    /// How often all resolvers of a directive were down.
    pub(crate) broken: AtomicU64,
    /// Questions beyond `max_concurrent`.
    pub(crate) rejects: AtomicU64,
}

/// One resolver.
#[derive(Default)]
pub(crate) struct Proxy {
    /// How long it took for answers, by their code.
    took: Mutex<BTreeMap<u16, Histogram<{ TIMES.len() }>>>,
    pub(crate) failed_checks: AtomicU64,
    /// Questions on a new connection, and on one that was there, by protocol.
    connections: [[AtomicU64; 2]; PROTOCOLS.len()],
}

impl Proxies {
    /// The counts of the resolver at an address.
    pub(crate) fn proxy(&self, address: SocketAddr) -> Arc<Proxy> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).entry(address).or_default().clone()
    }

    pub(super) fn expose(&self, out: &mut Exposition) {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if all.is_empty() {
            return;
        }
        let help = "Counter of the number of complete failures of the healthchecks.";
        out.counter("coredns_forward_healthcheck_broken_total", help, &[], self.broken.load(Ordering::Relaxed));
        let help = "Counter of the number of queries rejected because the concurrent queries were at maximum.";
        out.counter("coredns_forward_max_concurrent_rejects_total", help, &[], self.rejects.load(Ordering::Relaxed));
        for (address, proxy) in &*all {
            proxy.expose(&address.to_string(), out);
        }
    }
}

impl Proxy {
    /// Counts an answer.
    pub(crate) fn answered(&self, code: ResponseCode, took: Duration) {
        let mut all = self.took.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(code.into()).or_default().observe(&TIMES, took.as_secs_f64(), took.as_nanos() as u64, true);
    }

    /// Counts a question by UDP, or on a connection that was there or not.
    pub(crate) fn asked(&self, streamed: bool, tls: bool, kept: bool) {
        let protocol = if streamed { 1 + usize::from(tls) } else { 0 };
        self.connections[protocol][usize::from(kept)].fetch_add(1, Ordering::Relaxed);
    }

    fn expose(&self, to: &str, out: &mut Exposition) {
        let proxy = [("proxy_name", "forward"), ("to", to)];
        for (code, took) in &*self.took.lock().unwrap_or_else(PoisonError::into_inner) {
            let code = rcode::name((*code).into());
            let labels = [&proxy[..], &[("rcode", &*code)]].concat();
            let help = "Histogram of the time each request took.";
            out.histogram(
                "coredns_proxy_request_duration_seconds",
                help,
                &labels,
                &TIMES,
                &read([took].into_iter(), 1e-9),
            );
        }
        let help = "Counter of the number of failed healthchecks.";
        let failed = self.failed_checks.load(Ordering::Relaxed);
        out.seen("coredns_proxy_healthcheck_failures_total", help, &proxy, failed);
        for (protocol, [misses, hits]) in PROTOCOLS.into_iter().zip(&self.connections) {
            let labels = [&proxy[..], &[("proto", protocol)]].concat();
            let help = "Counter of connection cache hits per upstream and protocol.";
            out.seen("coredns_proxy_conn_cache_hits_total", help, &labels, hits.load(Ordering::Relaxed));
            let help = "Counter of connection cache misses per upstream and protocol.";
            out.seen("coredns_proxy_conn_cache_misses_total", help, &labels, misses.load(Ordering::Relaxed));
        }
    }

    /// Questions on a connection that was there, and on a new one.
    #[cfg(test)]
    pub(crate) fn hits_and_misses(&self) -> (u64, u64) {
        let sum = |kept: usize| self.connections.iter().map(|counts| counts[kept].load(Ordering::Relaxed)).sum();
        (sum(1), sum(0))
    }
}
