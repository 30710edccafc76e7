//! Telling the API server a pod's status: the newest one, soon, and only when it changed.

use super::status::OURS;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::{sync::watch, task::JoinHandle};

/// The first pause after a status could not be written; doubled up to [`SLOWEST`].
const RETRY: Duration = Duration::from_millis(100);
const SLOWEST: Duration = Duration::from_secs(5);
/// The fields of a status that this node owns: those it does not set are taken away.
const OWN: [&str; 6] = ["reason", "message", "podIP", "podIPs", "containerStatuses", "initContainerStatuses"];

/// What is to be reported.
#[derive(Clone, Debug, PartialEq)]
struct News {
    status: PodStatus,
    /// The newest revision in which somebody else has changed our conditions; 0 when nobody has.
    undone: u64,
}

/// Reports one pod's status in the background.
#[derive(Debug)]
pub(crate) struct Reporter {
    newest: watch::Sender<News>,
    task: JoinHandle<()>,
}

impl Reporter {
    /// A reporter for that pod, whose status is `reported` now.
    pub(crate) fn start(client: kube::Client, pod: &Pod, reported: PodStatus) -> Self {
        let meta = &pod.metadata;
        let namespace = meta.namespace.clone().unwrap_or_default();
        let api = Api::<Pod>::namespaced(client, &namespace);
        let (name, uid) = (meta.name.clone().unwrap_or_default(), meta.uid.clone().unwrap_or_default());
        let (newest, statuses) = watch::channel(News { status: reported.clone(), undone: 0 });
        let task = tokio::spawn(report(api, name, uid, reported, statuses));
        Self { newest, task }
    }

    /// Takes a status; an older one that is not yet written is forgotten. `shown` is the pod as the
    /// API server last showed it: conditions of ours that the node controller changed while nothing
    /// was heard of the node are written again.
    pub(crate) fn tell(&self, status: PodStatus, shown: &Pod) {
        let undone = if undone(&status, shown.status.as_ref()) { revision(shown) } else { 0 };
        self.newest.send_if_modified(|newest| {
            let news = News { status, undone: undone.max(newest.undone) };
            let changed = *newest != news;
            *newest = news;
            changed
        });
    }

    /// The status told last.
    pub(crate) fn told(&self) -> PodStatus {
        self.newest.borrow().status.clone()
    }

    /// Waits until the last status is written, for `patience` at most.
    pub(crate) async fn finish(self, patience: Duration) {
        drop(self.newest);
        let stop = self.task.abort_handle();
        if tokio::time::timeout(patience, self.task).await.is_err() {
            stop.abort();
        }
    }
}

async fn report(api: Api<Pod>, name: String, uid: String, mut reported: PodStatus, mut newest: watch::Receiver<News>) {
    let mut pause = RETRY;
    let mut written = 0;
    loop {
        let News { status, undone } = newest.borrow_and_update().clone();
        if status != reported || undone > written {
            let patch = json!({"metadata": {"uid": uid}, "status": merge_patch(&status)});
            let params = PatchParams::default();
            match api.patch_status(&name, &params, &Patch::Merge(&patch)).await {
                Ok(pod) => {
                    reported = status;
                    written = revision(&pod);
                    pause = RETRY;
                    continue;
                }
                // It is gone.
                Err(kube::Error::Api(answer)) if answer.code == 404 => return,
                Err(error) => {
                    tracing::warn!(pod = name, %error, "failed to report the status");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(SLOWEST);
                    continue;
                }
            }
        }
        if newest.changed().await.is_err() {
            return;
        }
    }
}

/// Whether one of our conditions is shown with another status than the one told.
fn undone(told: &PodStatus, shown: Option<&PodStatus>) -> bool {
    let ours = |status: Option<&PodStatus>| -> Vec<(String, String)> {
        let all = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
        let ours = all.filter(|condition| OURS.contains(&condition.type_.as_str()));
        let mut ours: Vec<_> = ours.map(|condition| (condition.type_.clone(), condition.status.clone())).collect();
        ours.sort();
        ours
    };
    ours(Some(told)) != ours(shown)
}

/// Resource versions are decimal numbers that grow (KEP-5504).
fn revision(pod: &Pod) -> u64 {
    pod.metadata.resource_version.as_ref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

/// A status as a merge patch: what it leaves out of our own fields is removed.
fn merge_patch(status: &PodStatus) -> Value {
    let mut value = serde_json::to_value(status).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        for field in OWN {
            fields.entry(field).or_insert(Value::Null);
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_went_are_removed() {
        let status =
            PodStatus { phase: Some("Running".into()), pod_ip: Some("10.244.0.2".into()), ..PodStatus::default() };
        let patch = merge_patch(&status);
        assert_eq!(patch["phase"], "Running");
        assert_eq!(patch["podIP"], "10.244.0.2");
        assert_eq!(patch.get("reason"), Some(&Value::Null));
        assert_eq!(patch.get("qosClass"), None);
    }
}
