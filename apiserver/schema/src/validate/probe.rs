use serde_json::Value;

use super::{items, non_negative, number, text};
use crate::field_error::Report;
use crate::names;
use crate::path::Path;

const TIMES: [&str; 5] =
    ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"];

pub(super) fn probe(report: &mut Report, path: &Path<'_>, probe: &Value, kind: &str) {
    handler(report, path, probe, &["exec", "httpGet", "tcpSocket", "grpc"]);
    for field in TIMES {
        non_negative(report, path, probe, field);
    }
    let once = number(probe, "successThreshold").filter(|times| *times != 1);
    let grace = number(probe, "terminationGracePeriodSeconds");
    let grace_path = path.field("terminationGracePeriodSeconds");
    match (kind, once, grace) {
        ("livenessProbe" | "startupProbe", Some(times), _) => {
            report.invalid(&path.field("successThreshold"), times, "must be 1");
        }
        ("readinessProbe", _, Some(grace)) => {
            report.invalid(&grace_path, grace, "must not be set for readinessProbes");
        }
        (_, _, Some(grace)) if grace < 1 => {
            report.invalid(&grace_path, grace, "must be greater than 0");
        }
        _ => {}
    }
}

pub(super) fn lifecycle(report: &mut Report, path: &Path<'_>, lifecycle: Option<&Value>) {
    for field in ["postStart", "preStop"] {
        if let Some(hook) = lifecycle.and_then(|lifecycle| lifecycle.get(field)) {
            handler(report, &path.field(field), hook, &["exec", "httpGet", "tcpSocket", "sleep"]);
        }
    }
}

/// Exactly one way of probing or calling.
fn handler(report: &mut Report, path: &Path<'_>, owner: &Value, known: &[&str]) {
    let given: Vec<&str> = known.iter().copied().filter(|field| owner.get(field).is_some()).collect();
    if given.is_empty() {
        report.required(path, "must specify a handler type");
    }
    for (at, field) in given.into_iter().enumerate() {
        let path = path.field(field);
        if at > 0 {
            report.forbidden(&path, "may not specify more than 1 handler type");
            continue;
        }
        let action = &owner[field];
        match field {
            "exec" if items(action, "command").is_empty() => report.required(&path.field("command"), ""),
            "httpGet" => http(report, &path, action),
            "tcpSocket" => port(report, &path.field("port"), action.get("port")),
            "grpc" => {
                let number = number(action, "port").unwrap_or(0);
                report.invalid_all(&path.field("port"), number, names::port(number));
            }
            _ => {}
        }
    }
}

fn http(report: &mut Report, path: &Path<'_>, action: &Value) {
    if text(action, "path").is_empty() {
        report.required(&path.field("path"), "");
    }
    port(report, &path.field("port"), action.get("port"));
    report.one_of(&path.field("scheme"), text(action, "scheme"), &["HTTP", "HTTPS"]);
}

/// A port by number or by name.
pub(super) fn port(report: &mut Report, path: &Path<'_>, port: Option<&Value>) {
    match port {
        Some(Value::String(name)) => report.invalid_all(path, name.as_str(), names::port_name(name)),
        port => {
            let number = port.and_then(Value::as_i64).unwrap_or(0);
            report.invalid_all(path, number, names::port(number));
        }
    }
}
