use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::field_set::FieldSet;
use super::nature::{Nature, entries, items};
use crate::registry::Registry;

/// The live version with a configuration merged into it.
pub(super) fn merge(registry: &Registry, live: &Value, config: &Value, nature: Nature<'_>) -> Value {
    match nature {
        Nature::Leaf => config.clone(),
        Nature::Struct(_) | Nature::Map(_) => match (entries(Some(live)), entries(Some(config))) {
            (Some(live), Some(wanted)) if !(live.is_empty() && wanted.is_empty()) => {
                let mut merged = live.clone();
                for (name, value) in wanted {
                    let value = match live.get(name) {
                        Some(before) => merge(registry, before, value, nature.field(registry, name)),
                        None => value.clone(),
                    };
                    merged.insert(name.clone(), value);
                }
                Value::Object(merged)
            }
            _ => config.clone(),
        },
        Nature::Set | Nature::Keyed(..) => match (items(Some(live)), items(Some(config))) {
            (Some(live), Some(wanted)) if !live.is_empty() => list(registry, live, wanted, nature).into(),
            _ => config.clone(),
        },
    }
}

/// Items that both have come in the order of the configuration; those of one side stay where they stand there.
fn list(registry: &Registry, live: &[Value], wanted: &[Value], nature: Nature<'_>) -> Vec<Value> {
    let element = |item: &Value| nature.element(registry, item).unwrap_or_default();
    let left: Vec<(String, &Value)> = live.iter().map(|item| (element(item), item)).collect();
    let right: Vec<(String, &Value)> = wanted.iter().map(|item| (element(item), item)).collect();
    // What is live twice is replaced, not merged.
    let mut known: BTreeMap<&str, Option<&Value>> = BTreeMap::new();
    for (element, item) in &left {
        known.entry(element).and_modify(|item| *item = None).or_insert(Some(item));
    }
    let applied: BTreeMap<&str, usize> =
        right.iter().enumerate().map(|(at, (element, _))| (&element[..], at)).collect();
    let merged = |(element, item): &(String, &Value)| match known.get(element.as_str()) {
        Some(Some(before)) => merge(registry, before, item, nature.item(registry)),
        _ => (*item).clone(),
    };
    let mut out = Vec::with_capacity(left.len() + right.len());
    let mut next = 0;
    for (element, item) in &left {
        match applied.get(element.as_str()) {
            None => out.push((*item).clone()),
            // The configuration's items go in up to this one; when it has gone in before, it stays there.
            Some(at) if *at >= next => {
                // Only when it is the next of those that both have; else it waits for its turn.
                let shared = right[next..*at].iter().any(|(element, _)| known.contains_key(element.as_str()));
                if !shared {
                    out.extend(right[next..=*at].iter().map(merged));
                    next = at + 1;
                }
            }
            Some(_) => {}
        }
    }
    out.extend(right[next..].iter().map(merged));
    out
}

/// What is left without the fields of a set; None when nothing is.
pub(super) fn remove(registry: &Registry, value: &Value, set: &FieldSet, nature: Nature<'_>) -> Option<Value> {
    let less = |element: &str, value: &Value, nature: Nature<'_>| match set.children.get(element) {
        Some(below) if below.member => None,
        Some(below) => remove(registry, value, below, nature),
        None => Some(value.clone()),
    };
    match (nature, value) {
        (Nature::Struct(_) | Nature::Map(_), Value::Object(fields)) if !fields.is_empty() => {
            let kept = fields.iter().filter_map(|(name, value)| {
                let value = less(&format!("f:{name}"), value, nature.field(registry, name))?;
                Some((name.clone(), value))
            });
            let kept: Map<String, Value> = kept.collect();
            (!kept.is_empty()).then_some(Value::Object(kept))
        }
        (Nature::Set | Nature::Keyed(..), Value::Array(items)) if !items.is_empty() => {
            let kept = items.iter().filter_map(|item| {
                let element = nature.element(registry, item).unwrap_or_default();
                less(&element, item, nature.item(registry))
            });
            let kept: Vec<Value> = kept.collect();
            (!kept.is_empty()).then_some(Value::Array(kept))
        }
        (Nature::Leaf, Value::Object(_) | Value::Array(_)) => None,
        _ => Some(value.clone()),
    }
}

/// The set with every field of a struct that something in it is below of.
pub(super) fn named(registry: &Registry, set: &FieldSet, nature: Nature<'_>) -> FieldSet {
    let mut all = FieldSet { member: set.member, children: BTreeMap::new() };
    for (element, child) in &set.children {
        let name = element.strip_prefix("f:");
        let below = match name {
            Some(name) => nature.field(registry, name),
            None => nature.item(registry),
        };
        let mut child = named(registry, child, below);
        child.member |= matches!((nature, name), (Nature::Struct(ty), Some(name)) if ty.field(name).is_some());
        all.children.insert(element.clone(), child);
    }
    all
}
