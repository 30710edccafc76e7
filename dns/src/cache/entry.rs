//! An answer as it will be sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use hickory_proto::op::Message;
use tokio::time::Instant;

use crate::question::{Question, UDP_SIZE};

/// The header's flags: always that the answer is authoritative, since there are clients that take
/// no other (as CoreDNS does); and those that depend on the question.
const ANSWER: u8 = 0x84;
const RECURSION_DESIRED: u8 = 0x01;
const AUTHENTIC_DATA: u8 = 0x20;
const CHECKING_DISABLED: u8 = 0x10;

/// What a record has between its name and its data: type, class, TTL, length.
const FIXED: usize = 10;

/// A kept answer: the packet to its question in lower case, without EDNS. When it is sent, the
/// question's own header and name are put in front, which are as long, so that the pointers of
/// compressed names stay right, and its TTLs are overwritten.
pub(crate) struct Entry {
    /// The packet, and then where its TTLs are, in two bytes each: a hit touches little memory.
    bytes: Box<[u8]>,
    /// The length of the packet.
    length: usize,
    addresses: Run,
    /// What of the question beside its name and type leads to another answer.
    bits: u8,
    /// Seconds that it lives, from `stored` on.
    pub(crate) ttl: u32,
    stored: Instant,
    popularity: Popularity,
    refreshing: AtomicBool,
    /// In milliseconds from `stored`: not to be refreshed before.
    retry: AtomicU64,
}

/// Addresses: `count` records of `size` bytes, one after the other.
#[derive(Default)]
struct Run {
    start: u16,
    size: u16,
    count: u16,
}

/// How often an entry was asked for without a long gap.
#[derive(Default)]
struct Popularity {
    hits: AtomicU32,
    /// In milliseconds from `stored`.
    last: AtomicU64,
}

/// When an entry is fetched again before it is too old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Prefetch {
    /// How often it must have been asked for…
    pub(crate) amount: u32,
    /// … without a gap of that length.
    pub(crate) gap: Duration,
    /// How much of its time is left then.
    pub(crate) percentage: u32,
}

/// The bits of the question that are a part of an entry's key: DO and CD.
pub(super) fn bits(question: &Question) -> u8 {
    u8::from(question.dnssec()) | question.asked()[3] & CHECKING_DISABLED
}

impl Entry {
    /// Keeps an answer to a question, or `None` when it can't be encoded.
    pub(super) fn new(question: &Question, message: &Message, ttl: u32, stored: Instant) -> Option<Self> {
        let mut message = message.clone();
        let query = message.queries.first_mut()?;
        let name = query.name.to_lowercase();
        let asked = std::mem::replace(&mut query.name, name.clone());
        for record in message.answers.iter_mut().chain(&mut message.authorities).chain(&mut message.additionals) {
            if record.name == asked {
                // Each client gets it as it asked.
                record.name = name.clone();
            }
        }
        (message.edns, message.signature) = (None, None);
        let mut bytes = message.to_vec().ok()?;
        let length = bytes.len();
        let (ttls, addresses) = records(&bytes, question.asked().len())?;
        bytes.extend(ttls.into_iter().flat_map(u16::to_be_bytes));
        Some(Entry {
            bytes: bytes.into(),
            length,
            addresses,
            bits: bits(question),
            ttl,
            stored,
            popularity: Popularity::default(),
            refreshing: AtomicBool::new(false),
            retry: AtomicU64::new(0),
        })
    }

