use serde_json::{Value, json};

use crate::error::Error;
use crate::registry::Registry;

fn patched(group: &str, kind: &str, mut object: Value, patch: Value) -> Result<Value, Error> {
    let registry = Registry::builtin();
    let ty = registry.type_of(group, "v1", kind).unwrap();
    registry.strategic_merge(&mut object, &patch, ty).map(|()| object)
}

fn pod(containers: Value) -> Value {
    json!({"spec": {"containers": containers}})
}

#[test]
fn lists_merge_by_key() {
    let before = || pod(json!([{"name": "a", "image": "x", "args": ["1"]}, {"name": "b", "image": "y"}]));
    for (patch, after) in [
        (
            json!([{"name": "b", "image": "z"}]),
            json!([{"name": "a", "image": "x", "args": ["1"]}, {"name": "b", "image": "z"}]),
        ),
        (
            json!([{"name": "a", "args": ["2", "3"]}]),
            json!([{"name": "a", "image": "x", "args": ["2", "3"]}, {"name": "b", "image": "y"}]),
        ),
        (json!([{"name": "a", "$patch": "delete"}]), json!([{"name": "b", "image": "y"}])),
        (json!([{"$patch": "replace"}, {"name": "c"}]), json!([{"name": "c"}])),
        (
            json!([{"name": "c", "image": null}]),
            json!([{"name": "c"}, {"name": "a", "image": "x", "args": ["1"]}, {"name": "b", "image": "y"}]),
        ),
    ] {
        assert_eq!(patched("", "Pod", before(), pod(patch)), Ok(pod(after)));
    }
}

#[test]
fn the_order_of_elements() {
    let before = pod(json!([{"name": "a"}, {"name": "b"}]));
    let patch = json!({"spec": {
        "$setElementOrder/containers": [{"name": "b"}, {"name": "c"}, {"name": "a"}],
        "containers": [{"name": "c", "image": "new"}],
    }});
    let after = pod(json!([{"name": "b"}, {"name": "c", "image": "new"}, {"name": "a"}]));
    assert_eq!(patched("", "Pod", before.clone(), patch), Ok(after));
    let only_order = json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}});
    let after = pod(json!([{"name": "b"}, {"name": "a"}]));
    assert_eq!(patched("", "Pod", before.clone(), only_order), Ok(after));
    let wrong = json!({"spec": {
        "$setElementOrder/containers": [{"name": "a"}],
        "containers": [{"name": "c"}],
    }});
    assert!(patched("", "Pod", before, wrong).is_err());
}

#[test]
fn scalars_maps_and_directives() {
    let meta = |value: Value| json!({"metadata": value});
    for (before, patch, after) in [
        (json!({"finalizers": ["a"]}), json!({"finalizers": ["b", "a"]}), json!({"finalizers": ["b", "a"]})),
        (
            json!({"finalizers": ["a", "b"]}),
            json!({"$deleteFromPrimitiveList/finalizers": ["a"]}),
            json!({"finalizers": ["b"]}),
        ),
        (
            json!({"finalizers": ["a", "b"]}),
            json!({"$deleteFromPrimitiveList/finalizers": ["a"], "$setElementOrder/finalizers": ["c", "b"], "finalizers": ["c"]}),
            json!({"finalizers": ["c", "b"]}),
        ),
        (
            json!({"labels": {"a": "1", "b": "2"}}),
            json!({"labels": {"a": null, "c": "3"}}),
            json!({"labels": {"b": "2", "c": "3"}}),
        ),
        (
            json!({"labels": {"a": "1"}}),
            json!({"labels": {"$patch": "replace", "b": "2"}}),
            json!({"labels": {"b": "2"}}),
        ),
        (json!({"labels": {"a": "1"}}), json!({"labels": {"$patch": "delete"}}), json!({"labels": {}})),
        (json!({}), json!({"labels": {"a": "1", "b": null}}), json!({"labels": {"a": "1"}})),
    ] {
        assert_eq!(patched("", "Pod", meta(before), meta(patch)), Ok(meta(after)));
    }
}

#[test]
fn retained_keys() {
    let before = json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
    let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    let after = json!({"spec": {"strategy": {"type": "Recreate"}}});
    assert_eq!(patched("apps", "Deployment", before.clone(), patch), Ok(after));
    let wrong = json!({"spec": {"strategy": {"$retainKeys": ["type"], "rollingUpdate": {"maxSurge": 2}}}});
    let message = "invalid patch format of retainKeys".to_owned();
    assert_eq!(patched("apps", "Deployment", before, wrong), Err(Error::Patch(message)));
}

#[test]
fn what_cannot_be_applied_is_an_error() {
    let before = || json!({"metadata": {"finalizers": ["a"]}, "spec": {"containers": [{"name": "a"}], "foo": {}}});
    for (patch, message) in [
        (json!([]), "the patch is not an object"),
        (json!({"$patch": "jump"}), "unknown patch type: \"jump\""),
        (pod(json!([{"image": "x"}])), "map: {\"image\":\"x\"} does not contain declared merge key: name"),
        (pod(json!(["x"])), "lists of objects merge with objects only"),
        (json!({"spec": {"foo": {"a": 1}}}), "unable to find api field in struct PodSpec for the json field \"foo\""),
        (json!({"metadata": {"$deleteFromPrimitiveList/finalizers": 1}}), "invalid patch format of primitive list"),
        (json!({"spec": {"$setElementOrder/containers": 1}}), "invalid patch format of setElementOrder list"),
        (json!({"spec": {"$retainKeys": "a"}}), "invalid patch format of retainKeys"),
    ] {
        assert_eq!(patched("", "Pod", before(), patch), Err(Error::Patch(message.to_owned())));
    }
}

#[test]
fn ports_of_services_merge_by_number() {
    let before = json!({"spec": {"ports": [{"port": 80, "name": "a"}]}});
    let patch = json!({"spec": {"ports": [{"port": 80, "nodePort": 30001}]}});
    let after = json!({"spec": {"ports": [{"port": 80, "name": "a", "nodePort": 30001}]}});
    assert_eq!(patched("", "Service", before, patch), Ok(after));
}
