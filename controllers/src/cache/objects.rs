//! The map behind a cache: what each event changes, with no lock and no listener.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::watcher::Event;

use super::{Change, Key, Object, Term};

pub(super) struct Objects<K> {
    by_key: BTreeMap<Key, Arc<K>>,
    by_term: HashMap<Term, BTreeSet<Key>>,
    terms: fn(&K) -> Vec<Term>,
    /// The newest revision that the watch has delivered.
    revision: u64,
    /// The keys seen since the watch began a new list.
    listed: BTreeSet<Key>,
}

impl<K: Object> Objects<K> {
    pub(super) fn new(terms: fn(&K) -> Vec<Term>) -> Objects<K> {
        Objects { by_key: BTreeMap::new(), by_term: HashMap::new(), terms, revision: 0, listed: BTreeSet::new() }
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.by_key.get(key).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<K>> {
        self.by_key.values().cloned().collect()
    }

    pub(super) fn namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let range = self.by_key.range(Key::new(namespace, "")..);
        range.take_while(|(key, _)| key.namespace == namespace).map(|(_, object)| object.clone()).collect()
    }

    pub(super) fn by(&self, term: &Term) -> Vec<Arc<K>> {
        let keys = self.by_term.get(term).into_iter().flatten();
        keys.filter_map(|key| self.get(key)).collect()
    }

    /// The answer to a write. The watch delivers in order, so one that is past this revision has already told of
    /// this state or of a later one.
    pub(super) fn observe(&mut self, object: K) -> Option<Change<K>> {
        if revision(object.meta()) <= self.revision { None } else { self.put(object) }
    }

    pub(super) fn apply(&mut self, event: Event<K>) -> Vec<Change<K>> {
        match event {
            Event::Init => {
                self.listed.clear();
                vec![]
            }
            Event::InitApply(object) => {
                self.listed.insert(Key::of(object.meta()));
                self.deliver(object).into_iter().collect()
            }
            Event::InitDone => self.sweep(),
            Event::Apply(object) => self.deliver(object).into_iter().collect(),
            Event::Delete(object) => {
                self.revision = self.revision.max(revision(object.meta()));
                self.remove(object.meta()).into_iter().collect()
            }
        }
    }

    pub(super) fn remove(&mut self, meta: &ObjectMeta) -> Option<Change<K>> {
        let key = Key::of(meta);
        let before = self.by_key.get(&key)?;
        if before.meta().uid != meta.uid {
            return None;
        }
        self.take(&key)
    }

    fn deliver(&mut self, object: K) -> Option<Change<K>> {
        self.revision = self.revision.max(revision(object.meta()));
        self.put(object)
    }

    fn put(&mut self, object: K) -> Option<Change<K>> {
        let key = Key::of(object.meta());
        let before = self.by_key.get(&key).cloned();
        if let Some(before) = &before {
            if revision(before.meta()) >= revision(object.meta()) {
                return None;
            }
            self.unlink(&key, before);
        }
        for term in (self.terms)(&object) {
            self.by_term.entry(term).or_default().insert(key.clone());
        }
        let after = Arc::new(object);
        self.by_key.insert(key, after.clone());
        Some(Change { before, after: Some(after) })
    }

    /// A list has ended: what was not in it is gone.
    fn sweep(&mut self) -> Vec<Change<K>> {
        let listed = std::mem::take(&mut self.listed);
        let gone: Vec<Key> = self.by_key.keys().filter(|key| !listed.contains(key)).cloned().collect();
        gone.iter().filter_map(|key| self.take(key)).collect()
    }

    fn take(&mut self, key: &Key) -> Option<Change<K>> {
        let before = self.by_key.remove(key)?;
        self.unlink(key, &before);
        Some(Change { before: Some(before), after: None })
    }

    fn unlink(&mut self, key: &Key, object: &K) {
        for term in (self.terms)(object) {
            if let Some(keys) = self.by_term.get_mut(&term) {
                keys.remove(key);
                if keys.is_empty() {
                    self.by_term.remove(&term);
                }
            }
        }
    }
}

/// Resource versions are decimal numbers that grow (KEP-5504).
fn revision(meta: &ObjectMeta) -> u64 {
    meta.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(0)
}
