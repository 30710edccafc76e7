//! Facts about pods that several controllers ask for.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};

pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

/// All containers have ended for good.
pub(crate) fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

pub(crate) fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Neither finished nor on its way out: counts as a replica.
pub(crate) fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && !is_terminating(pod)
}

pub(crate) fn node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).filter(|name| !name.is_empty())
}

pub(crate) fn ip(pod: &Pod) -> Option<&str> {
    pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()).filter(|ip| !ip.is_empty())
}

/// Its addresses, one for each family it has; the first is its main one.
pub(crate) fn ips(pod: &Pod) -> Vec<&str> {
    let all = pod.status.iter().flat_map(|status| status.pod_ips.iter().flatten()).map(|ip| ip.ip.as_str());
    let all: Vec<&str> = all.filter(|ip| !ip.is_empty()).collect();
    if all.is_empty() { ip(pod).into_iter().collect() } else { all }
}

pub(crate) fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|condition| condition.status == "True")
}

/// When its readiness last changed.
pub(crate) fn readiness_changed(pod: &Pod) -> Option<Timestamp> {
    condition(pod, "Ready")?.last_transition_time.as_ref().map(|time| time.0)
}

/// Since when a ready pod is ready.
pub(crate) fn ready_since(pod: &Pod) -> Option<Timestamp> {
    if is_ready(pod) { readiness_changed(pod) } else { None }
}

/// Ready for at least `min_ready`.
pub(crate) fn is_available(pod: &Pod, min_ready: Duration, now: Timestamp) -> bool {
    is_ready(pod) && (min_ready.is_zero() || ready_since(pod).is_some_and(|since| elapsed(since, now) >= min_ready))
}

/// How long ago `since` was; zero when it is in the future.
pub(crate) fn elapsed(since: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(since)).unwrap_or_default()
}

/// Sets a condition; answers whether anything changed. The transition time moves only with the status.
pub(crate) fn set_condition(pod: &mut Pod, new: PodCondition, now: Timestamp) -> bool {
    let conditions = pod.status.get_or_insert_default().conditions.get_or_insert_default();
    let Some(old) = conditions.iter_mut().find(|old| old.type_ == new.type_) else {
        conditions.push(PodCondition { last_transition_time: Some(Time(now)), ..new });
        return true;
    };
    if old.status == new.status && old.reason == new.reason && old.message == new.message {
        return false;
    }
    let moved = old.status != new.status;
    let since = if moved { Some(Time(now)) } else { old.last_transition_time.clone() };
    *old = PodCondition { last_transition_time: since, ..new };
    true
}

/// A pod from a template, named by the API server after its owner.
pub(crate) fn from_template(
    template: &PodTemplateSpec,
    namespace: &str,
    owner_name: &str,
    owner: OwnerReference,
) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{owner_name}-")),
            namespace: Some(namespace.into()),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner]),
            ..Default::default()
        },
        spec: Some(template.spec.clone().unwrap_or_default()),
        status: None,
    }
}
