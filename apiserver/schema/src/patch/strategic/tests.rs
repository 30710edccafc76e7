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
fn what_only_the_server_has_keeps_its_place() {
    let names = |names: &[&str]| pod(names.iter().map(|name| json!({"name": name})).collect());
    for (server, order, add, after) in [
        (&["a", "s", "b"][..], &["a", "b"][..], None, &["a", "s", "b"][..]),
        (&["s", "a", "b"], &["b", "a"], None, &["s", "b", "a"]),
        (&["a", "b", "s"], &["b", "a"], None, &["b", "a", "s"]),
        (&["a", "s"], &["n", "a"], Some("n"), &["n", "a", "s"]),
        (&["s", "t"], &["n"], Some("n"), &["n", "s", "t"]),
        (&["a"], &["gone", "a"], None, &["a"]),
    ] {
        let order: Vec<Value> = order.iter().map(|name| json!({"name": name})).collect();
        let mut patch = json!({"spec": {"$setElementOrder/containers": order}});
        if let Some(add) = add {
            patch["spec"]["containers"] = json!([{"name": add}]);
        }
        assert_eq!(patched("", "Pod", names(server), patch), Ok(names(after)), "{server:?}");
    }
}

#[test]
fn nested_lists_and_absent_targets() {
    let spec = |spec: Value| json!({"spec": spec});
    for (before, patch, after) in [
        // Lists in items of lists have merge keys of their own.
        (
            json!({"containers": [{"name": "a", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}],
                "ports": [{"containerPort": 80, "name": "web"}], "volumeMounts": [{"mountPath": "/a", "name": "v"}]}]}),
            json!({"containers": [{"name": "a", "env": [{"name": "X", "$patch": "delete"}, {"name": "Y", "value": "3"}],
                "ports": [{"containerPort": 80, "hostPort": 81}], "volumeMounts": [{"mountPath": "/a", "readOnly": true}]}]}),
            json!({"containers": [{"name": "a", "env": [{"name": "Y", "value": "3"}],
                "ports": [{"containerPort": 80, "name": "web", "hostPort": 81}],
                "volumeMounts": [{"mountPath": "/a", "name": "v", "readOnly": true}]}]}),
        ),
        // Directives are stripped from what is added to nothing.
        (
            json!({}),
            json!({"containers": [{"name": "a", "$patch": "delete"}, {"name": "b", "$setElementOrder/env": [], "tty": null}],
                "securityContext": {"$retainKeys": ["runAsUser"], "runAsUser": 1}}),
            json!({"containers": [{"name": "b"}], "securityContext": {"runAsUser": 1}}),
        ),
        (
            json!({}),
            json!({"containers": [{"$patch": "replace"}, {"name": "a"}]}),
            json!({"containers": [{"name": "a"}]}),
        ),
        // A volume changes its source by what it retains.
        (
            json!({"volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "emptyDir": {}}]}),
            json!({"volumes": [{"name": "v", "$retainKeys": ["hostPath", "name"], "hostPath": {"path": "/x"}}]}),
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/x"}}, {"name": "w", "emptyDir": {}}]}),
        ),
        // Lists without a merge strategy are replaced.
        (
            json!({"tolerations": [{"key": "a"}], "containers": [{"name": "a", "command": ["x", "y"]}]}),
            json!({"tolerations": [{"key": "b"}], "containers": [{"name": "a", "command": ["z"]}]}),
            json!({"tolerations": [{"key": "b"}], "containers": [{"name": "a", "command": ["z"]}]}),
        ),
        (
            json!({"hostAliases": [{"ip": "1.1.1.1", "hostnames": ["a"]}], "imagePullSecrets": [{"name": "a"}]}),
            json!({"hostAliases": [{"ip": "1.1.1.1", "hostnames": ["b"]}], "imagePullSecrets": [{"name": "b"}]}),
            json!({"hostAliases": [{"ip": "1.1.1.1", "hostnames": ["b"]}], "imagePullSecrets": [{"name": "b"}, {"name": "a"}]}),
        ),
        // A null for a map or a list takes it away, also in one that is only made by the patch.
        (json!({"nodeSelector": {"a": "b"}}), json!({"nodeSelector": null}), json!({})),
        (
            json!({}),
            json!({"securityContext": {"seLinuxOptions": {"level": null}}}),
            json!({"securityContext": {"seLinuxOptions": {}}}),
        ),
        // What has another shape than before is replaced.
        (json!({"hostname": "a"}), json!({"hostname": "b"}), json!({"hostname": "b"})),
        (
            json!({"securityContext": {"runAsUser": 1}}),
            json!({"securityContext": {"$patch": "delete"}}),
            json!({"securityContext": {}}),
        ),
    ] {
        assert_eq!(patched("", "Pod", spec(before), spec(patch)), Ok(spec(after)));
    }
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
