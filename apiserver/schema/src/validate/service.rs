use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::container::PROTOCOLS;
use super::{endpoints, items, labels, number, probe, text};
use crate::field_error::Report;
use crate::names;
use crate::path::Path;

mod address;
mod traffic;

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
/// A day, the longest that ClientIP affinity lasts.
const AFFINITY_SECONDS: i64 = 86_400;

pub(super) fn service(report: &mut Report, service: &Value, old: Option<&Value>) {
    let path = Path::Root.field("spec");
    let spec = service.get("spec").unwrap_or(&Value::Null);
    let old = old.and_then(|old| old.get("spec"));
    let ty = text(spec, "type");
    report.one_of(&path.field("type"), ty, &TYPES);
    if ty == "ExternalName" {
        external_name(report, &path, spec);
    } else {
        address::addresses(report, &path, spec, old);
    }
    let ports = items(spec, "ports");
    if ports.is_empty() && text(spec, "clusterIP") != "None" && ty != "ExternalName" {
        report.required(&path.field("ports"), "");
    }
    self::ports(report, &path.field("ports"), ports, ty);
    labels::labels(report, &path.field("selector"), spec.get("selector"));
    affinity(report, &path, spec);
    for (at, ip) in items(spec, "externalIPs").iter().filter_map(Value::as_str).enumerate() {
        endpoints::endpoint_ip(report, &path.field("externalIPs").item(at), ip);
    }
    traffic::policies(report, &path, spec, old);
    traffic::balancer(report, &path, spec, old);
    let path = Path::Root.field("status");
    traffic::ingress(report, &path.field("loadBalancer"), service.pointer("/status/loadBalancer"), ty);
}

fn external_name(report: &mut Report, path: &Path<'_>, spec: &Value) {
    for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if spec.get(field).is_some() {
            report.forbidden(&path.field(field), "may not be set for ExternalName services");
        }
    }
    let (path, name) = (path.field("externalName"), text(spec, "externalName"));
    match name.strip_suffix('.').unwrap_or(name) {
        "" => report.required(&path, ""),
        host => report.invalid_all(&path, host, names::dns_subdomain(host)),
    }
}

fn ports(report: &mut Report, path: &Path<'_>, ports: &[Value], ty: &str) {
    let (mut seen_names, mut seen, mut node_ports) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (at, port) in ports.iter().enumerate() {
        let path = path.item(at);
        let (name, protocol) = (text(port, "name"), text(port, "protocol"));
        if name.is_empty() && ports.len() > 1 {
            report.required(&path.field("name"), "");
        } else if !name.is_empty() {
            report.invalid_all(&path.field("name"), name, names::dns_label(name));
            if !seen_names.insert(name) {
                report.duplicate(&path.field("name"), name);
            }
        }
        let number = number(port, "port").unwrap_or(0);
        report.invalid_all(&path.field("port"), number, names::port(number));
        report.one_of(&path.field("protocol"), protocol, &PROTOCOLS);
        probe::port(report, &path.field("targetPort"), port.get("targetPort"));
        let application = text(port, "appProtocol");
        if !application.is_empty() {
            report.invalid_all(&path.field("appProtocol"), application, names::qualified_name(application));
        }
        if !seen.insert((protocol, number)) {
            report.duplicate(&path, json!({"port": number, "protocol": protocol}));
        }
        let node_port = super::number(port, "nodePort").unwrap_or(0);
        if node_port != 0 && ty == "ClusterIP" {
            report.forbidden(&path.field("nodePort"), "may not be used when `type` is 'ClusterIP'");
        } else if node_port != 0 && !node_ports.insert((protocol, node_port)) {
            report.duplicate(&path.field("nodePort"), node_port);
        }
    }
}

fn affinity(report: &mut Report, path: &Path<'_>, spec: &Value) {
    let affinity = text(spec, "sessionAffinity");
    report.one_of(&path.field("sessionAffinity"), affinity, &["ClientIP", "None"]);
    let path = path.field("sessionAffinityConfig");
    match (affinity, spec.get("sessionAffinityConfig")) {
        ("None", Some(_)) => {
            report.forbidden(&path, "must not be set when session affinity is None");
        }
        ("ClientIP", Some(config)) => {
            let seconds = config.pointer("/clientIP/timeoutSeconds").and_then(Value::as_i64).unwrap_or(0);
            if !(1..=AFFINITY_SECONDS).contains(&seconds) {
                let path = path.field("clientIP");
                let detail = format!("must be greater than 0 and less than {AFFINITY_SECONDS}");
                report.invalid(&path.field("timeoutSeconds"), seconds, detail);
            }
        }
        _ => {}
    }
}
