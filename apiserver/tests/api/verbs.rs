//! Each verb, by the `kube` crate in the same process.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::json;

use crate::support::{object, raw, start, status};

fn config_map(name: &str) -> ConfigMap {
    object(json!({"metadata": {"name": name, "labels": {"app": name}}, "data": {"a": "1"}}))
}

fn deployment(name: &str) -> Deployment {
    object(json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "nginx"}]},
            },
        },
    }))
}

#[tokio::test]
async fn create_get_list_delete() {
    let (_server, client) = start().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    let made = maps.create(&PostParams::default(), &config_map("a")).await.unwrap();
    assert!(made.metadata.uid.is_some() && made.metadata.creation_timestamp.is_some());
    assert_eq!(made.metadata.generation, None);
    assert_eq!(maps.get("a").await.unwrap(), made);
    let again = status(maps.create(&PostParams::default(), &config_map("a")).await);
    assert_eq!((again.code, again.message.as_str()), (409, "configmaps \"a\" already exists"));
    assert_eq!(again.reason, "AlreadyExists");
    maps.create(&PostParams::default(), &config_map("b")).await.unwrap();
    let list = maps.list(&ListParams::default().labels("app in (b,c)")).await.unwrap();
    assert_eq!(list.items.len(), 1);
    let list = maps.list(&ListParams::default().fields("metadata.name=a")).await.unwrap();
    assert_eq!(list.items, [made]);
    let gone = maps.delete("a", &DeleteParams::default()).await.unwrap();
    assert!(gone.right().unwrap().is_success());
    let missing = status(maps.get("a").await);
    assert_eq!((missing.code, missing.message.as_str()), (404, "configmaps \"a\" not found"));
}

#[tokio::test]
async fn generated_names() {
    let (_server, client) = start().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    let made = maps.create(&PostParams::default(), &object(json!({"metadata": {"generateName": "web-"}}))).await;
    let name = made.unwrap().metadata.name.unwrap();
    assert!(name.starts_with("web-") && name.len() == 9, "{name}");
    let nameless = status(maps.create(&PostParams::default(), &ConfigMap::default()).await);
    assert_eq!(nameless.code, 422);
    assert!(nameless.message.contains("name or generateName is required"), "{}", nameless.message);
}

#[tokio::test]
async fn optimistic_locking() {
    let (_server, client) = start().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    let first = maps.create(&PostParams::default(), &config_map("a")).await.unwrap();
    let mut edited = first.clone();
    edited.data = Some([("a".to_owned(), "2".to_owned())].into());
    let second = maps.replace("a", &PostParams::default(), &edited).await.unwrap();
    assert_ne!(first.metadata.resource_version, second.metadata.resource_version);
    let stale = status(maps.replace("a", &PostParams::default(), &edited).await);
    assert_eq!(stale.code, 409);
    assert_eq!(
        stale.message,
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes \
         to the latest version and try again"
    );
    let mut same = second.clone();
    same.metadata.resource_version = None;
    assert_eq!(maps.replace("a", &PostParams::default(), &same).await.unwrap(), second, "nothing was written");
}

