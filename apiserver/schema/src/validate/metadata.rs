use serde_json::Value;

use super::{is_true, items, labels, text};
use crate::field_error::Report;
use crate::names;
use crate::path::Path;
use crate::resource::Resource;

/// All keys and values of the annotations together.
const ANNOTATIONS_SIZE: usize = 256 << 10;
/// The controller adds a time of eleven characters to make the names of Jobs.
const CRON_JOB_NAME: usize = 52;
const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];

type NameRule = fn(&str) -> Vec<String>;

fn name_rule(resource: &Resource) -> NameRule {
    match (resource.group.as_ref(), resource.kind.as_ref()) {
        ("", "Service") => names::dns_1035_label,
        ("", "Namespace") => names::dns_label,
        ("rbac.authorization.k8s.io", _) | ("flowcontrol.apiserver.k8s.io", _) => names::path_segment,
        ("batch", "CronJob") => cron_job_name,
        _ => names::dns_subdomain,
    }
}

fn cron_job_name(name: &str) -> Vec<String> {
    let mut wrong = names::dns_subdomain(name);
    if name.len() > CRON_JOB_NAME {
        wrong.push(format!("must be no more than {CRON_JOB_NAME} characters"));
    }
    wrong
}

pub(super) fn metadata(report: &mut Report, resource: &Resource, object: &Value, old: Option<&Value>) {
    let path = Path::Root.field("metadata");
    let meta = object.get("metadata").unwrap_or(&Value::Null);
    names(report, &path, resource, meta);
    labels::labels(report, &path.field("labels"), meta.get("labels"));
    annotations(report, &path.field("annotations"), meta.get("annotations"));
    owners(report, &path.field("ownerReferences"), items(meta, "ownerReferences"));
    finalizers(report, &path.field("finalizers"), items(meta, "finalizers"));
    let Some(old) = old.and_then(|old| old.get("metadata")) else {
        return;
    };
    for field in ["name", "namespace", "uid", "creationTimestamp"] {
        if !text(meta, field).is_empty() && text(meta, field) != text(old, field) {
            report.invalid(&path.field(field), text(meta, field), "field is immutable");
        }
    }
}

fn names(report: &mut Report, path: &Path<'_>, resource: &Resource, meta: &Value) {
    let rule = name_rule(resource);
    let (name, prefix, namespace) = (text(meta, "name"), text(meta, "generateName"), text(meta, "namespace"));
    if !prefix.is_empty() {
        report.invalid_all(&path.field("generateName"), prefix, rule(&without_dash(prefix)));
    }
    if name.is_empty() {
        report.required(&path.field("name"), "name or generateName is required");
    } else {
        report.invalid_all(&path.field("name"), name, rule(name));
    }
    let path = path.field("namespace");
    match (resource.namespaced, namespace) {
        (true, "") => report.required(&path, ""),
        (true, _) => report.invalid_all(&path, namespace, names::dns_label(namespace)),
        (false, "") => {}
        (false, _) => report.forbidden(&path, "not allowed on this type"),
    }
}

/// A prefix may end in a dash, since more comes after it.
fn without_dash(prefix: &str) -> String {
    match prefix.strip_suffix('-') {
        Some(rest) if !rest.is_empty() => format!("{rest}a"),
        _ => prefix.to_owned(),
    }
}

fn annotations(report: &mut Report, path: &Path<'_>, annotations: Option<&Value>) {
    let Some(annotations) = annotations.and_then(Value::as_object) else {
        return;
    };
    let mut size = 0;
    for (key, value) in annotations {
        report.invalid_all(path, key.as_str(), names::qualified_name(&key.to_lowercase()));
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > ANNOTATIONS_SIZE {
        report.too_long(path, ANNOTATIONS_SIZE);
    }
}

fn owners(report: &mut Report, path: &Path<'_>, owners: &[Value]) {
    let mut controller: Option<&str> = None;
    for (at, owner) in owners.iter().enumerate() {
        let path = path.item(at);
        let api_version = text(owner, "apiVersion");
        if api_version.rsplit('/').next().unwrap_or_default().is_empty() {
            report.invalid(&path.field("apiVersion"), api_version, "version must not be empty");
        }
        for field in ["kind", "name", "uid"] {
            if text(owner, field).is_empty() {
                report.invalid(&path.field(field), "", format!("{field} must not be empty"));
            }
        }
        if (api_version, text(owner, "kind")) == ("v1", "Event") {
            report.invalid(&path, owner.clone(), "/v1, Kind=Event is disallowed from being an owner");
        }
        if is_true(owner, "controller") {
            let name = text(owner, "name");
            if let Some(first) = controller {
                let detail = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {name}"
                );
                report.invalid(&path, owner.clone(), detail);
            }
            controller = Some(name);
        }
    }
}

fn finalizers(report: &mut Report, path: &Path<'_>, finalizers: &[Value]) {
    let names: Vec<&str> = finalizers.iter().filter_map(Value::as_str).collect();
    for (at, name) in names.iter().enumerate() {
        let path = path.item(at);
        let wrong = names::qualified_name(name);
        if wrong.is_empty() && !name.contains('/') && !STANDARD_FINALIZERS.contains(name) {
            report.invalid(&path, *name, "name is neither a standard finalizer name nor is it fully qualified");
        }
        report.invalid_all(&path, *name, wrong);
    }
    if names.contains(&"orphan") && names.contains(&"foregroundDeletion") {
        let all: Value = names.into();
        report.invalid(path, all, "finalizer orphan and foregroundDeletion cannot be both set");
    }
}
