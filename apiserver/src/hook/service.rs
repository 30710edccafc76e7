use schema::FieldError;
use serde_json::{Value, json};

use super::Reserved;
use crate::object::{self, copy, list, text};
use crate::server::ApiServer;
use crate::status::{forbidden, invalid};

mod pool;

pub(crate) use pool::{Pool, Reservation};

/// What a Service has by its type.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Needs {
    /// An address, unless it is headless.
    address: bool,
    node_ports: bool,
}

fn needs(service: &Value) -> Needs {
    let kind = text(service, "/spec/type");
    let wants_ports = service.pointer("/spec/allocateLoadBalancerNodePorts") != Some(&json!(false));
    Needs { address: kind != "ExternalName", node_ports: kind == "NodePort" || (kind == "LoadBalancer" && wants_ports) }
}

/// Makes `clusterIP` and `clusterIPs` say the same, and fills in the one family of addresses that there is.
pub(super) fn create(service: &mut Value) {
    if !needs(service).address {
        return;
    }
    let spec = object::map(service, "spec");
    let first = spec.get("clusterIPs").and_then(|all| all.get(0)).and_then(Value::as_str).unwrap_or_default();
    let one = spec.get("clusterIP").and_then(Value::as_str).unwrap_or_default();
    let address = if one.is_empty() { first.to_owned() } else { one.to_owned() };
    if !address.is_empty() {
        spec.insert("clusterIP".into(), address.as_str().into());
        spec.entry("clusterIPs").or_insert_with(|| json!([address]));
    }
    for (field, value) in [("ipFamilies", json!(["IPv4"])), ("ipFamilyPolicy", json!("SingleStack"))] {
        spec.entry(field).or_insert(value);
    }
}

/// Keeps what the old version holds where the new one leaves it open, and drops what a change of type frees.
pub(super) fn update(old: &Value, new: &mut Value) {
    let (had, has) = (needs(old), needs(new));
    let unset = |service: &Value| text(service, "/spec/clusterIP").is_empty();
    let same = text(old, "/spec/clusterIP") == text(new, "/spec/clusterIP");
    if had.address && has.address && unset(new) {
        for field in ["clusterIP", "clusterIPs"] {
            copy(field, &old["spec"], &mut new["spec"]);
        }
    }
    if !has.address && (same || unset(new)) {
        let spec = object::map(new, "spec");
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
            spec.remove(field);
        }
    }
    let old_ports = list(old, "/spec/ports").to_vec();
    let ports = object::map(new, "spec").get_mut("ports").and_then(Value::as_array_mut);
    for port in ports.into_iter().flatten() {
        let is = |old: &&Value| old["port"] == port["port"] && old["protocol"] == port["protocol"];
        let kept = old_ports.iter().find(is).map(node_port).unwrap_or(0);
        if has.node_ports && had.node_ports && node_port(port) == 0 && kept != 0 {
            port["nodePort"] = kept.into();
        }
        let was = old_ports.iter().any(|old| node_port(old) == node_port(port));
        if !has.node_ports
            && had.node_ports
            && was
            && let Some(port) = port.as_object_mut()
        {
            port.remove("nodePort");
        }
    }
    let balanced = text(new, "/spec/type") == "LoadBalancer";
    let outside = matches!(text(new, "/spec/type"), "NodePort" | "LoadBalancer");
    let spec = object::map(new, "spec");
    // What belongs to a type goes with it, unless the client sets it to something else.
    let mut drop = |field: &str, fits: bool| {
        if !fits && spec.get(field) == old["spec"].get(field) {
            spec.remove(field);
        }
    };
    drop("externalTrafficPolicy", outside);
    drop("healthCheckNodePort", outside);
    drop("allocateLoadBalancerNodePorts", balanced);
    drop("loadBalancerClass", balanced);
    create(new);
}

fn node_port(port: &Value) -> u16 {
    port["nodePort"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(0)
}

/// What only a cluster with one family of addresses refuses, and addresses that change.
pub(super) fn check(old: Option<&Value>, new: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let policy = text(new, "/spec/ipFamilyPolicy");
    if policy == "RequireDualStack" {
        let why = "this cluster is not configured for dual-stack services";
        errors.push(invalid("spec.ipFamilyPolicy", policy, why));
    }
    for (at, family) in list(new, "/spec/ipFamilies").iter().enumerate() {
        if family != "IPv4" {
            errors.push(invalid(format!("spec.ipFamilies[{at}]"), family.clone(), "not configured on this cluster"));
        }
    }
    let (one, all) = (text(new, "/spec/clusterIP"), list(new, "/spec/clusterIPs"));
    if let Some(first) = all.first().and_then(Value::as_str)
        && first != one
    {
        errors.push(invalid("spec.clusterIPs", all, "first value must match `clusterIP`"));
    }
    if let Some(old) = old
        && needs(old).address
        && needs(new).address
        && !text(old, "/spec/clusterIP").is_empty()
        && text(old, "/spec/clusterIP") != one
    {
        errors.push(invalid("spec.clusterIPs[0]", all, "may not change once set"));
    }
    if one == "None" && needs(new).node_ports {
        let why = format!("may not be set to 'None' for {} services", text(new, "/spec/type"));
        errors.push(invalid("spec.clusterIPs[0]", "None", why));
    }
    if !needs(new).node_ports && text(new, "/spec/type") != "LoadBalancer" {
        for (at, port) in list(new, "/spec/ports").iter().enumerate() {
            if node_port(port) != 0 {
                let field = format!("spec.ports[{at}].nodePort");
                errors.push(forbidden(&field, "may not be used when `type` is 'ClusterIP'"));
            }
        }
    }
    errors
}

/// Takes the address and the node ports of a Service: those it names, or free ones, which are written into it.
pub(super) fn reserve(server: &ApiServer, service: &mut Value) -> Reserved {
    let owner = text(service, "/metadata/uid").to_owned();
    let needs = needs(service);
    let mut reservation = Reservation::new(server.pool.clone(), owner);
    if needs.address {
        let asked = text(service, "/spec/clusterIP").to_owned();
        if asked != "None" {
            let address = reservation.address(&asked).map_err(|why| {
                let all = service["spec"]["clusterIPs"].clone();
                vec![invalid("spec.clusterIPs", all, why)]
            })?;
            let spec = object::map(service, "spec");
            spec.insert("clusterIP".into(), address.as_str().into());
            spec.insert("clusterIPs".into(), json!([address]));
        }
    }
    if needs.node_ports {
        reserve_ports(&mut reservation, service)?;
    }
    Ok(Some(reservation))
}

/// The named ports first, so that none of them is given to another port of the same Service.
fn reserve_ports(reservation: &mut Reservation, service: &mut Value) -> Result<(), Vec<FieldError>> {
    let ports = object::map(service, "spec").get_mut("ports").and_then(Value::as_array_mut);
    let Some(ports) = ports else { return Ok(()) };
    for (at, port) in ports.iter().enumerate().filter(|(_, port)| node_port(port) != 0) {
        let number = node_port(port);
        let taken = reservation.port(Some(number));
        taken.map_err(|why| vec![invalid(format!("spec.ports[{at}].nodePort"), number, why)])?;
    }
    for at in 0..ports.len() {
        if node_port(&ports[at]) != 0 {
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
