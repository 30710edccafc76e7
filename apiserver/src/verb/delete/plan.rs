use serde_json::{Value, json};

use crate::admit::stamp;
use crate::hook;
use crate::object::{self, is_deleting, list, text};
use crate::status::Status;

/// What a client wants of a deletion: `meta/v1` DeleteOptions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// Only the object of this uid.
    pub(crate) uid: Option<String>,
    /// Only this version.
    pub(crate) resource_version: Option<String>,
    /// Seconds; None is the object's own.
    pub(crate) grace: Option<i64>,
    pub(crate) policy: Option<Policy>,
    pub(crate) dry_run: bool,
}

/// What is to become of the objects that it owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    Orphan,
    Background,
    Foreground,
}

/// The finalizer that makes the garbage collector cut the objects loose.
const ORPHAN: &str = "orphan";
/// The finalizer that makes the garbage collector delete the objects before.
const FOREGROUND: &str = "foregroundDeletion";

/// The next step of a deletion.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// It is under way already.
    Keep,
    /// It waits; this is how.
    Mark(Value),
    /// Nothing waits: the final state.
    Go(Value),
}

impl Policy {
    pub(crate) fn read(text: &str) -> Result<Self, Status> {
        match text {
            "Orphan" => Ok(Policy::Orphan),
            "Background" => Ok(Policy::Background),
            "Foreground" => Ok(Policy::Foreground),
            other => Err(Status::new(
                422,
                "Invalid",
                format!(
                    "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: \"{other}\": \
                     supported values: \"Foreground\", \"Background\", \"Orphan\""
                ),
            )),
        }
    }

    /// The meaning of the old `orphanDependents`.
    pub(crate) fn orphans(orphan: bool) -> Self {
        if orphan { Policy::Orphan } else { Policy::Background }
    }
}

impl Options {
    pub(crate) fn read(body: &Value) -> Result<Self, Status> {
        let string = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let policy = body["propagationPolicy"].as_str().map(Policy::read).transpose()?;
        let grace = body["gracePeriodSeconds"].as_i64();
        if grace.is_some_and(|grace| grace < 0) {
            let message = "gracePeriodSeconds: Invalid value: must be greater than or equal to 0";
            return Err(Status::new(422, "Invalid", message));
        }
        Ok(Options {
            uid: string("/preconditions/uid"),
            resource_version: string("/preconditions/resourceVersion"),
            grace,
            policy: policy.or_else(|| body["orphanDependents"].as_bool().map(Policy::orphans)),
            dry_run: list(body, "/dryRun").iter().any(|stage| stage == "All"),
        })
    }
}

/// Decides the next step of the deletion of `old`.
pub(super) fn plan(stored: &str, old: &Value, options: &Options, now: jiff::Timestamp) -> Step {
    let grace = (hook::of(stored).grace)(old, options.grace);
    let mut new = old.clone();
    finalize(&mut new, options.policy);
    let waits = hook::waits(stored, &new);
    if is_deleting(old) {
        let left = old.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0);
        let sooner = grace < left;
        if grace == 0 && !waits {
            return Step::Go(new);
        }
        if !sooner && new == *old {
            return Step::Keep;
        }
        if sooner {
            mark(&mut new, grace, now);
        }
        return Step::Mark(new);
    }
    if grace == 0 && !waits {
        return Step::Go(new);
    }
    mark(&mut new, grace, now);
    (hook::of(stored).deleting)(&mut new);
    Step::Mark(new)
}

fn mark(object: &mut Value, grace: i64, now: jiff::Timestamp) {
    let metadata = object::metadata(object);
    let end = now.checked_add(jiff::SignedDuration::from_secs(grace)).unwrap_or(now);
    metadata.insert("deletionTimestamp".into(), stamp(end).into());
    metadata.insert("deletionGracePeriodSeconds".into(), grace.into());
    if let Some(generation) = metadata.get("generation").and_then(Value::as_i64) {
        metadata.insert("generation".into(), (generation + 1).into());
    }
}

/// The finalizers of the garbage collector, as the policy has them.
fn finalize(object: &mut Value, policy: Option<Policy>) {
    let Some(policy) = policy else { return };
    let wanted = match policy {
        Policy::Orphan => Some(ORPHAN),
        Policy::Foreground => Some(FOREGROUND),
        Policy::Background => None,
    };
    let had = list(object, "/metadata/finalizers");
    let others = had.iter().filter(|name| **name != ORPHAN && **name != FOREGROUND).cloned();
    let finalizers: Vec<Value> = others.chain(wanted.map(Value::from)).collect();
    let metadata = object::metadata(object);
    if finalizers.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers".into(), json!(finalizers));
    }
}

/// How long a pod gets: nothing to wait for where no kubelet runs it, or it has ended.
pub(crate) fn pod_grace(pod: &Value, asked: Option<i64>) -> i64 {
    let own = pod.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_i64);
    let ended = matches!(text(pod, "/status/phase"), "Succeeded" | "Failed");
    if text(pod, "/spec/nodeName").is_empty() || ended {
        return 0;
    }
    match asked.or(own).unwrap_or(30) {
        // Negative ones are left over from before they were checked; Kubernetes takes them as 1.
        grace if grace < 0 => 1,
        grace => grace,
    }
}

#[cfg(test)]
mod tests;
