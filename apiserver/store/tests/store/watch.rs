use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use store::{Change, Error, Expect, Limits, Memory, Store, Topic};

use crate::{Key, create, draft, parse, pod, soon};

#[tokio::test]
async fn a_slow_watcher_falls_off_and_the_writer_does_not_wait() {
    let limits = Limits { history_events: 10, ..Limits::default() };
    let store = Store::open(Memory, parse, limits).unwrap();
    let mut slow = store.watch("/pods", Topic::All, 0).unwrap();
    let mut other = store.watch("/nodes", Topic::All, 0).unwrap();
    for n in 1..=10 {
        create(&store, pod(&format!("p{n}")), "").await.unwrap();
    }
    assert_eq!(slow.next().await.unwrap().len(), 10, "what fits into the history is not lost");
    for n in 11..=21 {
        create(&store, pod(&format!("p{n}")), "").await.unwrap();
    }
    assert!(matches!(slow.next().await, Err(Error::Compacted { oldest: 11 })));
    assert!(matches!(store.watch("/pods", Topic::All, 10), Err(Error::Compacted { oldest: 11 })));
    assert_eq!(store.watch("/pods", Topic::All, 11).unwrap().next().await.unwrap()[0].revision, 12);
    // The history of another resource is another one.
    assert_eq!(other.progress(), 21);
    create(&store, Key::new("/nodes", "", "n"), "").await.unwrap();
    assert_eq!(other.next().await.unwrap()[0].revision, 22);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_without_the_first_object_of_a_resource_is_older_than_it() {
    let store = Store::open(Memory, parse, Limits::default()).unwrap();
    for n in 0..2000 {
        let resource = format!("/kind{n}");
        let (writer, key) = (store.clone(), Key::new(&*resource, "", "first"));
        let written = tokio::spawn(async move { create(&writer, key, "").await.unwrap().revision });
        let mut empty = 0;
        loop {
            let (revision, entries) = store.list(&resource, None);
            if !entries.is_empty() {
                break;
            }
            empty = revision;
        }
        assert!(empty < written.await.unwrap(), "a watch from there would miss it");
    }
}

#[tokio::test]
async fn the_history_is_bounded_by_bytes_too() {
    let limits = Limits { history_bytes: 64 << 10, ..Limits::default() };
    let store = Store::open(Memory, parse, limits).unwrap();
    let large = "x".repeat(30 << 10);
    create(&store, pod("p"), &large).await.unwrap();
    let put = |payload: &str| store.commit(pod("p"), Expect::Present, Change::Put(draft(payload)));
    for _ in 2..=4 {
        put(&large).await.unwrap();
    }
    // Three versions were replaced; two fit. That of now is no part of the history.
    assert!(matches!(store.watch("/pods", Topic::All, 1), Err(Error::Compacted { oldest: 2 })));
    put(&"x".repeat(100 << 10)).await.unwrap();
    assert!(store.watch("/pods", Topic::All, 3).is_ok());
    put("").await.unwrap();
    let events = store.watch("/pods", Topic::All, 5).unwrap().next().await.unwrap();
    assert_eq!(events[0].revision, 6, "one event is kept however large it is");
    assert!(store.watch("/pods", Topic::All, 4).is_err());
}

#[tokio::test]
async fn a_watcher_is_not_woken_by_other_resources() {
    let store = Store::open(Memory, parse, Limits::default()).unwrap();
    let mut watch = store.watch("/nodes", Topic::All, 0).unwrap();
    let next = watch.next();
    tokio::pin!(next);
    let (wakes, waker) = counting_waker();
    let mut context = Context::from_waker(&waker);
    assert!(next.as_mut().poll(&mut context).is_pending());
    create(&store, pod("p"), "").await.unwrap();
    assert_eq!(wakes.count(), 0);
    create(&store, Key::new("/nodes", "", "n"), "").await.unwrap();
    assert_eq!(wakes.count(), 1);
    assert!(next.as_mut().poll(&mut context).is_ready());
}

/// A waker that counts.
struct Wakes(AtomicUsize);

impl Wakes {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn counting_waker() -> (Arc<Wakes>, Waker) {
    let wakes = Arc::new(Wakes(AtomicUsize::new(0)));
    (wakes.clone(), wakes.into())
}

#[tokio::test]
async fn a_dropped_next_loses_nothing() {
    let store = Store::open(Memory, parse, Limits::default()).unwrap();
    let mut watch = store.watch("/pods", Topic::All, 0).unwrap();
    for n in 0..50 {
        let early = tokio::time::timeout(Duration::from_micros(1), watch.next()).await;
        assert!(early.is_err(), "there is nothing yet");
        let before = watch.progress();
        create(&store, pod(&format!("p{n}")), "").await.unwrap();
        assert_eq!(soon(watch.next()).await.unwrap()[0].revision, before + 1);
    }
}

#[tokio::test]
async fn closing_ends_watches_after_the_last_event() {
    let store = Store::open(Memory, parse, Limits::default()).unwrap();
    let mut watch = store.watch("/pods", Topic::All, 0).unwrap();
    create(&store, pod("p"), "").await.unwrap();
    let deletion = Change::Delete(draft("last words"));
    let gone = store.commit(pod("p"), Expect::Present, deletion).await.unwrap();
    store.close().await;
    let events = soon(watch.next()).await.unwrap();
    assert_eq!(events[1].entry.bytes, gone.bytes);
    assert_eq!(events[1].entry.meta, "last words");
    assert!(matches!(soon(watch.next()).await, Err(Error::Closed)));
    assert!(matches!(create(&store, pod("q"), "").await, Err(Error::Closed)));
    soon(store.close()).await;
    assert_eq!(store.revision(), 2);
}

#[tokio::test]
async fn what_is_old_is_forgotten_also_where_nothing_happens_any_more() {
    let limits = Limits { history_age: Duration::from_millis(20), ..Limits::default() };
    let store = Store::open(Memory, parse, limits).unwrap();
    create(&store, Key::new("/nodes", "", "n"), "").await.unwrap();
    let mut n = 0;
    let forgotten = async {
        while store.watch("/nodes", Topic::All, 0).is_ok() {
            n += 1;
            create(&store, pod(&format!("p{n}")), "").await.unwrap();
        }
    };
    soon(forgotten).await;
    assert!(store.watch("/nodes", Topic::All, 1).is_ok(), "a watch that has seen it all goes on");
}

#[tokio::test]
async fn a_revision_of_the_future_is_waited_for() {
    let store = Store::open(Memory, parse, Limits::default()).unwrap();
    assert!(!store.reach(1, Duration::from_millis(1)).await);
    let (reached, created) = tokio::join!(store.reach(1, Duration::from_secs(60)), create(&store, pod("p"), ""));
    assert!(reached && created.is_ok());
    assert!(store.reach(1, Duration::ZERO).await);
}
