//! What is to be said of pods: why one is not ready, whose port a number is, and which labels come close; pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, ContainerState, Pod, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use state::Protocol;

/// How many things a sentence lists before it only counts.
pub(super) const LISTED: usize = 4;

/// A selector or labels.
pub(super) type Labels = BTreeMap<String, String>;

/// The pod's name.
pub(super) fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// Why the pod is not ready; None when it is. `event` is what its last failed probe said.
pub(super) fn trouble(pod: &Pod, event: Option<&str>) -> Option<String> {
    let status = pod.status.clone().unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    let condition = |kind: &str| conditions.iter().find(|condition| condition.type_ == kind);
    if let phase @ ("Succeeded" | "Failed") = status.phase.as_deref().unwrap_or_default() {
        let reason = status.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        return Some(format!("it has ended ({phase}{reason})"));
    }
    if pod.metadata.deletion_timestamp.is_some() {
        return Some("it is being deleted".into());
    }
    if let Some(scheduled) = condition("PodScheduled").filter(|condition| condition.status == "False") {
        let message = scheduled.message.as_deref().unwrap_or("nothing more is known");
        return Some(format!("no node has taken it (Pending): {message}"));
    }
    let spec = pod.spec.clone().unwrap_or_default();
    let first = status.init_container_statuses.into_iter().flatten().map(|status| ("init container", status));
    let all = first.chain(status.container_statuses.into_iter().flatten().map(|status| ("container", status)));
    for (kind, own) in all {
        if let Some(why) = own.state.as_ref().and_then(|state| stopped(state, kind != "container")) {
            let before = own.last_state.as_ref().and_then(|state| stopped(state, true));
            let before = before.map(|why| format!(", the last time {why}")).unwrap_or_default();
            return Some(format!("{kind} {}: {why}{before}", own.name));
        }
        let container = spec.containers.iter().find(|container| container.name == own.name);
        if kind == "container" && !own.ready {
            return Some(unready(container, own.started == Some(false), event));
        }
    }
    match condition("Ready") {
        Some(ready) if ready.status == "True" => None,
        Some(ready) => {
            let gate = spec
                .readiness_gates
                .into_iter()
                .flatten()
                .find(|gate| condition(&gate.condition_type).is_none_or(|condition| condition.status != "True"));
            Some(match gate {
                Some(gate) => format!("its readiness gate {} is not true", gate.condition_type),
                None => ready.message.clone().unwrap_or_else(|| "its condition Ready is not true".into()),
            })
        }
        None => Some("it has not started yet".into()),
    }
}

/// Whether all its containers run, so that it can be asked what they listen on.
pub(super) fn runs(pod: &Pod) -> bool {
    let all = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    let running = |state: &Option<ContainerState>| state.as_ref().is_some_and(|state| state.running.is_some());
    all.is_some_and(|all| all.iter().all(|container| running(&container.state)))
}

/// Why a container does not run; that an init container has ended well is no reason.
fn stopped(state: &ContainerState, init: bool) -> Option<String> {
    let message = |message: Option<&String>| message.map(|text| format!(": {text}")).unwrap_or_default();
    if let Some(waiting) = &state.waiting {
        let reason = waiting.reason.as_deref().unwrap_or("waiting");
        // What it says besides is how long the next try takes.
        let said = waiting.message.as_ref().filter(|_| reason != "CrashLoopBackOff");
        return Some(format!("{reason}{}", message(said)));
    }
    let ended = state.terminated.as_ref().filter(|ended| !init || ended.exit_code != 0)?;
    let reason = ended.reason.as_deref().unwrap_or("ended");
    Some(format!("{reason} (exit code {}){}", ended.exit_code, message(ended.message.as_ref())))
}

/// Why a container that runs does not count.
fn unready(container: Option<&Container>, starting: bool, event: Option<&str>) -> String {
    let container = container.cloned().unwrap_or_default();
    let said = event.map(|event| format!(": {}", event.trim())).unwrap_or_default();
    match (container.startup_probe, container.readiness_probe) {
        (Some(probe), _) if starting => format!("its startup probe ({}) has not succeeded yet{said}", asks(&probe)),
        (_, Some(probe)) => format!("its readiness probe ({}) does not succeed{said}", asks(&probe)),
        _ => format!("container {} is not ready", container.name),
    }
}

/// What a probe does.
fn asks(probe: &Probe) -> String {
    let port = |port: &IntOrString| match port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(name) => name.clone(),
    };
    if let Some(get) = &probe.http_get {
        return format!("GET :{}{}", port(&get.port), get.path.as_deref().unwrap_or("/"));
    }
    if let Some(socket) = &probe.tcp_socket {
        return format!("TCP :{}", port(&socket.port));
    }
    match &probe.exec {
        Some(exec) => format!("exec {}", exec.command.clone().unwrap_or_default().join(" ")),
        None => "gRPC".into(),
    }
}

