use std::net::IpAddr;

use schema::FieldError;
use serde_json::{Value, json};

use super::Reserved;
use crate::object::{self, copy, list, text};
use crate::server::ApiServer;
use crate::status::invalid;

mod families;
mod pool;

pub(crate) use pool::{Pool, Reservation};

fn kind(service: &Value) -> &str {
    text(service, "/spec/type")
}

/// Has an address of the cluster, or is headless.
fn has_address(service: &Value) -> bool {
    kind(service) != "ExternalName"
}

/// Can have node ports.
fn is_outside(service: &Value) -> bool {
    matches!(kind(service), "NodePort" | "LoadBalancer")
}

/// Gets node ports that it does not name.
fn is_given_ports(service: &Value) -> bool {
    is_outside(service)
        && (kind(service) == "NodePort" || service["spec"]["allocateLoadBalancerNodePorts"] != json!(false))
}

/// Load balancers ask each node whether it has an endpoint.
fn has_health_port(service: &Value) -> bool {
    kind(service) == "LoadBalancer" && text(service, "/spec/externalTrafficPolicy") == "Local"
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

fn port_of(object: &Value, field: &str) -> u16 {
    object[field].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(0)
}

fn node_port(port: &Value) -> u16 {
    port_of(port, "nodePort")
}

/// A client that only knows `clusterIP` means the first of `clusterIPs`.
pub(super) fn create(service: &mut Value) {
    let one = text(service, "/spec/clusterIP").to_owned();
    if !one.is_empty() {
        object::map(service, "spec").entry("clusterIPs").or_insert_with(|| json!([one]));
    }
}

/// Keeps what the old version holds where the new one leaves it open, and drops what a change of type frees.
pub(super) fn update(old: &Value, new: &mut Value) {
    addresses(old, new);
    node_ports(old, new);
    if has_health_port(old) && has_health_port(new) && port_of(&new["spec"], "healthCheckNodePort") == 0 {
        copy("healthCheckNodePort", &old["spec"], &mut new["spec"]);
    }
    let external_ips = !list(new, "/spec/externalIPs").is_empty();
    let balanced = kind(new) == "LoadBalancer";
    // What belongs to a type goes with it, unless the client sets it to something else.
    for (field, fits) in [
        ("clusterIP", has_address(new)),
        ("clusterIPs", has_address(new)),
        ("ipFamilies", has_address(new)),
        ("ipFamilyPolicy", has_address(new)),
        ("externalTrafficPolicy", is_outside(new) || (kind(new) == "ClusterIP" && external_ips)),
        ("healthCheckNodePort", has_health_port(new)),
        ("allocateLoadBalancerNodePorts", balanced),
        ("loadBalancerClass", balanced),
    ] {
        let spec = object::map(new, "spec");
        if !fits && spec.get(field) == old["spec"].get(field) {
            spec.remove(field);
        }
    }
    if !balanced && new.pointer("/status/loadBalancer").is_some() {
        new["status"]["loadBalancer"] = json!({});
    }
}

/// `clusterIP` and `clusterIPs` stay as they were, and follow each other where a client knows only the one.
fn addresses(old: &Value, new: &mut Value) {
    let spec = object::map(new, "spec");
    let was = |field: &str| old["spec"].get(field).cloned();
    let unset = |value: Option<&Value>| value.is_none_or(|value| *value == "" || *value == json!([]));
    for field in ["clusterIP", "clusterIPs"] {
        if let Some(value) = was(field).filter(|_| unset(spec.get(field))) {
            spec.insert(field.into(), value);
        }
    }
    let (one, same) = (spec.get("clusterIP").cloned(), spec.get("clusterIPs") == was("clusterIPs").as_ref());
    if let Some(one) = one.filter(|one| same && Some(one) != was("clusterIP").as_ref()) {
        spec.insert("clusterIPs".into(), json!([one]));
    }
}

/// A port keeps its node port by its name; a Service that can have none any more loses those it had.
fn node_ports(old: &Value, new: &mut Value) {
    if !is_outside(old) {
        return;
    }
    let had = list(old, "/spec/ports").to_vec();
    let stays = is_outside(new);
    let given = is_given_ports(new);
    let Some(Value::Array(ports)) = object::map(new, "spec").get_mut("ports") else { return };
    let mut used: Vec<u16> = ports.iter().map(node_port).collect();
    let known = used.iter().all(|port| *port == 0 || had.iter().any(|old| node_port(old) == *port));
    for port in ports {
        let kept = had.iter().find(|old| old.get("name") == port.get("name")).map_or(0, node_port);
        if given && node_port(port) == 0 && kept != 0 && !used.contains(&kept) {
            port["nodePort"] = kept.into();
            used.push(kept);
        }
        if let Some(port) = port.as_object_mut().filter(|_| known && !stays) {
            port.remove("nodePort");
        }
    }
}

/// Takes the addresses and the ports of a Service: those it names, or free ones, which are written into it.
pub(super) fn reserve(server: &ApiServer, old: Option<&Value>, service: &mut Value) -> Reserved {
    families::settle(&server.pool.families(), old, service)?;
    let mut reservation = Reservation::new(server.pool.clone(), text(service, "/metadata/uid").to_owned());
    if has_address(service) && text(service, "/spec/clusterIP") != "None" {
        let all = list(service, "/spec/clusterIPs").to_vec();
        let mut taken = Vec::new();
        for (at, family) in list(service, "/spec/ipFamilies").iter().filter_map(Value::as_str).enumerate() {
            let asked = all.get(at).and_then(Value::as_str).unwrap_or_default();
            let address = reservation.address(family, asked);
            taken.push(address.map_err(|why| vec![invalid("spec.clusterIPs", all.clone(), why)])?);
        }
        let spec = object::map(service, "spec");
        spec.insert("clusterIP".into(), json!(taken.first()));
        spec.insert("clusterIPs".into(), json!(taken));
    }
    if is_outside(service) {
        reserve_ports(&mut reservation, service)?;
    }
    if has_health_port(service) {
        let asked = port_of(&service["spec"], "healthCheckNodePort");
        let number = match list(service, "/spec/ports").iter().any(|port| node_port(port) == asked && asked != 0) {
            true => Err("provided port is already allocated".to_owned()),
            false => reservation.port((asked != 0).then_some(asked)),
        };
        let number = number.map_err(|why| {
            let why = format!("failed to allocate requested HealthCheck NodePort {asked}: {why}");
            vec![invalid("spec.healthCheckNodePort", asked, why)]
        })?;
        service["spec"]["healthCheckNodePort"] = number.into();
    }
    Ok(Some(reservation))
}

/// The named ports first, so that none of them is given to another port of the same Service.
fn reserve_ports(reservation: &mut Reservation, service: &mut Value) -> Result<(), Vec<FieldError>> {
    let given = is_given_ports(service);
    let ports = object::map(service, "spec").get_mut("ports").and_then(Value::as_array_mut);
    let Some(ports) = ports else { return Ok(()) };
    for (at, port) in ports.iter().enumerate().filter(|(_, port)| node_port(port) != 0) {
        let number = node_port(port);
        let taken = reservation.port(Some(number));
        taken.map_err(|why| vec![invalid(format!("spec.ports[{at}].nodePort"), number, why)])?;
    }
    for at in 0..ports.len() {
        if node_port(&ports[at]) != 0 || !given {
            continue;
        }
        // One port over several protocols has one node port.
        let twin = ports.iter().find(|other| {
            node_port(other) != 0 && other["port"] == ports[at]["port"] && other["protocol"] != ports[at]["protocol"]
        });
        let number = match twin.map(node_port) {
            Some(number) => number,
            None => reservation.port(None).map_err(|why| {
                let field = format!("spec.ports[{at}].nodePort");
                vec![invalid(field, 0, format!("failed to allocate a nodePort: {why}"))]
            })?,
        };
        ports[at]["nodePort"] = number.into();
    }
    Ok(())
}

#[cfg(test)]
mod tests;
