//! Nodes that come, fall silent, come back and go.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams};

use crate::lab::{Lab, deployment, is_ready, live};

const GRACE: Duration = Duration::from_secs(2);

async fn lab() -> Lab {
    let quick = |config: &mut controllers::Config| {
        config.node_grace = GRACE;
        config.gone_node_grace = Duration::from_millis(100);
    };
    Lab::configured(quick).await
}

fn ready(node: &Node) -> String {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    conditions.into_iter().find(|c| c.type_ == "Ready").map(|c| c.status).unwrap_or_default()
}

fn taints(node: &Node) -> Vec<String> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    taints.into_iter().map(|taint| format!("{}:{}", taint.key, taint.effect)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_node_gets_a_range_of_its_own() {
    let mut lab = lab().await;
    for (name, range) in [("n1", "10.244.0.0/24"), ("n2", "10.244.1.0/24")] {
        lab.node(name).await;
        lab.until(&format!("a range for {name}"), async || {
            let range_of = |node: Node| node.spec.and_then(|spec| spec.pod_cidr);
            (lab.get::<Node>(name).await.and_then(range_of).as_deref() == Some(range)).then_some(())
        })
        .await;
    }
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_node_is_unreachable_until_it_is_heard_again() {
    let mut lab = lab().await;
    let silence = lab.node("n1").await;
    lab.create::<Deployment>(deployment("web", 1, "web:1")).await;
    let pods = async |ready: bool| {
        let pods = lab.list::<Pod>().await;
        (pods.len() == 1 && is_ready(&pods[0]) == ready).then_some(())
    };
    lab.until("a ready pod", async || pods(true).await).await;
    silence.cancel();
    let node = lab
        .until("an unknown node", async || {
            let node = lab.get::<Node>("n1").await.expect("the node");
            (ready(&node) == "Unknown" && taints(&node).len() == 2).then_some(node)
        })
        .await;
    let key = "node.kubernetes.io/unreachable";
    assert_eq!(taints(&node), [format!("{key}:NoSchedule"), format!("{key}:NoExecute")]);
    lab.until("a pod that is not ready", async || pods(false).await).await;
    let stop = tokio_util::sync::CancellationToken::new();
    let task = tokio::spawn(live(lab.client.clone(), "n1".into(), stop.clone()));
    lab.until("a node without taints", async || {
        let node = lab.get::<Node>("n1").await.expect("the node");
        (ready(&node) == "True" && taints(&node).is_empty()).then_some(())
    })
    .await;
    lab.until("a ready pod again", async || pods(true).await).await;
    stop.cancel();
    task.await.expect("the node ends");
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pods_of_a_node_that_is_gone_are_replaced_elsewhere() {
    let mut lab = lab().await;
    let silence = lab.node("n1").await;
    lab.create::<Deployment>(deployment("web", 2, "web:1")).await;
    let on = async |name: &str| {
        let pods = lab.list::<Pod>().await;
        let there = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(name);
        (pods.len() == 2 && pods.iter().all(|pod| is_ready(pod) && there(pod))).then_some(())
    };
    lab.until("two pods on n1", async || on("n1").await).await;
    silence.cancel();
    let nodes: Api<Node> = Api::all(lab.client.clone());
    nodes.delete("n1", &DeleteParams::default()).await.expect("the node is deleted");
    let stop = tokio_util::sync::CancellationToken::new();
    let node: Node = serde_json::from_value(serde_json::json!({"metadata": {"name": "n2"}})).expect("a node");
    nodes.create(&Default::default(), &node).await.expect("a new node");
    let task = tokio::spawn(live(lab.client.clone(), node.name_any(), stop.clone()));
    lab.until("two pods on n2", async || on("n2").await).await;
    stop.cancel();
    task.await.expect("the node ends");
    lab.end().await;
}
