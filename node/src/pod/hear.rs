//! What happens to a pod's containers, and what that changes in its record.

use super::{
    Task, Worker, path,
    plan::again,
    probe::{Probes, Said, Which},
    record::{Ended, Run, Waiting},
    sandbox::Trouble,
    start::{Came, Files, Refused},
    status::full_name,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ResourceRequirements;
use std::{fs::File, io::Read};

/// When something that is no pull is tried again: a missing ConfigMap may come at any time.
const AGAIN: SignedDuration = SignedDuration::from_secs(2);
/// Most bytes of a program's last words (kubelet's limit).
const MESSAGE_MAX: u64 = 4096;

/// News for a pod's task.
#[derive(Debug)]
pub(crate) enum Event {
    /// The sandbox was made, or not.
    Sandbox(Result<shim::Client, Trouble>),
    /// A start came to its end.
    Start { name: String, image: Option<(String, String)>, came: Result<Came, Refused> },
    /// A container ended.
    Exit(shim::State),
    /// The shim ended, and with it everything in the pod.
    Lost,
    /// An attempt was given other resources, or not.
    Resized { name: String, attempt: String, resources: ResourceRequirements, done: Result<(), String> },
    /// A probe of an attempt said something.
    Probe { name: String, attempt: String, which: Which, said: Said },
}

impl Worker {
    pub(super) fn hear(&mut self, event: Event) {
        match event {
            Event::Sandbox(made) => {
                self.job = None;
                match made {
                    Ok(shim) => self.enter(shim),
                    Err(trouble) => self.trouble(&trouble),
                }
            }
            Event::Start { name, image, came } => {
                self.job = None;
                self.came(&name, image, came);
            }
            Event::Exit(state) => self.exit(state),
            Event::Lost => self.lost(),
            Event::Resized { name, attempt, resources, done } => self.resized(&name, &attempt, resources, done),
            Event::Probe { name, attempt, which, said } => self.probe(&name, &attempt, which, said),
        }
    }

    /// The pod has a sandbox.
    pub(super) fn enter(&mut self, shim: shim::Client) {
        let (client, tell) = (shim.clone(), self.tell.clone());
        self.exits = Some(Task::spawn(async move {
            if let Ok(mut exits) = client.exits().await {
                while let Ok(state) = exits.next().await {
                    let _ = tell.send(Event::Exit(state)).await;
                }
            }
            let _ = tell.send(Event::Lost).await;
        }));
        self.shim = Some(shim);
        self.retry = None;
        self.record.sandbox = true;
        self.save();
        self.begin_refresh();
    }

    fn trouble(&mut self, trouble: &Trouble) {
        self.retry = Timestamp::now().saturating_add(AGAIN).ok();
        let (reason, text) = match trouble {
            Trouble::Volume(failed) => {
                ("FailedMount", format!("MountVolume.SetUp failed for volume {:?} : {}", failed.volume, failed.reason))
            }
            Trouble::Sandbox(reason) => ("FailedCreatePodSandBox", format!("Failed to create pod sandbox: {reason}")),
        };
        self.pods.note(&self.pod, "", true, reason, text);
    }

    /// A container was started, or not.
    pub(super) fn came(&mut self, name: &str, image: Option<(String, String)>, came: Result<Came, Refused>) {
        let now = Timestamp::now();
        let slot = self.record.slots.entry(name.to_owned()).or_default();
        if image.is_some() {
            slot.image = image;
        }
        let came = match came {
            Ok(came) => came,
            Err(refused) => return self.refused(name, refused),
        };
        if let Run::Ended(ended) = &slot.run {
            if !slot.interrupted {
                slot.crashes.next(ended.finished, now);
            }
            slot.last = Some(ended.clone());
        }
        slot.starts += 1;
        slot.waiting = None;
        slot.interrupted = false;
        let (id, attempt) = (new_id(), slot.attempt(name));
        match came {
            Came::Broken(message) => {
                slot.end(Ended {
                    id,
                    code: 128,
                    signal: None,
                    reason: "StartError".into(),
                    message: Some(message),
                    started: Timestamp::UNIX_EPOCH,
                    finished: now,
                });
                self.backing_off(name);
            }
            Came::Running(state, failed) => {
                let since = at(state.started).unwrap_or(now);
                slot.run = Run::Running { id, since };
                self.begin_probes(name);
                if let Some(early) = self.early.remove(&attempt) {
                    self.exit(early);
                } else if failed.is_some() {
                    let text = format!("Container {name} failed post-start hook, will be restarted");
                    self.stop_one(name, self.grace(), text);
                }
            }
        }
        self.save();
    }

    fn refused(&mut self, name: &str, refused: Refused) {
        let now = Timestamp::now();
        let path = self
            .container(name)
            .map(|(kind, container)| (path(kind, name), container.image.clone().unwrap_or_default()));
        let (path, image) = path.unwrap_or_default();
        let slot = self.record.slots.entry(name.to_owned()).or_default();
        let pulling = matches!(refused.reason, "ErrImagePull" | "InvalidImageName");
        let retry = if pulling {
            slot.pulls.next(now, now);
            slot.pulls.due(now)
        } else {
            now.saturating_add(AGAIN).unwrap_or(now)
        };
        let text = match refused.reason {
            "ErrImagePull" | "InvalidImageName" | "ErrImageNeverPull" => {
                format!("Error: {}", refused.reason)
            }
            _ => format!("Error: {}", refused.message),
        };
        slot.waiting = Some(Waiting { reason: refused.reason.into(), message: refused.message, since: now, retry });
        self.pods.note(&self.pod, &path, true, "Failed", text);
        if refused.reason == "ErrImagePull" {
            let text = format!("Back-off pulling image {image:?}");
            self.pods.note(&self.pod, &path, false, "BackOff", text);
            let text = "Error: ImagePullBackOff".to_owned();
            self.pods.note(&self.pod, &path, true, "Failed", text);
        }
    }

    /// Begins the probes of a container that runs, and says what is true without them.
    pub(super) fn begin_probes(&mut self, name: &str) {
        let address = self.address();
        let Some((_, container)) = self.container(name) else {
            return;
        };
        let probes = Probes::new(&container, &address);
        let Some(slot) = self.record.slots.get_mut(name) else {
            return;
        };
        slot.started = slot.started || probes.started_at_once();
        slot.ready = slot.ready || slot.started && probes.ready_at_once();
        let attempt = slot.attempt(name);
        let Some(shim) = self.shim.clone() else { return };
        let (tell, name, of) = (self.tell.clone(), name.to_owned(), attempt.clone());
        let task = Task::spawn(async move {
            let attempt = of.clone();
            let say = |which, said| {
                let event = Event::Probe { name: name.clone(), attempt: attempt.clone(), which, said };
                let tell = tell.clone();
                // Waits when the pod's task is busy: what a probe says is said only once.
                async move { drop(tell.send(event).await) }
            };
            probes.run(shim, of, say).await;
        });
        self.probes.insert(attempt, task);
    }

    fn probe(&mut self, name: &str, attempt: &str, which: Which, said: Said) {
        let Some((kind, container)) = self.container(name) else {
            return;
        };
        let (path, at_once) = (path(kind, name), container.readiness_probe.is_none());
        let Some(slot) = self.record.slots.get_mut(name) else {
            return;
        };
        if slot.attempt(name) != attempt || !matches!(slot.run, Run::Running { .. }) {
            return;
        }
        match (which, said) {
            (_, Said::Failed(text)) => {
                let text = format!("{} probe failed: {text}", which.name());
                self.pods.note(&self.pod, &path, true, "Unhealthy", text);
            }
            // The next agent begins with what is saved: a kill of this one takes no pod out of its Services.
            (Which::Readiness, Said::Is(ready)) => {
                slot.ready = ready;
                self.save();
            }
            (Which::Startup, Said::Is(true)) => {
                slot.started = true;
                slot.ready = at_once;
                self.save();
            }
            (Which::Liveness, Said::Is(true)) => {}
            (Which::Startup | Which::Liveness, Said::Is(false)) => {
                let which = which.name().to_lowercase();
                let text = format!("Container {name} failed {which} probe, will be restarted");
                self.stop_one(name, self.grace(), text);
            }
        }
    }

    /// A container ended: of the present attempt, or of one whose start is not yet heard of.
    fn exit(&mut self, state: shim::State) {
        let Some(exit) = state.exit.clone() else { return };
        let name = state.name.rsplit_once('.').map_or("", |(name, _)| name).to_owned();
        let now = Timestamp::now();
        let Some(slot) = self.record.slots.get(&name) else {
            self.early.insert(state.name.clone(), state);
            return;
        };
        let (id, since) = match &slot.run {
            Run::Running { id, since } if slot.attempt(&name) == state.name => (id.clone(), *since),
            _ => {
                let mut next = slot.clone();
                next.starts += 1;
                if next.attempt(&name) == state.name {
                    self.early.insert(state.name.clone(), state);
                }
                return;
            }
        };
        let reason = match (exit.oom, exit.code) {
            (true, _) => "OOMKilled",
            (_, 0) => "Completed",
            _ => "Error",
        };
        let message = self.last_words(&name, exit.code);
        let ended = Ended {
            id,
            code: exit.code,
            signal: exit.signal,
            reason: reason.into(),
            message,
            started: since,
            finished: at(exit.finished).unwrap_or(now),
        };
        if let Some(slot) = self.record.slots.get_mut(&name) {
            slot.end(ended);
        }
        self.probes.remove(&state.name);
        self.stops.remove(&state.name);
        self.resizes.remove(&state.name);
        self.save();
        if let Some(shim) = self.shim.clone() {
            tokio::spawn(async move {
                let _ = shim.remove(&state.name).await;
            });
        }
        self.backing_off(&name);
    }

    /// Says so when a container that ended has to wait for its next start.
    fn backing_off(&self, name: &str) {
        let Some((kind, _)) = self.container(name) else { return };
        let spec = self.pod.spec.as_ref();
        let policy = spec.and_then(|spec| spec.restart_policy.as_deref());
        let Some(slot) = self.record.slots.get(name) else { return };
        if let Run::Ended(ended) = &slot.run
            && self.pod.metadata.deletion_timestamp.is_none()
            && again(kind, policy, ended.code, slot.interrupted)
            && !slot.crashes.delay(ended.finished).is_zero()
        {
            let pod = full_name(&self.pod);
            let text = format!("Back-off restarting failed container {name} in pod {pod}");
            self.pods.note(&self.pod, &path(kind, name), true, "BackOff", text);
        }
    }

    /// What the program wrote into its termination message file; else, when asked for and it
    /// failed, the end of its log.
    fn last_words(&self, name: &str, code: i32) -> Option<String> {
        let (_, container) = self.container(name)?;
        let files = Files::new(&self.dir, &container, self.record.slots.get(name)?);
        let read = |path| {
            let mut bytes = Vec::new();
            let file = File::open(path).ok()?;
            file.take(MESSAGE_MAX).read_to_end(&mut bytes).ok()?;
            Some(String::from_utf8_lossy(&bytes).into_owned())
        };
        let own = read(&files.message).filter(|text| !text.is_empty());
        let policy = container.termination_message_policy.as_deref();
        let logged = || {
            (policy == Some("FallbackToLogsOnError") && code != 0).then(|| crate::kubelet::tail(&files.log, 80, 2048))
        };
        own.or_else(logged).filter(|text| !text.is_empty())
    }

    /// The sandbox is gone: everything in it ended, and is started anew.
    fn lost(&mut self) {
        if self.shim.take().is_none() {
            return;
        }
        self.job = None;
        self.probes.clear();
        self.stops.clear();
        self.resizes.clear();
        self.exits = None;
        self.refresh = None;
        self.interrupted();
        let text = "Pod sandbox changed, it will be killed and re-created.";
        self.pods.note(&self.pod, "", false, "SandboxChanged", text.into());
    }

    /// Takes note that the sandbox does not exist any more.
    pub(super) fn interrupted(&mut self) {
        let now = Timestamp::now();
        self.record.sandbox = false;
        // A shim that was killed leaves its socket and cgroups.
        let _ = shim::clear(&self.dir);
        let spec = self.pod.spec.clone().unwrap_or_default();
        for (kind, container) in super::containers(&spec) {
            if let Some(slot) = self.record.slots.get_mut(&container.name) {
                slot.interrupt(now);
                // A new sandbox is initialised anew.
                slot.interrupted |= kind != super::Kind::App && slot.run != Run::Never;
            }
        }
        self.save();
    }
}

fn at(nanoseconds: i64) -> Option<Timestamp> {
    let time = Timestamp::from_nanosecond(i128::from(nanoseconds)).ok()?;
    (nanoseconds > 0).then_some(time)
}

/// 64 random hex digits.
fn new_id() -> String {
    let mut bytes = [0; 32];
    let _ = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
