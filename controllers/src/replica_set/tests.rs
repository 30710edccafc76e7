//! Plans, ranks and status of ReplicaSets, by table.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::status::{Failure, recheck, status};
use super::{plan, rank};

fn set(replicas: i32, min_ready: i32) -> ReplicaSet {
    let object = json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "rs", "generation": 2},
        "spec": {
            "replicas": replicas,
            "minReadySeconds": min_ready,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}},
        },
    });
    serde_json::from_value(object).expect("a set")
}

/// A pod by flags: `b`ound, `r`unning, read`y`, `t`erminating, `f`ailed, `o`dd labels.
fn pod(name: &str, flags: &str) -> Arc<Pod> {
    let has = |flag| flags.contains(flag);
    let phase = match () {
        () if has('f') => "Failed",
        () if has('r') => "Running",
        () => "Pending",
    };
    let ready = if has('y') { "True" } else { "False" };
    let mut object = json!({
        "metadata": {"name": name, "uid": name, "namespace": "default", "labels": {"app": "web"}},
        "spec": {"containers": []},
        "status": {
            "phase": phase,
            "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": "1970-01-01T00:01:40Z"}],
        },
    });
    if has('b') {
        object["spec"]["nodeName"] = json!("n1");
    }
    if has('t') {
        object["metadata"]["deletionTimestamp"] = json!("1970-01-01T00:00:01Z");
    }
    if has('o') {
        object["metadata"]["labels"] = json!({"app": "other"});
    }
    Arc::new(serde_json::from_value(object).expect("a pod"))
}

fn pods(flags: &[&str]) -> Vec<Arc<Pod>> {
    flags.iter().enumerate().map(|(n, flags)| pod(&format!("p{n}"), flags)).collect()
}

fn names(pods: &[Arc<Pod>]) -> Vec<String> {
    pods.iter().filter_map(|pod| pod.metadata.name.clone()).collect()
}

#[test]
fn the_difference_is_created_or_deleted() {
    let none: &[&str] = &[];
    let cases = [
        (3, none, 3, none),
        (3, &["bry"], 2, none),
        (1, &["bry"], 0, none),
        (1, &["bryt"], 1, none),
        (1, &["brf"], 1, none),
        (1, &["bry", "b", "bry"], 0, &["p1", "p0"]),
        (0, &["bry", ""], 0, &["p1", "p0"]),
        (600, none, 500, none),
        (-1, &["bry"], 0, &["p0"]),
    ];
    for (replicas, flags, create, delete) in cases {
        let plan = plan(&set(replicas, 0), &pods(flags), BTreeMap::new);
        assert_eq!((plan.create, names(&plan.delete)), (create, delete.iter().map(ToString::to_string).collect()));
    }
}

#[test]
fn pods_go_in_kubernetes_order() {
    let with = |pod: &Arc<Pod>, change: fn(&mut Pod)| {
        let mut pod = (**pod).clone();
        change(&mut pod);
        Arc::new(pod)
    };
    let base = pod("base", "bry");
    let cheap = with(&pod("cheap", "bry"), |pod| {
        let cost = ("controller.kubernetes.io/pod-deletion-cost".to_owned(), "-5".to_owned());
        pod.metadata.annotations = Some([cost].into());
    });
    let crowded = with(&pod("crowded", "bry"), |pod| {
        pod.spec.as_mut().expect("a spec").node_name = Some("full".into());
    });
    let fresh = with(&pod("fresh", "bry"), |pod| {
        let condition = &mut pod.status.as_mut().expect("a status").conditions.as_mut().expect("some")[0];
        condition.last_transition_time = Some(Timestamp::from_second(200).expect("a time").into());
    });
    let mut all = vec![base, fresh, crowded, cheap, pod("unready", "br"), pod("pending", "b"), pod("unbound", "")];
    let neighbours = BTreeMap::from([("full".to_owned(), 2), ("n1".to_owned(), 1)]);
    rank::first_to_go(&mut all, &neighbours);
    assert_eq!(names(&all), ["unbound", "pending", "unready", "cheap", "crowded", "fresh", "base"]);
}

#[test]
fn the_status_counts_active_ready_and_terminating_pods() {
    let now = Timestamp::from_second(105).expect("a time");
    let pods = pods(&["bry", "br", "bryo", "bryt"]);
    let counted = status(&set(3, 0), &pods, None, false, now);
    assert_eq!(counted.replicas, 3);
    assert_eq!(counted.fully_labeled_replicas, Some(2));
    assert_eq!(counted.ready_replicas, Some(2));
    assert_eq!(counted.available_replicas, Some(2));
    assert_eq!(counted.terminating_replicas, Some(1));
    assert_eq!(counted.observed_generation, Some(2));
    // Ready since second 100: not for ten seconds yet.
    let waiting = status(&set(3, 10), &pods, None, false, now);
    assert_eq!(waiting.available_replicas, None);
    assert_eq!(recheck(&set(3, 10), &pods, now), Some(Duration::from_secs(5)));
    assert_eq!(recheck(&set(3, 0), &pods, now), None);
}

#[test]
fn a_failure_is_a_condition_until_work_succeeds() {
    let now = Timestamp::from_second(105).expect("a time");
    let failure = Failure { reason: "FailedCreate", message: "no".into() };
    let mut set = set(1, 0);
    set.status = Some(status(&set, &[], Some(&failure), true, now));
    let conditions = set.status.as_ref().and_then(|s| s.conditions.clone()).expect("a condition");
    assert_eq!(conditions[0].type_, "ReplicaFailure");
    assert_eq!(conditions[0].reason.as_deref(), Some("FailedCreate"));
    assert!(status(&set, &[], None, false, now).conditions.is_some());
    assert!(status(&set, &[], None, true, now).conditions.is_none());
    assert!(status(&set, &[pod("p", "b")], None, false, now).conditions.is_none());
}
