//! Why no node takes a pod, in kube-scheduler's words.

use std::collections::BTreeMap;
use std::fmt;

/// Why one node does not take a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    Cordoned,
    Affinity,
    Taint,
    Ports,
    Pods,
    /// Not enough of this resource; `ever` is false when not even an empty node had enough.
    Resource {
        name: String,
        ever: bool,
    },
    Spread,
    SpreadLabel,
}

impl Reason {
    /// Whether other pods leaving the node could help.
    fn is_helped_by_preemption(&self) -> bool {
        match self {
            Reason::Ports | Reason::Pods | Reason::Spread => true,
            Reason::Resource { ever, .. } => *ever,
            Reason::Cordoned | Reason::Affinity | Reason::Taint | Reason::SpreadLabel => false,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Cordoned => "node(s) were unschedulable",
            Reason::Affinity => "node(s) didn't match Pod's node affinity/selector",
            Reason::Taint => "node(s) had untolerated taint(s)",
            Reason::Ports => "node(s) didn't have free ports for the requested pod ports",
            Reason::Pods => "Too many pods",
            Reason::Resource { name, .. } => return write!(f, "Insufficient {name}"),
            Reason::Spread => "node(s) didn't match pod topology spread constraints",
            Reason::SpreadLabel => "node(s) didn't match pod topology spread constraints (missing required label)",
        })
    }
}

/// The reasons of all nodes.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Refusal {
    pub(super) nodes: usize,
    pub(super) reasons: Vec<Vec<Reason>>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for reason in self.reasons.iter().flatten() {
            *counts.entry(reason.to_string()).or_default() += 1;
        }
        let helped = self.reasons.iter().filter(|node| node.iter().all(Reason::is_helped_by_preemption)).count();
        let mut preemption = BTreeMap::new();
        preemption.insert("No preemption victims found for incoming pod", helped);
        preemption.insert("Preemption is not helpful for scheduling", self.nodes - helped);
        let (head, tail) = (list(counts), list(preemption));
        let total = self.nodes;
        write!(f, "0/{total} nodes are available: {head}. ")?;
        write!(f, "no new claims to deallocate, preemption: 0/{total} nodes are available: {tail}.")
    }
}

fn list<T: fmt::Display>(counts: BTreeMap<T, usize>) -> String {
    let mut texts: Vec<String> =
        counts.into_iter().filter(|(_, n)| *n > 0).map(|(reason, n)| format!("{n} {reason}")).collect();
    texts.sort();
    texts.join(", ")
}
