use serde_json::Value;

use super::has_annotation;

pub(super) fn service(told: &mut Vec<String>, service: &Value) {
    let text = |field: &str| service.pointer(&format!("/spec/{field}")).and_then(Value::as_str).unwrap_or_default();
    let mut say = |text: &str| told.push(text.to_owned());
    if has_annotation(service, "service.kubernetes.io/topology-aware-hints") {
        say("annotation service.kubernetes.io/topology-aware-hints is deprecated, please use \
             service.kubernetes.io/topology-mode instead");
    }
    let (external, headless) = (text("type") == "ExternalName", text("clusterIP") == "None");
    let external_ips =
        service.pointer("/spec/externalIPs").and_then(Value::as_array).is_some_and(|ips| !ips.is_empty());
    if headless && !text("loadBalancerIP").is_empty() {
        say("spec.loadBalancerIP is ignored for headless services");
    }
    if external_ips {
        say(match (headless, external) {
            (true, _) => "spec.externalIPs is ignored for headless services",
            (_, true) => "spec.externalIPs is ignored when spec.type is \"ExternalName\"",
            _ => "spec.externalIPs is deprecated and may no longer be implemented in some clusters",
        });
    }
    if !external && !text("externalName").is_empty() {
        say("spec.externalName is ignored when spec.type is not \"ExternalName\"");
    }
    if headless && text("sessionAffinity") == "ClientIP" {
        say("spec.SessionAffinity is ignored for headless services");
    }
    if text("trafficDistribution") == "PreferClose" {
        say("spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"");
    }
}
