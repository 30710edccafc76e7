//! What is known of a pod on this node, kept in its directory so that the next agent goes on where
//! this one ended.

use super::backoff::Backoff;
use crate::Error;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ResourceRequirements;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

/// The file in a pod's directory.
const FILE: &str = "pod.json";

/// A pod on this node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Record {
    pub(crate) uid: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// Its address; `None` until it has one, and with the host's network.
    pub(crate) address: Option<Ipv4Addr>,
    /// Its address was given back, and may be another pod's by now.
    pub(crate) freed: bool,
    /// When this node first saw it.
    pub(crate) started: Option<Timestamp>,
    /// Its namespaces exist.
    pub(crate) sandbox: bool,
    /// Its containers, by name.
    pub(crate) slots: BTreeMap<String, Slot>,
}

/// A container of a pod, over all its starts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Slot {
    /// How often it was started, failed starts included.
    pub(crate) starts: u32,
    pub(crate) run: Run,
    /// How the start before the present one ended.
    pub(crate) last: Option<Ended>,
    /// The normalised reference and id of the image it was started from.
    pub(crate) image: Option<(String, String)>,
    pub(crate) crashes: Backoff,
    pub(crate) pulls: Backoff,
    /// It ended because its sandbox did, not by itself: it is started again at once.
    pub(crate) interrupted: bool,
    /// Its startup probe succeeded, or it has none.
    pub(crate) started: bool,
    pub(crate) ready: bool,
    /// The resources that its present start has been given.
    pub(crate) resources: ResourceRequirements,
    /// Why it can not be started.
    #[serde(skip)]
    pub(crate) waiting: Option<Waiting>,
}

/// What a container does now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) enum Run {
    /// Not started in this sandbox.
    #[default]
    Never,
    Running {
        id: String,
        since: Timestamp,
    },
    Ended(Ended),
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ended {
    pub(crate) id: String,
    pub(crate) code: i32,
    pub(crate) signal: Option<i32>,
    /// Completed, Error, OOMKilled, StartError …
    pub(crate) reason: String,
    pub(crate) message: Option<String>,
    pub(crate) started: Timestamp,
    pub(crate) finished: Timestamp,
}

/// Why a container is not started, and when that is tried again.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Waiting {
    /// ErrImagePull, CreateContainerConfigError …
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) since: Timestamp,
    pub(crate) retry: Timestamp,
}

impl Slot {
    /// Its name at the shim, and of its files: one for each start.
    pub(crate) fn attempt(&self, container: &str) -> String {
        format!("{container}.{}", self.restarts())
    }

    /// What Kubernetes calls restartCount.
    pub(crate) fn restarts(&self) -> u32 {
        self.starts.saturating_sub(1)
    }

    /// Takes note of its end.
    pub(crate) fn end(&mut self, ended: Ended) {
        self.run = Run::Ended(ended);
        self.started = false;
        self.ready = false;
    }

    /// The sandbox is gone: what ran in it ended, and has to run again.
    pub(crate) fn interrupt(&mut self, now: Timestamp) {
        if let Run::Running { id, since } = &self.run {
            let (id, started) = (id.clone(), *since);
            self.end(Ended {
                id,
                code: 137,
                signal: None,
                reason: "ContainerStatusUnknown".into(),
                message: Some("The container could not be located when the pod was terminated".into()),
                started,
                finished: now,
            });
            self.interrupted = true;
        }
    }
}

impl Record {
    /// The address that is the pod's alone.
    pub(crate) fn held(&self) -> Option<Ipv4Addr> {
        self.address.filter(|_| !self.freed)
    }

    /// The record in a pod's directory; `None` when there is none that can be read.
    pub(crate) fn load(dir: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(dir.join(FILE)).ok()?).ok()
    }

    /// Writes it into the pod's directory, whole or not at all.
    pub(crate) fn save(&self, dir: &Path) -> Result<(), Error> {
        let (new, path) = (dir.join("pod.json.new"), dir.join(FILE));
        let json = serde_json::to_vec(self).map_err(|error| Error::io("write", &path)(std::io::Error::from(error)))?;
        fs::write(&new, json).map_err(Error::io("write", &new))?;
        fs::rename(&new, &path).map_err(Error::io("rename to", path))
    }

    /// All records of the directory that has the pods, with each pod's own directory.
    pub(crate) fn all(pods: &Path) -> Vec<(PathBuf, Self)> {
        let entries = fs::read_dir(pods).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter_map(|dir| Some((dir.clone(), Self::load(&dir)?))).collect()
    }
}
