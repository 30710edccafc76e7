use std::collections::BTreeMap;

use store::{Change, Error, EventKind, Expect, Key, Limits, Memory, Store, Topic, Watch};

use crate::{Lab, Random, draft, json, open, parse, soon};

const RESOURCES: [&str; 3] = ["/pods", "apps/deployments", "/nodes"];
const NAMESPACES: [&str; 4] = ["", "default", "dev", "dev-1"];
const NAMES: [&str; 5] = ["a", "b", "b-1", "c", "z"];

/// What the store is to be: a map, a log, and a revision.
#[derive(Default)]
struct Model {
    live: BTreeMap<Key, (u64, String)>,
    /// The live objects as of each revision, from 0 on.
    versions: Vec<BTreeMap<Key, (u64, String)>>,
    /// Revision, kind, key, payload, and the payload before.
    log: Vec<(u64, EventKind, Key, String, Option<String>)>,
    revision: u64,
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Done(u64),
    Exists(u64),
    Missing,
    Conflict(u64),
}

impl Model {
    fn new() -> Self {
        Model { versions: vec![BTreeMap::new()], ..Model::default() }
    }

    fn commit(&mut self, key: &Key, expect: Expect, kind: EventKind, payload: &str) -> Outcome {
        let current = self.live.get(key).cloned();
        match (&current, expect) {
            (Some((revision, _)), Expect::Absent) => return Outcome::Exists(*revision),
            (Some((at, _)), Expect::Revision(wanted)) if *at != wanted => {
                return Outcome::Conflict(*at);
            }
            (None, Expect::Present | Expect::Revision(_)) => return Outcome::Missing,
            (None, Expect::Absent) if kind == EventKind::Delete => return Outcome::Missing,
            _ => (),
        }
        self.revision += 1;
        match kind {
            EventKind::Put => self.live.insert(key.clone(), (self.revision, payload.into())),
            EventKind::Delete => self.live.remove(key),
        };
        self.versions.push(self.live.clone());
        self.log.push((self.revision, kind, key.clone(), payload.into(), current.map(|(_, payload)| payload)));
        Outcome::Done(self.revision)
    }

    fn list(&self, at: u64, resource: &str, namespace: Option<&str>) -> Vec<String> {
        let wanted = |key: &Key| *key.resource == *resource && namespace.is_none_or(|name| *key.namespace == *name);
        let versions = self.versions[at as usize].iter().filter(|(key, _)| wanted(key));
        let mut found: Vec<_> = versions.map(|(key, (at, payload))| (place(key), json(*at, payload))).collect();
        found.sort();
        found.into_iter().map(|(_, json)| json).collect()
    }
}

/// Lists have the order of this.
fn place(key: &Key) -> String {
    format!("{}/{}", key.namespace, key.name)
}

/// The store, the model, and a watch of each resource with the revision it began after.
struct Pair {
    store: Lab,
    model: Model,
    watches: Vec<(&'static str, u64, Watch<String>)>,
    random: Random,
}

impl Pair {
    fn new(store: Lab, seed: u64) -> Self {
        let mut pair = Pair { store, model: Model::new(), watches: Vec::new(), random: Random(seed) };
        pair.start_watches();
        pair
    }

    fn start_watches(&mut self) {
        let revision = self.model.revision;
        assert_eq!(self.store.revision(), revision);
        let start =
            |resource: &&'static str| (*resource, revision, self.store.watch(resource, Topic::All, revision).unwrap());
        self.watches = RESOURCES.iter().map(start).collect();
    }

