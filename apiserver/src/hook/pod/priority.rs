//! What the admission plugin Priority does: a pod's priority is that of its class.

use serde_json::Value;

use crate::answer;
use crate::call::Call;
use crate::object::{self, text};
use crate::status::Status;

const CLASSES: &str = "scheduling.k8s.io/priorityclasses";
/// The classes of the system are there without being stored.
const SYSTEM: [(&str, i64); 2] = [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];

/// Resolves the class of a new pod; 403 when there is none of that name, or the pod claims another priority.
pub(crate) fn admit(call: &Call, pod: &mut Value) -> Result<(), Status> {
    let classes = call.server.store.list(CLASSES, None).1;
    let classes = classes.iter().map(|entry| answer::read(&entry.bytes)).collect::<Result<Vec<_>, _>>()?;
    let refuse = |why: String| Status::forbidden(&call.resource, text(pod, "/metadata/name"), &why);
    let class = class(&classes, text(pod, "/spec/priorityClassName")).map_err(refuse)?;
    if let Some(claimed) = pod["spec"]["priority"].as_i64().filter(|claimed| *claimed != class.value) {
        return Err(refuse(format!(
            "the integer value of priority ({claimed}) must not be provided in pod spec; priority admission controller \
             computed {} from the given PriorityClass name",
            class.value
        )));
    }
    let (value, name, policy) = (class.value, class.name.to_owned(), class.policy.to_owned());
    let spec = object::map(pod, "spec");
    spec.insert("priority".into(), value.into());
    spec.entry("preemptionPolicy").or_insert_with(|| policy.into());
    if !name.is_empty() {
        spec.insert("priorityClassName".into(), name.into());
    }
    Ok(())
}

#[derive(Debug, PartialEq)]
struct Class<'a> {
    /// "" is no class.
    name: &'a str,
    value: i64,
    policy: &'a str,
}

/// The class of that name; the one that is everybody's for "".
fn class<'a>(classes: &'a [Value], name: &'a str) -> Result<Class<'a>, String> {
    let of = |class: &'a Value| Class {
        name: text(class, "/metadata/name"),
        value: class["value"].as_i64().unwrap_or(0),
        policy: match text(class, "/preemptionPolicy") {
            "" => "PreemptLowerPriority",
            policy => policy,
        },
    };
    if name.is_empty() {
        let defaults = classes.iter().filter(|class| class["globalDefault"] == true).map(of);
        let none = Class { name: "", value: 0, policy: "PreemptLowerPriority" };
        return Ok(defaults.min_by_key(|class| class.value).unwrap_or(none));
    }
    let stored = classes.iter().find(|class| text(class, "/metadata/name") == name).map(of);
    let system = SYSTEM.iter().find(|(system, _)| *system == name);
    let system = system.map(|(name, value)| Class { name, value: *value, policy: "PreemptLowerPriority" });
    stored.or(system).ok_or_else(|| format!("no PriorityClass with name {name} was found"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn classes() {
        let stored = [
            json!({"metadata": {"name": "high"}, "value": 100, "preemptionPolicy": "Never"}),
            json!({"metadata": {"name": "usual"}, "value": 5, "globalDefault": true}),
        ];
        for (classes, name, expected) in [
            (&stored[..], "high", Some(("high", 100, "Never"))),
            (&stored[..], "", Some(("usual", 5, "PreemptLowerPriority"))),
            (&stored[..1], "", Some(("", 0, "PreemptLowerPriority"))),
            (&[], "system-node-critical", Some(("system-node-critical", 2_000_001_000, "PreemptLowerPriority"))),
            (&stored[..], "low", None),
        ] {
            let expected = expected.map(|(name, value, policy)| Class { name, value, policy });
            assert_eq!(class(classes, name).ok(), expected, "{name}");
        }
    }
}
