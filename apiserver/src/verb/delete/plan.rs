use schema::FieldError;
use serde_json::{Value, json};

use crate::admit::stamp;
use crate::hook;
use crate::object::{self, is_deleting, list, text};
use crate::status::{Status, invalid};

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
            other => {
                let known = ["Foreground", "Background", "Orphan", "nil"];
                Err(refused(FieldError::not_supported("propagationPolicy", other, &known)))
            }
        }
    }

    /// The meaning of the old `orphanDependents`.
    pub(crate) fn orphans(orphan: bool) -> Self {
        if orphan { Policy::Orphan } else { Policy::Background }
    }
}

/// Options that cannot be.
pub(super) fn refused(error: FieldError) -> Status {
    Status::invalid_options("DeleteOptions", &[error])
}

impl Options {
    pub(crate) fn read(body: &Value) -> Result<Self, Status> {
        let string = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let policy = body["propagationPolicy"].as_str().map(Policy::read).transpose()?;
        let orphan = body["orphanDependents"].as_bool();
        if let (Some(policy), Some(_)) = (body.get("propagationPolicy"), orphan) {
            let why = "orphanDependents and deletionPropagation cannot be both set";
            return Err(refused(invalid("propagationPolicy", policy.clone(), why)));
        }
        if body["ignoreStoreReadErrorWithClusterBreakingPotential"] == true {
            let field = "ignoreStoreReadErrorWithClusterBreakingPotential";
            return Err(refused(invalid(field, true, "is not supported")));
        }
        if let Some(stage) = list(body, "/dryRun").iter().find(|stage| **stage != "All") {
            return Err(refused(FieldError::not_supported("dryRun", json!([stage]), &["All"])));
        }
        Ok(Options {
            uid: string("/preconditions/uid"),
            resource_version: string("/preconditions/resourceVersion"),
            grace: body["gracePeriodSeconds"].as_i64(),
            policy: policy.or_else(|| orphan.map(Policy::orphans)),
            dry_run: !list(body, "/dryRun").is_empty(),
        })
    }
}

/// Decides the next step of the deletion of `old`.
pub(super) fn plan(stored: &str, old: &Value, options: &Options, now: jiff::Timestamp) -> Step {
    let mut new = old.clone();
    finalize(&mut new, options.policy.or_else(|| inherited(stored, old)));
    let waits = hook::waits(stored, &new);
    if !is_deleting(old) {
        let grace = (hook::of(stored).grace)(old, options.grace);
        if grace == 0 && !waits {
            return Step::Go(new);
        }
        mark(&mut new, now, grace);
        let metadata = object::metadata(&mut new);
        if let Some(generation) = metadata.get("generation").and_then(Value::as_i64) {
            metadata.insert("generation".into(), (generation + 1).into());
        }
        (hook::of(stored).deleting)(&mut new);
        return Step::Mark(new);
    }
    // The grace of a deletion that is under way can only be shortened.
    let left = old.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0);
    let grace = options.grace.map_or(left, |asked| if asked < 0 { 1 } else { asked.min(left) });
    if grace == 0 && !waits {
        return Step::Go(new);
    }
    if grace < left {
        let end = text(old, "/metadata/deletionTimestamp").parse().unwrap_or(now);
        mark(&mut new, end.checked_sub(jiff::SignedDuration::from_secs(left)).unwrap_or(now), grace);
    }
    if new == *old { Step::Keep } else { Step::Mark(new) }
}

fn mark(object: &mut Value, begin: jiff::Timestamp, grace: i64) {
    let metadata = object::metadata(object);
    let end = begin.checked_add(jiff::SignedDuration::from_secs(grace)).unwrap_or(begin);
    metadata.insert("deletionTimestamp".into(), stamp(end).into());
    metadata.insert("deletionGracePeriodSeconds".into(), grace.into());
}

/// The policy of a kind whose old clients expect that what it owns stays; a finalizer of a policy overrides it.
fn inherited(stored: &str, object: &Value) -> Option<Policy> {
    let chosen = list(object, "/metadata/finalizers").iter().any(|name| name == ORPHAN || name == FOREGROUND);
    (hook::of(stored).orphans && !chosen).then_some(Policy::Orphan)
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
