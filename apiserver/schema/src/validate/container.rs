use std::collections::BTreeSet;

use serde_json::Value;

use super::{items, number, probe, resources, security, text};
use crate::field_error::Report;
use crate::names;
use crate::path::Path;

pub(super) const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const PULL_POLICIES: [&str; 3] = ["Always", "IfNotPresent", "Never"];
const PROBES: [&str; 3] = ["livenessProbe", "readinessProbe", "startupProbe"];
const SOURCES: [&str; 5] = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];
/// Fields that the downward API has for environment variables.
const FIELD_PATHS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// What a container is in.
pub(super) struct Place<'a> {
    pub(super) volumes: &'a BTreeSet<&'a str>,
    pub(super) init: bool,
    pub(super) host_network: bool,
}

pub(super) fn container(report: &mut Report, path: &Path<'_>, container: &Value, place: &Place<'_>) {
    let name = text(container, "name");
    if name.is_empty() {
        report.required(&path.field("name"), "");
    } else {
        report.invalid_all(&path.field("name"), name, names::dns_label(name));
    }
    let image = text(container, "image");
    if image.is_empty() {
        report.required(&path.field("image"), "");
    } else if image.trim() != image {
        report.invalid(&path.field("image"), image, "must not have leading or trailing whitespace");
    }
    ports(report, &path.field("ports"), items(container, "ports"), place.host_network);
    env(report, &path.field("env"), items(container, "env"));
    env_from(report, &path.field("envFrom"), items(container, "envFrom"));
    mounts(report, &path.field("volumeMounts"), items(container, "volumeMounts"), place.volumes);
    report.one_of(&path.field("imagePullPolicy"), text(container, "imagePullPolicy"), &PULL_POLICIES);
    let policy = text(container, "terminationMessagePolicy");
    if !matches!(policy, "File" | "FallbackToLogsOnError") {
        let detail = "must be 'File' or 'FallbackToLogsOnError'";
        report.invalid(&path.field("terminationMessagePolicy"), policy, detail);
    }
    if let Some(requirements) = container.get("resources") {
        resources::requirements(report, &path.field("resources"), requirements);
    }
    let sidecar = text(container, "restartPolicy") == "Always";
    for field in PROBES {
        let Some(probe) = container.get(field) else {
            continue;
        };
        let path = path.field(field);
        if place.init && !sidecar {
            report.forbidden(&path, "may not be set for init containers without restartPolicy=Always");
        } else {
            probe::probe(report, &path, probe, field);
        }
    }
    if place.init && !sidecar && container.get("lifecycle").is_some() {
        let detail = "may not be set for init containers without restartPolicy=Always";
        report.forbidden(&path.field("lifecycle"), detail);
    }
    probe::lifecycle(report, &path.field("lifecycle"), container.get("lifecycle"));
    security::context(report, &path.field("securityContext"), container.get("securityContext"));
}

fn ports(report: &mut Report, path: &Path<'_>, ports: &[Value], host_network: bool) {
    let mut seen = BTreeSet::new();
    for (at, port) in ports.iter().enumerate() {
        let path = path.item(at);
        let name = text(port, "name");
        if !name.is_empty() {
            let wrong = names::port_name(name);
            if wrong.is_empty() && !seen.insert(name) {
                report.duplicate(&path.field("name"), name);
            }
            report.invalid_all(&path.field("name"), name, wrong);
        }
        let container_port = number(port, "containerPort").unwrap_or(0);
        if container_port == 0 {
            report.required(&path.field("containerPort"), "");
        } else {
            report.invalid_all(&path.field("containerPort"), container_port, names::port(container_port));
        }
        let host_port = number(port, "hostPort").unwrap_or(0);
        if host_port != 0 {
            report.invalid_all(&path.field("hostPort"), host_port, names::port(host_port));
        }
        if host_network && host_port != 0 && host_port != container_port {
            let detail = "must match `hostPort` when `hostNetwork` is true";
            report.invalid(&path.field("containerPort"), container_port, detail);
        }
        report.one_of(&path.field("protocol"), text(port, "protocol"), &PROTOCOLS);
    }
}

