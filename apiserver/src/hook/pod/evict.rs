//! `POST …/eviction`: a deletion that the PodDisruptionBudgets agree with, which `kubectl drain` asks for.

use http::Response;
use schema::{Cause, LabelSelector};
use serde_json::{Value, json};

use crate::answer;
use crate::body::Body;
use crate::call::Call;
use crate::object::{self, is_deleting, list, text};
use crate::status::{Details, Status};
use crate::verb::{DeleteOptions, Part, modify, remove};

const BUDGETS: &str = "policy/poddisruptionbudgets";
/// Evictions of one budget that its controller has not seen yet.
const UNCONFIRMED: usize = 2000;

pub(crate) async fn evict(call: &Call) -> Result<Response<Body>, Status> {
    let eviction = call.read_other()?.unwrap_or_default();
    if !matches!(text(&eviction, "/metadata/name"), name if name.is_empty() || name == call.name) {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let mut options = DeleteOptions::read(&eviction["deleteOptions"])?;
    options.dry_run |= call.dry_run()?;
    let entry = call.server.store.get(&call.key()).ok_or_else(|| call.not_found())?;
    let pod = answer::read(&entry.bytes)?;
    if counts(&pod) {
        let mut budgets = budgets(call, &pod)?;
        if budgets.len() > 1 {
            let message =
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            return Err(Status::internal(message));
        }
        if let Some((name, budget)) = budgets.pop().filter(|(_, budget)| !unhealthy(&pod, budget)) {
            let mut of_budget = call.of(&store::Key::new(BUDGETS, call.namespace.as_str(), name.as_str()));
            of_budget.resource = call
                .server
                .registry
                .resource("policy", "v1", "poddisruptionbudgets")
                .ok_or_else(Status::no_such_path)?
                .clone();
            of_budget.stored = BUDGETS.into();
            of_budget.subresource = "status".into();
            of_budget.headers.insert(http::header::USER_AGENT, http::HeaderValue::from_static("kube-apiserver"));
            if options.dry_run {
                spend(&of_budget, &budget, &call.name)?;
            } else {
                modify(&of_budget, Part::Status, |budget| spend(&of_budget, budget, &call.name)).await?;
            }
        }
    }
    if !options.dry_run {
        modify(call, Part::All, |pod| Ok(marked(pod))).await?;
    }
    remove(call, &call.name, &options).await?;
    answer::value(call, 201, &json!(Status::created()), &[])
}

/// Pods that do no work yet or any more go without asking.
fn counts(pod: &Value) -> bool {
    !is_deleting(pod) && !matches!(text(pod, "/status/phase"), "Pending" | "Succeeded" | "Failed")
}

/// The budgets that select the pod, by name.
fn budgets(call: &Call, pod: &Value) -> Result<Vec<(String, Value)>, Status> {
    let (_, entries) = call.server.store.list(BUDGETS, Some(&call.namespace));
    let mut found = Vec::new();
    for entry in entries.iter() {
        let budget = answer::read(&entry.bytes)?;
        let selector = LabelSelector::from_object(budget.pointer("/spec/selector"));
        if selector.is_ok_and(|selector| selector.matches_labels(pod.pointer("/metadata/labels"))) {
            found.push((entry.key.name.to_string(), budget));
        }
    }
    Ok(found)
}

/// Pods that are not ready go when the budget is met without them, or always if the policy says so.
fn unhealthy(pod: &Value, budget: &Value) -> bool {
    let ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
    if list(pod, "/status/conditions").iter().any(ready) {
        return false;
    }
    let (healthy, desired) = (number(budget, "currentHealthy"), number(budget, "desiredHealthy"));
    text(budget, "/spec/unhealthyPodEvictionPolicy") == "AlwaysAllow" || (desired > 0 && healthy >= desired)
}

fn number(budget: &Value, field: &str) -> i64 {
    budget["status"][field].as_i64().unwrap_or(0)
}

/// The budget with one disruption less; 429 when none is left.
fn spend(call: &Call, budget: &Value, pod: &str) -> Result<Value, Status> {
    let name = &call.name;
    let allowed = number(budget, "disruptionsAllowed");
    if number(budget, "observedGeneration") < budget["metadata"]["generation"].as_i64().unwrap_or(0) {
        let why = format!("The disruption budget {name} is still being processed by the server.");
        return Err(too_many(why, Some(10)));
    }
    if allowed < 1 {
        let (desired, healthy) = (number(budget, "desiredHealthy"), number(budget, "currentHealthy"));
        let why = format!("The disruption budget {name} needs {desired} healthy pods and has {healthy} currently");
        return Err(too_many(why, None));
    }
    let mut spent = budget.clone();
    let status = object::map(&mut spent, "status");
    status.insert("disruptionsAllowed".into(), (allowed - 1).into());
    let evicted = status.entry("disruptedPods").or_insert_with(|| json!({}));
    if evicted.as_object().is_some_and(|evicted| evicted.len() >= UNCONFIRMED) {
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(Status::forbidden(&call.resource, name, why));
    }
    evicted[pod] = crate::admit::now().into();
    Ok(spent)
}

fn too_many(why: String, retry_after_seconds: Option<u32>) -> Status {
    let causes = vec![Cause { reason: "DisruptionBudget", message: why, field: String::new() }];
    let message = "Cannot evict pod as it would violate the pod's disruption budget.";
    let details = Details { causes, retry_after_seconds, ..Details::default() };
    Status::new(429, "TooManyRequests", message).with(details)
}

/// The pod with the condition that tells why it goes.
fn marked(pod: &Value) -> Value {
    let mut pod = pod.clone();
    let (reason, message) = ("EvictionByEvictionAPI", "Eviction API: evicting");
    let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message});
    super::set_condition(&mut pod, condition);
    pod
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_the_budget() {
        for (phase, asks) in [("Running", true), ("Pending", false), ("Failed", false), ("Succeeded", false)] {
            assert_eq!(counts(&json!({"status": {"phase": phase}})), asks, "{phase}");
        }
        let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {"phase": "Running"}});
        assert!(!counts(&going));
    }

    #[test]
    fn pods_that_are_not_ready() {
        let pod = |status: &str| json!({"status": {"conditions": [{"type": "Ready", "status": status}]}});
        let budget = |policy: &str, healthy: i64| {
            let status = json!({"currentHealthy": healthy, "desiredHealthy": 2});
            json!({"spec": {"unhealthyPodEvictionPolicy": policy}, "status": status})
        };
        for (ready, policy, healthy, free) in [
            ("True", "AlwaysAllow", 3, false),
            ("False", "AlwaysAllow", 0, true),
            ("False", "IfHealthyBudget", 2, true),
            ("False", "IfHealthyBudget", 1, false),
        ] {
            assert_eq!(unhealthy(&pod(ready), &budget(policy, healthy)), free, "{ready} {policy} {healthy}");
        }
    }
}
