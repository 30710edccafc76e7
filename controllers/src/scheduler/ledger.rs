//! What is on which node, and which pods wait.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use tokio::time::Instant;

use super::resources::{HostPort, Resources, host_ports};
use crate::cache::{Change, Key};
use crate::{owner, pod};

/// A refused pod is tried again at once when the cluster changes, this many times; then less and less often.
const FREE_TRIES: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A refused pod is tried again after this even when nothing changed.
const PARKED: Duration = Duration::from_secs(300);

/// A node with the pods on it, those assumed to be included.
#[derive(Default)]
pub(super) struct Place {
    pub(super) node: Option<Arc<Node>>,
    /// What the node offers to pods.
    pub(super) offered: Resources,
    pub(super) pods: BTreeMap<Key, Arc<Pod>>,
    pub(super) requested: Resources,
    pub(super) ports: BTreeSet<(HostPort, Key)>,
    /// How many of the pods each controller has here, by its uid.
    pub(super) controlled: HashMap<String, usize>,
}

#[derive(Default)]
pub(super) struct Ledger {
    nodes: BTreeMap<String, Place>,
    /// Pods to schedule: highest priority first, then in the order they came.
    waiting: BTreeMap<(Reverse<i32>, u64), Arc<Pod>>,
    /// Where each waiting pod stands.
    turns: HashMap<Key, (Reverse<i32>, u64)>,
    parked: HashMap<Key, Parked>,
    /// Pods whose binding is on its way, and the node they are counted on.
    assumed: HashMap<Key, (Arc<Pod>, String)>,
    tries: HashMap<Key, u32>,
    came: u64,
}

struct Parked {
    pod: Arc<Pod>,
    not_before: Instant,
    at_the_latest: Instant,
    /// Something changed that may let it fit.
    hopeful: bool,
}

impl Ledger {
    /// The nodes there are, by name.
    pub(super) fn nodes(&self) -> &BTreeMap<String, Place> {
        &self.nodes
    }

    pub(super) fn pod(&mut self, change: &Change<Pod>, now: Instant) {
        let Some(pod) = change.newest() else { return };
        let key = Key::of(&pod.metadata);
        if let Some(before) = &change.before {
            let leaves = change.after.as_ref().is_none_or(|after| {
                pod::is_finished(after) || pod::node(after) != pod::node(before) || labels_differ(before, after)
            });
            self.lift(&key, before);
            if leaves {
                self.hope(now);
            }
        }
        self.drop_waiting(&key);
        let Some(after) = change.after.as_ref().filter(|after| !pod::is_finished(after)) else {
            self.unplace(&key);
            self.parked.remove(&key);
            self.tries.remove(&key);
            return;
        };
        if let Some(node) = pod::node(after) {
            self.unplace(&key);
            self.parked.remove(&key);
            self.tries.remove(&key);
            self.put(&key, after, node);
        } else if !is_ours(after) {
            self.unplace(&key);
            self.parked.remove(&key);
        } else if let Some(parked) = self.parked.get_mut(&key) {
            // Mostly our own status write; a change of what it asks for is worth another look.
            let spec_changed = parked.pod.spec != after.spec;
            parked.pod = after.clone();
            if spec_changed {
                self.parked.remove(&key);
                self.wait(key, after.clone());
            }
        } else if !self.assumed.contains_key(&key) {
            self.wait(key, after.clone());
        }
    }

    pub(super) fn node(&mut self, change: &Change<Node>, now: Instant) {
        let Some(name) = change.newest().and_then(|node| node.metadata.name.clone()) else {
            return;
        };
        let place = self.nodes.entry(name.clone()).or_default();
        place.node = change.after.clone();
        place.offered = place.node.as_deref().map(Resources::of_node).unwrap_or_default();
        if place.node.is_none() && place.pods.is_empty() {
            self.nodes.remove(&name);
        }
        if offers_differ(change) {
            self.hope(now);
        }
    }

    /// The next pod to schedule.
    pub(super) fn next(&mut self) -> Option<Arc<Pod>> {
        let (_, pod) = self.waiting.pop_first()?;
        self.turns.remove(&Key::of(&pod.metadata));
        Some(pod)
    }

    /// Counts the pod on `node` before the API server has said so.
    pub(super) fn assume(&mut self, pod: &Arc<Pod>, node: &str) {
        let key = Key::of(&pod.metadata);
        self.put(&key, pod, node);
        self.assumed.insert(key, (pod.clone(), node.into()));
    }

    /// The binding failed: the pod is taken off again and waits, if it is still there.
    pub(super) fn unassume(&mut self, pod: &Arc<Pod>, now: Instant) {
        let key = Key::of(&pod.metadata);
        let same = |(assumed, _): &(Arc<Pod>, String)| assumed.metadata.uid == pod.metadata.uid;
        if self.assumed.get(&key).is_some_and(same) {
            self.unplace(&key);
            self.park(pod, now);
            self.hope(now);
        }
    }

