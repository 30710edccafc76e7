//! What a ReplicaSet's status says of its pods.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::pod;

const REPLICA_FAILURE: &str = "ReplicaFailure";

/// Why pods could not be created or deleted.
pub(super) struct Failure {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// The status that `pods`, all unfinished ones, amount to. A failure's condition stays until pods were changed
/// with success or there is nothing to change.
pub(super) fn status(
    set: &ReplicaSet,
    pods: &[Arc<Pod>],
    failure: Option<&Failure>,
    acted: bool,
    now: Timestamp,
) -> ReplicaSetStatus {
    let spec = set.spec.clone().unwrap_or_default();
    let template = spec.template.and_then(|t| t.metadata).and_then(|m| m.labels).unwrap_or_default();
    let min_ready = Duration::from_secs(spec.min_ready_seconds.unwrap_or(0).max(0) as u64);
    let active: Vec<&Arc<Pod>> = pods.iter().filter(|pod| pod::is_active(pod)).collect();
    let labelled = |pod: &&&Arc<Pod>| {
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        template.iter().all(|(name, value)| labels.get(name) == Some(value))
    };
    let count = |n: usize| Some(n as i32).filter(|n| *n > 0);
    let replicas = active.len();
    let met = replicas as i32 == spec.replicas.unwrap_or(1);
    let old = set.status.clone().unwrap_or_default();
    ReplicaSetStatus {
        replicas: replicas as i32,
        fully_labeled_replicas: count(active.iter().filter(labelled).count()),
        ready_replicas: count(active.iter().filter(|pod| pod::is_ready(pod)).count()),
        available_replicas: count(active.iter().filter(|pod| pod::is_available(pod, min_ready, now)).count()),
        terminating_replicas: Some(pods.iter().filter(|pod| pod::is_terminating(pod)).count() as i32),
        observed_generation: set.metadata.generation,
        conditions: conditions(old.conditions, failure, acted || met, now),
    }
}

fn conditions(
    old: Option<Vec<ReplicaSetCondition>>,
    failure: Option<&Failure>,
    clear: bool,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let mut conditions = old.unwrap_or_default();
    match failure {
        Some(failure) => match conditions.iter_mut().find(|c| c.type_ == REPLICA_FAILURE) {
            Some(old) => {
                old.reason = Some(failure.reason.into());
                old.message = Some(failure.message.clone());
            }
            None => conditions.push(ReplicaSetCondition {
                type_: REPLICA_FAILURE.into(),
                status: "True".into(),
                reason: Some(failure.reason.into()),
                message: Some(failure.message.clone()),
                last_transition_time: Some(Time(now)),
            }),
        },
        None if clear => conditions.retain(|c| c.type_ != REPLICA_FAILURE),
        None => {}
    }
    Some(conditions).filter(|c| !c.is_empty())
}

/// When the next ready pod will have been so for `minReadySeconds`.
pub(super) fn recheck(set: &ReplicaSet, pods: &[Arc<Pod>], now: Timestamp) -> Option<Duration> {
    let min_ready = set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).filter(|s| *s > 0)?;
    let min_ready = Duration::from_secs(min_ready as u64);
    let waiting = pods.iter().filter(|pod| pod::is_active(pod)).filter_map(|pod| pod::ready_since(pod));
    waiting.filter_map(|since| min_ready.checked_sub(pod::elapsed(since, now))).filter(|d| !d.is_zero()).min()
}
