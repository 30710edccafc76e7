use serde_json::Value;

use super::workload::amount;
use super::{labels, number, text};
use crate::field_error::Report;
use crate::path::Path;

pub(super) fn autoscaler(report: &mut Report, autoscaler: &Value, _: Option<&Value>) {
    let path = Path::Root.field("spec");
    let spec = autoscaler.get("spec").unwrap_or(&Value::Null);
    let least = number(spec, "minReplicas").unwrap_or(1);
    let most = number(spec, "maxReplicas").unwrap_or(0);
    if least < 1 {
        let detail = "must be greater than or equal to 1";
        report.invalid(&path.field("minReplicas"), least, detail);
    }
    if most < 1 {
        report.invalid(&path.field("maxReplicas"), most, "must be greater than 0");
    }
    if most < least {
        let detail = "must be greater than or equal to `minReplicas`";
        report.invalid(&path.field("maxReplicas"), most, detail);
    }
    let target = spec.get("scaleTargetRef").unwrap_or(&Value::Null);
    for field in ["kind", "name"] {
        if text(target, field).is_empty() {
            report.required(&path.field("scaleTargetRef").field(field), "");
        }
    }
}

pub(super) fn disruption_budget(report: &mut Report, budget: &Value, _: Option<&Value>) {
    let path = Path::Root.field("spec");
    let spec = budget.get("spec").unwrap_or(&Value::Null);
    if spec.get("minAvailable").is_some() && spec.get("maxUnavailable").is_some() {
        let detail = "minAvailable and maxUnavailable cannot be both set";
        report.invalid(&path, spec.clone(), detail);
    }
    for field in ["minAvailable", "maxUnavailable"] {
        if let Some(value) = spec.get(field)
            && let Some(percent) = amount(report, &path.field(field), Some(value))
            && value.is_string()
            && percent > 100
        {
            report.invalid(&path.field(field), value.clone(), "must not be greater than 100%");
        }
    }
    let policy = text(spec, "unhealthyPodEvictionPolicy");
    if !matches!(policy, "" | "AlwaysAllow" | "IfHealthyBudget") {
        let path = path.field("unhealthyPodEvictionPolicy");
        report.not_supported(&path, policy, &["AlwaysAllow", "IfHealthyBudget"]);
    }
    if let Some(selector) = spec.get("selector") {
        labels::selector(report, &path.field("selector"), selector);
    }
}
