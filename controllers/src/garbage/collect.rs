//! What becomes of one object: nothing, deletion, or the end of its wait.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions, PropagationPolicy};
use serde_json::json;

use super::Collector;
use super::graph::{FOREGROUND, Node, ORPHAN, Stage, stage};
use crate::cluster::Cluster;
use crate::error::{Error, gone_is_fine};

/// How the owners of an object stand.
#[derive(Default)]
struct Owners {
    /// There, and to stay.
    solid: Vec<OwnerReference>,
    /// Gone.
    dangling: Vec<OwnerReference>,
    /// Being deleted, waiting for their dependents.
    waiting: Vec<OwnerReference>,
}

/// Looks at one object and does what its owners or its own deletion ask for.
pub(super) async fn look(collector: &Collector, cluster: &Cluster, uid: &str) -> Result<(), Error> {
    let Some(node) = collector.with(|graph| graph.get(uid)) else { return Ok(()) };
    match node.stage {
        Stage::Alive => attempt(collector, cluster, uid, &node).await,
        Stage::Dying => Ok(()),
        Stage::Orphaning => set_free(collector, cluster, uid, &node).await,
        Stage::Foreground if collector.with(|graph| graph.is_blocked(uid)) => {
            let dependents = collector.with(|graph| {
                let all = graph.dependents(uid);
                all.into_iter().filter(|d| graph.get(d).is_some_and(|n| n.stage == Stage::Alive)).collect::<Vec<_>>()
            });
            collector.queue.extend(dependents);
            Ok(())
        }
        Stage::Foreground => drop_finalizer(cluster, uid, &node, FOREGROUND).await,
    }
}

/// Deletes an object whose owners are all gone or waiting for it; takes the references to some away when others stay.
async fn attempt(collector: &Collector, cluster: &Cluster, uid: &str, node: &Node) -> Result<(), Error> {
    let settled = |graph: &mut super::Graph| {
        node.owners.iter().all(|owner| graph.is_present(&owner.uid) && graph.waiting(&owner.uid).is_none())
    };
    if collector.with(settled) {
        return Ok(());
    }
    let Some(meta) = live(cluster, uid, node).await? else { return Ok(()) };
    if meta.deletion_timestamp.is_some() {
        return Ok(());
    }
    let owners = classify(collector, cluster, &meta).await?;
    let lost = owners.dangling.len() + owners.waiting.len();
    if lost == 0 {
        return Ok(());
    }
    if !owners.solid.is_empty() {
        return patch(cluster, node, &meta, json!({"ownerReferences": owners.solid})).await;
    }
    let has = |name: &str| meta.finalizers.iter().flatten().any(|finalizer| finalizer == name);
    let has_dependents = collector.with(|graph| !graph.dependents(uid).is_empty());
    let policy = match () {
        () if !owners.waiting.is_empty() && has_dependents => PropagationPolicy::Foreground,
        () if has(ORPHAN) => PropagationPolicy::Orphan,
        () if has(FOREGROUND) => PropagationPolicy::Foreground,
        () => PropagationPolicy::Background,
    };
    let params = DeleteParams {
        propagation_policy: Some(policy),
        preconditions: Some(Preconditions { uid: meta.uid.clone(), resource_version: meta.resource_version.clone() }),
        ..Default::default()
    };
    gone_is_fine(api(cluster, node).delete(&node.name, &params).await)
}

/// Sorts the owners by asking the API server about those that no watch has told of.
async fn classify(collector: &Collector, cluster: &Cluster, meta: &ObjectMeta) -> Result<Owners, Error> {
    let mut owners = Owners::default();
    for reference in meta.owner_references.iter().flatten() {
        let (present, waiting) =
            collector.with(|graph| (graph.is_present(&reference.uid), graph.waiting(&reference.uid).is_some()));
        let found = if present {
            Some(if waiting { Stage::Foreground } else { Stage::Alive })
        } else {
            owner(cluster, meta, reference).await?
        };
        match found {
            None => owners.dangling.push(reference.clone()),
            Some(Stage::Foreground) => owners.waiting.push(reference.clone()),
            Some(_) => owners.solid.push(reference.clone()),
        }
    }
    Ok(owners)
}

