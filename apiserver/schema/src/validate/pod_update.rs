use serde_json::Value;

use super::{items, number, text};
use crate::field_error::Report;
use crate::path::Path;

const FORBIDDEN: &str = "pod updates may not change fields other than \
    `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
    `spec.tolerations` (only additions to existing tolerations),\
    `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// A running pod is what it was made as, but for very little.
pub(super) fn update(report: &mut Report, path: &Path<'_>, pod: &Value, old: &Value) {
    let (Some(new), Some(old)) = (pod.get("spec"), old.get("spec")) else {
        return;
    };
    if new == old {
        return;
    }
    for field in ["containers", "initContainers"] {
        if items(new, field).len() != items(old, field).len() {
            let detail = format!("pod updates may not add or remove {}", &field);
            report.forbidden(&path.field(field), detail);
            return;
        }
    }
    deadline(report, path, new, old);
    let tolerations = items(new, "tolerations");
    if items(old, "tolerations").iter().any(|before| !tolerations.iter().any(|now| tolerates(now, before))) {
        report.forbidden(
            &path.field("tolerations"),
            "existing toleration can not be modified except its tolerationSeconds",
        );
    }
    if masked(new, old) != *old {
        report.forbidden(path, FORBIDDEN);
    }
}

fn tolerates(now: &Value, before: &Value) -> bool {
    ["key", "operator", "value", "effect"].iter().all(|field| text(now, field) == text(before, field))
}

/// A deadline can be set or drawn nearer.
fn deadline(report: &mut Report, path: &Path<'_>, new: &Value, old: &Value) {
    let path = path.field("activeDeadlineSeconds");
    match (number(new, "activeDeadlineSeconds"), number(old, "activeDeadlineSeconds")) {
        (Some(new), Some(old)) if new > old => {
            report.invalid(&path, new, format!("must be less than or equal to previous value {old}"));
        }
        (None, Some(_)) => report.invalid(&path, Value::Null, "must not update from a positive integer to nil value"),
        _ => {}
    }
}

/// The new spec with what may change taken from the old one.
fn masked(new: &Value, old: &Value) -> Value {
    let mut masked = new.clone();
    let Some(fields) = masked.as_object_mut() else {
        return masked;
    };
    let gates_fewer = items(old, "schedulingGates").len() > items(new, "schedulingGates").len();
    let revived = number(old, "terminationGracePeriodSeconds").is_some_and(|seconds| seconds < 0)
        && number(new, "terminationGracePeriodSeconds") == Some(1);
    let free = [
        ("activeDeadlineSeconds", true),
        ("tolerations", true),
        ("schedulingGates", gates_fewer),
        ("terminationGracePeriodSeconds", revived),
        // An unscheduled pod is bound by its binding, which goes the same way.
        ("nodeName", text(old, "nodeName").is_empty()),
    ];
    for (field, _) in free.into_iter().filter(|(_, free)| *free) {
        match old.get(field) {
            Some(value) => drop(fields.insert(field.to_owned(), value.clone())),
            None => drop(fields.remove(field)),
        }
    }
    for field in ["containers", "initContainers"] {
        let now = fields.get_mut(field).and_then(Value::as_array_mut);
        for (container, before) in now.into_iter().flatten().zip(items(old, field)) {
            if let (Some(container), Some(image)) = (container.as_object_mut(), before.get("image")) {
                container.insert("image".to_owned(), image.clone());
            }
        }
    }
    masked
}
