use serde_json::json;

use super::*;

fn pod(name: &str, spec: serde_json::Value, status: serde_json::Value) -> Pod {
    let object = json!({"metadata": {"name": name}, "spec": spec, "status": status});
    serde_json::from_value(object).expect("a pod")
}

/// A pod with one container, which has this state.
fn with_state(state: serde_json::Value) -> Pod {
    let status = json!({"phase": "Running", "containerStatuses": [
        {"name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 3, "state": state,
         "lastState": {"terminated": {"exitCode": 2, "reason": "Error"}}}]});
    pod("web", json!({"containers": [{"name": "c"}]}), status)
}

#[test]
fn why_a_pod_is_not_ready() {
    let running = json!({"running": {}});
    let probed = |probe: &str, what: serde_json::Value, started: bool| {
        let mut pod = with_state(running.clone());
        let mut spec = json!({"containers": [{"name": "c"}]});
        spec["containers"][0][probe] = what;
        pod.spec = serde_json::from_value(spec).expect("a spec");
        let statuses = pod.status.as_mut().and_then(|status| status.container_statuses.as_mut()).expect("statuses");
        statuses[0].started = Some(started);
        pod
    };
    let unscheduled = json!({"phase": "Pending", "conditions": [
        {"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available: 1 Insufficient cpu."}]});
    let mut leaving = with_state(running.clone());
    leaving.metadata.deletion_timestamp = Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).expect("a time"));
    let gated = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]});
    let gates = json!({"containers": [], "readinessGates": [{"conditionType": "example.com/lb"}]});
    let ready = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
    let first = json!({"phase": "Pending", "initContainerStatuses": [
        {"name": "done", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
         "state": {"terminated": {"exitCode": 0}}},
        {"name": "migrate", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
         "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}]});
    let none = json!({"containers": []});
    let table = [
        (pod("p", none.clone(), ready), None),
        (
            pod("p", none.clone(), unscheduled),
            Some("no node has taken it (Pending): 0/1 nodes are available: 1 Insufficient cpu."),
        ),
        (
            pod("p", none.clone(), json!({"phase": "Failed", "reason": "Evicted"})),
            Some("it has ended (Failed: Evicted)"),
        ),
        (pod("p", none.clone(), json!({"phase": "Pending"})), Some("it has not started yet")),
        (pod("p", none, first), Some("init container migrate: Error (exit code 1)")),
        (pod("p", gates, gated), Some("its readiness gate example.com/lb is not true")),
        (leaving, Some("it is being deleted")),
        (
            with_state(json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}})),
            Some("container c: CrashLoopBackOff, the last time Error (exit code 2)"),
        ),
        (
            with_state(json!({"waiting": {"reason": "ImagePullBackOff", "message": "not found"}})),
            Some("container c: ImagePullBackOff: not found, the last time Error (exit code 2)"),
        ),
        (
            with_state(json!({"terminated": {"exitCode": 0, "reason": "Completed"}})),
            Some("container c: Completed (exit code 0), the last time Error (exit code 2)"),
        ),
        (with_state(running.clone()), Some("container c is not ready")),
        (
            probed("readinessProbe", json!({"httpGet": {"port": "http", "path": "/ready"}}), true),
            Some("its readiness probe (GET :http/ready) does not succeed: statuscode: 500"),
        ),
        (
            probed("startupProbe", json!({"exec": {"command": ["cat", "/ok"]}}), false),
            Some("its startup probe (exec cat /ok) has not succeeded yet: statuscode: 500"),
        ),
        (
            probed("readinessProbe", json!({"tcpSocket": {"port": 81}}), true),
            Some("its readiness probe (TCP :81) does not succeed: statuscode: 500"),
        ),
    ];
    for (pod, want) in table {
        assert_eq!(trouble(&pod, Some("statuscode: 500\n")).as_deref(), want);
    }
}

#[test]
fn whose_port_it_is() {
    let spec = json!({
        "initContainers": [
            {"name": "setup", "ports": [{"name": "never", "containerPort": 1}]},
            {"name": "mesh", "restartPolicy": "Always", "ports": [{"containerPort": 15001}]}],
        "containers": [
            {"name": "web", "ports": [{"name": "http", "containerPort": 8080}, {"name": "dns", "containerPort": 53, "protocol": "UDP"}]},
            {"name": "logs"}]});
    let two = pod("web", spec, json!({}));
    let one = pod("web", json!({"containers": [{"name": "only"}]}), json!({}));
    assert_eq!(container(&two, 8080, Protocol::Tcp), "container web, port http 8080");
    assert_eq!(container(&two, 15001, Protocol::Tcp), "container mesh, port 15001");
    assert_eq!(container(&two, 53, Protocol::Tcp), "port 53");
    assert_eq!(container(&one, 80, Protocol::Tcp), "container only, port 80");
    assert_eq!(named(&two, "http", Protocol::Tcp), Some(8080));
    assert_eq!((named(&two, "never", Protocol::Tcp), named(&two, "dns", Protocol::Tcp)), (None, None));
    assert_eq!(port_names(&two).into_iter().collect::<Vec<_>>(), ["dns (53)", "http (8080)"]);
}

#[test]
fn labels_that_come_close() {
    let labelled = |name: &str, labels: serde_json::Value| -> Pod {
        serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}})).expect("a pod")
    };
    let pods = [
        labelled("a", json!({"app": "web", "tier": "front"})),
        labelled("b", json!({"app": "web"})),
        labelled("c", json!({"app": "db", "tier": "back"})),
    ];
    let selector = |labels: &[(&str, &str)]| -> Labels {
        labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let table: [(&[(&str, &str)], &str); 4] = [
        (&[("app", "wbe")], "pods have app=db (c), app=web (a, b)"),
        (&[("app", "web"), ("role", "x")], "no pod has the label role"),
        (&[("app", "db"), ("tier", "front")], "each of its labels is on some pod, but no pod has all of them"),
        (
            &[("app", "x"), ("tier", "y")],
            "pods have app=db (c), app=web (a, b); pods have tier=back (c), tier=front (a)",
        ),
    ];
    for (labels, want) in table {
        assert_eq!(instead(&selector(labels), &pods), want);
        assert!(!pods.iter().any(|pod| takes(&selector(labels), pod)));
    }
    assert_eq!(instead(&selector(&[("app", "x")]), &[]), "there are no pods in the namespace");
    assert!(takes(&selector(&[("app", "web")]), &pods[0]));
    assert_eq!(written(&selector(&[("b", "2"), ("a", "1")])), "a=1,b=2");
}

#[test]
fn names_that_are_near() {
    let all = ["web", "webapp", "backend-service", "db", "api"];
    let table: [(&str, &[&str]); 6] = [
        ("wbe", &["web"]),
        ("we", &["web", "webapp"]),
        ("bakend-servise", &["backend-service"]),
        ("apis", &["api"]),
        ("frontend", &[]),
        ("web", &["web", "webapp"]),
    ];
    for (wanted, want) in table {
        assert_eq!(near(wanted, all), want, "{wanted}");
    }
    assert_eq!(list((1..=6).map(|n| n.to_string())), "1, 2, 3, 4 and 2 more");
}
