//! How well a node that fits suits a pod: spread first, then preferences, then room.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kube::core::{Selector, SelectorExt};

use super::ledger::Place;
use super::resources::Resources;
use super::{affinity, taint};
use crate::owner;

/// One more pod of the same set or Service on a node weighs more than any difference in room.
const SIBLING: i64 = 1000;
const DISCOURAGED: i64 = 500;
const PREFERENCE: i64 = 20;

/// Scores nodes for one pod.
pub(super) struct Scorer<'a> {
    pod: &'a Pod,
    controller: Option<&'a str>,
    services: Vec<Selector>,
}

impl<'a> Scorer<'a> {
    pub(super) fn new(pod: &'a Pod, services: &[Arc<Service>]) -> Scorer<'a> {
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        let selectors = services.iter().filter_map(|service| service.spec.as_ref()?.selector.clone());
        let services = selectors.filter(|selector| !selector.is_empty()).map(Selector::from_iter);
        Scorer {
            pod,
            controller: owner::controller(&pod.metadata).map(|owner| owner.uid.as_str()),
            services: services.filter(|selector| selector.matches(&labels)).collect(),
        }
    }

    /// Higher is better; 0 to 100 of it is free room.
    pub(super) fn score(&self, node: &Node, place: &Place, asked: &Resources) -> i64 {
        let siblings = self.siblings(place) as i64;
        let discouraged = taint::discouraging(node, self.pod) as i64;
        room(place, asked) + PREFERENCE * affinity::preferred(node, self.pod)
            - SIBLING * siblings
            - DISCOURAGED * discouraged
    }

    /// How many pods of the same controller are there; of the same Services for a pod without one.
    fn siblings(&self, place: &Place) -> usize {
        if let Some(controller) = self.controller {
            return place.controlled.get(controller).copied().unwrap_or(0);
        }
        if self.services.is_empty() {
            return 0;
        }
        let same = |other: &&Arc<Pod>| {
            other.metadata.namespace == self.pod.metadata.namespace
                && self.services.iter().any(|selector| owner::matches(selector, &other.metadata))
        };
        place.pods.values().filter(same).count()
    }
}

/// The free part of processor, memory and pod slots after the pod is there, averaged, in percent.
fn room(place: &Place, asked: &Resources) -> i64 {
    let free = |name: &str, used: i128| {
        let all = place.offered.get(name);
        if all <= 0 { 0 } else { ((all - used).max(0) * 100 / all) as i64 }
    };
    let of = |name: &str| free(name, place.requested.get(name) + asked.get(name));
    (of("cpu") + of("memory") + free("pods", (place.pods.len() as i128 + 1) * 1000)) / 3
}
