//! Events: what controllers tell people about objects (core/v1, with repeats counted on one Event).

use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::cache::Object;

/// How many events may wait to be written; more are dropped, since they are only for people.
const WAITING: usize = 4096;
/// How many past events are remembered, to count repeats on them.
const REMEMBERED: usize = 1024;

/// Takes events from controllers without making them wait.
#[derive(Clone)]
pub(crate) struct Recorder(mpsc::Sender<Note>);

/// What makes two events the same.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Note {
    kind: String,
    api_version: String,
    namespace: String,
    name: String,
    uid: String,
    component: &'static str,
    warning: bool,
    reason: &'static str,
    message: String,
}

struct Past {
    name: String,
    count: i32,
}

/// A recorder, and the receiving end for [`write`].
pub(crate) fn channel() -> (Recorder, Inbox) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Recorder(sender), Inbox(receiver))
}

/// The events that wait to be written.
pub(crate) struct Inbox(mpsc::Receiver<Note>);

impl Recorder {
    pub(crate) fn normal<K: Object>(&self, component: &'static str, about: &K, reason: &'static str, message: String) {
        self.send(component, about, false, reason, message);
    }

    pub(crate) fn warning<K: Object>(&self, component: &'static str, about: &K, reason: &'static str, message: String) {
        self.send(component, about, true, reason, message);
    }

    fn send<K: Object>(
        &self,
        component: &'static str,
        about: &K,
        warning: bool,
        reason: &'static str,
        message: String,
    ) {
        let meta = about.meta();
        let note = Note {
            kind: K::kind(&()).into_owned(),
            api_version: K::api_version(&()).into_owned(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            component,
            warning,
            reason,
            message,
        };
        if self.0.try_send(note).is_err() {
            tracing::debug!(reason, "event dropped");
        }
    }
}

/// Writes events as they come, until `shutdown`.
pub(crate) async fn write(client: Client, mut inbox: Inbox, shutdown: CancellationToken) {
    let mut past: HashMap<Note, Past> = HashMap::new();
    while let Some(Some(note)) = shutdown.run_until_cancelled(inbox.0.recv()).await {
        let now = Timestamp::now();
        let api: Api<Event> = Api::namespaced(client.clone(), namespace(&note));
        if let Some(seen) = past.get_mut(&note) {
            seen.count += 1;
            let patch = json!({"count": seen.count, "lastTimestamp": Time(now)});
            if api.patch(&seen.name, &PatchParams::default(), &Patch::Merge(patch)).await.is_ok() {
                continue;
            }
            past.remove(&note);
        }
        let event = event(&note, now);
        match api.create(&PostParams::default(), &event).await {
            Ok(_) => {
                if past.len() >= REMEMBERED {
                    past.clear();
                }
                past.insert(note, Past { name: event.metadata.name.unwrap_or_default(), count: 1 });
            }
            Err(error) => tracing::debug!(reason = note.reason, %error, "event not written"),
        }
    }
}

/// Events about cluster-scoped objects live in `default`.
fn namespace(note: &Note) -> &str {
    if note.namespace.is_empty() { "default" } else { &note.namespace }
}

fn event(note: &Note, now: Timestamp) -> Event {
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{:x}", note.name, now.as_nanosecond())),
            namespace: Some(namespace(note).into()),
            ..Default::default()
        },
        involved_object: ObjectReference {
            kind: Some(note.kind.clone()),
            api_version: Some(note.api_version.clone()),
            namespace: Some(note.namespace.clone()).filter(|n| !n.is_empty()),
            name: Some(note.name.clone()),
            uid: Some(note.uid.clone()),
            ..Default::default()
        },
        type_: Some(if note.warning { "Warning" } else { "Normal" }.into()),
        reason: Some(note.reason.into()),
        message: Some(note.message.clone()),
        source: Some(EventSource { component: Some(note.component.into()), host: None }),
        reporting_component: Some(note.component.into()),
        reporting_instance: Some(String::new()),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        count: Some(1),
        ..Default::default()
    }
}
