use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schema::{Form, Registry, Shape, TypeId};
use serde_json::{Map, Value};

use super::wire::{Payload, fields};
use super::{Failure, Messages, messages, utf8};

/// How deep messages may be in one another.
const DEPTH: usize = 64;

pub(super) struct Reader<'a> {
    registry: &'a Registry,
    messages: &'static Messages,
}

impl<'a> Reader<'a> {
    pub(super) fn new(registry: &'a Registry) -> Self {
        Reader { registry, messages: messages() }
    }

    pub(super) fn object(&self, ty: TypeId, bytes: &[u8]) -> Result<Map<String, Value>, Failure> {
        let mut object = Map::new();
        self.message(&self.registry.ty(ty).name, ty, bytes, &mut object, DEPTH)?;
        Ok(object)
    }

    /// Reads a message into the object; its fields have the shapes of the type's.
    fn message(
        &self,
        name: &str,
        ty: TypeId,
        bytes: &[u8],
        object: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), Failure> {
        let depth = depth.checked_sub(1).ok_or("messages are nested too deep")?;
        let members = self.messages.get(name).ok_or_else(|| format!("no message {name}"))?;
        for (number, payload) in fields(bytes)? {
            // Fields of other versions are unknown, as in Go.
            let Ok(at) = members.binary_search_by_key(&number, |member| member.number) else { continue };
            let member = &members[at];
            match payload {
                Payload::Bytes(bytes) if member.inline => self.message(member.name, ty, bytes, object, depth)?,
                payload => {
                    if let Some(field) = self.registry.ty(ty).field(member.name) {
                        let zeros = member.pointer || field.required || self.is_any(&field.shape);
                        self.field(member.name, &field.shape, payload, zeros, object, depth)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Any JSON: false is as good as another value.
    fn is_any(&self, shape: &Shape) -> bool {
        matches!(shape, Shape::Type(ty) if self.registry.ty(*ty).form == Form::Any)
    }

    fn field(
        &self,
        name: &str,
        shape: &Shape,
        payload: Payload<'_>,
        zeros: bool,
        object: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), Failure> {
        match (shape, payload) {
            (Shape::List(item), payload) => {
                let value = self.value(item, payload, depth)?;
                let list = object.entry(name).or_insert_with(|| Value::Array(Vec::new()));
                if let Value::Array(items) = list {
                    items.push(value);
                }
            }
            (Shape::Map(item), Payload::Bytes(bytes)) => {
                let (key, value) = self.entry(item, bytes, depth)?;
                let map = object.entry(name).or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(entries) = map {
                    entries.insert(key, value);
                }
            }
            (shape, payload) => {
                let value = self.value(shape, payload, depth)?;
                if !value.is_null() && (zeros || !is_zero(&value)) {
                    object.insert(name.to_owned(), value);
                }
            }
        }
        Ok(())
    }

    /// One entry of a map: its key is 1, its value 2; each is left out when it is empty.
    fn entry(&self, item: &Shape, bytes: &[u8], depth: usize) -> Result<(String, Value), Failure> {
        let mut key = String::new();
        let mut value = match item {
            Shape::String | Shape::Bytes => Value::from(""),
            Shape::List(_) => Value::Array(Vec::new()),
            _ => Value::Null,
        };
        for (number, payload) in fields(bytes)? {
            match (number, payload) {
                (1, Payload::Bytes(text)) => key = utf8(text)?,
                (2, Payload::Bytes(bytes)) if matches!(item, Shape::List(_)) => {
                    // A list in a map is a message of its own, whose field 1 is the items.
                    let mut items = Map::new();
                    for (_, payload) in fields(bytes)? {
                        self.field("items", item, payload, true, &mut items, depth)?;
                    }
                    value = items.remove("items").unwrap_or(value);
                }
                (2, payload) => value = self.value(item, payload, depth)?,
                _ => {}
            }
        }
        Ok((key, value))
    }

    fn value(&self, shape: &Shape, payload: Payload<'_>, depth: usize) -> Result<Value, Failure> {
        Ok(match (shape, payload) {
            (Shape::String, Payload::Bytes(bytes)) => utf8(bytes)?.into(),
            (Shape::Bytes, Payload::Bytes(bytes)) => STANDARD.encode(bytes).into(),
            // Negative numbers are on the wire as 64 bits, also those of 32.
            (Shape::Int32 | Shape::Int64, Payload::Number(number)) => number.cast_signed().into(),
            (Shape::Bool, Payload::Number(number)) => (number != 0).into(),
            (Shape::Double, Payload::Fixed(bits)) => f64::from_bits(bits).into(),
            (Shape::Type(ty), Payload::Bytes(bytes)) => self.typed(*ty, bytes, depth)?,
            _ => return Err("a field is of another type".to_owned()),
        })
    }

    /// A member of a schema that is one of two: a schema, or a list or a truth.
    fn either(&self, name: &str, bytes: &[u8], depth: usize) -> Result<Value, Failure> {
        let (schema, list) = super::either(self.registry, name).ok_or("a schema has no type")?;
        let mut either = Value::Null;
        for (number, payload) in fields(bytes)? {
            let item = match payload {
                Payload::Number(allows) => {
                    either = if either.is_null() { (allows != 0).into() } else { either };
                    continue;
                }
                Payload::Bytes(text) if name.ends_with("StringArray") && number == list => utf8(text)?.into(),
                payload => self.value(&Shape::Type(schema), payload, depth)?,
            };
            match &mut either {
                Value::Array(items) if number == list => items.push(item),
                other => *other = if number == list { Value::Array(vec![item]) } else { item },
            }
        }
        Ok(either)
    }

    fn typed(&self, ty: TypeId, bytes: &[u8], depth: usize) -> Result<Value, Failure> {
        let kind = self.registry.ty(ty);
        Ok(match kind.form {
            Form::Struct => {
                let mut object = Map::new();
                self.message(&kind.name, ty, bytes, &mut object, depth)?;
                Value::Object(object)
            }
            Form::Any if self.messages.contains_key(kind.name.as_ref()) => self.either(&kind.name, bytes, depth)?,
            Form::Quantity => first(bytes)?.map(utf8).transpose()?.unwrap_or_default().into(),
            // Raw JSON in a message.
            Form::Object | Form::Any => match first(bytes)? {
                Some(raw) => serde_json::from_slice(raw).map_err(|error| error.to_string())?,
                None => Value::Null,
            },
            Form::IntOrString => int_or_string(bytes)?,
            Form::Time => time(bytes)?.map_or(Value::Null, |time| crate::admit::stamp(time).into()),
            Form::MicroTime => {
                let text = |time: jiff::Timestamp| time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
                time(bytes)?.map_or(Value::Null, |time| text(time).into())
            }
        })
    }
}

/// The bytes of field 1.
fn first(bytes: &[u8]) -> Result<Option<&[u8]>, Failure> {
    Ok(fields(bytes)?.into_iter().find_map(|(number, payload)| match (number, payload) {
        (1, Payload::Bytes(bytes)) => Some(bytes),
        _ => None,
    }))
}

/// Field 1 says which: 0 is the number in field 2, 1 the text in field 3.
fn int_or_string(bytes: &[u8]) -> Result<Value, Failure> {
    let (mut is_text, mut number, mut text) = (false, 0, String::new());
    for field in fields(bytes)? {
        match field {
            (1, Payload::Number(kind)) => is_text = kind == 1,
            (2, Payload::Number(value)) => number = value.cast_signed(),
            (3, Payload::Bytes(value)) => text = utf8(value)?,
            _ => {}
        }
    }
    Ok(if is_text { text.into() } else { number.into() })
}

/// Seconds and nanoseconds since 1970; an empty message is no time.
fn time(bytes: &[u8]) -> Result<Option<jiff::Timestamp>, Failure> {
    let (mut seconds, mut nanoseconds) = (0, 0);
    let fields = fields(bytes)?;
    if fields.is_empty() {
        return Ok(None);
    }
    for field in fields {
        match field {
            (1, Payload::Number(value)) => seconds = value.cast_signed(),
            (2, Payload::Number(value)) => nanoseconds = i32::try_from(value).unwrap_or(0),
            _ => {}
        }
    }
    // Go's zero time, year 1, is no time either.
    let time = jiff::Timestamp::new(seconds, nanoseconds).map_err(|error| error.to_string())?;
    Ok((time.as_second() > -62_135_596_800).then_some(time))
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Bool(truth) => !truth,
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        _ => false,
    }
}
