//! Deployments and ReplicaSets.

use std::time::Instant;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::ResourceExt;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;

use crate::lab::{Lab, deployment, is_ready};

async fn ready(lab: &Lab, count: usize, image: &str) -> Vec<Pod> {
    lab.until(&format!("{count} ready pods of {image}"), async || {
        let pods = lab.list::<Pod>().await;
        let fits = |pod: &Pod| pod.spec.as_ref().is_some_and(|s| s.containers[0].image.as_deref() == Some(image));
        (pods.len() == count && pods.iter().all(|pod| is_ready(pod) && fits(pod))).then_some(pods)
    })
    .await
}

async fn complete(lab: &Lab, name: &str, replicas: i32) -> Deployment {
    lab.until(&format!("the rollout of {name}"), async || {
        let deployment = lab.api::<Deployment>().get(name).await.expect("the deployment is there");
        let status = deployment.status.clone().unwrap_or_default();
        let seen = status.observed_generation == deployment.metadata.generation;
        let done = [status.replicas, status.updated_replicas, status.available_replicas] == [Some(replicas); 3];
        (seen && done).then_some(deployment)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_rolls_out_scales_and_goes_back() {
    let mut lab = Lab::new().await;
    lab.node("n1").await;
    let start = Instant::now();
    lab.create::<Deployment>(deployment("web", 3, "web:1")).await;
    ready(&lab, 3, "web:1").await;
    println!("created to three ready pods: {:?}", start.elapsed());
    let done = complete(&lab, "web", 3).await;
    assert_eq!(done.annotations().get("deployment.kubernetes.io/revision").map(String::as_str), Some("1"));

    lab.merge::<Deployment>("web", json!({"spec": {"replicas": 5}})).await;
    ready(&lab, 5, "web:1").await;
    lab.merge::<Deployment>("web", json!({"spec": {"replicas": 2}})).await;
    ready(&lab, 2, "web:1").await;

    let image = |image: &str| deployment("web", 2, image);
    lab.merge::<Deployment>("web", image("web:2")).await;
    ready(&lab, 2, "web:2").await;
    complete(&lab, "web", 2).await;
    assert_eq!(lab.list::<ReplicaSet>().await.len(), 2);
    lab.merge::<Deployment>("web", image("web:1")).await;
    ready(&lab, 2, "web:1").await;
    let back = complete(&lab, "web", 2).await;
    assert_eq!(back.annotations().get("deployment.kubernetes.io/revision").map(String::as_str), Some("3"));
    assert_eq!(lab.list::<ReplicaSet>().await.len(), 2, "the old set is used again");

    let events = lab.list::<Event>().await;
    let first = events.iter().find(|event| event.reason.as_deref() == Some("ScalingReplicaSet")).expect("an event");
    let message = first.message.clone().unwrap_or_default();
    assert!(message.starts_with("Scaled up replica set web-") && message.ends_with("from 0 to 3"), "{message}");
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_pod_is_replaced_and_an_orphan_adopted() {
    let mut lab = Lab::new().await;
    lab.node("n1").await;
    let orphan = json!({
        "metadata": {"name": "orphan", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "web:1"}]},
    });
    lab.create::<Pod>(orphan).await;
    let set = json!({
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "web:1"}]},
            },
        },
    });
    let set = lab.create::<ReplicaSet>(set).await;
    let pods = ready(&lab, 2, "web:1").await;
    assert!(
        pods.iter().all(|pod| pod.owner_references().iter().any(|owner| Some(&owner.uid) == set.metadata.uid.as_ref()))
    );
    assert!(pods.iter().any(|pod| pod.name_any() == "orphan"));
    lab.api::<Pod>().delete("orphan", &DeleteParams::default()).await.expect("the pod is deleted");
    lab.until("a replacement", async || {
        let pods = lab.list::<Pod>().await;
        (pods.len() == 2 && pods.iter().all(|pod| is_ready(pod) && pod.name_any() != "orphan")).then_some(())
    })
    .await;
    // A pod whose label is taken away is let go and replaced.
    let stray = lab.list::<Pod>().await[0].name_any();
    lab.merge::<Pod>(&stray, json!({"metadata": {"labels": {"app": "odd"}}})).await;
    lab.until("the stray pod to be free", async || {
        let pods = lab.list::<Pod>().await;
        let free = pods.iter().any(|pod| pod.name_any() == stray && pod.owner_references().is_empty());
        (pods.len() == 3 && free).then_some(())
    })
    .await;
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_name_is_avoided() {
    let mut lab = Lab::new().await;
    lab.node("n1").await;
    let first = lab.create::<Deployment>(deployment("web", 1, "web:1")).await;
    complete(&lab, "web", 1).await;
    let set = lab.list::<ReplicaSet>().await.remove(0);
    lab.api::<Deployment>().delete(&first.name_any(), &DeleteParams::background()).await.expect("it is deleted");
    lab.until("no set", async || lab.list::<ReplicaSet>().await.is_empty().then_some(())).await;
    // Somebody else's set of the very same name.
    let mut squatter = ReplicaSet { metadata: Default::default(), spec: set.spec.clone(), status: None };
    squatter.metadata.name = Some(set.name_any());
    let spec = squatter.spec.as_mut().expect("a spec");
    spec.replicas = Some(0);
    let odd = [("app".to_owned(), "odd".to_owned())];
    spec.selector.match_labels = Some(odd.clone().into());
    spec.template.as_mut().and_then(|t| t.metadata.as_mut()).expect("metadata").labels = Some(odd.into());
    lab.api::<ReplicaSet>().create(&PostParams::default(), &squatter).await.expect("the name is free");
    lab.create::<Deployment>(deployment("web", 1, "web:1")).await;
    let done = complete(&lab, "web", 1).await;
    assert_eq!(done.status.and_then(|status| status.collision_count), Some(1));
    lab.end().await;
}
