//! Where a pod may run: its affinity and how it is spread.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{items, labels, number, text};
use crate::field_error::Report;
use crate::names;
use crate::path::Path;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

pub(super) fn affinity(report: &mut Report, path: &Path<'_>, affinity: Option<&Value>) {
    let Some(affinity) = affinity else { return };
    let node = affinity.get("nodeAffinity").unwrap_or(&Value::Null);
    let node_path = path.field("nodeAffinity");
    if let Some(required) = node.get(REQUIRED) {
        let path = node_path.field(REQUIRED);
        let path = path.field("nodeSelectorTerms");
        let terms = items(required, "nodeSelectorTerms");
        if terms.is_empty() {
            report.required(&path, "must have at least one node selector term");
        }
        for (at, term) in terms.iter().enumerate() {
            node_term(report, &path.item(at), term);
        }
    }
    let path_preferred = node_path.field(PREFERRED);
    for (at, preferred) in items(node, PREFERRED).iter().enumerate() {
        let path = path_preferred.item(at);
        weight(report, &path, preferred);
        node_term(report, &path.field("preference"), preferred.get("preference").unwrap_or(&Value::Null));
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let pods = affinity.get(kind).unwrap_or(&Value::Null);
        let path = path.field(kind);
        let required = path.field(REQUIRED);
        for (at, term) in items(pods, REQUIRED).iter().enumerate() {
            pod_term(report, &required.item(at), term);
        }
        let path_preferred = path.field(PREFERRED);
        for (at, preferred) in items(pods, PREFERRED).iter().enumerate() {
            let path = path_preferred.item(at);
            weight(report, &path, preferred);
            pod_term(report, &path.field("podAffinityTerm"), preferred.get("podAffinityTerm").unwrap_or(&Value::Null));
        }
    }
}

fn weight(report: &mut Report, path: &Path<'_>, preferred: &Value) {
    let weight = number(preferred, "weight").unwrap_or(0);
    if !(1..=100).contains(&weight) {
        report.invalid(&path.field("weight"), weight, "must be in the range 1-100");
    }
}

fn node_term(report: &mut Report, path: &Path<'_>, term: &Value) {
    let path = path.field("matchExpressions");
    for (at, expression) in items(term, "matchExpressions").iter().enumerate() {
        let path = path.item(at);
        let (key, values) = (text(expression, "key"), items(expression, "values"));
        let values_path = path.field("values");
        match text(expression, "operator") {
            "In" | "NotIn" if values.is_empty() => {
                report.required(&values_path, "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                report.forbidden(&values_path, detail);
            }
            "Gt" | "Lt" if values.len() != 1 => {
                report.required(&values_path, "must be specified single value when `operator` is 'Lt' or 'Gt'");
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            other => report.invalid(&path.field("operator"), other, "not a valid selector operator"),
        }
        report.invalid_all(&path.field("key"), key, names::qualified_name(key));
    }
}

fn pod_term(report: &mut Report, path: &Path<'_>, term: &Value) {
    for field in ["labelSelector", "namespaceSelector"] {
        if let Some(selector) = term.get(field) {
            labels::selector(report, &path.field(field), selector);
        }
    }
    topology_key(report, path, term);
}

fn topology_key(report: &mut Report, path: &Path<'_>, term: &Value) {
    let path = path.field("topologyKey");
    match text(term, "topologyKey") {
        "" => report.required(&path, "can not be empty"),
        key => report.invalid_all(&path, key, names::qualified_name(key)),
    }
}

pub(super) fn spread(report: &mut Report, path: &Path<'_>, constraints: &[Value]) {
    let mut seen = BTreeSet::new();
    for (at, constraint) in constraints.iter().enumerate() {
        let path = path.item(at);
        let skew = number(constraint, "maxSkew").unwrap_or(0);
        if skew <= 0 {
            report.invalid(&path.field("maxSkew"), skew, "must be greater than zero");
        }
        topology_key(report, &path, constraint);
        let (key, when) = (text(constraint, "topologyKey"), text(constraint, "whenUnsatisfiable"));
        if !matches!(when, "DoNotSchedule" | "ScheduleAnyway") {
            report.not_supported(&path.field("whenUnsatisfiable"), when, &["DoNotSchedule", "ScheduleAnyway"]);
        }
        if !seen.insert((key, when)) {
            report.duplicate(&path.field("{topologyKey, whenUnsatisfiable}"), format!("{{{key}, {when}}}"));
        }
        if let Some(selector) = constraint.get("labelSelector") {
            labels::selector(report, &path.field("labelSelector"), selector);
        }
        match number(constraint, "minDomains") {
            Some(least) if least <= 0 => {
                report.invalid(&path.field("minDomains"), least, "must be greater than 0");
            }
            Some(least) if when != "DoNotSchedule" => {
                let detail = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {when}");
                report.invalid(&path.field("minDomains"), least, detail);
            }
            _ => {}
        }
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            let policy = text(constraint, field);
            if !matches!(policy, "" | "Honor" | "Ignore") {
                report.not_supported(&path.field(field), policy, &["Honor", "Ignore"]);
            }
        }
    }
}
