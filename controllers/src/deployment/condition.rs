//! A Deployment's conditions, with Kubernetes' reasons and messages.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentSpec, DeploymentStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::sets::Sets;
use crate::pod::elapsed;

fn get<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

/// Sets a condition, unless its status and reason stand already; the transition time moves with the status.
fn set(status: &mut DeploymentStatus, kind: &str, value: &str, reason: &str, message: String, now: Timestamp) {
    let old = get(status, kind);
    if old.is_some_and(|old| old.status == value && old.reason.as_deref() == Some(reason)) {
        return;
    }
    replace(status, kind, value, reason, message, now);
}

fn replace(status: &mut DeploymentStatus, kind: &str, value: &str, reason: &str, message: String, now: Timestamp) {
    let old = get(status, kind).filter(|old| old.status == value);
    let since = old.and_then(|old| old.last_transition_time.clone()).unwrap_or(Time(now));
    let conditions = status.conditions.get_or_insert_default();
    conditions.retain(|condition| condition.type_ != kind);
    conditions.push(DeploymentCondition {
        type_: kind.into(),
        status: value.into(),
        reason: Some(reason.into()),
        message: Some(message),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(since),
    });
}

pub(super) fn available(status: &mut DeploymentStatus, enough: bool, now: Timestamp) {
    let (value, reason, message) = if enough {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    set(status, "Available", value, reason, message.into(), now);
}

pub(super) fn progressing(status: &mut DeploymentStatus, value: &str, reason: &str, message: String, now: Timestamp) {
    set(status, "Progressing", value, reason, message, now);
}

/// Progress was made just now: the deadline starts anew, even when the condition is the same.
pub(super) fn moving(status: &mut DeploymentStatus, message: String, now: Timestamp) {
    replace(status, "Progressing", "True", "ReplicaSetUpdated", message, now);
}

/// Notes that a rollout was paused or goes on; only where there is a deadline to stop.
pub(super) fn pause(status: &mut DeploymentStatus, paused: bool, deadline: bool, now: Timestamp) {
    if !deadline || is_progress_reason(status, "ProgressDeadlineExceeded") {
        return;
    }
    let noted = is_progress_reason(status, "DeploymentPaused");
    if paused && !noted {
        progressing(status, "Unknown", "DeploymentPaused", "Deployment is paused".into(), now);
    } else if !paused && noted {
        progressing(status, "Unknown", "DeploymentResumed", "Deployment is resumed".into(), now);
    }
}

/// Notes the new set: made in this step, or found.
pub(super) fn found(status: &mut DeploymentStatus, spec: &DeploymentSpec, sets: &Sets, now: Timestamp) {
    let Some(new) = sets.new.as_ref().filter(|_| spec.progress_deadline_seconds.is_some()) else {
        return;
    };
    if new.before.is_none() {
        let message = format!("Created new replica set {:?}", new.name());
        progressing(status, "True", "NewReplicaSetCreated", message, now);
    } else if get(status, "Progressing").is_none() {
        let message = format!("Found new replica set {:?}", new.name());
        progressing(status, "True", "FoundNewReplicaSet", message, now);
    }
}

/// Takes over the failure of a set that cannot make its pods.
pub(super) fn failure(status: &mut DeploymentStatus, sets: &Sets) {
    let all = sets.new.iter().chain(&sets.old).filter_map(|slot| slot.status());
    let failure = all.flat_map(|s| s.conditions.iter().flatten()).find(|c| c.type_ == "ReplicaFailure");
    let Some(failure) = failure else {
        if let Some(conditions) = &mut status.conditions {
            conditions.retain(|condition| condition.type_ != "ReplicaFailure");
        }
        return;
    };
    let now = failure.last_transition_time.as_ref().map(|time| time.0).unwrap_or_default();
    let (reason, message) = (failure.reason.clone(), failure.message.clone().unwrap_or_default());
    set(status, "ReplicaFailure", &failure.status, &reason.unwrap_or_default(), message, now);
}

pub(super) fn is_progress_reason(status: &DeploymentStatus, reason: &str) -> bool {
    get(status, "Progressing").is_some_and(|condition| condition.reason.as_deref() == Some(reason))
}

/// No progress for longer than the deadline.
pub(super) fn is_timed_out(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> bool {
    is_progress_reason(status, "ProgressDeadlineExceeded")
        || remaining(deployment, status, now).is_some_and(|left| left.is_zero())
}

/// When to look whether the deadline has passed.
pub(super) fn recheck(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> Option<Duration> {
    if deployment.spec.as_ref().and_then(|spec| spec.paused) == Some(true)
        || is_progress_reason(status, "ProgressDeadlineExceeded")
    {
        return None;
    }
    remaining(deployment, status, now).map(|left| left + Duration::from_secs(1))
}

/// What is left of the deadline; `None` when nothing is under way.
fn remaining(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> Option<Duration> {
    let deadline = deployment.spec.as_ref()?.progress_deadline_seconds?;
    let condition = get(status, "Progressing")?;
    if condition.reason.as_deref() == Some("NewReplicaSetAvailable") {
        return None;
    }
    let since = condition.last_update_time.as_ref()?.0;
    Some(Duration::from_secs(deadline.max(0) as u64).saturating_sub(elapsed(since, now)))
}
