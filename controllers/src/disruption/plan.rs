use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::deployment::part;
use crate::pod;

/// How long a pod that the API server said it evicts may take until its deletion is seen.
const EVICTION: Duration = Duration::from_secs(120);

/// The budget is about the pods that controllers want, not about those that are there.
pub(super) fn counts_controllers(budget: &PodDisruptionBudget) -> bool {
    let spec = budget.spec.as_ref();
    let least = spec.and_then(|spec| spec.min_available.as_ref());
    matches!(least, Some(IntOrString::String(_))) || spec.is_some_and(|spec| spec.max_unavailable.is_some())
}

/// The status of a budget over these pods, whose controllers want `sizes` pods; and when to look again.
pub(super) fn plan(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    sizes: i32,
    now: Timestamp,
) -> (PodDisruptionBudgetStatus, Option<Duration>) {
    let before = budget.status.clone().unwrap_or_default();
    let mut again = None;
    let mut evicted = BTreeMap::new();
    for (name, since) in before.disrupted_pods.into_iter().flatten() {
        let pod = pods.iter().find(|pod| pod.metadata.name.as_ref() == Some(&name));
        let left = EVICTION.saturating_sub(pod::elapsed(since.0, now));
        if pod.is_some_and(|pod| !pod::is_terminating(pod)) && !left.is_zero() {
            again = again.max(Some(left));
            evicted.insert(name, since);
        }
    }
    let is_evicted = |pod: &Pod| pod.metadata.name.as_ref().is_some_and(|name| evicted.contains_key(name));
    let healthy = pods.iter().filter(|pod| !pod::is_terminating(pod) && !is_evicted(pod) && pod::is_ready(pod));
    let healthy = count(healthy.count());
    let (expected, desired) = needs(budget, pods.len(), sizes);
    let allowed = if expected > 0 { (healthy - desired).max(0) } else { 0 };
    let status = PodDisruptionBudgetStatus {
        conditions: Some(vec![condition(budget, allowed > 0, now)]),
        current_healthy: Some(healthy),
        desired_healthy: Some(desired),
        disrupted_pods: Some(evicted).filter(|evicted| !evicted.is_empty()),
        disruptions_allowed: Some(allowed),
        expected_pods: Some(expected),
        observed_generation: budget.metadata.generation,
    };
    (status, again)
}

/// The pods that there should be, and how many of them healthy. Percentages round up.
fn needs(budget: &PodDisruptionBudget, pods: usize, sizes: i32) -> (i32, i32) {
    let spec = budget.spec.clone().unwrap_or_default();
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => (sizes, (sizes - part(Some(most), sizes, true)).max(0)),
        (None, Some(least @ IntOrString::String(_))) => (sizes, part(Some(least), sizes, true)),
        (None, Some(IntOrString::Int(least))) => (count(pods), *least),
        (None, None) => (0, 0),
    }
}

fn count(pods: usize) -> i32 {
    i32::try_from(pods).unwrap_or(i32::MAX)
}

fn condition(budget: &PodDisruptionBudget, allowed: bool, now: Timestamp) -> Condition {
    let (status, reason) = if allowed { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    let old = budget.status.as_ref().and_then(|status| status.conditions.as_ref()?.first());
    let since = old.filter(|old| old.status == status).map(|old| old.last_transition_time.clone());
    Condition {
        type_: "DisruptionAllowed".into(),
        status: status.into(),
        reason: reason.into(),
        message: String::new(),
        observed_generation: budget.metadata.generation,
        last_transition_time: since.unwrap_or(Time(now)),
    }
}
