use serde_json::{Value, json};

use super::{Object, child, fill, made, set, text};

/// How long ClientIP affinity lasts: three hours.
const AFFINITY_SECONDS: i64 = 10_800;

pub(super) fn service(service: &mut Object) {
    let Some(spec) = child(service, "spec") else {
        return;
    };
    fill(spec, "type", "ClusterIP");
    let ty = text(spec, "type").to_owned();
    match text(spec, "sessionAffinity") {
        "ClientIP" => {
            let timeout =
                spec.get("sessionAffinityConfig").and_then(|config| config.pointer("/clientIP/timeoutSeconds"));
            if timeout.is_none() {
                set(spec, "sessionAffinityConfig", json!({"clientIP": {"timeoutSeconds": AFFINITY_SECONDS}}));
            }
        }
        "" | "None" => drop(spec.remove("sessionAffinityConfig")),
        _ => {}
    }
    let external_ips = spec.get("externalIPs").and_then(Value::as_array).is_some_and(|ips| !ips.is_empty());
    if matches!(ty.as_str(), "NodePort" | "LoadBalancer") || (ty == "ClusterIP" && external_ips) {
        fill(spec, "externalTrafficPolicy", "Cluster");
    }
    if matches!(ty.as_str(), "ClusterIP" | "NodePort" | "LoadBalancer") {
        fill(spec, "internalTrafficPolicy", "Cluster");
    }
    if ty == "LoadBalancer" {
        fill(spec, "allocateLoadBalancerNodePorts", true);
    }
    made(service, "status").and_then(|status| made(status, "loadBalancer"));
}

/// An address of a load balancer is the destination of its packets, unless it says that it proxies (KEP-1860).
pub(super) fn ingress(entry: &mut Object) {
    if !text(entry, "ip").is_empty() {
        fill(entry, "ipMode", "VIP");
    }
}

pub(super) fn port(port: &mut Object) {
    fill(port, "protocol", "TCP");
    let unset = match port.get("targetPort") {
        None => true,
        Some(Value::String(name)) => name.is_empty(),
        Some(number) => number.as_i64() == Some(0),
    };
    if let (true, Some(number)) = (unset, port.get("port").cloned()) {
        set(port, "targetPort", number);
    }
}

/// A network policy is about ingress, and about egress when it has rules for that.
pub(super) fn policy_types(spec: &mut Object) {
    let types = if spec.contains_key("egress") { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
    fill(spec, "policyTypes", types);
}
