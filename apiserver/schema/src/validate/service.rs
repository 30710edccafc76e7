use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::container::PROTOCOLS;
use super::{items, labels, number, probe, text};
use crate::field_error::Report;
use crate::names;
use crate::path::Path;

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const POLICIES: [&str; 2] = ["Cluster", "Local"];
/// A day, the longest that ClientIP affinity lasts.
const AFFINITY_SECONDS: i64 = 86_400;

pub(super) fn service(report: &mut Report, service: &Value, old: Option<&Value>) {
    let path = Path::Root.field("spec");
    let spec = service.get("spec").unwrap_or(&Value::Null);
    let ty = text(spec, "type");
    report.one_of(&path.field("type"), ty, &TYPES);
    address(report, &path, spec, ty);
    let headless = text(spec, "clusterIP") == "None";
    let ports = items(spec, "ports");
    if ports.is_empty() && !headless && ty != "ExternalName" {
        report.required(&path.field("ports"), "");
    }
    self::ports(report, &path.field("ports"), ports, ty);
    labels::labels(report, &path.field("selector"), spec.get("selector"));
    affinity(report, &path, spec);
    for (at, ip) in items(spec, "externalIPs").iter().filter_map(Value::as_str).enumerate() {
        report.invalid_all(&path.field("externalIPs").item(at), ip, names::ip(ip));
    }
    for field in ["externalTrafficPolicy", "internalTrafficPolicy"] {
        let policy = text(spec, field);
        if !policy.is_empty() && !POLICIES.contains(&policy) {
            report.not_supported(&path.field(field), policy, &POLICIES);
        }
    }
    if !text(spec, "externalTrafficPolicy").is_empty() && ty == "ClusterIP" && items(spec, "externalIPs").is_empty() {
        let detail = "may only be set for externally-accessible services";
        report.invalid(&path.field("externalTrafficPolicy"), text(spec, "externalTrafficPolicy"), detail);
    }
    if let Some(old) = old.and_then(|old| old.get("spec")) {
        same_address(report, &path, spec, old);
    }
}

fn address(report: &mut Report, path: &Path<'_>, spec: &Value, ty: &str) {
    let ip = text(spec, "clusterIP");
    let list = path.field("clusterIPs");
    match (ty, ip) {
        ("ExternalName", _) => {
            if !ip.is_empty() {
                report.forbidden(&list, "may not be set for ExternalName services");
            }
            let name = text(spec, "externalName");
            let path = path.field("externalName");
            match name.strip_suffix('.').unwrap_or(name) {
                "" => report.required(&path, ""),
                host => report.invalid_all(&path, name, names::dns_subdomain(host)),
            }
        }
        ("NodePort" | "LoadBalancer", "None") => {
            let detail = format!("may not be set to 'None' for {ty} services");
            report.invalid(&list.item(0), ip, detail);
        }
        (_, "" | "None") => {}
        _ => report.invalid_all(&list.item(0), ip, names::ip(ip)),
    }
    if let Some(first) = items(spec, "clusterIPs").first().and_then(Value::as_str)
        && !ip.is_empty()
        && first != ip
    {
        report.invalid(&list, spec["clusterIPs"].clone(), "first value must match `clusterIP`");
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
        if !seen.insert((protocol, number)) {
            report.duplicate(&path, json!({"port": number, "protocol": protocol}));
        }
        let node_port = super::number(port, "nodePort").unwrap_or(0);
        if node_port != 0 && matches!(ty, "ClusterIP" | "ExternalName") {
            let detail = format!("may not be used when `type` is '{ty}'");
            report.forbidden(&path.field("nodePort"), detail);
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

/// A Service keeps its address for life, unless it becomes or was an ExternalName.
fn same_address(report: &mut Report, path: &Path<'_>, spec: &Value, old: &Value) {
    let (now, before) = (text(spec, "clusterIP"), text(old, "clusterIP"));
    let external = [spec, old].iter().any(|spec| text(spec, "type") == "ExternalName");
    if !external && !before.is_empty() && now != before {
        let path = path.field("clusterIPs");
        report.invalid(&path.item(0), json!([now]), "may not change once set");
    }
}
