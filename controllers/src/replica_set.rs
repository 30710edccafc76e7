//! ReplicaSets: as many pods of one template as asked for.

mod rank;
mod status;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;

use crate::cache::{Change, Key, Term};
use crate::cluster::Cluster;
use crate::error::Error;
use crate::owner::{self, Claim};
use crate::pod;
use crate::queue::Queue;
use status::Failure;

const COMPONENT: &str = "replicaset-controller";
/// The most pods that one reconciliation creates or deletes (kube-controller-manager's burst).
const BURST: usize = 500;
/// How many pods are created together at first; it doubles while creation works, so that a set that cannot create
/// (a quota, a webhook) does not try hundreds of times.
const FIRST_BATCH: usize = 16;

/// Listens for what concerns ReplicaSets.
pub(crate) fn listen(cluster: &Arc<Cluster>, queue: &Arc<Queue<Key>>) {
    let keys = queue.clone();
    cluster.replica_sets.listen(move |change| {
        keys.extend(change.newest().map(|set| Key::of(&set.metadata)));
    });
    let (keys, sets) = (queue.clone(), cluster.replica_sets.clone());
    cluster.pods.listen(move |change: &Change<Pod>| {
        for pod in change.both() {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            if let Some(owner) = owner::controller(&pod.metadata) {
                if owner.kind == "ReplicaSet" {
                    keys.add(Key::new(namespace, &owner.name));
                }
                continue;
            }
            let sets = sets.namespace(namespace);
            keys.extend(sets.iter().filter(|set| selects(set, pod)).map(|set| Key::of(&set.metadata)));
        }
    });
}

fn selects(set: &ReplicaSet, pod: &Pod) -> bool {
    let selector = set.spec.as_ref().map(|spec| owner::selector(&spec.selector, ""));
    matches!(selector, Some(Ok(Some(selector))) if owner::matches(&selector, &pod.metadata))
}

/// Brings one ReplicaSet's pods to the number asked for, and its status up to date.
pub(crate) async fn reconcile(cluster: &Cluster, key: &Key) -> Result<Option<Duration>, Error> {
    let Some(set) = cluster.replica_sets.get(key) else {
        return Ok(None);
    };
    let Some(spec) = &set.spec else {
        return Ok(None);
    };
    let Some(selector) = owner::selector(&spec.selector, &key.name)? else {
        return Ok(None);
    };
    let uid = set.metadata.uid.clone().unwrap_or_default();
    let mut candidates = cluster.pods.by(&Term::Owner(uid.clone()));
    candidates.extend(cluster.pods.by(&Term::Orphan(key.namespace.clone())));
    let claim = owner::claim(&set.metadata, &selector, candidates.into_iter().filter(|p| !pod::is_finished(p)));
    let mut pods = take(cluster, &set, &uid, claim).await?;

    let plan = match set.metadata.deletion_timestamp {
        None => plan(&set, &pods, || neighbours(cluster, &set)),
        Some(_) => Plan::default(),
    };
    let (failure, error) = match act(cluster, &set, &plan).await {
        Ok(()) => (None, None),
        Err((failure, error)) => (Some(failure), Some(error)),
    };
    pods.extend(cluster.pods.by(&Term::Owner(uid)));
    let pods: BTreeMap<Key, Arc<Pod>> = pods
        .iter()
        .filter_map(|pod| cluster.pods.get(&Key::of(&pod.metadata)))
        .map(|pod| (Key::of(&pod.metadata), pod))
        .collect();
    let pods: Vec<Arc<Pod>> = pods.into_values().filter(|pod| !pod::is_finished(pod)).collect();
    let changed = !plan.is_empty() || failure.is_some();
    write_status(cluster, &set, &pods, failure.as_ref(), changed).await?;
    match error {
        Some(error) => Err(error),
        None => Ok(status::recheck(&set, &pods, Timestamp::now())),
    }
}

/// What to create and what to delete.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) create: usize,
    pub(crate) delete: Vec<Arc<Pod>>,
}

impl Plan {
    fn is_empty(&self) -> bool {
        self.create == 0 && self.delete.is_empty()
    }
}

/// Compares the active pods with the number asked for. `neighbours` counts, for each node, the pods of the sets
/// that belong to the same Deployment.
pub(crate) fn plan(set: &ReplicaSet, pods: &[Arc<Pod>], neighbours: impl FnOnce() -> BTreeMap<String, usize>) -> Plan {
    let wanted = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1).max(0) as usize;
    let mut active: Vec<Arc<Pod>> = pods.iter().filter(|pod| pod::is_active(pod)).cloned().collect();
    if active.len() <= wanted {
        return Plan { create: (wanted - active.len()).min(BURST), delete: vec![] };
    }
    let surplus = (active.len() - wanted).min(BURST);
    rank::first_to_go(&mut active, &neighbours());
    active.truncate(surplus);
    Plan { create: 0, delete: active }
}

