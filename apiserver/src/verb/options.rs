use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use schema::FieldError;
use serde::{Deserialize, Serialize};
use store::Entry;

use crate::call::Call;
use crate::meta::Meta;
use crate::query::Query;
use crate::status::{Status, forbidden};

/// How long a read waits for a revision that has not come yet, as in Kubernetes.
const PATIENCE: Duration = Duration::from_secs(3);

/// The ListOptions of a query, checked: see "Resource versions" of the API concepts.
#[derive(Debug, Default, PartialEq)]
pub(super) struct ListOptions {
    /// `resourceVersion`: 0 is any.
    pub(super) version: Option<u64>,
    /// The list is to be of exactly that version, not of it or a newer one.
    pub(super) exact: bool,
    pub(super) limit: Option<usize>,
    pub(super) token: Option<Token>,
    /// A watch begins with what is there.
    pub(super) initial: bool,
    pub(super) bookmarks: bool,
    pub(super) timeout: Option<Duration>,
}

/// Where the next part of a list begins: what a `continue` token holds, as Kubernetes writes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Token {
    v: String,
    /// The revision of all parts; below 0 when that is gone and the rest is to be as of now.
    rv: i64,
    /// The first key after the last part, without what the path of the collection says already.
    start: String,
}

const TOKEN_VERSION: &str = "meta.k8s.io/v1";
const EXACT: &str = "Exact";
const NOT_OLDER: &str = "NotOlderThan";

impl ListOptions {
    /// 400 for what cannot be read, 422 for what does not go together.
    pub(super) fn read(query: &Query, watch: bool) -> Result<Self, Status> {
        let limit = query.number::<i64>("limit")?.and_then(|limit| usize::try_from(limit).ok());
        let timeout = query.number::<i64>("timeoutSeconds")?.and_then(|seconds| u64::try_from(seconds).ok());
        let wrong = if watch { check_watch(query) } else { check_list(query) };
        if !wrong.is_empty() {
            return Err(Status::invalid_options("ListOptions", &wrong));
        }
        let version = version(query)?;
        let token = query.get("continue").filter(|_| !watch).map(Token::read).transpose()?;
        if token.is_some() && version.is_some_and(|version| version > 0) {
            return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
        }
        // A list of any version is answered whole.
        let limit = limit.filter(|limit| *limit > 0 && (token.is_some() || version != Some(0)));
        let exact = match query.get("resourceVersionMatch") {
            Some(wanted) => wanted == EXACT,
            None => limit.is_some() && version.is_some(),
        };
        Ok(ListOptions {
            version,
            exact,
            limit,
            token,
            initial: query.bool("sendInitialEvents").unwrap_or(matches!(version, None | Some(0))),
            bookmarks: query.is_true("allowWatchBookmarks"),
            timeout: timeout.filter(|seconds| *seconds > 0).map(Duration::from_secs),
        })
    }
}

fn check_list(query: &Query) -> Vec<FieldError> {
    let field = "resourceVersionMatch";
    let mut wrong = Vec::new();
    if let Some(wanted) = query.get(field) {
        let version = query.get("resourceVersion");
        if version.is_none() {
            wrong.push(forbidden(field, "resourceVersionMatch is forbidden unless resourceVersion is provided"));
        }
        if query.get("continue").is_some() {
            wrong.push(forbidden(field, "resourceVersionMatch is forbidden when continue is provided"));
        }
        if ![EXACT, NOT_OLDER].contains(&wanted) {
            wrong.push(FieldError::not_supported(field, wanted, &[EXACT, NOT_OLDER, ""]));
        }
        if wanted == EXACT && version == Some("0") {
            let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            wrong.push(forbidden(field, why));
        }
    }
    if query.bool("sendInitialEvents").is_some() {
        wrong.push(forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
    }
    wrong
}

fn check_watch(query: &Query) -> Vec<FieldError> {
    let field = "resourceVersionMatch";
    let (wanted, initial) = (query.get(field), query.bool("sendInitialEvents"));
    let mut wrong = Vec::new();
    if initial.is_some() && wanted != Some(NOT_OLDER) {
        wrong.push(forbidden(field, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"));
    }
    if let Some(wanted) = wanted {
        if initial.is_none() {
            let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            wrong.push(forbidden(field, why));
        }
        if wanted != NOT_OLDER {
            wrong.push(FieldError::not_supported(field, wanted, &[NOT_OLDER]));
        }
        if query.get("continue").is_some() {
            wrong.push(forbidden(field, "resourceVersionMatch is forbidden when continue is provided"));
        }
    }
    wrong
}

/// `resourceVersion`; None when it is not given.
pub(super) fn version(query: &Query) -> Result<Option<u64>, Status> {
    let Some(text) = query.get("resourceVersion") else { return Ok(None) };
    let version = text.parse().map_err(|_| {
        Status::bad_request(format!(
            "invalid resource version: resourceVersion: Invalid value: {text:?}: \
             strconv.ParseUint: parsing {text:?}: invalid syntax"
        ))
    });
    version.map(Some)
}

/// Waits for a version that a read may not be older than; 504 when it does not come.
pub(super) async fn reach(call: &Call, version: Option<u64>) -> Result<(), Status> {
    let store = &call.server.store;
    match version {
        Some(version) if !store.reach(version, PATIENCE).await => Err(Status::too_new(version, store.revision())),
        _ => Ok(()),
    }
}

impl Token {
    /// What comes after the last entry of a part.
    pub(super) fn after(last: &Entry<Meta>, call: &Call, revision: u64) -> Self {
        let name = format!("{}\0", last.key.name);
        let whole = call.resource.namespaced && call.namespace.is_empty();
        let start = if whole { format!("{}/{name}", last.key.namespace) } else { name };
        Token { v: TOKEN_VERSION.to_owned(), rv: i64::try_from(revision).unwrap_or(i64::MAX), start }
    }

    /// The same place in the list of now.
    pub(super) fn of_now(&self) -> Self {
        Token { rv: -1, ..self.clone() }
    }

    /// The revision of the list; None when it is that of now.
    pub(super) fn revision(&self) -> Option<u64> {
        u64::try_from(self.rv).ok()
    }

    /// The namespace and name from which on the list goes on.
    pub(super) fn place<'a>(&'a self, call: &'a Call) -> (&'a str, &'a str) {
        let start = self.start.strip_prefix('/').unwrap_or(&self.start);
        match start.split_once('/') {
            Some(place) if call.resource.namespaced && call.namespace.is_empty() => place,
            None if call.resource.namespaced && call.namespace.is_empty() => (start, ""),
            _ => (&call.namespace, start),
        }
    }

    pub(super) fn write(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    fn read(text: &str) -> Result<Self, Status> {
        let invalid =
            |why: &str| Status::bad_request(format!("invalid continue token: continue key is not valid{why}"));
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|error| invalid(&format!(": {error}")))?;
        let token: Token = serde_json::from_slice(&bytes).map_err(|error| invalid(&format!(": {error}")))?;
        match token {
            Token { ref v, .. } if v != TOKEN_VERSION => {
                Err(invalid(": server does not recognize this encoded version"))
            }
            Token { rv: 0, .. } => Err(invalid(": incorrect encoded start resourceVersion (version meta.k8s.io/v1)")),
            Token { ref start, .. } if start.is_empty() => {
                Err(invalid(": encoded start key empty (version meta.k8s.io/v1)"))
            }
            token => Ok(token),
        }
    }
}

#[cfg(test)]
mod tests;
