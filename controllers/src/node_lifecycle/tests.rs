//! Conditions and taints of nodes, by table.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use super::plan::{give_up, ready, taint};

fn node(conditions: Value, spec: Value) -> Node {
    serde_json::from_value(json!({"metadata": {"name": "n"}, "spec": spec, "status": {"conditions": conditions}}))
        .expect("a node")
}

fn condition(kind: &str, status: &str) -> Value {
    json!({"type": kind, "status": status, "lastHeartbeatTime": "2026-01-01T00:00:00Z"})
}

fn taints(node: &Node) -> Vec<String> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    taints.iter().map(|taint| format!("{}:{}", taint.key.replace("node.kubernetes.io/", ""), taint.effect)).collect()
}

#[test]
fn taints_follow_conditions() {
    let own = |key: &str, effect: &str| json!({"key": format!("node.kubernetes.io/{key}"), "effect": effect});
    let cases: Vec<(Value, Value, &[&str])> = vec![
        (json!([condition("Ready", "True")]), json!({}), &[]),
        (json!([condition("Ready", "False")]), json!({}), &["not-ready:NoSchedule", "not-ready:NoExecute"]),
        (json!([condition("Ready", "Unknown")]), json!({}), &["unreachable:NoSchedule", "unreachable:NoExecute"]),
        (
            json!([condition("Ready", "Unknown")]),
            json!({"taints": [own("not-ready", "NoSchedule"), own("not-ready", "NoExecute")]}),
            &["unreachable:NoSchedule", "unreachable:NoExecute"],
        ),
        (json!([condition("Ready", "True")]), json!({"taints": [own("not-ready", "NoSchedule")]}), &[]),
        (json!([]), json!({"taints": [own("not-ready", "NoSchedule")]}), &["not-ready:NoSchedule"]),
        (json!([]), json!({}), &[]),
        (
            json!([condition("Ready", "True")]),
            json!({"taints": [{"key": "mine", "effect": "NoExecute"}], "unschedulable": true}),
            &["mine:NoExecute", "unschedulable:NoSchedule"],
        ),
        (json!([condition("Ready", "True")]), json!({"taints": [own("unschedulable", "NoSchedule")]}), &[]),
        (
            json!([condition("Ready", "True"), condition("DiskPressure", "True")]),
            json!({}),
            &["disk-pressure:NoSchedule"],
        ),
    ];
    for (conditions, spec, expected) in cases {
        let mut node = node(conditions.clone(), spec.clone());
        taint(&mut node, Timestamp::UNIX_EPOCH);
        assert_eq!(taints(&node), expected, "{conditions} {spec}");
        let once = node.clone();
        taint(&mut node, Timestamp::MAX);
        assert_eq!(node, once, "a second look changes nothing");
    }
}

#[test]
fn a_silent_node_is_unknown() {
    let mut node = node(json!([condition("Ready", "True"), condition("Mine", "True")]), json!({}));
    assert!(give_up(&mut node, Timestamp::UNIX_EPOCH));
    assert_eq!(ready(&node), Some("Unknown"));
    let conditions = node.status.as_ref().and_then(|status| status.conditions.clone()).expect("conditions");
    let shown: Vec<_> = conditions.iter().map(|c| (c.type_.as_str(), c.reason.as_deref().unwrap_or(""))).collect();
    let expected = [
        ("Ready", "NodeStatusUnknown"),
        ("Mine", ""),
        ("MemoryPressure", "NodeStatusNeverUpdated"),
        ("DiskPressure", "NodeStatusNeverUpdated"),
        ("PIDPressure", "NodeStatusNeverUpdated"),
    ];
    assert_eq!(shown, expected);
    assert!(!give_up(&mut node, Timestamp::MAX), "it is known to be unknown");
}
