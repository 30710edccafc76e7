//! Pods that wait for room, and bursts that must not take more than there is.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::ResourceExt;
use kube::api::DeleteParams;

use crate::lab::{Lab, pod};

fn node_of(pod: &Pod) -> Option<String> {
    pod.spec.as_ref().and_then(|spec| spec.node_name.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_says_why_it_waits_and_goes_when_it_can() {
    let mut lab = Lab::new().await;
    lab.create::<Pod>(pod("big", "3")).await;
    let says = async |text: &str| {
        let big = lab.api::<Pod>().get("big").await.expect("the pod");
        let conditions = big.status.and_then(|status| status.conditions).unwrap_or_default();
        let scheduled = conditions.into_iter().find(|c| c.type_ == "PodScheduled")?;
        let fits = scheduled.status == "False" && scheduled.reason.as_deref() == Some("Unschedulable");
        (fits && scheduled.message.unwrap_or_default().contains(text)).then_some(())
    };
    lab.until("no nodes", async || says("no nodes available to schedule pods").await).await;
    lab.node("n1").await;
    lab.until("a node for big", async || node_of(&lab.api::<Pod>().get("big").await.ok()?)).await;
    lab.create::<Pod>(pod("more", "3")).await;
    lab.until("an event", async || {
        let events = lab.list::<Event>().await;
        let about = |event: &&Event| event.involved_object.name.as_deref() == Some("more");
        let failed = events.iter().filter(about).find(|e| e.reason.as_deref() == Some("FailedScheduling"))?;
        let message = failed.message.clone().unwrap_or_default();
        message.starts_with("0/1 nodes are available: 1 Insufficient cpu.").then_some(())
    })
    .await;
    lab.api::<Pod>().delete("big", &DeleteParams::default()).await.expect("room is made");
    lab.until("a node for more", async || node_of(&lab.api::<Pod>().get("more").await.ok()?)).await;
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_never_takes_more_than_there_is() {
    let mut lab = Lab::new().await;
    lab.node("n1").await;
    lab.node("n2").await;
    let creations = (0..12).map(|n| lab.create::<Pod>(pod(&format!("p{n}"), "1")));
    futures::future::join_all(creations).await;
    let placed = async || {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for pod in lab.list::<Pod>().await {
            *counts.entry(node_of(&pod).unwrap_or_default()).or_default() += 1;
        }
        counts
    };
    let full = BTreeMap::from([(String::new(), 4), ("n1".to_owned(), 4), ("n2".to_owned(), 4)]);
    lab.until("two full nodes", async || {
        let counts = placed().await;
        assert!(["n1", "n2"].iter().all(|n| counts.get(*n).copied().unwrap_or(0) <= 4), "{counts:?}");
        (counts == full).then_some(())
    })
    .await;
    let gone = lab.list::<Pod>().await.into_iter().find(|pod| node_of(pod).is_some()).expect("a placed pod");
    lab.api::<Pod>().delete(&gone.name_any(), &DeleteParams::default()).await.expect("room is made");
    lab.until("the room is taken", async || (placed().await.get("") == Some(&3)).then_some(())).await;
    lab.end().await;
}
