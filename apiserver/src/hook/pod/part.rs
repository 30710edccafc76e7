//! What the ephemeralcontainers and resize subresources of a pod may change.

use schema::FieldError;
use serde_json::{Value, json};

use super::qos;
use crate::object::{self, copy, list, text};
use crate::status::{forbidden, invalid};

/// What can be resized in place.
const RESIZED: [&str; 2] = ["cpu", "memory"];

/// The part of the subresource, laid over the old version.
pub(crate) fn part(subresource: &str, old: &Value, new: &Value) -> Value {
    let mut pod = old.clone();
    let fields: &[&str] = match subresource {
        "ephemeralcontainers" => &["ephemeralContainers"],
        _ => &["containers", "initContainers"],
    };
    if let Some(version) = new.pointer("/metadata/resourceVersion") {
        object::metadata(&mut pod).insert("resourceVersion".into(), version.clone());
    }
    for field in fields {
        copy(field, &new["spec"], &mut pod["spec"]);
    }
    pod
}

/// What is wrong with the change.
pub(crate) fn check(subresource: &str, old: &Value, new: &Value) -> Vec<FieldError> {
    match subresource {
        "ephemeralcontainers" => added(old, new),
        "resize" => resized(old, new).into_iter().collect(),
        _ => Vec::new(),
    }
}

/// Ephemeral containers come and never go, and stay as they came.
fn added(old: &Value, new: &Value) -> Vec<FieldError> {
    let path = "/spec/ephemeralContainers";
    let mut errors = Vec::new();
    for before in list(old, path) {
        let name = text(before, "/name");
        match list(new, path).iter().find(|now| text(now, "/name") == name) {
            None => {
                let why = format!("existing ephemeral containers {name:?} may not be removed");
                errors.push(forbidden("spec.ephemeralContainers", &why));
            }
            Some(now) if now != before => {
                let why = format!("existing ephemeral containers {name:?} may not be changed");
                errors.push(forbidden("spec.ephemeralContainers", &why));
            }
            Some(_) => {}
        }
    }
    errors
}

fn resized(old: &Value, new: &Value) -> Option<FieldError> {
    if bare(old) != bare(new) {
        return Some(forbidden("spec", "only cpu and memory resources are mutable"));
    }
    let (was, is) = (qos::class(old), qos::class(new));
    (was != is).then(|| invalid("spec", is, "Pod QOS Class may not change as a result of resizing"))
}

/// The spec without what can be resized.
fn bare(pod: &Value) -> Value {
    let mut spec = pod["spec"].clone();
    for field in ["containers", "initContainers"] {
        let containers = spec.get_mut(field).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
            container.remove("resizePolicy");
            let resources = container.entry("resources").or_insert_with(|| json!({}));
            for kind in ["limits", "requests"] {
                let Some(amounts) = resources.get_mut(kind).and_then(Value::as_object_mut) else { continue };
                amounts.retain(|resource, _| !RESIZED.contains(&resource.as_str()));
                if amounts.is_empty() {
                    drop(resources.as_object_mut().and_then(|resources| resources.remove(kind)));
                }
            }
        }
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ephemeral_containers_only_come() {
        let pod = |containers: Value| json!({"spec": {"ephemeralContainers": containers}});
        let old = pod(json!([{"name": "a", "image": "x"}]));
        for (now, wrong) in [
            (json!([{"name": "a", "image": "x"}, {"name": "b", "image": "y"}]), 0),
            (json!([]), 1),
            (json!([{"name": "a", "image": "z"}]), 1),
        ] {
            assert_eq!(check("ephemeralcontainers", &old, &pod(now.clone())).len(), wrong, "{now}");
        }
    }

    #[test]
    fn what_can_be_resized() {
        let pod =
            |image: &str, resources: Value| json!({"spec": {"containers": [{"image": image, "resources": resources}]}});
        let old = pod("x", json!({"requests": {"cpu": "1"}}));
        for (new, wrong) in [
            (pod("x", json!({"requests": {"cpu": "2", "memory": "1Gi"}})), None),
            (pod("y", json!({"requests": {"cpu": "2"}})), Some("only cpu and memory resources are mutable")),
            (
                pod("x", json!({"requests": {"cpu": "1", "ephemeral-storage": "1"}})),
                Some("only cpu and memory resources are mutable"),
            ),
            (pod("x", json!({})), Some("Pod QOS Class may not change as a result of resizing")),
        ] {
            let found = check("resize", &old, &new).pop().map(|error| error.detail);
            assert_eq!(found.as_deref(), wrong, "{new}");
        }
    }
}
