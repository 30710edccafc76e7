use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Encoding;
use crate::registry::Registry;

fn v3(registry: &Registry, path: &str) -> Value {
    let document = registry.openapi_v3(path, Encoding::Json).unwrap();
    serde_json::from_slice(&document).unwrap()
}

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

/// Every reference has its type, and every operation an id of its own.
fn whole(document: &Value, types: &Value, prefix: &str) {
    let mut references = BTreeSet::new();
    strings_at(document, "$ref", &mut references);
    for reference in references.iter().filter(|reference| !reference.starts_with("#/parameters/")) {
        let name = reference.strip_prefix(prefix).unwrap();
        assert!(types.get(name).is_some(), "{name}");
    }
    let mut ids = BTreeSet::new();
    strings_at(&document["paths"], "operationId", &mut ids);
    let operations = document["paths"].as_object().unwrap().values();
    let operations = operations.flat_map(|path| path.as_object().unwrap().keys()).filter(|key| *key != "parameters");
    assert_eq!(ids.len(), operations.count(), "operation ids are unique");
}

#[test]
fn every_document_is_whole() {
    let registry = Registry::builtin();
    let index = registry.openapi_index();
    for path in index["paths"].as_object().unwrap().keys() {
        let document = v3(&registry, path);
        whole(&document, &document["components"]["schemas"], "#/components/schemas/");
    }
    assert!(index["paths"].get("apis/apps/v1").is_some());
    assert!(registry.openapi_v3("apis/nope/v1", Encoding::Json).is_none());
    let document: Value = serde_json::from_slice(&registry.openapi_v2(Encoding::Json)).unwrap();
    whole(&document, &document["definitions"], "#/definitions/");
}

#[test]
fn operations_have_the_names_of_kubernetes() {
    let mut ids = BTreeSet::new();
    let document: Value = serde_json::from_slice(&Registry::builtin().openapi_v2(Encoding::Json)).unwrap();
    strings_at(&document["paths"], "operationId", &mut ids);
    for id in [
        "connectCoreV1GetNamespacedPodPortforward",
        "connectCoreV1PostNamespacedPodExec",
        "connectCoreV1PutNodeProxyWithPath",
        "createAuthorizationV1NamespacedLocalSubjectAccessReview",
        "createCoreV1NamespacedBinding",
        "createCoreV1NamespacedPodEviction",
        "deleteCoreV1CollectionNamespacedPod",
        "deleteRbacAuthorizationV1ClusterRole",
        "getAPIVersions",
        "getAppsAPIGroup",
        "getAppsV1APIResources",
        "getCodeVersion",
        "getCoreAPIVersions",
        "listBatchV1CronJobForAllNamespaces",
        "listCoreV1NamespacedPod",
        "listFlowcontrolApiserverV1FlowSchema",
        "patchCertificatesV1CertificateSigningRequestApproval",
        "readAppsV1NamespacedDeploymentScale",
        "readCoreV1NamespacedPodLog",
        "replaceCoreV1NamespaceFinalize",
        "replaceCoreV1NamespacedPodEphemeralcontainers",
    ] {
        assert!(ids.contains(id), "{id}");
    }
}

#[test]
fn what_kubectl_looks_at() {
    let apps = v3(&Registry::builtin(), "apis/apps/v1");
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
    assert_eq!(containers["items"]["$ref"], "#/components/schemas/io.k8s.api.core.v1.Container");
    assert_eq!(schemas["io.k8s.api.core.v1.PodSpec"]["required"], json!(["containers"]));
    let sources = &schemas["io.k8s.api.core.v1.Container"]["properties"]["envFrom"]["items"];
    assert_eq!(sources["default"], json!({}));
    assert_eq!(sources["allOf"][0]["$ref"], "#/components/schemas/io.k8s.api.core.v1.EnvFromSource");
    assert!(containers["description"].as_str().unwrap().starts_with("List of containers belonging to the pod."));
    let metadata = &deployment["properties"]["metadata"];
    assert_eq!(metadata["allOf"][0]["$ref"], "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
    assert!(metadata["description"].is_string());
    assert!(schemas.get("io.k8s.api.core.v1.Node").is_none());
}
