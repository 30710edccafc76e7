//! Topology spread constraints that must hold (`DoNotSchedule`).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Pod, TopologySpreadConstraint};
use kube::core::{Expression, Selector};

use super::ledger::Place;
use super::reason::Reason;
use super::{affinity, taint};
use crate::owner;
use crate::pod;

/// One constraint with how many matching pods each domain has.
pub(super) struct Spread {
    key: String,
    max_skew: i64,
    min_domains: usize,
    counts: BTreeMap<String, i64>,
    /// Whether the pod itself counts.
    own: i64,
}

/// The constraints of `pod`, counted over `nodes`.
pub(super) fn constraints(pod: &Pod, nodes: &BTreeMap<String, Place>) -> Vec<Spread> {
    let all = pod.spec.iter().flat_map(|spec| spec.topology_spread_constraints.iter().flatten());
    let strict: Vec<_> = all.filter(|c| c.when_unsatisfiable == "DoNotSchedule").collect();
    strict.iter().map(|constraint| count(constraint, &strict, pod, nodes)).collect()
}

fn count(
    constraint: &TopologySpreadConstraint,
    all: &[&TopologySpreadConstraint],
    pod: &Pod,
    nodes: &BTreeMap<String, Place>,
) -> Spread {
    let selector = selector(constraint, pod);
    let fits = |other: &Pod| selector.as_ref().is_some_and(|s| owner::matches(s, &other.metadata));
    let mut counts = BTreeMap::new();
    for place in nodes.values() {
        let Some(node) = &place.node else { continue };
        if !counted(constraint, all, node, pod) {
            continue;
        }
        let Some(domain) = label(node, &constraint.topology_key) else {
            continue;
        };
        let same = place.pods.values().filter(|other| {
            other.metadata.namespace == pod.metadata.namespace && !pod::is_terminating(other) && fits(other)
        });
        *counts.entry(domain.to_owned()).or_insert(0) += same.count() as i64;
    }
    Spread {
        key: constraint.topology_key.clone(),
        max_skew: i64::from(constraint.max_skew),
        min_domains: constraint.min_domains.unwrap_or(1).max(1) as usize,
        counts,
        own: i64::from(fits(pod)),
    }
}

/// Whether the node's domain counts: it has all keys, and the policies let it.
fn counted(constraint: &TopologySpreadConstraint, all: &[&TopologySpreadConstraint], node: &Node, pod: &Pod) -> bool {
    let affine = constraint.node_affinity_policy.as_deref() == Some("Ignore") || affinity::required(node, pod);
    let taints = constraint.node_taints_policy.as_deref() == Some("Honor") && taint::keeps_away(node, pod);
    affine && !taints && all.iter().all(|c| label(node, &c.topology_key).is_some())
}

fn selector(constraint: &TopologySpreadConstraint, pod: &Pod) -> Option<Selector> {
    let mut selector = Selector::try_from(constraint.label_selector.clone()?).ok()?;
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    for key in constraint.match_label_keys.iter().flatten() {
        if let Some(value) = labels.get(key) {
            selector.extend(Expression::Equal(key.clone(), value.clone()));
        }
    }
    Some(selector)
}

fn label<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    node.metadata.labels.as_ref()?.get(key).map(String::as_str)
}

impl Spread {
    /// Why the pod cannot go to `node`, if it cannot.
    pub(super) fn refuses(&self, node: &Node) -> Option<Reason> {
        let Some(domain) = label(node, &self.key) else {
            return Some(Reason::SpreadLabel);
        };
        let fewest = match self.counts.len() < self.min_domains {
            true => 0,
            false => self.counts.values().copied().min().unwrap_or(0),
        };
        let here = self.counts.get(domain).copied().unwrap_or(0);
        (here + self.own - fewest > self.max_skew).then_some(Reason::Spread)
    }
}
