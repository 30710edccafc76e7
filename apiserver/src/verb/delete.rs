use http::Response;
use serde_json::{Value, json};
use store::{Error, Expect};

use super::list::select;
use super::write::{Write, failed, tried, write};
use crate::answer;
use crate::body::Body;
use crate::call::Call;
use crate::object::text;
use crate::status::Status;
use crate::{admit, hook};

mod plan;

pub(crate) use plan::{Options, Policy, pod_grace};
use plan::{Step, plan};

/// How often a deletion is tried again when another write came between.
const TRIES: usize = 100;

const ORPHANED_PODS: &str = "child pods are preserved by default when jobs are deleted; set \
    propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning";

/// What became of an object.
pub(crate) struct Removed {
    /// Its last bytes.
    pub(crate) bytes: bytes::Bytes,
    /// It is gone; otherwise it waits for its grace or its finalizers.
    pub(crate) gone: bool,
}

/// Deletes an object, or begins to.
pub(crate) async fn delete(call: &Call) -> Result<Response<Body>, Status> {
    let options = options(call)?;
    if &*call.stored == "batch/jobs" && options.policy.is_none() {
        call.warnings.add([&ORPHANED_PODS.to_owned()]);
    }
    let removed = remove(call, &call.name, &options).await?;
    if !removed.gone || call.resource.shows_deleted {
        return answer::object(call, 200, &removed.bytes, &[]);
    }
    let object = answer::read(&removed.bytes)?;
    let status = Status::success(admit::details(call, &object));
    answer::value(call, 200, &json!(status), &[])
}

/// Deletes the objects of a collection that the selectors choose.
pub(crate) async fn deletecollection(call: &Call) -> Result<Response<Body>, Status> {
    let options = options(call)?;
    let selected = select(call).await?;
    let mut items = Vec::new();
    for entry in selected.entries {
        let one = call.of(&entry.key);
        match remove(&one, &entry.key.name, &options).await {
            Ok(removed) => items.push(removed.bytes),
            Err(status) if status.code == 404 => {}
            Err(status) => return Err(status),
        }
    }
    answer::list(call, &selected.meta, &items)
}

/// Deletes the object of that name in the call's namespace, or begins to.
pub(crate) async fn remove(call: &Call, name: &str, options: &Options) -> Result<Removed, Status> {
    let key = call.key_of(name);
    for _ in 0..TRIES {
        let not_found = || Status::not_found(&call.resource, name);
        let entry = call.server.store.get(&key).ok_or_else(not_found)?;
        let old = answer::read(&entry.bytes)?;
        preconditions(call, name, options, &old)?;
        hook::of(&call.stored).deletable(&call.resource, name)?;
        let (new, gone) = match plan(&call.stored, &old, options, jiff::Timestamp::now()) {
            Step::Keep => return Ok(Removed { bytes: entry.bytes.clone(), gone: false }),
            Step::Mark(new) => (new, false),
            Step::Go(new) => (new, true),
        };
        if options.dry_run {
            return Ok(Removed { bytes: tried(&new, Some(entry.revision)), gone });
        }
        let expect = Expect::Revision(entry.revision);
        let ready = Write { key: key.clone(), expect, old: gone.then_some(&old), new: &new, gone, reservation: None };
        match write(call, ready).await {
            Ok(entry) => return Ok(Removed { bytes: entry.bytes.clone(), gone }),
            Err(Error::Conflict(_)) => {}
            Err(Error::Missing) => return Err(not_found()),
            Err(error) => return Err(failed(error)),
        }
    }
    Err(Status::modified(&call.resource, name))
}

fn preconditions(call: &Call, name: &str, options: &Options, old: &Value) -> Result<(), Status> {
    let wrong = [
        ("UID", &options.uid, "/metadata/uid", "deleted and then recreated"),
        ("ResourceVersion", &options.resource_version, "/metadata/resourceVersion", "modified"),
    ];
    for (what, asked, pointer, guess) in wrong {
        let is = text(old, pointer);
        if let Some(asked) = asked.as_ref().filter(|asked| *asked != is) {
            return Err(Status::conflict(
                &call.resource,
                name,
                &format!(
                    "the {what} in the precondition ({asked}) does not match the {what} in record ({is}). The object \
                     might have been {guess}"
                ),
            ));
        }
    }
    Ok(())
}

/// DeleteOptions from the body, and from the query where the body is empty.
fn options(call: &Call) -> Result<Options, Status> {
    let body = call.read_other()?.unwrap_or_default();
    if !body.is_null() && !matches!(text(&body, "/kind"), "" | "DeleteOptions") {
        let kind = text(&body, "/kind");
        return Err(Status::bad_request(format!("decoded object cannot be converted to DeleteOptions: {kind}")));
    }
    let mut options = Options::read(&body)?;
    options.dry_run |= call.dry_run()?;
    if options.grace.is_none() {
        options.grace = call.query.number("gracePeriodSeconds")?;
    }
    if options.policy.is_none() {
        let policy = call.query.get("propagationPolicy").map(Policy::read).transpose()?;
        options.policy = policy.or_else(|| call.query.bool("orphanDependents").map(Policy::orphans));
    }
    Ok(options)
}
