use serde_json::{Map, Value};

use crate::error::Error;
use crate::registry::Registry;
use crate::types::{Field, Form, Shape, TypeId};

mod list;

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const ORDER: &str = "$setElementOrder/";

type Object = Map<String, Value>;

impl Registry {
    /// Applies a strategic merge patch to an object of that type: lists merge by the keys that
    /// the table has for them, and `$patch`, `$retainKeys`, `$setElementOrder/…` and
    /// `$deleteFromPrimitiveList/…` do what they do in Kubernetes. On an error the object may be
    /// half changed.
    pub fn strategic_merge(&self, object: &mut Value, patch: &Value, ty: TypeId) -> Result<(), Error> {
        let (Value::Object(fields), Value::Object(patch)) = (object, patch) else {
            return fail("the patch is not an object");
        };
        Merge { registry: self }.map(fields, patch.clone(), &Shape::Type(ty))
    }
}

fn fail<T>(message: impl Into<String>) -> Result<T, Error> {
    Err(Error::Patch(message.into()))
}

struct Merge<'a> {
    registry: &'a Registry,
}

/// What the table says of a key of an object: the field, or only the shape for a free key.
struct Meta<'a> {
    shape: &'a Shape,
    field: Option<&'a Field>,
}

impl<'a> Merge<'a> {
    fn meta(&self, shape: &'a Shape, key: &str) -> Option<Meta<'a>> {
        match shape {
            Shape::Map(item) => Some(Meta { shape: item, field: None }),
            Shape::Type(id) => {
                let field = self.registry.ty(*id).field(key)?;
                Some(Meta { shape: &field.shape, field: Some(field) })
            }
            _ => None,
        }
    }

    fn is_free(&self, shape: &Shape) -> bool {
        matches!(shape, Shape::Type(id) if self.registry.ty(*id).form != Form::Struct)
    }

    fn map(&self, original: &mut Object, mut patch: Object, shape: &'a Shape) -> Result<(), Error> {
        match patch.remove(DIRECTIVE) {
            None => {}
            Some(Value::String(word)) if word == "replace" => {
                *original = patch;
                return Ok(());
            }
            Some(Value::String(word)) if word == "delete" => {
                original.clear();
                return Ok(());
            }
            Some(Value::String(word)) if word == "merge" => {}
            Some(word) => return fail(format!("unknown patch type: {word}")),
        }
        retain_keys(original, &mut patch)?;
        self.orders(original, &mut patch, shape)?;
        for (key, value) in patch {
            match key.strip_prefix(DELETE_FROM) {
                Some(name) => list::delete_from(original, name, &value)?,
                None => self.key(original, key, value, shape)?,
            }
        }
        Ok(())
    }

    fn key(&self, original: &mut Object, key: String, value: Value, shape: &'a Shape) -> Result<(), Error> {
        if value.is_null() {
            original.remove(&key);
            return Ok(());
        }
        let free = self.is_free(shape);
        let merged = match (original.get_mut(&key), value) {
            (Some(Value::Object(before)), Value::Object(value)) if free => {
                merge_free(before, value);
                return Ok(());
            }
            (Some(Value::Object(before)), Value::Object(value)) => {
                let meta = self.known(shape, &key)?;
                if meta.field.is_none_or(|field| !field.has_strategy("replace")) {
                    return self.map(before, value, meta.shape);
                }
                Value::Object(value)
            }
            (Some(Value::Array(before)), Value::Array(items)) if !free => {
                let meta = self.known(shape, &key)?;
                return self.list(before, items, &meta);
            }
            (_, value) => value,
        };
        original.insert(key, plain(merged)?);
        Ok(())
    }

    fn known(&self, shape: &'a Shape, key: &str) -> Result<Meta<'a>, Error> {
        match (self.meta(shape, key), shape) {
            (Some(meta), _) => Ok(meta),
            (None, Shape::Type(id)) => {
                let ty = self.registry.ty(*id).go_name();
                fail(format!("unable to find api field in struct {ty} for the json field {key:?}"))
            }
            (None, _) => fail(format!("unable to find api field for the json field {key:?}")),
        }
    }

    /// Lists whose order the patch gives are merged and put in order here, and taken out of it.
    fn orders(&self, original: &mut Object, patch: &mut Object, shape: &'a Shape) -> Result<(), Error> {
        let keys: Vec<String> = patch.keys().filter(|key| key.starts_with(ORDER)).cloned().collect();
        for key in keys {
            let name = &key[ORDER.len()..];
            let Some(Value::Array(order)) = patch.remove(&key) else {
                return fail("invalid patch format of setElementOrder list");
            };
            let meta = self.known(shape, name)?;
            let merge_key = meta.field.and_then(Field::merge_key);
            let before = match original.remove(name) {
                Some(Value::Array(items)) => Some(items),
                Some(other) => {
                    original.insert(name.to_owned(), other);
                    continue;
                }
                None => None,
            };
            let changes = match patch.remove(name) {
                Some(Value::Array(items)) => Some(items),
                Some(Value::Null) => continue,
                Some(_) => return fail("invalid patch format of setElementOrder list"),
                None => None,
            };
            if let Some(changes) = &changes {
                list::check_order(changes, &order, merge_key)?;
            }
            if let (None, None) = (&before, &changes) {
                continue;
            }
            let server = before.clone().unwrap_or_default();
            let mut merged = server.clone();
            if let Some(changes) = changes {
                self.list(&mut merged, changes, &meta)?;
            }
            if let Some(Value::Array(gone)) = patch.remove(&format!("{DELETE_FROM}{name}")) {
                merged.retain(|item| !gone.contains(item));
            }
            original.insert(name.to_owned(), list::in_order(merged, &order, &server, merge_key).into());
        }
        Ok(())
    }
}

/// Drops the keys of the object that the patch does not retain.
fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<(), Error> {
    let keys = match patch.remove(RETAIN_KEYS) {
        None => return Ok(()),
        Some(Value::Array(keys)) => keys,
        Some(_) => return fail("invalid patch format of retainKeys"),
    };
    let kept = |name: &str| keys.iter().any(|key| key == name);
    if patch.iter().any(|(key, value)| !value.is_null() && !key.starts_with('$') && !kept(key)) {
        return fail("invalid patch format of retainKeys");
    }
    original.retain(|key, _| kept(key));
    Ok(())
}

/// JSON merge, for what the table does not look into.
fn merge_free(original: &mut Object, patch: Object) {
    for (key, value) in patch {
        match (original.get_mut(&key), value) {
            (_, Value::Null) => drop(original.remove(&key)),
            (Some(Value::Object(before)), Value::Object(value)) => merge_free(before, value),
            (_, value) => drop(original.insert(key, value)),
        }
    }
}

/// The value of a patch that goes in as it is: without directives and without nulls.
fn plain(value: Value) -> Result<Value, Error> {
    Ok(match value {
        Value::Object(map) => {
            if let Some(word) = map.get(DIRECTIVE).filter(|word| *word != "replace" && *word != "merge") {
                return match word.as_str() {
                    Some("delete") => Ok(Value::Object(Object::new())),
                    _ => fail(format!("unknown patch type: {word}")),
                };
            }
            let kept = map.into_iter().filter(|(key, value)| !is_directive(key) && !value.is_null());
            let kept = kept.map(|(key, value)| Ok((key, plain(value)?)));
            Value::Object(kept.collect::<Result<Object, Error>>()?)
        }
        Value::Array(items) => {
            let deletes = |item: &Value| item.get(DIRECTIVE).is_some();
            let kept = items.into_iter().filter(|item| !deletes(item));
            Value::Array(kept.map(plain).collect::<Result<Vec<Value>, Error>>()?)
        }
        other => other,
    })
}

fn is_directive(key: &str) -> bool {
    key == DIRECTIVE || key == RETAIN_KEYS || key.starts_with(ORDER) || key.starts_with(DELETE_FROM)
}

#[cfg(test)]
mod tests;
