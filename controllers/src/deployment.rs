//! Deployments: ReplicaSets for each version of a template, scaled so that versions replace each other.

mod condition;
mod old;
mod plan;
mod proportion;
mod revision;
mod sets;
mod status;
mod strategy;
mod template;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;

use crate::cache::{Change, Key, Term};
use crate::cluster::Cluster;
use crate::error::Error;
use crate::owner::{self, Claim};
use crate::pod;
use crate::queue::Queue;
use plan::{View, plan};
use sets::Slot;
pub(crate) use strategy::part;

const COMPONENT: &str = "deployment-controller";

/// Listens for what concerns Deployments.
pub(crate) fn listen(cluster: &Arc<Cluster>, queue: &Arc<Queue<Key>>) {
    let keys = queue.clone();
    cluster.deployments.listen(move |change| {
        keys.extend(change.newest().map(|deployment| Key::of(&deployment.metadata)));
    });
    let (keys, deployments) = (queue.clone(), cluster.deployments.clone());
    cluster.replica_sets.listen(move |change: &Change<ReplicaSet>| {
        for set in change.both() {
            let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
            if let Some(owner) = owner::controller(&set.metadata) {
                if owner.kind == "Deployment" {
                    keys.add(Key::new(namespace, &owner.name));
                }
                continue;
            }
            let all = deployments.namespace(namespace);
            keys.extend(all.iter().filter(|d| selects(d, set)).map(|d| Key::of(&d.metadata)));
        }
    });
    // A Recreate rollout waits for the last old pod.
    let (keys, sets) = (queue.clone(), cluster.replica_sets.clone());
    cluster.pods.listen(move |change: &Change<Pod>| {
        let ended = change.after.as_ref().is_none_or(|pod| pod::is_finished(pod));
        let Some(pod) = change.newest().filter(|_| ended) else {
            return;
        };
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let Some(owner) = owner::controller_of_kind(&pod.metadata, "ReplicaSet") else {
            return;
        };
        let Some(set) = sets.get(&Key::new(namespace, &owner.name)) else {
            return;
        };
        if let Some(owner) = owner::controller_of_kind(&set.metadata, "Deployment") {
            keys.add(Key::new(namespace, &owner.name));
        }
    });
}

fn selects(deployment: &Deployment, set: &ReplicaSet) -> bool {
    let selector = deployment.spec.as_ref().map(|spec| owner::selector(&spec.selector, ""));
    matches!(selector, Some(Ok(Some(selector))) if owner::matches(&selector, &set.metadata))
}

/// Takes one step of one Deployment's rollout; the events of what it wrote bring the next.
pub(crate) async fn reconcile(cluster: &Cluster, key: &Key) -> Result<Option<Duration>, Error> {
    let Some(deployment) = cluster.deployments.get(key) else {
        return Ok(None);
    };
    let Some(spec) = &deployment.spec else {
        return Ok(None);
    };
    let Some(selector) = owner::selector(&spec.selector, &key.name)? else {
        return Ok(None);
    };
    let uid = deployment.metadata.uid.clone().unwrap_or_default();
    let mut candidates = cluster.replica_sets.by(&Term::Owner(uid.clone()));
    candidates.extend(cluster.replica_sets.by(&Term::Orphan(key.namespace.clone())));
    let claim = owner::claim(&deployment.metadata, &selector, candidates);
    let sets = take(cluster, &deployment, &uid, claim).await?;
    let pods = pods(cluster, &sets);

    let plan = plan(&View { deployment: &deployment, sets: &sets, pods: &pods, now: Timestamp::now() });
    for slot in &plan.sets {
        if let Err(error) = write(cluster, &deployment, slot).await {
            failed(cluster, &deployment, slot, &error).await?;
            return Err(error);
        }
    }
    let mut annotated = (*deployment).clone();
    annotated.metadata.annotations = plan.annotations;
    cluster.update(&cluster.deployments, &deployment, &annotated).await?;
    let current = cluster.deployments.get(key).unwrap_or(deployment);
    let mut after = (*current).clone();
    after.status = Some(plan.status);
    cluster.update_status(&cluster.deployments, &current, &after).await?;
    Ok(plan.recheck)
}

/// Adopts and releases; answers the sets that are the Deployment's afterwards.
async fn take(
    cluster: &Cluster,
    deployment: &Deployment,
    uid: &str,
    claim: Claim<ReplicaSet>,
) -> Result<Vec<Arc<ReplicaSet>>, Error> {
    let Claim { mut owned, adopt, release } = claim;
    for set in release {
        cluster.update(&cluster.replica_sets, &*set, &owner::released(&*set, uid)).await?;
    }
    for set in adopt {
        let adopted = owner::adopted(&*set, owner::controller_reference(deployment));
        cluster.update(&cluster.replica_sets, &*set, &adopted).await?;
        owned.extend(cluster.replica_sets.get(&Key::of(&set.metadata)));
    }
    Ok(owned)
}

/// How many unfinished pods each set has, by the set's uid.
fn pods(cluster: &Cluster, sets: &[Arc<ReplicaSet>]) -> BTreeMap<String, usize> {
    let count = |set: &Arc<ReplicaSet>| {
        let uid = set.metadata.uid.clone().unwrap_or_default();
        let pods = cluster.pods.by(&Term::Owner(uid.clone()));
        (uid, pods.iter().filter(|pod| !pod::is_finished(pod)).count())
    };
    sets.iter().map(count).collect()
}

async fn write(cluster: &Cluster, deployment: &Deployment, slot: &Slot) -> Result<(), Error> {
    let name = slot.name();
    let (from, to) = (slot.before.as_deref().map_or(0, sets::size), sets::size(&slot.after));
    match &slot.before {
        None => drop(cluster.create(&cluster.replica_sets, &slot.after).await?),
        Some(before) if slot.delete => {
            return cluster.delete(&cluster.replica_sets, &**before, DeleteParams::background()).await;
        }
        Some(before) => cluster.update(&cluster.replica_sets, &**before, &slot.after).await?,
    }
    if from != to {
        let direction = if to > from { "up" } else { "down" };
        let message = format!("Scaled {direction} replica set {name} from {from} to {to}");
        cluster.events.normal(COMPONENT, deployment, "ScalingReplicaSet", message);
    }
    Ok(())
}

/// A set could not be written: a name that is taken is avoided by another hash, a refusal is told in the status.
async fn failed(cluster: &Cluster, deployment: &Deployment, slot: &Slot, error: &Error) -> Result<(), Error> {
    if slot.before.is_some() || error.is_conflict() {
        return Ok(());
    }
    let mut after = deployment.clone();
    let status = after.status.get_or_insert_default();
    if error.is_already_exists() {
        if cluster.replica_sets.get(&Key::of(&slot.after.metadata)).is_some_and(|set| slot.is(&set)) {
            return Ok(());
        }
        status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
    } else {
        let message = error.message();
        condition::progressing(status, "False", "FailedCreate", message.clone(), Timestamp::now());
        if !error.is_namespace_terminating() {
            let text = format!("Failed to create new replica set {:?}: {message}", slot.name());
            cluster.events.warning(COMPONENT, deployment, "ReplicaSetCreateError", text);
        }
    }
    cluster.update_status(&cluster.deployments, deployment, &after).await
}
