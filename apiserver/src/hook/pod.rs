use http::Response;
use schema::FieldError;
use serde_json::{Value, json};

use crate::answer;
use crate::body::Body;
use crate::call::Call;
use crate::object::{self, text};
use crate::status::{Status, forbidden, required};
use crate::verb::{Part, modify};

mod evict;
mod part;
mod priority;
mod qos;

pub(super) use crate::verb::pod_grace as grace;
pub(crate) use evict::evict;
pub(crate) use part::{check as check_part, part};
pub(super) use priority::admit;

/// How long a pod stays on a node that is not ready or not reachable, where it does not say.
const TOLERATION_SECONDS: i64 = 300;
const NODE_TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

/// What the admission plugins of Kubernetes and its pod strategy set in new pods.
pub(super) fn create(pod: &mut Value) {
    let class = qos::class(pod);
    let spec = object::map(pod, "spec");
    let account = spec.get("serviceAccountName").and_then(Value::as_str).filter(|name| !name.is_empty());
    let account = account.unwrap_or("default").to_owned();
    spec.insert("serviceAccount".into(), account.as_str().into());
    spec.insert("serviceAccountName".into(), account.into());
    tolerate(spec.entry("tolerations").or_insert_with(|| json!([])));
    pod["status"] = json!({"phase": "Pending", "qosClass": class});
}

/// Ephemeral containers come by their subresource only.
pub(super) fn check(old: Option<&Value>, pod: &Value) -> Vec<FieldError> {
    let early = old.is_none() && pod.pointer("/spec/ephemeralContainers").is_some();
    early.then(|| forbidden("spec.ephemeralContainers", "cannot be set on create")).into_iter().collect()
}

fn tolerate(tolerations: &mut Value) {
    let Value::Array(tolerations) = tolerations else { return };
    for taint in NODE_TAINTS {
        let covers = |toleration: &Value| {
            let (key, effect) = (text(toleration, "/key"), text(toleration, "/effect"));
            (key == taint || key.is_empty()) && (effect == "NoExecute" || effect.is_empty())
        };
        if !tolerations.iter().any(covers) {
            tolerations.push(json!({
                "key": taint,
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": TOLERATION_SECONDS,
            }));
        }
    }
}

/// `POST …/binding`: puts a pod on a node, once.
pub(crate) async fn bind(call: &Call) -> Result<Response<Body>, Status> {
    let binding = call.read_other()?.unwrap_or_default();
    let node = text(&binding, "/target/name");
    if node.is_empty() {
        let cause = required("target.name", "");
        return Err(Status::invalid(&call.resource, &call.name, &[cause]));
    }
    let uid = text(&binding, "/metadata/uid");
    modify(call, Part::All, |old| {
        let name = &call.name;
        let refuse = |why: String| Err(Status::conflict(&call.resource, name, &why));
        if !uid.is_empty() && uid != text(old, "/metadata/uid") {
            let is = text(old, "/metadata/uid");
            return refuse(format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {is}"));
        }
        if object::is_deleting(old) {
            return refuse(format!("pod {name} is being deleted, cannot be assigned to a host"));
        }
        let on = text(old, "/spec/nodeName");
        if !on.is_empty() {
            return refuse(format!("pod {name} is already assigned to node \"{on}\""));
        }
        Ok(bound(old, node, &binding))
    })
    .await?;
    answer::value(call, 201, &json!(Status::created()), &[])
}

/// A pod on its node.
fn bound(old: &Value, node: &str, binding: &Value) -> Value {
    let mut pod = old.clone();
    object::map(&mut pod, "spec").insert("nodeName".into(), node.into());
    if let Some(Value::Object(more)) = binding.pointer("/metadata/annotations") {
        let annotations = object::metadata(&mut pod).entry("annotations").or_insert_with(|| json!({}));
        if let Value::Object(annotations) = annotations {
            annotations.extend(more.clone());
        }
    }
    set_condition(&mut pod, json!({"type": "PodScheduled", "status": "True"}));
    pod
}

/// Sets a condition in the status, as of now; it takes the place of the one of its type.
fn set_condition(pod: &mut Value, mut condition: Value) {
    condition["lastProbeTime"] = Value::Null;
    condition["lastTransitionTime"] = crate::admit::now().into();
    let conditions = object::map(pod, "status").entry("conditions").or_insert_with(|| json!([]));
    if let Value::Array(conditions) = conditions {
        conditions.retain(|other| other["type"] != condition["type"]);
        conditions.push(condition);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_pods_are_completed() {
        let mut pod =
            json!({"spec": {"containers": [], "tolerations": [{"key": NODE_TAINTS[0], "operator": "Exists"}]}});
        create(&mut pod);
        assert_eq!(pod["spec"]["serviceAccountName"], "default");
        assert_eq!(pod["spec"]["tolerations"].as_array().unwrap().len(), 2);
        assert_eq!(pod["spec"]["tolerations"][1]["key"], NODE_TAINTS[1]);
        assert_eq!(pod["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
    }

    #[test]
    fn binding_sets_the_condition_once() {
        let pod =
            bound(&json!({"status": {"conditions": [{"type": "PodScheduled", "status": "False"}]}}), "n", &json!({}));
        assert_eq!(pod["spec"]["nodeName"], "n");
        assert_eq!(pod["status"]["conditions"].as_array().unwrap().len(), 1);
        assert_eq!(pod["status"]["conditions"][0]["status"], "True");
    }
}
