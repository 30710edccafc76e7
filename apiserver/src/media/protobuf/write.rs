use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use schema::{Form, Registry, Shape, TypeId};
use serde_json::Value;

use super::{Failure, Messages, messages, wire};

/// Writes the fields of a message in the order of their numbers and maps in that of their keys, as Go does. What an
/// object does not have is left out: readers take it for zero, as they take the zeros that Go writes.
pub(super) struct Writer<'a> {
    registry: &'a Registry,
    messages: &'static Messages,
}

impl<'a> Writer<'a> {
    pub(super) fn new(registry: &'a Registry) -> Self {
        Writer { registry, messages: messages() }
    }

    /// The bare message of an object.
    pub(super) fn object(&self, ty: TypeId, object: &Value, out: &mut Vec<u8>) -> Result<(), Failure> {
        self.message(&self.registry.ty(ty).name, ty, object, out)
    }

    fn message(&self, name: &str, ty: TypeId, object: &Value, out: &mut Vec<u8>) -> Result<(), Failure> {
        let members = self.messages.get(name).ok_or_else(|| format!("no message {name}"))?;
        for member in members {
            if member.inline {
                wire::nested(out, member.number, |out| self.message(member.name, ty, object, out))?;
            } else if let Some(value) = object.get(member.name)
                && let Some(field) = self.registry.ty(ty).field(member.name)
            {
                self.field(member.number, &field.shape, value, out).map_err(|error| {
                    if error.is_empty() { format!("{name}.{} has another type", member.name) } else { error }
                })?;
            }
        }
        Ok(())
    }

    /// One field; a list is a field for each item, a map one for each entry.
    fn field(&self, number: u32, shape: &Shape, value: &Value, out: &mut Vec<u8>) -> Result<(), Failure> {
        match (shape, value) {
            (Shape::Type(ty), value) => return self.typed(number, *ty, value, out),
            (_, Value::Null) => {}
            (Shape::String, Value::String(text)) => wire::bytes(out, number, text.as_bytes()),
            (Shape::Bytes, Value::String(text)) => {
                wire::bytes(out, number, &STANDARD.decode(text).map_err(|error| error.to_string())?);
            }
            (Shape::Int32 | Shape::Int64, Value::Number(value)) => {
                wire::number(out, number, value.as_i64().ok_or("")?.cast_unsigned());
            }
            (Shape::Bool, Value::Bool(value)) => wire::number(out, number, (*value).into()),
            (Shape::Double, Value::Number(value)) => wire::fixed(out, number, value.as_f64().ok_or("")?.to_bits()),
            (Shape::List(item), Value::Array(items)) => {
                for value in items {
                    self.field(number, item, value, out)?;
                }
            }
            (Shape::Map(item), Value::Object(entries)) => {
                let mut entries: Vec<_> = entries.iter().collect();
                entries.sort_unstable_by_key(|(key, _)| *key);
                for (key, value) in entries {
                    wire::nested(out, number, |out| {
                        wire::bytes(out, 1, key.as_bytes());
                        match **item {
                            // A list in a map is a message of its own, whose field 1 is the items.
                            Shape::List(_) => wire::nested(out, 2, |out| self.field(1, item, value, out)),
                            _ => self.field(2, item, value, out),
                        }
                    })?;
                }
            }
            _ => return Err(Failure::new()),
        }
        Ok(())
    }

    /// A field that is a message.
    fn typed(&self, number: u32, ty: TypeId, value: &Value, out: &mut Vec<u8>) -> Result<(), Failure> {
        let kind = self.registry.ty(ty);
        let is_either = kind.form == Form::Any && self.messages.contains_key(kind.name.as_ref());
        // Null is what raw JSON may well be.
        if value.is_null() && (is_either || !matches!(kind.form, Form::Any | Form::Object)) {
            return Ok(());
        }
        wire::nested(out, number, |out| {
            match (kind.form, value) {
                (Form::Struct, value) => return self.message(&kind.name, ty, value, out),
                (Form::Any, value) if is_either => return self.either(&kind.name, value, out),
                (Form::Object | Form::Any, value) => wire::bytes(out, 1, value.to_string().as_bytes()),
                (Form::Quantity, Value::String(text)) => wire::bytes(out, 1, text.as_bytes()),
                (Form::Quantity, Value::Number(number)) => wire::bytes(out, 1, number.to_string().as_bytes()),
                (Form::IntOrString, Value::String(text)) => {
                    wire::number(out, 1, 1);
                    wire::number(out, 2, 0);
                    wire::bytes(out, 3, text.as_bytes());
                }
                (Form::IntOrString, Value::Number(number)) => {
                    wire::number(out, 1, 0);
                    wire::number(out, 2, number.as_i64().ok_or("")?.cast_unsigned());
                    wire::bytes(out, 3, b"");
                }
                (Form::Time | Form::MicroTime, Value::String(text)) => {
                    let time: Timestamp = text.parse().map_err(|_| format!("{text} is no time"))?;
                    // As Go counts: whole seconds downwards, nanoseconds upwards from there.
                    let seconds = time.as_nanosecond().div_euclid(1_000_000_000) as i64;
                    let nanoseconds = time.as_nanosecond().rem_euclid(1_000_000_000) as u64;
                    wire::number(out, 1, seconds.cast_unsigned());
                    wire::number(out, 2, if kind.form == Form::Time { 0 } else { nanoseconds });
                }
                _ => return Err(Failure::new()),
            }
            Ok(())
        })
    }

    /// A member of a schema that is one of two: a schema, or a list or a truth.
    fn either(&self, name: &str, value: &Value, out: &mut Vec<u8>) -> Result<(), Failure> {
        let (schema, list) = super::either(self.registry, name).ok_or("a schema has no type")?;
        let schema = Shape::Type(schema);
        match value {
            Value::Bool(allows) => wire::number(out, 1, (*allows).into()),
            Value::Array(items) => {
                for item in items {
                    let shape = if item.is_string() { &Shape::String } else { &schema };
                    self.field(list, shape, item, out)?;
                }
            }
            value if list == 0 => {
                wire::number(out, 1, 1);
                self.field(2, &schema, value, out)?;
            }
            value => self.field(1, &schema, value, out)?,
        }
        Ok(())
    }
}
