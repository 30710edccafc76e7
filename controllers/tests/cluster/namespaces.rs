//! Namespaces, what they are born with, and how they end.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, ServiceAccount};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::lab::{Lab, deployment};

#[tokio::test(flavor = "multi_thread")]
async fn every_namespace_has_an_account_and_the_ca() {
    let lab = Lab::new().await;
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        let accounts: Api<ServiceAccount> = Api::namespaced(lab.client.clone(), name);
        lab.until("an account", async || accounts.get_opt("default").await.expect("a read works")).await;
        let maps: Api<ConfigMap> = Api::namespaced(lab.client.clone(), name);
        let map = lab.until("the CA", async || maps.get_opt("kube-root-ca.crt").await.expect("a read works")).await;
        assert!(map.data.is_some_and(|data| data["ca.crt"].starts_with("-----BEGIN")));
    }
    lab.api::<ServiceAccount>().delete("default", &DeleteParams::default()).await.expect("it is deleted");
    let accounts = lab.api::<ServiceAccount>();
    lab.until("the account again", async || accounts.get_opt("default").await.expect("a read works")).await;
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_namespace_takes_everything_with_it() {
    let mut lab = Lab::new().await;
    lab.node("n1").await;
    let namespaces: Api<Namespace> = Api::all(lab.client.clone());
    let dev: Namespace = serde_json::from_value(json!({"metadata": {"name": "dev"}})).expect("a namespace");
    namespaces.create(&PostParams::default(), &dev).await.expect("it is created");
    let mut web = deployment("web", 2, "web:1");
    web["metadata"]["namespace"] = json!("dev");
    lab.create::<Deployment>(web).await;
    let held = json!({"metadata": {"name": "held", "namespace": "dev", "finalizers": ["example.com/wait"]}});
    lab.create::<ConfigMap>(held).await;
    let pods: Api<Pod> = Api::namespaced(lab.client.clone(), "dev");
    lab.until("two pods", async || {
        (pods.list(&Default::default()).await.expect("a list").items.len() == 2).then_some(())
    })
    .await;
    namespaces.delete("dev", &DeleteParams::default()).await.expect("it is deleted");
    lab.until("the condition that names the finalizer", async || {
        let dev = namespaces.get("dev").await.expect("a finalizer holds it");
        let conditions = dev.status.and_then(|status| status.conditions).unwrap_or_default();
        conditions.into_iter().find(|c| c.type_ == "NamespaceFinalizersRemaining" && c.status == "True")
    })
    .await;
    assert!(pods.list(&Default::default()).await.expect("a list").items.is_empty());
    let maps: Api<ConfigMap> = Api::namespaced(lab.client.clone(), "dev");
    let free = Patch::Merge(json!({"metadata": {"finalizers": []}}));
    maps.patch("held", &PatchParams::default(), &free).await.expect("the finalizer goes");
    lab.until("the end of the namespace", async || match lab.get::<Namespace>("dev").await {
        None => Some(()),
        Some(_) => None,
    })
    .await;
    lab.end().await;
}
