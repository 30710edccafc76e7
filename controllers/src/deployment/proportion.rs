//! A Deployment that is scaled in the middle of a rollout: each set gets its share.

use k8s_openapi::api::apps::v1::Deployment;

use super::sets::{DESIRED, MAX, Sets, Slot};
use super::strategy;

/// Scales the sets to a Deployment whose size changed (or that is paused).
pub(super) fn scale(deployment: &Deployment, sets: &mut Sets) {
    let replicas = strategy::replicas(deployment);
    if let Some(only) = only_active(sets) {
        only.scale(deployment, replicas);
        return;
    }
    if is_saturated(deployment, sets.new.as_ref()) {
        for slot in sets.old.iter_mut().filter(|slot| slot.size() > 0) {
            slot.scale(deployment, 0);
        }
        return;
    }
    if !strategy::is_recreate(deployment) {
        share(deployment, sets);
    }
}

/// The one set with pods, or the newest when none has any; `None` when several have.
fn only_active(sets: &mut Sets) -> Option<&mut Slot> {
    match sets.all().filter(|slot| slot.size() > 0).count() {
        0 if sets.new.is_some() => sets.new.as_mut(),
        0 => sets.old.last_mut(),
        1 => sets.all_mut().find(|slot| slot.size() > 0),
        _ => None,
    }
}

/// The new set has all the pods it was to have, all available.
fn is_saturated(deployment: &Deployment, new: Option<&Slot>) -> bool {
    let replicas = strategy::replicas(deployment);
    new.is_some_and(|new| {
        let noted = new.annotation(DESIRED).and_then(|text| text.parse::<i32>().ok());
        new.size() == replicas && noted == Some(replicas) && new.available() == replicas
    })
}

/// Spreads the difference over the sets by their sizes; what rounding leaves goes to the largest.
fn share(deployment: &Deployment, sets: &mut Sets) {
    let replicas = strategy::replicas(deployment);
    let allowed = if replicas > 0 { replicas + strategy::max_surge(deployment) } else { 0 };
    let add = allowed - sets.total();
    let mut active: Vec<&mut Slot> = sets.all_mut().filter(|slot| slot.size() > 0).collect();
    active.sort_by(|a, b| {
        let age = a.created_at().cmp(&b.created_at());
        b.size().cmp(&a.size()).then(if add > 0 { age.reverse() } else { age })
    });
    let mut added = 0;
    let mut sizes = Vec::with_capacity(active.len());
    for slot in &active {
        let part = if add == 0 { 0 } else { proportion(deployment, slot, add, added) };
        sizes.push(slot.size() + part);
        added += part;
    }
    if let Some(first) = sizes.first_mut().filter(|_| add != 0) {
        *first = (*first + add - added).max(0);
    }
    for (slot, size) in active.into_iter().zip(sizes) {
        slot.scale(deployment, size);
    }
}

/// This set's part of `add`, of which `added` are given away already.
fn proportion(deployment: &Deployment, slot: &Slot, add: i32, added: i32) -> i32 {
    let left = add - added;
    if left == 0 {
        return 0;
    }
    let part = fraction(deployment, slot);
    if add > 0 { part.min(left) } else { part.max(left) }
}

fn fraction(deployment: &Deployment, slot: &Slot) -> i32 {
    let (size, replicas) = (f64::from(slot.size()), strategy::replicas(deployment));
    if replicas == 0 {
        return -slot.size();
    }
    let noted = slot.annotation(MAX).and_then(|text| text.parse::<i32>().ok());
    let present = deployment.status.as_ref().and_then(|status| status.replicas);
    let before = noted.or(present).filter(|n| *n > 0).unwrap_or(replicas);
    let after = f64::from(replicas + strategy::max_surge(deployment));
    (size * after / f64::from(before)).round() as i32 - slot.size()
}
