//! kube-runtime's ways to see changes.

use std::{pin::pin, time::Duration};

use futures::{Stream, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Pod},
};
use kube::{
    Api, ResourceExt as _,
    api::{
        ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams, PropagationPolicy,
    },
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt as _, predicates, reflector,
        wait::{await_condition, conditions},
        watcher::{self, Config, Event},
    },
};
use serde_json::json;

use crate::{all, deployment, map, object, soon, start, until};

/// What a watcher says next, in words.
async fn next(events: &mut (impl Stream<Item = watcher::Result<Event<ConfigMap>>> + Unpin)) -> String {
    match soon("a watcher's event", events.try_next()).await.expect("no error").expect("no end") {
        Event::Init => "init".into(),
        Event::InitApply(map) => format!("init {}", map.name_any()),
        Event::InitDone => "done".into(),
        Event::Apply(map) => format!("apply {}", map.name_any()),
        Event::Delete(map) => format!("delete {}", map.name_any()),
    }
}

#[tokio::test]
async fn a_watcher_tells_what_is_and_what_comes() {
    let (_cluster, client) = start().await;
    let maps: Api<ConfigMap> = all(&client);
    for (config, name) in [
        (Config::default(), "paged"),
        (Config::default().page_size(1), "small-pages"),
        (Config::default().any_semantic(), "any"),
        (Config::default().streaming_lists(), "streamed"),
    ] {
        let config = config.labels(&format!("of={name}"));
        for number in 1..=3 {
            let mut map = map(&format!("{name}-{number}"));
            map.labels_mut().insert("of".into(), name.into());
            maps.create(&PostParams::default(), &map).await.unwrap();
        }
        let mut events = pin!(watcher::watcher(maps.clone(), config));
        assert_eq!(next(&mut events).await, "init");
        for number in 1..=3 {
            assert_eq!(next(&mut events).await, format!("init {name}-{number}"));
        }
        assert_eq!(next(&mut events).await, "done");
        let merge = |value| Patch::Merge(value);
        let first = format!("{name}-1");
        maps.patch(&first, &PatchParams::default(), &merge(json!({"data": {"a": "b"}}))).await.unwrap();
        assert_eq!(next(&mut events).await, format!("apply {first}"));
        // To a selector, this is an end.
        maps.patch(&first, &PatchParams::default(), &merge(json!({"metadata": {"labels": null}}))).await.unwrap();
        assert_eq!(next(&mut events).await, format!("delete {first}"));
        maps.delete(&format!("{name}-2"), &DeleteParams::default()).await.unwrap();
        assert_eq!(next(&mut events).await, format!("delete {name}-2"));
    }
}

#[tokio::test]
async fn a_watcher_survives_the_servers_time_out() {
    let (_cluster, client) = start().await;
    let maps: Api<ConfigMap> = all(&client);
    let config = Config::default().timeout(1).fields("metadata.name=late");
    let mut events = pin!(watcher::watcher(maps.clone(), config).default_backoff());
    assert_eq!(next(&mut events).await, "init");
    assert_eq!(next(&mut events).await, "done");
    // Beyond the time-out of the first watch.
    let create = async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        maps.create(&PostParams::default(), &map("late")).await.unwrap();
    };
    let ((), seen) = tokio::join!(create, next(&mut events));
    assert_eq!(seen, "apply late");
}

#[tokio::test]
async fn a_reflector_is_a_store_that_many_read() {
    let (_cluster, client) = start().await;
    let maps: Api<ConfigMap> = all(&client);
    maps.create(&PostParams::default(), &map("first")).await.unwrap();
    let (reader, writer) = reflector::store::<ConfigMap>();
    let config = Config::default().fields("metadata.name!=kube-root-ca.crt");
    let stream = watcher::watcher(maps.clone(), config).default_backoff().reflect(writer);
    let reflecting = tokio::spawn(stream.for_each(|_| std::future::ready(())));
    soon("a first list", reader.wait_until_ready()).await.unwrap();
    assert_eq!(reader.len(), 1);
    maps.create(&PostParams::default(), &map("second")).await.unwrap();
    let second = reflector::ObjectRef::new("second").within("default");
    until("the second", async || reader.get(&second).is_some()).await;
    maps.delete("second", &DeleteParams::default()).await.unwrap();
    until("only the first", async || reader.get(&second).is_none()).await;
    reflecting.abort();
}

