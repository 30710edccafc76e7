use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::registry::Registry;
use crate::types::{Form, Shape, Text, Type, TypeId};

mod hooks;

/// Default values by type and field; `zero` marks those where 0 is the same as absent.
const DEFAULTS: &str = include_str!("../table/defaults.txt");

/// A field that gets a value when it is absent or an empty string.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    field: Text,
    value: Value,
    zero: bool,
}

/// What a table cannot say.
pub(crate) type Hook = fn(&mut Map<String, Value>);

/// Gives the built-in types their rules and marks those that lead to one.
pub(crate) fn attach(types: &mut [Type], names: &HashMap<&'static str, TypeId>) {
    for line in DEFAULTS.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let (Some(name), Some(field), Some(value)) = (words.next(), words.next(), words.next()) else {
            panic!("not a row: {line}");
        };
        let value = serde_json::from_str(value).expect("JSON");
        let zero = words.next() == Some("zero");
        let ty = &mut types[names[name].0 as usize];
        assert!(ty.field(field).is_some(), "{name} has no {field}");
        ty.defaults.push(Rule { field: Text::Borrowed(field), value, zero });
    }
    types.iter_mut().for_each(stated);
    for (name, hook) in hooks::HOOKS {
        types[names[name].0 as usize].hook = Some(*hook);
    }
    for ty in types.iter_mut() {
        ty.defaulted = !ty.defaults.is_empty() || ty.hook.is_some();
    }
    loop {
        let marked: Vec<bool> = types.iter().map(|ty| ty.defaulted).collect();
        for ty in types.iter_mut().filter(|ty| !ty.defaulted) {
            ty.defaulted = ty.fields.iter().any(|field| leads(&field.shape, &marked));
        }
        if types.iter().zip(&marked).all(|(ty, marked)| ty.defaulted == *marked) {
            return;
        }
    }
}

/// The defaults that the OpenAPI document states, but for those that say nothing.
fn stated(ty: &mut Type) {
    for field in &ty.fields {
        let Some(value) = &field.default else {
            continue;
        };
        let empty = **value == "" || **value == 0 || **value == false;
        if !empty {
            ty.defaults.push(Rule { field: field.name.clone(), value: Value::clone(value), zero: false });
        }
    }
}

fn leads(shape: &Shape, marked: &[bool]) -> bool {
    match shape {
        Shape::Type(id) => marked[id.0 as usize],
        Shape::List(item) | Shape::Map(item) => leads(item, marked),
        _ => false,
    }
}

impl Registry {
    /// Sets what the API server sets in an object of that type when the client did not; the
    /// object has to be [pruned](Registry::prune) before. Setting twice changes nothing.
    pub fn set_defaults(&self, object: &mut Value, ty: TypeId) {
        self.default_type(object, self.ty(ty));
    }

    fn default_type(&self, value: &mut Value, ty: &Type) {
        if !ty.defaulted || ty.form != Form::Struct {
            return;
        }
        let Value::Object(object) = value else { return };
        if let Some(hook) = ty.hook {
            hook(object);
        }
        for rule in &ty.defaults {
            if is_unset(object.get(rule.field.as_ref()), rule.zero) {
                object.insert(rule.field.clone().into_owned(), rule.value.clone());
            }
        }
        for (name, value) in object.iter_mut() {
            if let Some(field) = ty.field(name) {
                self.default_shape(value, &field.shape);
            }
        }
    }

    fn default_shape(&self, value: &mut Value, shape: &Shape) {
        match (shape, value) {
            (Shape::Type(id), value) => self.default_type(value, self.ty(*id)),
            (Shape::List(item), Value::Array(items)) if is_typed(item) => {
                items.iter_mut().for_each(|value| self.default_shape(value, item));
            }
            (Shape::Map(item), Value::Object(entries)) if is_typed(item) => {
                entries.values_mut().for_each(|value| self.default_shape(value, item));
            }
            _ => {}
        }
    }
}

fn is_typed(shape: &Shape) -> bool {
    matches!(shape, Shape::Type(_) | Shape::List(_) | Shape::Map(_))
}

fn is_unset(value: Option<&Value>, zero: bool) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Number(number)) => zero && number.as_i64() == Some(0),
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests;
