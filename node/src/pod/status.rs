//! A pod's status as kubelet reports it.

use super::{
    plan::{Kind, Outcome, PULL_SHOWN, again, containers},
    record::{Ended, Record, Run, Slot},
};
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
        ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodSpec, PodStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

/// The conditions that the node agent owns; all others are kept as they are.
pub(crate) const OURS: [&str; 4] = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady"];

/// What a status is made from beside the pod itself.
#[derive(Debug)]
pub(crate) struct View<'a> {
    pub(crate) record: &'a Record,
    /// Set when the pod is done.
    pub(crate) outcome: Option<&'a Outcome>,
    pub(crate) initialized: bool,
    /// The node's address.
    pub(crate) host: &'a str,
    pub(crate) now: Timestamp,
}

/// The whole status. `before` is the one reported last: conditions that did not change keep their
/// transition times.
pub(crate) fn render(pod: &Pod, before: &PodStatus, view: &View) -> PodStatus {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let with_init = spec.init_containers.as_ref().is_some_and(|i| !i.is_empty());
    let (mut init, mut apps, mut ephemeral) = (Vec::new(), Vec::new(), Vec::new());
    for (kind, container) in containers(spec) {
        let idle =
            if kind == Kind::App && with_init && !view.initialized { "PodInitializing" } else { "ContainerCreating" };
        let status = container_status(pod, spec, kind, &container, view, idle);
        match kind {
            Kind::App => apps.push(status),
            Kind::Init | Kind::Sidecar => init.push(status),
            Kind::Ephemeral => ephemeral.push(status),
        }
    }
    let host_network = spec.host_network.unwrap_or(false);
    let address = view.record.address.map(|address| address.to_string());
    let address = if host_network && view.record.sandbox { Some(view.host.to_owned()) } else { address };
    let (reason, message) = match view.outcome {
        Some(Outcome::Failed(Some((reason, message)))) => (Some(*reason), Some(*message)),
        _ => (None, None),
    };
    PodStatus {
        phase: Some(phase(spec, view).into()),
        conditions: Some(conditions(pod, spec, before, view, &apps)),
        container_statuses: (!apps.is_empty()).then_some(apps),
        init_container_statuses: (!init.is_empty()).then_some(init),
        ephemeral_container_statuses: (!ephemeral.is_empty()).then_some(ephemeral),
        host_ip: Some(view.host.into()),
        host_ips: Some(vec![HostIP { ip: view.host.into() }]),
        pod_ips: address.clone().map(|ip| vec![PodIP { ip }]),
        pod_ip: address,
        start_time: view.record.started.map(Time),
        observed_generation: pod.metadata.generation,
        qos_class: before.qos_class.clone(),
        reason: reason.map(Into::into),
        message: message.map(Into::into),
        ..PodStatus::default()
    }
}

fn phase(spec: &PodSpec, view: &View) -> &'static str {
    match view.outcome {
        Some(Outcome::Succeeded) => "Succeeded",
        Some(Outcome::Failed(_)) => "Failed",
        None => {
            let began = |app: &Container| {
                let slot = view.record.slots.get(&app.name);
                slot.is_some_and(|slot| slot.run != Run::Never || slot.last.is_some())
            };
            if view.initialized && spec.containers.iter().all(began) { "Running" } else { "Pending" }
        }
    }
}

fn container_status(
    pod: &Pod,
    spec: &PodSpec,
    kind: Kind,
    container: &Container,
    view: &View,
    idle: &str,
) -> ContainerStatus {
    let none = Slot::default();
    let slot = view.record.slots.get(&container.name).unwrap_or(&none);
    let (state, last) = states(pod, spec, kind, container, slot, view, idle);
    let id = match &slot.run {
        Run::Running { id, .. } | Run::Ended(Ended { id, .. }) => Some(id),
        Run::Never => None,
    };
    let ready = match kind {
        Kind::Init => matches!(&slot.run, Run::Ended(ended) if ended.code == 0),
        Kind::Ephemeral => false,
        Kind::Sidecar | Kind::App => slot.ready,
    };
    let image = slot.image.as_ref();
    let given = matches!(slot.run, Run::Running { .. }).then(|| slot.resources.clone());
    ContainerStatus {
        allocated_resources: given.as_ref().and_then(|given| given.requests.clone()),
        resources: given,
        name: container.name.clone(),
        image: image.map_or(container.image.clone().unwrap_or_default(), |(r, _)| r.clone()),
        image_id: image.map(|(_, id)| id.clone()).unwrap_or_default(),
        container_id: id.map(|id| format!("coracle://{id}")),
        ready,
        started: Some(slot.started),
        restart_count: slot.restarts() as i32,
        state: Some(state),
        last_state: Some(last),
        ..ContainerStatus::default()
    }
}

