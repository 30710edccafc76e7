//! Whether a pod fits a node, and which of those it fits is best.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, Service};

use super::ledger::Place;
use super::reason::{Reason, Refusal};
use super::resources::{HostPort, Resources, conflict, host_ports};
use super::score::Scorer;
use super::spread::{self, Spread};
use super::{affinity, taint};

/// The best node for `pod`, or why none will do. `services` are those of the pod's namespace.
pub(super) fn pick(pod: &Pod, nodes: &BTreeMap<String, Place>, services: &[Arc<Service>]) -> Result<String, Refusal> {
    let asked = Asked::new(pod, nodes);
    let scorer = Scorer::new(pod, services);
    let mut refusal = Refusal::default();
    let mut best: Option<(i64, &str)> = None;
    for (name, place) in nodes {
        let Some(node) = &place.node else { continue };
        refusal.nodes += 1;
        let reasons = asked.refusals(node, place);
        if !reasons.is_empty() {
            refusal.reasons.push(reasons);
            continue;
        }
        let score = scorer.score(node, place, &asked.resources);
        if best.is_none_or(|(highest, _)| score > highest) {
            best = Some((score, name));
        }
    }
    best.map(|(_, name)| name.to_owned()).ok_or(refusal)
}

/// What a pod asks of a node.
struct Asked<'a> {
    pod: &'a Pod,
    resources: Resources,
    ports: Vec<HostPort>,
    spreads: Vec<Spread>,
}

impl<'a> Asked<'a> {
    fn new(pod: &'a Pod, nodes: &BTreeMap<String, Place>) -> Asked<'a> {
        Asked {
            pod,
            resources: Resources::of_pod(pod),
            ports: host_ports(pod).into_iter().collect(),
            spreads: spread::constraints(pod, nodes),
        }
    }

    /// Why the node does not take the pod: the first filter that refuses, in kube-scheduler's order.
    fn refusals(&self, node: &Node, place: &Place) -> Vec<Reason> {
        if taint::cordoned(node, self.pod) {
            return vec![Reason::Cordoned];
        }
        if taint::keeps_away(node, self.pod) {
            return vec![Reason::Taint];
        }
        if !affinity::required(node, self.pod) {
            return vec![Reason::Affinity];
        }
        if self.ports.iter().any(|port| place.ports.iter().any(|(taken, _)| conflict(port, taken))) {
            return vec![Reason::Ports];
        }
        let short = self.shortages(place);
        if !short.is_empty() {
            return short;
        }
        self.spreads.iter().find_map(|spread| spread.refuses(node)).into_iter().collect()
    }

    fn shortages(&self, place: &Place) -> Vec<Reason> {
        let offered = &place.offered;
        let mut short = vec![];
        if (place.pods.len() as i128 + 1) * 1000 > offered.get("pods") {
            short.push(Reason::Pods);
        }
        for (name, amount) in self.resources.asked() {
            let all = offered.get(name);
            if amount > all - place.requested.get(name) {
                short.push(Reason::Resource { name: name.into(), ever: amount <= all });
            }
        }
        short
    }
}
