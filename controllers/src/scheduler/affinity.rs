//! Which nodes a pod asks for: nodeSelector and node affinity.

use k8s_openapi::api::core::v1::{Node, NodeAffinity, NodeSelectorRequirement, NodeSelectorTerm, Pod};

fn affinity(pod: &Pod) -> Option<&NodeAffinity> {
    pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()
}

/// Whether the node is one that the pod requires.
pub(super) fn required(node: &Node, pod: &Pod) -> bool {
    let labels = node.metadata.labels.clone().unwrap_or_default();
    let mut selector = pod.spec.iter().flat_map(|spec| spec.node_selector.iter().flatten());
    if !selector.all(|(name, value)| labels.get(name) == Some(value)) {
        return false;
    }
    let required = affinity(pod).and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    required.is_none_or(|selector| selector.node_selector_terms.iter().any(|term| matches(term, node)))
}

/// The weights of the preferences that the node meets.
pub(super) fn preferred(node: &Node, pod: &Pod) -> i64 {
    let preferred = affinity(pod).and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
    let met = preferred.into_iter().flatten().filter(|term| matches(&term.preference, node));
    met.map(|term| i64::from(term.weight)).sum()
}

/// A term without requirements matches nothing.
fn matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    let by_label = |r: &NodeSelectorRequirement| meets(r, labels.and_then(|l| l.get(&r.key)).map(String::as_str));
    let by_field = |r: &NodeSelectorRequirement| r.key == "metadata.name" && meets(r, node.metadata.name.as_deref());
    let expressions: Vec<_> = term.match_expressions.iter().flatten().collect();
    let fields: Vec<_> = term.match_fields.iter().flatten().collect();
    !(expressions.is_empty() && fields.is_empty())
        && expressions.into_iter().all(by_label)
        && fields.into_iter().all(by_field)
}

fn meets(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.clone().unwrap_or_default();
    let among = |value: &str| values.iter().any(|v| v == value);
    let number = |text: &str| text.parse::<i64>().ok();
    let limit = || values.first().and_then(|v| number(v));
    match requirement.operator.as_str() {
        "In" => value.is_some_and(among),
        "NotIn" => !value.is_some_and(among),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => value.and_then(number).zip(limit()).is_some_and(|(value, limit)| value > limit),
        "Lt" => value.and_then(number).zip(limit()).is_some_and(|(value, limit)| value < limit),
        _ => false,
    }
}
