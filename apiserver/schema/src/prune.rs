use serde_json::{Map, Value};

use crate::error::Error;
use crate::path::Path;
use crate::registry::Registry;
use crate::types::{Form, Shape, Type, TypeId};

mod scalar;

/// A walk over one object: what does not fit stops it, what is unknown is dropped and told.
struct Walk<'a> {
    registry: &'a Registry,
    unknown: Vec<String>,
}

/// The struct that holds the field being read; decoding errors name it.
type Holder<'a> = Option<&'a Type>;

impl Registry {
    /// Reads `object` as the given type, in place: drops fields that are null (absent, to
    /// Kubernetes) or unknown, and checks the shape of all others.
    ///
    /// Answers `unknown field "spec.foo"` for each field that it dropped; a value of the wrong
    /// shape is [`Error::Decode`] with the message of Kubernetes' JSON decoder.
    pub fn prune(&self, object: &mut Value, ty: TypeId) -> Result<Vec<String>, Error> {
        let mut walk = Walk { registry: self, unknown: Vec::new() };
        walk.shape(object, &Shape::Type(ty), &Path::Root, None)?;
        Ok(walk.unknown)
    }
}

impl Walk<'_> {
    fn shape(&mut self, value: &mut Value, shape: &Shape, path: &Path<'_>, holder: Holder<'_>) -> Result<(), Error> {
        match shape {
            Shape::Type(id) => {
                let registry = self.registry;
                return self.typed(value, registry.ty(*id), shape, path, holder);
            }
            Shape::List(item) => {
                let Value::Array(items) = value else {
                    return Err(self.mismatch(value, shape, path, holder));
                };
                for (at, entry) in items.iter_mut().enumerate() {
                    if entry.is_null() {
                        *entry = self.zero(item);
                    }
                    self.shape(entry, item, &path.item(at), holder)?;
                }
                return Ok(());
            }
            Shape::Map(item) => {
                let Value::Object(entries) = value else {
                    return Err(self.mismatch(value, shape, path, holder));
                };
                for (key, entry) in entries.iter_mut() {
                    if entry.is_null() {
                        *entry = self.zero(item);
                    }
                    self.shape(entry, item, &path.key(key), holder)?;
                }
                return Ok(());
            }
            _ => {}
        }
        if scalar::fits(value, shape) {
            return scalar::check(value, shape);
        }
        Err(self.mismatch(value, shape, path, holder))
    }

    fn typed(
        &mut self,
        value: &mut Value,
        ty: &Type,
        shape: &Shape,
        path: &Path<'_>,
        holder: Holder<'_>,
    ) -> Result<(), Error> {
        match ty.form {
            Form::Any => Ok(()),
            Form::Struct => match value {
                Value::Object(fields) => self.fields(fields, ty, path),
                _ => Err(self.mismatch(value, shape, path, holder)),
            },
            Form::Object if !value.is_object() => Err(self.mismatch(value, shape, path, holder)),
            Form::Object => Ok(()),
            form => scalar::special(value, form),
        }
    }

    fn fields(&mut self, fields: &mut Map<String, Value>, ty: &Type, path: &Path<'_>) -> Result<(), Error> {
        let mut drop = Vec::new();
        for (name, value) in fields.iter_mut() {
            let path = path.field(name);
            match ty.field(name) {
                None => {
                    self.unknown.push(format!("unknown field \"{path}\""));
                    drop.push(name.clone());
                }
                Some(_) if value.is_null() => drop.push(name.clone()),
                Some(field) => {
                    self.shape(value, &field.shape, &path, Some(ty))?;
                    // An empty list of owners is one that says so.
                    if !field.required && name != "managedFields" && is_empty(value, &field.shape) {
                        drop.push(name.clone());
                    }
                }
            }
        }
        for name in drop {
            fields.remove(&name);
        }
        Ok(())
    }

    /// What Go makes of a null in a list or a map.
    fn zero(&self, shape: &Shape) -> Value {
        match shape {
            Shape::String | Shape::Bytes => Value::from(""),
            Shape::Int32 | Shape::Int64 | Shape::Double => Value::from(0),
            Shape::Bool => Value::Bool(false),
            Shape::List(_) => Value::Array(Vec::new()),
            Shape::Map(_) => Value::Object(Map::new()),
            Shape::Type(id) => match self.registry.ty(*id).form {
                Form::Struct | Form::Object => Value::Object(Map::new()),
                Form::Quantity => Value::from("0"),
                Form::IntOrString => Value::from(0),
                Form::Any | Form::Time | Form::MicroTime => Value::Null,
            },
        }
    }

    fn mismatch(&self, value: &Value, shape: &Shape, path: &Path<'_>, holder: Holder<'_>) -> Error {
        let found = match value {
            Value::Null => "null".to_owned(),
            Value::Bool(_) => "bool".to_owned(),
            Value::Number(number) if scalar::is_number(shape) => format!("number {number}"),
            Value::Number(_) => "number".to_owned(),
            Value::String(_) => "string".to_owned(),
            Value::Array(_) => "array".to_owned(),
            Value::Object(_) => "object".to_owned(),
        };
        let expected = self.go_type(shape);
        Error::Decode(match holder {
            Some(holder) => format!(
                "json: cannot unmarshal {found} into Go struct field {}.{} of type {expected}",
                holder.go_name(),
                path.fields()
            ),
            None => format!("json: cannot unmarshal {found} into Go value of type {expected}"),
        })
    }

    fn go_type(&self, shape: &Shape) -> String {
        match shape {
            Shape::String => "string".to_owned(),
            Shape::Bytes => "[]uint8".to_owned(),
            Shape::Int32 => "int32".to_owned(),
            Shape::Int64 => "int64".to_owned(),
            Shape::Double => "float64".to_owned(),
            Shape::Bool => "bool".to_owned(),
            Shape::Type(id) => self.registry.ty(*id).go_path().to_owned(),
            Shape::List(item) => format!("[]{}", self.go_type(item)),
            Shape::Map(item) => format!("map[string]{}", self.go_type(item)),
        }
    }
}

/// Kubernetes' stored form has no difference between an empty list or map and none.
fn is_empty(value: &Value, shape: &Shape) -> bool {
    match (value, shape) {
        (Value::Array(items), Shape::List(_)) => items.is_empty(),
        (Value::Object(entries), Shape::Map(_)) => entries.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
