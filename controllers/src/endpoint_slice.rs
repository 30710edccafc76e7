//! EndpointSlices: the endpoints of each Service in pieces of at most a hundred.

mod plan;
#[cfg(test)]
mod tests;
mod trigger;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::DeleteParams;

use crate::cache::{Change, Key, Term};
use crate::cluster::{Cluster, service_of};
use crate::endpoint;
use crate::error::Error;
use crate::queue::Queue;
use plan::{MANAGED_BY, MANAGER, plan};

const ZONE: &str = "topology.kubernetes.io/zone";

/// Listens for what concerns EndpointSlices.
pub(crate) fn listen(cluster: &Arc<Cluster>, queue: &Arc<Queue<Key>>) {
    endpoint::listen(cluster, queue);
    let keys = queue.clone();
    cluster.slices.listen(move |change: &Change<EndpointSlice>| {
        keys.extend(change.both().filter(|slice| is_ours(slice)).filter_map(|slice| service_of(slice)));
    });
    let (keys, whole) = (queue.clone(), Arc::downgrade(cluster));
    cluster.nodes.listen(move |change: &Change<Node>| {
        let zone = |node: &Option<Arc<Node>>| node.as_deref().and_then(zone).map(str::to_owned);
        let name = change.newest().and_then(|node| node.metadata.name.as_deref());
        if let (Some(name), Some(cluster)) = (name, whole.upgrade())
            && zone(&change.before) != zone(&change.after)
        {
            keys.extend(endpoint::services_on(&cluster, name));
        }
    });
}

fn zone(node: &Node) -> Option<&str> {
    let labels = node.metadata.labels.as_ref()?;
    labels.get(ZONE).map(String::as_str).filter(|zone| !zone.is_empty())
}

fn is_ours(slice: &EndpointSlice) -> bool {
    slice.metadata.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY)).is_some_and(|by| by == MANAGER)
}

/// Makes the slices of one Service tell of its pods. Slices of a Service that is gone go with it by their owner.
pub(crate) async fn reconcile(cluster: &Cluster, key: &Key) -> Result<Option<Duration>, Error> {
    let Some(service) = cluster.services.get(key) else {
        return Ok(None);
    };
    if endpoint::selector(&service).is_none() || service.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    let mut endpoints = endpoint::endpoints(&service, &cluster.pods.namespace(&key.namespace));
    for endpoint in &mut endpoints {
        let node = endpoint.node.as_deref().and_then(|name| cluster.nodes.get(&Key::new("", name)));
        endpoint.zone = node.as_deref().and_then(zone).map(str::to_owned);
    }
    let slices = cluster.slices.by(&Term::Service(key.clone()));
    let slices: Vec<Arc<EndpointSlice>> = slices.into_iter().filter(|slice| is_ours(slice)).collect();
    let plan = plan(&service, &endpoints, &slices);
    // Endpoints appear before they go, so that one that moves between slices is never missing.
    for slice in &plan.create {
        match cluster.create(&cluster.slices, slice).await {
            Err(error) if error.is_namespace_terminating() => return Ok(None),
            created => created.map(drop)?,
        }
    }
    for (before, after) in &plan.update {
        cluster.update(&cluster.slices, before, after).await?;
    }
    for slice in &plan.delete {
        cluster.delete(&cluster.slices, &**slice, DeleteParams::default()).await?;
    }
    Ok(None)
}
