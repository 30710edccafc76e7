//! What becomes of the owned when the owner goes.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::ResourceExt;
use kube::api::{DeleteParams, PropagationPolicy};
use serde_json::json;

use crate::lab::{Lab, deployment, is_ready};

async fn running(lab: &Lab, count: usize) {
    lab.create::<Deployment>(deployment("web", count as u32, "web:1")).await;
    lab.until("ready pods", async || {
        let pods = lab.list::<Pod>().await;
        (pods.len() == count && pods.iter().all(is_ready)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_goes_with_its_deployment_in_the_back_and_in_the_foreground() {
    let mut lab = Lab::new().await;
    lab.node("n1").await;
    for policy in [PropagationPolicy::Background, PropagationPolicy::Foreground] {
        running(&lab, 2).await;
        let params = DeleteParams { propagation_policy: Some(policy.clone()), ..Default::default() };
        lab.api::<Deployment>().delete("web", &params).await.expect("the deployment is deleted");
        lab.until(&format!("nothing left after {policy:?}"), async || {
            let gone = lab.list::<Deployment>().await.is_empty();
            let (sets, pods) = (lab.list::<ReplicaSet>().await, lab.list::<Pod>().await);
            if gone && policy == PropagationPolicy::Foreground {
                assert!(sets.is_empty(), "the owner goes last");
            }
            (gone && sets.is_empty() && pods.is_empty()).then_some(())
        })
        .await;
    }
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_stay() {
    let mut lab = Lab::new().await;
    lab.node("n1").await;
    running(&lab, 2).await;
    let params = DeleteParams { propagation_policy: Some(PropagationPolicy::Orphan), ..Default::default() };
    lab.api::<Deployment>().delete("web", &params).await.expect("the deployment is deleted");
    lab.until("a set without owner", async || {
        let gone = lab.list::<Deployment>().await.is_empty();
        let sets = lab.list::<ReplicaSet>().await;
        (gone && sets.len() == 1 && sets[0].owner_references().is_empty()).then_some(())
    })
    .await;
    assert_eq!(lab.list::<Pod>().await.len(), 2);
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kinds_without_a_controller_are_collected_too_and_one_living_owner_is_enough() {
    let lab = Lab::new().await;
    let map = |name: &str, owners: &[&ConfigMap]| {
        let references: Vec<_> = owners
            .iter()
            .map(|o| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": o.name_any(), "uid": o.metadata.uid}))
            .collect();
        json!({"metadata": {"name": name, "ownerReferences": references}})
    };
    let first = lab.create::<ConfigMap>(map("first", &[])).await;
    let second = lab.create::<ConfigMap>(map("second", &[])).await;
    lab.create::<ConfigMap>(map("child", &[&first])).await;
    lab.create::<ConfigMap>(map("shared", &[&first, &second])).await;
    let mut ghost = first.clone();
    ghost.metadata.uid = Some("nobody".into());
    lab.create::<ConfigMap>(map("lost", &[&ghost])).await;
    lab.api::<ConfigMap>().delete("first", &DeleteParams::default()).await.expect("it is deleted");
    lab.until("only what has an owner", async || {
        let maps = lab.list::<ConfigMap>().await;
        let names: Vec<String> = maps.iter().map(ResourceExt::name_any).filter(|n| n != "kube-root-ca.crt").collect();
        let shared = maps.iter().find(|map| map.name_any() == "shared").expect("it has an owner left");
        (names == ["second", "shared"] && shared.owner_references().len() == 1).then_some(())
    })
    .await;
    lab.end().await;
}
