//! Namespaces: those that always exist, and the end of those that are deleted.

mod empty;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Api;
use kube::api::PostParams;

use crate::cache::{Change, Key};
use crate::cluster::Cluster;
use crate::error::Error;
use crate::queue::Queue;

/// The namespaces of every cluster.
pub const ALWAYS: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
const FINALIZER: &str = "kubernetes";

/// Listens for namespaces, and asks for those that have to exist.
pub(crate) fn listen(cluster: &Arc<Cluster>, queue: &Arc<Queue<Key>>) {
    queue.extend(ALWAYS.map(|name| Key::new("", name)));
    let keys = queue.clone();
    cluster.namespaces.listen(move |change: &Change<Namespace>| {
        keys.extend(change.newest().map(|namespace| Key::of(&namespace.metadata)));
    });
    listen_to_pods(cluster, queue);
}

/// Listens for pods that end in namespaces that wait for them.
fn listen_to_pods(cluster: &Arc<Cluster>, queue: &Arc<Queue<Key>>) {
    let (keys, namespaces) = (queue.clone(), cluster.namespaces.clone());
    cluster.pods.listen(move |change: &Change<Pod>| {
        let gone = change.before.as_ref().filter(|_| change.after.is_none());
        let Some(name) = gone.and_then(|pod| pod.metadata.namespace.as_deref()) else { return };
        let key = Key::new("", name);
        if namespaces.get(&key).is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some()) {
            keys.add(key);
        }
    });
}

/// Creates a missing namespace of [`ALWAYS`]; empties one that is being deleted and lets it go.
pub(crate) async fn reconcile(cluster: &Cluster, key: &Key) -> Result<Option<Duration>, Error> {
    let Some(namespace) = cluster.namespaces.get(key) else {
        if !ALWAYS.contains(&key.name.as_str()) {
            return Ok(None);
        }
        let namespace = Namespace {
            metadata: ObjectMeta { name: Some(key.name.clone()), ..Default::default() },
            ..Default::default()
        };
        return match cluster.create(&cluster.namespaces, &namespace).await {
            Err(error) if error.is_already_exists() => Ok(None),
            created => created.map(|_| None),
        };
    };
    let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.clone()).unwrap_or_default();
    if namespace.metadata.deletion_timestamp.is_none() || !finalizers.iter().any(|f| f == FINALIZER) {
        return Ok(None);
    }
    let left = empty::empty(cluster, &key.name).await?;
    let mut after = (*namespace).clone();
    let status = after.status.get_or_insert_default();
    status.phase = Some("Terminating".into());
    let conditions = left.conditions();
    for (kind, problem) in conditions {
        set_condition(status.conditions.get_or_insert_default(), kind, problem, Timestamp::now());
    }
    if left.count() > 0 {
        cluster.update_status(&cluster.namespaces, &namespace, &after).await?;
        return Err(Error::Remaining(key.name.clone(), left.count()));
    }
    after.spec.get_or_insert_default().finalizers = Some(finalizers.into_iter().filter(|f| f != FINALIZER).collect());
    let api: Api<Namespace> = cluster.api("");
    let finalized = api.replace_subresource("finalize", &key.name, &PostParams::default(), &after).await;
    crate::error::gone_is_fine(finalized)?;
    Ok(None)
}

/// A problem, or the message that all is well.
type Finding = Result<&'static str, (&'static str, String)>;

fn set_condition(conditions: &mut Vec<NamespaceCondition>, kind: &str, finding: Finding, now: Timestamp) {
    let (status, reason, message) = match finding {
        Ok(message) => ("False", fine(kind), message.to_owned()),
        Err((reason, message)) => ("True", reason, message),
    };
    let old = conditions.iter().find(|condition| condition.type_ == kind);
    let since = old.filter(|old| old.status == status).and_then(|old| old.last_transition_time.clone());
    let new = NamespaceCondition {
        type_: kind.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message),
        last_transition_time: since.or(Some(Time(now))),
    };
    match conditions.iter_mut().find(|condition| condition.type_ == kind) {
        Some(old) => *old = new,
        None => conditions.push(new),
    }
}

/// The reason of a condition that says nothing is wrong.
fn fine(kind: &str) -> &'static str {
    match kind {
        "NamespaceContentRemaining" => "ContentRemoved",
        "NamespaceFinalizersRemaining" => "ContentHasNoFinalizers",
        _ => "ContentDeleted",
    }
}
