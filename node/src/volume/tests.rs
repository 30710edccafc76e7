use super::*;
use serde_json::{Value, json};

fn pod(volumes: Value, mounts: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "dev", "labels": {"app": "web"}},
        "spec": {
            "volumes": volumes,
            "containers": [{"name": "c", "volumeMounts": mounts}],
        },
    }))
    .unwrap()
}

fn sources(value: &str) -> Sources {
    let map = json!({"data": {"a.conf": value, "b.conf": "b"}});
    let mut sources = Sources::default();
    let map = serde_json::from_value(map).unwrap();
    sources.config_maps.insert("conf".into(), Some(map));
    sources
}

#[test]
fn a_config_map_appears_and_changes_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let all = pod(json!([{"name": "v", "configMap": {"name": "conf"}}]), json!([]));
    make(dir, &all, &sources("one")).unwrap();
    let volume = dir.join("volumes/v");
    assert_eq!(fs::read_to_string(volume.join("a.conf")).unwrap(), "one");
    assert_eq!(fs::read_link(volume.join("a.conf")).unwrap(), Path::new("..data/a.conf"));
    let first = fs::read_link(volume.join("..data")).unwrap();
    make(dir, &all, &sources("one")).unwrap();
    assert_eq!(fs::read_link(volume.join("..data")).unwrap(), first);
    make(dir, &all, &sources("two")).unwrap();
    assert_eq!(fs::read_to_string(volume.join("a.conf")).unwrap(), "two");
    assert!(!volume.join(first).exists());
    let items = json!([{"key": "b.conf", "path": "sub/b", "mode": 0o400}]);
    let some = pod(json!([{"name": "v", "configMap": {"name": "conf", "items": items}}]), json!([]));
    make(dir, &some, &sources("two")).unwrap();
    assert_eq!(fs::read_to_string(volume.join("sub/b")).unwrap(), "b");
    assert_eq!(fs::metadata(volume.join("sub/b")).unwrap().mode() & 0o777, 0o400);
    assert!(!volume.join("a.conf").exists());
}

#[test]
fn projected_volumes_join_their_sources() {
    let dir = tempfile::tempdir().unwrap();
    let projected = json!({"sources": [
        {"configMap": {"name": "conf", "items": [{"key": "a.conf", "path": "a"}]}},
        {"downwardAPI": {"items": [
            {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        {"serviceAccountToken": {"path": "token"}},
    ]});
    let pod = pod(json!([{"name": "v", "projected": projected}]), json!([]));
    let mut sources = sources("one");
    sources.tokens.insert(String::new(), "t0ken".into());
    make(dir.path(), &pod, &sources).unwrap();
    let read = |name: &str| fs::read_to_string(dir.path().join("volumes/v").join(name)).unwrap();
    assert_eq!(read("a"), "one");
    assert_eq!(read("labels"), "app=\"web\"");
    assert_eq!(read("token"), "t0ken");
}

#[test]
fn what_can_not_be_mounted_is_named() {
    let dir = tempfile::tempdir().unwrap();
    for (volume, reason) in [
        (json!({"name": "v", "configMap": {"name": "no"}}), "configmap \"no\" not found"),
        (json!({"name": "v", "secret": {"secretName": "no"}}), "secret \"no\" not found"),
        (
            json!({"name": "v", "nfs": {"server": "s", "path": "/"}}),
            "volumes of type nfs are not supported on this node",
        ),
        (
            json!({"name": "v", "hostPath": {"path": "/nowhere", "type": "Directory"}}),
            "hostPath type check failed: /nowhere is not a directory",
        ),
        (
            json!({"name": "v", "configMap": {"name": "conf", "items": [{"key": "z", "path": "z"}]}}),
            "references non-existent config key: z",
        ),
        (
            json!({"name": "v", "configMap": {"name": "conf",
                "items": [{"key": "a.conf", "path": "../z"}]}}),
            "invalid path \"../z\": must be relative and not contain '..'",
        ),
    ] {
        let failed = make(dir.path(), &pod(json!([volume]), json!([])), &sources("x"));
        assert_eq!(failed.unwrap_err().reason, reason);
    }
}

#[test]
fn mounts_stay_in_their_volume() {
    let dir = tempfile::tempdir().unwrap();
    let volumes = json!([{"name": "e", "emptyDir": {}}, {"name": "c", "configMap": {"name": "conf"}}]);
    let mounts_of = |mount: Value| {
        let pod = pod(volumes.clone(), json!([mount]));
        make(dir.path(), &pod, &sources("x")).unwrap();
        let spec = pod.spec.unwrap();
        mounts(dir.path(), &spec, &spec.containers[0], |text| text.replace("$(N)", "n"))
    };
    let plain = mounts_of(json!({"name": "e", "mountPath": "/data"})).unwrap();
    assert_eq!(plain[0].source, dir.path().join("volumes/e"));
    assert!(!plain[0].read_only);
    let map = mounts_of(json!({"name": "c", "mountPath": "/c"})).unwrap();
    assert!(map[0].read_only);
    let sub = mounts_of(json!({"name": "e", "mountPath": "/d", "subPathExpr": "x/$(N)"})).unwrap();
    assert!(sub[0].source.ends_with("volumes/e/x/n") && sub[0].source.is_dir());
    std::os::unix::fs::symlink("/etc", dir.path().join("volumes/e/out")).unwrap();
    for bad in ["../x", "/etc", "out"] {
        let error = mounts_of(json!({"name": "e", "mountPath": "/d", "subPath": bad}));
        assert!(error.is_err(), "{bad}");
    }
    let error = mounts_of(json!({"name": "none", "mountPath": "/d"})).unwrap_err();
    assert!(error.contains("cannot find volume \"none\""));
}
