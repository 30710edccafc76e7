use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;

use crate::support::{namespace, object, raw, start, status};

#[tokio::test]
async fn objects_need_their_namespace() {
    let (_server, client) = start().await;
    let maps: Api<ConfigMap> = Api::namespaced(client, "nowhere");
    let map = object(json!({"metadata": {"name": "a"}}));
    let refused = status(maps.create(&PostParams::default(), &map).await);
    assert_eq!((refused.code, refused.message.as_str()), (404, "namespaces \"nowhere\" not found"));
}

#[tokio::test]
async fn the_same_name_in_two_namespaces() {
    let (_server, client) = start().await;
    namespace(&client, "dev").await;
    let map: ConfigMap = object(json!({"metadata": {"name": "a"}}));
    for name in ["dev", "default"] {
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), name);
        maps.create(&PostParams::default(), &map).await.unwrap();
    }
    let all: Api<ConfigMap> = Api::all(client);
    let all = all.list(&Default::default()).await.unwrap();
    let found: Vec<_> = all.items.iter().map(|map| map.metadata.namespace.clone().unwrap()).collect();
    assert_eq!(found, ["default", "dev"]);
}

#[tokio::test]
async fn deletion_waits_for_finalize_and_lets_nothing_in() {
    let (server, client) = start().await;
    namespace(&client, "dev").await;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let made = namespaces.get("dev").await.unwrap();
    assert_eq!(made.metadata.labels.unwrap()["kubernetes.io/metadata.name"], "dev");
    assert_eq!(made.status.unwrap().phase.as_deref(), Some("Active"));
    let going = namespaces.delete("dev", &DeleteParams::default()).await.unwrap().left().unwrap();
    assert_eq!(going.status.unwrap().phase.as_deref(), Some("Terminating"));
    let maps: Api<ConfigMap> = Api::namespaced(client, "dev");
    let refused = status(maps.create(&PostParams::default(), &object(json!({"metadata": {"name": "a"}}))).await);
    assert_eq!(refused.code, 403);
    assert_eq!(
        refused.message,
        "configmaps \"a\" is forbidden: unable to create new content in namespace dev because it is being terminated"
    );
    assert_eq!(refused.details.unwrap().causes[0].reason, "NamespaceTerminating");
    let body = r#"{"kind":"Namespace","apiVersion":"v1","metadata":{"name":"dev"},"spec":{"finalizers":[]}}"#;
    let answer = raw(&server, "PUT", "/api/v1/namespaces/dev/finalize", &[], body).await;
    assert_eq!(answer.code, 200, "{}", answer.json());
    assert_eq!(status(namespaces.get("dev").await).code, 404);
}

#[tokio::test]
async fn the_default_namespace_stays() {
    let (_server, client) = start().await;
    let namespaces: Api<Namespace> = Api::all(client);
    let refused = status(namespaces.delete("default", &DeleteParams::default()).await);
    assert_eq!(refused.message, "namespaces \"default\" is forbidden: this namespace may not be deleted");
}
