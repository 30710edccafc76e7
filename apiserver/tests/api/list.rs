use apiserver::ApiServer;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, VersionMatch};
use serde_json::{Value, json};

use crate::support::{object, raw, start, start_with, status};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str, tier: &str) -> ConfigMap {
    object(json!({"metadata": {"name": name, "labels": {"tier": tier}}, "data": {"x": "1"}}))
}

async fn get(server: &ApiServer, uri: &str) -> (u16, Value) {
    let answer = raw(server, "GET", uri, &[], "").await;
    (answer.code, answer.json())
}

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn all_parts_are_of_the_revision_of_the_first() {
    let (server, client) = start().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    for name in ["a", "b", "c", "d", "e"] {
        maps.create(&PostParams::default(), &map(name, "x")).await.unwrap();
    }
    let first = maps.list(&ListParams::default().limit(2)).await.unwrap();
    assert_eq!((first.items.len(), first.metadata.remaining_item_count), (2, Some(3)));
    let revision = first.metadata.resource_version.unwrap();
    maps.delete("d", &DeleteParams::default()).await.unwrap();
    maps.create(&PostParams::default(), &map("bb", "x")).await.unwrap();
    maps.patch("c", &PatchParams::default(), &Patch::Merge(json!({"data": {"x": "2"}}))).await.unwrap();
    let token = first.metadata.continue_.unwrap();
    let (_, second) = get(&server, &format!("{MAPS}?limit=2&continue={token}")).await;
    assert_eq!((names(&second), &second["metadata"]["remainingItemCount"]), (vec!["c", "d"], &json!(1)));
    assert_eq!(second["items"][0]["data"]["x"], "1");
    let token = second["metadata"]["continue"].as_str().unwrap();
    let (_, third) = get(&server, &format!("{MAPS}?limit=2&continue={token}")).await;
    assert_eq!((names(&third), third["metadata"].get("continue")), (vec!["e"], None));
    for part in [&second, &third] {
        assert_eq!(part["metadata"]["resourceVersion"].as_str(), Some(revision.as_str()), "watches begin there");
    }
    // Any revision that is remembered can be listed.
    let exact = ListParams::default().at(&revision).matching(VersionMatch::Exact);
    let then = maps.list(&exact).await.unwrap();
    assert_eq!(then.items.len(), 5);
    assert_eq!(maps.list(&ListParams::default().at("0")).await.unwrap().items.len(), 5, "any is that of now");
    let selected = exact.labels("tier=x").limit(4);
    let then = maps.list(&selected).await.unwrap();
    assert_eq!((then.items.len(), then.metadata.remaining_item_count), (4, None));
    assert!(then.metadata.continue_.is_some());
    let (_, any) = get(&server, &format!("{MAPS}?limit=2&resourceVersion=0")).await;
    assert_eq!(names(&any).len(), 5, "a list of any version is whole");
}

