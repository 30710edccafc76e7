use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use store::{Change, Entry, Error, Expect, Key};

use crate::call::Call;
use crate::hook::service::Reservation;
use crate::meta::Meta;
use crate::object;
use crate::status::Status;

/// A write that is ready to be committed.
pub(crate) struct Write<'a> {
    pub(crate) key: Key,
    pub(crate) expect: Expect,
    /// The version that it replaces.
    pub(crate) old: Option<&'a Value>,
    /// The new version, or the final state.
    pub(crate) new: &'a Value,
    /// The object goes.
    pub(crate) gone: bool,
    /// What the new version holds beyond itself.
    pub(crate) reservation: Option<Reservation>,
}

/// Commits. Once begun it runs to its end, also when the client goes away: what a Service holds is settled with it.
pub(crate) async fn write(call: &Call, write: Write<'_>) -> Result<Arc<Entry<Meta>>, Error<Meta>> {
    let draft = object::draft(write.new, Meta::of(write.new));
    let change = if write.gone { Change::Delete(draft) } else { Change::Put(draft) };
    let store = call.server.store.clone();
    let (key, expect, gone) = (write.key, write.expect, write.gone);
    if &*call.stored != "/services" {
        return store.commit(key, expect, change).await;
    }
    let pool = call.server.pool.clone();
    let (reservation, old) = (write.reservation, write.old.cloned());
    let settle = async move {
        let entry = store.commit(key, expect, change).await?;
        // Without a reservation the write has not touched what is held, as that of a status.
        let held_anew = !gone && reservation.is_some();
        if let Some(reservation) = reservation.filter(|_| held_anew) {
            reservation.keep();
        }
        if let Some(old) = old.filter(|_| gone || held_anew) {
            pool.release(&old);
        }
        Ok(entry)
    };
    tokio::spawn(settle).await.unwrap_or_else(|error| Err(Error::Storage(error.to_string())))
}

/// The bytes of an object that is only tried: as it would be stored, with the revision that it has now.
pub(crate) fn tried(new: &Value, revision: Option<u64>) -> Bytes {
    let draft = object::draft(new, Meta::default());
    let digits = revision.map(|revision| revision.to_string()).unwrap_or_default();
    let (head, tail) = draft.bytes.split_at(draft.revision_at);
    [head, digits.as_bytes(), tail].concat().into()
}

/// Errors of the store that are no answer to a precondition.
pub(crate) fn failed(error: Error<Meta>) -> Status {
    match error {
        Error::Closed => Status::new(503, "ServiceUnavailable", "the server is shutting down"),
        Error::TooLarge(limit) => Status::too_large(limit),
        other => Status::internal(other.to_string()),
    }
}
