//! Which endpoint a client gets.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use state::{Key, Port, Service};
use tokio::sync::watch;

use crate::endpoints::{self, Place};

/// The endpoints behind a port; never empty.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Backends {
    /// The Service, for messages.
    pub(crate) service: Key,
    endpoints: Vec<SocketAddr>,
    /// `sessionAffinity: ClientIP`.
    sticky: bool,
}

impl Backends {
    /// None when there is nowhere to go.
    pub(crate) fn new(service: &Service, port: &Port, place: &Place) -> Option<Self> {
        match endpoints::backends(service, port, place, service.external_local, true) {
            endpoints::Backends::Ready(endpoints) => {
                Some(Backends { service: service.key.clone(), endpoints, sticky: service.affinity.is_some() })
            }
            endpoints::Backends::Elsewhere | endpoints::Backends::None => None,
        }
    }

    pub(crate) fn contains(&self, endpoint: &SocketAddr) -> bool {
        self.endpoints.contains(endpoint)
    }
}

/// The endpoints of one port as they are now, and whose turn it is.
pub(crate) struct Choice {
    backends: watch::Receiver<Arc<Backends>>,
    turn: AtomicUsize,
}

impl Choice {
    pub(crate) fn new(backends: watch::Receiver<Arc<Backends>>) -> Self {
        Choice { backends, turn: AtomicUsize::new(0) }
    }

    pub(crate) fn now(&self) -> Arc<Backends> {
        self.backends.borrow().clone()
    }

    /// All endpoints in the order in which this client's connection tries them.
    pub(crate) fn order(&self, client: IpAddr) -> Vec<SocketAddr> {
        let backends = self.now();
        let first = match backends.sticky {
            true => {
                let mut hasher = DefaultHasher::new();
                client.hash(&mut hasher);
                hasher.finish() as usize
            }
            false => self.turn.fetch_add(1, Ordering::Relaxed),
        };
        let mut order = backends.endpoints.clone();
        let count = order.len().max(1);
        order.rotate_left(first % count);
        order
    }
}
