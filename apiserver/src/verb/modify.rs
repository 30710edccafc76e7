use bytes::Bytes;
use serde_json::Value;
use store::{Error, Expect};

use super::write::{Write, failed, tried, write};
use crate::call::Call;
use crate::hook;
use crate::object::text;
use crate::status::Status;
use crate::{admit, answer, object, owners};

/// How often a write is tried again when another one came between.
const TRIES: usize = 100;

/// Which part of an object a write may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Everything but the status.
    Main,
    /// The status.
    Status,
    /// Everything: the server's own edits, such as a binding.
    All,
}

/// Reads, edits, admits, and commits if nothing came between; else from the start. A resource version in what the
/// edit makes, other than that of the version it was given, is a conflict. Answers with the bytes of the new version.
///
/// Nothing is written when nothing changed; an object whose deletion waited for this is gone afterwards.
pub(crate) async fn modify(
    call: &Call,
    part: Part,
    edit: impl Fn(&Value) -> Result<Value, Status>,
) -> Result<Bytes, Status> {
    let dry_run = call.dry_run()?;
    owners::check_manager(call)?;
    let key = call.key();
    for _ in 0..TRIES {
        let entry = call.server.store.get(&key).ok_or_else(|| call.not_found())?;
        let old = answer::read(&entry.bytes)?;
        let mut new = edit(&old)?;
        let asked = text(&new, "/metadata/resourceVersion");
        if !asked.is_empty() && asked != text(&old, "/metadata/resourceVersion") {
            return Err(Status::modified(&call.resource, &call.name));
        }
        let reservation = admit::update(call, part, &old, &mut new)?;
        if owners::same(&old, &new) {
            return Ok(entry.bytes.clone());
        }
        let gone = may_go(call, &new);
        if dry_run {
            return Ok(tried(&new, Some(entry.revision)));
        }
        let expect = Expect::Revision(entry.revision);
        let ready = Write { key: key.clone(), expect, old: Some(&old), new: &new, gone, reservation };
        match write(call, ready).await {
            Ok(entry) => return Ok(entry.bytes.clone()),
            Err(Error::Conflict(_)) => {}
            Err(Error::Missing) => return Err(call.not_found()),
            Err(error) => return Err(failed(error)),
        }
    }
    Err(Status::modified(&call.resource, &call.name))
}

/// Its deletion has begun, and nothing waits any more.
fn may_go(call: &Call, object: &Value) -> bool {
    let grace = object.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64);
    object::is_deleting(object) && grace.unwrap_or(0) == 0 && !hook::waits(&call.stored, object)
}
