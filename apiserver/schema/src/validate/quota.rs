//! ResourceQuotas and LimitRanges.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{immutable, items, resources, text};
use crate::field_error::Report;
use crate::names;
use crate::path::Path;
use crate::quantity;

pub(super) fn resource_quota(report: &mut Report, quota: &Value, old: Option<&Value>) {
    let path = Path::Root.field("spec");
    let spec = quota.get("spec").unwrap_or(&Value::Null);
    let hard = path.field("hard");
    for (name, amount) in spec.get("hard").and_then(Value::as_object).into_iter().flatten() {
        let path = hard.key(name);
        let wrong = names::qualified_name(name);
        if wrong.is_empty() && !name.contains('/') && !is_counted(name) && !resources::is_standard(short(name)) {
            report.invalid(&path, name.as_str(), "must be a standard resource type or fully qualified");
            report.invalid(&path, name.as_str(), "must be a standard resource for quota");
        }
        report.invalid_all(&path, name.as_str(), wrong);
        let text = amount.as_str().unwrap_or_default();
        let Some(amount) = quantity::parse(text) else { continue };
        if amount.is_negative() {
            report.invalid(&path, text, "must be greater than or equal to 0");
        }
        if is_counted(name) && !amount.is_whole() {
            report.invalid(&path, text, "must be an integer");
        }
    }
    if let Some(old) = old.and_then(|old| old.get("spec")) {
        immutable(report, &path, spec, old, "scopes");
    }
}

fn short(name: &str) -> &str {
    ["requests.", "limits."].iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name)
}

/// Objects that a quota counts by a short name, and storage.
fn is_counted(name: &str) -> bool {
    matches!(
        name,
        "configmaps"
            | "persistentvolumeclaims"
            | "pods"
            | "replicationcontrollers"
            | "requests.storage"
            | "resourcequotas"
            | "secrets"
            | "services"
            | "services.loadbalancers"
            | "services.nodeports"
    )
}

/// Which amount may not be more than which, and what they are called.
const ORDER: [(&str, &str, &str, &str); 6] = [
    ("min", "max", "min", "max"),
    ("min", "defaultRequest", "min", "default request"),
    ("defaultRequest", "max", "default request", "max"),
    ("defaultRequest", "default", "default request", "default limit"),
    ("min", "default", "min", "default"),
    ("default", "max", "default", "max"),
];

pub(super) fn limit_range(report: &mut Report, range: &Value, _: Option<&Value>) {
    let path = Path::Root.field("spec");
    let path = path.field("limits");
    let mut seen = BTreeSet::new();
    for (at, limit) in range.get("spec").map_or(&[][..], |spec| items(spec, "limits")).iter().enumerate() {
        let path = path.item(at);
        let ty = text(limit, "type");
        report.invalid_all(&path.field("type"), ty, names::qualified_name(ty));
        if !seen.insert(ty) {
            report.duplicate(&path.field("type"), ty);
        }
        for field in ["default", "defaultRequest"] {
            if ty == "Pod" && limit.get(field).is_some() {
                report.forbidden(&path.field(field), "may not be specified when `type` is 'Pod'");
            }
        }
        for (low, high, low_name, high_name) in ORDER {
            for (resource, most) in limit.get(high).and_then(Value::as_object).into_iter().flatten() {
                let least = limit.get(low).and_then(|amounts| amounts.get(resource)).and_then(Value::as_str);
                let (Some(least), Some(most)) = (least, most.as_str()) else { continue };
                if quantity::parse(least) > quantity::parse(most) {
                    let path = path.field(low);
                    let detail = format!("{low_name} value {least} is greater than {high_name} value {most}");
                    report.invalid(&path.key(resource), least, detail);
                }
            }
        }
    }
}
