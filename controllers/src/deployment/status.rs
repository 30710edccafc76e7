//! What a Deployment's status says of its sets.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus};

use super::sets::{Sets, Slot};
use super::{condition, strategy};

/// The counts and the Available condition.
pub(super) fn counts(
    deployment: &Deployment,
    sets: &Sets,
    before: DeploymentStatus,
    now: Timestamp,
) -> DeploymentStatus {
    let sum = |of: fn(&Slot) -> i32| sets.all().map(of).sum::<i32>();
    let present = |n: i32| Some(n).filter(|n| *n > 0);
    let available = sets.available();
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: present(sum(|slot| slot.status().map_or(0, |s| s.replicas))),
        updated_replicas: present(sets.new.iter().filter_map(Slot::status).map(|s| s.replicas).sum()),
        ready_replicas: present(sum(|slot| slot.status().and_then(|s| s.ready_replicas).unwrap_or(0))),
        available_replicas: present(available),
        unavailable_replicas: present(sets.total() - available),
        terminating_replicas: Some(sum(|slot| slot.status().and_then(|s| s.terminating_replicas).unwrap_or(0))),
        collision_count: before.collision_count,
        conditions: before.conditions,
    };
    let enough = available >= strategy::replicas(deployment) - strategy::max_unavailable(deployment);
    condition::available(&mut status, enough, now);
    condition::failure(&mut status, sets);
    status
}

/// The same, with how the rollout progresses.
pub(super) fn rollout(
    deployment: &Deployment,
    sets: &Sets,
    before: DeploymentStatus,
    now: Timestamp,
) -> DeploymentStatus {
    let mut status = counts(deployment, sets, before.clone(), now);
    if deployment.spec.as_ref().is_none_or(|spec| spec.progress_deadline_seconds.is_none()) {
        return status;
    }
    let name = match &sets.new {
        Some(new) => format!("ReplicaSet {:?}", new.name()),
        None => format!("Deployment {:?}", deployment.metadata.name.as_deref().unwrap_or_default()),
    };
    let done =
        status.replicas == status.updated_replicas && condition::is_progress_reason(&before, "NewReplicaSetAvailable");
    if done {
        return status;
    }
    if is_complete(deployment, &status) {
        let message = format!("{name} has successfully progressed.");
        condition::progressing(&mut status, "True", "NewReplicaSetAvailable", message, now);
    } else if is_progressing(&before, &status) {
        condition::moving(&mut status, format!("{name} is progressing."), now);
    } else if condition::is_timed_out(deployment, &before, now) {
        let message = format!("{name} has timed out progressing.");
        condition::progressing(&mut status, "False", "ProgressDeadlineExceeded", message, now);
    }
    status
}

/// All pods are of the new version, available, and no old one is left.
pub(super) fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let replicas = Some(strategy::replicas(deployment)).filter(|n| *n > 0);
    status.updated_replicas.filter(|n| *n > 0) == replicas
        && status.replicas.filter(|n| *n > 0) == replicas
        && status.available_replicas.filter(|n| *n > 0) == replicas
        && status.observed_generation.unwrap_or(0) >= deployment.metadata.generation.unwrap_or(0)
}

fn is_progressing(before: &DeploymentStatus, after: &DeploymentStatus) -> bool {
    let n = |n: Option<i32>| n.unwrap_or(0);
    let old = |status: &DeploymentStatus| n(status.replicas) - n(status.updated_replicas);
    n(after.updated_replicas) > n(before.updated_replicas)
        || old(after) < old(before)
        || n(after.ready_replicas) > n(before.ready_replicas)
        || n(after.available_replicas) > n(before.available_replicas)
}
