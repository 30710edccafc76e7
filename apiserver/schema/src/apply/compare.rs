use std::collections::BTreeMap;

use serde_json::Value;

use super::field_set::FieldSet;
use super::nature::{Nature, entries, items};
use crate::registry::Registry;

/// How two versions of something differ.
#[derive(Debug, Default)]
pub(super) struct Difference {
    /// What is other or new in the second.
    pub(super) changed: FieldSet,
    /// What only the first has.
    pub(super) removed: FieldSet,
}

impl Difference {
    fn insert(&mut self, element: impl FnOnce() -> String, below: Difference) {
        if below.changed.is_empty() && below.removed.is_empty() {
            return;
        }
        let element = element();
        self.changed.insert(element.as_str(), below.changed);
        self.removed.insert(element, below.removed);
    }

    fn whole(&mut self, old: Option<&Value>, new: Option<&Value>) {
        self.removed.member |= new.is_none() && old.is_some();
        self.changed.member |= new.is_some() && old != new;
    }
}

/// Compares two versions of what has that nature.
pub(super) fn compare(registry: &Registry, old: Option<&Value>, new: Option<&Value>, nature: Nature<'_>) -> Difference {
    let mut found = Difference::default();
    match nature {
        Nature::Leaf => found.whole(old, new),
        Nature::Struct(_) | Nature::Map(_) => match (entries(old), entries(new)) {
            (Some(had), Some(has)) if !(had.is_empty() && has.is_empty()) => {
                let mut field = |name: &str, was: Option<&Value>, is: Option<&Value>| {
                    let absent = || nature.absent(registry, name);
                    let was = was.or_else(|| old.and_then(|_| absent()));
                    let is = is.or_else(|| new.and_then(|_| absent()));
                    let below = compare(registry, was, is, nature.field(registry, name));
                    found.insert(|| format!("f:{name}"), below);
                };
                for (name, was) in had {
                    field(name, Some(was), has.get(name));
                }
                for (name, is) in has.iter().filter(|(name, _)| !had.contains_key(*name)) {
                    field(name, None, Some(is));
                }
                itself(&mut found, old, new);
            }
            _ => found.whole(old, new),
        },
        Nature::Set | Nature::Keyed(..) => match (items(old), items(new)) {
            (Some(had), Some(has)) if !(had.is_empty() && has.is_empty()) => {
                let mut all: BTreeMap<String, [Vec<&Value>; 2]> = BTreeMap::new();
                for (side, list) in [had, has].into_iter().enumerate() {
                    for item in list {
                        let element = nature.element(registry, item);
                        let element = element.unwrap_or_else(|missing| format!("k:{{\"{missing}\":null}}"));
                        all.entry(element).or_default()[side].push(item);
                    }
                }
                for (element, [was, is]) in all {
                    let below = match (&was[..], &is[..]) {
                        ([] | [_], [] | [_]) => {
                            let (was, is) = (was.first().copied(), is.first().copied());
                            compare(registry, was, is, nature.item(registry))
                        }
                        // Something that is there twice is one thing.
                        _ => {
                            let mut below = Difference::default();
                            below.removed.member = is.is_empty();
                            below.changed.member = !is.is_empty() && was != is;
                            below
                        }
                    };
                    found.insert(|| element, below);
                }
                itself(&mut found, old, new);
            }
            _ => found.whole(old, new),
        },
    }
    found
}

fn itself(found: &mut Difference, old: Option<&Value>, new: Option<&Value>) {
    found.changed.member |= old.is_none();
    found.removed.member |= new.is_none();
}

/// The fields that a configuration speaks of.
pub(super) fn fields(registry: &Registry, value: &Value, nature: Nature<'_>) -> FieldSet {
    let mut set = FieldSet::default();
    match nature {
        Nature::Leaf => set.member = true,
        Nature::Struct(_) | Nature::Map(_) => {
            for (name, value) in entries(Some(value)).into_iter().flatten() {
                let mut below = fields(registry, value, nature.field(registry, name));
                let free = matches!(nature, Nature::Map(_));
                below.member |= free || value.is_null() || value.as_object().is_some_and(|map| map.is_empty());
                set.insert(format!("f:{name}"), below);
            }
        }
        Nature::Set | Nature::Keyed(..) => {
            for item in items(Some(value)).unwrap_or_default() {
                let Ok(element) = nature.element(registry, item) else { continue };
                let mut below = fields(registry, item, nature.item(registry));
                below.member = true;
                set.insert(element, below);
            }
        }
    }
    set
}