    async fn step(&mut self) {
        let random = &mut self.random;
        let key = Key::new(*random.pick(&RESOURCES), *random.pick(&NAMESPACES), *random.pick(&NAMES));
        let current = self.model.live.get(&key).map_or(0, |(revision, _)| *revision);
        let expect = match random.below(6) {
            0 | 1 => Expect::Absent,
            2 => Expect::Present,
            3 => Expect::Revision(random.below(self.model.revision as usize + 2) as u64),
            _ => Expect::Revision(current),
        };
        let payload = format!("{:x}", random.next()).repeat(random.below(20));
        let (kind, change) = match random.below(3) {
            0 => (EventKind::Delete, Change::Delete(draft(&payload))),
            _ => (EventKind::Put, Change::Put(draft(&payload))),
        };
        let outcome = match self.store.commit(key.clone(), expect, change).await {
            Ok(entry) => {
                assert_eq!(entry.bytes, json(entry.revision, &payload));
                Outcome::Done(entry.revision)
            }
            Err(Error::Exists(entry)) => Outcome::Exists(entry.revision),
            Err(Error::Missing) => Outcome::Missing,
            Err(Error::Conflict(entry)) => Outcome::Conflict(entry.revision),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(outcome, self.model.commit(&key, expect, kind, &payload), "{key} {expect:?}");
        let live = self.store.get(&key).map(|entry| (entry.revision, entry.meta.clone()));
        assert_eq!(live.as_ref(), self.model.live.get(&key));
    }

    /// Lists of now, and lists in pages as of now and of any revision that the history reaches back to.
    fn compare_lists(&mut self, oldest: u64) {
        for resource in RESOURCES {
            for namespace in [None, Some(""), Some("default"), Some("dev"), Some("nowhere")] {
                let now = self.model.revision;
                let (revision, entries) = self.store.list(resource, namespace);
                let found: Vec<_> =
                    entries.iter().map(|entry| String::from_utf8_lossy(&entry.bytes).into_owned()).collect();
                assert_eq!((revision, found), (now, self.model.list(now, resource, namespace)));
                let then = oldest + self.random.below((now - oldest) as usize + 1) as u64;
                for at in [None, Some(now), Some(then), Some(now + 1)] {
                    let wanted = self.model.list(at.unwrap_or(now).min(now), resource, namespace);
                    assert_eq!(self.paged(resource, namespace, at), wanted, "{at:?}");
                }
            }
            if oldest > 0 {
                let gone = self.store.page(resource, None, Some(oldest - 1), None, 1);
                assert!(matches!(gone, Err(Error::Compacted { oldest: at }) if at == oldest));
            }
        }
    }

    /// A list read in pages of a random size.
    fn paged(&mut self, resource: &str, namespace: Option<&str>, at: Option<u64>) -> Vec<String> {
        let limit = 1 + self.random.below(4);
        let mut all = Vec::new();
        let mut start: Option<(String, String)> = None;
        loop {
            let from = start.as_ref().map(|(namespace, name)| (namespace.as_str(), name.as_str()));
            let page = self.store.page(resource, namespace, at, from, limit).unwrap();
            assert_eq!(page.revision, at.unwrap_or(u64::MAX).min(self.model.revision));
            all.extend(page.entries.iter().map(|entry| String::from_utf8(entry.bytes.to_vec()).unwrap()));
            match page.entries.last() {
                Some(last) if page.remaining > 0 => {
                    start = Some((last.key.namespace.to_string(), format!("{}\0", last.key.name)))
                }
                _ => return all,
            }
        }
    }

    /// Each watch has seen each write of its resource once, in order.
    async fn compare_watches(&mut self) {
        for (resource, after, watch) in &mut self.watches {
            let wanted: Vec<_> = self
                .model
                .log
                .iter()
                .filter(|(revision, _, key, ..)| revision > after && *key.resource == **resource)
                .cloned()
                .collect();
            let mut seen = Vec::new();
            while seen.len() < wanted.len() {
                for event in soon(watch.next()).await.unwrap() {
                    let previous = event.previous.as_ref().map(|entry| entry.meta.clone());
                    let entry = &event.entry;
                    assert_eq!(event.line, line(&event));
                    seen.push((event.revision, event.kind, entry.key.clone(), entry.meta.clone(), previous));
                }
            }
            assert_eq!(seen, wanted);
            assert_eq!(watch.progress(), self.model.revision, "everything is seen, a bookmark may say so");
            *after = self.model.revision;
        }
    }
}

/// What a watch is to be told of an event.
fn line(event: &store::Event<String>) -> String {
    let told = match (event.kind, &event.previous) {
        (EventKind::Delete, _) => "DELETED",
        (EventKind::Put, None) => "ADDED",
        (EventKind::Put, Some(_)) => "MODIFIED",
    };
    let object = std::str::from_utf8(&event.entry.bytes).unwrap();
    format!("{{\"type\":\"{told}\",\"object\":{object}}}\n")
}

#[tokio::test]
async fn memory_is_as_the_model() {
    for seed in 0..10 {
        let limits = Limits { watch_batch: 7, ..Limits::default() };
        let mut pair = Pair::new(Store::open(Memory, parse, limits).unwrap(), seed);
        for round in 0..20 {
            for _ in 0..50 {
                pair.step().await;
            }
            pair.compare_lists(0);
            if round % 3 == 0 {
                pair.compare_watches().await;
            }
        }
        pair.compare_watches().await;
    }
}

#[tokio::test]
async fn sled_is_as_the_model_and_stays_so_when_reopened() {
    for seed in 100..102 {
        let dir = tempfile::tempdir().unwrap();
        let limits = Limits { snapshot_every: 40, ..Limits::default() };
        let mut pair = Pair::new(open(dir.path(), limits).unwrap(), seed);
        let mut opened = 0;
        for round in 0..8 {
            for _ in 0..40 {
                pair.step().await;
            }
            pair.compare_lists(opened);
            pair.compare_watches().await;
            pair.store.close().await;
            pair.store = open(dir.path(), limits).unwrap();
            opened = pair.model.revision;
            pair.compare_lists(opened);
            let before = pair.model.revision - 1;
            match pair.store.watch(RESOURCES[round % 3], Topic::All, before) {
                Err(Error::Compacted { oldest }) => assert_eq!(oldest, pair.model.revision),
                _ => panic!("the history is empty after a restart"),
            }
            pair.start_watches();
        }
    }
}
