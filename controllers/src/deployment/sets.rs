//! The ReplicaSets of a Deployment while a step is worked out: as they are, and as they are to be.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetStatus};

use super::{strategy, template};

/// The annotations by which a set remembers the size its Deployment had when it was scaled.
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
pub(super) const MAX: &str = "deployment.kubernetes.io/max-replicas";

/// One set; `before` is `None` for one that is to be created.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) before: Option<Arc<ReplicaSet>>,
    pub(super) after: ReplicaSet,
    pub(super) delete: bool,
}

impl Slot {
    pub(super) fn existing(set: &Arc<ReplicaSet>) -> Slot {
        Slot { before: Some(set.clone()), after: (**set).clone(), delete: false }
    }

    pub(super) fn created(after: ReplicaSet) -> Slot {
        Slot { before: None, after, delete: false }
    }

    pub(super) fn name(&self) -> &str {
        self.after.metadata.name.as_deref().unwrap_or_default()
    }

    /// How many pods it is to have.
    pub(super) fn size(&self) -> i32 {
        size(&self.after)
    }

    pub(super) fn available(&self) -> i32 {
        self.status().and_then(|status| status.available_replicas).unwrap_or(0)
    }

    pub(super) fn status(&self) -> Option<&ReplicaSetStatus> {
        self.after.status.as_ref()
    }

    pub(super) fn created_at(&self) -> Option<Timestamp> {
        self.after.metadata.creation_timestamp.as_ref().map(|time| time.0)
    }

    pub(super) fn annotation(&self, name: &str) -> Option<&str> {
        self.after.metadata.annotations.as_ref()?.get(name).map(String::as_str)
    }

    pub(super) fn annotate(&mut self, name: &str, value: String) {
        self.after.metadata.annotations.get_or_insert_default().insert(name.into(), value);
    }

    /// Gives the set a new size, and notes the Deployment's size with it; answers whether the size changed.
    pub(super) fn scale(&mut self, deployment: &Deployment, to: i32) -> bool {
        let replicas = strategy::replicas(deployment);
        self.annotate(DESIRED, replicas.to_string());
        self.annotate(MAX, (replicas + strategy::max_surge(deployment)).to_string());
        let changed = self.size() != to;
        self.after.spec.get_or_insert_default().replicas = Some(to);
        changed
    }

    /// Whether `set` is what this slot was to create.
    pub(super) fn is(&self, set: &ReplicaSet) -> bool {
        let template = |set: &ReplicaSet| set.spec.as_ref().and_then(|spec| spec.template.clone());
        let same = match (template(&self.after), template(set)) {
            (Some(ours), Some(theirs)) => template::same(&ours, &theirs),
            _ => false,
        };
        same && self.after.metadata.owner_references == set.metadata.owner_references
    }
}

pub(super) fn size(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// The new set, if there is one, and the old ones, oldest first.
pub(super) struct Sets {
    pub(super) new: Option<Slot>,
    pub(super) old: Vec<Slot>,
}

impl Sets {
    /// The oldest set with the Deployment's template is the new one, all others are old.
    pub(super) fn split(deployment: &Deployment, sets: &[Arc<ReplicaSet>]) -> Sets {
        let mut old: Vec<Slot> = sets.iter().map(Slot::existing).collect();
        old.sort_by(|a, b| a.created_at().cmp(&b.created_at()).then_with(|| a.name().cmp(b.name())));
        let current = deployment.spec.as_ref().map(|spec| &spec.template);
        let is_new = |slot: &Slot| {
            let template = slot.after.spec.as_ref().and_then(|spec| spec.template.as_ref());
            current.zip(template).is_some_and(|(ours, theirs)| template::same(ours, theirs))
        };
        let new = old.iter().position(is_new).map(|at| old.remove(at));
        Sets { new, old }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Slot> {
        self.old.iter().chain(self.new.iter())
    }

    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.old.iter_mut().chain(self.new.iter_mut())
    }

    /// The sum of the sizes of all sets.
    pub(super) fn total(&self) -> i32 {
        self.all().map(Slot::size).sum()
    }

    pub(super) fn available(&self) -> i32 {
        self.all().map(Slot::available).sum()
    }
}
