use std::pin::pin;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use serde_json::{Value, json};

use crate::support::{object, start, start_with};

fn map(name: &str, tier: &str) -> ConfigMap {
    object(json!({"metadata": {"name": name, "labels": {"tier": tier}}}))
}

/// The kind and the name of an event.
fn told(event: WatchEvent<ConfigMap>) -> (&'static str, String) {
    match event {
        WatchEvent::Added(map) => ("ADDED", map.metadata.name.unwrap()),
        WatchEvent::Modified(map) => ("MODIFIED", map.metadata.name.unwrap()),
        WatchEvent::Deleted(map) => ("DELETED", map.metadata.name.unwrap()),
        WatchEvent::Bookmark(_) => ("BOOKMARK", String::new()),
        WatchEvent::Error(status) => ("ERROR", status.reason.clone()),
    }
}

async fn label(maps: &Api<ConfigMap>, name: &str, tier: &str) {
    let patch = Patch::Merge(json!({"metadata": {"labels": {"tier": tier}}}));
    maps.patch(name, &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test]
async fn selectors_turn_changes_into_arrivals_and_departures() {
    let (_server, client) = start().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    let from = maps.list(&Default::default()).await.unwrap().metadata.resource_version.unwrap();
    let params = WatchParams::default().labels("tier=front").timeout(10);
    let mut events = pin!(maps.watch(&params, &from).await.unwrap());
    maps.create(&PostParams::default(), &map("a", "back")).await.unwrap();
    label(&maps, "a", "front").await;
    label(&maps, "a", "front").await;
    maps.patch("a", &PatchParams::default(), &Patch::Merge(json!({"data": {"x": "y"}}))).await.unwrap();
    label(&maps, "a", "back").await;
    maps.create(&PostParams::default(), &map("b", "front")).await.unwrap();
    maps.delete("b", &DeleteParams::default()).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 5 {
        seen.push(told(events.try_next().await.unwrap().unwrap()));
    }
    let a = |kind: &'static str| (kind, "a".to_owned());
    let b = |kind: &'static str| (kind, "b".to_owned());
    assert_eq!(seen, [a("ADDED"), a("MODIFIED"), a("DELETED"), b("ADDED"), b("DELETED")]);
}

#[tokio::test]
async fn a_watch_without_a_version_begins_with_what_is_there() {
    let (_server, client) = start().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    maps.create(&PostParams::default(), &map("a", "x")).await.unwrap();
    let mut events = pin!(maps.watch(&WatchParams::default().timeout(10), "0").await.unwrap());
    assert_eq!(told(events.next().await.unwrap().unwrap()), ("ADDED", "a".to_owned()));
    // Which ends with a bookmark for those who want any, also when it was not asked for by `sendInitialEvents`.
    let WatchEvent::Bookmark(end) = events.next().await.unwrap().unwrap() else { panic!() };
    assert_eq!(end.metadata.annotations.get("k8s.io/initial-events-end").map(String::as_str), Some("true"));
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    let WatchEvent::Deleted(gone) = events.next().await.unwrap().unwrap() else { panic!() };
    assert_ne!(gone.metadata.resource_version, None);
}

/// The events of a raw watch that ends after a second.
async fn events(server: &apiserver::ApiServer, uri: &str) -> Vec<Value> {
    let joint = if uri.contains('?') { '&' } else { '?' };
    let answer = crate::support::raw(server, "GET", &format!("{uri}{joint}timeoutSeconds=1"), &[], "").await;
    assert_eq!(answer.code, 200, "{uri}: {:?}", answer.body);
    let lines = answer.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
}

#[tokio::test]
async fn where_a_watch_begins() {
    let (server, client) = start().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    crate::support::namespace(&client, "other").await;
    let first = maps.create(&PostParams::default(), &map("a", "x")).await.unwrap().metadata.resource_version.unwrap();
    let others: Api<ConfigMap> = Api::namespaced(client, "other");
    others.create(&PostParams::default(), &map("a", "x")).await.unwrap();
    let last = maps.create(&PostParams::default(), &map("b", "x")).await.unwrap().metadata.resource_version.unwrap();
    let (here, all) = ("/api/v1/namespaces/default/configmaps?watch=1", "/api/v1/configmaps?watch=1");
    let later = "resourceVersionMatch=NotOlderThan&sendInitialEvents";
    let cases = [
        (here.to_owned(), vec!["ADDED a", "ADDED b"]),
        (all.to_owned(), vec!["ADDED a", "ADDED b", "ADDED a"]),
        (format!("{here}&resourceVersion=0"), vec!["ADDED a", "ADDED b"]),
        (format!("{here}&resourceVersion={first}"), vec!["ADDED b"]),
        (format!("{all}&resourceVersion={first}"), vec!["ADDED a", "ADDED b"]),
        (format!("{here}&resourceVersion={last}"), vec![]),
        (format!("{here}&resourceVersion=99999"), vec![]),
        (format!("{here}&{later}=true&resourceVersion={first}"), vec!["ADDED a", "ADDED b"]),
        (format!("{here}&{later}=true&allowWatchBookmarks=1"), vec!["ADDED a", "ADDED b", "BOOKMARK "]),
        (format!("{here}&{later}=false"), vec![]),
        (format!("{here}&{later}=false&resourceVersion={first}"), vec!["ADDED b"]),
        (format!("{here}&{later}=true&resourceVersion=99999"), vec!["ERROR "]),
        (format!("{here}&fieldSelector=metadata.name%3Db"), vec!["ADDED b"]),
        (format!("{all}&fieldSelector=metadata.name%3Da,metadata.namespace%3Dother"), vec!["ADDED a"]),
        ("/api/v1/watch/namespaces/default/configmaps/b".to_owned(), vec!["ADDED b"]),
        ("/api/v1/watch/namespaces/default/configmaps".to_owned(), vec!["ADDED a", "ADDED b"]),
        (format!("/api/v1/watch/configmaps?resourceVersion={first}"), vec!["ADDED a", "ADDED b"]),
    ];
    let told = |event: &Value| {
        let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default();
        format!("{} {name}", event["type"].as_str().unwrap())
    };
    let watched = cases.iter().map(|(uri, _)| events(&server, uri));
    for ((uri, expected), seen) in cases.iter().zip(futures::future::join_all(watched).await) {
        assert_eq!(&seen.iter().map(told).collect::<Vec<_>>(), expected, "{uri}");
    }
    // A name in the path is read, whatever the query says.
    let named = crate::support::raw(&server, "GET", "/api/v1/namespaces/default/configmaps/b?watch=1", &[], "").await;
    assert_eq!(named.json()["kind"], "ConfigMap");
}

#[tokio::test]
async fn streaming_lists_end_with_their_bookmark() {
    let (_server, client) = start().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    maps.create(&PostParams::default(), &map("a", "x")).await.unwrap();
    let (reader, writer) = reflector::store::<ConfigMap>();
    let config = watcher::Config::default().streaming_lists();
    let mut stream = pin!(reflector(writer, watcher(maps.clone(), config)).default_backoff().applied_objects());
    let first = stream.next().await.unwrap().unwrap();
    assert_eq!(first.metadata.name.as_deref(), Some("a"));
    maps.create(&PostParams::default(), &map("b", "x")).await.unwrap();
    let second = stream.next().await.unwrap().unwrap();
    assert_eq!(second.metadata.name.as_deref(), Some("b"));
    assert_eq!(reader.len(), 2);
}

#[tokio::test]
async fn a_watch_that_fell_behind_is_told_to_list_again() {
    let limits = store::Limits { history_events: 4, ..store::Limits::default() };
    let (_server, client) = start_with(limits).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    for at in 0..10 {
        maps.create(&PostParams::default(), &map(&format!("m{at}"), "x")).await.unwrap();
    }
    // An answer of 410 would be tried again for ever by the watchers of kube-rs.
    let mut behind = pin!(maps.watch(&WatchParams::default().timeout(10), "1").await.unwrap());
    let Ok(WatchEvent::Error(status)) = behind.next().await.unwrap() else { panic!("a watch of what is gone") };
    assert_eq!((status.code, status.reason.as_str()), (410, "Expired"));
    assert!(behind.next().await.is_none());
    let mut following = pin!(watcher(maps, watcher::Config::default()).applied_objects());
    assert!(following.next().await.unwrap().is_ok());
}

#[tokio::test]
async fn timeouts_and_shutdown_end_a_watch() {
    let (server, client) = start().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    let from = maps.list(&Default::default()).await.unwrap().metadata.resource_version.unwrap();
    let short = maps.watch(&WatchParams::default().timeout(1), &from).await.unwrap();
    assert_eq!(short.count().await, 0);
    let long = maps.watch(&WatchParams::default().timeout(100), &from).await.unwrap();
    server.end_streams();
    let ended = tokio::time::timeout(Duration::from_secs(5), long.count()).await;
    assert_eq!(ended.unwrap(), 0);
}

#[tokio::test]
async fn tables_in_watches() {
    let (server, client) = start().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    maps.create(&PostParams::default(), &map("a", "x")).await.unwrap();
    maps.create(&PostParams::default(), &map("b", "x")).await.unwrap();
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")];
    let uri = "/api/v1/namespaces/default/configmaps?watch=true&timeoutSeconds=1";
    let answer = crate::support::raw(&server, "GET", uri, &table, "").await;
    let lines: Vec<Value> = answer
        .body
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["object"]["kind"], "Table");
    assert_eq!(lines[0]["object"]["columnDefinitions"][0]["name"], "Name");
    assert_eq!(lines[1]["object"]["rows"][0]["cells"][0], "b");
    assert!(lines[1]["object"]["columnDefinitions"].is_null());
}

