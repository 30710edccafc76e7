use serde_json::Value;

use super::{DIRECTIVE, Merge, Meta, Object, fail, plain};
use crate::error::Error;
use crate::types::Shape;

impl<'a> Merge<'a> {
    pub(super) fn list(&self, original: &mut Vec<Value>, patch: Vec<Value>, meta: &Meta<'a>) -> Result<(), Error> {
        let Shape::List(item) = meta.shape else {
            return fail("a list where none is expected");
        };
        if !meta.field.is_some_and(|field| field.has_strategy("merge")) {
            let Value::Array(items) = plain(Value::Array(patch))? else {
                return Ok(());
            };
            *original = items;
            return Ok(());
        }
        let merge_key = meta.field.and_then(|field| field.merge_key());
        let server = original.clone();
        let order = match merge_key {
            None => {
                for value in patch.iter().filter(|value| !value.is_object()) {
                    if !original.contains(value) {
                        original.push(value.clone());
                    }
                }
                patch
            }
            Some(merge_key) => self.objects(original, patch, item, merge_key)?,
        };
        let merged = std::mem::take(original);
        *original = in_order(merged, &order, &server, merge_key);
        Ok(())
    }

    /// Merges item by item and answers the items of the patch that are no directives.
    fn objects(
        &self,
        original: &mut Vec<Value>,
        patch: Vec<Value>,
        item: &'a Shape,
        merge_key: &str,
    ) -> Result<Vec<Value>, Error> {
        let mut changes: Vec<Object> = Vec::new();
        let mut replace = false;
        for value in patch {
            let Value::Object(change) = value else {
                return fail("lists of objects merge with objects only");
            };
            match change.get(DIRECTIVE).map(Value::as_str) {
                None => changes.push(change),
                Some(Some("delete")) => {
                    let key = key_of(&change, merge_key)?;
                    original.retain(|before| before.get(merge_key) != Some(key));
                }
                Some(Some("replace")) => replace = true,
                Some(Some("merge")) => {
                    return fail("merging lists cannot yet be specified in the patch");
                }
                Some(_) => return fail(format!("unknown patch type: {}", change[DIRECTIVE])),
            }
        }
        if replace {
            original.clear();
        }
        let order = changes.iter().cloned().map(Value::Object).collect();
        for change in changes {
            let key = key_of(&change, merge_key)?.clone();
            match original.iter_mut().find(|before| before.get(merge_key) == Some(&key)) {
                Some(Value::Object(before)) => self.map(before, change, item)?,
                _ => original.push(plain(Value::Object(change))?),
            }
        }
        Ok(order)
    }
}

fn key_of<'a>(object: &'a Object, merge_key: &str) -> Result<&'a Value, Error> {
    match object.get(merge_key) {
        Some(key) => Ok(key),
        None => {
            let object = serde_json::to_string(object).unwrap_or_default();
            fail(format!("map: {object} does not contain declared merge key: {merge_key}"))
        }
    }
}

/// Takes scalars out of a list.
pub(super) fn delete_from(original: &mut Object, name: &str, gone: &Value) -> Result<(), Error> {
    let Value::Array(gone) = gone else {
        return fail("invalid patch format of primitive list");
    };
    if let Some(Value::Array(items)) = original.get_mut(name) {
        items.retain(|item| !gone.contains(item));
    }
    Ok(())
}

fn same(left: &Value, right: &Value, merge_key: Option<&str>) -> bool {
    match merge_key {
        Some(key) => left.get(key).is_some() && left.get(key) == right.get(key),
        None => left == right,
    }
}

fn position(list: &[Value], item: &Value, merge_key: Option<&str>) -> Option<usize> {
    list.iter().position(|other| same(other, item, merge_key))
}

/// Items that the patch names come in its order, the others in the server's; between the two
/// the server's order decides where it knows both, else the patch's item goes first.
pub(super) fn in_order(merged: Vec<Value>, order: &[Value], server: &[Value], merge_key: Option<&str>) -> Vec<Value> {
    let (mut named, others): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|item| position(order, item, merge_key).is_some());
    named.sort_by_key(|item| position(order, item, merge_key));
    let mut result = Vec::with_capacity(named.len() + others.len());
    let mut named = named.into_iter().peekable();
    for other in others {
        let at = position(server, &other, merge_key);
        while let Some(next) = named.peek() {
            match (at, position(server, next, merge_key)) {
                (Some(at), Some(next)) if at < next => break,
                _ => result.extend(named.next()),
            }
        }
        result.push(other);
    }
    result.extend(named);
    result
}

/// The items of a patch have to be in the order that it gives itself.
pub(super) fn check_order(changes: &[Value], order: &[Value], merge_key: Option<&str>) -> Result<(), Error> {
    let kept = changes.iter().filter(|item| item.get(DIRECTIVE).is_none());
    let mut last = None;
    for item in kept {
        let at = position(order, item, merge_key);
        if at.is_none() || at < last {
            let text = |list: &[Value]| serde_json::to_string(list).unwrap_or_default();
            return fail(format!(
                "the order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
                text(changes),
                text(order)
            ));
        }
        last = at;
    }
    Ok(())
}
