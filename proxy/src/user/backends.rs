//! Which endpoint a client gets.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ipnet::IpNet;
use state::{Key, Port, Service};
use tokio::sync::watch;
use tokio::time::Instant;

use super::plan::{Frontend, Rules};
use super::{Shared, lock};
use crate::endpoints::{self, Place};

/// How many endpoints one client tries.
const TRIES: usize = 5;

/// The endpoints behind a port; never empty.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Backends {
    /// The Service, for messages.
    pub(crate) service: Key,
    /// In order.
    endpoints: Vec<SocketAddr>,
    /// `sessionAffinity: ClientIP`: for how long a client stays.
    affinity: Option<Duration>,
    /// From where clients may come; empty means from everywhere.
    source_ranges: Vec<IpNet>,
}

impl Backends {
    /// None when there is nowhere to go.
    pub(crate) fn new(service: &Service, port: &Port, place: &Place, rules: Rules) -> Option<Self> {
        let Rules { ipv4, local, .. } = rules;
        let endpoints::Backends::Ready(mut endpoints) = endpoints::backends(service, port, place, local, ipv4) else {
            return None;
        };
        endpoints.sort_unstable();
        // Ranges of the other family alone let everyone in, as with kube-proxy.
        let ranges = service.source_ranges.iter().filter(|range| rules.ranges && range.addr().is_ipv4() == ipv4);
        Some(Backends {
            service: service.key.clone(),
            endpoints,
            affinity: service.affinity.map(|seconds| Duration::from_secs(seconds.into())),
            source_ranges: ranges.copied().collect(),
        })
    }

    pub(crate) fn contains(&self, endpoint: &SocketAddr) -> bool {
        self.endpoints.binary_search(endpoint).is_ok()
    }

    /// True when a client may come in.
    pub(crate) fn admits(&self, client: IpAddr) -> bool {
        self.source_ranges.is_empty() || self.source_ranges.iter().any(|range| range.contains(&client))
    }

    /// The first endpoints from the one whose turn it is, those that refused lately last.
    fn from(&self, turn: usize, refused: impl Fn(&SocketAddr) -> bool) -> Vec<SocketAddr> {
        let (before, after) = self.endpoints.split_at(turn % self.endpoints.len().max(1));
        let all = || after.iter().chain(before).copied();
        let willing = all().filter(|endpoint| !refused(endpoint)).take(TRIES);
        let mut order: Vec<SocketAddr> = willing.collect();
        if order.len() < TRIES.min(self.endpoints.len()) {
            order.extend(all().filter(refused).take(TRIES - order.len()));
        }
        order
    }
}

/// The endpoints of one port as they are now, and whose turn it is.
pub(crate) struct Choice {
    frontend: Frontend,
    backends: watch::Receiver<Arc<Backends>>,
    turn: AtomicUsize,
    pub(crate) shared: Arc<Shared>,
}

impl Choice {
    pub(crate) fn new(frontend: Frontend, backends: watch::Receiver<Arc<Backends>>, shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Choice { frontend, backends, turn: AtomicUsize::new(0), shared })
    }

    pub(crate) fn now(&self) -> Arc<Backends> {
        self.backends.borrow().clone()
    }

    /// The endpoints in the order in which this client tries them.
    pub(crate) fn order(&self, client: IpAddr, now: Instant) -> Vec<SocketAddr> {
        let backends = self.now();
        let held =
            backends.affinity.and_then(|timeout| lock(&self.shared.clients).get((self.frontend, client), timeout, now));
        let refused = self.shared.refusals.recent(self.frontend.protocol, now);
        let turn = || self.turn.fetch_add(1, Ordering::Relaxed);
        let first = held.and_then(|endpoint| backends.endpoints.binary_search(&endpoint).ok());
        backends.from(first.unwrap_or_else(turn), |endpoint| refused.contains(endpoint))
    }

    /// This endpoint has answered this client.
    pub(crate) fn taken(&self, client: IpAddr, endpoint: SocketAddr, now: Instant) {
        if self.backends.borrow().affinity.is_some() {
            lock(&self.shared.clients).put((self.frontend, client), endpoint, now);
        }
    }

    /// This endpoint has not answered.
    pub(crate) fn refused(&self, endpoint: SocketAddr, error: &io::Error, now: Instant) {
        let service = &self.now().service;
        self.shared.refusals.add(self.frontend.protocol, endpoint, service, error, now);
    }
}

#[cfg(test)]
mod tests;
