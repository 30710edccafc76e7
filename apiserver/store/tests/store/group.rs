use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use store::{Backend, Change, Error, Expect, Limits, Loaded, Memory, Op, OpenError, Snapshots, Store, Topic};

use crate::{create, draft, open, parse, pod, soon};

const WRITERS: usize = 64;
const WRITES: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_share_groups_and_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), Limits { queue: 16, ..Limits::default() }).unwrap();
    let mut watch = store.watch("/pods", Topic::All, 0).unwrap();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut revisions = Vec::new();
                for write in 0..WRITES {
                    let key = pod(&format!("p-{writer}-{write}"));
                    let entry = create(&store, key.clone(), "x").await.unwrap();
                    assert_eq!(store.get(&key).unwrap().revision, entry.revision, "published before it returns");
                    revisions.push(entry.revision);
                }
                revisions
            })
        })
        .collect();
    let mut revisions = BTreeSet::new();
    for writer in writers {
        let own = writer.await.unwrap();
        assert!(own.is_sorted());
        revisions.extend(own);
    }
    let all = (WRITERS * WRITES) as u64;
    assert!(revisions.into_iter().eq(1..=all), "revisions are unique and without gaps");
    let mut seen = Vec::new();
    while seen.len() < all as usize {
        seen.extend(soon(watch.next()).await.unwrap().iter().map(|event| event.revision));
    }
    assert!(seen.into_iter().eq(1..=all));
    store.close().await;
    let store = open(dir.path(), Limits::default()).unwrap();
    assert_eq!(store.list("/pods", None).1.len(), WRITERS * WRITES);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_wins_a_revision() {
    let store = Store::open(Memory, parse, Limits::default()).unwrap();
    for round in 0..50 {
        let key = pod(&format!("p{round}"));
        let first = create(&store, key.clone(), "").await.unwrap().revision;
        let rivals: Vec<_> = (0..8)
            .map(|_| {
                let (store, key) = (store.clone(), key.clone());
                tokio::spawn(async move {
                    store.commit(key, Expect::Revision(first), Change::Put(draft("new"))).await.is_ok()
                })
            })
            .collect();
        let mut won = 0;
        for rival in rivals {
            won += usize::from(rival.await.unwrap());
        }
        assert_eq!(won, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_and_the_watch_from_its_revision_fit() {
    let store = Store::open(Memory, parse, Limits::default()).unwrap();
    let writer = {
        let store = store.clone();
        tokio::spawn(async move {
            for n in 0..3000 {
                let writes = ["/pods", "/nodes"]
                    .map(|resource| create(&store, store::Key::new(resource, "", format!("{n}")), ""));
                for write in writes {
                    write.await.unwrap();
                }
            }
        })
    };
    while !writer.is_finished() {
        for resource in ["/pods", "/nodes"] {
            let (revision, entries) = store.list(resource, None);
            let mut watch = store.watch(resource, Topic::All, revision).unwrap();
            assert!(entries.iter().all(|entry| entry.revision <= revision));
            if let Ok(Ok(events)) = tokio::time::timeout(std::time::Duration::from_millis(1), watch.next()).await {
                let known = entries.iter().map(|entry| &entry.key.name).collect::<BTreeSet<_>>();
                assert_eq!(events[0].entry.key.name.parse::<usize>().unwrap(), known.len(), "no gap, no repetition");
            }
        }
    }
    writer.await.unwrap();
}

/// A disk that works for a number of groups.
struct Failing {
    groups: Arc<AtomicUsize>,
    panics: bool,
}

impl Backend for Failing {
    fn load(&mut self) -> Result<Loaded, OpenError> {
        Ok(Loaded::default())
    }

    fn commit(&mut self, _: u64, _: &[Op]) -> Result<(), String> {
        if self.groups.fetch_sub(1, Ordering::SeqCst) > 1 {
            return Ok(());
        }
        assert!(!self.panics, "corrupt page");
        Err("no space left on device".into())
    }

    fn snapshots(&self) -> Option<Snapshots> {
        None
    }
}

#[tokio::test]
async fn a_disk_error_fails_the_write_and_publishes_nothing() {
    for (panics, says) in [(false, "no space left on device"), (true, "it panicked: corrupt page")] {
        let backend = Failing { groups: Arc::new(AtomicUsize::new(3)), panics };
        let store = Store::open(backend, parse, Limits::default()).unwrap();
        create(&store, pod("a"), "").await.unwrap();
        create(&store, pod("b"), "").await.unwrap();
        for key in [pod("c"), pod("c"), pod("d")] {
            match create(&store, key, "").await {
                Err(Error::Storage(reason)) => assert!(reason.contains(says), "{reason}"),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((store.revision(), store.list("/pods", None).1.len()), (2, 2));
        assert_eq!(store.watch("/pods", Topic::All, 0).unwrap().next().await.unwrap().len(), 2);
        soon(store.close()).await;
    }
}

#[tokio::test]
async fn what_cannot_be_stored_is_refused() {
    let store = Store::open(Memory, parse, Limits::default()).unwrap();
    assert!(matches!(create(&store, pod("a\0b"), "").await, Err(Error::Storage(_))));
    let mut outside = draft("");
    outside.revision_at = outside.bytes.len() + 1;
    let refused = store.commit(pod("a"), Expect::Absent, Change::Put(outside)).await;
    assert!(matches!(refused, Err(Error::Storage(_))));
    assert_eq!(store.revision(), 0);
}
