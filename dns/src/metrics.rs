//! What is counted, under CoreDNS's names, and how Prometheus reads it.
//!
//! Questions that are answered the quick way are counted by the thread that answers them, in a tally
//! that only it writes; a scrape adds the tallies up.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::rcode;
use crate::request::Transport;

mod exposition;
mod proxy;
mod tally;

pub(crate) use exposition::Exposition;
use proxy::Proxies;
pub(crate) use proxy::Proxy;
use tally::{SIZES, TIMES, TYPES, Tally};

/// The zone of questions that no server block is for.
pub(crate) const DROPPED: &str = "dropped";

/// Questions whose answering panicked: a bug of ours, which their clients see as SERVFAIL.
pub(crate) static PANICS: AtomicU64 = AtomicU64::new(0);

/// Adds what a plugin counts; it is told the server that its block is.
pub(crate) type Collector = Box<dyn Fn(&mut Exposition, &str) + Send + Sync>;

/// What counts go on over a reload.
#[derive(Default)]
pub(crate) struct Metrics {
    meters: Mutex<BTreeMap<(String, String), Arc<Meter>>>,
    /// What `forward` asks.
    pub(crate) proxies: Proxies,
    /// Corefiles that were refused.
    pub(crate) reloads_failed: AtomicU64,
}

/// One question and its answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) client: SocketAddr,
    pub(crate) transport: Transport,
    pub(crate) kind: u16,
    /// Whether DNSSEC's records were asked for.
    pub(crate) dnssec: bool,
    pub(crate) code: u16,
    /// The name of the plugin that answered, or nothing.
    pub(crate) plugin: &'static str,
    /// The size of the question in bytes.
    pub(crate) asked: usize,
    /// The size of the answer in bytes.
    pub(crate) answered: usize,
}

impl Seen {
    /// A question of which nothing is known but the packet.
    pub(crate) fn of(packet: &[u8], client: SocketAddr, transport: Transport) -> Self {
        Seen { client, transport, kind: 0, dnssec: false, code: 0, plugin: "", asked: packet.len(), answered: 0 }
    }
}

/// Who counts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Counter {
    /// The thread of a UDP socket, by its number: it alone does.
    Thread(usize),
    /// Any task.
    Task,
}

/// Counts the questions of one zone of one server.
pub(crate) struct Meter {
    server: String,
    zone: String,
    /// One for each thread, then that of the tasks.
    tallies: Box<[Tally]>,
}

impl Metrics {
    /// The meter of a server's zone, for as many UDP sockets.
    pub(crate) fn meter(&self, server: &str, zone: &str, threads: usize) -> Arc<Meter> {
        let mut meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
        let meter = || {
            let tallies = (0..=threads).map(|_| Tally::default()).collect();
            Arc::new(Meter { server: server.into(), zone: zone.into(), tallies })
        };
        meters.entry((server.into(), zone.into())).or_insert_with(meter).clone()
    }

    /// Adds all counts of questions.
    pub(crate) fn expose(&self, out: &mut Exposition) {
        let meters: Vec<_> = self.meters.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        for meter in meters {
            meter.expose(out);
        }
        self.proxies.expose(out);
    }
}

impl Meter {
    /// Counts a question that took so long.
    pub(crate) fn count(&self, counter: Counter, seen: &Seen, took: Duration) {
        let (index, alone) = match counter {
            Counter::Thread(index) => (index, true),
            Counter::Task => (self.tallies.len() - 1, false),
        };
        if let Some(tally) = self.tallies.get(index) {
            tally.count(seen, took, alone);
        }
    }

    fn expose(&self, out: &mut Exposition) {
        let zone = [("server", &*self.server), ("zone", &*self.zone), ("view", "")];
        let with = |more: &[(&'static str, &'static str)]| [&zone[..], more].concat();
        let sum = |of: &dyn Fn(&Tally) -> u64| self.tallies.iter().map(of).sum::<u64>();
        let total = tally::Totals::of(&self.tallies);
        for (transport, proto) in ["udp", "tcp"].into_iter().enumerate() {
            for (family, number) in ["1", "2"].into_iter().enumerate() {
                for (kind, (_, name)) in TYPES.iter().enumerate() {
                    let labels = with(&[("proto", proto), ("family", number), ("type", name)]);
                    let count = sum(&|tally| tally.requests(transport, family, kind));
                    let help = "Counter of DNS requests made per zone, protocol and family.";
                    out.seen("coredns_dns_requests_total", help, &labels, count);
                }
            }
            let (help, labels) = ("Size of the request in bytes per zone and protocol.", with(&[("proto", proto)]));
            out.histogram("coredns_dns_request_size_bytes", help, &labels, &SIZES, &total.asked[transport]);
            let help = "Size of the returned response in bytes.";
            out.histogram("coredns_dns_response_size_bytes", help, &labels, &SIZES, &total.answered[transport]);
        }
        let help = "Histogram of the time (in seconds) each request took per zone.";
        out.histogram("coredns_dns_request_duration_seconds", help, &zone, &TIMES, &total.took);
        let help = "Counter of DNS requests with DO bit set per zone.";
        out.seen("coredns_dns_do_requests_total", help, &zone, sum(&Tally::dnssec));
        for ((plugin, code), count) in total.codes {
            let code = rcode::name(code.into());
            let labels = [&zone[..], &[("rcode", &*code), ("plugin", plugin)]].concat();
            out.seen("coredns_dns_responses_total", "Counter of response status codes.", &labels, count);
        }
    }
}

#[cfg(test)]
mod tests;
