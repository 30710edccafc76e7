//! Server-side apply and the ownership of fields.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::support::{object, start, status};

fn map(data: Value) -> Patch<Value> {
    Patch::Apply(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data}))
}

#[tokio::test]
async fn owners_conflict_share_and_give_up() {
    let (_server, client) = start().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    let (one, two) = (PatchParams::apply("one"), PatchParams::apply("two"));
    let made = maps.patch("a", &one, &map(json!({"x": "1", "y": "1"}))).await.unwrap();
    let owners = serde_json::to_value(made.metadata.managed_fields.as_ref().unwrap()).unwrap();
    assert_eq!((&owners[0]["manager"], &owners[0]["operation"]), (&json!("one"), &json!("Apply")));
    assert_eq!(owners[0]["fieldsV1"], json!({"f:data": {"f:x": {}, "f:y": {}}}));
    let again = maps.patch("a", &one, &map(json!({"x": "1", "y": "1"}))).await.unwrap();
    assert_eq!(made, again, "nothing is written");
    let refused = status(maps.patch("a", &two, &map(json!({"x": "2"}))).await);
    assert_eq!(refused.message, "Apply failed with 1 conflict: conflict with \"one\": .data.x");
    assert_eq!((refused.code, &refused.details.unwrap().causes[0].field[..]), (409, ".data.x"));
    let forced = maps.patch("a", &two.clone().force(), &map(json!({"x": "2"}))).await.unwrap();
    assert_eq!(forced.data.unwrap()["x"], "2");
    let less = maps.patch("a", &one, &map(json!({}))).await.unwrap();
    assert_eq!(json!(less.data), json!({"x": "2"}), "what is given up goes, and what others own stays");
}

#[tokio::test]
async fn other_writes_own_what_they_change() {
    let (_server, client) = start().await;
    let deployments: Api<Deployment> = Api::default_namespaced(client);
    let wanted: Deployment = object(json!({
        "metadata": {"name": "d", "labels": {"app": "d"}},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "d"}}, "template": {
            "metadata": {"labels": {"app": "d"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}},
    }));
    let me = PostParams { field_manager: Some("me".into()), ..PostParams::default() };
    let made = serde_json::to_value(deployments.create(&me, &wanted).await.unwrap()).unwrap();
    let fields = &made["metadata"]["managedFields"][0]["fieldsV1"];
    assert_eq!(fields["f:metadata"], json!({"f:labels": {".": {}, "f:app": {}}}));
    assert_eq!(fields["f:spec"]["f:selector"], json!({}));
    let rolling = json!({".": {}, "f:maxSurge": {}, "f:maxUnavailable": {}});
    assert_eq!(fields["f:spec"]["f:strategy"], json!({"f:rollingUpdate": rolling, "f:type": {}}));
    let container = &fields["f:spec"]["f:template"]["f:spec"]["f:containers"]["k:{\"name\":\"c\"}"];
    assert_eq!((&container["."], &container["f:image"]), (&json!({}), &json!({})));
    let scaler = PatchParams { field_manager: Some("scaler".into()), ..PatchParams::default() };
    deployments.patch_scale("d", &scaler, &Patch::Merge(json!({"spec": {"replicas": 2}}))).await.unwrap();
    let after = serde_json::to_value(deployments.get("d").await.unwrap()).unwrap();
    let owners = after["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(owners[0]["fieldsV1"]["f:spec"].get("f:replicas"), None);
    assert_eq!((&owners[1]["manager"], &owners[1]["subresource"]), (&json!("scaler"), &json!("scale")));
    assert_eq!(owners[1]["fieldsV1"], json!({"f:spec": {"f:replicas": {}}}));
    let none = Patch::Merge(json!({"metadata": {"managedFields": [{}]}}));
    let bare = deployments.patch("d", &PatchParams::default(), &none).await.unwrap();
    assert_eq!(bare.metadata.managed_fields, None);
}