#[tokio::test]
async fn status_and_spec_are_apart() {
    let (_server, client) = start().await;
    let deployments: Api<Deployment> = Api::default_namespaced(client);
    let mut wanted = deployment("d");
    wanted.status = Some(object(json!({"replicas": 7})));
    let made = deployments.create(&PostParams::default(), &wanted).await.unwrap();
    assert_eq!(made.metadata.generation, Some(1));
    assert!(made.status.clone().unwrap_or_default().replicas.is_none());
    let patch = json!({"status": {"replicas": 3}, "spec": {"replicas": 9}});
    let after = deployments.patch_status("d", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    assert_eq!(after.status.unwrap().replicas, Some(3));
    assert_eq!((after.spec.unwrap().replicas, after.metadata.generation), (Some(2), Some(1)));
    let after = deployments.patch("d", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    assert_eq!((after.spec.unwrap().replicas, after.metadata.generation), (Some(9), Some(2)));
    let labels = json!({"metadata": {"labels": {"x": "y"}}});
    let after = deployments.patch("d", &PatchParams::default(), &Patch::Merge(&labels)).await.unwrap();
    assert_eq!(after.metadata.generation, Some(2));
}

#[tokio::test]
async fn scale() {
    let (_server, client) = start().await;
    let deployments: Api<Deployment> = Api::default_namespaced(client);
    deployments.create(&PostParams::default(), &deployment("d")).await.unwrap();
    let scale = deployments.get_scale("d").await.unwrap();
    assert_eq!(scale.spec.as_ref().unwrap().replicas, Some(2));
    assert_eq!(scale.status.as_ref().unwrap().selector.as_deref(), Some("app=web"));
    let patch = Patch::Merge(json!({"spec": {"replicas": 5}}));
    let scale = deployments.patch_scale("d", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(scale.spec.unwrap().replicas, Some(5));
    let after = deployments.get("d").await.unwrap();
    assert_eq!((after.spec.unwrap().replicas, after.metadata.generation), (Some(5), Some(2)));
    let negative = Patch::Merge(json!({"spec": {"replicas": -1}}));
    assert_eq!(status(deployments.patch_scale("d", &PatchParams::default(), &negative).await).code, 422);
}

#[tokio::test]
async fn patches() {
    let (_server, client) = start().await;
    let deployments: Api<Deployment> = Api::default_namespaced(client);
    deployments.create(&PostParams::default(), &deployment("d")).await.unwrap();
    let sidecar = json!({"spec": {"template": {"spec": {"containers": [{"name": "log", "image": "busybox"}]}}}});
    let after = deployments.patch("d", &PatchParams::default(), &Patch::Strategic(&sidecar)).await.unwrap();
    assert_eq!(after.spec.unwrap().template.spec.unwrap().containers.len(), 2);
    let operations = serde_json::from_value(json!([{"op": "replace", "path": "/spec/replicas", "value": 4}])).unwrap();
    let after = deployments.patch("d", &PatchParams::default(), &Patch::<()>::Json(operations)).await.unwrap();
    assert_eq!(after.spec.unwrap().replicas, Some(4));
    let stale = json!({"metadata": {"resourceVersion": "1"}, "spec": {"replicas": 1}});
    assert_eq!(status(deployments.patch("d", &PatchParams::default(), &Patch::Merge(&stale)).await).code, 409);
    let missing = deployments.patch("e", &PatchParams::default(), &Patch::Merge(&sidecar)).await;
    assert_eq!(status(missing).message, "deployments.apps \"e\" not found");
    let mut applied = serde_json::to_value(deployment("e")).unwrap();
    let made = deployments.patch("e", &PatchParams::apply("me"), &Patch::Apply(&applied)).await.unwrap();
    assert_eq!(made.spec.unwrap().replicas, Some(2));
    applied["spec"]["replicas"] = 3.into();
    let after = deployments.patch("e", &PatchParams::apply("me"), &Patch::Apply(&applied)).await.unwrap();
    assert_eq!(after.spec.unwrap().replicas, Some(3));
}

#[tokio::test]
async fn concurrent_patches_all_land() {
    let (_server, client) = start().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    maps.create(&PostParams::default(), &config_map("a")).await.unwrap();
    let tasks: Vec<_> = (0..20)
        .map(|at| {
            let maps = maps.clone();
            tokio::spawn(async move {
                let patch = json!({"data": {format!("k{at}"): "v"}});
                maps.patch("a", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(maps.get("a").await.unwrap().data.unwrap().len(), 21);
}

#[tokio::test]
async fn finalizers_hold_deletion() {
    let (_server, client) = start().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    let held = object(json!({"metadata": {"name": "a", "finalizers": ["example.com/hold"]}}));
    maps.create(&PostParams::default(), &held).await.unwrap();
    let going = maps.delete("a", &DeleteParams::default()).await.unwrap().left().unwrap();
    assert!(going.metadata.deletion_timestamp.is_some());
    let more = Patch::Merge(json!({"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}}));
    let refused = status(maps.patch("a", &PatchParams::default(), &more).await);
    assert!(refused.message.contains("no new finalizers can be added"), "{}", refused.message);
    let none = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    maps.patch("a", &PatchParams::default(), &none).await.unwrap();
    assert_eq!(status(maps.get("a").await).code, 404);
}

#[tokio::test]
async fn preconditions_and_policies() {
    let (_server, client) = start().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    maps.create(&PostParams::default(), &config_map("a")).await.unwrap();
    let other = Preconditions { uid: Some("other".into()), resource_version: None };
    let refused = maps.delete("a", &DeleteParams { preconditions: Some(other), ..DeleteParams::default() }).await;
    assert_eq!(status(refused).code, 409);
    let going = maps.delete("a", &DeleteParams::foreground()).await.unwrap().left().unwrap();
    assert_eq!(going.metadata.finalizers.unwrap(), ["foregroundDeletion"]);
}

#[tokio::test]
async fn delete_collection() {
    let (_server, client) = start().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    for name in ["a", "b", "c"] {
        maps.create(&PostParams::default(), &config_map(name)).await.unwrap();
    }
    let some = ListParams::default().labels("app!=b");
    maps.delete_collection(&DeleteParams::default(), &some).await.unwrap();
    let left = maps.list(&ListParams::default()).await.unwrap();
    assert_eq!(left.items.len(), 1);
    assert_eq!(left.items[0].metadata.name.as_deref(), Some("b"));
}

#[tokio::test]
async fn dry_run_leaves_no_trace() {
    let (_server, client) = start().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    maps.create(&dry, &config_map("a")).await.unwrap();
    assert_eq!(status(maps.get("a").await).code, 404);
    let made = maps.create(&PostParams::default(), &config_map("a")).await.unwrap();
    let tried = PatchParams { dry_run: true, ..PatchParams::default() };
    let after = maps.patch("a", &tried, &Patch::Merge(json!({"data": {"a": "2"}}))).await.unwrap();
    assert_eq!(after.data.unwrap()["a"], "2");
    maps.delete("a", &DeleteParams { dry_run: true, ..DeleteParams::default() }).await.unwrap();
    assert_eq!(maps.get("a").await.unwrap(), made);
}

#[tokio::test]
async fn pods_are_bound_once_and_wait_for_their_node() {
    let (server, client) = start().await;
    let pods: Api<Pod> = Api::default_namespaced(client);
    let pod = object(json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "nginx"}]}}));
    let made: Pod = pods.create(&PostParams::default(), &pod).await.unwrap();
    assert_eq!(made.status.unwrap().phase.as_deref(), Some("Pending"));
    let uri = "/api/v1/namespaces/default/pods/p/binding";
    let binding =
        r#"{"apiVersion":"v1","kind":"Binding","metadata":{"name":"p"},"target":{"kind":"Node","name":"n1"}}"#;
    assert_eq!(raw(&server, "POST", uri, &[], binding).await.code, 201);
    let again = raw(&server, "POST", uri, &[], binding).await;
    assert_eq!(again.code, 409, "{:?}", again.json());
    let bound = pods.get("p").await.unwrap();
    assert_eq!(bound.spec.as_ref().unwrap().node_name.as_deref(), Some("n1"));
    let list = pods.list(&ListParams::default().fields("spec.nodeName=n1")).await.unwrap();
    assert_eq!(list.items.len(), 1);
    let moved = Patch::Merge(json!({"spec": {"nodeName": "n2"}}));
    let refused = status(pods.patch("p", &PatchParams::default(), &moved).await);
    assert!(refused.message.starts_with("Pod \"p\" is invalid: spec: Forbidden: pod updates"), "{}", refused.message);
    let image = Patch::Strategic(json!({"spec": {"containers": [{"name": "c", "image": "httpd"}]}}));
    pods.patch("p", &PatchParams::default(), &image).await.unwrap();
    let going = pods.delete("p", &DeleteParams::default()).await.unwrap().left().unwrap();
    assert_eq!(going.metadata.deletion_grace_period_seconds, Some(30));
    pods.delete("p", &DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() }).await.unwrap();
    assert_eq!(status(pods.get("p").await).code, 404);
}
