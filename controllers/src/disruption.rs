//! PodDisruptionBudgets: how many of the pods that each one selects may be evicted now. The API server's eviction
//! subresource spends what is told here.

mod plan;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::core::{ApiResource, DynamicObject, Selector};

use crate::cache::{Change, Key};
use crate::cluster::Cluster;
use crate::error::Error;
use crate::owner;
use crate::queue::Queue;
use plan::{counts_controllers, plan};

/// Listens for what concerns PodDisruptionBudgets.
pub(crate) fn listen(cluster: &Arc<Cluster>, queue: &Arc<Queue<Key>>) {
    let keys = queue.clone();
    cluster.budgets.listen(move |change| keys.extend(change.newest().map(|budget| Key::of(&budget.metadata))));
    let (keys, budgets) = (queue.clone(), cluster.budgets.clone());
    cluster.pods.listen(move |change: &Change<Pod>| {
        for pod in change.both() {
            let budgets = budgets.namespace(pod.metadata.namespace.as_deref().unwrap_or_default());
            let concerned = budgets.iter().filter(|budget| selects(budget, pod));
            keys.extend(concerned.map(|budget| Key::of(&budget.metadata)));
        }
    });
    let (keys, budgets) = (queue.clone(), cluster.budgets.clone());
    cluster.replica_sets.listen(move |change| {
        let size = |set: &Option<Arc<_>>| {
            set.as_ref().map(|set: &Arc<k8s_openapi::api::apps::v1::ReplicaSet>| {
                set.spec.as_ref().and_then(|spec| spec.replicas)
            })
        };
        if size(&change.before) == size(&change.after) {
            return;
        }
        let namespace = change.newest().and_then(|set| set.metadata.namespace.clone()).unwrap_or_default();
        keys.extend(budgets.namespace(&namespace).iter().map(|budget| Key::of(&budget.metadata)));
    });
}

/// No selector selects nothing, an empty one everything.
fn selects(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.clone());
    let selector = selector.and_then(|selector| Selector::try_from(selector).ok());
    selector.is_some_and(|selector| owner::matches(&selector, &pod.metadata))
}

/// Brings the status of one budget up to date; answers when evicted pods that are still there are to be counted again.
pub(crate) async fn reconcile(cluster: &Cluster, key: &Key) -> Result<Option<Duration>, Error> {
    let Some(budget) = cluster.budgets.get(key) else {
        return Ok(None);
    };
    let mut pods = cluster.pods.namespace(&key.namespace);
    pods.retain(|pod| selects(&budget, pod));
    let mut sizes = 0;
    if counts_controllers(&budget) {
        let controllers = pods.iter().filter_map(|pod| owner::controller(&pod.metadata));
        let controllers: BTreeMap<&str, &OwnerReference> =
            controllers.map(|controller| (controller.uid.as_str(), controller)).collect();
        let mut deployments = BTreeMap::new();
        for controller in controllers.into_values() {
            let (uid, size) = size(cluster, &key.namespace, controller).await?;
            deployments.insert(uid, size);
        }
        sizes = deployments.into_values().sum();
    }
    let now = Timestamp::now();
    let (status, again) = plan(&budget, &pods, sizes, now);
    let after = PodDisruptionBudget { status: Some(status), ..PodDisruptionBudget::clone(&budget) };
    cluster.update_status(&cluster.budgets, &budget, &after).await?;
    Ok(again)
}

/// How many pods their controller wants, and the uid of what says so: the sets of a Deployment are one.
async fn size(cluster: &Cluster, namespace: &str, controller: &OwnerReference) -> Result<(String, i32), Error> {
    let uid = controller.uid.clone();
    if controller.kind == "ReplicaSet" {
        let Some(set) = cluster.replica_sets.get(&Key::new(namespace, &controller.name)) else {
            return Ok((uid, 0));
        };
        let own = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let deployment = owner::controller_of_kind(&set.metadata, "Deployment");
        let deployment =
            deployment.and_then(|deployment| cluster.deployments.get(&Key::new(namespace, &deployment.name)));
        return Ok(match deployment {
            Some(deployment) => {
                let size = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
                (deployment.metadata.uid.clone().unwrap_or_default(), size)
            }
            None => (uid, own),
        });
    }
    let kinds = cluster.kinds.namespaced().await?;
    let is =
        |resource: &ApiResource| resource.kind == controller.kind && resource.api_version == controller.api_version;
    let Some(kind) = kinds.into_iter().find(|kind| is(&kind.resource)) else {
        return Ok((uid, 0));
    };
    let api: Api<DynamicObject> = Api::namespaced_with(cluster.client.clone(), namespace, &kind.resource);
    match api.get_scale(&controller.name).await.map_err(Error::from) {
        Ok(scale) => Ok((uid, scale.spec.and_then(|spec| spec.replicas).unwrap_or(0))),
        Err(error) if error.is_not_found() => Ok((uid, 0)),
        Err(error) => Err(error),
    }
}
