use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use serde_json::{Value, json};
use store::{Entry, Event, EventKind};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::options::{ListOptions, reach};
use super::selection::Selection;
use crate::answer;
use crate::body::{self, Body};
use crate::call::Call;
use crate::media::Output;
use crate::meta::Meta;
use crate::status::Status;

/// How long a watch without `timeoutSeconds` lives at least, and at most: at random, so that not all come back at once.
const LIFE: [Duration; 2] = [Duration::from_secs(30 * 60), Duration::from_secs(60 * 60)];
/// How often a watch that asked for bookmarks gets one.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// How long before its end such a watch gets its last one.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);
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
    /// What has happened since and is still to be sent.
    events: VecDeque<Arc<Event<Meta>>>,
    /// The lines that the store has ready can be sent as they are.
    ready: bool,
    bookmarks: bool,
    /// When the next bookmark is due, or the end.
    clock: Pin<Box<Sleep>>,
    end: Instant,
    shutdown: Pin<Box<WaitForCancellationFutureOwned>>,
    /// The headings of a Table were sent.
    headed: bool,
    over: bool,
}

/// Streams what happens to a collection or to one object.
pub(crate) async fn watch(call: Call) -> Result<Response<Body>, Status> {
    let selection = Selection::of(&call)?;
    let options = ListOptions::read(&call.query, true)?;
    // What goes wrong from here on is an event, not an answer: clients such as kube-rs list anew only then.
    let (registry, output) = (call.server.registry.clone(), call.output);
    let chunks = match start(call, selection, options).await {
        Ok(stream) => body::stream(futures::stream::unfold(stream, |mut stream| async move {
            let chunk = stream.next().await?;
            Some((chunk, stream))
        })),
        Err(status) => body::full(answer::failure(&registry, output, &status)),
    };
    let mut response = Response::new(chunks);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(output.format.content_type(true)));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    Ok(response)
}

async fn start(call: Call, selection: Selection, options: ListOptions) -> Result<Stream, Status> {
    let store = call.server.store.clone();
    let (after, initial) = if options.initial {
        reach(&call, options.version).await?;
        let start = selection.object();
        let most = if start.is_some() { 1 } else { usize::MAX };
        let page = store.page(&call.stored, selection.namespace(), None, start, most);
        let page = page.map_err(|error| Status::internal(error.to_string()))?;
        (page.revision, page.entries.into_iter().filter(|entry| selection.matches(entry)).collect())
    } else {
        let asked = options.version.filter(|version| *version > 0);
        (asked.unwrap_or_else(|| store.revision()), VecDeque::new())
    };
    let cursor = store.watch(&call.stored, selection.topic(), after).map_err(|error| ended(&error, after))?;
    let now = Instant::now();
    let end = now.checked_add(options.timeout.unwrap_or_else(life)).unwrap_or(now + LIFE[1]);
    let mut stream = Stream {
        selection,
        cursor,
        initial,
        initial_end: (options.initial && options.bookmarks).then_some(after),
        events: VecDeque::new(),
        ready: call.output == Output::default() && call.conversion.is_none(),
        bookmarks: options.bookmarks,
        clock: Box::pin(sleep_until(end)),
        end,
        shutdown: Box::pin(call.server.shutdown.clone().cancelled_owned()),
        headed: false,
        over: false,
        call,
    };
    stream.set_clock(now);
    Ok(stream)
}

