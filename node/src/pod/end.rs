//! The end of a pod: its containers stopped, its resources given back, its object deleted.

use super::{
    Desired, Task, Worker, path,
    plan::{Kind, Outcome},
    record::Run,
    stop::{self, Stop},
};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, Preconditions};
use std::time::Duration;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

/// How long containers get when the whole cluster stops.
const QUICK: Duration = Duration::from_secs(2);
/// How long the kernel may take to end what was killed.
const KILLED: Duration = Duration::from_secs(10);
/// How long the last status of a pod may take to be written.
const REPORTED: Duration = Duration::from_secs(5);
/// Pause before a deletion that failed is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// What can shorten a graceful end.
pub(super) type Hurry<'a> = (&'a mut watch::Receiver<Desired>, &'a CancellationToken);

impl Worker {
    /// The pod's own grace period.
    pub(super) fn grace(&self) -> Duration {
        let spec = self.pod.spec.as_ref();
        let own = spec.and_then(|spec| spec.termination_grace_period_seconds);
        let deletion = self.pod.metadata.deletion_grace_period_seconds;
        let seconds = deletion.or(own).unwrap_or(30);
        Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
    }

    /// Begins to stop a container that runs; its end is heard of like any other.
    pub(super) fn stop_one(&mut self, name: &str, grace: Duration, why: String) {
        let address = self.address();
        let Some((kind, container)) = self.container(name) else { return };
        let (Some(slot), Some(shim)) = (self.record.slots.get(name), self.shim.clone()) else {
            return;
        };
        let attempt = slot.attempt(name);
        if !matches!(slot.run, Run::Running { .. }) || self.stops.contains_key(&attempt) {
            return;
        }
        let lifecycle = container.lifecycle.as_ref();
        let own = lifecycle.and_then(|lifecycle| lifecycle.stop_signal.clone());
        let image = slot.image.as_ref();
        let of_image = || {
            let image = self.pods.images.resolve(&image?.0).ok().flatten()?;
            image.config.config().as_ref()?.stop_signal().clone()
        };
        let stop = Stop {
            shim,
            attempt: attempt.clone(),
            hook: stop::hook(&container, &address),
            signal: stop::signal(own.or_else(of_image).as_deref()),
            grace,
        };
        let path = path(kind, name);
        self.pods.note(&self.pod, &path, false, "Killing", why);
        let (pods, pod) = (self.pods.clone(), self.pod.clone());
        let task = Task::spawn(stop.run(move || {
            let text = "PreStopHook failed".to_owned();
            pods.note(&pod, &path, true, "FailedPreStopHook", text);
        }));
        self.probes.remove(&attempt);
        self.stops.insert(attempt, task);
    }