    /// How many bytes it has.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// True when it is an answer to that question.
    pub(super) fn answers(&self, question: &Question) -> bool {
        let (name, [high, low]) = (question.name(), question.kind.to_be_bytes());
        let rest = self.bytes[12..].strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(&[high, low])) && self.bits == bits(question)
    }

    /// Seconds that it still lives; below one it does not, and is stale since.
    pub(crate) fn left(&self, now: Instant) -> i64 {
        i64::from(self.ttl) - now.saturating_duration_since(self.stored).as_secs() as i64
    }

    /// Writes the answer to a question into `out` and returns its length, or `None` when its
    /// client does not take one that long. `turn` rotates the addresses.
    pub(crate) fn write(&self, question: &Question, ttl: u32, out: &mut [u8], turn: usize) -> Option<usize> {
        let (head, option) = (question.asked(), question.option());
        let (asked, (packet, ttls)) = (head.len(), self.bytes.split_at(self.length));
        let body = packet.len();
        let length = body + option.len();
        if length > question.limit(out.len()) {
            return None;
        }
        out[..asked].copy_from_slice(head);
        let authentic = if question.dnssec() { AUTHENTIC_DATA } else { head[3] & AUTHENTIC_DATA };
        out[2] = ANSWER | head[2] & RECURSION_DESIRED;
        out[3] = packet[3] & (authentic | !(AUTHENTIC_DATA | CHECKING_DISABLED)) | head[3] & CHECKING_DISABLED;
        out[6..12].copy_from_slice(&packet[6..12]);
        out[asked..body].copy_from_slice(&packet[asked..]);
        out[body..length].copy_from_slice(option);
        if !option.is_empty() {
            let additionals = u16::from_be_bytes([out[10], out[11]]) + 1;
            out[10..12].copy_from_slice(&additionals.to_be_bytes());
        }
        let [start, size, count] = [self.addresses.start, self.addresses.size, self.addresses.count].map(usize::from);
        if count > 1 {
            out[start..start + size * count].rotate_left(turn % count * size);
        }
        for at in ttls.as_chunks().0 {
            let at = usize::from(u16::from_be_bytes(*at));
            out[at..at + 4].copy_from_slice(&ttl.to_be_bytes());
        }
        Some(length)
    }

    /// The answer to a question, of any length.
    pub(crate) fn message(&self, question: &Question, ttl: u32) -> Option<Message> {
        let mut out = vec![0; self.length + UDP_SIZE];
        let length = self.write(question, ttl, &mut out, 0)?;
        Message::from_vec(&out[..length]).ok()
    }

    /// Counts a question at `now`; true when the entry is to be fetched again.
    pub(super) fn asked(&self, prefetch: Prefetch, now: Instant) -> bool {
        let (clock, Popularity { hits, last }) = (self.clock(now), &self.popularity);
        if clock.saturating_sub(last.swap(clock, Ordering::Relaxed)) > prefetch.gap.as_millis() as u64 {
            hits.store(0, Ordering::Relaxed);
        }
        let hits = hits.fetch_add(1, Ordering::Relaxed) + 1;
        let threshold = (u64::from(self.ttl) * u64::from(prefetch.percentage)).div_ceil(100);
        hits >= prefetch.amount && self.left(now) <= threshold as i64
    }

    /// Takes over how often another entry was asked for.
    pub(super) fn inherit(&self, other: &Entry) {
        self.popularity.hits.store(other.popularity.hits.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    fn clock(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.stored).as_millis() as u64
    }

    /// Begins to refresh it, unless that is under way or failed a moment ago. It ends when what
    /// this returns is dropped.
    pub(crate) fn refresh(self: &Arc<Self>, now: Instant) -> Option<Refresh> {
        let free =
            self.clock(now) >= self.retry.load(Ordering::Acquire) && !self.refreshing.swap(true, Ordering::AcqRel);
        free.then(|| Refresh(self.clone()))
    }
}

/// An entry that is being refreshed, which is done by one task at a time.
pub(crate) struct Refresh(Arc<Entry>);

impl Refresh {
    pub(crate) fn entry(&self) -> &Entry {
        &self.0
    }

    /// It failed: the next try is to wait.
    pub(crate) fn failed(&self, now: Instant, wait: Duration) {
        self.0.retry.store(self.0.clock(now) + wait.as_millis() as u64, Ordering::Release);
    }
}

impl Drop for Refresh {
    fn drop(&mut self) {
        self.0.refreshing.store(false, Ordering::Release);
    }
}

/// Where the TTLs of a packet's records are, and its first run of addresses in the answers. The
/// records begin at `at`.
fn records(packet: &[u8], mut at: usize) -> Option<(Vec<u16>, Run)> {
    let count = |at: usize| usize::from(u16::from_be_bytes([packet[at], packet[at + 1]]));
    let (answers, all) = (count(6), count(6) + count(8) + count(10));
    let (mut ttls, mut run) = (Vec::with_capacity(all), Run::default());
    for index in 0..all {
        let start = at;
        loop {
            match usize::from(*packet.get(at)?) {
                0 => break at += 1,
                length @ 1..64 => at += 1 + length,
                _ => break at += 2,
            }
        }
        let [t0, t1, _, _, _, _, _, _, l0, l1] = *packet.get(at..)?.first_chunk::<FIXED>()?;
        ttls.push(u16::try_from(at + 4).ok()?);
        let pointer = at == start + 2;
        at += FIXED + usize::from(u16::from_be_bytes([l0, l1]));
        let (start, size) = (start as u16, (at - start) as u16);
        // Nothing points into a record whose name is a pointer itself.
        if index < answers && pointer && matches!([t0, t1], [0, 1 | 28]) {
            match &mut run {
                Run { count: 0, .. } => run = Run { start, size, count: 1 },
                run if size == run.size && run.start + run.count * size == start => run.count += 1,
                _ => {}
            }
        }
    }
    (at == packet.len()).then_some((ttls, run))
}
