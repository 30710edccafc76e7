use serde_json::Value;

use super::Row;
use super::age::human_duration;
use super::cells::{or, text};

const ROLE: &str = "node-role.kubernetes.io/";

pub(super) fn status(row: &Row<'_>) -> Value {
    let mut conditions = row.list("/status/conditions").iter();
    let status = match conditions.find(|condition| text(condition, "type") == "Ready") {
        Some(condition) if text(condition, "status") == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    match row.flag("/spec/unschedulable") {
        true => format!("{status},SchedulingDisabled").into(),
        false => status.into(),
    }
}

pub(super) fn roles(row: &Row<'_>) -> Value {
    let labels = row.map("/metadata/labels").into_iter().flatten();
    let mut roles: Vec<&str> = labels
        .filter_map(|(key, value)| match key.strip_prefix(ROLE) {
            Some(role) => Some(role),
            None if key == "kubernetes.io/role" => value.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    or(&roles.join(","), "<none>").into()
}

pub(super) fn address(row: &Row<'_>, ty: &str) -> Value {
    let mut addresses = row.list("/status/addresses").iter();
    let found = addresses.find(|address| text(address, "type") == ty);
    found.map_or("<none>", |address| text(address, "address")).into()
}

/// The role of a binding: `ClusterRole/admin`.
pub(super) fn role(row: &Row<'_>) -> Value {
    format!("{}/{}", row.text("/roleRef/kind", ""), row.text("/roleRef/name", "")).into()
}

/// The subjects of a binding that are of that kind.
pub(super) fn subjects(row: &Row<'_>, kind: &str) -> Value {
    let subjects = row.list("/subjects").iter().filter(|subject| text(subject, "kind") == kind);
    let names = subjects.map(|subject| match kind {
        "ServiceAccount" => format!("{}/{}", text(subject, "namespace"), text(subject, "name")),
        _ => text(subject, "name").to_owned(),
    });
    names.collect::<Vec<_>>().join(", ").into()
}

/// The status of a condition.
pub(super) fn condition(row: &Row<'_>, ty: &str, absent: &'static str) -> Value {
    let mut conditions = row.list("/status/conditions").iter();
    let found = conditions.find(|condition| text(condition, "type") == ty);
    found.map_or(absent, |condition| text(condition, "status")).into()
}

pub(super) fn requested_duration(row: &Row<'_>) -> Value {
    let seconds = row.at("/spec/expirationSeconds").and_then(Value::as_i64);
    seconds.map_or("<none>".to_owned(), human_duration).into()
}

/// How far a certificate signing request is.
pub(super) fn approval(row: &Row<'_>) -> Value {
    let conditions = row.list("/status/conditions").iter();
    let has = |ty: &str| conditions.clone().any(|condition| text(condition, "type") == ty);
    let mut status = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (_, true) => "Approved",
        _ => "Pending",
    }
    .to_owned();
    if has("Failed") {
        status.push_str(",Failed");
    }
    if !row.text("/status/certificate", "").is_empty() {
        status.push_str(",Issued");
    }
    status.into()
}

pub(super) fn health(row: &Row<'_>) -> Value {
    let mut conditions = row.list("/conditions").iter();
    match conditions.find(|condition| text(condition, "type") == "Healthy").map(|healthy| text(healthy, "status")) {
        Some("True") => "Healthy".into(),
        Some("False") => "Unhealthy".into(),
        _ => "Unknown".into(),
    }
}

pub(super) fn claim_state(row: &Row<'_>) -> Value {
    let mut states = Vec::new();
    if row.is_deleted() {
        states.push("deleted");
    }
    match (row.at("/status/allocation"), row.list("/status/reservedFor")) {
        (None, _) => states.push("pending"),
        (Some(_), []) => states.push("allocated"),
        (Some(_), _) => states.extend(["allocated", "reserved"]),
    }
    states.join(",").into()
}
