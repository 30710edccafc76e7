use std::sync::Arc;

use store::{Audience, Change, Draft, Event, EventKind, Expect, Key, Limits, Memory, Store, Topic, Watch};

use crate::{Random, soon};

/// What the store knows of these pods: their node.
#[derive(Clone)]
struct Pod(Option<Arc<str>>);

impl Audience for Pod {
    fn audience(&self) -> Option<&Arc<str>> {
        self.0.as_ref()
    }
}

const NODES: [&str; 3] = ["n1", "n2", "n3"];

fn topics() -> Vec<Topic> {
    let nodes = NODES.map(|node| Topic::Audience(node.into()));
    let others = [
        Topic::All,
        Topic::Namespace("a".into()),
        Topic::Namespace("nowhere".into()),
        Topic::Object("a".into(), "p1".into()),
        Topic::Object("b".into(), "p1".into()),
    ];
    nodes.into_iter().chain(others).collect()
}

fn is_of(event: &Event<Pod>, topic: &Topic) -> bool {
    let key = &event.entry.key;
    match topic {
        Topic::All => true,
        Topic::Namespace(namespace) => key.namespace == *namespace,
        Topic::Object(namespace, name) => key.namespace == *namespace && key.name == *name,
        Topic::Audience(node) => {
            let before = event.previous.as_ref().and_then(|previous| previous.meta.0.as_ref());
            event.entry.meta.0.as_ref() == Some(node) || before == Some(node)
        }
    }
}

async fn step(store: &Store<Pod>, random: &mut Random) {
    let key = Key::new("/pods", *random.pick(&["a", "b"]), *random.pick(&["p1", "p2", "p3"]));
    let node = (random.below(4) > 0).then(|| Arc::from(*random.pick(&NODES)));
    let draft = Draft { bytes: Vec::new(), revision_at: 0, meta: Pod(node) };
    let change = if random.below(4) == 0 { Change::Delete(draft) } else { Change::Put(draft) };
    let expect = if store.get(&key).is_some() { Expect::Present } else { Expect::Absent };
    // A deletion of what is not there fails, and that is fine.
    let _ = store.commit(key, expect, change).await;
}

/// Everything that a watch has for now, given that `log` has it all.
async fn drain(watch: &mut Watch<Pod>, topic: &Topic, after: u64, log: &[Arc<Event<Pod>>]) {
    let wanted: Vec<u64> =
        log.iter().filter(|e| e.revision > after && is_of(e, topic)).map(|event| event.revision).collect();
    let mut seen = Vec::new();
    while seen.len() < wanted.len() {
        seen.extend(soon(watch.next()).await.unwrap().iter().map(|event| event.revision));
    }
    assert_eq!(seen, wanted, "{topic:?} after {after}");
    assert_eq!(watch.progress(), log.last().map_or(0, |event| event.revision).max(after));
}

#[tokio::test]
async fn a_watch_sees_its_topic_and_nothing_else() {
    for seed in 0..5 {
        let store = Store::open(Memory, |_, _| Err("nothing is loaded".into()), Limits::default()).unwrap();
        let mut random = Random(seed);
        let mut watches: Vec<(Watch<Pod>, Topic, u64)> = Vec::new();
        for _ in 0..60 {
            for _ in 0..10 {
                step(&store, &mut random).await;
            }
            let mut all = store.watch("/pods", Topic::All, 0).unwrap();
            let mut log = Vec::new();
            while (log.len() as u64) < store.revision() {
                log.extend(soon(all.next()).await.unwrap());
            }
            let now = store.revision();
            // Some come, from any revision; some go.
            let topic = random.pick(&topics()).clone();
            let after = random.below(now as usize + 1) as u64;
            watches.push((store.watch("/pods", topic.clone(), after).unwrap(), topic, after));
            if random.below(3) == 0 {
                watches.remove(random.below(watches.len()));
            }
            for (watch, topic, after) in &mut watches {
                drain(watch, topic, *after, &log).await;
                *after = now;
            }
        }
    }
}

#[tokio::test]
async fn a_topic_that_rests_does_not_fall_off() {
    let limits = Limits { history_events: 5, ..Limits::default() };
    let store = Store::open(Memory, |_, _| Ok(Pod(None)), limits).unwrap();
    let put = |name: String| {
        let draft = Draft { bytes: Vec::new(), revision_at: 0, meta: Pod(None) };
        store.commit(Key::new("/pods", "a", name), Expect::Absent, Change::Put(draft))
    };
    let mut one = store.watch("/pods", Topic::Object("a".into(), "p99".into()), 0).unwrap();
    for n in 0..100 {
        put(format!("p{n}")).await.unwrap();
    }
    let event = soon(one.next()).await.unwrap().remove(0);
    assert_eq!((event.revision, event.kind), (100, EventKind::Put));
    for n in 100..200 {
        put(format!("p{n}")).await.unwrap();
    }
    assert_eq!(one.progress(), 200);
    assert!(store.watch("/pods", Topic::Object("a".into(), "p99".into()), 100).is_err());
}
