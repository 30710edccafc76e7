//! What silence does to a node's conditions, and what its conditions do to its taints.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The conditions that only the node itself can vouch for.
const OWN: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

pub(super) const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub(super) const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const CORDONED: &str = "node.kubernetes.io/unschedulable";
/// Taints that a condition being True brings.
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];

fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a str> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind).map(|condition| condition.status.as_str())
}

pub(super) fn ready(node: &Node) -> Option<&str> {
    condition(node, "Ready")
}

/// Nobody knows how the node is: its own conditions become Unknown. Answers whether any was not.
pub(super) fn give_up(node: &mut Node, now: Timestamp) -> bool {
    let created = node.metadata.creation_timestamp.clone();
    let conditions = node.status.get_or_insert_default().conditions.get_or_insert_default();
    let mut changed = false;
    for kind in OWN {
        let unknown = |reason: &str, message: &str, heard: Option<Time>| NodeCondition {
            type_: kind.into(),
            status: "Unknown".into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_heartbeat_time: heard,
            last_transition_time: Some(Time(now)),
        };
        match conditions.iter_mut().find(|condition| condition.type_ == kind) {
            Some(known) if known.status == "Unknown" => continue,
            Some(known) => {
                let heard = known.last_heartbeat_time.clone();
                *known = unknown("NodeStatusUnknown", "Kubelet stopped posting node status.", heard);
            }
            None => {
                conditions.push(unknown("NodeStatusNeverUpdated", "Kubelet never posted node status.", created.clone()))
            }
        }
        changed = true;
    }
    changed
}

/// Sets exactly those of our taints that the node's conditions call for; others' taints stay.
pub(super) fn taint(node: &mut Node, now: Timestamp) {
    let mut wanted: Vec<(&str, &str)> = vec![];
    match ready(node) {
        Some("False") => wanted.extend([(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")]),
        Some("Unknown") => wanted.extend([(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")]),
        // One that has said nothing yet keeps the taint it may have come with.
        None => wanted.extend(
            [(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")]
                .iter()
                .filter(|(key, effect)| taints(node).any(|taint| taint.key == *key && taint.effect == *effect)),
        ),
        Some(_) => {}
    }
    let pressures = PRESSURES.iter().filter(|(kind, _)| condition(node, kind) == Some("True"));
    wanted.extend(pressures.map(|(_, key)| (*key, "NoSchedule")));
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        wanted.push((CORDONED, "NoSchedule"));
    }
    let wants = |taint: &Taint| wanted.iter().any(|(key, effect)| taint.key == *key && taint.effect == *effect);
    let mut kept: Vec<Taint> = taints(node).filter(|taint| !is_ours(taint) || wants(taint)).cloned().collect();
    for (key, effect) in wanted {
        if !kept.iter().any(|taint| taint.key == key && taint.effect == effect) {
            kept.push(Taint { key: key.into(), effect: effect.into(), value: None, time_added: Some(Time(now)) });
        }
    }
    if kept.len() != taints(node).count() || kept.iter().any(|taint| !taints(node).any(|t| t == taint)) {
        node.spec.get_or_insert_default().taints = Some(kept).filter(|taints| !taints.is_empty());
    }
}

fn taints(node: &Node) -> impl Iterator<Item = &Taint> {
    node.spec.as_ref().and_then(|spec| spec.taints.as_ref()).into_iter().flatten()
}

/// A taint that follows from conditions, so that only this controller sets and clears it.
fn is_ours(taint: &Taint) -> bool {
    let noticed = [NOT_READY, UNREACHABLE].contains(&taint.key.as_str());
    let pressing = taint.key == CORDONED || PRESSURES.iter().any(|(_, key)| taint.key == *key);
    noticed || pressing && taint.effect == "NoSchedule"
}