/// How the owner stands, if it is there.
async fn owner(cluster: &Cluster, meta: &ObjectMeta, reference: &OwnerReference) -> Result<Option<Stage>, Error> {
    let kinds = cluster.kinds.all().await?;
    let (group, _) = reference.api_version.split_once('/').unwrap_or(("", &reference.api_version));
    let kind = kinds.iter().find(|kind| kind.resource.group == group && kind.resource.kind == reference.kind);
    let Some(kind) = kind else {
        return Err(Error::UnknownKind(reference.api_version.clone(), reference.kind.clone()));
    };
    let client = cluster.client.clone();
    let api: Api<DynamicObject> = match (&meta.namespace, kind.namespaced) {
        (Some(namespace), true) => Api::namespaced_with(client, namespace, &kind.resource),
        // What is cluster-scoped cannot be owned by what is not; nobody can tell which namespace was meant.
        (None, true) => return Ok(Some(Stage::Alive)),
        (_, false) => Api::all_with(client, &kind.resource),
    };
    let found = api.get_metadata_opt(&reference.name).await?;
    let found = found.filter(|owner| owner.metadata.uid.as_ref() == Some(&reference.uid));
    Ok(found.map(|owner| stage(&owner.metadata)))
}

/// Takes the references to `uid` off its dependents and lets it go.
async fn set_free(collector: &Collector, cluster: &Cluster, uid: &str, node: &Node) -> Result<(), Error> {
    for dependent in collector.with(|graph| graph.dependents(uid)) {
        let Some(child) = collector.with(|graph| graph.get(&dependent)) else { continue };
        let Some(meta) = live(cluster, &dependent, &child).await? else { continue };
        let references = meta.owner_references.iter().flatten();
        let kept: Vec<_> = references.filter(|reference| reference.uid != uid).collect();
        if kept.len() < meta.owner_references.as_ref().map_or(0, Vec::len) {
            patch(cluster, &child, &meta, json!({"ownerReferences": kept})).await?;
        }
    }
    drop_finalizer(cluster, uid, node, ORPHAN).await
}

async fn drop_finalizer(cluster: &Cluster, uid: &str, node: &Node, name: &str) -> Result<(), Error> {
    let Some(meta) = live(cluster, uid, node).await? else { return Ok(()) };
    let finalizers = meta.finalizers.iter().flatten();
    let kept: Vec<_> = finalizers.filter(|finalizer| *finalizer != name).collect();
    if meta.finalizers.as_ref().map_or(0, Vec::len) == kept.len() {
        return Ok(());
    }
    patch(cluster, node, &meta, json!({"finalizers": kept})).await
}

/// The object as the API server has it now, if it is still the same one.
async fn live(cluster: &Cluster, uid: &str, node: &Node) -> Result<Option<ObjectMeta>, Error> {
    let found = api(cluster, node).get_metadata_opt(&node.name).await?.map(|object| object.metadata);
    Ok(found.filter(|meta| meta.uid.as_deref() == Some(uid)))
}

/// Merges `metadata` into the object, unless somebody wrote since `meta` was read.
async fn patch(
    cluster: &Cluster,
    node: &Node,
    meta: &ObjectMeta,
    mut metadata: serde_json::Value,
) -> Result<(), Error> {
    metadata["resourceVersion"] = json!(meta.resource_version);
    metadata["uid"] = json!(meta.uid);
    let patch = Patch::Merge(json!({ "metadata": metadata }));
    gone_is_fine(api(cluster, node).patch_metadata(&node.name, &PatchParams::default(), &patch).await)
}

fn api(cluster: &Cluster, node: &Node) -> Api<DynamicObject> {
    let client = cluster.client.clone();
    if node.namespace.is_empty() {
        Api::all_with(client, &*node.kind)
    } else {
        Api::namespaced_with(client, &node.namespace, &*node.kind)
    }
}
