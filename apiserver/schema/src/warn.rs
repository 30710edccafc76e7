use serde_json::Value;

use crate::names;
use crate::resource::Resource;

mod pod;
mod service;

/// Deprecated resources: group, version, plural name, since when and what is used instead.
const DEPRECATED: [(&str, &str, &str, &str); 2] = [
    ("", "v1", "componentstatuses", "v1.19+"),
    ("", "v1", "endpoints", "v1.33+; use discovery.k8s.io/v1 EndpointSlice"),
];

/// Annotations that have a field now: kind, annotation, what is said.
const ANNOTATIONS: [(&str, &str, &str); 4] = [
    ("PersistentVolume", BETA_CLASS, "deprecated since v1.8; use \"storageClassName\" attribute instead"),
    ("PersistentVolumeClaim", BETA_CLASS, "deprecated since v1.8; use \"storageClassName\" attribute instead"),
    (
        "PersistentVolume",
        "volume.beta.kubernetes.io/mount-options",
        "deprecated since v1.31; use \"mountOptions\" attribute instead",
    ),
    (
        "ServiceAccount",
        "kubernetes.io/enforce-mountable-secrets",
        "deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets",
    ),
];
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// Where the kinds that make pods have their template.
const TEMPLATES: [(&str, &str); 8] = [
    ("CronJob", "spec.jobTemplate.spec.template"),
    ("DaemonSet", "spec.template"),
    ("Deployment", "spec.template"),
    ("Job", "spec.template"),
    ("PodTemplate", "template"),
    ("ReplicaSet", "spec.template"),
    ("ReplicationController", "spec.template"),
    ("StatefulSet", "spec.template"),
];

/// What every request for a deprecated resource is warned of.
pub fn deprecation(resource: &Resource) -> Option<String> {
    let of = |row: &&(&str, &str, &str, &str)| {
        (row.0, row.1, row.2) == (&*resource.group, &*resource.version, &*resource.plural)
    };
    let (_, version, _, since) = DEPRECATED.iter().find(of)?;
    Some(format!("{version} {} is deprecated in {since}", resource.kind))
}

/// What clients are warned of in an object that is valid and was created, or updated when there is an old one:
/// Kubernetes' words, as kubectl prints them.
pub fn warnings(resource: &Resource, new: &Value, old: Option<&Value>) -> Vec<String> {
    let kind = resource.kind.as_ref();
    if old.is_some_and(|old| kind == "Pod" || old.get("spec") == new.get("spec")) {
        return Vec::new();
    }
    let mut told = Vec::new();
    let name = new.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let wrong = if old.is_none() { names::dns_label(name).join(" ") } else { String::new() };
    let used = match kind {
        "Pod" => "the Pod's hostname",
        "Deployment" | "ReplicaSet" | "ReplicationController" | "StatefulSet" | "Job" => "Pod names and hostnames",
        _ => "",
    };
    if !wrong.is_empty() && !used.is_empty() {
        told.push(format!(
            "metadata.name: this is used in {used}, which can result in surprising behavior; \
             a DNS label is recommended: [{wrong}]"
        ));
    }
    for (of, annotation, why) in ANNOTATIONS {
        if of == kind && has_annotation(new, annotation) {
            told.push(format!("metadata.annotations[{annotation}]: {why}"));
        }
    }
    match kind {
        "Pod" => pod::pod(&mut told, "", new),
        "Service" => service::service(&mut told, new),
        "Ingress" if old.is_none() && has_annotation(new, "kubernetes.io/ingress.class") => {
            told.push(
                "annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead"
                    .to_owned(),
            );
        }
        "PersistentVolume" if new.pointer("/spec/persistentVolumeReclaimPolicy") == Some(&"Recycle".into()) => {
            told.push(
                "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the \
                 recommended approach is to use dynamic provisioning."
                    .to_owned(),
            );
        }
        _ => {}
    }
    let template = TEMPLATES.iter().find(|(of, _)| *of == kind);
    if let Some((_, path)) = template
        && let Some(template) = new.pointer(&format!("/{}", path.replace('.', "/")))
    {
        pod::pod(&mut told, &format!("{path}."), template);
    }
    told
}

fn has_annotation(object: &Value, annotation: &str) -> bool {
    object.get("metadata").and_then(|metadata| metadata.get("annotations")?.get(annotation)).is_some()
}

#[cfg(test)]
mod tests;
