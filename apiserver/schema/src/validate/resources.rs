use serde_json::Value;

use crate::field_error::Report;
use crate::names;
use crate::path::Path;
use crate::quantity;

/// The limits and requests of a container.
pub(super) fn requirements(report: &mut Report, path: &Path<'_>, requirements: &Value) {
    list(report, &path.field("limits"), requirements.get("limits"));
    list(report, &path.field("requests"), requirements.get("requests"));
    let Some(limits) = requirements.get("limits").and_then(Value::as_object) else {
        return;
    };
    let requests = requirements.get("requests").and_then(Value::as_object);
    for (name, request) in requests.into_iter().flatten() {
        let (Some(request), Some(limit)) = (request.as_str(), limits.get(name).and_then(Value::as_str)) else {
            continue;
        };
        let (wanted, most) = (quantity::parse(request), quantity::parse(limit));
        let path = path.field("requests");
        if wanted > most {
            let detail = format!("must be less than or equal to {name} limit of {limit}");
            report.invalid(&path, request, detail);
        } else if wanted != most && is_extended(name) {
            report.invalid(&path, request, format!("must be equal to {name} limit of {limit}"));
        }
    }
}

fn list(report: &mut Report, path: &Path<'_>, list: Option<&Value>) {
    for (name, value) in list.and_then(Value::as_object).into_iter().flatten() {
        let path = path.key(name);
        let wrong = names::qualified_name(name);
        if wrong.is_empty() && !name.contains('/') && !is_standard(name) {
            report.invalid(&path, name.as_str(), "must be a standard resource type or fully qualified");
        }
        report.invalid_all(&path, name.as_str(), wrong);
        let text = value.as_str().unwrap_or_default();
        let Some(amount) = quantity::parse(text) else {
            continue;
        };
        if amount.is_negative() {
            report.invalid(&path, text, "must be greater than or equal to 0");
        }
        if is_extended(name) && !amount.is_whole() {
            report.invalid(&path, text, "must be an integer");
        }
    }
}

pub(super) fn is_standard(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-")
}

/// Devices and the like, which are not shared and not split.
fn is_extended(name: &str) -> bool {
    name.contains('/') || name.starts_with("hugepages-")
}
