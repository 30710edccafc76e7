use serde_json::{Value, json};

use super::{faults, with};

fn workload(kind: &str) -> Value {
    let restart = if kind == "Job" { "Never" } else { "Always" };
    json!({"spec": {
        "selector": {"matchLabels": {"a": "b"}},
        "template": {
            "metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "i"}], "restartPolicy": restart},
        },
    }})
}

#[test]
fn selectors_and_templates() {
    for (group, kind, word) in [
        ("apps", "Deployment", "deployment"),
        ("apps", "ReplicaSet", "deployment"),
        ("apps", "DaemonSet", "daemonset"),
        ("apps", "StatefulSet", "statefulset"),
    ] {
        let valid = || workload(kind);
        assert_eq!(faults(group, kind, valid(), None), Vec::<String>::new());
        assert_eq!(
            faults(group, kind, with(valid(), "/spec/selector", Value::Null), None),
            ["spec.selector: Required value"]
        );
        assert_eq!(
            faults(group, kind, with(valid(), "/spec/selector", json!({})), None),
            [format!("spec.selector: Invalid value: {{}}: empty selector is invalid for {word}")]
        );
        assert_eq!(
            faults(group, kind, with(valid(), "/spec/template/metadata/labels", json!({"a": "c"})), None),
            [
                "spec.template.metadata.labels: Invalid value: {\"a\":\"c\"}: `selector` does not match template `labels`"
            ]
        );
        assert_eq!(
            faults(group, kind, with(valid(), "/spec/template/spec/restartPolicy", json!("Never")), None),
            ["spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\""]
        );
        assert_eq!(
            faults(group, kind, with(valid(), "/spec/template/spec/containers/0/image", json!("")), None),
            ["spec.template.spec.containers[0].image: Required value"]
        );
        let mut other = with(valid(), "/spec/selector", json!({"matchLabels": {"x": "y"}}));
        other = with(other, "/spec/template/metadata/labels", json!({"x": "y"}));
        let changed = faults(group, kind, other, Some(valid()));
        let expected = if kind == "StatefulSet" {
            "spec: Forbidden: updates to statefulset spec"
        } else {
            "spec.selector: Invalid value: {\"matchLabels\":{\"x\":\"y\"}}: field is immutable"
        };
        assert!(changed.len() == 1 && changed[0].starts_with(expected), "{changed:?}");
    }
}

#[test]
fn rollouts() {
    let deployment =
        |pointer: &str, value: Value| faults("apps", "Deployment", with(workload(""), pointer, value), None);
    for (field, value, expected) in [
        ("replicas", json!(-1), "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
        (
            "progressDeadlineSeconds",
            json!(0),
            "spec.progressDeadlineSeconds: Invalid value: 0: must be greater than minReadySeconds",
        ),
        (
            "strategy",
            json!({"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}),
            "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
        ),
        (
            "strategy",
            json!({"type": "Random"}),
            "spec.strategy.type: Unsupported value: \"Random\": supported values: \"Recreate\", \"RollingUpdate\"",
        ),
        (
            "strategy",
            json!({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}),
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0",
        ),
        (
            "strategy",
            json!({"rollingUpdate": {"maxUnavailable": "101%"}}),
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%",
        ),
    ] {
        assert_eq!(deployment(&format!("/spec/{field}"), value), [expected]);
    }
    let words = deployment("/spec/strategy", json!({"rollingUpdate": {"maxSurge": "many"}}));
    assert!(words[0].contains("maxSurge: Invalid value: \"many\": a valid percent string must be"), "{words:?}");
}

#[test]
fn jobs() {
    let job = || workload("Job");
    assert_eq!(faults("batch", "Job", job(), None), Vec::<String>::new());
    assert_eq!(
        faults("batch", "Job", with(job(), "/spec/template/spec/restartPolicy", json!("Always")), None),
        ["spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""]
    );
    let changed = faults("batch", "Job", with(job(), "/spec/template/spec/hostname", json!("h")), Some(job()));
    assert!(changed[0].starts_with("spec.template: Invalid value: ") && changed[0].ends_with(": field is immutable"));
    let cron = |schedule: &str| {
        let template = job()["spec"]["template"].clone();
        json!({"spec": {"schedule": schedule, "jobTemplate": {"spec": {"template": template}}}})
    };
    assert_eq!(faults("batch", "CronJob", cron("*/5 * * * *"), None), Vec::<String>::new());
    assert_eq!(faults("batch", "CronJob", cron(""), None), ["spec.schedule: Required value"]);
    assert_eq!(
        faults("batch", "CronJob", cron("* *"), None),
        ["spec.schedule: Invalid value: \"* *\": expected exactly 5 fields, found 2: [* *]"]
    );
}

#[test]
fn claims_are_volumes_of_the_pods() {
    let mut set = with(workload(""), "/spec/volumeClaimTemplates", json!([{"metadata": {"name": "data"}, "spec": {}}]));
    set = with(set, "/spec/template/spec/containers/0/volumeMounts", json!([{"name": "data", "mountPath": "/d"}]));
    assert_eq!(faults("apps", "StatefulSet", set, None), Vec::<String>::new());
}
