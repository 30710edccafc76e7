//! `sessionAffinity: ClientIP`: who stays with which endpoint, at each port by itself.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::time::Instant;

use super::plan::Frontend;

/// How many clients are remembered; beyond them the one that was silent for longest is forgotten.
const CLIENTS: usize = 20_000;

/// Who comes to which port.
type Client = (Frontend, IpAddr);

/// The clients of all ports.
#[derive(Default)]
pub(crate) struct Affinity {
    clients: HashMap<Client, Held>,
    /// The clients by when they came last.
    order: BTreeMap<u64, Client>,
    next: u64,
}

struct Held {
    endpoint: SocketAddr,
    since: Instant,
    place: u64,
}

impl Affinity {
    /// The client's endpoint, unless it came last more than `timeout` ago.
    pub(crate) fn get(&self, client: Client, timeout: Duration, now: Instant) -> Option<SocketAddr> {
        let held = self.clients.get(&client)?;
        (now.duration_since(held.since) < timeout).then_some(held.endpoint)
    }

    /// The client came just now, and got this endpoint.
    pub(crate) fn put(&mut self, client: Client, endpoint: SocketAddr, since: Instant) {
        let place = self.next;
        self.next += 1;
        if let Some(old) = self.clients.insert(client, Held { endpoint, since, place }) {
            self.order.remove(&old.place);
        }
        self.order.insert(place, client);
        if self.order.len() > CLIENTS
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.clients.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use state::Protocol;

    use super::*;

    #[test]
    fn clients_stay_until_they_were_silent_or_too_many_came() {
        let at = "10.96.0.80:80".parse().expect("an address");
        let client = |i: u32| (Frontend { protocol: Protocol::Tcp, at }, IpAddr::from(i.to_be_bytes()));
        let endpoint = |port| SocketAddr::from(([10, 0, 0, 1], port));
        let (mut affinity, start, timeout) = (Affinity::default(), Instant::now(), Duration::from_secs(10));
        let at = |seconds| start + Duration::from_secs(seconds);
        affinity.put(client(0), endpoint(1), at(0));
        assert_eq!(affinity.get(client(0), timeout, at(9)), Some(endpoint(1)));
        assert_eq!(affinity.get(client(0), timeout, at(10)), None);
        assert_eq!(affinity.get(client(1), timeout, at(0)), None);
        // It counts from when it came last, and the others that came since are forgotten before it.
        affinity.put(client(1), endpoint(3), at(8));
        affinity.put(client(0), endpoint(2), at(9));
        assert_eq!(affinity.get(client(0), timeout, at(18)), Some(endpoint(2)));
        (2..=CLIENTS as u32).for_each(|i| affinity.put(client(i), endpoint(4), at(9)));
        assert_eq!(affinity.get(client(1), timeout, at(9)), None);
        assert_eq!(affinity.get(client(0), timeout, at(9)), Some(endpoint(2)));
        assert_eq!((affinity.clients.len(), affinity.order.len()), (CLIENTS, CLIENTS));
    }
}
