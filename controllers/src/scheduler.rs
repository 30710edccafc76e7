//! The scheduler: gives each pod a node and binds it there.

mod affinity;
mod binding;
mod fit;
mod ledger;
mod quantity;
mod reason;
mod resources;
mod score;
mod spread;
mod taint;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};

use futures::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cache::Key;
use crate::cluster::Cluster;
use crate::error::Error;
use crate::pod;
use crate::queue::sleep_until;
use ledger::Ledger;

pub(crate) use taint::tolerates;

const COMPONENT: &str = "default-scheduler";
/// How many bindings and refusals may be on their way to the API server at the same time.
const WRITES: usize = 64;

/// The scheduler's view of the cluster, fed by the caches.
pub(crate) struct Scheduler {
    ledger: Mutex<Ledger>,
    wake: Notify,
}

/// Listens to pods and nodes.
pub(crate) fn listen(cluster: &Arc<Cluster>) -> Arc<Scheduler> {
    let scheduler = Arc::new(Scheduler { ledger: Mutex::new(Ledger::default()), wake: Notify::new() });
    let to = scheduler.clone();
    cluster.pods.listen(move |change| to.change(|ledger, now| ledger.pod(change, now)));
    let to = scheduler.clone();
    cluster.nodes.listen(move |change| to.change(|ledger, now| ledger.node(change, now)));
    scheduler
}

impl Scheduler {
    fn change(&self, apply: impl FnOnce(&mut Ledger, Instant)) {
        self.with(|ledger| apply(ledger, Instant::now()));
        self.wake.notify_one();
    }

    fn with<T>(&self, act: impl FnOnce(&mut Ledger) -> T) -> T {
        act(&mut self.ledger.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Schedules pods as they come, until `shutdown`.
    pub(crate) async fn run(&self, cluster: &Cluster, shutdown: CancellationToken) {
        if shutdown.run_until_cancelled(cluster.ready()).await.is_none() {
            return;
        }
        let mut writes = FuturesUnordered::new();
        loop {
            while writes.len() < WRITES {
                let Some(decision) = self.decide(cluster) else {
                    break;
                };
                writes.push(self.carry_out(cluster, decision));
            }
            let retry = self.with(|ledger| ledger.next_retry());
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(()) = writes.next() => {}
                () = self.wake.notified() => {}
                () = sleep_until(retry), if writes.len() < WRITES => {
                    self.with(|ledger| ledger.retry(Instant::now()));
                }
            }
        }
    }

    /// Takes the next pod and picks its node; the pod counts as placed from here on.
    fn decide(&self, cluster: &Cluster) -> Option<Decision> {
        self.with(|ledger| {
            let pod = ledger.next()?;
            let services = cluster.services.namespace(pod.metadata.namespace.as_deref().unwrap_or_default());
            Some(match fit::pick(&pod, ledger.nodes(), &services) {
                Ok(node) => {
                    ledger.assume(&pod, &node);
                    Decision::Bind(pod, node)
                }
                Err(refusal) => {
                    ledger.park(&pod, Instant::now());
                    Decision::Refuse(pod, refusal.to_string())
                }
            })
        })
    }

    async fn carry_out(&self, cluster: &Cluster, decision: Decision) {
        match decision {
            Decision::Bind(pod, node) => {
                let result = binding::bind(cluster, &pod, &node).await;
                if let Err(error) = result {
                    tracing::debug!(%error, node, "binding failed");
                    self.with(|ledger| ledger.unassume(&pod, Instant::now()));
                    self.wake.notify_one();
                    return;
                }
                let key = Key::of(&pod.metadata);
                let message = format!("Successfully assigned {}/{} to {node}", key.namespace, key.name);
                cluster.events.normal(COMPONENT, &*pod, "Scheduled", message);
            }
            Decision::Refuse(pod, message) => {
                if let Err(error) = refuse(cluster, &pod, &message).await {
                    tracing::debug!(%error, "status of an unschedulable pod not written");
                }
                cluster.events.warning(COMPONENT, &*pod, "FailedScheduling", message);
            }
        }
    }
}

enum Decision {
    Bind(Arc<Pod>, String),
    Refuse(Arc<Pod>, String),
}

/// Says in the pod's status why it has no node.
async fn refuse(cluster: &Cluster, pod: &Pod, message: &str) -> Result<(), Error> {
    let mut after = pod.clone();
    let condition = PodCondition {
        type_: "PodScheduled".into(),
        status: "False".into(),
        reason: Some("Unschedulable".into()),
        message: Some(message.into()),
        ..Default::default()
    };
    if !pod::set_condition(&mut after, condition, Timestamp::now()) {
        return Ok(());
    }
    cluster.update_status(&cluster.pods, pod, &after).await
}
