//! Reading and editing of objects as JSON, and their stored form.

use serde_json::{Map, Value};
use store::Draft;

use crate::meta::Meta;

/// What is at a JSON pointer of plain names. [`Value::pointer`] makes two strings for each of them.
fn at<'a>(object: &'a Value, pointer: &str) -> Option<&'a Value> {
    pointer.split('/').skip(1).try_fold(object, |value, name| value.get(name))
}

/// The string at a JSON pointer of plain names; "" where there is none.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    at(object, pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The list at a JSON pointer of plain names; empty where there is none.
pub(crate) fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    at(object, pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The object's field as a map, made where it is missing or something else.
pub(crate) fn map<'a>(object: &'a mut Value, field: &str) -> &'a mut Map<String, Value> {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let value = &mut object[field];
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("was made an object above"),
    }
}

/// The metadata, made where it is missing.
pub(crate) fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    map(object, "metadata")
}

/// Copies a top-level field from another object, its absence too.
pub(crate) fn copy(field: &str, from: &Value, to: &mut Value) {
    let Value::Object(to) = to else { return };
    match from.get(field) {
        Some(value) => {
            to.insert(field.to_owned(), value.clone());
        }
        None => {
            to.remove(field);
        }
    }
}

/// The same for fields of the metadata.
pub(crate) fn copy_metadata(fields: &[&str], from: &Value, to: &mut Value) {
    let to = metadata(to);
    for field in fields {
        match from.get("metadata").and_then(|metadata| metadata.get(field)) {
            Some(value) => {
                to.insert((*field).to_owned(), value.clone());
            }
            None => {
                to.remove(*field);
            }
        }
    }
}

/// Its deletion has begun.
pub(crate) fn is_deleting(object: &Value) -> bool {
    !text(object, "/metadata/deletionTimestamp").is_empty()
}

/// The stored form: kind, apiVersion and metadata first, with a gap for the revision.
pub(crate) fn draft(object: &Value, meta: Meta) -> Draft<Meta> {
    let mut bytes = Vec::with_capacity(1024);
    bytes.push(b'{');
    for field in ["kind", "apiVersion"] {
        member(&mut bytes, field, &object[field]);
        bytes.push(b',');
    }
    bytes.extend_from_slice(b"\"metadata\":{");
    for (name, value) in object["metadata"].as_object().into_iter().flatten() {
        if name != "resourceVersion" {
            member(&mut bytes, name, value);
            bytes.push(b',');
        }
    }
    bytes.extend_from_slice(b"\"resourceVersion\":\"");
    let revision_at = bytes.len();
    bytes.extend_from_slice(b"\"}");
    for (name, value) in object.as_object().into_iter().flatten() {
        if !matches!(name.as_str(), "kind" | "apiVersion" | "metadata") {
            bytes.push(b',');
            member(&mut bytes, name, value);
        }
    }
    bytes.push(b'}');
    Draft { bytes, revision_at, meta }
}

/// Writing JSON of strings and values into memory cannot fail.
fn member(bytes: &mut Vec<u8>, name: &str, value: &Value) {
    let _ = serde_json::to_writer(&mut *bytes, name);
    bytes.push(b':');
    let _ = serde_json::to_writer(bytes, value);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_gap_is_in_the_metadata() {
        let object = json!({
            "apiVersion": "v1", "kind": "Event",
            "involvedObject": {"resourceVersion": ""},
            "metadata": {"name": "a\"b", "resourceVersion": "7"},
        });
        let draft = draft(&object, Meta::of(&object));
        let mut text = String::from_utf8(draft.bytes).unwrap();
        text.insert_str(draft.revision_at, "42");
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["metadata"]["resourceVersion"], "42");
        assert_eq!(read["involvedObject"]["resourceVersion"], "");
        assert!(text.starts_with(r#"{"kind":"Event","apiVersion":"v1","metadata":{"name":"a\"b","#));
    }
}
