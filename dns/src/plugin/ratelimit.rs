//! How many questions a client may ask by UDP, where its address may be another's: who forges it
//! shall not make us flood that one. CoreDNS has nothing of the kind in its core.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::chain::Setup;
use crate::corefile::{self, Directive};

/// How many clients are remembered; with more, those of a shard are forgotten.
const CLIENTS: usize = 1 << 16;

const SHARDS: usize = 16;

/// A bucket of tokens for each client: an IPv4 address, or an IPv6 network of 64 bits, which is what
/// one client has.
pub(crate) struct Limit {
    /// Between two questions of the rate.
    interval: Duration,
    /// How far a client may be ahead of its rate.
    ahead: Duration,
    /// When a client's bucket will be full again; one that is not here has a full one.
    full: [Mutex<HashMap<IpAddr, Instant>>; SHARDS],
    hasher: RandomState,
    limited: AtomicU64,
}

/// `ratelimit QUERIES_PER_SECOND [BURST]`: over UDP, for each client address. Of the questions over it
/// every second one is answered with nothing but TC, so that a real client asks again by TCP.
pub(crate) fn setup(directive: &Directive, setup: &mut Setup) -> Result<(), corefile::Error> {
    directive.once(setup.block)?;
    directive.bodiless()?;
    let words = directive.line().between(1, 2)?;
    let rate = words[0].number(1..=1_000_000u32)?;
    let burst = words.get(1).map_or(Ok(rate), |word| word.number(1..=1_000_000))?;
    let limit = Arc::new(Limit::new(rate, burst));
    let counted = limit.clone();
    setup.beside.collectors.push(Box::new(move |out, server| {
        let help = "Counter of questions over UDP that were not answered because their client asks too much.";
        let count = counted.limited.load(Ordering::Relaxed);
        out.counter("coredns_ratelimit_limited_total", help, &[("server", server)], count);
    }));
    setup.quick.limit = Some(limit);
    Ok(())
}

impl Limit {
    fn new(rate: u32, burst: u32) -> Self {
        let interval = Duration::from_secs(1) / rate;
        let (full, hasher, limited) = Default::default();
        Limit { interval, ahead: interval * (burst - 1), full, hasher, limited }
    }

    /// Whether a client may ask now; if so, that is one question less.
    pub(crate) fn admit(&self, client: IpAddr, now: Instant) -> bool {
        let client = match client {
            IpAddr::V4(_) => client,
            IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        };
        let shard = &self.full[self.hasher.hash_one(client) as usize % SHARDS];
        let mut full = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let at = full.get(&client).map_or(now, |at| (*at).max(now));
        if at - now > self.ahead {
            self.limited.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        if full.len() >= CLIENTS / SHARDS {
            full.retain(|_, at| *at > now);
            if full.len() >= CLIENTS / SHARDS {
                full.clear();
            }
        }
        full.insert(client, at + self.interval);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn bursts_and_rates_of_each_client() {
        let limit = Limit::new(10, 3);
        let begin = Instant::now();
        let asks = |client: &str, millis| limit.admit(client.parse().unwrap(), begin + Duration::from_millis(millis));
        for (client, millis, want) in [
            ("10.0.0.1", 0, true),
            ("10.0.0.1", 0, true),
            ("10.0.0.1", 0, true),
            ("10.0.0.1", 0, false),
            ("10.0.0.2", 0, true),
            ("10.0.0.1", 99, false),
            ("10.0.0.1", 100, true),
            ("10.0.0.1", 100, false),
            // Full again, not fuller.
            ("10.0.0.1", 5000, true),
            ("10.0.0.1", 5000, true),
            ("10.0.0.1", 5000, true),
            ("10.0.0.1", 5000, false),
            ("2001:db8::1", 0, true),
            ("2001:db8::2", 0, true),
            ("2001:db8::3:0:0:0", 0, true),
            ("2001:db8::4", 0, false),
            ("2001:db8:0:1::4", 0, true),
        ] {
            assert_eq!(asks(client, millis), want, "{client} {millis}");
        }
        assert_eq!(limit.limited.into_inner(), 5);
    }

    #[test]
    fn the_table_is_bounded() {
        let (limit, now) = (Limit::new(1, 1), Instant::now());
        for bits in 0..3 * CLIENTS as u32 {
            assert!(limit.admit(std::net::Ipv4Addr::from_bits(bits).into(), now));
        }
        assert!(limit.full.iter().all(|shard| shard.lock().unwrap().len() <= CLIENTS / SHARDS));
    }

    #[test]
    fn errors() {
        let snapshot = fixture::cluster().snapshot();
        for directive in
            ["ratelimit", "ratelimit 0", "ratelimit x", "ratelimit 5 0", "ratelimit 5 5 5", "ratelimit 5 {\n a\n }"]
        {
            assert!(fixture::try_servers(directive, snapshot.clone()).is_err(), "{directive}");
        }
    }
}
