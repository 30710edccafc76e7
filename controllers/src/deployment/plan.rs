//! One step of a rollout, decided.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};

use super::sets::{DESIRED, Sets, Slot};
use super::{condition, old, proportion, revision, status, strategy};

/// What a step is decided from.
pub(super) struct View<'a> {
    pub(super) deployment: &'a Deployment,
    /// The sets that are its own.
    pub(super) sets: &'a [Arc<ReplicaSet>],
    /// How many unfinished pods each set has, by uid.
    pub(super) pods: &'a BTreeMap<String, usize>,
    pub(super) now: Timestamp,
}

/// What the step changes.
pub(super) struct Plan {
    /// Sets to create, scale, annotate or delete; most are as they were.
    pub(super) sets: Vec<Slot>,
    pub(super) annotations: Option<BTreeMap<String, String>>,
    pub(super) status: DeploymentStatus,
    /// When the progress deadline passes.
    pub(super) recheck: Option<Duration>,
}

/// Decides the next step as kube-controller-manager's `syncDeployment` does.
pub(super) fn plan(view: &View<'_>) -> Plan {
    let deployment = view.deployment;
    let mut sets = Sets::split(deployment, view.sets);
    let mut before = deployment.status.clone().unwrap_or_default();
    let spec = deployment.spec.clone().unwrap_or_default();
    if deployment.metadata.deletion_timestamp.is_some() {
        return finish(view, sets, status::counts(deployment, &Sets::split(deployment, view.sets), before, view.now));
    }
    let paused = spec.paused == Some(true);
    condition::pause(&mut before, paused, spec.progress_deadline_seconds.is_some(), view.now);
    let scaling = sets.all().filter(|slot| slot.size() > 0).any(|slot| {
        let noted = slot.annotation(DESIRED).and_then(|text| text.parse::<i32>().ok());
        noted.is_some_and(|noted| noted != strategy::replicas(deployment))
    });
    if paused || scaling {
        revision::sync(deployment, &mut sets, false);
        proportion::scale(deployment, &mut sets);
        if paused {
            revision::clean_up(deployment, &mut sets);
        }
        let counted = status::counts(deployment, &sets, before, view.now);
        return finish(view, sets, counted);
    }
    roll(view, &mut sets);
    condition::found(&mut before, &spec, &sets, view.now);
    let status = status::rollout(deployment, &sets, before, view.now);
    finish(view, sets, status)
}

fn finish(view: &View<'_>, sets: Sets, status: DeploymentStatus) -> Plan {
    let annotations = revision::annotations(view.deployment, &sets);
    let recheck = condition::recheck(view.deployment, &status, view.now);
    Plan { sets: sets.new.into_iter().chain(sets.old).collect(), annotations, status, recheck }
}

/// Moves pods from the old sets to the new one by the strategy.
fn roll(view: &View<'_>, sets: &mut Sets) {
    let deployment = view.deployment;
    if strategy::is_recreate(deployment) {
        revision::sync(deployment, sets, false);
        let mut scaled = false;
        for slot in sets.old.iter_mut().filter(|slot| slot.size() > 0) {
            scaled |= slot.scale(deployment, 0);
        }
        let uid = |slot: &Slot| slot.after.metadata.uid.clone().unwrap_or_default();
        let running = sets.old.iter().any(|slot| view.pods.get(&uid(slot)).is_some_and(|n| *n > 0));
        if scaled || running {
            return;
        }
        revision::sync(deployment, sets, true);
        scale_new(deployment, sets);
    } else {
        revision::sync(deployment, sets, true);
        if scale_new(deployment, sets) || old::scale(deployment, sets) {
            return;
        }
    }
    if status::is_complete(deployment, &deployment.status.clone().unwrap_or_default()) {
        revision::clean_up(deployment, sets);
    }
}

/// Brings the new set towards the Deployment's size; answers whether its size changed.
fn scale_new(deployment: &Deployment, sets: &mut Sets) -> bool {
    let (total, replicas) = (sets.total(), strategy::replicas(deployment));
    let Some(new) = &mut sets.new else {
        return false;
    };
    let size = new.size();
    if size == replicas {
        return false;
    }
    let to = if size > replicas { replicas } else { new_size(deployment, total, size) };
    new.scale(deployment, to)
}

/// How large the new set may be now, with `total` pods asked for by all sets and `size` of them by it.
pub(super) fn new_size(deployment: &Deployment, total: i32, size: i32) -> i32 {
    let replicas = strategy::replicas(deployment);
    if strategy::is_recreate(deployment) {
        return replicas;
    }
    let room = replicas + strategy::max_surge(deployment) - total;
    if room <= 0 { size } else { size + room.min(replicas - size) }
}
