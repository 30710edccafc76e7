//! Kubernetes' protobuf, which kubectl and the clients in Go speak: each message stands for an object in JSON.
//! One table of numbers serves the two ways; what a field holds is in the table of kinds.

use std::collections::HashMap;
use std::sync::OnceLock;

use bytes::Bytes;
use schema::{Registry, Shape, TypeId};
use serde_json::{Value, json};

use read::Reader;
use wire::{Payload, fields};
use write::Writer;

mod read;
mod wire;
mod write;

/// What every message begins with, before a `runtime.Unknown`.
const MAGIC: &[u8] = b"k8s\0";

/// The numbers of the fields, made by protobuf.py beside it.
const TABLE: &str = include_str!("../../table/protobuf.txt");

/// A field of a message.
struct Member {
    number: u32,
    /// The field's name in JSON; that of a message where it is inline.
    name: &'static str,
    /// The fields of that message are those of the object itself.
    inline: bool,
    /// A scalar that Go holds by pointer: it is on the wire because someone has set it, so 0, false and "" stay. Others
    /// Go always writes, and those that are zero mean nothing, as in JSON.
    pointer: bool,
}

/// The members of each message, by number.
type Messages = HashMap<&'static str, Vec<Member>>;

/// A message that is broken or of an unknown kind, or an object that does not fit its kind.
type Failure = String;

fn messages() -> &'static Messages {
    static MESSAGES: OnceLock<Messages> = OnceLock::new();
    MESSAGES.get_or_init(|| {
        let member = |word: &'static str| {
            let (name, number) = word.rsplit_once('=')?;
            let (inline, pointer) = (name.starts_with('+'), name.starts_with('*'));
            Some(Member { number: number.parse().ok()?, name: name.trim_start_matches(['+', '*']), inline, pointer })
        };
        let row = |line: &'static str| {
            let (name, members) = line.split_once(' ').unwrap_or((line, ""));
            let mut members: Vec<Member> = members.split(' ').filter_map(member).collect();
            members.sort_by_key(|member| member.number);
            (name, members)
        };
        TABLE.lines().map(row).collect()
    })
}

/// The type whose message that kind has.
fn type_of(registry: &Registry, version: &str, kind: &str) -> Option<TypeId> {
    let (group, short) = version.split_once('/').unwrap_or(("", version));
    // With nothing but metadata, all messages look the same.
    let ty = match (group, kind) {
        ("meta.k8s.io", "PartialObjectMetadata") => registry.type_of("", short, "ConfigMap"),
        ("meta.k8s.io", "PartialObjectMetadataList") => registry.type_of("", short, "ConfigMapList"),
        _ => registry.type_of(group, short, kind),
    };
    ty.filter(|ty| has_message(registry, *ty))
}

/// Whether objects of that type can be protobuf: those of rows that were added at run time cannot.
pub(super) fn has_message(registry: &Registry, ty: TypeId) -> bool {
    messages().contains_key(registry.ty(ty).name.as_ref())
}

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
    let ty = type_of(registry, &version, &kind);
    let ty = ty.ok_or_else(|| format!("no kind \"{kind}\" is registered for version \"{version}\""))?;
    let mut object = Reader::new(registry).object(ty, raw)?;
    object.insert("apiVersion".into(), version.into());
    object.insert("kind".into(), kind.into());
    Ok(Value::Object(object))
}

/// Writes an object, enveloped.
pub(super) fn encode(registry: &Registry, object: &Value) -> Result<Vec<u8>, Failure> {
    let word = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
    // The list of versions says nothing of its own.
    let version = Some(word("apiVersion")).filter(|version| !version.is_empty()).unwrap_or("v1");
    let kind = word("kind");
    let ty = type_of(registry, version, kind).ok_or_else(|| format!("no message for {kind} in {version}"))?;
    let mut raw = Vec::new();
    Writer::new(registry).object(ty, object, &mut raw)?;
    let mut out = opening(version, kind, raw.len());
    out.append(&mut raw);
    out.extend_from_slice(CLOSING);
    Ok(out)
}

/// Writes a list whose items are read one after the other: only their messages are held.
pub(super) fn list<E: From<Failure>>(
    registry: &Registry,
    [version, kind]: [&str; 2],
    metadata: Value,
    items: impl Iterator<Item = Result<Value, E>>,
) -> Result<Vec<Bytes>, E> {
    let ty = type_of(registry, version, kind).ok_or_else(|| format!("no message for {kind} in {version}"))?;
    let writer = Writer::new(registry);
    let mut raw = Vec::new();
    writer.object(ty, &json!({"metadata": metadata}), &mut raw)?;
    for item in items {
        writer.object(ty, &json!({"items": [item?]}), &mut raw)?;
    }
    Ok(vec![opening(version, kind, raw.len()).into(), raw.into(), CLOSING.into()])
}

/// What stands before an object whose message has that length.
fn opening(version: &str, kind: &str, length: usize) -> Vec<u8> {
    let mut meta = Vec::new();
    wire::bytes(&mut meta, 1, version.as_bytes());
    wire::bytes(&mut meta, 2, kind.as_bytes());
    let mut out = MAGIC.to_vec();
    wire::bytes(&mut out, 1, &meta);
    wire::head(&mut out, 2, length);
    out
}

/// What stands behind it: neither an encoding nor a content type.
const CLOSING: &[u8] = &[0x1a, 0, 0x22, 0];

/// An event of a watch as a frame: the length in 4 bytes, and a WatchEvent that holds the enveloped object.
pub(super) fn frame(told: &str, object: &[u8]) -> Vec<u8> {
    let mut raw = Vec::with_capacity(object.len() + 8);
    wire::bytes(&mut raw, 1, object);
    let mut event = vec![0; 4];
    wire::bytes(&mut event, 1, told.as_bytes());
    wire::bytes(&mut event, 2, &raw);
    let length = u32::try_from(event.len() - 4).unwrap_or(u32::MAX);
    event[..4].copy_from_slice(&length.to_be_bytes());
    event
}

/// The type of the schemas in a CustomResourceDefinition, and the number of the list in that message, which holds a
/// schema or a list, or a truth where the number is 0.
fn either(registry: &Registry, message: &str) -> Option<(TypeId, u32)> {
    let mut ty = registry.type_of("apiextensions.k8s.io", "v1", "CustomResourceDefinition")?;
    for field in ["spec", "versions", "schema", "openAPIV3Schema"] {
        let mut shape = &registry.ty(ty).field(field)?.shape;
        while let Shape::List(item) = shape {
            shape = item;
        }
        let Shape::Type(inner) = shape else { return None };
        ty = *inner;
    }
    Some((ty, if message.ends_with("OrBool") { 0 } else { 2 }))
}

fn utf8(bytes: &[u8]) -> Result<String, Failure> {
    String::from_utf8(bytes.to_vec()).map_err(|_| "a string is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests;
