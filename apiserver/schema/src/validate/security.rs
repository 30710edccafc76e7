//! The security contexts of pods and containers.

use serde_json::Value;

use super::{is_true, number, text};
use crate::field_error::Report;
use crate::names;
use crate::path::Path;

/// A security context, of a pod or of a container.
pub(super) fn context(report: &mut Report, path: &Path<'_>, context: Option<&Value>) {
    let Some(context) = context else { return };
    for field in ["runAsUser", "runAsGroup", "fsGroup"] {
        if let Some(id) = number(context, field) {
            report.invalid_all(&path.field(field), id, names::between(id, 0, i64::from(i32::MAX)));
        }
    }
    let groups = path.field("supplementalGroups");
    for (at, group) in super::items(context, "supplementalGroups").iter().filter_map(Value::as_i64).enumerate() {
        report.invalid_all(&groups.item(at), group, names::between(group, 0, i64::from(i32::MAX)));
    }
    if is_true(context, "privileged") && context.get("allowPrivilegeEscalation") == Some(&Value::Bool(false)) {
        let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
        report.invalid(path, context.clone(), detail);
    }
    for (field, supported) in [
        ("seccompProfile", ["Localhost", "RuntimeDefault", "Unconfined"]),
        ("appArmorProfile", ["Localhost", "RuntimeDefault", "Unconfined"]),
    ] {
        let Some(profile) = context.get(field) else { continue };
        let path = path.field(field);
        report.one_of(&path.field("type"), text(profile, "type"), &supported);
        let local = text(profile, "localhostProfile");
        match text(profile, "type") {
            "Localhost" if local.is_empty() => {
                report.required(&path.field("localhostProfile"), "must be set when seccomp type is Localhost");
            }
            "RuntimeDefault" | "Unconfined" if !local.is_empty() => {
                let detail = "can only be set when seccomp type is Localhost";
                report.invalid(&path.field("localhostProfile"), local, detail);
            }
            _ => {}
        }
    }
}