#[tokio::test]
async fn the_last_bookmark_is_that_of_the_end() {
    let (server, client) = start().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let from = maps.create(&PostParams::default(), &map("a", "x")).await.unwrap().metadata.resource_version.unwrap();
    // It moves on with the whole store.
    crate::support::namespace(&client, "other").await;
    let uri = format!("/api/v1/namespaces/default/configmaps?watch=1&resourceVersion={from}&timeoutSeconds=3");
    let bookmarks = format!("{uri}&allowWatchBookmarks=true");
    let (with, without) = tokio::join!(events(&server, &bookmarks), events(&server, &uri));
    let now = maps.list(&Default::default()).await.unwrap().metadata.resource_version.unwrap();
    let bookmark = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"resourceVersion": now}});
    assert_eq!(with, [json!({"type": "BOOKMARK", "object": bookmark})]);
    assert_eq!(without, Vec::<Value>::new());
}

#[tokio::test]
async fn what_a_watch_cannot_ask_for() {
    let (server, _client) = start().await;
    let maps = "/api/v1/namespaces/default/configmaps?watch=1";
    for (query, code, reason) in [
        ("sendInitialEvents=true", 422, "Invalid"),
        ("resourceVersionMatch=NotOlderThan", 422, "Invalid"),
        ("resourceVersionMatch=Exact&sendInitialEvents=true", 422, "Invalid"),
        ("resourceVersion=x", 400, "BadRequest"),
        ("labelSelector=a%3D%3D%3Db", 400, "BadRequest"),
        ("fieldSelector=data.x%3D1", 400, "BadRequest"),
        ("timeoutSeconds=soon", 400, "BadRequest"),
    ] {
        let answer = crate::support::raw(&server, "GET", &format!("{maps}&{query}"), &[], "").await;
        assert_eq!((answer.code, answer.json()["reason"].as_str()), (code, Some(reason)), "{query}");
    }
    let answer = crate::support::raw(&server, "GET", &format!("{maps}&sendInitialEvents=true"), &[], "").await.json();
    assert_eq!(answer["details"]["causes"][0]["reason"], "FieldValueForbidden");
    assert_eq!(answer["details"]["kind"], "ListOptions");
}

