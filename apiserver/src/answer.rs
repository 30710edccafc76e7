use std::collections::BTreeMap;

use bytes::Bytes;
use http::Response;
use schema::Registry;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::body::{self, Body};
use crate::call::Call;
use crate::media::{self, Form, Format, Output};
use crate::status::Status;

/// What a list says about itself.
#[derive(Default)]
pub(crate) struct ListMeta {
    pub(crate) revision: u64,
    pub(crate) next: Option<String>,
    pub(crate) remaining: Option<usize>,
}

impl ListMeta {
    fn to_json(&self) -> Value {
        let mut meta = json!({"resourceVersion": self.revision.to_string()});
        if let Some(next) = &self.next {
            meta["continue"] = next.as_str().into();
        }
        if let Some(remaining) = self.remaining {
            meta["remainingItemCount"] = remaining.into();
        }
        meta
    }
}

/// Answers with one stored object, in the form that was asked for.
pub(crate) fn object(call: &Call, code: u16, bytes: &Bytes, warnings: &[String]) -> Result<Response<Body>, Status> {
    ready(call, code, formed(call, bytes, true)?, warnings)
}

/// Answers with an object that is not stored: the trial of a dry run, a Scale, a review.
pub(crate) fn value(call: &Call, code: u16, value: &Value, warnings: &[String]) -> Result<Response<Body>, Status> {
    ready(call, code, to_bytes(value), warnings)
}

