//! Other resources for containers that run (`kubectl patch --subresource resize`, KEP-1287).

use super::{Event, Task, Worker, containers, limits, path, record::Run};
use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};

impl Worker {
    /// Begins to give running containers the resources that the spec has now, once for each change.
    pub(super) fn resize(&mut self, spec: &PodSpec) {
        let Some(shim) = self.shim.clone() else { return };
        for (_, container) in containers(spec) {
            let name = &container.name;
            let wanted = container.resources.clone().unwrap_or_default();
            let Some(slot) = self.record.slots.get(name) else { continue };
            let attempt = slot.attempt(name);
            let given = self.resizes.get(&attempt).map_or(&slot.resources, |(tried, _)| tried);
            if !matches!(slot.run, Run::Running { .. }) || *given == wanted {
                continue;
            }
            if restarts(&container, given, &wanted) {
                self.stop_one(name, self.grace(), format!("Container {name} resize requires restart"));
                continue;
            }
            let (own, pod) = (limits::limits(Some(&wanted)), limits::pod_limits(spec));
            let (shim, tell, name, of) = (shim.clone(), self.tell.clone(), name.clone(), attempt.clone());
            let resources = wanted.clone();
            let task = Task::spawn(async move {
                let done = shim.limit(&of, &own, &pod).await.map_err(|error| error.to_string());
                let _ = tell.send(Event::Resized { name, attempt: of, resources, done }).await;
            });
            self.resizes.insert(attempt, (wanted, task));
        }
    }

    /// Resources were given, or not; what failed is tried again when others are wanted.
    pub(super) fn resized(
        &mut self,
        name: &str,
        attempt: &str,
        resources: ResourceRequirements,
        done: Result<(), String>,
    ) {
        let Some(slot) = self.record.slots.get_mut(name).filter(|slot| slot.attempt(name) == attempt) else { return };
        match done {
            Ok(()) => {
                slot.resources = resources;
                self.save();
            }
            Err(error) => {
                let path = self.container(name).map(|(kind, _)| path(kind, name)).unwrap_or_default();
                self.pods.note(&self.pod, &path, true, "ResizeError", format!("failed to resize: {error}"));
            }
        }
    }
}

/// Whether what changes is not to be changed while the container runs (`resizePolicy`).
fn restarts(container: &Container, given: &ResourceRequirements, wanted: &ResourceRequirements) -> bool {
    let amounts = |resources: &ResourceRequirements, name: &str| {
        [&resources.limits, &resources.requests].map(|map| map.as_ref().and_then(|map| map.get(name).cloned()))
    };
    let mut policies = container.resize_policy.iter().flatten();
    policies.any(|policy| {
        let name = &policy.resource_name;
        policy.restart_policy == "RestartContainer" && amounts(given, name) != amounts(wanted, name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_policy_is_about_its_resource() {
        let policy = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
        let container = |policy| serde_json::from_value(json!({"name": "c", "resizePolicy": policy})).unwrap();
        let resources = |cpu: &str, memory: &str| {
            serde_json::from_value(json!({"limits": {"cpu": cpu, "memory": memory}})).unwrap()
        };
        for (policy, wanted, expected) in [
            (policy.clone(), resources("1", "2Gi"), true),
            (policy, resources("2", "1Gi"), false),
            (json!([]), resources("2", "2Gi"), false),
        ] {
            assert_eq!(restarts(&container(policy), &resources("1", "1Gi"), &wanted), expected, "{wanted:?}");
        }
    }
}
