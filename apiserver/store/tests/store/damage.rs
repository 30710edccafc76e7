use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use store::{Change, Expect, Limits, OpenError, Sled, Snapshots, Store, Topic};

use crate::{Lab, Random, create, draft, open, parse, pod};

/// Does something to sled's directory.
type Damage = fn(&Path);

/// What was live after each revision.
type States = BTreeMap<u64, BTreeMap<String, u64>>;

/// A store as a power cut leaves it: written to, not closed, with one snapshot from the middle of its life.
async fn crashed(dir: &Path) -> States {
    let live = tempfile::tempdir().unwrap();
    let store = open(live.path(), Limits { snapshot_every: 150, ..Limits::default() }).unwrap();
    let mut random = Random(7);
    let mut states = States::from([(0, BTreeMap::new())]);
    let mut now = BTreeMap::new();
    for _ in 0..280 {
        let name = format!("p{:02}", random.below(60));
        let size = if random.below(40) == 0 { 200_000 } else { random.below(4000) };
        let change = match now.contains_key(&name) && random.below(4) == 0 {
            true => Change::Delete(draft("")),
            false => Change::Put(draft(&"x".repeat(size))),
        };
        let deletes = matches!(change, Change::Delete(_));
        let expect = if now.contains_key(&name) { Expect::Present } else { Expect::Absent };
        let revision = store.commit(pod(&name), expect, change).await.unwrap().revision;
        if deletes {
            now.remove(&name);
        } else {
            now.insert(name, revision);
        }
        states.insert(revision, now.clone());
    }
    wait_for_snapshot(live.path()).await;
    copy(live.path(), dir);
    store.close().await;
    states
}

async fn wait_for_snapshot(dir: &Path) {
    let there = async {
        while Snapshots::new(dir).newest().unwrap().is_none() {
            tokio::task::yield_now().await;
        }
    };
    crate::soon(there).await;
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        match file.file_type().unwrap().is_dir() {
            true => copy(&file.path(), &to.join(file.file_name())),
            false => drop(fs::copy(file.path(), to.join(file.file_name())).unwrap()),
        }
    }
}

fn snapshots(dir: &Path) -> Vec<PathBuf> {
    let named = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("snapshot-");
    let mut paths: Vec<_> = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path()).filter(named).collect();
    paths.sort();
    paths
}

fn state(store: &Lab) -> BTreeMap<String, u64> {
    store.list("/pods", None).1.iter().map(|entry| (entry.key.name.to_string(), entry.revision)).collect()
}

/// Opens it and checks that it holds exactly what it once held. Where only the end of the log is gone, that is an older
/// state which nothing tells from the newest. Returns the revision of that state and whether it was recovered.
async fn reopen(dir: &Path, states: &States, what: &str) -> (u64, bool) {
    let backend = Sled::open(dir).unwrap_or_else(|error| panic!("{what}: {error}"));
    let recovered = backend.recovered().cloned();
    let store = Store::open(backend, parse, Limits::default()).unwrap();
    let revision = recovered.as_ref().map_or(store.revision(), |recovered| recovered.revision);
    assert_eq!(states.get(&revision), Some(&state(&store)), "{what}: {recovered:?}");
    if let Some(recovered) = &recovered {
        assert!(recovered.aside.as_ref().is_some_and(|aside| aside.exists()), "{what}: {recovered}");
        let newest = *states.keys().last().unwrap();
        assert!(store.revision() > newest, "{what}: no revision is given twice");
        assert!(store.watch("/pods", Topic::All, newest).is_err(), "{what}: watches start over");
    }
    let next = create(&store, pod("after"), "").await.unwrap().revision;
    assert_eq!(next, store.revision());
    store.close().await;
    let store = open(dir, Limits::default()).unwrap();
    assert_eq!(store.get(&pod("after")).unwrap().revision, next, "{what}: it is whole again");
    store.close().await;
    (revision, recovered.is_some())
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(bytes).unwrap();
}

fn append(path: &Path, bytes: &[u8]) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(bytes).unwrap();
}

fn truncate(path: &Path, length: u64) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(length).unwrap();
}

/// Where the log's used part ends: sled makes the file longer than that.
fn used(path: &Path) -> u64 {
    let mut bytes = Vec::new();
    File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at as u64 + 1)
}

