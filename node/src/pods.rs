//! What all pods of the node share: where things are, whom to ask, and which pods there are.

use crate::{
    Config,
    events::{Note, Recorder},
    network::{Addresses, Links},
};
use k8s_openapi::api::core::v1::{ObjectReference, Pod, PodStatus};
use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The shared part of the agent.
pub(crate) struct Pods {
    pub(crate) config: Config,
    pub(crate) images: image::Store,
    pub(crate) client: kube::Client,
    pub(crate) links: Links,
    pub(crate) events: Recorder,
    /// Processors in thousandths and memory in bytes of the machine.
    pub(crate) capacity: (u64, u64),
    addresses: Mutex<Addresses>,
    live: Mutex<BTreeMap<(String, String), Live>>,
}

/// What the kubelet API needs to know of a pod.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    pub(crate) pod: Arc<Pod>,
    pub(crate) dir: PathBuf,
    pub(crate) shim: Option<shim::Client>,
    /// The status as reported last.
    pub(crate) status: Option<PodStatus>,
    /// Number of starts and whether it runs, by container.
    pub(crate) containers: BTreeMap<String, (u32, bool)>,
}

impl fmt::Debug for Pods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pods").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Pods {
    pub(crate) fn new(
        config: Config,
        images: image::Store,
        client: kube::Client,
        links: Links,
        capacity: (u64, u64),
    ) -> Self {
        let events = Recorder::start(client.clone(), &config);
        let addresses = Mutex::new(Addresses::new(config.pod_cidr));
        Self { config, images, client, links, events, capacity, addresses, live: Mutex::default() }
    }

    /// The directory that has the pods' directories.
    pub(crate) fn dir(&self) -> PathBuf {
        self.config.data_dir.join("pods")
    }

    pub(crate) fn addresses(&self) -> MutexGuard<'_, Addresses> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pods by namespace and name.
    pub(crate) fn live(&self) -> MutexGuard<'_, BTreeMap<(String, String), Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records an event about a pod; `path` is that of a container, or empty.
    pub(crate) fn note(&self, pod: &Pod, path: &str, warning: bool, reason: &'static str, message: String) {
        let meta = &pod.metadata;
        self.events.note(Note {
            about: ObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                name: meta.name.clone(),
                namespace: meta.namespace.clone(),
                uid: meta.uid.clone(),
                resource_version: meta.resource_version.clone(),
                field_path: (!path.is_empty()).then(|| path.to_owned()),
            },
            warning,
            reason,
            message,
        });
    }
}
