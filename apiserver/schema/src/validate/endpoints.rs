use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::Value;

use super::container::PROTOCOLS;
use super::{immutable, items, number, text};
use crate::field_error::{ErrorType, FieldError, Report};
use crate::names;
use crate::path::Path;

/// Endpoints in one slice.
const SLICE_ENDPOINTS: usize = 1000;
/// Ports of one slice, and addresses of one endpoint.
const SLICE_PORTS: usize = 100;

pub(super) fn endpoints(report: &mut Report, object: &Value, _: Option<&Value>) {
    let path = Path::Root.field("subsets");
    for (at, subset) in items(object, "subsets").iter().enumerate() {
        let path = path.item(at);
        let lists = ["addresses", "notReadyAddresses"];
        if lists.iter().all(|list| items(subset, list).is_empty()) {
            report.required(&path, "must specify `addresses` or `notReadyAddresses`");
        }
        for list in lists {
            for (at, address) in items(subset, list).iter().enumerate() {
                let ip = text(address, "ip");
                let path = path.field(list);
                let path = path.item(at);
                endpoint_ip(report, &path.field("ip"), ip);
            }
        }
        let ports = items(subset, "ports");
        for (at, port) in ports.iter().enumerate() {
            let path = path.field("ports");
            let path = path.item(at);
            let name = text(port, "name");
            if name.is_empty() && ports.len() > 1 {
                report.required(&path.field("name"), "");
            } else if !name.is_empty() {
                report.invalid_all(&path.field("name"), name, names::dns_label(name));
            }
            let number = number(port, "port").unwrap_or(0);
            report.invalid_all(&path.field("port"), number, names::port(number));
            report.one_of(&path.field("protocol"), text(port, "protocol"), &PROTOCOLS);
        }
    }
}

/// Addresses that would mean the node itself or a neighbour are not for endpoints, nor for Services from outside.
pub(super) fn endpoint_ip(report: &mut Report, path: &Path<'_>, ip: &str) {
    let Ok(address) = ip.parse::<IpAddr>() else {
        return report.invalid_all(path, ip, names::ip(ip));
    };
    let (link_local, to_neighbours) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.segments()[0] & 0xff0f == 0xff02),
    };
    let wrong = if address.is_unspecified() {
        format!("may not be unspecified ({address})")
    } else if address.is_loopback() {
        "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned()
    } else if link_local {
        "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned()
    } else if to_neighbours {
        "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned()
    } else {
        return;
    };
    report.invalid(path, ip, wrong);
}

pub(super) fn endpoint_slice(report: &mut Report, slice: &Value, old: Option<&Value>) {
    let path = Path::Root;
    let ty = text(slice, "addressType");
    report.one_of(&path.field("addressType"), ty, &["FQDN", "IPv4", "IPv6"]);
    let endpoints = items(slice, "endpoints");
    if endpoints.len() > SLICE_ENDPOINTS {
        let detail = format!("must have at most {SLICE_ENDPOINTS} items");
        report.errors.push(FieldError::new(ErrorType::TooMany, "endpoints", endpoints.len(), detail));
    }
    let list = path.field("endpoints");
    for (at, endpoint) in endpoints.iter().enumerate() {
        let path = list.item(at);
        let addresses = items(endpoint, "addresses");
        if addresses.is_empty() {
            report.required(&path.field("addresses"), "must contain at least 1 address");
        } else if addresses.len() > SLICE_PORTS {
            let detail = format!("must have at most {SLICE_PORTS} items");
            let field = path.field("addresses").to_string();
            report.errors.push(FieldError::new(ErrorType::TooMany, field, addresses.len(), detail));
        }
        for (at, address) in addresses.iter().filter_map(Value::as_str).enumerate() {
            let path = path.field("addresses");
            slice_address(report, &path.item(at), address, ty);
        }
    }
    slice_ports(report, &path.field("ports"), items(slice, "ports"));
    if let Some(old) = old {
        immutable(report, &path, slice, old, "addressType");
    }
}

fn slice_address(report: &mut Report, path: &Path<'_>, address: &str, ty: &str) {
    match (ty, address.parse::<IpAddr>()) {
        ("FQDN", _) => report.invalid_all(path, address, names::dns_subdomain(address)),
        ("IPv4", Ok(IpAddr::V4(_))) | ("IPv6", Ok(IpAddr::V6(_))) => endpoint_ip(report, path, address),
        ("IPv4", _) => report.invalid(path, address, "must be a valid IPv4 address"),
        ("IPv6", _) => report.invalid(path, address, "must be a valid IPv6 address"),
        _ => {}
    }
}

fn slice_ports(report: &mut Report, path: &Path<'_>, ports: &[Value]) {
    let mut seen = BTreeSet::new();
    for (at, port) in ports.iter().enumerate() {
        let path = path.item(at);
        let name = text(port, "name");
        if !name.is_empty() {
            report.invalid_all(&path.field("name"), name, names::dns_label(name));
        }
        if !seen.insert(name) {
            report.duplicate(&path.field("name"), name);
        }
        if let Some(number) = number(port, "port") {
            report.invalid_all(&path.field("port"), number, names::port(number));
        }
        report.one_of(&path.field("protocol"), text(port, "protocol"), &PROTOCOLS);
    }
}
