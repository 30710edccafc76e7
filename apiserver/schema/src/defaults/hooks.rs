use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};

use super::Hook;

mod pod;
mod service;
mod workload;

type Object = Map<String, Value>;

/// Types whose defaults depend on more than one field.
pub(super) const HOOKS: &[(&str, Hook)] = &[
    ("core.v1.Pod", pod::pod),
    ("core.v1.PodSpec", pod::spec),
    ("core.v1.Container", pod::container),
    ("core.v1.EphemeralContainer", pod::container),
    ("core.v1.ImageVolumeSource", pod::image_volume),
    ("core.v1.Volume", pod::volume),
    ("core.v1.Service", service::service),
    ("core.v1.ServicePort", service::port),
    ("core.v1.LoadBalancerIngress", service::ingress),
    ("core.v1.Namespace", namespace),
    ("core.v1.Secret", secret),
    ("core.v1.NodeStatus", node_status),
    ("core.v1.LimitRangeItem", limits),
    ("core.v1.ReplicationController", workload::replication_controller),
    ("apps.v1.DeploymentStrategy", workload::rolling_update),
    ("apps.v1.DaemonSetUpdateStrategy", workload::rolling_update),
    ("apps.v1.StatefulSetUpdateStrategy", workload::rolling_update),
    ("autoscaling.v2.HorizontalPodAutoscalerBehavior", workload::scaling_rules),
    ("batch.v1.Job", workload::job),
    ("networking.v1.NetworkPolicySpec", service::policy_types),
    ("rbac.v1.Subject", subject),
    ("ext.apiextensions.v1.CustomResourceDefinitionNames", crd_names),
];

fn text<'a>(object: &'a Object, field: &str) -> &'a str {
    object.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn set(object: &mut Object, field: &str, value: impl Into<Value>) {
    object.insert(field.to_owned(), value.into());
}

/// Sets a field that is absent or an empty string.
fn fill(object: &mut Object, field: &str, value: impl Into<Value>) {
    if super::is_unset(object.get(field), false) {
        set(object, field, value);
    }
}

fn child<'a>(object: &'a mut Object, field: &str) -> Option<&'a mut Object> {
    object.get_mut(field)?.as_object_mut()
}

/// The object in that field, made when it is absent.
fn made<'a>(object: &'a mut Object, field: &str) -> Option<&'a mut Object> {
    object.entry(field.to_owned()).or_insert_with(|| json!({})).as_object_mut()
}

/// What was written in the clear becomes data, over what was there; `stringData` is write-only.
fn secret(secret: &mut Object) {
    let Some(Value::Object(clear)) = secret.remove("stringData") else { return };
    let Some(data) = made(secret, "data") else { return };
    for (key, value) in clear {
        data.insert(key, BASE64_STANDARD.encode(value.as_str().unwrap_or_default()).into());
    }
}

/// Every namespace can be selected by its name.
fn namespace(namespace: &mut Object) {
    let Some(metadata) = made(namespace, "metadata") else {
        return;
    };
    let name = text(metadata, "name").to_owned();
    if !name.is_empty()
        && let Some(labels) = made(metadata, "labels")
    {
        set(labels, "kubernetes.io/metadata.name", name);
    }
}

fn node_status(status: &mut Object) {
    if let (None, Some(capacity)) = (status.get("allocatable"), status.get("capacity").cloned()) {
        set(status, "allocatable", capacity);
    }
}

/// A container's default limit is the maximum, its default request the limit or the minimum.
fn limits(item: &mut Object) {
    if text(item, "type") != "Container" {
        return;
    }
    for (from, to) in [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")] {
        copy_missing(item, from, to);
    }
}

fn copy_missing(object: &mut Object, from: &str, to: &str) {
    let Some(Value::Object(source)) = object.get(from).cloned() else {
        return;
    };
    let Some(target) = made(object, to) else {
        return;
    };
    for (key, value) in source {
        target.entry(key).or_insert(value);
    }
}

fn subject(subject: &mut Object) {
    if matches!(text(subject, "kind"), "User" | "Group") {
        fill(subject, "apiGroup", "rbac.authorization.k8s.io");
    }
}

fn crd_names(names: &mut Object) {
    let kind = text(names, "kind").to_owned();
    if !kind.is_empty() {
        fill(names, "singular", kind.to_lowercase());
        fill(names, "listKind", format!("{kind}List"));
    }
}
