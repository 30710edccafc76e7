use std::collections::BTreeSet;

use serde_json::Value;

use super::field_set::spoken;
use super::nature::Nature;
use crate::registry::Registry;
use crate::types::{Form, Merge, Shape};

/// What is wrong with a configuration, in the words of structured-merge-diff.
pub(super) fn check(registry: &Registry, config: &Value, shape: &Shape) -> Vec<String> {
    let mut walk = Walk { registry, path: String::new(), found: Vec::new() };
    walk.value(config, shape, None);
    walk.found
}

struct Walk<'a> {
    registry: &'a Registry,
    path: String,
    found: Vec<String>,
}

impl Walk<'_> {
    fn tell(&mut self, what: &str) {
        let path = &self.path;
        self.found.push(format!("{path}: {what}"));
    }

    fn below(&mut self, element: &str, look: impl FnOnce(&mut Self)) {
        let before = self.path.len();
        self.path.push_str(&spoken(element));
        look(self);
        self.path.truncate(before);
    }

    fn value(&mut self, value: &Value, shape: &Shape, merge: Option<&Merge>) {
        if value.is_null() {
            return;
        }
        match (shape, value) {
            (Shape::Type(id), value) => {
                let ty = self.registry.ty(*id);
                match (ty.form, value) {
                    (Form::Struct, Value::Object(fields)) => {
                        for (name, value) in fields {
                            self.below(&format!("f:{name}"), |walk| match ty.field(name) {
                                Some(field) => walk.value(value, &field.shape, field.merge.as_deref()),
                                None => walk.tell("field not declared in schema"),
                            });
                        }
                    }
                    (Form::Struct | Form::Object, value) if !value.is_object() => self.wrong("map", value),
                    (Form::Time | Form::MicroTime, value) if !value.is_string() => self.wrong("string", value),
                    (Form::Quantity | Form::IntOrString, Value::Object(_) | Value::Array(_)) => {
                        self.wrong("any scalar", value);
                    }
                    _ => {}
                }
            }
            (Shape::Map(item), Value::Object(entries)) => {
                for (key, value) in entries {
                    self.below(&format!("f:{key}"), |walk| walk.value(value, item, None));
                }
            }
            (Shape::List(item), Value::Array(items)) => self.list(items, item, Nature::of(self.registry, shape, merge)),
            (Shape::Map(_), _) => self.wrong("map", value),
            (Shape::List(_), _) => self.wrong("list", value),
            (Shape::Int32 | Shape::Int64 | Shape::Double, value) if !value.is_number() => {
                let found = match value {
                    Value::String(_) => "string",
                    Value::Bool(_) => "bool",
                    Value::Array(_) => "[]interface {}",
                    _ => "map[string]interface {}",
                };
                self.tell(&format!("expected numeric (int or float), got {found}"));
            }
            (Shape::String | Shape::Bytes, value) if !value.is_string() => self.wrong("string", value),
            (Shape::Bool, value) if !value.is_boolean() => self.wrong("boolean", value),
            _ => {}
        }
    }

    fn list(&mut self, items: &[Value], item: &Shape, nature: Nature<'_>) {
        let mut seen = BTreeSet::new();
        for (at, value) in items.iter().enumerate() {
            let element = match nature {
                Nature::Leaf => format!("i:{at}"),
                _ => match nature.element(self.registry, value) {
                    Ok(element) => element,
                    Err(key) => {
                        let what = "associative list with keys has an element that omits key field";
                        self.tell(&format!("element {at}: {what} \"{key}\" (and doesn't have default value)"));
                        continue;
                    }
                },
            };
            self.below(&element, |walk| walk.value(value, item, None));
            let spoken = spoken(&element);
            if !seen.insert(element) {
                self.tell(&format!("duplicate entries for key {spoken}"));
            }
        }
    }

    /// Go prints the value behind its wrapper when a string was expected.
    fn wrong(&mut self, expected: &str, value: &Value) {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        self.tell(&match expected {
            "string" => format!("expected string, got &value.valueUnstructured{{Value:{text}}}"),
            _ => format!("expected {expected}, got {text}"),
        });
    }
}
