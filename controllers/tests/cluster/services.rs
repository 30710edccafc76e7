//! Services, their EndpointSlices and Endpoints, and the `kubernetes` Service.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Endpoints, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
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
async fn endpoints_know_the_zone_of_their_node() {
    let mut lab = Lab::new().await;
    lab.node("n1").await;
    lab.create::<Service>(service()).await;
    lab.create::<Deployment>(deployment("web", 1, "web:1")).await;
    // The zone of the one endpoint, and those that it is for.
    let shown = async || {
        let slices = lab.list::<EndpointSlice>().await;
        let own = slices.iter().find(|slice| slice.name_any().starts_with("web-"))?;
        let endpoint =
            own.endpoints.as_ref()?.first().filter(|e| e.conditions.as_ref().and_then(|c| c.ready) == Some(true))?;
        let zones = endpoint.hints.iter().flat_map(|hints| hints.for_zones.iter().flatten());
        Some((endpoint.zone.clone(), zones.map(|zone| zone.name.clone()).collect::<Vec<_>>()))
    };
    let prefer = |value: serde_json::Value| json!({"spec": {"trafficDistribution": value}});
    let node = Api::<Node>::all(lab.client.clone());
    let label = |zone: &str| Patch::Merge(json!({"metadata": {"labels": {"topology.kubernetes.io/zone": zone}}}));
    let expect = async |zone: Option<&str>, zones: &[&str]| {
        lab.until(&format!("zone {zone:?}, hints {zones:?}"), async || {
            shown().await.filter(|(is, hints)| is.as_deref() == zone && hints == zones)
        })
        .await
    };
    expect(None, &[]).await;
    node.patch("n1", &PatchParams::default(), &label("a")).await.expect("a label");
    expect(Some("a"), &[]).await;
    lab.merge::<Service>("web", prefer(json!("PreferClose"))).await;
    expect(Some("a"), &["a"]).await;
    node.patch("n1", &PatchParams::default(), &label("b")).await.expect("a label");
    expect(Some("b"), &["b"]).await;
    lab.merge::<Service>("web", prefer(json!(null))).await;
    expect(Some("b"), &[]).await;
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
