use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::Response;
use serde::{Deserialize, Serialize};
use store::Entry;

use super::selection::Selection;
use crate::answer::{self, ListMeta};
use crate::body::Body;
use crate::call::Call;
use crate::meta::Meta;
use crate::status::Status;

/// Where the next part of a list begins: what a `continue` token holds.
#[derive(Serialize, Deserialize)]
struct Token {
    /// The revision of the first part; a watch from there sees what the parts missed.
    revision: u64,
    namespace: String,
    name: String,
}

const EXPIRED: &str = "The provided continue parameter is too old to display a consistent list result. You can start a \
                       new list without the continue parameter.";

/// Lists a collection: the stored bytes, joined.
pub(crate) fn list(call: &Call) -> Result<Response<Body>, Status> {
    let selection = Selection::of(call)?;
    let limit = call.query.number::<usize>("limit")?.filter(|limit| *limit > 0);
    let token = call.query.get("continue").map(read).transpose()?;
    let namespace = Some(call.namespace.as_str()).filter(|namespace| !namespace.is_empty());
    let (current, entries) = call.server.store.list(&call.stored, namespace);
    match &token {
        Some(token) => {
            let watch = call.server.store.watch(&call.stored, token.revision);
            watch.map_err(|_| Status::expired(EXPIRED))?;
        }
        None => check_revision(call, current)?,
    }
    let revision = token.as_ref().map_or(current, |token| token.revision);
    let begin = match &token {
        Some(token) => {
            let start = (token.namespace.as_str(), token.name.as_str());
            entries.partition_point(|entry| (&*entry.key.namespace, &*entry.key.name) <= start)
        }
        None => 0,
    };
    let mut rest = entries[begin..].iter().filter(|entry| selection.matches(entry));
    let items: Vec<&Arc<Entry<Meta>>> = rest.by_ref().take(limit.unwrap_or(usize::MAX)).collect();
    let left = rest.count();
    let meta = ListMeta {
        revision,
        next: items.last().filter(|_| left > 0).map(|last| write(revision, last)),
        remaining: (left > 0 && selection.is_all()).then_some(left),
    };
    let items: Vec<Bytes> = items.into_iter().map(|entry| entry.bytes.clone()).collect();
    answer::list(call, &meta, &items)
}

/// Lists are of the present. One of the past can be given only while nothing has changed since.
fn check_revision(call: &Call, current: u64) -> Result<(), Status> {
    let Some(asked) = call.query.number::<u64>("resourceVersion")? else { return Ok(()) };
    let now = call.server.store.revision().max(current);
    if asked > now {
        return Err(Status::too_new(asked, now));
    }
    if call.query.get("resourceVersionMatch") != Some("Exact") {
        return Ok(());
    }
    let unchanged = call.server.store.watch(&call.stored, asked).is_ok_and(|watch| watch.progress() > asked);
    if asked == current || unchanged {
        return Ok(());
    }
    Err(Status::expired(format!("The resourceVersion for the provided list is too old: {asked} (current: {current})")))
}

fn write(revision: u64, last: &Entry<Meta>) -> String {
    let token = Token { revision, namespace: last.key.namespace.to_string(), name: last.key.name.to_string() };
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
}

fn read(text: &str) -> Result<Token, Status> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok();
    bytes
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .ok_or_else(|| Status::bad_request("continue key is not valid"))
}
