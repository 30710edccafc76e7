//! A map that remembers what was used lately, and no more than it may.

use std::collections::HashMap;
use std::hash::Hash;

/// Two generations: when the younger one is full, the older one is forgotten, and the younger one grows old. So at most
/// twice `most` entries are kept, and the `most` that were used last always.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    most: usize,
}

impl<K: Hash + Eq, V> Recent<K, V> {
    /// An empty one; it has no memory before it is used.
    pub(crate) fn new(most: usize) -> Self {
        Recent { young: HashMap::new(), old: HashMap::new(), most }
    }

    /// The value of `key`, if it is remembered.
    pub(crate) fn get(&mut self, key: &K) -> Option<&mut V> {
        if let Some((key, value)) = self.old.remove_entry(key) {
            self.insert(key, value);
        }
        self.young.get_mut(key)
    }

    /// Remembers a value.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.most {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_last_is_kept() {
        let mut recent = Recent::new(2);
        for key in 0..100 {
            recent.insert(key, key);
            assert_eq!(recent.get(&0), Some(&mut 0), "used each time");
        }
        assert!(recent.young.len() + recent.old.len() <= 4);
        assert_eq!(recent.get(&97), None);
        assert_eq!(recent.get(&99), Some(&mut 99));
    }
}