#[tokio::test]
async fn random_damage_never_gives_a_state_that_never_was() {
    let template = tempfile::tempdir().unwrap();
    let states = crashed(template.path()).await;
    let snapshot = Snapshots::new(template.path()).newest().unwrap().unwrap().1.revision;
    let mut random = Random(11);
    let mut recovered_some = false;
    for round in 0..24 {
        let dir = tempfile::tempdir().unwrap();
        copy(template.path(), dir.path());
        let log = dir.path().join("sled/db");
        let end = used(&log);
        let at = random.below(end as usize) as u64;
        let junk: Vec<u8> = (0..1 + random.below(5000)).map(|_| random.next() as u8).collect();
        let what = match round % 4 {
            0 => {
                truncate(&log, at);
                format!("log truncated at {at} of {end}")
            }
            1 => {
                overwrite(&log, at, &junk);
                format!("{} bytes of junk at {at} of {end}", junk.len())
            }
            2 => {
                overwrite(&log, at, &vec![0; junk.len()]);
                format!("{} zeros at {at} of {end}", junk.len())
            }
            _ => {
                append(&log, &junk);
                format!("{} bytes of junk after the log", junk.len())
            }
        };
        let (revision, recovered) = reopen(dir.path(), &states, &what).await;
        assert!(revision >= snapshot, "{what}: at least the snapshot is there");
        recovered_some |= recovered;
    }
    assert!(recovered_some);
}

#[tokio::test]
async fn broken_files_beside_the_log_lose_nothing() {
    let template = tempfile::tempdir().unwrap();
    let states = crashed(template.path()).await;
    let newest = *states.keys().last().unwrap();
    let damages: [(&str, Damage); 5] = [
        ("a snapshot that sled did not finish", |sled| {
            fs::write(sled.join("snap.00000000000FFFFF.generating"), b"half").unwrap();
        }),
        ("a snapshot of sled's that is junk", |sled| {
            fs::write(sled.join("snap.00000000000FFFFF"), b"not what it was, and long enough").unwrap();
        }),
        ("an empty configuration", |sled| fs::write(sled.join("conf"), b"").unwrap()),
        ("a configuration that is gone", |sled| fs::remove_file(sled.join("conf")).unwrap()),
        ("an unfinished snapshot of ours", |sled| {
            fs::write(sled.parent().unwrap().join("snapshot.unfinished"), b"half").unwrap();
        }),
    ];
    for (what, damage) in damages {
        let dir = tempfile::tempdir().unwrap();
        copy(template.path(), dir.path());
        damage(&dir.path().join("sled"));
        assert_eq!(reopen(dir.path(), &states, what).await.0, newest, "{what}");
    }
}

#[tokio::test]
async fn a_damaged_snapshot_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), Limits::default()).unwrap();
    create(&store, pod("a"), "first").await.unwrap();
    store.close().await;
    let store = open(dir.path(), Limits::default()).unwrap();
    create(&store, pod("b"), "second").await.unwrap();
    store.close().await;
    let files = snapshots(dir.path());
    assert_eq!(files.len(), 2, "each close leaves one, and two are kept");
    overwrite(&files[1], 40, b"!");
    fs::write(dir.path().join("sled/db"), b"gone").unwrap();
    let backend = Sled::open(dir.path()).unwrap();
    let recovered = backend.recovered().unwrap().clone();
    assert_eq!((recovered.snapshot.as_ref(), recovered.revision, recovered.objects), (Some(&files[0]), 1, 1));
    assert!(recovered.to_string().contains("writes after revision 1 are lost"), "{recovered}");
    let store = Store::open(backend, parse, Limits::default()).unwrap();
    assert_eq!(store.get(&pod("a")).unwrap().meta, "first");
    store.close().await;
}

#[tokio::test]
async fn without_a_snapshot_it_says_what_to_do_and_touches_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), Limits::default()).unwrap();
    create(&store, pod("a"), "").await.unwrap();
    store.close().await;
    // The snapshot of the empty store, from its first start, is no help.
    let files = snapshots(dir.path());
    assert_eq!(files.len(), 2);
    fs::remove_file(&files[1]).unwrap();
    let log = dir.path().join("sled/db");
    let end = used(&log);
    overwrite(&log, 0, &vec![7; end as usize]);
    for _ in 0..2 {
        match Sled::open(dir.path()) {
            Err(error @ OpenError::Broken { .. }) => {
                let text = error.to_string();
                assert!(text.contains("restore the directory from a backup"), "{text}");
            }
            other => panic!("{other:?}"),
        }
        assert!(log.exists());
        assert!(!dir.path().join("sled.broken-1").exists());
    }
}

#[tokio::test]
async fn a_store_whose_files_are_gone_is_restored() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), Limits::default()).unwrap();
    create(&store, pod("a"), "here").await.unwrap();
    store.close().await;
    fs::remove_dir_all(dir.path().join("sled")).unwrap();
    let store = open(dir.path(), Limits::default()).unwrap();
    assert_eq!(store.get(&pod("a")).unwrap().meta, "here");
    store.close().await;
}
