//! Who owns what. Only objects that have owners, or that are being deleted with their dependents in mind, are kept;
//! of all others just the uid, to know that they are there.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::ApiResource;

pub(super) type Uid = Arc<str>;

/// The finalizer of a deletion that waits for dependents.
pub(super) const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of a deletion that sets dependents free.
pub(super) const ORPHAN: &str = "orphan";

/// An object that takes part in collection.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) kind: Arc<ApiResource>,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) owners: Vec<Owner>,
    pub(super) stage: Stage,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Owner {
    pub(super) uid: Uid,
    /// The owner's foreground deletion waits for this object.
    pub(super) blocks: bool,
}

/// Where an object stands between life and death.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Stage {
    Alive,
    /// Being deleted, for reasons of its own.
    Dying,
    /// Being deleted; its dependents go first.
    Foreground,
    /// Being deleted; its dependents are to be set free first.
    Orphaning,
}

#[derive(Default)]
pub(super) struct Graph {
    /// Every object there is, with its kind.
    present: HashMap<Uid, Arc<ApiResource>>,
    nodes: HashMap<Uid, Node>,
    /// Owner to dependents.
    dependents: HashMap<Uid, BTreeSet<Uid>>,
}

impl Graph {
    /// Takes in an object as it is now; answers which objects to look at.
    pub(super) fn seen(&mut self, kind: &Arc<ApiResource>, meta: &ObjectMeta) -> Vec<Uid> {
        let Some(uid) = meta.uid.as_deref().map(Uid::from) else { return vec![] };
        self.present.insert(uid.clone(), kind.clone());
        let new = node(kind, meta);
        let mut look = vec![];
        let before = self.nodes.remove(&uid);
        for owner in before.iter().flat_map(|node| &node.owners) {
            if !new.owners.iter().any(|o| o == owner) {
                // An owner that waited for this one need not any more.
                look.extend(self.waiting(&owner.uid));
            }
            self.unlink(&owner.uid, &uid);
        }
        for owner in &new.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(uid.clone());
        }
        let lost = new.owners.iter().any(|owner| self.waiting(&owner.uid).is_some() || !self.is_present(&owner.uid));
        if lost || matches!(new.stage, Stage::Foreground | Stage::Orphaning) {
            look.push(uid.clone());
        }
        if new.stage == Stage::Foreground && before.is_none_or(|before| before.stage != Stage::Foreground) {
            look.extend(self.dependents(&uid));
        }
        if !new.owners.is_empty() || new.stage != Stage::Alive {
            self.nodes.insert(uid, new);
        }
        look
    }

    /// Takes out an object that is gone; answers which objects to look at.
    pub(super) fn gone(&mut self, uid: &str) -> Vec<Uid> {
        let Some((uid, _)) = self.present.remove_entry(uid) else { return vec![] };
        let mut look: Vec<Uid> = self.dependents(&uid);
        if let Some(node) = self.nodes.remove(&uid) {
            for owner in node.owners {
                self.unlink(&owner.uid, &uid);
                look.extend(self.waiting(&owner.uid));
            }
        }
        look
    }

    /// Takes out the objects of `kind` that a new list no longer has.
    pub(super) fn keep_only(&mut self, kind: &ApiResource, listed: &BTreeSet<Uid>) -> Vec<Uid> {
        let of_kind = self.present.iter().filter(|(uid, k)| ***k == *kind && !listed.contains(*uid));
        let gone: Vec<Uid> = of_kind.map(|(uid, _)| uid.clone()).collect();
        gone.iter().flat_map(|uid| self.gone(uid)).collect()
    }

    pub(super) fn get(&self, uid: &str) -> Option<Node> {
        self.nodes.get(uid).cloned()
    }

    pub(super) fn is_present(&self, uid: &str) -> bool {
        self.present.contains_key(uid)
    }

    pub(super) fn dependents(&self, uid: &str) -> Vec<Uid> {
        self.dependents.get(uid).into_iter().flatten().cloned().collect()
    }

    /// Whether the foreground deletion of `owner` has to wait.
    pub(super) fn is_blocked(&self, owner: &str) -> bool {
        let dependents = self.dependents.get(owner).into_iter().flatten();
        let mut nodes = dependents.filter_map(|uid| self.nodes.get(uid));
        nodes.any(|node| node.owners.iter().any(|o| &*o.uid == owner && o.blocks))
    }

    /// The object itself, if it waits for its dependents.
    pub(super) fn waiting(&self, uid: &str) -> Option<Uid> {
        let (uid, node) = self.nodes.get_key_value(uid)?;
        (node.stage == Stage::Foreground).then(|| uid.clone())
    }

    fn unlink(&mut self, owner: &str, dependent: &str) {
        if let Some(dependents) = self.dependents.get_mut(owner) {
            dependents.remove(dependent);
            if dependents.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }
}

