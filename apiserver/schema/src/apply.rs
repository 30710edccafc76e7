//! Who owns which fields of an object, and server-side apply, which goes by that: `metadata.managedFields`, as
//! KEP-555 and structured-merge-diff have it. Pure.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::field_error::Cause;
use crate::registry::Registry;
use crate::types::{Shape, TypeId};

mod check;
mod compare;
mod entry;
mod field_set;
mod merge;
mod nature;
#[cfg(test)]
mod tests;

use compare::{Difference, compare, fields};
use entry::{Owned, Owner, Owners};
use field_set::FieldSet;
use nature::{NOTHING, Nature};

/// The annotation in which client-side apply keeps what it applied last.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The manager whose applies go on where client-side apply has been.
const KUBECTL: &str = "kubectl";
/// The owner of what was there before the first apply.
const BEFORE: &str = "before-first-apply";

/// Metadata that nobody owns.
const UNOWNED: [&str; 9] = [
    "f:creationTimestamp",
    "f:clusterName",
    "f:generation",
    "f:managedFields",
    "f:name",
    "f:namespace",
    "f:resourceVersion",
    "f:selfLink",
    "f:uid",
];

/// Gives an object's form in another version (such as `autoscaling/v1`), and the type of that; None for versions
/// that its kind has not.
pub type View<'a> = dyn for<'b> Fn(&'b Value, &str) -> Option<(TypeId, Cow<'b, Value>)> + 'a;

/// A write, as far as the ownership of fields goes.
#[derive(Clone, Copy)]
pub struct Ownership<'a> {
    /// The table of kinds.
    pub registry: &'a Registry,
    /// Who writes.
    pub manager: &'a str,
    /// The version that is written, such as `apps/v1`.
    pub version: &'a str,
    /// The subresource that is written; "" is the object itself.
    pub subresource: &'a str,
    /// RFC 3339.
    pub now: &'a str,
    /// Objects in other versions.
    pub view: &'a View<'a>,
}

/// Why a configuration cannot be applied.
#[derive(Debug, PartialEq, Eq)]
pub enum ApplyError {
    /// Others own fields that it would change; 409, unless forced.
    Conflict {
        /// Names them and their fields.
        message: String,
        /// One for each field.
        causes: Vec<Cause>,
    },
    /// It does not fit the type; one message for each fault.
    Untyped(Vec<String>),
}

