//! What to do next for a pod: its spec × what its containers do × the time, nothing else.

use super::record::{Record, Run, Slot};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, PodSpec};
use std::borrow::Cow;

/// How long a failed pull is shown as ErrImagePull before it becomes ImagePullBackOff.
pub(crate) const PULL_SHOWN: SignedDuration = SignedDuration::from_secs(2);

/// What to do next.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Plan {
    /// The containers to start now, in this order.
    pub(crate) start: Vec<String>,
    /// When to plan again even if nothing happens.
    pub(crate) wake: Option<Timestamp>,
    /// The pod is done: end what still runs, release everything.
    pub(crate) outcome: Option<Outcome>,
    /// All init containers are done (or started, for sidecars).
    pub(crate) initialized: bool,
}

/// How a pod ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    Succeeded,
    /// With the pod's reason and message, when it has one beyond its containers'.
    Failed(Option<(&'static str, &'static str)>),
}

/// The role of a container in its pod.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Init,
    /// An init container with `restartPolicy: Always`.
    Sidecar,
    App,
    /// Added to a pod that runs, and started once.
    Ephemeral,
}

/// The containers of a pod in the order of their starts: ephemeral ones first, as they are to help where others fail.
pub(crate) fn containers(spec: &PodSpec) -> impl Iterator<Item = (Kind, Cow<'_, Container>)> {
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|container| {
        // They have the fields of a container, and one more.
        let plain = serde_json::to_value(container).and_then(serde_json::from_value);
        (Kind::Ephemeral, Cow::Owned(plain.unwrap_or_default()))
    });
    let init = spec.init_containers.iter().flatten().map(|container| {
        if container.restart_policy.as_deref() == Some("Always") {
            (Kind::Sidecar, Cow::Borrowed(container))
        } else {
            (Kind::Init, Cow::Borrowed(container))
        }
    });
    ephemeral.chain(init).chain(spec.containers.iter().map(|app| (Kind::App, Cow::Borrowed(app))))
}

/// Whether a container that ended is started again (`restartPolicy`).
pub(crate) fn again(kind: Kind, policy: Option<&str>, code: i32, interrupted: bool) -> bool {
    match (kind, policy.unwrap_or("Always")) {
        (Kind::Sidecar, _) => true,
        (Kind::Ephemeral, _) | (_, "Never") => false,
        (Kind::App, "Always") => true,
        _ => code != 0 || interrupted,
    }
}

impl Plan {
    fn wake(&mut self, at: Timestamp) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    /// Starts it now or when its back-off is over.
    fn begin(&mut self, name: &str, slot: &Slot, now: Timestamp) {
        let mut due = now;
        if let (Run::Ended(ended), false) = (&slot.run, slot.interrupted) {
            due = due.max(slot.crashes.due(ended.finished));
        }
        if let Some(waiting) = &slot.waiting {
            due = due.max(waiting.retry);
            let shown = waiting.since.saturating_add(PULL_SHOWN).unwrap_or(now);
            if waiting.reason == "ErrImagePull" && shown > now {
                self.wake(shown);
            }
        }
        if due > now {
            self.wake(due);
        } else {
            self.start.push(name.to_owned());
        }
    }
}

/// Decides for a pod that is neither deleted nor done.
pub(crate) fn plan(spec: &PodSpec, record: &Record, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let policy = spec.restart_policy.as_deref();
    if let (Some(seconds), Some(started)) = (spec.active_deadline_seconds, record.started) {
        let deadline = started.saturating_add(SignedDuration::from_secs(seconds));
        let deadline = deadline.unwrap_or(Timestamp::MAX);
        if now >= deadline {
            plan.outcome = Some(Outcome::Failed(Some((
                "DeadlineExceeded",
                "Pod was active on the node longer than the specified deadline",
            ))));
            return plan;
        }
        plan.wake(deadline);
    }
    let none = Slot::default();
    let mut ended = Vec::new();
    for (kind, container) in containers(spec) {
        let name = &container.name;
        let slot = record.slots.get(name).unwrap_or(&none);
        match &slot.run {
            Run::Ended(end) if again(kind, policy, end.code, slot.interrupted) => {
                plan.begin(name, slot, now);
            }
            Run::Ended(end) if kind == Kind::Init && (end.code != 0 || slot.interrupted) => {
                plan.outcome = Some(Outcome::Failed(None));
                return plan;
            }
            Run::Ended(end) if kind == Kind::App => ended.push(end.code),
            Run::Ended(_) => {}
            Run::Never => plan.begin(name, slot, now),
            Run::Running { .. } => {}
        }
        let through = match kind {
            Kind::Init => matches!(&slot.run, Run::Ended(end) if end.code == 0 && !slot.interrupted),
            Kind::Sidecar => slot.started,
            Kind::App | Kind::Ephemeral => true,
        };
        // A sidecar that crashed later does not stop the containers after it.
        if !(through || kind == Kind::Sidecar && apps_began(spec, record)) {
            return plan;
        }
    }
    plan.initialized = true;
    if ended.len() == spec.containers.len() {
        let well = ended.iter().all(|code| *code == 0);
        plan.outcome = Some(if well { Outcome::Succeeded } else { Outcome::Failed(None) });
        plan.start.clear();
    }
    plan
}

fn apps_began(spec: &PodSpec, record: &Record) -> bool {
    let began = |name: &String| record.slots.get(name).is_some_and(|slot| slot.run != Run::Never);
    spec.containers.iter().any(|app| began(&app.name))
}

#[cfg(test)]
mod tests;
