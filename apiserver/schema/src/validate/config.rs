use serde_json::Value;

use super::{immutable, is_true, text};
use crate::field_error::Report;
use crate::names;
use crate::path::Path;

/// All values of a ConfigMap or a Secret together.
const SIZE: usize = 1 << 20;

/// Keys that a Secret of a type has to have.
const REQUIRED_KEYS: [(&str, &[&str]); 4] = [
    ("kubernetes.io/dockercfg", &[".dockercfg"]),
    ("kubernetes.io/dockerconfigjson", &[".dockerconfigjson"]),
    ("kubernetes.io/ssh-auth", &["ssh-privatekey"]),
    ("kubernetes.io/tls", &["tls.crt", "tls.key"]),
];

pub(super) fn config_map(report: &mut Report, object: &Value, old: Option<&Value>) {
    let path = Path::Root;
    let mut size = keys(report, &path.field("data"), object.get("data"), text_size);
    size += keys(report, &path.field("binaryData"), object.get("binaryData"), decoded_size);
    let binary = object.get("binaryData");
    for (key, _) in object.get("data").and_then(Value::as_object).into_iter().flatten() {
        if binary.is_some_and(|binary| binary.get(key).is_some()) {
            let detail = "duplicate of key present in data";
            report.invalid(&path.field("binaryData").key(key), key.as_str(), detail);
        }
    }
    if size > SIZE {
        report.too_long(&path, SIZE);
    }
    frozen(report, object, old, &["data", "binaryData"]);
}

pub(super) fn secret(report: &mut Report, object: &Value, old: Option<&Value>) {
    let path = Path::Root.field("data");
    let size = keys(report, &path, object.get("data"), decoded_size);
    if size > SIZE {
        report.too_long(&path, SIZE);
    }
    let ty = text(object, "type");
    let required = REQUIRED_KEYS.iter().find(|(of, _)| *of == ty).map_or(&[][..], |(_, keys)| *keys);
    for key in required {
        let given =
            ["data", "stringData"].iter().any(|part| object.get(part).is_some_and(|data| data.get(key).is_some()));
        if !given {
            report.required(&path.key(key), "");
        }
    }
    if ty == "kubernetes.io/service-account-token" {
        let annotations = object.pointer("/metadata/annotations").unwrap_or(&Value::Null);
        if text(annotations, "kubernetes.io/service-account.name").is_empty() {
            let path = Path::Root.field("metadata");
            let path = path.field("annotations");
            report.required(&path.key("kubernetes.io/service-account.name"), "");
        }
    }
    if let Some(old) = old {
        immutable(report, &Path::Root, object, old, "type");
    }
    frozen(report, object, old, &["data"]);
}

/// What is marked immutable keeps its data and its mark.
fn frozen(report: &mut Report, object: &Value, old: Option<&Value>, fields: &[&str]) {
    let Some(old) = old.filter(|old| is_true(old, "immutable")) else {
        return;
    };
    let detail = "field is immutable when `immutable` is set";
    if !is_true(object, "immutable") {
        report.forbidden(&Path::Root.field("immutable"), detail);
    }
    for field in fields.iter().filter(|field| object.get(**field) != old.get(**field)) {
        report.forbidden(&Path::Root.field(field), detail);
    }
}

fn keys(report: &mut Report, path: &Path<'_>, data: Option<&Value>, size: fn(&str) -> usize) -> usize {
    let mut total = 0;
    for (key, value) in data.and_then(Value::as_object).into_iter().flatten() {
        report.invalid_all(&path.key(key), key.as_str(), names::config_key(key));
        total += value.as_str().map_or(0, size);
    }
    total
}

fn text_size(text: &str) -> usize {
    text.len()
}

/// The bytes behind a base64 text.
fn decoded_size(text: &str) -> usize {
    let padding = text.bytes().rev().take_while(|byte| *byte == b'=').count();
    (text.len() / 4 * 3).saturating_sub(padding)
}
