//! What every namespace gets: the `default` service account, and the cluster's CA certificate.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::cache::{Key, Object};
use crate::cluster::Cluster;
use crate::error::Error;
use crate::queue::Queue;

const ACCOUNT: &str = "default";
pub(crate) const ROOT_CA: &str = "kube-root-ca.crt";

/// Listens for namespaces, and for what they are to have. Keys are namespaces.
pub(crate) fn listen(cluster: &Arc<Cluster>, queue: &Arc<Queue<Key>>) {
    let keys = queue.clone();
    cluster.namespaces.listen(move |change| {
        keys.extend(change.after.as_ref().map(|namespace| Key::of(&namespace.metadata)));
    });
    let keys = queue.clone();
    cluster.service_accounts.listen(move |change| {
        keys.extend(change.newest().map(|account| holder(&**account)));
    });
    let keys = queue.clone();
    cluster.root_cas.listen(move |change| keys.extend(change.newest().map(|map| holder(&**map))));
}

fn holder<K: Object>(object: &K) -> Key {
    Key::new("", object.meta().namespace.as_deref().unwrap_or_default())
}

/// Makes what one namespace lacks.
pub(crate) async fn reconcile(cluster: &Cluster, key: &Key) -> Result<Option<Duration>, Error> {
    let live = cluster.namespaces.get(key).filter(|n| n.metadata.deletion_timestamp.is_none());
    if live.is_none() {
        return Ok(None);
    }
    let named =
        |name: &str| ObjectMeta { name: Some(name.into()), namespace: Some(key.name.clone()), ..Default::default() };
    if cluster.service_accounts.get(&Key::new(&key.name, ACCOUNT)).is_none() {
        let account = ServiceAccount { metadata: named(ACCOUNT), ..Default::default() };
        made(cluster.create(&cluster.service_accounts, &account).await)?;
    }
    let Some(ca) = &cluster.config.ca else {
        return Ok(None);
    };
    let data = Some(BTreeMap::from([("ca.crt".to_owned(), ca.clone())]));
    match cluster.root_cas.get(&Key::new(&key.name, ROOT_CA)) {
        None => {
            let annotation = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal \
                              endpoints such as the internal service IP or kubernetes.default.svc. No other usage is \
                              guaranteed across distributions of Kubernetes clusters.";
            let annotations = BTreeMap::from([("kubernetes.io/description".to_owned(), annotation.to_owned())]);
            let metadata = ObjectMeta { annotations: Some(annotations), ..named(ROOT_CA) };
            made(cluster.create(&cluster.root_cas, &ConfigMap { metadata, data, ..Default::default() }).await)?;
        }
        Some(before) => {
            let after = ConfigMap { data, ..(*before).clone() };
            cluster.update(&cluster.root_cas, &before, &after).await?;
        }
    }
    Ok(None)
}

/// Somebody else having made it, or the namespace going away, is fine.
fn made<K>(result: Result<K, Error>) -> Result<(), Error> {
    match result {
        Err(error) if error.is_already_exists() || error.is_namespace_terminating() => Ok(()),
        other => other.map(drop),
    }
}
