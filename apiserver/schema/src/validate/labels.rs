use serde_json::Value;

use super::{items, text};
use crate::field_error::Report;
use crate::names;
use crate::path::Path;

/// The labels of an object or of a template.
pub(super) fn labels(report: &mut Report, path: &Path<'_>, labels: Option<&Value>) {
    for (key, value) in labels.and_then(Value::as_object).into_iter().flatten() {
        report.invalid_all(path, key.as_str(), names::qualified_name(key));
        let value = value.as_str().unwrap_or_default();
        report.invalid_all(path, value, names::label_value(value));
    }
}

/// A `metav1.LabelSelector`.
pub(super) fn selector(report: &mut Report, path: &Path<'_>, selector: &Value) {
    labels(report, &path.field("matchLabels"), selector.get("matchLabels"));
    let path = path.field("matchExpressions");
    for (at, expression) in items(selector, "matchExpressions").iter().enumerate() {
        let path = path.item(at);
        let (key, values) = (text(expression, "key"), items(expression, "values"));
        match text(expression, "operator") {
            "In" | "NotIn" if values.is_empty() => {
                let detail = "must be specified when `operator` is 'In' or 'NotIn'";
                report.required(&path.field("values"), detail);
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                report.forbidden(&path.field("values"), detail);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => report.invalid(&path.field("operator"), other, "not a valid selector operator"),
        }
        report.invalid_all(&path.field("key"), key, names::qualified_name(key));
        let values_path = path.field("values");
        for (at, value) in values.iter().filter_map(Value::as_str).enumerate() {
            report.invalid_all(&values_path.item(at), value, names::label_value(value));
        }
    }
}

/// Whether a `metav1.LabelSelector` says nothing, and so would select everything.
pub(super) fn is_empty(selector: &Value) -> bool {
    let labels = selector.get("matchLabels").and_then(Value::as_object);
    labels.is_none_or(serde_json::Map::is_empty) && items(selector, "matchExpressions").is_empty()
}