    /// Stops all containers, sidecars last, and waits for their ends.
    pub(super) async fn stop_all(&mut self, grace: Duration, mut hurry: Option<Hurry<'_>>) {
        self.job = None;
        self.probes.clear();
        let mut end = Instant::now() + grace;
        let mut grace = grace;
        for sidecars in [false, true] {
            let left = end.saturating_duration_since(Instant::now()).min(grace);
            self.stop_each(sidecars, left);
            while !self.running(sidecars).is_empty() {
                // A pre-stop hook may use up the grace period; then a little more is given.
                let patience = tokio::time::sleep_until(end + KILLED);
                let hurried = async {
                    match &mut hurry {
                        Some((desired, stop)) => sooner(desired, stop, grace).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    Some(event) = self.events.recv() => {
                        self.hear(event);
                        // One may have started only now.
                        self.stop_each(sidecars, left);
                        self.report();
                    }
                    sooner = hurried => {
                        grace = sooner;
                        end = Instant::now() + grace;
                        self.stops.clear();
                        self.stop_each(sidecars, grace);
                    }
                    () = patience => break,
                }
            }
        }
    }

    fn stop_each(&mut self, sidecars: bool, grace: Duration) {
        for name in self.running(sidecars) {
            self.stop_one(&name, grace, format!("Stopping container {name}"));
        }
    }

    /// The containers that run: sidecars, or all others.
    fn running(&self, sidecars: bool) -> Vec<String> {
        let all = self.record.slots.iter();
        let running = all.filter(|(name, slot)| {
            let kind = self.container(name).map(|(kind, _)| kind);
            matches!(slot.run, Run::Running { .. }) && (kind == Some(Kind::Sidecar)) == sidecars
        });
        running.map(|(name, _)| name.clone()).collect()
    }

    /// Gives back what the pod holds on this node, but for its directory with the logs.
    pub(super) async fn release(&mut self) {
        self.job = None;
        self.probes.clear();
        self.stops.clear();
        self.exits = None;
        self.refresh = None;
        if let Some(shim) = self.shim.take()
            && let Err(error) = shim.shutdown().await
        {
            tracing::warn!(pod = self.record.name, %error, "failed to end the pod's shim");
        }
        let held = self.record.held();
        if let (true, Some(address)) = (self.record.sandbox, held)
            && let Err(error) = self.pods.links.remove(address).await
        {
            tracing::warn!(pod = self.record.name, "failed to {error}");
        }
        if let (Some(_), Some(address)) = (&self.outcome, held) {
            self.pods.addresses().free(address);
            self.record.freed = true;
        }
        self.record.sandbox = false;
        if self.dir.exists() {
            self.save();
        }
    }

    /// The cluster stops: ends the pod quickly, to be started anew.
    pub(super) async fn interrupt(mut self) {
        let mut running = self.running(false);
        running.extend(self.running(true));
        self.stop_all(self.grace().min(QUICK), None).await;
        self.release().await;
        for name in running {
            if let Some(slot) = self.record.slots.get_mut(&name) {
                slot.interrupted = true;
            }
        }
        self.interrupted();
        self.reporter.finish(Duration::ZERO).await;
    }

    /// The pod's object is gone without our doing: ends it quickly.
    pub(super) async fn vanish(mut self, stop: CancellationToken) {
        tokio::select! {
            () = self.stop_all(self.grace().min(QUICK), None) => {}
            () = stop.cancelled() => {}
        }
        self.release().await;
        self.forget();
        self.reporter.finish(Duration::ZERO).await;
    }

    /// The pod is being deleted: ends it gracefully, reports its end, deletes its object.
    pub(super) async fn delete(mut self, mut desired: watch::Receiver<Desired>, stop: CancellationToken) {
        self.report();
        self.stop_all(self.grace(), Some((&mut desired, &stop))).await;
        self.outcome = self.outcome.take().or_else(|| Some(self.ended()));
        self.report();
        self.release().await;
        self.forget();
        self.reporter.finish(REPORTED).await;
        let meta = &self.pod.metadata;
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let api = Api::<Pod>::namespaced(self.pods.client.clone(), namespace);
        let params = DeleteParams::default()
            .grace_period(0)
            .preconditions(Preconditions { uid: meta.uid.clone(), resource_version: None });
        let name = meta.name.as_deref().unwrap_or_default();
        loop {
            match api.delete(name, &params).await {
                Ok(_) => return,
                Err(kube::Error::Api(answer)) if [404, 409].contains(&answer.code) => return,
                Err(error) => tracing::warn!(pod = name, %error, "failed to delete the pod"),
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// How a pod ended that was told to.
    fn ended(&self) -> Outcome {
        let apps = self
            .record
            .slots
            .iter()
            .filter(|(name, _)| self.container(name).is_some_and(|(kind, _)| kind == Kind::App));
        let mut apps = apps.peekable();
        let began = apps.peek().is_some();
        let well = apps.all(|(_, slot)| matches!(&slot.run, Run::Ended(ended) if ended.code == 0));
        if began && well { Outcome::Succeeded } else { Outcome::Failed(None) }
    }

    /// Removes all traces of the pod on this node.
    fn forget(&self) {
        let key = (self.record.namespace.clone(), self.record.name.clone());
        let mut live = self.pods.live();
        if live.get(&key).is_some_and(|live| live.dir == self.dir) {
            live.remove(&key);
        }
        drop(live);
        if let Some(address) = self.record.held() {
            self.pods.addresses().free(address);
        }
        remove_dir(&self.dir);
    }
}

/// Removes a pod's directory.
pub(super) fn remove_dir(dir: &std::path::Path) {
    if let Err(error) = std::fs::remove_dir_all(dir)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(dir = %dir.display(), %error, "failed to remove a pod's directory");
    }
}

/// Waits until something wants a pod to end sooner than in `grace`, and returns how soon.
async fn sooner(desired: &mut watch::Receiver<Desired>, stop: &CancellationToken, grace: Duration) -> Duration {
    loop {
        tokio::select! {
            () = stop.cancelled(), if grace > QUICK => return QUICK,
            changed = desired.changed() => {
                let seconds = match &*desired.borrow_and_update() {
                    Desired::Run(pod) if changed.is_ok() => {
                        pod.metadata.deletion_grace_period_seconds
                    }
                    _ => Some(0),
                };
                let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok());
                let asked = seconds.map(Duration::from_secs);
                if let Some(asked) = asked.filter(|asked| *asked < grace) {
                    return asked;
                }
                if changed.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        }
    }
}