fn node(kind: &Arc<ApiResource>, meta: &ObjectMeta) -> Node {
    let owners = meta.owner_references.iter().flatten();
    Node {
        kind: kind.clone(),
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
        owners: owners
            .map(|o| Owner { uid: o.uid.as_str().into(), blocks: o.block_owner_deletion == Some(true) })
            .collect(),
        stage: stage(meta),
    }
}

pub(super) fn stage(meta: &ObjectMeta) -> Stage {
    let has = |name: &str| meta.finalizers.iter().flatten().any(|finalizer| finalizer == name);
    match meta.deletion_timestamp {
        None => Stage::Alive,
        Some(_) if has(ORPHAN) => Stage::Orphaning,
        Some(_) if has(FOREGROUND) => Stage::Foreground,
        Some(_) => Stage::Dying,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};

    fn meta(uid: &str, owners: &[(&str, bool)], finalizer: Option<&str>) -> ObjectMeta {
        let reference = |(uid, blocks): &(&str, bool)| OwnerReference {
            uid: (*uid).into(),
            block_owner_deletion: Some(*blocks),
            ..Default::default()
        };
        ObjectMeta {
            uid: Some(uid.into()),
            owner_references: Some(owners.iter().map(reference).collect()),
            finalizers: finalizer.map(|name| vec![name.into()]),
            deletion_timestamp: finalizer.map(|_| Time(jiff::Timestamp::UNIX_EPOCH)),
            ..Default::default()
        }
    }

    fn graph() -> (Graph, Arc<ApiResource>) {
        (Graph::default(), Arc::new(ApiResource::erase::<Pod>(&())))
    }

    fn names(look: Vec<Uid>) -> Vec<String> {
        look.iter().map(|uid| uid.to_string()).collect()
    }

    #[test]
    fn the_dependents_of_what_is_gone_are_looked_at() {
        let (mut graph, kind) = graph();
        assert!(graph.seen(&kind, &meta("owner", &[], None)).is_empty());
        assert!(graph.seen(&kind, &meta("child", &[("owner", true)], None)).is_empty());
        assert_eq!(names(graph.gone("owner")), ["child"]);
        assert!(graph.gone("owner").is_empty());
    }

    #[test]
    fn an_object_whose_owner_is_not_there_is_looked_at() {
        let (mut graph, kind) = graph();
        assert_eq!(names(graph.seen(&kind, &meta("child", &[("owner", true)], None))), ["child"]);
    }

    #[test]
    fn a_foreground_deletion_is_looked_at_with_its_dependents_and_when_one_goes() {
        let (mut graph, kind) = graph();
        graph.seen(&kind, &meta("owner", &[], None));
        graph.seen(&kind, &meta("a", &[("owner", true)], None));
        graph.seen(&kind, &meta("b", &[("owner", false)], None));
        let look = graph.seen(&kind, &meta("owner", &[], Some(FOREGROUND)));
        assert_eq!(names(look), ["owner", "a", "b"]);
        assert!(graph.is_blocked("owner"));
        assert_eq!(names(graph.gone("a")), ["owner"]);
        assert!(!graph.is_blocked("owner"), "b does not block");
    }

    #[test]
    fn a_list_takes_out_what_it_does_not_have() {
        let (mut graph, kind) = graph();
        graph.seen(&kind, &meta("owner", &[], None));
        graph.seen(&kind, &meta("child", &[("owner", true)], None));
        let look = graph.keep_only(&kind, &BTreeSet::from(["child".into()]));
        assert_eq!(names(look), ["child"]);
        assert!(!graph.is_present("owner"));
    }
}
