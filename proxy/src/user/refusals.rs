//! Endpoints that did not answer: they are tried last for a while, and reported, but not each time.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use state::{Key, Protocol};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::lock;

/// For how long an endpoint that refused is tried last.
const AVOID: Duration = Duration::from_secs(5);
/// How often the same endpoint is reported.
const QUIET: Duration = Duration::from_secs(60);
/// How many endpoints are remembered.
const ENDPOINTS: usize = 1000;

/// The endpoints that refused lately.
#[derive(Default)]
pub(crate) struct Refusals {
    recent: Mutex<HashMap<(Protocol, SocketAddr), Refusal>>,
    /// How often any endpoint did not answer.
    pub(crate) count: AtomicU64,
}

struct Refusal {
    last: Instant,
    reported: Instant,
}

impl Refusals {
    /// Takes note of a refusal, and reports it if that was not done lately.
    pub(crate) fn add(&self, protocol: Protocol, endpoint: SocketAddr, service: &Key, error: &io::Error, now: Instant) {
        self.count.fetch_add(1, Ordering::Relaxed);
        match self.note(protocol, endpoint, now) {
            true => warn!("endpoint {endpoint} of the Service {service} refuses {protocol} ({error}); trying others"),
            false => debug!("endpoint {endpoint} of the Service {service}: {error}"),
        }
    }

    /// True when it should be reported.
    fn note(&self, protocol: Protocol, endpoint: SocketAddr, now: Instant) -> bool {
        let mut recent = lock(&self.recent);
        if let Some(refusal) = recent.get_mut(&(protocol, endpoint)) {
            refusal.last = now;
            let report = now.duration_since(refusal.reported) >= QUIET;
            if report {
                refusal.reported = now;
            }
            return report;
        }
        if recent.len() >= ENDPOINTS {
            recent.retain(|_, refusal| now.duration_since(refusal.reported) < QUIET);
        }
        if recent.len() < ENDPOINTS {
            recent.insert((protocol, endpoint), Refusal { last: now, reported: now });
            return true;
        }
        false
    }

    /// The endpoints that are tried last.
    pub(crate) fn recent(&self, protocol: Protocol, now: Instant) -> HashSet<SocketAddr> {
        let recent = lock(&self.recent);
        let lately =
            recent.iter().filter(|((of, _), refusal)| *of == protocol && now.duration_since(refusal.last) < AVOID);
        lately.map(|((_, endpoint), _)| *endpoint).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_avoided_for_seconds_and_reported_once_a_minute() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let endpoint = |i: u16| SocketAddr::from(([10, 0, 0, 1], i));
        let one = endpoint(0);
        let times = [(0, true), (1, false), (59, false), (60, true), (61, false)];
        for (seconds, report) in times {
            assert_eq!(refusals.note(Protocol::Tcp, one, at(seconds)), report, "at {seconds} s");
        }
        assert_eq!(refusals.recent(Protocol::Tcp, at(65)), HashSet::from([one]));
        assert_eq!(refusals.recent(Protocol::Udp, at(65)), HashSet::new());
        assert_eq!(refusals.recent(Protocol::Tcp, at(66)), HashSet::new());
        // They are bounded, and old ones make room.
        for i in 0..2000 {
            refusals.note(Protocol::Tcp, endpoint(i), at(70));
        }
        assert_eq!(lock(&refusals.recent).len(), ENDPOINTS);
        assert!(!refusals.note(Protocol::Tcp, endpoint(3000), at(100)));
        assert!(refusals.note(Protocol::Tcp, endpoint(3000), at(200)));
    }
}
