//! A pod on this node: one task that plans, starts jobs, hears what came of them, and reports.

mod adopt;
mod backoff;
mod check;
mod end;
mod env;
mod exec;
mod fetch;
mod files;
mod hear;
mod image;
mod limits;
mod plan;
mod probe;
mod record;
mod report;
mod resize;
mod sandbox;
mod sources;
mod start;
mod status;
mod stop;
mod user;

pub(crate) use adopt::discard;
pub use files::{Resolv, resolv};
pub(crate) use plan::containers;
pub(crate) use record::Record;
pub(crate) use sources::{Sources, field, resource};
pub(crate) use start::Files;

use crate::pods::{Live, Pods};
use hear::Event;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodCondition, PodSpec, ResourceRequirements};
use plan::{Kind, Outcome, plan};
use record::Slot;
use report::Reporter;
use std::{
    borrow::Cow,
    collections::BTreeMap,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    task::AbortHandle,
};
use tokio_util::sync::CancellationToken;

/// What a pod's task has heard of but not yet looked at; jobs wait when it is full.
const QUEUE: usize = 64;
/// How often the files of ConfigMaps, Secrets and fields in volumes are compared with the API.
const REFRESH: Duration = Duration::from_secs(30);

/// How long a pod's task sleeps when nothing is to be expected.
const IDLE: Duration = Duration::from_secs(3600);

/// What the API server wants of a pod.
#[derive(Clone, Debug)]
pub(crate) enum Desired {
    /// Run it; or end it, when it has a deletion timestamp.
    Run(Arc<Pod>),
    /// It is not there any more.
    Gone,
}

/// A task that is ended when this is dropped.
#[derive(Debug)]
struct Task(AbortHandle);

impl Task {
    fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(future).abort_handle())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A pod's task.
#[derive(Debug)]
pub(crate) struct Worker {
    pods: Arc<Pods>,
    pod: Arc<Pod>,
    dir: PathBuf,
    record: Record,
    shim: Option<shim::Client>,
    outcome: Option<Outcome>,
    initialized: bool,
    reporter: Reporter,
    tell: mpsc::Sender<Event>,
    events: mpsc::Receiver<Event>,
    /// The one job under way: the sandbox, or the start of a container.
    job: Option<Task>,
    /// When a sandbox that failed is tried again.
    retry: Option<Timestamp>,
    /// Ends of containers that came before the news of their start.
    early: BTreeMap<String, shim::State>,
    /// The probes of running containers, by attempt.
    probes: BTreeMap<String, Task>,
    /// The stops under way, by attempt.
    stops: BTreeMap<String, Task>,
    /// The newest change of resources of each attempt, also one that failed.
    resizes: BTreeMap<String, (ResourceRequirements, Task)>,
    /// Hears of the containers' ends.
    exits: Option<Task>,
    refresh: Option<Task>,
}

impl Worker {
    /// A task for that pod; what a former agent left of it is adopted.
    pub(crate) async fn new(pods: Arc<Pods>, pod: Arc<Pod>) -> Self {
        let meta = &pod.metadata;
        let uid = meta.uid.clone().unwrap_or_default();
        let dir = pods.dir().join(&uid);
        let record = Record::load(&dir).unwrap_or_else(|| Record {
            uid,
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            started: Some(Timestamp::now()),
            ..Record::default()
        });
        let (tell, events) = mpsc::channel(QUEUE);
        let status = pod.status.clone().unwrap_or_default();
        let outcome = match status.phase.as_deref() {
            Some("Succeeded") => Some(Outcome::Succeeded),
            Some("Failed") => Some(Outcome::Failed(None)),
            _ => None,
        };
        let reporter = Reporter::start(pods.client.clone(), &pod, status);
        let mut worker = Self {
            pods,
            pod,
            dir,
            record,
            shim: None,
            outcome,
            initialized: false,
            reporter,
            tell,
            events,
            job: None,
            retry: None,
            early: BTreeMap::new(),
            probes: BTreeMap::new(),
            stops: BTreeMap::new(),
            resizes: BTreeMap::new(),
            exits: None,
            refresh: None,
        };
        worker.adopt().await;
        worker
    }