#[tokio::test]
async fn parts_over_all_namespaces() {
    let (server, client) = start().await;
    for namespace in ["default-2", "a"] {
        crate::support::namespace(&client, namespace).await;
    }
    for namespace in ["default", "default-2", "a"] {
        for name in ["m", "n"] {
            let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
            maps.create(&PostParams::default(), &map(name, "x")).await.unwrap();
        }
    }
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let (code, part) = get(&server, &format!("/api/v1/configmaps?limit=1&continue={token}")).await;
        assert_eq!(code, 200, "{part}");
        let metadata = &part["items"][0]["metadata"];
        seen.push(format!("{}/{}", metadata["namespace"], metadata["name"]).replace('"', ""));
        match part["metadata"]["continue"].as_str() {
            Some(next) => token = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(seen, ["a/m", "a/n", "default-2/m", "default-2/n", "default/m", "default/n"]);
    let one = "/api/v1/configmaps?fieldSelector=metadata.namespace%3Ddefault,metadata.name%3Dn";
    assert_eq!(names(&get(&server, one).await.1), ["n"]);
}

#[tokio::test]
async fn what_has_left_the_history() {
    let limits = store::Limits { history_events: 3, ..store::Limits::default() };
    let (server, client) = start_with(limits).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    for name in ["a", "b", "c"] {
        maps.create(&PostParams::default(), &map(name, "x")).await.unwrap();
    }
    let first = maps.list(&ListParams::default().limit(1)).await.unwrap();
    let revision = first.metadata.resource_version.unwrap();
    for name in ["d", "e", "f", "g"] {
        maps.create(&PostParams::default(), &map(name, "x")).await.unwrap();
    }
    let (code, gone) = get(&server, &format!("{MAPS}?limit=1&continue={}", first.metadata.continue_.unwrap())).await;
    assert_eq!((code, &gone["reason"]), (410, &json!("Expired")));
    assert!(gone["message"].as_str().unwrap().contains("or use the continue token in this response"), "{gone}");
    // It goes on where it was, as of now.
    let token = gone["metadata"]["continue"].as_str().unwrap();
    let (_, rest) = get(&server, &format!("{MAPS}?limit=4&continue={token}")).await;
    assert_eq!(names(&rest), ["b", "c", "d", "e"]);
    let now = rest["metadata"]["resourceVersion"].as_str().unwrap();
    assert_ne!(now, revision);
    let exact = ListParams::default().at(&revision).matching(VersionMatch::Exact);
    let gone = status(maps.list(&exact).await);
    assert_eq!((gone.code, gone.message.as_str()), (410, "The resourceVersion for the provided list is too old."));
    assert_eq!(maps.list(&ListParams::default().at(&revision)).await.unwrap().items.len(), 7, "or newer");
}

#[tokio::test]
async fn versions_that_have_not_come() {
    let (server, client) = start().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    let made = maps.create(&PostParams::default(), &map("a", "x")).await.unwrap();
    let now: u64 = made.metadata.resource_version.unwrap().parse().unwrap();
    let uris = [
        format!("{MAPS}?resourceVersion=99999"),
        format!("{MAPS}?resourceVersion=99999&resourceVersionMatch=Exact"),
        format!("{MAPS}/a?resourceVersion=99999"),
    ];
    let answers = futures::future::join_all(uris.iter().map(|uri| raw(&server, "GET", uri, &[], ""))).await;
    for (uri, answer) in uris.iter().zip(answers) {
        let told = answer.json();
        assert_eq!((answer.code, &told["reason"]), (504, &json!("Timeout")), "{uri}");
        assert_eq!(told["message"], format!("Timeout: Too large resource version: 99999, current: {now}"));
        assert_eq!(told["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
        assert_eq!(told["details"]["retryAfterSeconds"], 1);
        assert_eq!(answer.headers["retry-after"], "1");
    }
    // One that comes in time is waited for.
    let uri = format!("{MAPS}/b?resourceVersion={}", now + 1);
    let (found, made) = tokio::join!(raw(&server, "GET", &uri, &[], ""), async {
        tokio::task::yield_now().await;
        maps.create(&PostParams::default(), &map("b", "x")).await
    });
    assert_eq!((found.code, made.is_ok()), (200, true));
}

#[tokio::test]
async fn collections_are_deleted_in_parts() {
    let (server, client) = start().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    for (name, tier) in [("a", "x"), ("b", "y"), ("c", "x"), ("d", "x")] {
        maps.create(&PostParams::default(), &map(name, tier)).await.unwrap();
    }
    let uri = format!("{MAPS}?labelSelector=tier%3Dx&limit=2");
    let deleted = raw(&server, "DELETE", &uri, &[], "").await.json();
    assert_eq!(names(&deleted), ["a", "c"]);
    let token = deleted["metadata"]["continue"].as_str().unwrap();
    let deleted = raw(&server, "DELETE", &format!("{uri}&continue={token}"), &[], "").await.json();
    assert_eq!((names(&deleted), deleted["metadata"].get("continue")), (vec!["d"], None));
    let (_, left) = get(&server, MAPS).await;
    assert_eq!(names(&left), ["b"]);
}
