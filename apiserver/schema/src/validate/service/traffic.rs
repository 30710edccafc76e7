//! Which way the traffic of a Service goes, and what its load balancer is told and tells.

use std::net::IpAddr;

use serde_json::Value;

use super::super::{items, number, text};
use crate::field_error::Report;
use crate::names;
use crate::path::Path;

const POLICIES: [&str; 2] = ["Cluster", "Local"];
const DISTRIBUTIONS: [&str; 3] = ["PreferClose", "PreferSameNode", "PreferSameZone"];
const ONLY_BALANCED: &str = "may only be used when `type` is 'LoadBalancer'";

/// Clients outside reach it by an address of their network.
fn is_accessible(spec: &Value) -> bool {
    matches!(text(spec, "type"), "NodePort" | "LoadBalancer")
        || (text(spec, "type") == "ClusterIP" && !items(spec, "externalIPs").is_empty())
}

fn is_checked(spec: &Value) -> bool {
    text(spec, "type") == "LoadBalancer" && text(spec, "externalTrafficPolicy") == "Local"
}

pub(super) fn policies(report: &mut Report, path: &Path<'_>, spec: &Value, old: Option<&Value>) {
    let external = text(spec, "externalTrafficPolicy");
    if !external.is_empty() && !is_accessible(spec) {
        let detail = "may only be set for externally-accessible services";
        report.invalid(&path.field("externalTrafficPolicy"), external, detail);
    } else if !external.is_empty() && !POLICIES.contains(&external) {
        report.not_supported(&path.field("externalTrafficPolicy"), external, &POLICIES);
    }
    let internal = text(spec, "internalTrafficPolicy");
    if !internal.is_empty() && !POLICIES.contains(&internal) {
        report.not_supported(&path.field("internalTrafficPolicy"), internal, &POLICIES);
    }
    if let Some(distribution) = spec.get("trafficDistribution").and_then(Value::as_str)
        && !DISTRIBUTIONS.contains(&distribution)
    {
        report.not_supported(&path.field("trafficDistribution"), distribution, &DISTRIBUTIONS);
    }
    let health = number(spec, "healthCheckNodePort").unwrap_or(0);
    let before = old.filter(|old| is_checked(old)).and_then(|old| number(old, "healthCheckNodePort"));
    let path = path.field("healthCheckNodePort");
    if health != 0 && !is_checked(spec) {
        let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        report.invalid(&path, health, detail);
    } else if health != 0 {
        report.invalid_all(&path, health, names::port(health));
        if before.is_some_and(|before| before != health) {
            report.forbidden(&path, "field is immutable");
        }
    }
}

pub(super) fn balancer(report: &mut Report, path: &Path<'_>, spec: &Value, old: Option<&Value>) {
    let is_balanced = |spec: &Value| text(spec, "type") == "LoadBalancer";
    let balanced = is_balanced(spec);
    // Kubernetes writes this field's name in this way in its messages.
    let ranges = path.field("LoadBalancerSourceRanges");
    let sources = items(spec, "loadBalancerSourceRanges");
    for (field, given) in [
        (ranges, !sources.is_empty()),
        (path.field("allocateLoadBalancerNodePorts"), spec.get("allocateLoadBalancerNodePorts").is_some()),
        (path.field("loadBalancerClass"), spec.get("loadBalancerClass").is_some()),
    ] {
        if given && !balanced {
            report.forbidden(&field, ONLY_BALANCED);
        }
    }
    for (at, range) in sources.iter().filter_map(Value::as_str).map(str::trim).enumerate() {
        report.invalid_all(&ranges.item(at), range, names::cidr(range));
    }
    let class = spec.get("loadBalancerClass");
    let path = path.field("loadBalancerClass");
    if balanced && old.is_some_and(|old| is_balanced(old) && old.get("loadBalancerClass") != class) {
        report.invalid(&path, class.cloned().unwrap_or_default(), "may not change once set");
    }
    if let Some(class) = class.and_then(Value::as_str).filter(|_| balanced) {
        report.invalid_all(&path, class, names::qualified_name(class));
    }
}

/// The addresses that a load balancer has given.
pub(super) fn ingress(report: &mut Report, path: &Path<'_>, status: Option<&Value>, ty: &str) {
    let path = path.field("ingress");
    let entries = status.map_or(&[][..], |status| items(status, "ingress"));
    if ty != "LoadBalancer" && !entries.is_empty() {
        return report.forbidden(&path, "may only be used when `spec.type` is 'LoadBalancer'");
    }
    for (at, entry) in entries.iter().enumerate() {
        let path = path.item(at);
        let (ip, mode, host) = (text(entry, "ip"), text(entry, "ipMode"), text(entry, "hostname"));
        if !ip.is_empty() {
            report.invalid_all(&path.field("ip"), ip, names::ip(ip));
        }
        match (ip, mode) {
            ("", "") => {}
            (_, "") => report.required(&path.field("ipMode"), "must be specified when `ip` is set"),
            ("", _) => report.forbidden(&path.field("ipMode"), "may not be specified when `ip` is not set"),
            (_, mode) => report.one_of(&path.field("ipMode"), mode, &["Proxy", "VIP"]),
        }
        if host.parse::<IpAddr>().is_ok() {
            report.invalid(&path.field("hostname"), host, "must be a DNS name, not an IP address");
        } else if !host.is_empty() {
            report.invalid_all(&path.field("hostname"), host, names::dns_subdomain(host));
        }
    }
}