    /// Runs until the pod is gone from the API server, or until `stop`, which ends the pod quickly
    /// but leaves its object, to be started anew by the next agent.
    pub(crate) async fn run(mut self, mut desired: watch::Receiver<Desired>, stop: CancellationToken) {
        if self.outcome.is_some() {
            self.release().await;
        }
        loop {
            if self.pod.metadata.deletion_timestamp.is_some() {
                return self.delete(desired, stop).await;
            }
            let wake = self.step().await;
            let sleep = tokio::time::sleep(wake);
            tokio::select! {
                biased;
                () = stop.cancelled() => return self.interrupt().await,
                changed = desired.changed() => {
                    let now = desired.borrow_and_update().clone();
                    match now {
                        Desired::Run(pod) if changed.is_ok() => self.pod = pod,
                        _ => return self.vanish(stop).await,
                    }
                }
                Some(event) = self.events.recv() => self.hear(event),
                () = sleep => {}
            }
        }
    }

    /// Plans, begins what is to be done, and reports. Returns when to do it again at the latest.
    async fn step(&mut self) -> Duration {
        let now = Timestamp::now();
        let spec = self.pod.spec.clone().unwrap_or_default();
        let mut wake = None;
        if self.outcome.is_none() {
            let plan = plan(&spec, &self.record, now);
            self.initialized = plan.initialized;
            wake = plan.wake;
            if let Some(outcome) = plan.outcome {
                self.stop_all(self.grace(), None).await;
                self.outcome = Some(outcome);
                self.report();
                self.release().await;
            } else {
                self.resize(&spec);
            }
            if self.outcome.is_none() && self.job.is_none() {
                wake = wake.into_iter().chain(self.begin(&spec, &plan.start, now)).min();
            }
        }
        self.report();
        let wait = wake.map_or(IDLE, |wake| Duration::try_from(wake.duration_since(now)).unwrap_or_default());
        wait + Duration::from_millis(1)
    }

    /// Begins the next job, if there is one: first the sandbox, then the containers. Returns when it may be begun.
    fn begin(&mut self, spec: &PodSpec, start: &[String], now: Timestamp) -> Option<Timestamp> {
        match (self.retry.filter(|retry| *retry > now), start.first()) {
            (Some(retry), _) if self.shim.is_none() => return Some(retry),
            _ if self.shim.is_none() => self.begin_sandbox(spec),
            (_, Some(name)) => self.begin_start(spec, name),
            _ => {}
        }
        None
    }

    fn begin_sandbox(&mut self, spec: &PodSpec) {
        if !spec.host_network.unwrap_or(false) && self.record.address.is_none() {
            self.record.address = self.pods.addresses().take();
            if self.record.address.is_none() {
                let range = self.pods.config.pod_cidr;
                let text = crate::Error::NoFreeAddress(range).to_string();
                return self.hear(Event::Sandbox(Err(sandbox::Trouble::Sandbox(text))));
            }
        }
        if let Err(error) = std::fs::create_dir_all(&self.dir) {
            let text = crate::Error::io("make", &self.dir)(error).to_string();
            return self.hear(Event::Sandbox(Err(sandbox::Trouble::Sandbox(text))));
        }
        self.save();
        let (pods, pod, dir) = (self.pods.clone(), self.pod.clone(), self.dir.clone());
        let (address, tell) = (self.record.address, self.tell.clone());
        self.job = Some(Task::spawn(async move {
            let made = sandbox::make(&pods, &pod, &dir, address).await;
            let _ = tell.send(Event::Sandbox(made)).await;
        }));
    }

    fn begin_start(&mut self, spec: &PodSpec, name: &str) {
        let Some((kind, container)) = containers(spec).find(|(_, c)| c.name == name) else {
            return;
        };
        let Some(shim) = self.shim.clone() else { return };
        let slot = self.record.slots.entry(name.to_owned()).or_default();
        slot.resources = container.resources.clone().unwrap_or_default();
        let mut slot = slot.clone();
        slot.starts += 1;
        let start = start::Start {
            pods: self.pods.clone(),
            pod: self.pod.clone(),
            dir: self.dir.clone(),
            shim,
            container: container.into_owned(),
            path: path(kind, name),
            slot,
            address: self.address(),
            processes_of: self.target(spec, name),
        };
        let (tell, name) = (self.tell.clone(), name.to_owned());
        self.job = Some(Task::spawn(async move {
            let (image, came) = start.run().await;
            let _ = tell.send(Event::Start { name, image, came }).await;
        }));
    }

    /// The attempt of the container that an ephemeral one names as its target.
    fn target(&self, spec: &PodSpec, name: &str) -> String {
        let mut ephemeral = spec.ephemeral_containers.iter().flatten().filter(|container| container.name == name);
        let target = ephemeral.next().and_then(|container| container.target_container_name.clone()).unwrap_or_default();
        let slot = self.record.slots.get(&target);
        slot.map_or_else(|| target.clone(), |slot| slot.attempt(&target))
    }