/// The kubelets' way: each one sees its own pods, and their going to another node.
#[tokio::test]
async fn watches_by_node_and_by_phase() {
    let (server, client) = start().await;
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::default_namespaced(client);
    let make = |name: &str, node: &str| {
        object(json!({"metadata": {"name": name},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]}}))
    };
    for (name, node) in [("p", "n1"), ("q", "n2"), ("r", "n1")] {
        pods.create(&PostParams::default(), &make(name, node)).await.unwrap();
    }
    let running = Patch::Merge(json!({"status": {"phase": "Running"}}));
    pods.patch_status("r", &PatchParams::default(), &running).await.unwrap();
    pods.delete("p", &DeleteParams::default().grace_period(0)).await.unwrap();
    let watched = |fields: &str| {
        let uri = format!("/api/v1/pods?watch=1&resourceVersion=1&fieldSelector={fields}");
        let server = server.clone();
        async move {
            let seen = events(&server, &uri).await;
            let told = |event: &Value| format!("{} {}", event["type"], event["object"]["metadata"]["name"]);
            seen.iter().map(told).collect::<Vec<_>>().join(", ").replace('"', "")
        }
    };
    let (by_node, other, by_phase) =
        tokio::join!(watched("spec.nodeName%3Dn1"), watched("spec.nodeName%3Dn2"), watched("status.phase%3DPending"));
    assert_eq!(by_node, "ADDED p, ADDED r, MODIFIED r, DELETED p");
    assert_eq!(other, "ADDED q");
    assert_eq!(by_phase, "ADDED p, ADDED q, ADDED r, DELETED r, DELETED p");
}
