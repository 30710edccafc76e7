use serde_json::Value;

use super::{items, text};
use crate::field_error::Report;
use crate::path::Path;

const GROUP: &str = "rbac.authorization.k8s.io";

pub(super) fn role(report: &mut Report, role: &Value, _: Option<&Value>) {
    rules(report, role, true);
}

pub(super) fn cluster_role(report: &mut Report, role: &Value, _: Option<&Value>) {
    rules(report, role, false);
}

fn rules(report: &mut Report, role: &Value, namespaced: bool) {
    let path = Path::Root.field("rules");
    for (at, rule) in items(role, "rules").iter().enumerate() {
        let path = path.item(at);
        if items(rule, "verbs").is_empty() {
            report.required(&path.field("verbs"), "verbs must contain at least one value");
        }
        let urls = items(rule, "nonResourceURLs");
        let (groups, resources) = (items(rule, "apiGroups"), items(rule, "resources"));
        if !urls.is_empty() {
            let urls_path = path.field("nonResourceURLs");
            let urls = || Value::from(urls);
            if namespaced {
                report.invalid(&urls_path, urls(), "namespaced rules cannot apply to non-resource URLs");
            }
            if !groups.is_empty() || !resources.is_empty() || !items(rule, "resourceNames").is_empty() {
                let detail = "rules cannot apply to both regular resources and non-resource URLs";
                report.invalid(&urls_path, urls(), detail);
            }
            continue;
        }
        if groups.is_empty() {
            report.required(&path.field("apiGroups"), "resource rules must supply at least one api group");
        }
        if resources.is_empty() {
            report.required(&path.field("resources"), "resource rules must supply at least one resource");
        }
    }
}

pub(super) fn role_binding(report: &mut Report, binding: &Value, old: Option<&Value>) {
    self::binding(report, binding, old, &["ClusterRole", "Role"], true);
}

pub(super) fn cluster_role_binding(report: &mut Report, binding: &Value, old: Option<&Value>) {
    self::binding(report, binding, old, &["ClusterRole"], false);
}

fn binding(report: &mut Report, binding: &Value, old: Option<&Value>, roles: &[&str], namespaced: bool) {
    let path = Path::Root.field("roleRef");
    let role = binding.get("roleRef").unwrap_or(&Value::Null);
    if text(role, "apiGroup") != GROUP {
        report.not_supported(&path.field("apiGroup"), text(role, "apiGroup"), &[GROUP]);
    }
    if !roles.contains(&text(role, "kind")) {
        report.not_supported(&path.field("kind"), text(role, "kind"), roles);
    }
    if text(role, "name").is_empty() {
        report.required(&path.field("name"), "");
    }
    if old.is_some_and(|old| old.get("roleRef") != Some(role)) {
        report.invalid(&path, role.clone(), "cannot change roleRef");
    }
    let path = Path::Root.field("subjects");
    for (at, subject) in items(binding, "subjects").iter().enumerate() {
        self::subject(report, &path.item(at), subject, namespaced);
    }
}

fn subject(report: &mut Report, path: &Path<'_>, subject: &Value, namespaced: bool) {
    if text(subject, "name").is_empty() {
        report.required(&path.field("name"), "");
    }
    let group = text(subject, "apiGroup");
    match text(subject, "kind") {
        "ServiceAccount" => {
            if !group.is_empty() {
                report.not_supported(&path.field("apiGroup"), group, &[""]);
            }
            if !namespaced && text(subject, "namespace").is_empty() {
                report.required(&path.field("namespace"), "");
            }
        }
        "User" | "Group" if group != GROUP => {
            report.not_supported(&path.field("apiGroup"), group, &[GROUP]);
        }
        "User" | "Group" => {}
        other => report.not_supported(&path.field("kind"), other, &["ServiceAccount", "User", "Group"]),
    }
}