impl Stream {
    /// The next bytes to send; None at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let lines = self.gather();
            if !lines.is_empty() {
                return Some(join(lines));
            }
            if self.over {
                return None;
            }
            tokio::select! {
                biased;
                () = &mut self.shutdown => self.over = true,
                () = &mut self.clock => {
                    let now = Instant::now();
                    self.over = now >= self.end;
                    if self.bookmarks && !self.over {
                        self.set_clock(now);
                        return Some(self.bookmark(self.cursor.progress(), false));
                    }
                }
                events = self.cursor.next() => match events {
                    Ok(events) => self.events = events.into(),
                    Err(error) => {
                        self.over = true;
                        if let store::Error::Compacted { .. } = error {
                            let status = ended(&error, self.cursor.progress());
                            return Some(answer::failure(&self.call.server.registry, self.call.output, &status));
                        }
                    }
                },
            }
        }
    }

    fn set_clock(&mut self, now: Instant) {
        self.clock.as_mut().reset(if self.bookmarks { next_bookmark(now, self.end) } else { self.end });
    }

    /// What is at hand, up to the size of a chunk.
    fn gather(&mut self) -> Vec<Bytes> {
        let (mut lines, mut size) = (Vec::new(), 0);
        while size < CHUNK {
            let line = if let Some(entry) = self.initial.pop_front() {
                Some(self.line("ADDED", &entry.bytes))
            } else if let Some(revision) = self.initial_end.take() {
                Some(self.bookmark(revision, true))
            } else if let Some(event) = self.events.pop_front() {
                self.tell(&event)
            } else {
                break;
            };
            size += line.as_ref().map_or(0, Bytes::len);
            lines.extend(line);
        }
        lines
    }

    /// One event of the store, as this watch sees it: selectors turn changes into arrivals and departures.
    fn tell(&mut self, event: &Event<Meta>) -> Option<Bytes> {
        let previous = event.previous.as_ref();
        let before = previous.filter(|previous| self.selection.matches(previous));
        let now = event.kind == EventKind::Put && self.selection.matches(&event.entry);
        let told = match (before, now) {
            (None, false) => return None,
            (None, true) => "ADDED",
            (Some(_), true) => "MODIFIED",
            (Some(_), false) => "DELETED",
        };
        let departs = told == "DELETED" && event.kind == EventKind::Put;
        let arrives = told == "ADDED" && previous.is_some();
        Some(match before {
            Some(before) if departs => self.line(told, &departed(before, event.revision)),
            _ if self.ready && !arrives => event.line.clone(),
            _ => self.line(told, &event.entry.bytes),
        })
    }

    /// A stored object in the form that was asked for, in the envelope of an event.
    fn line(&mut self, told: &str, object: &Bytes) -> Bytes {
        let headings = !std::mem::replace(&mut self.headed, true);
        answer::event(&self.call, told, object, headings)
    }

    fn bookmark(&mut self, revision: u64, initial_end: bool) -> Bytes {
        let resource = &self.call.resource;
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if initial_end {
            metadata["annotations"] = json!({INITIAL_END: "true"});
        }
        let object = json!({"kind": resource.kind, "apiVersion": resource.api_version(), "metadata": metadata});
        self.line("BOOKMARK", &object.to_string().into())
    }
}

fn life() -> Duration {
    let [least, most] = LIFE;
    least + (most - least) * u32::from(uuid::Uuid::new_v4().as_bytes()[0]) / 256
}

/// About every minute, shortly before the end, and then not before the end.
fn next_bookmark(now: Instant, end: Instant) -> Instant {
    let last = end.checked_sub(BOOKMARK_BEFORE_END).unwrap_or(end);
    if last > now { last.min(now + BOOKMARK_EVERY) } else { end }
}

/// One line as it is, several in one piece.
fn join(mut lines: Vec<Bytes>) -> Bytes {
    if lines.len() == 1 { lines.remove(0) } else { lines.concat().into() }
}

/// The last state that the selectors saw, with the revision at which it left.
fn departed(previous: &Entry<Meta>, revision: u64) -> Bytes {
    let Ok(mut object) = serde_json::from_slice::<Value>(&previous.bytes) else { return previous.bytes.clone() };
    crate::object::metadata(&mut object).insert("resourceVersion".into(), revision.to_string().into());
    object.to_string().into()
}

/// Why a watch from that revision cannot begin, or go on.
fn ended(error: &store::Error<Meta>, revision: u64) -> Status {
    match error {
        store::Error::Compacted { oldest } => {
            Status::expired(format!("too old resource version: {revision} ({oldest})"))
        }
        other => Status::internal(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bookmarks() {
        let now = Instant::now();
        let seconds = Duration::from_secs;
        for (life, next) in [(1, 1), (2, 2), (3, 1), (30, 28), (62, 60), (63, 60), (600, 60)] {
            assert_eq!(next_bookmark(now, now + seconds(life)), now + seconds(next), "{life}");
        }
    }
}
