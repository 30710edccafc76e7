use serde_json::Value;

use super::{items, labels, number, probe, text};
use crate::field_error::Report;
use crate::names;
use crate::path::Path;

pub(super) fn network_policy(report: &mut Report, policy: &Value, _: Option<&Value>) {
    let path = Path::Root.field("spec");
    let spec = policy.get("spec").unwrap_or(&Value::Null);
    if let Some(selector) = spec.get("podSelector") {
        labels::selector(report, &path.field("podSelector"), selector);
    }
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        let path = path.field(direction);
        for (at, rule) in items(spec, direction).iter().enumerate() {
            let path = path.item(at);
            let ports = path.field("ports");
            for (at, port) in items(rule, "ports").iter().enumerate() {
                self::port(report, &ports.item(at), port);
            }
            let list = path.field(peers);
            for (at, peer) in items(rule, peers).iter().enumerate() {
                self::peer(report, &list.item(at), peer);
            }
        }
    }
    let types = items(spec, "policyTypes");
    let path = path.field("policyTypes");
    if types.len() > 2 {
        return report.invalid(&path, types, "may not specify more than two policyTypes");
    }
    for (at, ty) in types.iter().filter_map(Value::as_str).enumerate() {
        if !matches!(ty, "Egress" | "Ingress") {
            report.not_supported(&path.item(at), ty, &["Egress", "Ingress"]);
        }
    }
}

fn port(report: &mut Report, path: &Path<'_>, port: &Value) {
    let protocol = text(port, "protocol");
    if !matches!(protocol, "" | "TCP" | "UDP" | "SCTP") {
        report.not_supported(&path.field("protocol"), protocol, &["TCP", "UDP", "SCTP"]);
    }
    let first = port.get("port");
    if first.is_some() {
        probe::port(report, &path.field("port"), first);
    }
    let Some(last) = number(port, "endPort") else { return };
    let path = path.field("endPort");
    match first.map(Value::as_i64) {
        None => report.invalid(&path, last, "may not be specified when `port` is not specified"),
        Some(None) => report.invalid(&path, last, "may not be specified when `port` is non-numeric"),
        Some(Some(first)) if last < first => report.invalid(&path, last, "must be greater than or equal to `port`"),
        Some(Some(_)) => report.invalid_all(&path, last, names::port(last)),
    }
}

fn peer(report: &mut Report, path: &Path<'_>, peer: &Value) {
    let selectors = ["podSelector", "namespaceSelector"];
    for field in selectors {
        if let Some(selector) = peer.get(field) {
            labels::selector(report, &path.field(field), selector);
        }
    }
    let selects = selectors.iter().any(|field| peer.get(field).is_some());
    let Some(block) = peer.get("ipBlock") else {
        if !selects {
            report.required(path, "must specify a peer");
        }
        return;
    };
    if selects {
        report.forbidden(path, "may not specify both ipBlock and another peer");
    }
    let path = path.field("ipBlock");
    match text(block, "cidr") {
        "" => report.required(&path.field("cidr"), ""),
        cidr => report.invalid_all(&path.field("cidr"), cidr, names::cidr(cidr)),
    }
    let path = path.field("except");
    for (at, except) in items(block, "except").iter().filter_map(Value::as_str).enumerate() {
        report.invalid_all(&path.item(at), except, names::cidr(except));
    }
}
