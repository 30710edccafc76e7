//! Telling the API server a pod's status: the newest one, soon, and only when it changed.

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

/// Reports one pod's status in the background.
#[derive(Debug)]
pub(crate) struct Reporter {
    newest: watch::Sender<PodStatus>,
    task: JoinHandle<()>,
}

impl Reporter {
    /// A reporter for that pod, whose status is `reported` now.
    pub(crate) fn start(client: kube::Client, pod: &Pod, reported: PodStatus) -> Self {
        let meta = &pod.metadata;
        let namespace = meta.namespace.clone().unwrap_or_default();
        let api = Api::<Pod>::namespaced(client, &namespace);
        let (name, uid) = (meta.name.clone().unwrap_or_default(), meta.uid.clone().unwrap_or_default());
        let (newest, statuses) = watch::channel(reported.clone());
        let task = tokio::spawn(report(api, name, uid, reported, statuses));
        Self { newest, task }
    }

    /// Takes a status; an older one that is not yet written is forgotten.
    pub(crate) fn tell(&self, status: PodStatus) {
        self.newest.send_if_modified(|newest| {
            let changed = *newest != status;
            *newest = status;
            changed
        });
    }

    /// The status told last.
    pub(crate) fn told(&self) -> PodStatus {
        self.newest.borrow().clone()
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

async fn report(
    api: Api<Pod>,
    name: String,
    uid: String,
    mut reported: PodStatus,
    mut statuses: watch::Receiver<PodStatus>,
) {
    let mut pause = RETRY;
    loop {
        let status = statuses.borrow_and_update().clone();
        if status != reported {
            let patch = json!({"metadata": {"uid": uid}, "status": merge_patch(&status)});
            let params = PatchParams::default();
            match api.patch_status(&name, &params, &Patch::Merge(&patch)).await {
                Ok(_) => {
                    reported = status;
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
        if statuses.changed().await.is_err() {
            return;
        }
    }
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
