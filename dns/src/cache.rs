//! Answers that are kept for a while, ready to be sent.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hickory_proto::op::Message;
use tokio::time::Instant;

use crate::question::{Question, within};

mod entry;
mod lifetime;
mod store;

pub(crate) use entry::{Entry, Prefetch, Refresh};
use lifetime::Kind;
pub(crate) use lifetime::{Bounds, resolves};
pub(crate) use store::Store;

/// The types IXFR and AXFR.
const TRANSFERS: std::ops::RangeInclusive<u16> = 251..=252;

/// What is kept, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The names that are kept: zones as they are in packets, in lower case.
    pub(crate) zones: Vec<Box<[u8]>>,
    pub(crate) success: Class,
    pub(crate) denial: Class,
    /// How long SERVFAIL is kept, in seconds.
    pub(crate) failure: u32,
    pub(crate) prefetch: Option<Prefetch>,
    pub(crate) stale: Option<Stale>,
    /// TTLs are not counted down.
    pub(crate) keep: bool,
}

/// What is kept of successes, or of denials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Class {
    /// How many answers.
    pub(crate) capacity: usize,
    pub(crate) bounds: Bounds,
    /// Zones of which none is kept.
    pub(crate) except: Vec<Box<[u8]>>,
}

/// What becomes of answers that are too old (RFC 8767).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stale {
    /// How long they are still answers.
    pub(crate) period: Duration,
    /// They are answers only if asking again fails, or takes longer than this.
    pub(crate) verify: Option<Option<Duration>>,
    /// Their TTL.
    pub(crate) ttl: u32,
    /// How long to wait after asking again failed.
    pub(crate) recheck: Duration,
    /// A success is not given up for a denial as long as it is an answer.
    pub(crate) positive: bool,
}

/// What happened, for the metrics. The number of questions is that of hits and misses.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) success: AtomicU64,
    pub(crate) denial: AtomicU64,
    pub(crate) misses: AtomicU64,
    pub(crate) prefetches: AtomicU64,
    /// Answers to another question than the one asked.
    pub(crate) drops: AtomicU64,
    pub(crate) stale: AtomicU64,
}

/// The cache of a server block.
pub(crate) struct Cache {
    pub(crate) settings: Settings,
    pub(crate) success: Store,
    pub(crate) denial: Store,
    pub(crate) counts: Counts,
    hasher: RandomState,
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Cache {
    pub(crate) fn new(settings: Settings) -> Self {
        Cache {
            success: Store::new(settings.success.capacity),
            denial: Store::new(settings.denial.capacity),
            settings,
            counts: Counts::default(),
            hasher: RandomState::new(),
        }
    }

    /// True when answers to this question may be kept: not of a transfer, nor of other zones.
    pub(crate) fn serves(&self, question: &Question) -> bool {
        !TRANSFERS.contains(&question.kind) && any(&self.settings.zones, question)
    }

    /// Writes the answer to a question into `out` and returns its length, if there is one that is
    /// not too old, short enough for the client, and not to be fetched again.
    pub(crate) fn reply(&self, question: &Question, out: &mut [u8], turn: usize, now: Instant) -> Option<usize> {
        let (entry, hits) = self.find(question, now).filter(|_| self.serves(question))?;
        let ttl = u32::try_from(entry.left(now)).ok().filter(|left| *left > 0)?;
        if self.wanted(&entry, now) {
            return None;
        }
        let ttl = if self.settings.keep { entry.ttl } else { ttl };
        let length = entry.write(question, ttl, out, turn)?;
        count(hits);
        Some(length)
    }

    /// Counts a question for an entry; true when it is to be fetched again.
    pub(crate) fn wanted(&self, entry: &Entry, now: Instant) -> bool {
        self.settings.prefetch.is_some_and(|prefetch| entry.asked(prefetch, now))
    }

    /// The entry for a question, not older than it may be, and what counts it as a hit.
    pub(crate) fn find(&self, question: &Question, now: Instant) -> Option<(Arc<Entry>, &AtomicU64)> {
        let hash = self.hash(question);
        let oldest = self.settings.stale.map_or(0, |stale| -(stale.period.as_secs() as i64));
        let get = |store: &Store| {
            let entry = store.get(hash)?;
            let left = entry.left(now);
            ((left > 0 || left > oldest) && entry.answers(question)).then_some(entry)
        };
        let success = get(&self.success).map(|entry| (entry, &self.counts.success));
        success.or_else(|| Some((get(&self.denial)?, &self.counts.denial)))
    }

    /// Keeps an answer to a question if it may be kept, with its TTLs cut to the time that it is.
    /// `unix` is that of `now` in seconds since 1970, and `old` what was fetched again.
    pub(crate) fn keep(
        &self,
        question: &Question,
        message: &mut Message,
        now: Instant,
        unix: u32,
        old: Option<&Entry>,
    ) {
        let Some(kind) = lifetime::kind(message, unix) else {
            return;
        };
        let (store, class) = match kind {
            Kind::Success => (&self.success, &self.settings.success),
            Kind::Denial | Kind::Failure => (&self.denial, &self.settings.denial),
        };
        let ttl = match kind {
            Kind::Failure => self.settings.failure,
            Kind::Success | Kind::Denial => lifetime::ttl(message, kind, class.bounds),
        };
        let sections = [&mut message.answers, &mut message.authorities, &mut message.additionals];
        sections.into_iter().flatten().for_each(|record| record.ttl = ttl);
        if ttl == 0 || any(&class.except, question) {
            return;
        }
        let Some(entry) = Entry::new(question, message, ttl, now) else {
            return;
        };
        let (hash, positive) = (self.hash(question), self.settings.stale.is_some_and(|stale| stale.positive));
        if positive && kind == Kind::Success && !resolves(message) && self.success.get(hash).is_some() {
            return;
        }
        if let Some(old) = old {
            entry.inherit(old);
        }
        store.insert(hash, Arc::new(entry));
        // What came last counts, but a failure is no reason to forget a success.
        match kind {
            Kind::Success => self.denial.remove(hash),
            Kind::Denial if !positive => self.success.remove(hash),
            Kind::Denial | Kind::Failure => {}
        }
    }

    /// Forgets what was kept for a question.
    pub(crate) fn forget(&self, question: &Question) {
        let hash = self.hash(question);
        self.success.remove(hash);
        self.denial.remove(hash);
    }

    fn hash(&self, question: &Question) -> u64 {
        self.hasher.hash_one((question.name(), question.kind, entry::bits(question)))
    }
}

/// True when the question's name is in one of these zones.
fn any(zones: &[Box<[u8]>], question: &Question) -> bool {
    zones.iter().any(|zone| within(question.name(), zone))
}

#[cfg(test)]
mod tests;
