use bytes::Bytes;
use http::Response;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::body::{self, Body};
use crate::call::Call;
use crate::media::Form;
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
    let bytes = shown(call, bytes)?;
    let bytes = match call.output.form {
        Form::Table => {
            let mut table = table(call, std::slice::from_ref(&bytes), true)?;
            table["metadata"] = metadata_of(&bytes);
            to_bytes(&table)
        }
        Form::Metadata => partial(&bytes)?,
        Form::Whole | Form::Discovery => bytes,
    };
    ready(call, code, bytes, warnings)
}

/// Answers with an object that is not stored: the trial of a dry run, a Scale, a review.
pub(crate) fn value(call: &Call, code: u16, value: &Value, warnings: &[String]) -> Result<Response<Body>, Status> {
    ready(call, code, to_bytes(value), warnings)
}

/// Answers with a list: a join of the stored bytes.
pub(crate) fn list(call: &Call, meta: &ListMeta, items: &[Bytes]) -> Result<Response<Body>, Status> {
    let (version, kind) = match call.output.form {
        Form::Table => {
            let items = items.iter().map(|item| shown(call, item)).collect::<Result<Vec<_>, _>>()?;
            let mut table = table(call, &items, true)?;
            table["metadata"] = meta.to_json();
            return ready(call, 200, to_bytes(&table), &[]);
        }
        Form::Metadata => ("meta.k8s.io/v1".to_owned(), "PartialObjectMetadataList".to_owned()),
        Form::Whole | Form::Discovery => (call.resource.api_version(), call.resource.list_kind()),
    };
    let size: usize = items.iter().map(|item| item.len() + 1).sum();
    let mut bytes = Vec::with_capacity(size + 256);
    let head = format!(r#"{{"kind":"{kind}","apiVersion":"{version}","metadata":{},"items":["#, meta.to_json());
    bytes.extend_from_slice(head.as_bytes());
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            bytes.push(b',');
        }
        let item = shown(call, item)?;
        match call.output.form {
            Form::Metadata => bytes.extend_from_slice(&partial(&item)?),
            _ => bytes.extend_from_slice(&item),
        }
    }
    bytes.extend_from_slice(b"]}");
    ready(call, 200, bytes.into(), &[])
}

/// An object of a watch event, in the form that was asked for; only the first Table of a watch has headings.
pub(crate) fn event(call: &Call, bytes: &Bytes, headings: bool) -> Result<Bytes, Status> {
    let bytes = shown(call, bytes)?;
    match call.output.form {
        Form::Table => {
            let mut table = table(call, std::slice::from_ref(&bytes), headings)?;
            table["metadata"] = metadata_of(&bytes);
            Ok(to_bytes(&table))
        }
        Form::Metadata => partial(&bytes),
        Form::Whole | Form::Discovery => Ok(bytes),
    }
}

fn ready(call: &Call, code: u16, bytes: Bytes, warnings: &[String]) -> Result<Response<Body>, Status> {
    let (content_type, bytes) =
        if call.output.yaml { ("application/yaml", yaml(&bytes)?) } else { ("application/json", bytes) };
    call.warnings.add(warnings);
    Ok(body::response(code, content_type, bytes, &call.headers))
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

/// A `meta.k8s.io/v1` Table, whose rows hold of their objects what `includeObject` asks for.
fn table(call: &Call, items: &[Bytes], headings: bool) -> Result<Value, Status> {
    let (registry, resource) = (&call.server.registry, &call.resource);
    let include = call.query.get("includeObject").unwrap_or("Metadata");
    let now = jiff::Timestamp::now();
    let row = |item: &Bytes| {
        let mut object = read(item)?;
        let cells = registry.cells(resource, &object, now);
        let object = match include {
            "None" => Value::Null,
            "Object" => object,
            _ => json!({
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": object["metadata"].take(),
            }),
        };
        Ok(json!({"cells": cells, "object": object}))
    };
    let rows = items.iter().map(row).collect::<Result<Vec<_>, Status>>()?;
    let columns = if headings { registry.column_definitions(resource) } else { Value::Null };
    Ok(json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "columnDefinitions": columns, "rows": rows}))
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

fn yaml(bytes: &[u8]) -> Result<Bytes, Status> {
    let text = serde_saphyr::to_string(&read(bytes)?);
    text.map(Bytes::from).map_err(|error| Status::internal(error.to_string()))
}

/// Values always have a JSON text.
fn to_bytes(value: &Value) -> Bytes {
    serde_json::to_vec(value).unwrap_or_default().into()
}
