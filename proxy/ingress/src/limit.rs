//! How much each client may ask: nginx's leaky buckets (`limit_req`, without delay) and its count of requests at once
//! (`limit_conn`).

use std::hash::BuildHasher as _;
use std::hash::RandomState;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use state::Key;
use tokio::time::Instant;

use crate::Limits;
use crate::recent::Recent;

/// How many clients are remembered, over all Ingresses: those that asked last.
const CLIENTS: usize = 1 << 16;

/// All clients of Ingresses with limits, for all threads.
#[derive(Debug)]
pub(crate) struct Clients {
    hasher: RandomState,
    known: Mutex<Recent<(u64, IpAddr), Client>>,
}

/// One client of one Ingress.
#[derive(Debug, Default)]
struct Client {
    second: Bucket,
    minute: Bucket,
    at_once: u32,
}

/// How many requests a client is ahead of its rate; none before its first.
#[derive(Debug, Clone, Copy, Default)]
struct Bucket(Option<(f64, Instant)>);

impl Bucket {
    /// The bucket after one more request, if that is allowed.
    fn more(self, count: u32, per: Duration, burst: u32, now: Instant) -> Option<Self> {
        let ahead = self.0.map_or(0.0, |(ahead, at)| {
            let leaked = now.saturating_duration_since(at).as_secs_f64() * f64::from(count) / per.as_secs_f64();
            (ahead - leaked + 1.0).max(0.0)
        });
        (ahead <= f64::from(count) * f64::from(burst)).then_some(Bucket(Some((ahead, now))))
    }
}

/// A request under way, where they are counted.
#[derive(Debug)]
pub(crate) struct Place {
    clients: Arc<Clients>,
    who: (u64, IpAddr),
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut known = self.clients.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = known.get(&self.who) {
            client.at_once = client.at_once.saturating_sub(1);
        }
    }
}

impl Default for Clients {
    fn default() -> Self {
        Clients { hasher: RandomState::new(), known: Mutex::new(Recent::new(CLIENTS)) }
    }
}

impl Clients {
    /// Whether `from` may send one more request to `ingress` at this moment; with a place for as long as it lasts.
    pub(crate) fn admit(
        self: &Arc<Self>,
        limits: &Limits,
        ingress: &Key,
        from: IpAddr,
        now: Instant,
    ) -> Result<Option<Place>, Refused> {
        if limits.exempt.iter().any(|net| net.contains(&from)) {
            return Ok(None);
        }
        let who = (self.hasher.hash_one(ingress), from);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let client = match known.get(&who) {
            Some(client) => client,
            None => {
                known.insert(who, Client::default());
                known.get(&who).ok_or(Refused)?
            }
        };
        if limits.at_once.is_some_and(|most| client.at_once >= most) {
            return Err(Refused);
        }
        let more = |bucket: Bucket, count: Option<u32>, per| match count {
            Some(count) => bucket.more(count, per, limits.burst, now).ok_or(Refused),
            None => Ok(bucket),
        };
        let second = more(client.second, limits.per_second, Duration::from_secs(1))?;
        client.minute = more(client.minute, limits.per_minute, Duration::from_secs(60))?;
        client.second = second;
        Ok(limits.at_once.map(|_| {
            client.at_once += 1;
            Place { clients: self.clone(), who }
        }))
    }
}

/// A client asks too much.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused;

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn limits(per_second: Option<u32>, per_minute: Option<u32>, at_once: Option<u32>) -> Limits {
        Limits { per_second, per_minute, at_once, burst: 5, exempt: vec!["10.0.0.0/8".parse().unwrap()] }
    }

    #[test]
    fn rates_leak() {
        let (clients, now) = (Arc::new(Clients::default()), Instant::now());
        let app = Key::new("default", "app");
        let limits = limits(Some(2), None, None);
        // Of so many requests after so many milliseconds so many are allowed.
        for (after, asked, allowed) in [(0, 100, 11), (100, 1, 0), (500, 100, 1), (1500, 100, 2), (60_000, 100, 11)] {
            let at = now + Duration::from_millis(after);
            let answers = (0..asked).map(|_| clients.admit(&limits, &app, FROM, at).is_ok());
            assert_eq!(answers.filter(|allowed| *allowed).count(), allowed, "after {after} ms");
        }
        let at = now + Duration::from_secs(60);
        assert!(clients.admit(&limits, &Key::new("default", "other"), FROM, at).is_ok(), "another Ingress");
        assert!(clients.admit(&limits, &app, "192.0.2.2".parse().unwrap(), at).is_ok(), "another client");
        for _ in 0..100 {
            assert!(clients.admit(&limits, &app, "10.1.2.3".parse().unwrap(), at).is_ok(), "one without limits");
        }
    }

    #[test]
    fn a_minute_and_places() {
        let (clients, now) = (Arc::new(Clients::default()), Instant::now());
        let app = Key::new("default", "app");
        let minute = limits(None, Some(1), None);
        assert_eq!((0..20).filter(|_| clients.admit(&minute, &app, FROM, now).is_ok()).count(), 6);
        let places = limits(None, None, Some(2));
        let other = Key::new("default", "other");
        let (one, two) = (clients.admit(&places, &other, FROM, now), clients.admit(&places, &other, FROM, now));
        assert!(one.is_ok() && two.is_ok());
        assert_eq!(clients.admit(&places, &other, FROM, now).err(), Some(Refused));
        drop(one);
        assert!(clients.admit(&places, &other, FROM, now).is_ok());
    }
}
