//! What the cache counts, under CoreDNS's names.

use std::sync::atomic::{AtomicU64, Ordering};

use hickory_proto::rr::Name;
use hickory_proto::serialize::binary::BinDecodable;

use crate::cache::Cache;
use crate::metrics::Exposition;

/// Adds what the cache of a server has counted.
pub(super) fn collect(cache: &Cache, out: &mut Exposition, server: &str) {
    let zones = cache.settings.zones.iter().filter_map(|zone| Name::from_bytes(zone).ok());
    let zones = zones.map(|zone| zone.to_string()).collect::<Vec<_>>().join(",");
    let labels = [("server", server), ("zones", &*zones), ("view", "")];
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let counts = &cache.counts;
    let mut hits = 0;
    for (kind, store, counter) in
        [("success", &cache.success, &counts.success), ("denial", &cache.denial, &counts.denial)]
    {
        let labels = [&labels[..], &[("type", kind)]].concat();
        out.gauge("coredns_cache_entries", "The number of elements in the cache.", &labels, store.len() as f64);
        out.seen("coredns_cache_hits_total", "The count of cache hits.", &labels, read(counter));
        let evictions = read(&store.evictions);
        out.seen("coredns_cache_evictions_total", "The count of cache evictions.", &labels, evictions);
        hits += read(counter);
    }
    let misses = read(&counts.misses);
    let totals = [
        ("coredns_cache_requests_total", "The count of cache requests.", hits + misses),
        ("coredns_cache_misses_total", "The count of cache misses.", misses),
        ("coredns_cache_prefetch_total", "The count of cached items that were prefetched.", read(&counts.prefetches)),
        ("coredns_cache_drops_total", "The count of responses that do not fit their question.", read(&counts.drops)),
        ("coredns_cache_served_stale_total", "The count of requests served from stale entries.", read(&counts.stale)),
    ];
    for (name, help, count) in totals {
        out.seen(name, help, &labels, count);
    }
}
