//! Events about pods and the node, written to the API server in the background. The same event
//! again only counts.

use crate::Config;
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time},
};
use kube::api::{Api, Patch, PatchParams, PostParams};
use std::collections::BTreeMap;
use tokio::sync::mpsc;

/// Events that wait to be written; more are dropped.
const QUEUE: usize = 1024;
/// Events whose repetition is recognised.
const KNOWN: usize = 2048;

/// Takes events. Cheap to clone; never waits.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    queue: mpsc::Sender<Note>,
}

/// One event.
#[derive(Clone, Debug)]
pub(crate) struct Note {
    /// What it is about, with the field path of a container.
    pub(crate) about: ObjectReference,
    pub(crate) warning: bool,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Recorder {
    /// A recorder, and the task that writes until all recorders are gone.
    pub(crate) fn start(client: kube::Client, config: &Config) -> Self {
        let (queue, notes) = mpsc::channel(QUEUE);
        tokio::spawn(write(client, config.node_name.clone(), notes));
        Self { queue }
    }

    pub(crate) fn note(&self, note: Note) {
        if self.queue.try_send(note).is_err() {
            tracing::debug!("too many events, one is dropped");
        }
    }
}

async fn write(client: kube::Client, node: String, mut notes: mpsc::Receiver<Note>) {
    let mut known: BTreeMap<String, (String, i32)> = BTreeMap::new();
    while let Some(note) = notes.recv().await {
        let namespace = note.about.namespace.clone();
        let namespace = namespace.unwrap_or_else(|| "default".into());
        let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
        let about = &note.about;
        let key = format!("{:?} {:?} {} {}", about.uid, about.field_path, note.reason, note.message);
        let now = Timestamp::now();
        if let Some((name, count)) = known.get_mut(&key) {
            *count += 1;
            let again = serde_json::json!({"count": *count, "lastTimestamp": Time(now)});
            let again = Patch::Merge(again);
            if api.patch(name, &PatchParams::default(), &again).await.is_ok() {
                continue;
            }
        }
        let name = format!("{}.{:x}", about.name.as_deref().unwrap_or_default(), now.as_nanosecond());
        let event = event(note, &node, &namespace, &name, now);
        match api.create(&PostParams::default(), &event).await {
            Ok(_) => {
                if known.len() >= KNOWN {
                    known.clear();
                }
                known.insert(key, (name, 1));
            }
            // The namespace is being deleted, or gone: nobody will read it.
            Err(error) => tracing::debug!(%error, "event not written"),
        }
    }
}

fn event(note: Note, node: &str, namespace: &str, name: &str, now: Timestamp) -> Event {
    Event {
        metadata: ObjectMeta { name: Some(name.into()), namespace: Some(namespace.into()), ..ObjectMeta::default() },
        involved_object: note.about,
        type_: Some(if note.warning { "Warning" } else { "Normal" }.into()),
        reason: Some(note.reason.into()),
        message: Some(note.message),
        count: Some(1),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        event_time: None::<MicroTime>,
        source: Some(EventSource { component: Some("kubelet".into()), host: Some(node.into()) }),
        reporting_component: Some("kubelet".into()),
        reporting_instance: Some(node.into()),
        ..Event::default()
    }
}
