//! Which pods go first when there are too many.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::pod;

/// What a user sets to have a pod go earlier (lower) or later (higher).
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Sorts `pods` so that those to delete first come first, in Kubernetes' order: unassigned, pending, not ready,
/// lower deletion cost, more neighbours on the same node, ready for a shorter time, more restarts, younger.
pub(super) fn first_to_go(pods: &mut [Arc<Pod>], neighbours: &BTreeMap<String, usize>) {
    pods.sort_by(|a, b| {
        let flags = |pod: &Pod| (pod::node(pod).is_some(), progress(pod), pod::is_ready(pod), cost(pod));
        let crowd = |pod: &Pod| neighbours.get(pod::node(pod).unwrap_or_default()).copied().unwrap_or(0);
        flags(a)
            .cmp(&flags(b))
            .then_with(|| crowd(b).cmp(&crowd(a)))
            .then_with(|| younger_first(pod::ready_since(a), pod::ready_since(b)))
            .then_with(|| restarts(b).cmp(&restarts(a)))
            .then_with(|| younger_first(created(a), created(b)))
            .then_with(|| a.metadata.uid.cmp(&b.metadata.uid))
    });
}

fn progress(pod: &Pod) -> u8 {
    match pod::phase(pod) {
        "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    }
}

fn cost(pod: &Pod) -> i32 {
    let annotations = pod.metadata.annotations.as_ref();
    annotations.and_then(|a| a.get(DELETION_COST)).and_then(|cost| cost.parse().ok()).unwrap_or(0)
}

fn restarts(pod: &Pod) -> i32 {
    let status = pod.status.as_ref();
    let containers = status.and_then(|status| status.container_statuses.as_ref()).into_iter().flatten();
    containers.map(|container| container.restart_count).max().unwrap_or(0)
}

fn created(pod: &Pod) -> Option<Timestamp> {
    pod.metadata.creation_timestamp.as_ref().map(|time| time.0)
}

/// A time that is not known counts as the youngest.
fn younger_first(a: Option<Timestamp>, b: Option<Timestamp>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => b.cmp(&a),
        (a, b) => a.is_some().cmp(&b.is_some()),
    }
}