/// The present state, and the last one.
fn states(
    pod: &Pod,
    spec: &PodSpec,
    kind: Kind,
    container: &Container,
    slot: &Slot,
    view: &View,
    idle: &str,
) -> (ContainerState, ContainerState) {
    let last = slot.last.as_ref().map(terminated).unwrap_or_default();
    let ended = match &slot.run {
        Run::Running { since, .. } => {
            let running = ContainerState {
                running: Some(ContainerStateRunning { started_at: Some(Time(*since)) }),
                ..ContainerState::default()
            };
            return (running, last);
        }
        Run::Ended(ended) => Some(ended),
        Run::Never => None,
    };
    let past = ended.map_or(last.clone(), terminated);
    if view.outcome.is_some() && ended.is_some() {
        return (past, last);
    }
    if let Some(why) = &slot.waiting {
        let over = why.since.saturating_add(PULL_SHOWN).unwrap_or(view.now) <= view.now;
        let backing = why.reason == "ErrImagePull" && over;
        let image = container.image.as_deref().unwrap_or_default();
        return if backing {
            let text = format!("Back-off pulling image {image:?}: {}: {}", why.reason, why.message);
            (waiting("ImagePullBackOff", Some(text)), past)
        } else {
            (waiting(&why.reason, Some(why.message.clone())), past)
        };
    }
    let Some(ended) = ended else {
        return (waiting(idle, None), last);
    };
    let policy = spec.restart_policy.as_deref();
    let delay = slot.crashes.delay(ended.finished);
    let due = slot.crashes.due(ended.finished);
    if again(kind, policy, ended.code, slot.interrupted) && !slot.interrupted && due > view.now {
        let text = format!(
            "back-off {} restarting failed container={} pod={}",
            duration(delay.as_secs()),
            container.name,
            full_name(pod)
        );
        return (waiting("CrashLoopBackOff", Some(text)), past);
    }
    (past, last)
}

/// `10s`, `1m20s`, `5m0s`: as Go prints durations.
fn duration(seconds: i64) -> String {
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}

/// `web_default(4d2c…)`: how kubelet names a pod in messages.
pub(crate) fn full_name(pod: &Pod) -> String {
    let meta = &pod.metadata;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    format!("{}_{}({})", text(&meta.name), text(&meta.namespace), text(&meta.uid))
}

fn waiting(reason: &str, message: Option<String>) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting { reason: Some(reason.into()), message }),
        ..ContainerState::default()
    }
}

fn terminated(ended: &Ended) -> ContainerState {
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            container_id: (!ended.id.is_empty()).then(|| format!("coracle://{}", ended.id)),
            exit_code: ended.code,
            signal: None,
            reason: Some(ended.reason.clone()),
            message: ended.message.clone(),
            started_at: Some(Time(ended.started)),
            finished_at: Some(Time(ended.finished)),
        }),
        ..ContainerState::default()
    }
}

fn conditions(
    pod: &Pod,
    spec: &PodSpec,
    before: &PodStatus,
    view: &View,
    apps: &[ContainerStatus],
) -> Vec<PodCondition> {
    let completed = matches!(view.outcome, Some(Outcome::Succeeded));
    let unready: Vec<_> = apps.iter().filter(|c| !c.ready).map(|c| &*c.name).collect();
    let because = |reason: &'static str, text: String| Some((reason, text));
    let containers = match view.outcome {
        Some(Outcome::Succeeded) => because("PodCompleted", String::new()),
        Some(Outcome::Failed(_)) => because("PodFailed", String::new()),
        None if unready.is_empty() => None,
        None => because("ContainersNotReady", format!("containers with unready status: [{}]", unready.join(" "))),
    };
    let others: Vec<PodCondition> = before
        .conditions
        .iter()
        .flatten()
        .filter(|condition| !OURS.contains(&condition.type_.as_str()))
        .cloned()
        .collect();
    let gate = spec.readiness_gates.iter().flatten().find_map(|gate| {
        let found = others.iter().find(|c| c.type_ == gate.condition_type);
        match found {
            Some(condition) if condition.status == "True" => None,
            Some(_) => Some("its status is not True"),
            None => Some("it does not exist"),
        }
        .map(|why| format!("condition of pod readiness gate {:?}: {why}", gate.condition_type))
    });
    let ready = containers.clone().or_else(|| gate.and_then(|text| because("ReadinessGatesNotReady", text)));
    let initialized = if view.initialized {
        completed.then(|| ("PodCompleted", String::new()))
    } else {
        because("ContainersNotInitialized", incomplete(spec, view))
    };
    let sandbox = view.record.sandbox;
    let mut all = vec![
        (OURS[0], sandbox, None),
        (OURS[1], view.initialized, initialized),
        (OURS[2], ready.is_none(), ready),
        (OURS[3], containers.is_none(), containers),
    ]
    .into_iter()
    .map(|(type_, is, why)| {
        let why = why.map(|(reason, text)| (reason.to_owned(), text));
        condition(pod, before, type_, is, why, view.now)
    })
    .collect::<Vec<_>>();
    all.extend(others);
    all
}

fn incomplete(spec: &PodSpec, view: &View) -> String {
    let done = |name: &str| {
        let slot = view.record.slots.get(name);
        slot.is_some_and(|slot| slot.started || matches!(&slot.run, Run::Ended(ended) if ended.code == 0))
    };
    let init = spec.init_containers.iter().flatten().map(|c| c.name.as_str());
    let names: Vec<_> = init.filter(|name| !done(name)).collect();
    format!("containers with incomplete status: [{}]", names.join(" "))
}

fn condition(
    pod: &Pod,
    before: &PodStatus,
    type_: &str,
    is: bool,
    why: Option<(String, String)>,
    now: Timestamp,
) -> PodCondition {
    let status = if is { "True" } else { "False" };
    let known = before.conditions.iter().flatten().find(|c| c.type_ == type_);
    let since = known.filter(|c| c.status == status);
    let since = since.and_then(|c| c.last_transition_time.clone());
    let (reason, message) = why.unzip();
    PodCondition {
        type_: type_.into(),
        status: status.into(),
        last_transition_time: Some(since.unwrap_or(Time(now))),
        observed_generation: pod.metadata.generation,
        reason,
        message: message.filter(|text| !text.is_empty()),
        ..PodCondition::default()
    }
}

#[cfg(test)]
mod tests;
