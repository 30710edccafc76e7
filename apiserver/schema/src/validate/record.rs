//! What programs write down: Leases, Events and revisions; and the classes that others name.

use serde_json::Value;

use super::{immutable, number, text};
use crate::field_error::Report;
use crate::names;
use crate::path::Path;

pub(super) fn lease(report: &mut Report, lease: &Value, _: Option<&Value>) {
    let path = Path::Root.field("spec");
    let spec = lease.get("spec").unwrap_or(&Value::Null);
    if let Some(seconds) = number(spec, "leaseDurationSeconds").filter(|seconds| *seconds <= 0) {
        report.invalid(&path.field("leaseDurationSeconds"), seconds, "must be greater than 0");
    }
    super::non_negative(report, &path, spec, "leaseTransitions");
    if spec.get("holderIdentity").is_some() && text(spec, "holderIdentity").is_empty() {
        report.invalid(&path.field("holderIdentity"), "", "must not be empty");
    }
}

/// An event is beside what it is about; those about what is in no namespace are in `default`.
pub(super) fn event(report: &mut Report, event: &Value, _: Option<&Value>) {
    let namespace = event.get("metadata").map_or("", |metadata| text(metadata, "namespace"));
    let about = event.get("involvedObject").map_or("", |object| text(object, "namespace"));
    if about != namespace && !(about.is_empty() && namespace == "default") {
        let path = Path::Root.field("involvedObject");
        report.invalid(&path.field("namespace"), about, "does not match event.namespace");
    }
}

pub(super) fn controller_revision(report: &mut Report, object: &Value, old: Option<&Value>) {
    let path = Path::Root;
    if object.get("data").is_none() {
        report.required(&path.field("data"), "data is mandatory");
    }
    super::non_negative(report, &path, object, "revision");
    if let Some(old) = old {
        immutable(report, &path, object, old, "data");
    }
}

pub(super) fn ingress_class(report: &mut Report, class: &Value, old: Option<&Value>) {
    let path = Path::Root.field("spec");
    let spec = class.get("spec").unwrap_or(&Value::Null);
    let controller = text(spec, "controller");
    let is_domain = controller
        .split_once('/')
        .is_some_and(|(domain, rest)| names::dns_subdomain(domain).is_empty() && !rest.is_empty());
    if controller.is_empty() {
        report.required(&path.field("controller"), "");
    } else if !is_domain {
        let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        report.invalid(&path.field("controller"), controller, detail);
    }
    if let Some(old) = old.and_then(|old| old.get("spec")) {
        immutable(report, &path, spec, old, "controller");
    }
    let Some(parameters) = spec.get("parameters") else { return };
    let path = path.field("parameters");
    for field in ["kind", "name"] {
        if text(parameters, field).is_empty() {
            report.required(&path.field(field), "");
        }
    }
    match (text(parameters, "scope"), parameters.get("namespace")) {
        ("Namespace", None) => {
            report.required(&path.field("namespace"), "`parameters.scope` is set to 'Namespace'");
        }
        ("Cluster", Some(_)) => {
            report.forbidden(&path.field("namespace"), "`parameters.scope` is set to 'Cluster'");
        }
        ("Namespace" | "Cluster", _) => {}
        (other, _) => report.not_supported(&path.field("scope"), other, &["Cluster", "Namespace"]),
    }
}

pub(super) fn runtime_class(report: &mut Report, class: &Value, old: Option<&Value>) {
    let path = Path::Root;
    let handler = text(class, "handler");
    report.invalid_all(&path.field("handler"), handler, names::dns_label(handler));
    if let Some(old) = old {
        immutable(report, &path, class, old, "handler");
    }
}