fn env(report: &mut Report, path: &Path<'_>, variables: &[Value]) {
    for (at, variable) in variables.iter().enumerate() {
        let path = path.item(at);
        let name = text(variable, "name");
        if name.is_empty() {
            report.required(&path.field("name"), "");
        } else {
            report.invalid_all(&path.field("name"), name, names::env_name(name));
        }
        let Some(source) = variable.get("valueFrom") else {
            continue;
        };
        let path = path.field("valueFrom");
        let given = SOURCES.iter().filter(|field| source.get(**field).is_some()).count();
        if given == 0 {
            let detail = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
            report.invalid(&path, "", detail);
        } else if !text(variable, "value").is_empty() {
            report.invalid(&path, "", "may not be specified when `value` is not empty");
        } else if given > 1 {
            report.invalid(&path, "", "may not have more than one field specified at a time");
        }
        for field in ["configMapKeyRef", "secretKeyRef"] {
            if let Some(reference) = source.get(field) {
                key_reference(report, &path.field(field), reference);
            }
        }
        if let Some(reference) = source.get("fieldRef") {
            field_path(report, &path.field("fieldRef"), text(reference, "fieldPath"));
        }
    }
}

fn key_reference(report: &mut Report, path: &Path<'_>, reference: &Value) {
    if text(reference, "name").is_empty() {
        report.required(&path.field("name"), "");
    }
    match text(reference, "key") {
        "" => report.required(&path.field("key"), ""),
        key => report.invalid_all(&path.field("key"), key, names::config_key(key)),
    }
}

fn field_path(report: &mut Report, path: &Path<'_>, field: &str) {
    let path = path.field("fieldPath");
    let is_keyed = |prefix: &str| field.strip_prefix(prefix).is_some_and(|rest| rest.ends_with("']"));
    if field.is_empty() {
        report.required(&path, "");
    } else if !is_keyed("metadata.labels['") && !is_keyed("metadata.annotations['") && !FIELD_PATHS.contains(&field) {
        report.not_supported(&path, field, &FIELD_PATHS);
    }
}

fn env_from(report: &mut Report, path: &Path<'_>, sources: &[Value]) {
    for (at, source) in sources.iter().enumerate() {
        let path = path.item(at);
        let prefix = text(source, "prefix");
        report.invalid_all(&path.field("prefix"), prefix, names::env_name(prefix));
        let given: Vec<&str> =
            ["configMapRef", "secretRef"].into_iter().filter(|field| source.get(field).is_some()).collect();
        match given[..] {
            [] => report.invalid(&path, "", "must specify one of: `configMapRef` or `secretRef`"),
            [field] if text(&source[field], "name").is_empty() => {
                report.required(&path.field(field).field("name"), "");
            }
            [_] => {}
            _ => report.invalid(&path, "", "may not have more than one field specified at a time"),
        }
    }
}

fn mounts(report: &mut Report, path: &Path<'_>, mounts: &[Value], volumes: &BTreeSet<&str>) {
    let mut seen = BTreeSet::new();
    for (at, mount) in mounts.iter().enumerate() {
        let path = path.item(at);
        let (name, target) = (text(mount, "name"), text(mount, "mountPath"));
        if name.is_empty() {
            report.required(&path.field("name"), "");
        } else if !volumes.contains(name) {
            report.not_found(&path.field("name"), name);
        }
        if target.is_empty() {
            report.required(&path.field("mountPath"), "");
        } else if target.contains(':') {
            report.invalid(&path.field("mountPath"), target, "must not contain ':'");
        } else if !seen.insert(target) {
            report.invalid(&path.field("mountPath"), target, "must be unique");
        }
        relative(report, &path.field("subPath"), text(mount, "subPath"));
    }
}

/// A path inside something: not absolute, and without `..`.
pub(super) fn relative(report: &mut Report, path: &Path<'_>, target: &str) {
    if target.starts_with('/') {
        report.invalid(path, target, "must be a relative path");
    }
    no_backsteps(report, path, target);
}

pub(super) fn no_backsteps(report: &mut Report, path: &Path<'_>, target: &str) {
    if target.split('/').any(|step| step == "..") {
        report.invalid(path, target, "must not contain '..'");
    }
}
