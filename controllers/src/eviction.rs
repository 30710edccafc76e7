//! Evicts pods from nodes that carry NoExecute taints, each after the time it tolerates.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, PodCondition, Taint};
use kube::api::DeleteParams;

use crate::cache::{Change, Key, Term};
use crate::cluster::Cluster;
use crate::error::Error;
use crate::pod;
use crate::queue::Queue;
use crate::scheduler::tolerates;

const COMPONENT: &str = "taint-eviction-controller";

/// Listens for pods that come to a tainted node, and for taints that come to a node.
pub(crate) fn listen(cluster: &Arc<Cluster>, queue: &Arc<Queue<Key>>) {
    let (keys, nodes) = (queue.clone(), cluster.nodes.clone());
    cluster.pods.listen(move |change: &Change<Pod>| {
        let Some(pod) = &change.after else { return };
        let node = pod::node(pod).and_then(|name| nodes.get(&Key::new("", name)));
        if node.is_some_and(|node| !evicting(&node).is_empty()) {
            keys.add(Key::of(&pod.metadata));
        }
    });
    let (keys, pods) = (queue.clone(), cluster.pods.clone());
    cluster.nodes.listen(move |change: &Change<Node>| {
        let Some(after) = &change.after else { return };
        let before = change.before.as_deref().map(evicting).unwrap_or_default();
        if evicting(after) != before {
            let name = after.metadata.name.clone().unwrap_or_default();
            keys.extend(pods.by(&Term::Node(name)).iter().map(|pod| Key::of(&pod.metadata)));
        }
    });
}

fn evicting(node: &Node) -> Vec<Taint> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    taints.into_iter().flatten().filter(|taint| taint.effect == "NoExecute").cloned().collect()
}

/// Deletes one pod when its time has come, or looks again when it will.
pub(crate) async fn reconcile(cluster: &Cluster, key: &Key) -> Result<Option<Duration>, Error> {
    let Some(pod) = cluster.pods.get(key).filter(|pod| pod::is_active(pod)) else { return Ok(None) };
    let Some(node) = pod::node(&pod).and_then(|name| cluster.nodes.get(&Key::new("", name))) else {
        return Ok(None);
    };
    let now = Timestamp::now();
    let Some(wait) = patience(&pod, &evicting(&node), now) else { return Ok(None) };
    if !wait.is_zero() {
        return Ok(Some(wait));
    }
    let message = format!("Marking for deletion Pod {}/{}", key.namespace, key.name);
    cluster.events.normal(COMPONENT, &*pod, "TaintManagerEviction", message);
    let mut after = (*pod).clone();
    let condition = PodCondition {
        type_: "DisruptionTarget".into(),
        status: "True".into(),
        reason: Some("DeletionByTaintManager".into()),
        message: Some("Taint manager: deleting due to NoExecute taint".into()),
        ..Default::default()
    };
    pod::set_condition(&mut after, condition, now);
    cluster.update_status(&cluster.pods, &pod, &after).await?;
    cluster.delete(&cluster.pods, &*pod, DeleteParams::default()).await?;
    Ok(None)
}

/// How long the pod still stays under `taints`: `None` is for ever. Each taint is borne from when it was added for
/// the shortest time that a toleration of it says.
fn patience(pod: &Pod, taints: &[Taint], now: Timestamp) -> Option<Duration> {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.clone()).unwrap_or_default();
    let mut shortest: Option<Duration> = None;
    for taint in taints {
        let fitting: Vec<_> = tolerations.iter().filter(|toleration| tolerates(toleration, taint)).collect();
        if fitting.is_empty() {
            return Some(Duration::ZERO);
        }
        let seconds = fitting.iter().filter_map(|toleration| toleration.toleration_seconds).min();
        let borne = taint.time_added.as_ref().map_or(Duration::ZERO, |since| pod::elapsed(since.0, now));
        let left = seconds.map(|s| Duration::from_secs(s.max(0) as u64).saturating_sub(borne));
        shortest = shortest.into_iter().chain(left).min();
    }
    shortest
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{PodSpec, Toleration};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    const KEY: &str = "node.kubernetes.io/unreachable";

    fn taint(seconds_ago: i64) -> Taint {
        let added = Timestamp::from_second(1000 - seconds_ago).expect("a time");
        Taint { key: KEY.into(), effect: "NoExecute".into(), time_added: Some(Time(added)), value: None }
    }

    fn toleration(seconds: Option<i64>) -> Toleration {
        Toleration {
            key: Some(KEY.into()),
            operator: Some("Exists".into()),
            effect: Some("NoExecute".into()),
            toleration_seconds: seconds,
            value: None,
        }
    }

    #[test]
    fn a_pod_stays_as_long_as_it_tolerates() {
        let now = Timestamp::from_second(1000).expect("a time");
        let seconds = |n| Some(Duration::from_secs(n));
        let cases = [
            (vec![], vec![], None),
            (vec![taint(0)], vec![], seconds(0)),
            (vec![taint(0)], vec![toleration(None)], None),
            (vec![taint(0)], vec![toleration(Some(300))], seconds(300)),
            (vec![taint(100)], vec![toleration(Some(300))], seconds(200)),
            (vec![taint(400)], vec![toleration(Some(300))], seconds(0)),
            (vec![taint(0)], vec![toleration(Some(-1))], seconds(0)),
            (vec![taint(0)], vec![toleration(Some(300)), toleration(Some(60))], seconds(60)),
        ];
        for (taints, tolerations, expected) in cases {
            let spec = PodSpec { tolerations: Some(tolerations.clone()), ..Default::default() };
            let pod = Pod { spec: Some(spec), ..Default::default() };
            assert_eq!(patience(&pod, &taints, now), expected, "{taints:?} {tolerations:?}");
        }
    }
}
