use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use store::Entry;

use super::options::{ListOptions, Token, reach};
use super::selection::Selection;
use crate::answer::{self, ListMeta};
use crate::body::Body;
use crate::call::Call;
use crate::meta::Meta;
use crate::status::Status;

const TOO_OLD: &str = "The resourceVersion for the provided list is too old.";
const TOKEN_TOO_OLD: &str = "The provided continue parameter is too old to display a consistent list result. You can \
     start a new list without the continue parameter, or use the continue token in this response to retrieve the \
     remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were \
     created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";

/// What a request selects of a collection, all of it as of one revision.
pub(super) struct Selected {
    pub(super) meta: ListMeta,
    pub(super) entries: Vec<Arc<Entry<Meta>>>,
}

/// Lists a collection: the stored bytes, joined.
pub(crate) async fn list(call: &Call) -> Result<Response<Body>, Status> {
    let selected = select(call).await?;
    let items: Vec<Bytes> = selected.entries.iter().map(|entry| entry.bytes.clone()).collect();
    answer::list(call, &selected.meta, &items)
}

/// Reads what is selected of a collection that the query asks for.
pub(super) async fn select(call: &Call) -> Result<Selected, Status> {
    let selection = Selection::of(call)?;
    let options = ListOptions::read(&call.query, false)?;
    reach(call, options.version).await?;
    let (at, start) = match &options.token {
        Some(token) => (token.revision(), Some(token.place(call))),
        None => (options.version.filter(|_| options.exact), selection.object()),
    };
    let limit = options.limit.unwrap_or(usize::MAX);
    let most = match selection.object() {
        Some(_) => 1,
        None if selection.is_all() => limit,
        None => usize::MAX,
    };
    let page = call.server.store.page(&call.stored, selection.namespace(), at, start, most);
    let page = page.map_err(|_| match &options.token {
        Some(token) => Status::expired(TOKEN_TOO_OLD).with_continue(token.of_now().write()),
        None => Status::expired(TOO_OLD),
    })?;
    let (mut entries, mut left) = (page.entries, page.remaining);
    if !selection.is_all() {
        entries.retain(|entry| selection.matches(entry));
        left = entries.len().saturating_sub(limit);
        entries.truncate(limit);
    }
    let next = entries.last().filter(|_| left > 0).map(|last| Token::after(last, call, page.revision).write());
    let remaining = (left > 0 && selection.is_all()).then_some(left);
    Ok(Selected { meta: ListMeta { revision: page.revision, next, remaining }, entries })
}