impl Ownership<'_> {
    /// The `managedFields` of the next version, when it was written otherwise than by apply: the manager owns what it
    /// has changed, and nobody else does. `old` is None for a new object; `given` are the `managedFields` that the
    /// client sent. None is for an object whose fields are not tracked.
    pub fn update(&self, old: Option<&Value>, new: &Value, given: Option<&Value>) -> Option<Value> {
        let live = || entry::read(old.and_then(managed)).unwrap_or_default();
        let mut owners = match given.filter(|_| self.subresource.is_empty()) {
            Some(given) if entry::resets(given) => Owners::new(),
            Some(given) => entry::read(Some(given)).filter(|owners| !owners.is_empty()).unwrap_or_else(live),
            None => live(),
        };
        // What is not tracked since its creation is tracked from the first apply on.
        if owners.is_empty() && old.is_some() {
            return None;
        }
        self.took(&mut owners, old.unwrap_or(&NOTHING), new, self.manager);
        entry::cap(&mut owners);
        (!owners.is_empty()).then(|| entry::write(owners))
    }

    /// Gives the manager what differs, and takes it from all others.
    fn took(&self, owners: &mut Owners, old: &Value, new: &Value, manager: &str) {
        let mut differences = Differences::new(self, old, new);
        differences.disown(owners);
        let Some(Difference { mut changed, .. }) = differences.take(self.version) else { return };
        strip(&mut changed);
        if changed.is_empty() {
            return;
        }
        let owner = Owner::new(false, manager, self.version, self.subresource);
        let unowned = Owned { version: self.version.into(), time: None, fields: FieldSet::default() };
        let owned = owners.entry(owner).or_insert(unowned);
        owned.fields.union(changed);
        owned.time = Some(self.now.into());
    }

    /// Applies a configuration to the live object (None when there is none yet): what the configuration speaks of is
    /// the manager's, and what it spoke of the last time and no more is removed unless others own it. Answers with
    /// the next version, `managedFields` in it.
    ///
    /// # Errors
    /// When the configuration does not fit its type, or, unless forced, would change what others own.
    pub fn apply(&self, live: Option<&Value>, config: &Value, ty: TypeId, force: bool) -> Result<Value, ApplyError> {
        let shape = Shape::Type(ty);
        let faults = check::check(self.registry, config, &shape);
        if !faults.is_empty() {
            return Err(ApplyError::Untyped(faults));
        }
        let nature = Nature::of(self.registry, &shape, None);
        let mut owners = entry::read(live.and_then(managed)).unwrap_or_default();
        let live = live.map(without_managed).unwrap_or_default();
        if owners.is_empty() && live.is_object() {
            self.took(&mut owners, &NOTHING, &live, BEFORE);
        }
        let me = Owner::new(true, self.manager, self.version, self.subresource);
        let last = owners.remove(&me);
        let mut wanted = fields(self.registry, config, nature);
        strip(&mut wanted);
        let mut merged = merge::merge(self.registry, &live, config, nature);
        if let Some(last) = last.as_ref().filter(|last| last.version == self.version) {
            let others = owners.values().map(|owned| &owned.fields);
            merged = self.pruned(merged, &last.fields, others.chain([&wanted]), nature);
        }
        self.settle(&mut owners, &live, &merged, force, nature)?;
        let changed = live != merged;
        if !wanted.is_empty() {
            let before = last.and_then(|last| last.time).filter(|_| !changed);
            let time = before.or_else(|| Some(self.now.to_owned()));
            owners.insert(me, Owned { version: self.version.into(), time, fields: wanted });
        }
        if self.manager == KUBECTL {
            renew(&mut merged, config);
        }
        let Value::Object(object) = &mut merged else { return Ok(merged) };
        let metadata = object.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
        if !owners.is_empty() {
            metadata["managedFields"] = entry::write(owners);
        }
        Ok(merged)
    }

    /// Without what the manager owned the last time, unless somebody owns it now.
    fn pruned<'b>(
        &self,
        merged: Value,
        last: &FieldSet,
        owned: impl Iterator<Item = &'b FieldSet>,
        nature: Nature<'_>,
    ) -> Value {
        let named = |set: &FieldSet| merge::named(self.registry, set, nature);
        let all = named(&fields(self.registry, &merged, nature));
        let last = named(last);
        let without = |set: &FieldSet| merge::remove(self.registry, &merged, set, nature).unwrap_or_default();
        let mut kept = named(&fields(self.registry, &without(&last), nature));
        owned.for_each(|owned| kept.union(named(owned)));
        let mut gone = all.clone();
        gone.subtract(&kept);
        let kept = named(&fields(self.registry, &without(&gone), nature));
        let mut gone = all;
        gone.subtract(&kept);
        // What goes along but was not the manager's stays.
        without(&gone.intersection(&last))
    }

    /// Takes from the others what changes.
    fn settle(
        &self,
        owners: &mut Owners,
        live: &Value,
        merged: &Value,
        force: bool,
        nature: Nature<'_>,
    ) -> Result<(), ApplyError> {
        let mut differences = Differences::new(self, live, merged);
        let mut conflicts: Vec<(Owner, FieldSet)> = Vec::new();
        for (owner, owned) in owners.iter() {
            let conflict =
                differences.at(&owned.version).map(|difference| owned.fields.intersection(&difference.changed));
            conflicts.extend(conflict.filter(|fields| !fields.is_empty()).map(|fields| (owner.clone(), fields)));
        }
        if !force && !conflicts.is_empty() {
            if self.manager == KUBECTL
                && let Some(own) = self.last_applied(live, nature)
            {
                conflicts.iter_mut().for_each(|(_, fields)| fields.subtract(&own));
                conflicts.retain(|(_, fields)| !fields.is_empty());
            }
            if !conflicts.is_empty() {
                return Err(conflict(&conflicts));
            }
        }
        differences.disown(owners);
        Ok(())
    }

    /// The fields that client-side apply has set and that are as it set them.
    fn last_applied(&self, live: &Value, nature: Nature<'_>) -> Option<FieldSet> {
        let text = live.pointer("/metadata/annotations")?.get(LAST_APPLIED)?.as_str()?;
        let applied: Value = serde_json::from_str(text).ok()?;
        let difference = compare(self.registry, Some(&applied), Some(live), nature);
        let mut set = fields(self.registry, &applied, nature);
        set.subtract(&difference.changed);
        set.subtract(&difference.removed);
        Some(set)
    }
}

