use std::fs;

use store::{Change, Expect, Limits, OpenError, Sled, Store, Topic};

use crate::{create, draft, open, pod};

#[tokio::test]
async fn the_revision_survives_deletions_and_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), Limits::default()).unwrap();
    create(&store, pod("a"), "").await.unwrap();
    store.commit(pod("a"), Expect::Revision(1), Change::Delete(draft(""))).await.unwrap();
    store.close().await;
    let store = open(dir.path(), Limits::default()).unwrap();
    assert_eq!((store.revision(), store.get(&pod("a")).is_none()), (2, true));
    let mut watch = store.watch("/pods", Topic::All, 2).unwrap();
    assert!(store.watch("/pods", Topic::All, 1).is_err());
    assert_eq!(create(&store, pod("a"), "").await.unwrap().revision, 3);
    assert_eq!(watch.next().await.unwrap()[0].revision, 3);
}

#[tokio::test]
async fn a_directory_has_one_user() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), Limits::default()).unwrap();
    match Sled::open(dir.path()) {
        Err(error @ OpenError::Locked(_)) => {
            assert!(error.to_string().contains("in use by another process"))
        }
        other => panic!("{other:?}"),
    }
    store.close().await;
    open(dir.path(), Limits::default()).unwrap().close().await;
}

#[tokio::test]
async fn an_object_that_cannot_be_parsed_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), Limits::default()).unwrap();
    create(&store, pod("a"), "").await.unwrap();
    store.close().await;
    let strict = |_: &store::Key, _: &[u8]| Err::<(), _>("written by a later version".to_owned());
    let error = Store::open(Sled::open(dir.path()).unwrap(), strict, Limits::default()).err().unwrap();
    assert_eq!(error.to_string(), "/pods default/a in the store cannot be read: written by a later version");
}

#[tokio::test]
async fn large_objects_are_kept_in_files_that_are_synced_too() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), Limits::default()).unwrap();
    let payload = "x".repeat(1_400_000);
    for n in 0..4 {
        create(&store, pod(&format!("p{n}")), &payload).await.unwrap();
    }
    assert!(fs::read_dir(dir.path().join("sled/blobs")).unwrap().count() > 0, "sled keeps them in files");
    store.close().await;
    let store = open(dir.path(), Limits::default()).unwrap();
    assert!(store.list("/pods", None).1.iter().all(|entry| entry.meta == payload));
}
