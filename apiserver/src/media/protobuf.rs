//! Kubernetes' protobuf, which kubectl and the clients in Go send: only read, and read as the JSON that it stands for.

use std::collections::HashMap;
use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schema::{Form, Registry, Shape, TypeId};
use serde_json::{Map, Value};

use wire::{Payload, fields};

mod wire;

/// What every message begins with, before a `runtime.Unknown`.
const MAGIC: &[u8] = b"k8s\0";
/// How deep messages may be in one another.
const DEPTH: usize = 64;

/// The numbers of the fields, made by protobuf.py beside it.
const TABLE: &str = include_str!("../../table/protobuf.txt");

/// Scalars that Go holds by pointer: only they are on the wire because someone has set them, so 0, false and "" stay.
/// All others are always on the wire, and those that are zero mean nothing, as in JSON.
const POINTERS: &str = "
    activeDeadlineSeconds allocateLoadBalancerNodePorts allowPrivilegeEscalation automountServiceAccountToken
    averageUtilization backoffLimit backoffLimitPerIndex blockOwnerDeletion completions controller defaultMode
    deletionGracePeriodSeconds enableServiceLinks endPort expirationSeconds failedJobsHistoryLimit fsGroup
    gracePeriodSeconds hostUsers immutable leaseDurationSeconds maxFailedIndexes minReplicas mode optional
    orphanDependents parallelism partition priority privileged readOnlyRootFilesystem ready replicas
    revisionHistoryLimit runAsGroup runAsNonRoot runAsUser serving setHostnameAsFQDN shareProcessNamespace
    startingDeadlineSeconds storageClassName successfulJobsHistoryLimit suspend targetCPUUtilizationPercentage
    terminating terminationGracePeriodSeconds timeoutSeconds tolerationSeconds ttlSecondsAfterFinished weight
";

/// A field of a message, by its number.
enum Member {
    Field(&'static str),
    /// The name of a message whose fields are those of the object itself.
    Inline(&'static str),
}

type Messages = HashMap<&'static str, HashMap<u32, Member>>;

/// A message that is broken or of an unknown kind.
type Failure = String;

/// Reads an enveloped object.
pub(super) fn decode(registry: &Registry, bytes: &[u8]) -> Result<Value, Failure> {
    let unknown = bytes.strip_prefix(MAGIC).ok_or("provided data does not appear to be a protobuf message")?;
    let (mut version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for (number, payload) in fields(unknown)? {
        match (number, payload) {
            (1, Payload::Bytes(meta)) => {
                for (number, payload) in fields(meta)? {
                    match (number, payload) {
                        (1, Payload::Bytes(text)) => version = utf8(text)?,
                        (2, Payload::Bytes(text)) => kind = utf8(text)?,
                        _ => {}
                    }
                }
            }
            (2, Payload::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let (group, short) = version.split_once('/').unwrap_or(("", &version));
    let ty = registry.type_of(group, short, &kind);
    let ty = ty.ok_or_else(|| format!("no kind \"{kind}\" is registered for version \"{version}\""))?;
    let mut object = Map::new();
    let reader = Reader { registry, messages: messages() };
    reader.message(&registry.ty(ty).name, ty, raw, &mut object, DEPTH)?;
    object.insert("apiVersion".into(), version.into());
    object.insert("kind".into(), kind.into());
    Ok(Value::Object(object))
}

fn messages() -> &'static Messages {
    static MESSAGES: OnceLock<Messages> = OnceLock::new();
    MESSAGES.get_or_init(|| {
        let member = |word: &'static str| {
            let (name, number) = word.rsplit_once('=')?;
            let member = name.strip_prefix('+').map_or(Member::Field(name), Member::Inline);
            Some((number.parse().ok()?, member))
        };
        let row = |line: &'static str| {
            let (name, members) = line.split_once(' ').unwrap_or((line, ""));
            (name, members.split(' ').filter_map(member).collect())
        };
        TABLE.lines().map(row).collect()
    })
}

struct Reader<'a> {
    registry: &'a Registry,
    messages: &'static Messages,
}

impl Reader<'_> {
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
            match (members.get(&number), payload) {
                (Some(Member::Inline(inner)), Payload::Bytes(bytes)) => {
                    self.message(inner, ty, bytes, object, depth)?;
                }
                (Some(Member::Field(name)), payload) => {
                    if let Some(field) = self.registry.ty(ty).field(name) {
                        self.field(name, &field.shape, payload, object, depth)?;
                    }
                }
                // Fields of other versions are unknown, as in Go.
                _ => {}
            }
        }
        Ok(())
    }

    fn field(
        &self,
        name: &str,
        shape: &Shape,
        payload: Payload<'_>,
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
                if !is_zero(&value) || POINTERS.split_whitespace().any(|pointer| pointer == name) {
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
                        self.field("items", item, payload, &mut items, depth)?;
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

    fn typed(&self, ty: TypeId, bytes: &[u8], depth: usize) -> Result<Value, Failure> {
        let kind = self.registry.ty(ty);
        Ok(match kind.form {
            Form::Struct => {
                let mut object = Map::new();
                self.message(&kind.name, ty, bytes, &mut object, depth)?;
                Value::Object(object)
            }
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
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        _ => false,
    }
}

fn utf8(bytes: &[u8]) -> Result<String, Failure> {
    String::from_utf8(bytes.to_vec()).map_err(|_| "a string is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests;
