//! A map that is cheap to copy and cheap to compare with its own past.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// How many parts a map has: a change copies one of them, a copy of the map costs as many counts.
const SHARDS: usize = 256;

/// A value that knows whether it is the very same as another, without looking inside.
pub trait Shared {
    /// True when both are one object in memory (or equal, for small values).
    fn same(&self, other: &Self) -> bool;
}

impl<T> Shared for Arc<T> {
    fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(self, other)
    }
}

impl Shared for crate::Key {
    fn same(&self, other: &Self) -> bool {
        self == other
    }
}

/// A map in shards behind `Arc`s: a copy shares all of them, a write copies only the one it
/// touches, and `changed` skips those that are still shared.
#[derive(Debug, Clone)]
pub struct Map<K, V> {
    shards: Box<[Arc<BTreeMap<K, V>>]>,
    len: usize,
}

impl<K: Ord + Hash + Clone, V: Clone + Shared> Default for Map<K, V> {
    fn default() -> Self {
        let empty = Arc::new(BTreeMap::new());
        Map { shards: vec![empty; SHARDS].into(), len: 0 }
    }
}

impl<K: Ord + Hash + Clone, V: Clone + Shared> Map<K, V> {
    /// The value at `key`.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.shards[shard(key)].get(key)
    }

    /// True when there is a value at `key`.
    pub fn contains(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All entries; the order is always the same for the same entries, but not sorted.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }

    /// The keys whose value differs from that in `older`: added, replaced or gone.
    pub fn changed<'a>(&'a self, older: &'a Self) -> impl Iterator<Item = &'a K> {
        let pairs = self.shards.iter().zip(&older.shards);
        pairs.filter(|(new, old)| !Arc::ptr_eq(new, old)).flat_map(|(new, old)| {
            let put = new.iter().filter(|(key, value)| !old.get(key).is_some_and(|v| v.same(value)));
            let gone = old.keys().filter(|key| !new.contains_key(key));
            put.map(|(key, _)| key).chain(gone)
        })
    }

    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let old = Arc::make_mut(&mut self.shards[shard(&key)]).insert(key, value);
        self.len += usize::from(old.is_none());
        old
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let shard = &mut self.shards[shard(key)];
        if !shard.contains_key(key) {
            return None;
        }
        self.len -= 1;
        Arc::make_mut(shard).remove(key)
    }
}

/// The shard of a key; the hasher has fixed keys, so the order is the same in every run.
fn shard<K: Hash>(key: &K) -> usize {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish() as usize % SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_names_added_replaced_and_gone() {
        let mut old = Map::default();
        for i in 0..2000u32 {
            old.insert(i, Arc::new(i));
        }
        let mut new = old.clone();
        assert_eq!(new.changed(&old).count(), 0);
        new.insert(5000, Arc::new(1));
        new.insert(7, Arc::new(7));
        new.remove(&9);
        new.remove(&9);
        let mut keys: Vec<u32> = new.changed(&old).copied().collect();
        keys.sort();
        assert_eq!(keys, [7, 9, 5000]);
        assert_eq!((old.len(), new.len(), new.iter().count()), (2000, 2000, 2000));
        assert!(!new.is_empty() && new.get(&9).is_none() && old.get(&9).is_some());
    }
}
