//! Revisions: the number that each version of a Deployment carries, for `kubectl rollout history` and `undo`.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::sets::{DESIRED, MAX, Sets, Slot};
use super::template;
use crate::owner;

const REVISION: &str = "deployment.kubernetes.io/revision";
const HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// Annotations of a Deployment that its sets do not take over.
const OWN: [&str; 5] = ["kubectl.kubernetes.io/last-applied-configuration", REVISION, HISTORY, DESIRED, MAX];

fn revision(slot: &Slot) -> u64 {
    slot.annotation(REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Gives the new set the highest revision, if there is a new set; with `create` it is made when missing.
pub(super) fn sync(deployment: &Deployment, sets: &mut Sets, create: bool) {
    let newest = sets.old.iter().map(revision).max().unwrap_or(0) + 1;
    if let Some(new) = &mut sets.new {
        for (name, value) in inherited(deployment) {
            new.annotate(&name, value);
        }
        let old = revision(new);
        if old < newest {
            if old > 0 {
                let mut history: Vec<String> =
                    new.annotation(HISTORY).into_iter().flat_map(|h| h.split(',')).map(Into::into).collect();
                history.push(old.to_string());
                new.annotate(HISTORY, history.join(","));
            }
            new.annotate(REVISION, newest.to_string());
        }
        let min_ready = deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
        new.after.spec.get_or_insert_default().min_ready_seconds = min_ready;
    } else if create {
        let mut new = Slot::created(made(deployment, newest));
        let total = sets.total();
        new.scale(deployment, super::plan::new_size(deployment, total, 0));
        sets.new = Some(new);
    }
}

/// The Deployment's annotations with the revision of its new set.
pub(super) fn annotations(deployment: &Deployment, sets: &Sets) -> Option<BTreeMap<String, String>> {
    let mut annotations = deployment.metadata.annotations.clone();
    if let Some(revision) = sets.new.as_ref().and_then(|new| new.annotation(REVISION)) {
        annotations.get_or_insert_default().insert(REVISION.into(), revision.into());
    }
    annotations
}

fn inherited(deployment: &Deployment) -> impl Iterator<Item = (String, String)> {
    let all = deployment.metadata.annotations.clone().unwrap_or_default();
    all.into_iter().filter(|(name, _)| !OWN.contains(&name.as_str()))
}

/// The set for the Deployment's template.
fn made(deployment: &Deployment, revision: u64) -> ReplicaSet {
    let spec = deployment.spec.clone().unwrap_or_default();
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
    let hash = template::hash(&spec.template, collisions);
    let mut template = spec.template;
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(template::HASH_LABEL.into(), hash.clone());
    let labels = labels.clone();
    let mut selector = spec.selector;
    selector.match_labels.get_or_insert_default().insert(template::HASH_LABEL.into(), hash.clone());
    let mut annotations: BTreeMap<String, String> = inherited(deployment).collect();
    annotations.insert(REVISION.into(), revision.to_string());
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", deployment.metadata.name.as_deref().unwrap_or_default())),
            namespace: deployment.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: Some(vec![owner::controller_reference(deployment)]),
            ..Default::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(0),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    }
}

/// Marks the old sets beyond `revisionHistoryLimit` for deletion, lowest revision first, and only those that are
/// empty and say so.
pub(super) fn clean_up(deployment: &Deployment, sets: &mut Sets) {
    let limit = deployment.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(10).max(0);
    let mut alive: Vec<&mut Slot> =
        sets.old.iter_mut().filter(|slot| slot.after.metadata.deletion_timestamp.is_none()).collect();
    let surplus = alive.len().saturating_sub(limit as usize);
    alive.sort_by_key(|slot| revision(slot));
    for slot in alive.into_iter().take(surplus) {
        let status = slot.status().cloned().unwrap_or_default();
        let seen = status.observed_generation.unwrap_or(0) >= slot.after.metadata.generation.unwrap_or(0);
        slot.delete = slot.size() == 0 && status.replicas == 0 && seen;
    }
}
