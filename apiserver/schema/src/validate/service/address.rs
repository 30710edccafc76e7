//! The addresses of a Service in the cluster, and their families (KEP-563).

use std::net::IpAddr;

use serde_json::Value;

use super::super::{items, text};
use crate::field_error::Report;
use crate::names;
use crate::path::Path;

const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];
const POLICIES: [&str; 3] = ["PreferDualStack", "RequireDualStack", "SingleStack"];

/// What is wrong with the addresses of a Service that is not an ExternalName.
pub(super) fn addresses(report: &mut Report, path: &Path<'_>, spec: &Value, old: Option<&Value>) {
    let (one, all) = (text(spec, "clusterIP"), items(spec, "clusterIPs"));
    let list = path.field("clusterIPs");
    let ty = text(spec, "type");
    if one == "None" && matches!(ty, "NodePort" | "LoadBalancer") {
        report.invalid(&list.item(0), one, format!("may not be set to 'None' for {ty} services"));
    }
    if one.is_empty() && !all.is_empty() {
        report.invalid(&list, all, "must be empty when `clusterIP` is not specified");
    } else if all.first().is_some_and(|first| first != one) {
        report.invalid(&list, all, "first value must match `clusterIP`");
    }
    let families: Vec<&str> = items(spec, "ipFamilies").iter().filter_map(Value::as_str).collect();
    for (at, family) in families.iter().enumerate() {
        let path = path.field("ipFamilies");
        if !FAMILIES.contains(family) {
            report.not_supported(&path.item(at), *family, &FAMILIES);
        }
        if families[..at].contains(family) {
            report.duplicate(&path.item(at), *family);
        }
    }
    let policy = text(spec, "ipFamilyPolicy");
    if !policy.is_empty() && !POLICIES.contains(&policy) {
        report.not_supported(&path.field("ipFamilyPolicy"), policy, &POLICIES);
    }
    if let Some(ips) = parsed(report, &list, all) {
        of_families(report, &list, all, &ips, &families);
    }
    if let Some(old) = old.filter(|old| text(old, "type") != "ExternalName") {
        lasting(report, path, spec, old);
    }
}

/// The addresses, none for a headless Service; nothing when one of them is none.
fn parsed(report: &mut Report, path: &Path<'_>, all: &[Value]) -> Option<Vec<IpAddr>> {
    let before = report.errors.len();
    let mut ips = Vec::new();
    for (at, ip) in all.iter().filter_map(Value::as_str).enumerate() {
        match ip.parse() {
            Ok(ip) => ips.push(ip),
            Err(_) if at == 0 && ip == "None" && all.len() > 1 => {
                report.invalid(path, all, "'None' must be the first and only value");
            }
            Err(_) if at == 0 && ip == "None" => {}
            Err(_) => report.invalid_all(&path.item(at), ip, names::ip(ip)),
        }
    }
    if all.len() > 2 {
        report.invalid(path, all, "may only hold up to 2 values");
    }
    (report.errors.len() == before).then_some(ips)
}

fn of_families(report: &mut Report, path: &Path<'_>, all: &[Value], ips: &[IpAddr], families: &[&str]) {
    if let [first, second] = ips
        && first.is_ipv4() == second.is_ipv4()
    {
        report.invalid(path, all, "may specify no more than one IP for each IP family");
    }
    for (at, (ip, family)) in ips.iter().zip(families).enumerate() {
        if FAMILIES.contains(family) && ip.is_ipv4() != (*family == "IPv4") {
            let detail = format!("expected an {family} value as indicated by `ipFamilies[{at}]`");
            report.invalid(&path.item(at), ip.to_string(), detail);
        }
    }
}

/// A Service keeps its addresses for life, unless it becomes or was an ExternalName; a second one may come and go.
fn lasting(report: &mut Report, path: &Path<'_>, spec: &Value, old: &Value) {
    let headless = |spec: &Value| text(spec, "clusterIP") == "None";
    let is_headless = headless(spec) || headless(old);
    for (field, lasts) in [("clusterIPs", !(headless(spec) && headless(old))), ("ipFamilies", !is_headless)] {
        let (now, before) = (items(spec, field), items(old, field));
        for at in (0..now.len().min(before.len())).filter(|at| lasts && now[*at] != before[*at]) {
            report.invalid(&path.field(field).item(at), now, "may not change once set");
        }
    }
}
