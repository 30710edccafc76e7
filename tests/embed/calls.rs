//! kube's calls that are neither a watch nor one of the verbs that everybody has.

use std::collections::BTreeMap;

use coracle::Cluster;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Pod},
};
use kube::{
    Api, Discovery, ResourceExt as _,
    api::{DynamicObject, EvictParams, GroupVersionKind, Patch, PatchParams, PostParams, ValidationDirective},
    core::GroupVersion,
    discovery::{self, Scope, verbs},
};
use serde_json::json;

use crate::{all, deployment, map, object, start};

#[tokio::test]
async fn every_kind_of_patch() {
    let (_cluster, client) = start().await;
    let deployments: Api<Deployment> = all(&client);
    let params = PatchParams::default();
    deployments.create(&PostParams::default(), &deployment("web", 0)).await.unwrap();

    let container = json!({"name": "side", "image": "coracle/echo"});
    let add = json!({"spec": {"template": {"spec": {"containers": [container]}}}});
    let seen = deployments.patch("web", &params, &Patch::Strategic(add.clone())).await.unwrap();
    let names = |seen: &Deployment| -> Vec<String> {
        let pod = seen.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
        pod.into_iter().flat_map(|pod| &pod.containers).map(|container| container.name.clone()).collect()
    };
    assert_eq!(names(&seen), ["side", "main"], "a strategic merge goes by the name");
    let seen = deployments.patch("web", &params, &Patch::Merge(add)).await.unwrap();
    assert_eq!(names(&seen), ["side"], "a merge patch replaces the list");

    let operations = json!([
        {"op": "test", "path": "/spec/replicas", "value": 0},
        {"op": "replace", "path": "/spec/template/spec/containers/0/name", "value": "renamed"},
    ]);
    let operations: json_patch::Patch = object(operations);
    let seen = deployments.patch("web", &params, &Patch::Json::<()>(operations.clone())).await.unwrap();
    assert_eq!(names(&seen), ["renamed"]);
    let scale = json!({"spec": {"replicas": 1}});
    deployments.patch_scale("web", &params, &Patch::Merge(scale)).await.unwrap();
    let refused = deployments.patch("web", &params, &Patch::Json::<()>(operations)).await.unwrap_err();
    assert!(matches!(refused, kube::Error::Api(status) if status.code == 422), "the test does not hold");

    let maps: Api<ConfigMap> = all(&client);
    let wanted = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "1"}});
    let seen = maps.patch("applied", &PatchParams::apply("tests"), &Patch::Apply(&wanted)).await.unwrap();
    assert_eq!(seen.data, Some(BTreeMap::from([("a".into(), "1".into())])));
    let label = Patch::Merge(json!({"metadata": {"labels": {"x": "y"}}}));
    assert_eq!(maps.patch_metadata("applied", &params, &label).await.unwrap().labels()["x"], "y");
}

#[tokio::test]
async fn dry_runs_and_strict_fields() {
    let (_cluster, client) = start().await;
    let maps: Api<ConfigMap> = all(&client);
    let dry = PostParams { dry_run: true, field_manager: None };
    assert!(maps.create(&dry, &map("dry")).await.unwrap().uid().is_some());
    assert!(maps.get_opt("dry").await.unwrap().is_none());

    maps.create(&PostParams::default(), &map("wet")).await.unwrap();
    let unknown = json!({"apiVersion": "v1", "kind": "ConfigMap", "dta": {"a": "b"}});
    let mut params = PatchParams::apply("tests").force();
    params.field_validation = Some(ValidationDirective::Strict);
    let refused = maps.patch("wet", &params, &Patch::Apply(&unknown)).await.unwrap_err();
    assert!(refused.to_string().contains("dta"), "{refused}");
}