    /// Lays a refused pod aside until something changes.
    pub(super) fn park(&mut self, pod: &Arc<Pod>, now: Instant) {
        let key = Key::of(&pod.metadata);
        let tries = self.tries.entry(key.clone()).or_default();
        *tries += 1;
        let pause = match tries.checked_sub(FREE_TRIES) {
            None | Some(0) => Duration::ZERO,
            Some(n) => FIRST_PAUSE.saturating_mul(1 << n.min(8)).min(LONGEST_PAUSE),
        };
        let parked = Parked { pod: pod.clone(), not_before: now + pause, at_the_latest: now + PARKED, hopeful: false };
        self.parked.insert(key, parked);
    }

    /// Something changed: refused pods may fit now.
    fn hope(&mut self, now: Instant) {
        for parked in self.parked.values_mut() {
            parked.hopeful = true;
        }
        self.retry(now);
    }

    /// When a parked pod is to be tried again.
    pub(super) fn next_retry(&self) -> Option<Instant> {
        self.parked.values().map(Parked::due).min()
    }

    /// Puts the parked pods whose time has come in line again.
    pub(super) fn retry(&mut self, now: Instant) {
        let due = self.parked.iter().filter(|(_, parked)| parked.due() <= now);
        let keys: BTreeSet<Key> = due.map(|(key, _)| key.clone()).collect();
        for key in keys {
            if let Some(parked) = self.parked.remove(&key) {
                self.wait(key, parked.pod);
            }
        }
    }

    fn wait(&mut self, key: Key, pod: Arc<Pod>) {
        self.came += 1;
        let priority = pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0);
        let turn = (Reverse(priority), self.came);
        self.waiting.insert(turn, pod);
        self.turns.insert(key, turn);
    }

    fn drop_waiting(&mut self, key: &Key) {
        if let Some(turn) = self.turns.remove(key) {
            self.waiting.remove(&turn);
        }
    }

    fn put(&mut self, key: &Key, pod: &Arc<Pod>, node: &str) {
        let place = self.nodes.entry(node.into()).or_default();
        if let Some(owner) = owner::controller(&pod.metadata) {
            *place.controlled.entry(owner.uid.clone()).or_default() += 1;
        }
        place.requested.add(&Resources::of_pod(pod));
        place.ports.extend(host_ports(pod).into_iter().map(|port| (port, key.clone())));
        place.pods.insert(key.clone(), pod.clone());
    }

    /// Takes a bound pod off its node.
    fn lift(&mut self, key: &Key, pod: &Arc<Pod>) {
        if let Some(node) = pod::node(pod).map(str::to_owned) {
            self.take_off(key, &node);
        }
    }

    /// Takes an assumed pod off its node.
    fn unplace(&mut self, key: &Key) {
        if let Some((_, node)) = self.assumed.remove(key) {
            self.take_off(key, &node);
        }
    }

    fn take_off(&mut self, key: &Key, node: &str) {
        let Some(place) = self.nodes.get_mut(node) else {
            return;
        };
        if let Some(pod) = place.pods.remove(key) {
            place.requested.subtract(&Resources::of_pod(&pod));
            let uid = owner::controller(&pod.metadata).map(|owner| &owner.uid);
            if let Some(count) = uid.and_then(|uid| place.controlled.get_mut(uid)) {
                *count -= 1;
            }
            place.controlled.retain(|_, count| *count > 0);
            place.ports.retain(|(_, owner)| owner != key);
        }
        if place.pods.is_empty() && place.node.is_none() {
            self.nodes.remove(node);
        }
    }
}

impl Parked {
    fn due(&self) -> Instant {
        if self.hopeful { self.not_before } else { self.at_the_latest }
    }
}

/// Pods that are on their way out, gated, or another scheduler's are left alone.
fn is_ours(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    let scheduler = spec.and_then(|spec| spec.scheduler_name.as_deref()).unwrap_or(super::COMPONENT);
    let gated = spec.and_then(|spec| spec.scheduling_gates.as_ref()).is_some_and(|gates| !gates.is_empty());
    scheduler == super::COMPONENT && !gated && !pod::is_terminating(pod)
}

fn labels_differ(before: &Pod, after: &Pod) -> bool {
    before.metadata.labels != after.metadata.labels
}

/// Whether a node changed in what it offers; heartbeats do not count.
fn offers_differ(change: &Change<Node>) -> bool {
    let (Some(before), Some(after)) = (&change.before, &change.after) else {
        return true;
    };
    let allocatable = |node: &Node| node.status.as_ref().and_then(|status| status.allocatable.clone());
    before.metadata.labels != after.metadata.labels
        || before.spec != after.spec
        || allocatable(before) != allocatable(after)
}