/// Answers with a list: the stored bytes, piece by piece.
pub(crate) fn list(call: &Call, meta: &ListMeta, items: &[Bytes]) -> Result<Response<Body>, Status> {
    let (registry, resource) = (&call.server.registry, &call.resource);
    let (version, kind) = match call.output.form {
        Form::Table => ("meta.k8s.io/v1".to_owned(), "Table".to_owned()),
        Form::Metadata => ("meta.k8s.io/v1".to_owned(), "PartialObjectMetadataList".to_owned()),
        Form::Whole => (resource.api_version(), resource.list_kind()),
    };
    let pieces = if call.output.format == Format::Protobuf {
        let items = items.iter().map(|item| read(&formed(call, item, false)?));
        media::protobuf_list(registry, [&version, &kind], meta.to_json(), items)?
    } else {
        let columns = match call.output.form {
            Form::Table => format!(r#""columnDefinitions":{},"rows""#, registry.column_definitions(resource)),
            _ => r#""items""#.to_owned(),
        };
        let meta = meta.to_json();
        let head = format!(r#"{{"kind":"{kind}","apiVersion":"{version}","metadata":{meta},{columns}:["#);
        let now = jiff::Timestamp::now();
        let mut pieces = Vec::with_capacity(items.len() * 2 + 2);
        pieces.push(head.into());
        for (at, item) in items.iter().enumerate() {
            if at > 0 {
                pieces.push(Bytes::from_static(b","));
            }
            let item = shown(call, item)?;
            pieces.push(match call.output.form {
                Form::Table => row(call, &item, now)?,
                Form::Metadata => partial(&item)?,
                Form::Whole => item,
            });
        }
        pieces.push(Bytes::from_static(b"]}"));
        pieces
    };
    if call.output.format == Format::Yaml || call.output.pretty {
        return ready(call, 200, pieces.concat().into(), &[]);
    }
    Ok(body::pieces(200, call.output.format.content_type(false), pieces, &call.headers))
}

/// An object of a watch in the form that was asked for, as an event; only the first Table of a watch has headings.
pub(crate) fn event(call: &Call, told: &str, bytes: &Bytes, headings: bool) -> Bytes {
    let event =
        formed(call, bytes, headings).and_then(|json| media::event(&call.server.registry, call.output, told, json));
    event.unwrap_or_else(|status| failure(&call.server.registry, call.output, &status))
}

/// What went wrong with a watch, as an event.
pub(crate) fn failure(registry: &Registry, output: Output, status: &Status) -> Bytes {
    media::event(registry, output, "ERROR", status.to_json().into()).unwrap_or_default()
}

/// A stored object in the form that was asked for, as JSON.
fn formed(call: &Call, bytes: &Bytes, headings: bool) -> Result<Bytes, Status> {
    let bytes = shown(call, bytes)?;
    Ok(match call.output.form {
        Form::Table => {
            let columns = match headings {
                true => call.server.registry.column_definitions(&call.resource),
                false => Value::Null,
            };
            let (metadata, row) = (metadata_of(&bytes), row(call, &bytes, jiff::Timestamp::now())?);
            let row = String::from_utf8_lossy(&row);
            let head = r#"{"kind":"Table","apiVersion":"meta.k8s.io/v1","metadata""#;
            format!(r#"{head}:{metadata},"columnDefinitions":{columns},"rows":[{row}]}}"#).into()
        }
        Form::Metadata => partial(&bytes)?,
        Form::Whole => bytes,
    })
}

fn ready(call: &Call, code: u16, json: Bytes, warnings: &[String]) -> Result<Response<Body>, Status> {
    let bytes = media::encode(&call.server.registry, call.output, json)?;
    call.warnings.add(warnings);
    Ok(body::response(code, call.output.format.content_type(false), bytes, &call.headers))
}

/// The bytes of the resource's own form.
fn shown(call: &Call, bytes: &Bytes) -> Result<Bytes, Status> {
    if call.conversion.is_none() {
        return Ok(bytes.clone());
    }
    let mut value = read(bytes)?;
    call.to_shown(&mut value);
    Ok(to_bytes(&value))
}

/// The row of a `meta.k8s.io/v1` Table, which holds of its object what `includeObject` asks for.
fn row(call: &Call, item: &Bytes, now: jiff::Timestamp) -> Result<Bytes, Status> {
    let cells = Value::from(call.server.registry.cells(&call.resource, &printable(item)?, now));
    let object = match call.query.get("includeObject") {
        Some("None") => Bytes::from_static(b"null"),
        Some("Object") => item.clone(),
        _ => partial(item)?,
    };
    Ok([format!(r#"{{"cells":{cells},"object":"#).as_bytes(), &object, b"}"].concat().into())
}

/// An object as printers need it: without the managers of its fields, which are half of what there is to read.
fn printable(bytes: &[u8]) -> Result<Value, Status> {
    let mut fields = fields(bytes)?;
    let metadata =
        fields.remove("metadata").map_or_else(|| Ok(BTreeMap::new()), |raw| self::fields(raw.get().as_bytes()))?;
    let read = |fields: BTreeMap<String, &RawValue>| -> Result<Map<String, Value>, Status> {
        fields.into_iter().map(|(name, raw)| Ok((name, serde_json::from_str(raw.get()).map_err(unreadable)?))).collect()
    };
    let mut object = read(fields)?;
    let metadata = metadata.into_iter().filter(|(name, _)| name != "managedFields").collect();
    object.insert("metadata".into(), Value::Object(read(metadata)?));
    Ok(Value::Object(object))
}

fn fields(bytes: &[u8]) -> Result<BTreeMap<String, &RawValue>, Status> {
    serde_json::from_slice(bytes).map_err(unreadable)
}

/// What a Table of one object says about itself.
fn metadata_of(bytes: &[u8]) -> Value {
    let version = read(bytes).ok().and_then(|object| object.pointer("/metadata/resourceVersion").cloned());
    json!({"resourceVersion": version})
}

#[derive(Deserialize)]
struct OnlyMetadata<'a> {
    #[serde(borrow)]
    metadata: &'a RawValue,
}

fn partial(bytes: &[u8]) -> Result<Bytes, Status> {
    let object: OnlyMetadata<'_> = serde_json::from_slice(bytes).map_err(unreadable)?;
    let metadata = object.metadata.get();
    let text = format!(r#"{{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{metadata}}}"#);
    Ok(text.into())
}

pub(crate) fn read(bytes: &[u8]) -> Result<Value, Status> {
    serde_json::from_slice(bytes).map_err(unreadable)
}

fn unreadable(error: serde_json::Error) -> Status {
    Status::internal(format!("a stored object cannot be read: {error}"))
}

/// Values always have a JSON text.
fn to_bytes(value: &Value) -> Bytes {
    serde_json::to_vec(value).unwrap_or_default().into()
}
