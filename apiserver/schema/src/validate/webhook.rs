//! Admission webhook configurations.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{items, number, text};
use crate::field_error::Report;
use crate::names;
use crate::path::Path;

pub(super) fn configuration(report: &mut Report, configuration: &Value, _: Option<&Value>) {
    let path = Path::Root.field("webhooks");
    let mut seen = BTreeSet::new();
    for (at, webhook) in items(configuration, "webhooks").iter().enumerate() {
        let path = path.item(at);
        let name = text(webhook, "name");
        if name.is_empty() {
            report.required(&path.field("name"), "");
        } else {
            report.invalid_all(&path.field("name"), name, names::dns_subdomain(name));
            if name.split('.').count() < 3 {
                let detail = "should be a domain with at least three segments separated by dots";
                report.invalid(&path.field("name"), name, detail);
            }
            if !seen.insert(name) {
                report.duplicate(&path.field("name"), name);
            }
        }
        self::webhook(report, &path, webhook);
    }
}

fn webhook(report: &mut Report, path: &Path<'_>, webhook: &Value) {
    let client = webhook.get("clientConfig").unwrap_or(&Value::Null);
    if client.get("url").is_some() == client.get("service").is_some() {
        report.required(&path.field("clientConfig"), "exactly one of url or service is required");
    }
    match text(webhook, "sideEffects") {
        "" => report.required(&path.field("sideEffects"), "must specify one of None, NoneOnDryRun"),
        "None" | "NoneOnDryRun" => {}
        other => report.not_supported(&path.field("sideEffects"), other, &["None", "NoneOnDryRun"]),
    }
    if items(webhook, "admissionReviewVersions").is_empty() {
        report.required(&path.field("admissionReviewVersions"), "must specify one of v1, v1beta1");
    }
    let timeout = number(webhook, "timeoutSeconds").unwrap_or(10);
    if !(1..=30).contains(&timeout) {
        let detail = "the timeout value must be between 1 and 30 seconds";
        report.invalid(&path.field("timeoutSeconds"), timeout, detail);
    }
    for (field, supported) in [("failurePolicy", ["Fail", "Ignore"]), ("matchPolicy", ["Equivalent", "Exact"])] {
        report.one_of(&path.field(field), text(webhook, field), &supported);
    }
    let path = path.field("rules");
    for (at, rule) in items(webhook, "rules").iter().enumerate() {
        let path = path.item(at);
        for field in ["operations", "apiGroups", "apiVersions", "resources"] {
            if items(rule, field).is_empty() {
                report.required(&path.field(field), "");
            }
        }
    }
}
