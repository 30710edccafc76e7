//! Removes pods that nobody else will: those on nodes that are gone, and the oldest of too many finished ones.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, PodCondition};
use kube::Api;
use kube::api::DeleteParams;
use tokio::time::Instant;

use crate::cache::{Change, Key, Term};
use crate::cluster::Cluster;
use crate::error::Error;
use crate::pod;
use crate::queue::Queue;

const COMPONENT: &str = "pod-garbage-collector";
/// How long the count of finished pods may be out of date.
const COUNT_PAUSE: Duration = Duration::from_secs(20);

/// Since when nodes that pods name are not there.
#[derive(Default)]
pub(crate) struct Missing(Mutex<HashMap<String, Instant>>);

impl Missing {
    fn since(&self, node: &str) -> Instant {
        *self.lock().entry(node.into()).or_insert_with(Instant::now)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keys are pods; the empty key stands for the count of the finished ones.
pub(crate) fn listen(cluster: &Arc<Cluster>, queue: &Arc<Queue<Key>>, missing: &Arc<Missing>) {
    let (keys, nodes) = (queue.clone(), cluster.nodes.clone());
    cluster.pods.listen(move |change: &Change<Pod>| {
        let Some(pod) = &change.after else { return };
        let lost = pod::node(pod).is_some_and(|name| nodes.get(&Key::new("", name)).is_none());
        let never = pod::node(pod).is_none() && pod::is_terminating(pod);
        if lost || never {
            keys.add(Key::of(&pod.metadata));
        }
        if pod::is_finished(pod) && !change.before.as_ref().is_some_and(|before| pod::is_finished(before)) {
            keys.add_after(Key::default(), COUNT_PAUSE);
        }
    });
    let (keys, pods, missing) = (queue.clone(), cluster.pods.clone(), missing.clone());
    cluster.nodes.listen(move |change: &Change<Node>| {
        let Some(name) = change.newest().and_then(|node| node.metadata.name.clone()) else { return };
        missing.lock().remove(&name);
        if change.after.is_none() {
            keys.extend(pods.by(&Term::Node(name)).iter().map(|pod| Key::of(&pod.metadata)));
        }
    });
}

/// Removes one pod if its node has been gone for long enough, or the finished pods over the threshold.
pub(crate) async fn reconcile(cluster: &Cluster, missing: &Missing, key: &Key) -> Result<Option<Duration>, Error> {
    if *key == Key::default() {
        for pod in surplus(cluster.pods.all(), cluster.config.finished_pods) {
            remove(cluster, &pod, None).await?;
        }
        return Ok(None);
    }
    let Some(pod) = cluster.pods.get(key) else { return Ok(None) };
    let Some(name) = pod::node(&pod) else {
        if pod::is_terminating(&pod) {
            remove(cluster, &pod, None).await?;
        }
        return Ok(None);
    };
    if cluster.nodes.get(&Key::new("", name)).is_some() {
        return Ok(None);
    }
    let gone = missing.since(name).elapsed();
    if let Some(left) = cluster.config.gone_node_grace.checked_sub(gone).filter(|left| !left.is_zero()) {
        return Ok(Some(left));
    }
    let nodes: Api<Node> = cluster.api("");
    if nodes.get_metadata_opt(name).await?.is_none() {
        remove(cluster, &pod, Some("PodGC: node no longer exists")).await?;
    }
    Ok(None)
}

/// The oldest finished pods over `threshold`.
fn surplus(pods: Vec<Arc<Pod>>, threshold: usize) -> Vec<Arc<Pod>> {
    let mut finished: Vec<Arc<Pod>> = pods.into_iter().filter(|pod| pod::is_finished(pod)).collect();
    finished.sort_by(|a, b| {
        let age = |pod: &Pod| pod.metadata.creation_timestamp.clone();
        age(a).cmp(&age(b)).then_with(|| a.metadata.name.cmp(&b.metadata.name))
    });
    finished.truncate(finished.len().saturating_sub(threshold));
    finished
}

/// Deletes a pod at once. One that was still running has failed, for the reason given.
async fn remove(cluster: &Cluster, pod: &Pod, disrupted: Option<&str>) -> Result<(), Error> {
    if !pod::is_finished(pod) {
        let mut after = pod.clone();
        after.status.get_or_insert_default().phase = Some("Failed".into());
        if let Some(message) = disrupted {
            let condition = PodCondition {
                type_: "DisruptionTarget".into(),
                status: "True".into(),
                reason: Some("DeletionByPodGC".into()),
                message: Some(message.into()),
                ..Default::default()
            };
            pod::set_condition(&mut after, condition, Timestamp::now());
        }
        match cluster.update_status(&cluster.pods, pod, &after).await {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => tracing::debug!(component = COMPONENT, pod = pod.metadata.name, "pod removed by force"),
        }
    }
    cluster.delete(&cluster.pods, pod, DeleteParams::default().grace_period(0)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::PodStatus;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

    fn pod(name: &str, phase: &str, created: i64) -> Arc<Pod> {
        let created = Timestamp::from_second(created).expect("a time");
        let metadata =
            ObjectMeta { name: Some(name.into()), creation_timestamp: Some(Time(created)), ..Default::default() };
        let status = PodStatus { phase: Some(phase.into()), ..Default::default() };
        Arc::new(Pod { metadata, status: Some(status), ..Default::default() })
    }

    #[test]
    fn only_the_oldest_finished_pods_over_the_threshold_go() {
        let pods =
            || vec![pod("a", "Failed", 3), pod("b", "Succeeded", 1), pod("c", "Running", 0), pod("d", "Failed", 2)];
        let names = |threshold| {
            let gone = surplus(pods(), threshold);
            gone.iter().filter_map(|pod| pod.metadata.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(3), [""; 0]);
        assert_eq!(names(1), ["b", "d"]);
        assert_eq!(names(0), ["b", "d", "a"]);
    }
}
