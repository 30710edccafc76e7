use std::net::IpAddr;

use serde_json::Value;

use super::{items, number, text};
use crate::field_error::Report;
use crate::names;
use crate::path::Path;

const PATH_TYPES: [&str; 3] = ["Exact", "ImplementationSpecific", "Prefix"];

pub(super) fn ingress(report: &mut Report, ingress: &Value, _: Option<&Value>) {
    let path = Path::Root.field("spec");
    let spec = ingress.get("spec").unwrap_or(&Value::Null);
    let rules = items(spec, "rules");
    let default = spec.get("defaultBackend");
    if rules.is_empty() && default.is_none() {
        let detail = "either `defaultBackend` or `rules` must be specified";
        report.invalid(&path, spec.clone(), detail);
    }
    if let Some(default) = default {
        backend(report, &path.field("defaultBackend"), default);
    }
    let class = text(spec, "ingressClassName");
    if !class.is_empty() {
        report.invalid_all(&path.field("ingressClassName"), class, names::dns_subdomain(class));
    }
    for (at, tls) in items(spec, "tls").iter().enumerate() {
        let path = path.field("tls");
        let path = path.item(at);
        for (at, host) in items(tls, "hosts").iter().filter_map(Value::as_str).enumerate() {
            report.invalid_all(&path.field("hosts").item(at), host, host_name(host));
        }
        let secret = text(tls, "secretName");
        if !secret.is_empty() {
            report.invalid_all(&path.field("secretName"), secret, names::dns_subdomain(secret));
        }
    }
    for (at, rule) in items(spec, "rules").iter().enumerate() {
        let path = path.field("rules");
        self::rule(report, &path.item(at), rule);
    }
}

fn rule(report: &mut Report, path: &Path<'_>, rule: &Value) {
    let host = text(rule, "host");
    let host_path = path.field("host");
    if host.parse::<IpAddr>().is_ok() {
        report.invalid(&host_path, host, "must be a DNS name, not an IP address");
    } else if !host.is_empty() {
        report.invalid_all(&host_path, host, host_name(host));
    }
    let Some(http) = rule.get("http") else { return };
    let path = path.field("http");
    let path = path.field("paths");
    let entries = items(http, "paths");
    if entries.is_empty() {
        report.required(&path, "");
    }
    for (at, entry) in entries.iter().enumerate() {
        let path = path.item(at);
        let (target, ty) = (text(entry, "path"), text(entry, "pathType"));
        match ty {
            "" => report.required(&path.field("pathType"), "pathType must be specified"),
            "Exact" | "Prefix" if !target.starts_with('/') => {
                report.invalid(&path.field("path"), target, "must be an absolute path");
            }
            "ImplementationSpecific" if !target.is_empty() && !target.starts_with('/') => {
                report.invalid(&path.field("path"), target, "must be an absolute path");
            }
            _ if PATH_TYPES.contains(&ty) => {}
            _ => report.not_supported(&path.field("pathType"), ty, &PATH_TYPES),
        }
        if matches!(ty, "Exact" | "Prefix") {
            for odd in ["//", "/./", "/../", "%2f", "%2F"].iter().filter(|odd| target.contains(**odd)) {
                report.invalid(&path.field("path"), target, format!("must not contain '{odd}'"));
            }
            for odd in ["/..", "/."].iter().filter(|odd| target.ends_with(**odd)) {
                report.invalid(&path.field("path"), target, format!("cannot end with '{odd}'"));
            }
        }
        backend(report, &path.field("backend"), entry.get("backend").unwrap_or(&Value::Null));
    }
}

/// What is wrong with a host, which a star may begin.
fn host_name(host: &str) -> Vec<String> {
    if host.contains('*') { names::wildcard_dns_subdomain(host) } else { names::dns_subdomain(host) }
}

fn backend(report: &mut Report, path: &Path<'_>, backend: &Value) {
    let service = match (backend.get("service"), backend.get("resource")) {
        (Some(_), Some(_)) => {
            return report.invalid(path, "", "cannot set both resource and service backends");
        }
        (None, Some(resource)) => {
            let path = path.field("resource");
            for name in ["kind", "name"].into_iter().filter(|name| text(resource, name).is_empty()) {
                report.required(&path.field(name), "");
            }
            return;
        }
        (None, None) => return report.invalid(path, "", "resource or service backend is required"),
        (Some(service), None) => service,
    };
    let field = path.field("service");
    let name = text(service, "name");
    if name.is_empty() {
        report.required(&field.field("name"), "");
    } else {
        report.invalid_all(&field.field("name"), name, names::dns_1035_label(name));
    }
    let port = service.get("port").unwrap_or(&Value::Null);
    let field = field.field("port");
    match (text(port, "name"), number(port, "number").unwrap_or(0)) {
        ("", 0) => report.required(path, "port name or number is required"),
        ("", number) => report.invalid_all(&field.field("number"), number, names::port(number)),
        (name, 0) => report.invalid_all(&field.field("name"), name, names::port_name(name)),
        _ => report.invalid(path, "", "cannot set both port name & port number"),
    }
}
