use schema::FieldError;
use serde_json::Value;

use crate::object::list;
use crate::status::forbidden;

/// Kubernetes' own words.
const UNCHANGEABLE: &str = "pod updates may not change fields other than \
    `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` \
    (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was \
    previously negative)";

/// The spec of a pod is fixed but for a few fields.
pub(crate) fn check(old: Option<&Value>, new: &Value) -> Vec<FieldError> {
    let Some(old) = old else { return Vec::new() };
    let (old_spec, new_spec) = (&old["spec"], &new["spec"]);
    if old_spec == new_spec {
        return Vec::new();
    }
    let mut causes = Vec::new();
    let (had, has) = (list(old, "/spec/tolerations"), list(new, "/spec/tolerations"));
    if had.iter().any(|toleration| !has.contains(toleration)) {
        let why = "existing toleration can not be modified except its tolerationSeconds";
        if !only_seconds_differ(had, has) {
            causes.push(forbidden("spec.tolerations", why));
        }
    }
    if fixed(old_spec, new_spec) != *old_spec {
        causes.push(forbidden("spec", UNCHANGEABLE));
    }
    causes
}

fn only_seconds_differ(had: &[Value], has: &[Value]) -> bool {
    let bare = |toleration: &Value| {
        let mut toleration = toleration.clone();
        if let Some(fields) = toleration.as_object_mut() {
            fields.remove("tolerationSeconds");
        }
        toleration
    };
    let has: Vec<Value> = has.iter().map(bare).collect();
    had.iter().map(bare).all(|toleration| has.contains(&toleration))
}

/// The new spec with what may change as it was.
fn fixed(old: &Value, new: &Value) -> Value {
    let mut fixed = new.clone();
    let negative = old["terminationGracePeriodSeconds"].as_i64().is_some_and(|seconds| seconds < 0);
    let grace = negative.then_some("terminationGracePeriodSeconds");
    for field in ["activeDeadlineSeconds", "tolerations", "schedulingGates"].into_iter().chain(grace) {
        crate::object::copy(field, old, &mut fixed);
    }
    for field in ["containers", "initContainers"] {
        let had = old[field].as_array().map(Vec::as_slice).unwrap_or_default();
        let Some(Value::Array(has)) = fixed.get_mut(field) else { continue };
        for (old, new) in had.iter().zip(has) {
            crate::object::copy("image", old, new);
        }
    }
    fixed
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_may_change() {
        let pod = |spec: Value| json!({"spec": spec});
        let old = json!({"containers": [{"name": "a", "image": "x"}], "tolerations": [{"key": "k"}]});
        let change = |edit: fn(&mut Value)| {
            let mut new = old.clone();
            edit(&mut new);
            check(Some(&pod(old.clone())), &pod(new)).len()
        };
        assert_eq!(change(|_| {}), 0);
        assert_eq!(change(|spec| spec["containers"][0]["image"] = "y".into()), 0);
        assert_eq!(change(|spec| spec["activeDeadlineSeconds"] = 5.into()), 0);
        assert_eq!(change(|spec| spec["tolerations"] = json!([{"key": "k"}, {"key": "l"}])), 0);
        assert_eq!(change(|spec| spec["tolerations"] = json!([{"key": "k", "tolerationSeconds": 1}])), 0);
        assert_eq!(change(|spec| spec["tolerations"] = json!([])), 1);
        assert_eq!(change(|spec| spec["nodeName"] = "n".into()), 1);
        assert_eq!(change(|spec| spec["containers"][0]["name"] = "b".into()), 1);
        assert_eq!(change(|spec| spec["containers"] = json!([])), 1);
    }
}
