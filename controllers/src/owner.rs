//! Who owns what: controller references, adoption and release.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use kube::core::{Selector, SelectorExt};

use crate::cache::Object;
use crate::error::Error;

/// The reference by which `owner` controls what it makes.
pub(crate) fn controller_reference<K: Object>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: owner.meta().name.clone().unwrap_or_default(),
        uid: owner.meta().uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The one owner that manages this object.
pub(crate) fn controller(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// The controller, if it is of this kind.
pub(crate) fn controller_of_kind<'a>(meta: &'a ObjectMeta, kind: &str) -> Option<&'a OwnerReference> {
    controller(meta).filter(|owner| owner.kind == kind)
}

pub(crate) fn matches(selector: &Selector, meta: &ObjectMeta) -> bool {
    match &meta.labels {
        Some(labels) => selector.matches(labels),
        None => selector.matches(&BTreeMap::new()),
    }
}

/// A label selector in the form that can be asked. One without requirements selects nothing here, since every
/// controller's selector has to name something.
pub(crate) fn selector(selector: &LabelSelector, of: &str) -> Result<Option<Selector>, Error> {
    let selector = Selector::try_from(selector.clone()).map_err(|_| Error::Selector(of.into()))?;
    Ok(Some(selector).filter(|selector| !selector.selects_all()))
}

/// What a controller has, should take, and should let go.
pub(crate) struct Claim<K> {
    pub(crate) owned: Vec<Arc<K>>,
    /// Orphans that match the selector.
    pub(crate) adopt: Vec<Arc<K>>,
    /// Owned ones that no longer match.
    pub(crate) release: Vec<Arc<K>>,
}

/// Sorts `objects` by whether `owner` controls them and whether `selector` matches. An owner that is being deleted
/// neither adopts nor releases.
pub(crate) fn claim<K: Object>(
    owner: &ObjectMeta,
    selector: &Selector,
    objects: impl IntoIterator<Item = Arc<K>>,
) -> Claim<K> {
    let mut claim = Claim { owned: vec![], adopt: vec![], release: vec![] };
    let dying = owner.deletion_timestamp.is_some();
    for object in objects {
        let fits = matches(selector, object.meta());
        let leaving = object.meta().deletion_timestamp.is_some();
        match controller(object.meta()) {
            Some(reference) if Some(&reference.uid) != owner.uid.as_ref() => {}
            Some(_) if fits => claim.owned.push(object),
            Some(_) if !dying => claim.release.push(object),
            None if fits && !dying && !leaving => claim.adopt.push(object),
            _ => {}
        }
    }
    claim
}

/// `object` with `reference` added.
pub(crate) fn adopted<K: Object>(object: &K, reference: OwnerReference) -> K {
    let mut object = object.clone();
    object.meta_mut().owner_references.get_or_insert_default().push(reference);
    object
}

/// `object` without the reference to the owner `uid`.
pub(crate) fn released<K: Object>(object: &K, uid: &str) -> K {
    let mut object = object.clone();
    if let Some(references) = &mut object.meta_mut().owner_references {
        references.retain(|reference| reference.uid != uid);
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    fn pod(name: &str, label: &str, owner: Option<&str>, leaving: bool) -> Arc<Pod> {
        let references: Vec<Value> = owner
            .map(|uid| json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x", "uid": uid, "controller": true}))
            .into_iter()
            .collect();
        let mut object = json!({"metadata": {"name": name, "labels": {"app": label}, "ownerReferences": references}});
        if leaving {
            object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        Arc::new(serde_json::from_value(object).expect("a pod"))
    }

    #[test]
    fn what_matches_is_taken_and_what_no_longer_matches_let_go() {
        let names = |pods: &[Arc<Pod>]| -> Vec<String> {
            pods.iter().map(|pod| pod.metadata.name.clone().unwrap_or_default()).collect()
        };
        let pods = [
            pod("mine", "web", Some("me"), false),
            pod("mine-leaving", "web", Some("me"), true),
            pod("strayed", "other", Some("me"), false),
            pod("orphan", "web", None, false),
            pod("orphan-leaving", "web", None, true),
            pod("stranger", "other", None, false),
            pod("theirs", "web", Some("you"), false),
        ];
        let selector = Selector::from_iter([("app", "web")]);
        let mut owner = ObjectMeta { uid: Some("me".into()), ..Default::default() };
        let claimed = claim(&owner, &selector, pods.clone());
        assert_eq!(names(&claimed.owned), ["mine", "mine-leaving"]);
        assert_eq!(names(&claimed.adopt), ["orphan"]);
        assert_eq!(names(&claimed.release), ["strayed"]);
        owner.deletion_timestamp = Some(jiff::Timestamp::UNIX_EPOCH.into());
        let dying = claim(&owner, &selector, pods);
        assert_eq!(names(&dying.owned), ["mine", "mine-leaving"]);
        assert!(dying.adopt.is_empty() && dying.release.is_empty());
    }
}
