//! Deletes everything in a namespace: pods first (KEP-5080), then all other kinds.

use std::collections::BTreeMap;

use kube::Api;
use kube::api::{DeleteParams, DynamicObject, ListParams};
use kube::core::PartialObjectMeta;

use super::Finding;
use crate::cluster::Cluster;
use crate::error::Error;
use crate::kinds::Kind;

/// What is still there after everything was told to go.
#[derive(Default)]
pub(super) struct Left {
    kinds: BTreeMap<String, usize>,
    finalizers: BTreeMap<String, usize>,
}

/// Deletes the content of `namespace` and says what waits for finalizers or grace periods.
pub(super) async fn empty(cluster: &Cluster, namespace: &str) -> Result<Left, Error> {
    let mut left = Left::default();
    let kinds = cluster.kinds.namespaced().await?;
    let (pods, others): (Vec<_>, Vec<_>) = kinds.iter().partition(|kind| kind.is("", "pods"));
    for kind in pods {
        clear(cluster, kind, namespace, &mut left).await?;
    }
    if left.count() > 0 {
        return Ok(left);
    }
    for kind in others {
        clear(cluster, kind, namespace, &mut left).await?;
    }
    Ok(left)
}

async fn clear(cluster: &Cluster, kind: &Kind, namespace: &str, left: &mut Left) -> Result<(), Error> {
    let api: Api<DynamicObject> = Api::namespaced_with(cluster.client.clone(), namespace, &kind.resource);
    let list = async || match api.list_metadata(&ListParams::default()).await {
        // A kind that went away since discovery has no objects.
        Err(kube::Error::Api(status)) if status.is_not_found() || status.code == 405 => Ok(vec![]),
        other => other.map(|list| list.items),
    };
    if list().await?.is_empty() {
        return Ok(());
    }
    let params = DeleteParams::background();
    if kind.has("deletecollection") {
        api.delete_collection(&params, &ListParams::default()).await?;
    } else {
        for object in list().await? {
            crate::error::gone_is_fine(api.delete(&object.metadata.name.unwrap_or_default(), &params).await)?;
        }
    }
    left.add(kind, &list().await?);
    Ok(())
}

impl Left {
    fn add(&mut self, kind: &Kind, objects: &[PartialObjectMeta<DynamicObject>]) {
        if !objects.is_empty() {
            *self.kinds.entry(kind.title()).or_default() += objects.len();
        }
        for finalizer in objects.iter().flat_map(|object| object.metadata.finalizers.iter().flatten()) {
            *self.finalizers.entry(finalizer.clone()).or_default() += 1;
        }
    }

    pub(super) fn count(&self) -> usize {
        self.kinds.values().sum()
    }

    /// The namespace's conditions, in Kubernetes' words.
    pub(super) fn conditions(&self) -> [(&'static str, Finding); 3] {
        let content = self.kinds.iter().map(|(kind, n)| format!("{kind} has {n} resource instances"));
        let content: Vec<String> = content.collect();
        let finalizers = self.finalizers.iter().map(|(name, n)| format!("{name} in {n} resource instances"));
        let finalizers: Vec<String> = finalizers.collect();
        [
            ("NamespaceDeletionContentFailure", Ok("All content successfully deleted, may be waiting on finalization")),
            (
                "NamespaceContentRemaining",
                match content.is_empty() {
                    true => Ok("All content successfully removed"),
                    false => {
                        Err(("SomeResourcesRemain", format!("Some resources are remaining: {}", content.join(", "))))
                    }
                },
            ),
            (
                "NamespaceFinalizersRemaining",
                match finalizers.is_empty() {
                    true => Ok("All content-preserving finalizers finished"),
                    false => Err((
                        "SomeFinalizersRemain",
                        format!("Some content in the namespace has finalizers remaining: {}", finalizers.join(", ")),
                    )),
                },
            ),
        ]
    }
}
