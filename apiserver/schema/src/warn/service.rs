use serde_json::Value;

use super::has_annotation;

pub(super) fn service(told: &mut Vec<String>, service: &Value) {
    let text = |field: &str| service.pointer(&format!("/spec/{field}")).and_then(Value::as_str).unwrap_or_default();
    let mut say = |text: &str| told.push(text.to_owned());
    if has_annotation(service, "service.kubernetes.io/topology-aware-hints") {
        say("annotation service.kubernetes.io/topology-aware-hints is deprecated, please use \
             service.kubernetes.io/topology-mode instead");
    }
    let external = text("type") == "ExternalName";
    if external && service.pointer("/spec/externalIPs").is_some() {
        say("spec.externalIPs is ignored when spec.type is \"ExternalName\"");
    }
    if !external && !text("externalName").is_empty() {
        say("spec.externalName is ignored when spec.type is not \"ExternalName\"");
    }
    if text("clusterIP") == "None" && text("sessionAffinity") == "ClientIP" {
        say("spec.SessionAffinity is ignored for headless services");
    }
}