    /// Begins to compare the volumes with the API now and then, if that can change anything.
    fn begin_refresh(&mut self) {
        let spec = self.pod.spec.as_ref();
        let volumes = spec.and_then(|spec| spec.volumes.as_ref());
        let fetched = volumes
            .into_iter()
            .flatten()
            .any(|volume| volume.config_map.is_some() || volume.secret.is_some() || volume.projected.is_some());
        if !fetched {
            return;
        }
        let (pods, pod, dir) = (self.pods.clone(), self.pod.clone(), self.dir.clone());
        let address = self.address();
        self.refresh = Some(Task::spawn(async move {
            loop {
                tokio::time::sleep(REFRESH).await;
                let done = sandbox::volumes(&pods, &pod, &dir, address.clone()).await;
                if let Err(trouble) = done {
                    tracing::debug!(?trouble, "volumes not refreshed");
                }
            }
        }));
    }

    /// Reports the status, and shows the pod to the kubelet API.
    fn report(&self) {
        let host = self.pods.config.node_address.to_string();
        let told = self.reporter.told();
        let mut before = self.pod.status.clone().unwrap_or_default();
        // Our own conditions as told last: what the watch shows may be older.
        before.conditions = merged(before.conditions, told.conditions);
        let view = status::View {
            record: &self.record,
            outcome: self.outcome.as_ref(),
            initialized: self.initialized,
            host: &host,
            now: Timestamp::now(),
        };
        let status = status::render(&self.pod, &before, &view);
        self.reporter.tell(status.clone(), &self.pod);
        let slots = self.record.slots.iter();
        let containers = slots.map(|(name, slot)| {
            let runs = matches!(slot.run, record::Run::Running { .. });
            (name.clone(), (slot.starts, runs))
        });
        let live = Live {
            pod: self.pod.clone(),
            dir: self.dir.clone(),
            shim: self.shim.clone(),
            status: Some(status),
            containers: containers.collect(),
        };
        let key = (self.record.namespace.clone(), self.record.name.clone());
        self.pods.live().insert(key, live);
    }

    fn save(&self) {
        if let Err(error) = self.record.save(&self.dir) {
            tracing::warn!(pod = self.record.name, "failed to {error}");
        }
    }

    /// The address of the pod; that of the node for a pod in its network.
    fn address(&self) -> String {
        let own: Option<Ipv4Addr> = self.record.address;
        own.unwrap_or(self.pods.config.node_address).to_string()
    }

    fn container(&self, name: &str) -> Option<(Kind, Cow<'_, Container>)> {
        containers(self.pod.spec.as_ref()?).find(|(_, container)| container.name == name)
    }
}

/// The conditions of the API, with those told last in place of the ones of the same type.
fn merged(api: Option<Vec<PodCondition>>, told: Option<Vec<PodCondition>>) -> Option<Vec<PodCondition>> {
    let mut all = api.unwrap_or_default();
    for condition in told.into_iter().flatten() {
        if status::OURS.contains(&condition.type_.as_str()) {
            all.retain(|known| known.type_ != condition.type_);
            all.push(condition);
        }
    }
    Some(all)
}

/// The field path of a container in events.
fn path(kind: Kind, name: &str) -> String {
    match kind {
        Kind::App => format!("spec.containers{{{name}}}"),
        Kind::Init | Kind::Sidecar => format!("spec.initContainers{{{name}}}"),
        Kind::Ephemeral => format!("spec.ephemeralContainers{{{name}}}"),
    }
}

/// Adds the mounts of the files that every container gets, unless something is mounted there.
fn files_of(dir: &Path, container: &Container, slot: &Slot, mounts: &mut Vec<shim::Mount>) {
    let etc = dir.join("etc");
    let last = container.termination_message_path.as_deref();
    let last = last.filter(|path| !path.is_empty()).unwrap_or("/dev/termination-log");
    let files = [
        (etc.join("hosts"), "/etc/hosts"),
        (etc.join("hostname"), "/etc/hostname"),
        (etc.join("resolv.conf"), "/etc/resolv.conf"),
        (Files::new(dir, container, slot).message, last),
    ];
    for (source, target) in files {
        let target = PathBuf::from(target);
        if mounts.iter().all(|mount| mount.target != target) {
            mounts.push(shim::Mount { source, target, read_only: false });
        }
    }
}
