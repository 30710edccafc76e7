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

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;

    fn pod(name: &str, revision: u64, uid: &str, node: &str) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.name = Some(name.into());
        pod.metadata.uid = Some(uid.into());
        pod.metadata.resource_version = Some(revision.to_string());
        pod.spec.get_or_insert_default().node_name = Some(node.into());
        pod
    }

    fn objects() -> Objects<Pod> {
        Objects::new(|pod| vec![Term::Node(pod.spec.clone().unwrap_or_default().node_name.unwrap_or_default())])
    }

    fn names(objects: &Objects<Pod>) -> Vec<String> {
        objects.all().iter().map(|pod| pod.metadata.name.clone().unwrap_or_default()).collect()
    }

    #[test]
    fn a_write_is_seen_before_its_event_and_told_once() {
        let mut objects = objects();
        assert!(objects.observe(pod("a", 5, "1", "")).is_some());
        assert!(objects.apply(Event::Apply(pod("a", 5, "1", ""))).is_empty());
        assert!(objects.observe(pod("a", 4, "1", "")).is_none(), "an older answer comes late");
    }

    #[test]
    fn an_answer_does_not_bring_back_what_the_watch_has_seen_deleted() {
        let mut objects = objects();
        objects.apply(Event::Apply(pod("a", 5, "1", "")));
        objects.apply(Event::Delete(pod("a", 7, "1", "")));
        assert!(objects.observe(pod("a", 6, "1", "")).is_none());
        assert!(names(&objects).is_empty());
    }

    #[test]
    fn the_deletion_of_a_former_object_leaves_the_new_one_of_its_name() {
        let mut objects = objects();
        objects.observe(pod("a", 9, "2", ""));
        assert!(objects.apply(Event::Delete(pod("a", 8, "1", ""))).is_empty());
        assert_eq!(names(&objects), ["a"]);
    }

    #[test]
    fn a_new_list_takes_out_what_it_lacks() {
        let mut objects = objects();
        for event in [Event::Init, Event::InitApply(pod("a", 1, "1", "n")), Event::InitApply(pod("b", 2, "2", "n"))] {
            objects.apply(event);
        }
        assert!(objects.apply(Event::InitDone).is_empty());
        objects.apply(Event::Init);
        objects.apply(Event::InitApply(pod("b", 2, "2", "n")));
        let gone = objects.apply(Event::InitDone);
        assert!(gone.len() == 1 && gone[0].after.is_none());
        assert_eq!(names(&objects), ["b"]);
    }

    #[test]
    fn terms_follow_the_object() {
        let mut objects = objects();
        let on = |objects: &Objects<Pod>, node: &str| objects.by(&Term::Node(node.into())).len();
        objects.apply(Event::Apply(pod("a", 1, "1", "")));
        objects.apply(Event::Apply(pod("a", 2, "1", "n")));
        assert_eq!((on(&objects, ""), on(&objects, "n")), (0, 1));
        objects.apply(Event::Delete(pod("a", 3, "1", "n")));
        assert_eq!(on(&objects, "n"), 0);
        assert!(objects.by_term.is_empty());
    }
}
