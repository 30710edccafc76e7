//! Services, their EndpointSlices and Endpoints, and the `kubernetes` Service.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::json;

use crate::lab::{Lab, deployment, is_ready};

fn service() -> serde_json::Value {
    json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}})
}

/// The ready addresses of the Service's slices.
async fn sliced(lab: &Lab, service: &str) -> BTreeSet<String> {
    let slices = lab.list::<EndpointSlice>().await;
    let own =
        slices.iter().filter(|s| s.labels().get("kubernetes.io/service-name").is_some_and(|name| name == service));
    let endpoints = own.flat_map(|slice| slice.endpoints.iter().flatten());
    let ready = endpoints.filter(|e| e.conditions.as_ref().is_some_and(|c| c.ready == Some(true)));
    ready.flat_map(|endpoint| endpoint.addresses.clone()).collect()
}

async fn addressed(lab: &Lab, name: &str) -> BTreeSet<String> {
    let endpoints = lab.api::<Endpoints>().get_opt(name).await.expect("a read works").unwrap_or_default();
    let subsets = endpoints.subsets.unwrap_or_default();
    subsets.into_iter().flat_map(|subset| subset.addresses.unwrap_or_default()).map(|address| address.ip).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_follow_pods() {
    let mut lab = Lab::new().await;
    lab.node("n1").await;
    lab.create::<Service>(service()).await;
    lab.until("an empty slice", async || (lab.list::<EndpointSlice>().await.len() == 2).then_some(())).await;
    lab.create::<Deployment>(deployment("web", 3, "web:1")).await;
    for replicas in [3, 5, 2, 0] {
        lab.merge::<Deployment>("web", json!({"spec": {"replicas": replicas}})).await;
        lab.until(&format!("{replicas} endpoints"), async || {
            let pods = lab.list::<Pod>().await;
            let ips: BTreeSet<String> =
                pods.iter().filter(|p| is_ready(p)).filter_map(|p| p.status.clone()?.pod_ip).collect();
            let (sliced, addressed) = (sliced(&lab, "web").await, addressed(&lab, "web").await);
            (pods.len() == replicas && sliced == ips && addressed == ips && ips.len() == replicas).then_some(())
        })
        .await;
    }
    lab.api::<Service>().delete("web", &DeleteParams::default()).await.expect("the service is deleted");
    lab.until("no slices and no endpoints", async || {
        let slices = lab.list::<EndpointSlice>().await;
        let endpoints = lab.list::<Endpoints>().await;
        (slices.len() == 1 && endpoints.len() == 1).then_some(())
    })
    .await;
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kubernetes_service_leads_to_the_api_server() {
    let lab = Lab::new().await;
    let expected = BTreeSet::from(["172.18.0.2".to_owned()]);
    let found = async || {
        (sliced(&lab, "kubernetes").await == expected && addressed(&lab, "kubernetes").await == expected).then_some(())
    };
    lab.until("the API server's endpoint", found).await;
    let service = lab.api::<Service>().get("kubernetes").await.expect("the service");
    let spec = service.spec.expect("a spec");
    assert_eq!(spec.cluster_ip.as_deref(), Some("10.96.0.1"));
    assert_eq!(spec.ports.expect("a port")[0].port, 443);
    lab.api::<EndpointSlice>().delete("kubernetes", &DeleteParams::default()).await.expect("it is deleted");
    lab.merge::<Endpoints>("kubernetes", json!({"subsets": []})).await;
    lab.until("the API server's endpoint again", found).await;
    lab.end().await;
}