#[tokio::test]
async fn metadata_is_watched_without_the_rest() {
    let (_cluster, client) = start().await;
    let deployments: Api<Deployment> = all(&client);
    deployments.create(&PostParams::default(), &deployment("web", 0)).await.unwrap();
    let metadata: Api<PartialObjectMeta<Deployment>> = all(&client);
    for config in [Config::default(), Config::default().streaming_lists()] {
        let events = watcher::watcher(metadata.clone(), config).applied_objects();
        let mut events = pin!(events.predicate_filter(predicates::generation, Default::default()));
        let seen = soon("the metadata", events.try_next()).await.unwrap().unwrap();
        assert_eq!((seen.name_any().as_str(), seen.metadata.generation.is_some()), ("web", true));
        assert_eq!(seen.types.unwrap().kind, "PartialObjectMetadata");
    }
    let listed = deployments.list_metadata(&Default::default()).await.unwrap();
    assert_eq!(listed.items[0].name_any(), "web");
}

#[tokio::test]
async fn conditions_are_awaited() {
    let (_cluster, client) = start().await;
    let (deployments, pods): (Api<Deployment>, Api<Pod>) = (all(&client), all(&client));
    let made = deployments.create(&PostParams::default(), &deployment("web", 1)).await.unwrap();
    let observed = |found: Option<&Deployment>| {
        found.and_then(|d| d.status.as_ref()?.observed_generation).is_some_and(|seen| seen >= 1)
    };
    soon("the controller's status", await_condition(deployments.clone(), "web", observed)).await.unwrap();

    // The test plays the kubelet.
    let mut events = pin!(watcher::watcher(pods.clone(), Config::default()).applied_objects());
    let pod = soon("a pod", events.try_next()).await.unwrap().unwrap().name_any();
    let running = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    let waiting = tokio::spawn(await_condition(pods.clone(), &pod.clone().leak()[..], conditions::is_pod_running()));
    pods.patch_status(&pod, &PatchParams::default(), &Patch::Merge(running)).await.unwrap();
    soon("the pod runs", waiting).await.unwrap().unwrap();
    let done = await_condition(deployments.clone(), "web", conditions::is_deployment_completed());
    soon("the Deployment is complete", done).await.unwrap();

    let uid = made.uid().unwrap();
    let params = DeleteParams { propagation_policy: Some(PropagationPolicy::Foreground), ..Default::default() };
    deployments.delete("web", &params).await.unwrap();
    soon("it is gone", await_condition(deployments, "web", conditions::is_deleted(&uid))).await.unwrap();
    assert!(pods.list(&Default::default()).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn dynamic_objects_are_watched() {
    let (_cluster, client) = start().await;
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "ConfigMap"));
    let maps: Api<DynamicObject> = Api::default_namespaced_with(client, &resource);
    let wanted = DynamicObject::new("dynamic", &resource).data(json!({"data": {"key": "value"}}));
    maps.create(&PostParams::default(), &wanted).await.unwrap();
    let config = Config::default().fields("metadata.name=dynamic");
    let mut events = pin!(watcher::watcher(maps, config).applied_objects());
    let seen = soon("the object", events.try_next()).await.unwrap().unwrap();
    assert_eq!(seen.data["data"]["key"], "value");
    let typed: ConfigMap = seen.try_parse().unwrap();
    assert_eq!(typed.data, object::<ConfigMap>(json!({"data": {"key": "value"}})).data);
}