/// The differences of two versions, in each version of their kind that is asked for.
struct Differences<'a> {
    ownership: &'a Ownership<'a>,
    old: &'a Value,
    new: &'a Value,
    found: Vec<(String, Option<Difference>)>,
}

impl<'a> Differences<'a> {
    fn new(ownership: &'a Ownership<'a>, old: &'a Value, new: &'a Value) -> Self {
        Differences { ownership, old, new, found: Vec::new() }
    }

    fn place(&mut self, version: &str) -> usize {
        let at = self.found.iter().position(|(known, _)| known == version);
        at.unwrap_or_else(|| {
            let found = self.compare(version);
            self.found.push((version.to_owned(), found));
            self.found.len() - 1
        })
    }

    fn compare(&self, version: &str) -> Option<Difference> {
        let Ownership { registry, view, .. } = self.ownership;
        let (ty, new) = view(self.new, version)?;
        // What is not there yet has no version.
        let old = if self.old.as_object().is_some_and(|old| !old.is_empty()) {
            view(self.old, version)?.1
        } else {
            Cow::Borrowed(self.old)
        };
        let shape = Shape::Type(ty);
        Some(compare(registry, Some(&old), Some(&new), Nature::of(registry, &shape, None)))
    }

    /// Takes what differs from its owners; those without a field are owners no more.
    fn disown(&mut self, owners: &mut Owners) {
        owners.retain(|_, owned| match self.at(&owned.version) {
            Some(difference) => {
                owned.fields.subtract(&difference.changed);
                owned.fields.subtract(&difference.removed);
                !owned.fields.is_empty()
            }
            None => false,
        });
    }

    fn at(&mut self, version: &str) -> Option<&Difference> {
        let at = self.place(version);
        self.found[at].1.as_ref()
    }

    fn take(mut self, version: &str) -> Option<Difference> {
        let at = self.place(version);
        self.found.swap_remove(at).1
    }
}

fn managed(object: &Value) -> Option<&Value> {
    object.get("metadata")?.get("managedFields")
}

fn without_managed(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        metadata.remove("managedFields");
    }
    object
}

/// Leaves out what nobody owns.
fn strip(set: &mut FieldSet) {
    set.member = false;
    set.children.remove("f:apiVersion");
    set.children.remove("f:kind");
    let Some(metadata) = set.children.get_mut("f:metadata") else { return };
    metadata.member = false;
    UNOWNED.iter().for_each(|field| drop(metadata.children.remove(*field)));
    if metadata.is_empty() {
        set.children.remove("f:metadata");
    }
}

/// Keeps the annotation of client-side apply true, where there is one.
fn renew(object: &mut Value, config: &Value) {
    let annotations = object.get_mut("metadata").and_then(|metadata| metadata.get_mut("annotations"));
    let Some(Value::Object(annotations)) = annotations else { return };
    if let Some(last) =
        annotations.get_mut(LAST_APPLIED).filter(|last| last.as_str().is_some_and(|text| !text.is_empty()))
    {
        let mut config = config.clone();
        if let Some(Value::Object(annotations)) = config.pointer_mut("/metadata/annotations") {
            annotations.remove(LAST_APPLIED);
        }
        *last = format!("{config}\n").into();
    }
}

fn conflict(conflicts: &[(Owner, FieldSet)]) -> ApplyError {
    let mut causes = Vec::new();
    let mut lines = Vec::new();
    for (owner, fields) in conflicts {
        let spoken = owner.spoken();
        lines.push(format!("conflicts with {spoken}:"));
        for field in fields.paths() {
            lines.push(format!("- {field}"));
            causes.push(Cause { reason: "FieldManagerConflict", message: format!("conflict with {spoken}"), field });
        }
    }
    let message = match &causes[..] {
        [Cause { message, field, .. }] => format!("Apply failed with 1 conflict: {message}: {field}"),
        _ => format!("Apply failed with {} conflicts: {}", causes.len(), lines.join("\n")),
    };
    ApplyError::Conflict { message, causes }
}
