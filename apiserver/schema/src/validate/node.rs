use std::collections::BTreeSet;

use serde_json::Value;

use super::{items, text};
use crate::field_error::Report;
use crate::names;
use crate::path::Path;

/// What a taint does with pods that do not tolerate it.
pub(super) const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

pub(super) fn node(report: &mut Report, node: &Value, old: Option<&Value>) {
    let path = Path::Root.field("spec");
    let spec = node.get("spec").unwrap_or(&Value::Null);
    taints(report, &path.field("taints"), items(spec, "taints"));
    let Some(old) = old.and_then(|old| old.get("spec")) else { return };
    let before = text(old, "podCIDR");
    if !before.is_empty() && before != text(spec, "podCIDR") {
        let detail = "node updates may not change podCIDR except from \"\" to valid";
        report.forbidden(&path.field("podCIDRs"), detail);
    }
    let before = text(old, "providerID");
    if !before.is_empty() && before != text(spec, "providerID") {
        let detail = "node updates may not change providerID except from \"\" to valid";
        report.forbidden(&path.field("providerID"), detail);
    }
}

fn taints(report: &mut Report, path: &Path<'_>, taints: &[Value]) {
    let mut seen = BTreeSet::new();
    for (at, taint) in taints.iter().enumerate() {
        let path = path.item(at);
        let (key, value, effect) = (text(taint, "key"), text(taint, "value"), text(taint, "effect"));
        report.invalid_all(&path.field("key"), key, names::qualified_name(key));
        report.invalid_all(&path.field("value"), value, names::label_value(value));
        report.one_of(&path.field("effect"), effect, &EFFECTS);
        if !seen.insert((key, effect)) {
            report.duplicate(&path, taint.clone());
        }
    }
}

pub(super) fn priority_class(report: &mut Report, class: &Value, old: Option<&Value>) {
    /// Above this are the classes of the system itself.
    const HIGHEST: i64 = 1_000_000_000;
    let value = super::number(class, "value").unwrap_or(0);
    let name = class.get("metadata").map_or("", |metadata| text(metadata, "name"));
    if value > HIGHEST && !name.starts_with("system-") {
        let detail = format!("maximum allowed value of a user defined priority is {HIGHEST}");
        report.forbidden(&Path::Root.field("value"), detail);
    }
    let policy = text(class, "preemptionPolicy");
    if !matches!(policy, "" | "Never" | "PreemptLowerPriority") {
        report.not_supported(&Path::Root.field("preemptionPolicy"), policy, &["Never", "PreemptLowerPriority"]);
    }
    if let Some(old) = old {
        super::immutable(report, &Path::Root, class, old, "preemptionPolicy");
    }
    if old.is_some_and(|old| super::number(old, "value").unwrap_or(0) != value) {
        report.forbidden(&Path::Root.field("value"), "may not be changed in an update.");
    }
}
