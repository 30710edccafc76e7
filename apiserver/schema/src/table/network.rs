use std::net::Ipv6Addr;

use serde_json::Value;

use super::Row;
use super::cells::{first_three, or, text};

pub(super) fn external_ip(row: &Row<'_>) -> Value {
    let external = row.list("/spec/externalIPs").iter().filter_map(Value::as_str);
    let mut ips: Vec<&str> = Vec::new();
    let absent = match row.text("/spec/type", "") {
        "ExternalName" => return row.text("/spec/externalName", "").into(),
        "LoadBalancer" => {
            ips.extend(balancer(row));
            "<pending>"
        }
        _ => "<none>",
    };
    ips.extend(external);
    or(&ips.join(","), absent).into()
}

fn balancer<'a>(row: &Row<'a>) -> Vec<&'a str> {
    let ingress = row.list("/status/loadBalancer/ingress").iter();
    ingress.map(|entry| or(text(entry, "ip"), text(entry, "hostname"))).collect()
}

pub(super) fn service_ports(row: &Row<'_>) -> Value {
    let number = |port: &Value, field: &str| port.get(field).and_then(Value::as_i64).unwrap_or(0);
    let ports = row.list("/spec/ports").iter().map(|port| {
        let protocol = text(port, "protocol");
        match number(port, "nodePort") {
            0 => format!("{}/{protocol}", number(port, "port")),
            node => format!("{}:{node}/{protocol}", number(port, "port")),
        }
    });
    or(&ports.collect::<Vec<_>>().join(","), "<none>").into()
}

pub(super) fn endpoints(row: &Row<'_>) -> Value {
    let subsets = row.list("/subsets");
    if subsets.is_empty() {
        return "<none>".into();
    }
    let list = |value: &'static str, of: &Value| of.get(value).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut found = Vec::new();
    for subset in subsets {
        let (addresses, ports) = (list("addresses", subset), list("ports", subset));
        if ports.is_empty() {
            found.extend(addresses.iter().map(|address| text(address, "ip").to_owned()));
        }
        for port in &ports {
            found.extend(addresses.iter().map(|address| host_port(text(address, "ip"), &port["port"])));
        }
    }
    first_three(&found, found.len()).into()
}

fn host_port(ip: &str, port: &Value) -> String {
    if ip.parse::<Ipv6Addr>().is_ok() { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

pub(super) fn slice_ports(row: &Row<'_>) -> Value {
    let ports = row.list("/ports").iter().map(|port| match port.get("port").and_then(Value::as_i64) {
        Some(number) => number.to_string(),
        None => or(text(port, "name"), "*").to_owned(),
    });
    let ports: Vec<String> = ports.collect();
    or(&first_three(&ports, ports.len()), "<unset>").into()
}

pub(super) fn slice_addresses(row: &Row<'_>) -> Value {
    let endpoints = row.list("/endpoints").iter();
    let addresses = endpoints.filter_map(|endpoint| endpoint.get("addresses")?.as_array()).flatten();
    let addresses: Vec<String> = addresses.filter_map(|address| address.as_str().map(str::to_owned)).collect();
    or(&first_three(&addresses, addresses.len()), "<unset>").into()
}

pub(super) fn hosts(row: &Row<'_>) -> Value {
    let rules = row.list("/spec/rules");
    let hosts: Vec<String> =
        rules.iter().map(|rule| text(rule, "host").to_owned()).filter(|host| !host.is_empty()).collect();
    let count = if hosts.len() >= 3 { rules.len() } else { hosts.len() };
    or(&first_three(&hosts, count), "*").into()
}

pub(super) fn ingress_address(row: &Row<'_>) -> Value {
    balancer(row).join(",").into()
}

pub(super) fn ingress_ports(row: &Row<'_>) -> Value {
    if row.list("/spec/tls").is_empty() { "80".into() } else { "80, 443".into() }
}

pub(super) fn parameters(row: &Row<'_>) -> Value {
    let Some(parameters) = row.at("/spec/parameters") else { return "<none>".into() };
    let kind = match text(parameters, "apiGroup") {
        "" => text(parameters, "kind").to_owned(),
        group => format!("{}.{group}", text(parameters, "kind")),
    };
    format!("{kind}/{}", text(parameters, "name")).into()
}

pub(super) fn cidrs(row: &Row<'_>) -> Value {
    let cidrs: Vec<&str> = row.list("/spec/cidrs").iter().filter_map(Value::as_str).collect();
    cidrs.join(",").into()
}

pub(super) fn parent(row: &Row<'_>) -> Value {
    let Some(parent) = row.at("/spec/parentRef") else { return "<none>".into() };
    let parts = ["group", "resource", "namespace", "name"].map(|field| text(parent, field));
    let [group, resource, namespace, name] = parts;
    let resource = if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
    format!("{resource}/{namespace}/{name}").into()
}
