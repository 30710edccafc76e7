use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use serde_json::{Value, json};
use store::{Entry, Event, EventKind};
use tokio::time::{Instant, sleep_until};

use super::selection::Selection;
use crate::answer;
use crate::body::{self, Body};
use crate::call::Call;
use crate::meta::Meta;
use crate::status::Status;

/// How long a watch without `timeoutSeconds` lives; Kubernetes takes 30 to 60 minutes at random.
const LIFE: Duration = Duration::from_secs(45 * 60);
/// How often a watch that asked for bookmarks gets one.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// The size from which on the events at hand are sent without gathering more.
const CHUNK: usize = 64 << 10;
/// The annotation of the bookmark after the initial events.
const INITIAL_END: &str = "k8s.io/initial-events-end";

/// A watch under way.
struct Stream {
    call: Call,
    selection: Selection,
    cursor: store::Watch<Meta>,
    /// Objects that are there already, still to be sent.
    initial: VecDeque<Arc<Entry<Meta>>>,
    /// The revision of the bookmark that ends them, where one is asked for.
    initial_end: Option<u64>,
    bookmarks: Option<Instant>,
    end: Instant,
    /// The headings of a Table were sent.
    headed: bool,
    over: bool,
}

/// Streams what happens to a collection or to one object.
pub(crate) fn watch(call: Call) -> Result<Response<Body>, Status> {
    let selection = Selection::of(&call)?;
    let store = &call.server.store;
    let namespace = Some(call.namespace.as_str()).filter(|namespace| !namespace.is_empty());
    let asked = call.query.number::<u64>("resourceVersion")?;
    let all = call.query.is_true("sendInitialEvents");
    let now = store.revision();
    if let Some(asked) = asked.filter(|asked| *asked > now) {
        return Err(Status::too_new(asked, now));
    }
    let wants_initial = match call.query.bool("sendInitialEvents") {
        Some(wanted) => wanted,
        None => matches!(asked, None | Some(0)),
    };
    let (after, initial) = if wants_initial {
        let (revision, entries) = store.list(&call.stored, namespace);
        (revision, entries.into_iter().filter(|entry| selection.matches(entry)).collect())
    } else {
        (asked.filter(|asked| *asked > 0).unwrap_or(now), VecDeque::new())
    };
    let Ok(cursor) = store.watch(&call.stored, after) else {
        // As an event, not as an answer of 410: clients such as kube-rs list anew only then.
        let mut out = Vec::new();
        line(&mut out, "ERROR", &too_old(after).to_json());
        return Ok(respond(futures::stream::iter([out.into()])));
    };
    let life = call.query.number("timeoutSeconds")?.filter(|seconds| *seconds > 0).map_or(LIFE, Duration::from_secs);
    let bookmarks = call.query.is_true("allowWatchBookmarks");
    let start = Instant::now();
    let stream = Stream {
        selection,
        cursor,
        initial,
        initial_end: (all && bookmarks).then_some(after),
        bookmarks: bookmarks.then(|| start + BOOKMARK_EVERY),
        end: start.checked_add(life).unwrap_or(start + LIFE),
        headed: false,
        over: false,
        call,
    };
    let chunks = futures::stream::unfold(stream, |mut stream| async move { Some((stream.next().await?, stream)) });
    Ok(respond(chunks))
}

fn respond(chunks: impl futures::Stream<Item = Bytes> + Send + 'static) -> Response<Body> {
    let mut response = Response::new(body::stream(chunks));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

impl Stream {
    /// The next bytes to send; None at the end.
    async fn next(&mut self) -> Option<Bytes> {
        let mut out = Vec::new();
        while let Some(entry) = self.initial.pop_front() {
            self.put(&mut out, "ADDED", &entry.bytes);
            if out.len() >= CHUNK {
                return Some(out.into());
            }
        }
        if let Some(revision) = self.initial_end.take() {
            self.bookmark(&mut out, revision, true);
        }
        if !out.is_empty() {
            return Some(out.into());
        }
        let shutdown = self.call.server.shutdown.clone();
        while out.is_empty() && !self.over {
            let bookmark = self.bookmarks.unwrap_or(self.end);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => self.over = true,
                () = sleep_until(self.end) => self.over = true,
                () = sleep_until(bookmark), if self.bookmarks.is_some() => {
                    self.bookmarks = Some(Instant::now() + BOOKMARK_EVERY);
                    let revision = self.cursor.progress();
                    self.bookmark(&mut out, revision, false);
                }
                events = self.cursor.next() => match events {
                    Ok(events) => events.iter().for_each(|event| self.send(&mut out, event)),
                    Err(error) => {
                        self.over = true;
                        if let store::Error::Compacted { oldest } = error {
                            line(&mut out, "ERROR", &too_old(oldest).to_json());
                        }
                    }
                },
            }
        }
        (!out.is_empty()).then(|| out.into())
    }

    /// One event of the store, as this watch sees it: selectors turn changes into arrivals and departures.
    fn send(&mut self, out: &mut Vec<u8>, event: &Event<Meta>) {
        let before = event.previous.as_ref().filter(|previous| self.selection.matches(previous));
        let now = event.kind == EventKind::Put && self.selection.matches(&event.entry);
        match (before, now) {
            (None, true) => self.put(out, "ADDED", &event.entry.bytes),
            (Some(_), true) => self.put(out, "MODIFIED", &event.entry.bytes),
            (Some(_), false) if event.kind == EventKind::Delete => self.put(out, "DELETED", &event.entry.bytes),
            (Some(previous), false) => self.put(out, "DELETED", &departed(previous, event.revision)),
            (None, false) => {}
        }
    }

    fn put(&mut self, out: &mut Vec<u8>, kind: &str, object: &Bytes) {
        match answer::event(&self.call, object, !self.headed) {
            Ok(object) => line(out, kind, &object),
            Err(status) => line(out, "ERROR", &status.to_json()),
        }
        self.headed = true;
    }

    fn bookmark(&mut self, out: &mut Vec<u8>, revision: u64, initial_end: bool) {
        let resource = &self.call.resource;
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if initial_end {
            metadata["annotations"] = json!({INITIAL_END: "true"});
        }
        let object = json!({"kind": resource.kind, "apiVersion": resource.api_version(), "metadata": metadata});
        match self.call.output.form {
            crate::media::Form::Whole | crate::media::Form::Discovery => {
                line(out, "BOOKMARK", object.to_string().as_bytes());
            }
            _ => self.put(out, "BOOKMARK", &object.to_string().into()),
        }
    }
}

/// One event on one line.
fn line(out: &mut Vec<u8>, kind: &str, object: &[u8]) {
    out.reserve(object.len() + 48);
    out.extend_from_slice(br#"{"type":""#);
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(br#"","object":"#);
    out.extend_from_slice(object);
    out.extend_from_slice(b"}\n");
}

/// The last state that the selectors saw, with the revision at which it left.
fn departed(previous: &Entry<Meta>, revision: u64) -> Bytes {
    let Ok(mut object) = serde_json::from_slice::<Value>(&previous.bytes) else { return previous.bytes.clone() };
    crate::object::metadata(&mut object).insert("resourceVersion".into(), revision.to_string().into());
    object.to_string().into()
}

fn too_old(revision: u64) -> Status {
    Status::expired(format!("too old resource version: {revision}"))
}
