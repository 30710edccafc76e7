//! Evictions, as `kubectl drain` makes them, against PodDisruptionBudgets.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;
use kube::api::EvictParams;
use serde_json::json;

use crate::lab::{Lab, deployment, is_ready};

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_lets_go_of_as_many_pods_as_can_be_missed() {
    let mut lab = Lab::new().await;
    let node = lab.node("n1").await;
    let mut wanted = deployment("web", 2, "web:1");
    wanted["spec"]["template"]["metadata"]["labels"]["app"] = "web".into();
    lab.create::<Deployment>(wanted).await;
    let budget = json!({
        "metadata": {"name": "web"},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}},
    });
    lab.create::<PodDisruptionBudget>(budget).await;
    let allowed = async |count: i32| {
        lab.until(&format!("{count} disruptions allowed"), async || {
            let status = lab.api::<PodDisruptionBudget>().get("web").await.expect("a budget").status?;
            (status.disruptions_allowed == Some(count) && status.expected_pods == Some(2)).then_some(status)
        })
        .await
    };
    allowed(1).await;
    let pods = lab.list::<Pod>().await;
    assert!(pods.len() == 2 && pods.iter().all(is_ready));
    // Nobody ends what is evicted, and nothing new gets ready.
    node.cancel();
    let api = lab.api::<Pod>();
    api.evict(&pods[0].name_any(), &EvictParams::default()).await.expect("one may go");
    let refused = api.evict(&pods[1].name_any(), &EvictParams::default()).await;
    let Err(kube::Error::Api(status)) = refused else { panic!("not refused: {refused:?}") };
    assert_eq!((status.code, status.reason.as_str()), (429, "TooManyRequests"));
    assert_eq!(status.message, "Cannot evict pod as it would violate the pod's disruption budget.");
    let cause = status.details.unwrap().causes.remove(0);
    assert_eq!(cause.reason, "DisruptionBudget");
    let evicted = api.get(&pods[0].name_any()).await.expect("it ends slowly");
    let conditions = evicted.status.unwrap().conditions.unwrap();
    assert!(
        conditions
            .iter()
            .any(|it| it.type_ == "DisruptionTarget" && it.reason.as_deref() == Some("EvictionByEvictionAPI"))
    );
    // The eviction has spent the budget at once; the controller counts anew.
    lab.until("one healthy pod", async || {
        let status = lab.api::<PodDisruptionBudget>().get("web").await.expect("a budget").status?;
        let counts = (status.disruptions_allowed, status.current_healthy, status.desired_healthy);
        (counts == (Some(0), Some(1), Some(1))).then_some(())
    })
    .await;
    lab.end().await;
}
