//! Taints and tolerations.

use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};

/// Whether `toleration` covers `taint`.
pub(crate) fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let same_effect = given(&toleration.effect).is_none_or(|effect| effect == taint.effect);
    let same_key = given(&toleration.key).is_none_or(|key| key == taint.key);
    let exists = toleration.operator.as_deref() == Some("Exists");
    let value = |text: &Option<String>| text.clone().unwrap_or_default();
    let keyed = given(&toleration.key).is_some();
    same_effect && same_key && (exists || keyed && value(&toleration.value) == value(&taint.value))
}

fn tolerated(pod: &Pod, taint: &Taint) -> bool {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_ref());
    tolerations.into_iter().flatten().any(|toleration| tolerates(toleration, taint))
}

fn taints(node: &Node) -> impl Iterator<Item = &Taint> {
    node.spec.as_ref().and_then(|spec| spec.taints.as_ref()).into_iter().flatten()
}

/// Whether a taint of the node keeps the pod away.
pub(super) fn keeps_away(node: &Node, pod: &Pod) -> bool {
    taints(node).any(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute") && !tolerated(pod, taint))
}

/// How many taints would rather not have the pod.
pub(super) fn discouraging(node: &Node, pod: &Pod) -> usize {
    taints(node).filter(|taint| taint.effect == "PreferNoSchedule" && !tolerated(pod, taint)).count()
}

/// A cordoned node takes only pods that tolerate the taint that cordoning amounts to.
pub(super) fn cordoned(node: &Node, pod: &Pod) -> bool {
    let cordon =
        Taint { key: "node.kubernetes.io/unschedulable".into(), effect: "NoSchedule".into(), ..Default::default() };
    node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) && !tolerated(pod, &cordon)
}
