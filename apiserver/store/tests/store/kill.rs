use std::collections::BTreeMap;
use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use store::{Change, Expect, Limits};

use crate::{Random, draft, open, pod};

/// Set in the child, which is this same test.
const CHILD: &str = "CORACLE_STORE_KILLED_IN";

/// A child writes and says on its standard output what was acknowledged, until it is killed with SIGKILL. All it said
/// is there afterwards, and nothing else but what was on its way.
#[test]
fn nothing_acknowledged_is_lost_by_kill() {
    if let Ok(dir) = env::var(CHILD) {
        return write_until_killed(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged: BTreeMap<String, u64> = BTreeMap::new();
    for round in 0..5 {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "kill::nothing_acknowledged_is_lost_by_kill", "--nocapture"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let enough = 100 + Random(round).below(400);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut take = |line: String| {
            if let Some((name, revision)) = line.strip_prefix("ack ").and_then(|ack| ack.split_once(' ')) {
                acknowledged.insert(name.into(), revision.parse().unwrap());
            }
        };
        lines.by_ref().take(enough).for_each(&mut take);
        child.kill().unwrap();
        // What it said before it died counts as well; its last line may be cut.
        let mut rest: Vec<_> = lines.collect();
        rest.pop();
        rest.into_iter().for_each(&mut take);
        child.wait().unwrap();
        check(dir.path(), &acknowledged);
    }
}

#[tokio::main(flavor = "current_thread")]
async fn check(dir: &Path, acknowledged: &BTreeMap<String, u64>) {
    let backend = store::Sled::open(dir).unwrap();
    assert!(backend.recovered().is_none(), "{:?}", backend.recovered());
    let store = crate::Store::open(backend, crate::parse, Limits::default()).unwrap();
    assert!(acknowledged.len() > 20, "the child wrote something");
    for (name, revision) in acknowledged {
        let found = store.get(&pod(name)).map_or(0, |entry| entry.revision);
        assert!(found >= *revision, "{name}: acknowledged at {revision}, found at {found}");
        assert!(found <= store.revision());
    }
    store.close().await;
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn write_until_killed(dir: &Path) {
    let store = open(dir, Limits { snapshot_every: 100, ..Limits::default() }).unwrap();
    let mut writers = Vec::new();
    for writer in 0..16 {
        let store = store.clone();
        writers.push(tokio::spawn(async move {
            let mut random = Random(store.revision() + writer);
            loop {
                let name = format!("w{writer}-{}", random.below(20));
                let expect = if store.get(&pod(&name)).is_some() { Expect::Present } else { Expect::Absent };
                let payload = "x".repeat(random.below(3000));
                let entry = store.commit(pod(&name), expect, Change::Put(draft(&payload))).await.unwrap();
                let line = format!("ack {name} {}\n", entry.revision);
                if std::io::stdout().write_all(line.as_bytes()).is_err() {
                    return;
                }
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
}
