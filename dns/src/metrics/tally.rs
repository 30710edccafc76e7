//! The counts of one thread, which nobody else writes, or of all tasks.

use std::array;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::Seen;
use crate::request::Transport;

/// The types of questions that have a name of their own; the last one is all others.
pub(super) const TYPES: [(u16, &str); 20] = [
    (1, "A"),
    (28, "AAAA"),
    (33, "SRV"),
    (12, "PTR"),
    (5, "CNAME"),
    (16, "TXT"),
    (6, "SOA"),
    (2, "NS"),
    (15, "MX"),
    (65, "HTTPS"),
    (64, "SVCB"),
    (43, "DS"),
    (48, "DNSKEY"),
    (46, "RRSIG"),
    (47, "NSEC"),
    (50, "NSEC3"),
    (251, "IXFR"),
    (252, "AXFR"),
    (255, "ANY"),
    (0, "other"),
];

/// Upper bounds of sizes in bytes.
pub(super) const SIZES: [f64; 14] =
    [0., 100., 200., 300., 400., 511., 1023., 2047., 4095., 8291., 16e3, 32e3, 48e3, 64e3];

/// Upper bounds of times in seconds: from 0.25 ms, twice as much each.
pub(super) const TIMES: [f64; 16] = {
    let mut bounds = [0.00025; 16];
    let mut index = 1;
    while index < bounds.len() {
        bounds[index] = bounds[index - 1] * 2.;
        index += 1;
    }
    bounds
};

/// The plugins that answer the quick way.
const READY: [&str; 2] = ["kubernetes", "cache"];

/// Codes below this one are counted in a table for those plugins.
const CODES: usize = 16;

/// How many observations are up to each bound, and beyond the last one; and the sum of all, in
/// bytes or nanoseconds.
pub(super) struct Histogram<const N: usize> {
    counts: [AtomicU64; N],
    beyond: AtomicU64,
    sum: AtomicU64,
}

/// Its own cache lines: threads do not share them.
#[repr(align(128))]
pub(super) struct Tally {
    /// By transport, family and type.
    requests: [[[AtomicU64; TYPES.len()]; 2]; 2],
    dnssec: AtomicU64,
    ready: [[AtomicU64; CODES]; READY.len()],
    /// By plugin and code, where that is not in `ready`.
    others: Mutex<BTreeMap<(&'static str, u16), u64>>,
    took: Histogram<{ TIMES.len() }>,
    asked: [Histogram<{ SIZES.len() }>; 2],
    answered: [Histogram<{ SIZES.len() }>; 2],
}

/// Adds; `alone` is true when nobody else does.
fn add(to: &AtomicU64, number: u64, alone: bool) {
    if alone {
        to.store(to.load(Ordering::Relaxed).wrapping_add(number), Ordering::Relaxed);
    } else {
        to.fetch_add(number, Ordering::Relaxed);
    }
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        Histogram { counts: array::from_fn(|_| AtomicU64::default()), beyond: AtomicU64::default(), sum: 0.into() }
    }
}

impl<const N: usize> Histogram<N> {
    pub(super) fn observe(&self, bounds: &[f64; N], value: f64, sum: u64, alone: bool) {
        let bucket = bounds.iter().position(|bound| value <= *bound);
        add(bucket.map_or(&self.beyond, |index| &self.counts[index]), 1, alone);
        add(&self.sum, sum, alone);
    }
}

impl Default for Tally {
    fn default() -> Self {
        let zero = |_| AtomicU64::default();
        Tally {
            requests: array::from_fn(|_| array::from_fn(|_| array::from_fn(zero))),
            dnssec: 0.into(),
            ready: array::from_fn(|_| array::from_fn(zero)),
            others: Mutex::default(),
            took: Histogram::default(),
            asked: Default::default(),
            answered: Default::default(),
        }
    }
}

impl Tally {
    pub(super) fn count(&self, seen: &Seen, took: Duration, alone: bool) {
        let transport = usize::from(seen.transport == Transport::Tcp);
        let family = usize::from(seen.client.is_ipv6());
        let kind = TYPES.iter().position(|(number, _)| *number == seen.kind).unwrap_or(TYPES.len() - 1);
        add(&self.requests[transport][family][kind], 1, alone);
        if seen.dnssec {
            add(&self.dnssec, 1, alone);
        }
        let code = usize::from(seen.code);
        match READY.iter().position(|plugin| *plugin == seen.plugin) {
            Some(plugin) if code < CODES => add(&self.ready[plugin][code], 1, alone),
            _ => {
                let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
                *others.entry((seen.plugin, seen.code)).or_default() += 1;
            }
        }
        self.took.observe(&TIMES, took.as_secs_f64(), took.as_nanos() as u64, alone);
        self.asked[transport].observe(&SIZES, seen.asked as f64, seen.asked as u64, alone);
        self.answered[transport].observe(&SIZES, seen.answered as f64, seen.answered as u64, alone);
    }

    pub(super) fn requests(&self, transport: usize, family: usize, kind: usize) -> u64 {
        self.requests[transport][family][kind].load(Ordering::Relaxed)
    }

    pub(super) fn dnssec(&self) -> u64 {
        self.dnssec.load(Ordering::Relaxed)
    }
}

/// A histogram, read: the counts of its buckets, of what is beyond them last, and the sum.
pub(crate) type Read = (Vec<u64>, f64);

/// Several tallies, added up.
pub(super) struct Totals {
    pub(super) codes: BTreeMap<(&'static str, u16), u64>,
    pub(super) took: Read,
    pub(super) asked: [Read; 2],
    pub(super) answered: [Read; 2],
}

impl Totals {
    pub(super) fn of(tallies: &[Tally]) -> Self {
        let mut codes = BTreeMap::<_, u64>::new();
        for tally in tallies {
            for (plugin, counts) in READY.iter().zip(&tally.ready) {
                for (code, count) in (0..).zip(counts) {
                    *codes.entry((*plugin, code)).or_default() += count.load(Ordering::Relaxed);
                }
            }
            for (key, count) in &*tally.others.lock().unwrap_or_else(PoisonError::into_inner) {
                *codes.entry(*key).or_default() += count;
            }
        }
        Totals {
            codes,
            took: read(tallies.iter().map(|tally| &tally.took), 1e-9),
            asked: [0, 1].map(|transport| read(tallies.iter().map(|tally| &tally.asked[transport]), 1.)),
            answered: [0, 1].map(|transport| read(tallies.iter().map(|tally| &tally.answered[transport]), 1.)),
        }
    }
}

/// Adds histograms up whose sums are in this unit.
pub(super) fn read<'a, const N: usize>(histograms: impl Iterator<Item = &'a Histogram<N>>, unit: f64) -> Read {
    let (mut counts, mut sum) = (vec![0; N + 1], 0.);
    for histogram in histograms {
        for (total, count) in counts.iter_mut().zip(histogram.counts.iter().chain([&histogram.beyond])) {
            *total += count.load(Ordering::Relaxed);
        }
        sum += histogram.sum.load(Ordering::Relaxed) as f64 * unit;
    }
    (counts, sum)
}
