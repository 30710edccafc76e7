//! A cluster in the test's own process, as users of kube-rs have it.

mod calls;
mod control;
mod life;
mod node;
mod watch;

use std::{fmt::Debug, time::Duration};

use coracle::Cluster;
use kube::{Api, Client, Resource, core::NamespaceResourceScope};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// How long anything may take that has to come true.
const PATIENCE: Duration = Duration::from_secs(20);

async fn start() -> (Cluster, Client) {
    let cluster = Cluster::builder().start().await.expect("a cluster");
    let client = cluster.client();
    (cluster, client)
}

/// An object from JSON.
fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("the shape of the kind")
}

fn map(name: &str) -> k8s_openapi::api::core::v1::ConfigMap {
    object(json!({"metadata": {"name": name}, "data": {"key": "value"}}))
}

/// A Deployment of this many pods.
fn deployment(name: &str, replicas: u32) -> k8s_openapi::api::apps::v1::Deployment {
    object(json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "main", "image": "coracle/echo"}]},
            },
        },
    }))
}

/// The objects of a kind in `default`.
fn all<K>(client: &Client) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    Api::default_namespaced(client.clone())
}

/// What a future gives in time.
async fn soon<T: Debug>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("not so after {PATIENCE:?}: {what}"))
}

/// Looks until it is so.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let looking = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(what, looking).await;
}