/// The containers that run for as long as the pod does, with their ports: name, number and protocol.
fn ports(pod: &Pod) -> impl Iterator<Item = (&Container, Vec<(&str, u16, Protocol)>)> {
    let spec = pod.spec.iter();
    let sidecars = spec.clone().flat_map(|spec| spec.init_containers.iter().flatten());
    let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    spec.flat_map(|spec| &spec.containers).chain(sidecars).map(|container| {
        let ports = container.ports.iter().flatten().filter_map(|port| {
            let protocol = match port.protocol.as_deref() {
                Some("UDP") => Protocol::Udp,
                Some("SCTP") => Protocol::Sctp,
                _ => Protocol::Tcp,
            };
            Some((port.name.as_deref().unwrap_or_default(), u16::try_from(port.container_port).ok()?, protocol))
        });
        (container, ports.collect())
    })
}

/// Whose port a number is: the container that declares it, or the only one.
pub(super) fn container(pod: &Pod, number: u16, protocol: Protocol) -> String {
    let mut all = ports(pod);
    let owner = all.find_map(|(container, ports)| {
        let (name, ..) = ports.into_iter().find(|(_, port, own)| (*port, *own) == (number, protocol))?;
        let name = if name.is_empty() { String::new() } else { format!(" {name}") };
        Some(format!("container {}, port{name} {number}", container.name))
    });
    owner.unwrap_or_else(|| match pod.spec.as_ref().map(|spec| &spec.containers[..]) {
        Some([only]) => format!("container {}, port {number}", only.name),
        _ => format!("port {number}"),
    })
}

/// The number that a port's name stands for in this pod.
pub(super) fn named(pod: &Pod, name: &str, protocol: Protocol) -> Option<u16> {
    let found = |(own, number, of): (&str, u16, Protocol)| (own == name && of == protocol).then_some(number);
    ports(pod).flat_map(|(_, ports)| ports).find_map(found)
}

/// The names that ports have in this pod, with their numbers.
pub(super) fn port_names(pod: &Pod) -> BTreeSet<String> {
    let all = ports(pod).flat_map(|(_, ports)| ports);
    all.filter(|(name, ..)| !name.is_empty()).map(|(name, number, _)| format!("{name} ({number})")).collect()
}

/// Whether the selector takes the pod.
pub(super) fn takes(selector: &Labels, pod: &Pod) -> bool {
    let labels = pod.metadata.labels.as_ref();
    selector.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
}

/// What the pods have instead of what a selector wants that takes none of them.
pub(super) fn instead(selector: &Labels, pods: &[Pod]) -> String {
    if pods.is_empty() {
        return "there are no pods in the namespace".into();
    }
    let mut parts = Vec::new();
    for (key, value) in selector {
        let mut have: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for pod in pods {
            if let Some(own) = pod.metadata.labels.as_ref().and_then(|labels| labels.get(key)) {
                have.entry(own).or_default().push(name(pod));
            }
        }
        if have.contains_key(value.as_str()) {
            continue;
        }
        let others = have.iter().map(|(own, pods)| format!("{key}={own} ({})", list(pods.iter().copied())));
        parts.push(match have.is_empty() {
            true => format!("no pod has the label {key}"),
            false => format!("pods have {}", list(others)),
        });
    }
    match parts.is_empty() {
        true => "each of its labels is on some pod, but no pod has all of them".into(),
        false => parts.join("; "),
    }
}

/// A selector as kubectl writes it.
pub(super) fn written(selector: &Labels) -> String {
    selector.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// The first few, and how many more there are.
pub(super) fn list(all: impl IntoIterator<Item = impl Into<String>>) -> String {
    let mut all: Vec<String> = all.into_iter().map(Into::into).collect();
    let more = all.len().saturating_sub(LISTED);
    all.truncate(LISTED);
    all.join(", ") + &if more > 0 { format!(" and {more} more") } else { String::new() }
}

/// Those names that somebody who wrote `wanted` may have meant.
pub(super) fn near<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let letters = |name: &str| {
        let mut letters: Vec<u8> = name.bytes().collect();
        letters.sort_unstable();
        letters
    };
    let close = |name: &&str| {
        let near = distance(wanted, name) <= 1 + wanted.len() / 4;
        near || name.starts_with(wanted) || letters(wanted) == letters(name)
    };
    let mut found: Vec<&str> = names.into_iter().filter(close).collect();
    found.sort_by_key(|name| (distance(wanted, name), *name));
    found.dedup();
    found
}

/// How many letters have to be put in, taken out or changed.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.bytes().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, to) in b.bytes().enumerate() {
            let changed = corner + usize::from(from != to);
            corner = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;