/// Adopts and releases; answers the pods that are the set's afterwards.
async fn take(cluster: &Cluster, set: &ReplicaSet, uid: &str, claim: Claim<Pod>) -> Result<Vec<Arc<Pod>>, Error> {
    let Claim { mut owned, adopt, release } = claim;
    for pod in release {
        cluster.update(&cluster.pods, &*pod, &owner::released(&*pod, uid)).await.or_else(lost)?;
    }
    for pod in adopt {
        let adopted = owner::adopted(&*pod, owner::controller_reference(set));
        cluster.update(&cluster.pods, &*pod, &adopted).await?;
        owned.push(Arc::new(adopted));
    }
    Ok(owned)
}

/// An object that went away meanwhile needs no release.
fn lost(error: Error) -> Result<(), Error> {
    if error.is_not_found() { Ok(()) } else { Err(error) }
}

fn neighbours(cluster: &Cluster, set: &ReplicaSet) -> BTreeMap<String, usize> {
    let siblings = match owner::controller(&set.metadata) {
        Some(parent) => cluster.replica_sets.by(&Term::Owner(parent.uid.clone())),
        None => vec![Arc::new(set.clone())],
    };
    let mut counts = BTreeMap::new();
    for sibling in siblings {
        let uid = sibling.metadata.uid.clone().unwrap_or_default();
        for pod in cluster.pods.by(&Term::Owner(uid)).iter().filter(|pod| pod::is_active(pod)) {
            *counts.entry(pod::node(pod).unwrap_or_default().to_owned()).or_default() += 1;
        }
    }
    counts
}

async fn act(cluster: &Cluster, set: &ReplicaSet, plan: &Plan) -> Result<(), (Failure, Error)> {
    create(cluster, set, plan.create).await.map_err(|error| {
        let message = error.message();
        if !error.is_namespace_terminating() {
            let text = format!("Error creating: {message}");
            cluster.events.warning(COMPONENT, set, "FailedCreate", text);
        }
        (Failure { reason: "FailedCreate", message }, error)
    })?;
    for pods in plan.delete.chunks(FIRST_BATCH) {
        let deletions = pods.iter().map(|pod| cluster.delete(&cluster.pods, &**pod, DeleteParams::default()));
        for (pod, result) in pods.iter().zip(futures::future::join_all(deletions).await) {
            if let Err(error) = result {
                let message = error.message();
                cluster.events.warning(COMPONENT, set, "FailedDelete", format!("Error deleting: {message}"));
                return Err((Failure { reason: "FailedDelete", message }, error));
            }
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            cluster.events.normal(COMPONENT, set, "SuccessfulDelete", format!("Deleted pod: {name}"));
        }
    }
    Ok(())
}

/// Creates `count` pods in batches that grow; the first failure ends it.
async fn create(cluster: &Cluster, set: &ReplicaSet, count: usize) -> Result<(), Error> {
    let template = set.spec.as_ref().and_then(|spec| spec.template.clone());
    let template = template.unwrap_or_default();
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    let name = set.metadata.name.as_deref().unwrap_or_default();
    let pod = &pod::from_template(&template, namespace, name, owner::controller_reference(set));
    let (mut left, mut batch) = (count, FIRST_BATCH);
    while left > 0 {
        let now = left.min(batch);
        let creations = (0..now).map(|_| cluster.create(&cluster.pods, pod));
        for result in futures::future::join_all(creations).await {
            let name = result?.metadata.name.unwrap_or_default();
            cluster.events.normal(COMPONENT, set, "SuccessfulCreate", format!("Created pod: {name}"));
        }
        left -= now;
        batch *= 2;
    }
    Ok(())
}

/// Writes the status of `pods`. After pods were changed the set is looked at again anyway; its own event tells.
async fn write_status(
    cluster: &Cluster,
    set: &ReplicaSet,
    pods: &[Arc<Pod>],
    failure: Option<&Failure>,
    acted: bool,
) -> Result<(), Error> {
    let mut after = set.clone();
    after.status = Some(status::status(set, pods, failure, acted, Timestamp::now()));
    cluster.update_status(&cluster.replica_sets, set, &after).await.or_else(lost)
}