#[tokio::test]
async fn subresources() {
    // Without controllers nobody writes in between.
    let cluster = Cluster::builder().api_only().start().await.unwrap();
    let client = cluster.client();
    let deployments: Api<Deployment> = all(&client);
    deployments.create(&PostParams::default(), &deployment("web", 0)).await.unwrap();
    let mut scale = deployments.get_scale("web").await.unwrap();
    assert_eq!(scale.status.as_ref().unwrap().selector.as_deref(), Some("app=web"));
    scale.spec.as_mut().unwrap().replicas = Some(2);
    let scale = deployments.replace_scale("web", &PostParams::default(), &scale).await.unwrap();
    assert_eq!(scale.spec.unwrap().replicas, Some(2));

    let pods: Api<Pod> = all(&client);
    let pod = object(json!({"metadata": {"name": "one"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}));
    pods.create(&PostParams::default(), &pod).await.unwrap();
    let status = json!({"status": {"phase": "Running", "message": "pretended"}});
    let seen = pods.patch_status("one", &PatchParams::default(), &Patch::Strategic(&status)).await.unwrap();
    assert_eq!(seen.status.unwrap().message.as_deref(), Some("pretended"));
    let mut seen = pods.get_status("one").await.unwrap();
    seen.status.as_mut().unwrap().message = None;
    let seen = pods.replace_status("one", &PostParams::default(), &seen).await.unwrap();
    assert_eq!(seen.status.unwrap().message, None);
    let refused = pods.logs("one", &Default::default()).await.unwrap_err();
    assert!(refused.to_string().contains("pod one does not have a host assigned"), "{refused}");
    pods.evict("one", &EvictParams::default()).await.unwrap();
}

#[tokio::test]
async fn entries_are_made_or_changed() {
    let (_cluster, client) = start().await;
    let maps: Api<ConfigMap> = all(&client);
    for value in ["first", "second"] {
        let mut entry = maps.entry("slot").await.unwrap().or_insert(ConfigMap::default);
        entry.get_mut().data.get_or_insert_default().insert("key".into(), value.into());
        entry.commit(&PostParams::default()).await.unwrap();
    }
    assert_eq!(maps.get("slot").await.unwrap().data.unwrap()["key"], "second");
    let mut late = maps.entry("slot").await.unwrap().or_insert(ConfigMap::default);
    maps.patch("slot", &PatchParams::default(), &Patch::Merge(json!({"data": {"key": "third"}}))).await.unwrap();
    late.get_mut().data.get_or_insert_default().insert("key".into(), "lost".into());
    assert!(late.commit(&PostParams::default()).await.is_err(), "somebody was faster");
}

#[tokio::test]
async fn what_is_there_is_discovered() {
    let (_cluster, client) = start().await;
    for discovery in [Discovery::new(client.clone()).run().await, Discovery::new(client.clone()).run_aggregated().await]
    {
        let discovery = discovery.unwrap();
        assert!(["", "apps", "batch", "coordination.k8s.io"].iter().all(|group| discovery.has_group(group)));
        let kind = GroupVersionKind::gvk("apps", "v1", "Deployment");
        let (resource, capabilities) = discovery.resolve_gvk(&kind).unwrap();
        assert_eq!((resource.plural.as_str(), &capabilities.scope), ("deployments", &Scope::Namespaced));
        assert!(capabilities.supports_operation(verbs::PATCH));
        assert!(capabilities.subresources.iter().any(|(sub, _)| sub.plural == "scale"), "{capabilities:?}");
        // Every kind that can be listed is.
        for group in discovery.groups() {
            for (resource, capabilities) in group.recommended_resources() {
                if capabilities.supports_operation(verbs::LIST) {
                    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
                    api.list(&Default::default()).await.unwrap_or_else(|error| panic!("{resource:?}: {error}"));
                }
            }
        }
    }
    let group = discovery::group(&client, "apps").await.unwrap();
    assert_eq!(group.preferred_version_or_latest(), "v1");
    assert!(discovery::pinned_group(&client, &GroupVersion::gv("batch", "v1")).await.is_ok());
    let (resource, _) = discovery::pinned_kind(&client, &GroupVersionKind::gvk("", "v1", "Node")).await.unwrap();
    assert_eq!(resource.plural, "nodes");
}
