//! Nodes that live and nodes that fell silent: conditions by heartbeat, taints by condition.

mod plan;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use tokio::time::Instant;

use crate::cache::{Change, Key, Term};
use crate::cluster::Cluster;
use crate::error::Error;
use crate::pod;
use crate::queue::Queue;

const COMPONENT: &str = "node-controller";

/// When each node was last heard of, by our own clock: the clocks of nodes are not trusted.
#[derive(Default)]
pub(crate) struct Heartbeats(Mutex<HashMap<String, Heard>>);

struct Heard {
    renewed: Option<MicroTime>,
    at: Instant,
}

impl Heartbeats {
    fn heard(&self, name: &str, renewed: Option<&MicroTime>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get_mut(name) {
            Some(heard) if heard.renewed.as_ref() == renewed => {}
            Some(heard) => *heard = Heard { renewed: renewed.cloned(), at: Instant::now() },
            None => {
                all.insert(name.into(), Heard { renewed: renewed.cloned(), at: Instant::now() });
            }
        }
    }

    /// How long the node has been silent; its time starts when it is first asked for.
    fn silence(&self, name: &str) -> Duration {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(name.into()).or_insert_with(|| Heard { renewed: None, at: Instant::now() }).at.elapsed()
    }

    fn forget(&self, name: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

/// Listens for nodes and their Leases. A renewal only counts as heard; it brings the node up when that was given up.
pub(crate) fn listen(cluster: &Arc<Cluster>, queue: &Arc<Queue<Key>>, heartbeats: &Arc<Heartbeats>) {
    let (keys, beats) = (queue.clone(), heartbeats.clone());
    cluster.nodes.listen(move |change: &Change<Node>| {
        let Some(node) = change.newest() else { return };
        let key = Key::of(&node.metadata);
        if change.after.is_none() {
            beats.forget(&key.name);
        }
        keys.add(key);
    });
    let (keys, beats, nodes) = (queue.clone(), heartbeats.clone(), cluster.nodes.clone());
    cluster.leases.listen(move |change: &Change<Lease>| {
        let Some(lease) = &change.after else { return };
        let key = Key::new("", lease.metadata.name.as_deref().unwrap_or_default());
        beats.heard(&key.name, lease.spec.as_ref().and_then(|spec| spec.renew_time.as_ref()));
        if nodes.get(&key).is_some_and(|node| plan::ready(&node) == Some("Unknown")) {
            keys.add(key);
        }
    });
}

/// Brings one node's conditions, taints and pods to what its heartbeats say; looks again when its grace runs out.
pub(crate) async fn reconcile(
    cluster: &Cluster,
    heartbeats: &Heartbeats,
    key: &Key,
) -> Result<Option<Duration>, Error> {
    let Some(node) = cluster.nodes.get(key) else { return Ok(None) };
    let grace = cluster.config.node_grace;
    let silence = heartbeats.silence(&key.name);
    let now = Timestamp::now();
    let mut after = (*node).clone();
    if silence >= grace && plan::give_up(&mut after, now) {
        cluster.update_status(&cluster.nodes, &node, &after).await?;
        let message = format!("Node {} status is now: NodeNotReady", key.name);
        cluster.events.normal(COMPONENT, &*node, "NodeNotReady", message);
    }
    let Some(node) = cluster.nodes.get(key) else { return Ok(None) };
    let mut after = (*node).clone();
    plan::taint(&mut after, now);
    cluster.update(&cluster.nodes, &node, &after).await?;
    if matches!(plan::ready(&node), Some("False" | "Unknown")) {
        mark_pods(cluster, &key.name, now).await?;
    }
    Ok(grace.checked_sub(silence).filter(|left| !left.is_zero()))
}

/// Pods on a node that is not ready are not ready either; the node itself says otherwise when it is back.
async fn mark_pods(cluster: &Cluster, node: &str, now: Timestamp) -> Result<(), Error> {
    for pod in cluster.pods.by(&Term::Node(node.into())) {
        let Some(ready) = pod::condition(&pod, "Ready").filter(|ready| ready.status == "True") else { continue };
        let mut after = (*pod).clone();
        let condition = PodCondition { status: "False".into(), ..ready.clone() };
        pod::set_condition(&mut after, condition, now);
        match cluster.update_status(&cluster.pods, &pod, &after).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => return Err(error),
            _ => cluster.events.warning(COMPONENT, &*pod, "NodeNotReady", "Node is not ready".into()),
        }
    }
    Ok(())
}
