//! Entries by question, in shards.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use super::entry::Entry;

/// At least as many as CoreDNS has, whose default of 9984 entries are 39 in each; a larger store
/// has more, so that a shard holds about [`WAYS`], up to a MiB of empty ones.
const SHARDS: std::ops::RangeInclusive<usize> = 256..=1 << 14;
const WAYS: usize = 64;
/// The least that a shard holds.
const LEAST: usize = 4;
/// How many bytes of answers a shard may hold for each of its entries, and at least: the longest
/// answer that there is.
const MEAN: usize = 4096;
const LONGEST: usize = 1 << 16;

/// A bounded number of entries. One that is full makes room at a place that is as good as random:
/// the new entry's hash says which. Until the first entry it has no memory.
pub(crate) struct Store {
    shards: OnceLock<Box<[RwLock<Shard>]>>,
    count: usize,
    ways: usize,
    pub(crate) evictions: AtomicU64,
}

/// Entries, and the upper half of the hash of each: the lower one led to the shard.
#[derive(Default)]
struct Shard {
    tags: Vec<u32>,
    entries: Vec<Arc<Entry>>,
    /// The length of all entries.
    bytes: usize,
}

impl Store {
    pub(crate) fn new(capacity: usize) -> Self {
        let count = (capacity / WAYS).next_power_of_two().clamp(*SHARDS.start(), *SHARDS.end());
        let ways = (capacity / count).max(LEAST);
        Store { shards: OnceLock::new(), count, ways, evictions: AtomicU64::new(0) }
    }

    /// The entry of this hash.
    pub(crate) fn get(&self, hash: u64) -> Option<Arc<Entry>> {
        let shard = shard(self.shards.get()?, hash).read().unwrap_or_else(PoisonError::into_inner);
        shard.find(hash).map(|at| shard.entries[at].clone())
    }

    /// Puts an entry in the place of that of the same hash, or of another when there is no room.
    pub(crate) fn insert(&self, hash: u64, entry: Arc<Entry>) {
        let shards = self.shards.get_or_init(|| (0..self.count).map(|_| RwLock::default()).collect());
        let mut shard = shard(shards, hash).write().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = shard.find(hash) {
            shard.remove(at);
        }
        let most = (self.ways * MEAN).max(LONGEST);
        while shard.entries.len() >= self.ways || !shard.entries.is_empty() && shard.bytes + entry.len() > most {
            let at = (hash >> 16) as u16 as usize % shard.entries.len();
            shard.remove(at);
            self.evictions.fetch_add(1, Ordering::Relaxed);
        }
        shard.bytes += entry.len();
        shard.tags.push((hash >> 32) as u32);
        shard.entries.push(entry);
    }

    /// Removes the entry of this hash.
    pub(crate) fn remove(&self, hash: u64) {
        let Some(shards) = self.shards.get() else {
            return;
        };
        let mut shard = shard(shards, hash).write().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = shard.find(hash) {
            shard.remove(at);
        }
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        let length = |shard: &RwLock<Shard>| shard.read().unwrap_or_else(PoisonError::into_inner).entries.len();
        self.shards.get().map_or(0, |shards| shards.iter().map(length).sum())
    }
}

fn shard(shards: &[RwLock<Shard>], hash: u64) -> &RwLock<Shard> {
    &shards[hash as usize % shards.len()]
}

impl Shard {
    fn find(&self, hash: u64) -> Option<usize> {
        self.tags.iter().position(|tag| *tag == (hash >> 32) as u32)
    }

    fn remove(&mut self, at: usize) {
        self.tags.swap_remove(at);
        self.bytes -= self.entries.swap_remove(at).len();
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{Message, Query};
    use hickory_proto::rr::rdata::TXT;
    use hickory_proto::rr::{Name, RData, Record, RecordType};
    use tokio::time::Instant;

    use super::*;
    use crate::fixture::Seeded;
    use crate::question::Question;

    /// An entry whose answer has about that many bytes.
    fn entry(size: usize) -> Arc<Entry> {
        let mut message = Message::query();
        message.add_query(Query::query(Name::root(), RecordType::TXT));
        let packet = message.to_vec().unwrap();
        let text = TXT::new(vec!["x".repeat(250); size / 251]);
        message.add_answer(Record::from_rdata(Name::root(), 1, RData::TXT(text)));
        Arc::new(Entry::new(&Question::parse(&packet).unwrap(), &message, 1, Instant::now()).unwrap())
    }

    #[test]
    fn never_full_and_never_lost() {
        let (small, large) = (entry(100), entry(65_000));
        // (capacity, what it is rounded to, entries put in, how they are)
        let table = [
            (0, 1024, 20_000, [&small, &small]),
            (9984, 9984, 40_000, [&small, &small]),
            (100_000, 100_352, 150_000, [&small, &small]),
            (1024, 1024, 3_000, [&small, &large]),
        ];
        for (capacity, most, puts, entries) in table {
            let (store, mut random) = (Store::new(capacity), Seeded(7));
            let bytes = store.count * (store.ways * MEAN).max(LONGEST + 300);
            assert!(store.count * store.ways <= most, "{capacity}");
            assert_eq!((store.len(), store.shards.get().is_none()), (0, true), "an empty store has no memory");
            for _ in 0..puts {
                let hash = random.next();
                let entry = random.pick(&entries);
                store.insert(hash, (*entry).clone());
                assert!(store.get(hash).is_some_and(|found| Arc::ptr_eq(&found, entry)), "what came last is there");
            }
            let evicted = store.evictions.load(Ordering::Relaxed) as usize;
            assert!(store.len() <= most && store.len() + evicted == puts, "{} of {capacity}", store.len());
            let held =
                |shard: &RwLock<Shard>| shard.read().unwrap().entries.iter().map(|entry| entry.len()).sum::<usize>();
            let shards = store.shards.get().unwrap();
            assert!(shards.iter().all(|shard| held(shard) == shard.read().unwrap().bytes), "they are counted");
            assert!(shards.iter().map(held).sum::<usize>() <= bytes);
        }
    }

    #[test]
    fn again_and_away() {
        let (store, first, second) = (Store::new(0), entry(100), entry(300));
        store.remove(1);
        store.insert(1, first.clone());
        store.insert(2, first);
        store.insert(1, second.clone());
        assert!(store.get(1).is_some_and(|found| Arc::ptr_eq(&found, &second)));
        assert_eq!((store.len(), store.evictions.load(Ordering::Relaxed)), (2, 0));
        store.remove(1);
        assert!(store.get(1).is_none() && store.get(2).is_some());
    }
}
