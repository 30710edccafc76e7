use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::registry::Registry;

fn strings_at(value: &Value, key: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(name, value)| match value.as_str() {
            Some(text) if name == key => drop(found.insert(text.to_owned())),
            _ => strings_at(value, key, found),
        }),
        Value::Array(items) => items.iter().for_each(|item| strings_at(item, key, found)),
        _ => {}
    }
}

#[test]
fn every_document_is_whole() {
    let registry = Registry::builtin();
    let index = registry.openapi_index();
    for path in index["paths"].as_object().unwrap().keys() {
        let (group, version) = path.trim_start_matches("apis/").rsplit_once('/').unwrap();
        let group = if group == "api" { "" } else { group };
        let document = registry.openapi(group, version).unwrap();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let mut references = BTreeSet::new();
        strings_at(&document, "$ref", &mut references);
        for reference in references {
            let name = reference.trim_start_matches("#/components/schemas/");
            assert!(schemas.contains_key(name), "{path}: {name}");
        }
        let mut ids = BTreeSet::new();
        strings_at(&document["paths"], "operationId", &mut ids);
        let operations = document["paths"].as_object().unwrap().values();
        let operations =
            operations.flat_map(|path| path.as_object().unwrap().keys()).filter(|key| *key != "parameters");
        assert_eq!(ids.len(), operations.count(), "{path}: operation ids are unique");
    }
    assert!(registry.openapi("nope", "v1").is_none());
}

#[test]
fn what_kubectl_looks_at() {
    let registry = Registry::builtin();
    let apps = registry.openapi("apps", "v1").unwrap();
    let item = &apps["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"];
    let patch = &item["patch"];
    let kind = json!({"group": "apps", "version": "v1", "kind": "Deployment"});
    assert_eq!(patch["x-kubernetes-group-version-kind"], kind);
    assert_eq!(patch["x-kubernetes-action"], "patch");
    let parameters = patch["parameters"].as_array().unwrap();
    assert!(parameters.iter().any(|one| one["name"] == "fieldValidation" && one["in"] == "query"));
    let list = &apps["paths"]["/apis/apps/v1/deployments"]["get"];
    assert_eq!(list["x-kubernetes-group-version-kind"], kind);
    let schemas = &apps["components"]["schemas"];
    let deployment = &schemas["io.k8s.api.apps.v1.Deployment"];
    assert_eq!(deployment["x-kubernetes-group-version-kind"], json!([kind]));
    let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(containers["x-kubernetes-patch-strategy"], "merge");
    assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
    assert_eq!(containers["items"]["allOf"][0]["$ref"], "#/components/schemas/io.k8s.api.core.v1.Container");
    assert_eq!(schemas["io.k8s.api.core.v1.PodSpec"]["required"], json!(["containers"]));
    assert!(schemas.get("io.k8s.api.core.v1.Node").is_none());
}
