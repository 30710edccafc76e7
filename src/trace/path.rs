//! The path of a packet, hop by hop, as far as the cluster's state tells it; pure.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use k8s_openapi::api::core::v1::{Pod, Service as Object};
use state::{Address, Backend, Key, Port, Service, Snapshot, Target as TargetPort};

use super::{
    Lost,
    listening::deaf,
    nobody::nobody,
    pods::{container, list, trouble},
    target::{Asker, Names, Target, Via, described},
};

/// How many endpoints are shown.
const SHOWN: usize = 10;

/// What else is known of the cluster than the Snapshot.
#[derive(Default)]
pub(super) struct Known {
    /// The Service as it was written.
    pub(super) object: Object,
    /// The pods of its namespace.
    pub(super) pods: Vec<Pod>,
    /// Pods of other namespaces that its selector would take.
    pub(super) elsewhere: Vec<Key>,
    /// What the last failed probe of a pod said, by the pod's name.
    pub(super) unhealthy: BTreeMap<String, String>,
    /// What pods of this machine listen on, by their name.
    pub(super) listening: BTreeMap<String, Vec<SocketAddr>>,
}

impl Known {
    /// The Pod of that key.
    pub(super) fn pod(&self, key: &Key) -> Option<&Pod> {
        let same = |pod: &&Pod| {
            pod.metadata.name.as_deref() == Some(&key.name) && pod.metadata.namespace.as_deref() == Some(&key.namespace)
        };
        self.pods.iter().find(same)
    }

    /// Why it is not ready.
    pub(super) fn trouble(&self, pod: &Pod) -> Option<String> {
        let event = pod.metadata.name.as_ref().and_then(|name| self.unhealthy.get(name));
        trouble(pod, event.map(String::as_str))
    }
}

/// A part of the way, with what is to be said of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hop {
    pub(super) name: &'static str,
    pub(super) lines: Vec<String>,
}

/// Where the way can end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) socket: SocketAddr,
    pub(super) pod: Option<Key>,
    /// The pod with its container and node.
    pub(super) what: String,
    /// Why nobody there hears it.
    pub(super) deaf: Option<String>,
}

/// The way.
#[derive(Debug, Default)]
pub(super) struct Path {
    pub(super) hops: Vec<Hop>,
    pub(super) ends: Vec<End>,
    /// Where it breaks off, and why.
    pub(super) lost: Option<Lost>,
}

impl Path {
    fn hop(&mut self, name: &'static str, lines: impl IntoIterator<Item = String>) {
        self.hops.push(Hop { name, lines: lines.into_iter().collect() });
    }
}

/// The hop that a name is looked up at.
///
/// `servers` are the one that was asked and the cluster's own; none when nobody was.
pub(super) fn dns(names: &Names, servers: Option<(IpAddr, &str)>, target: Option<&Target<'_>>) -> Hop {
    let addresses = list(names.addresses.iter().map(IpAddr::to_string));
    let mut lines = match &names.found {
        None => vec![format!("no address for {}", list(names.tried.iter().map(|(name, _)| name.as_str())))],
        Some(name) => vec![format!("{name} → {addresses}")],
    };
    match servers {
        None => lines[0] += " (by the cluster's state: DNS was not asked)",
        Some((server, cluster)) => {
            lines[0] += &format!(" (name server {server})");
            lines.extend((server.to_string() != cluster).then(|| {
                format!("this is not the cluster's DNS, {cluster}: dnsPolicy or dnsConfig of the Pod passes it by")
            }));
        }
    }
    if target.is_some_and(|target| target.service.is_none()) {
        lines.push("this is not the address of a Service".into());
    }
    Hop { name: "DNS", lines }
}

/// The way to a target.
pub(super) fn path(snapshot: &Snapshot, asker: &Asker<'_>, known: &Known, target: &Target<'_>) -> Path {
    let mut path = Path { lost: target.lost.clone(), ..Path::default() };
    if let Some(service) = target.service {
        path.hop("Service", [service_line(service, target)]);
        if let Some(lost) = other_proxy(service, &target.via) {
            path.lost.get_or_insert(lost);
        }
    }
    match (&target.via, target.service, target.port) {
        (Via::Pod(key), ..) => pod(&mut path, snapshot, asker, known, key, target.to),
        (Via::HostPort(key, number), ..) => {
            path.hop("HostPort", [format!("the node's port leads to port {number} of Pod {key}")]);
            let address = snapshot.pods.get(key).and_then(|pod| pod.ips.first());
            let to = address.map(|address| SocketAddr::new(*address, *number));
            pod(&mut path, snapshot, asker, known, key, to);
        }
        (_, Some(service), Some(port)) => endpoints(&mut path, snapshot, asker, known, target, (service, port)),
        (Via::Elsewhere, None, _) => path.hops.extend(target.to.map(|to| elsewhere(snapshot, to.ip()))),
        (Via::Headless, Some(_), None) if target.to.is_none() => {
            let why = "its name has no address: no endpoint is ready".to_owned();
            path.lost.get_or_insert(Lost::new("Endpoints", why, "kubectl get endpointslices"));
        }
        _ => {}
    }
    path
}

/// An address that is not of a Service.
fn elsewhere(snapshot: &Snapshot, address: IpAddr) -> Hop {
    let node = snapshot.nodes.iter().find(|(_, node)| node.addresses.contains(&address));
    let what = node.map_or("that of no Service, Node or Pod".into(), |(key, _)| format!("that of node {}", key.name));
    Hop { name: "Address", lines: vec![format!("{address} is {what}")] }
}

fn service_line(service: &Service, target: &Target<'_>) -> String {
    let key = &service.key;
    let port = match target.port {
        Some(port) => {
            let to = match &port.target {
                TargetPort::Number(number) => number.to_string(),
                TargetPort::Name(name) => format!("{name:?}"),
            };
            format!("port {} → targetPort {to}", described(port))
        }
        None => format!("with ports {}", list(service.ports.iter().map(described))),
    };
    let own = list(service.cluster_ips().iter().map(IpAddr::to_string));
    match (&service.address, &target.via, target.port.and_then(|port| port.node_port)) {
        (Address::ExternalName(alias), ..) => {
            format!("{key} is only an alias of {alias} in DNS: ports stay as they are")
        }
        (Address::Headless, ..) => {
            format!("{key} is headless: its name is its pods' addresses, {port} is not translated")
        }
        (_, Via::NodePort, Some(node)) => format!("{key}, NodePort {node} of every node, {port}"),
        (_, Via::Relay, Some(node)) => format!("{key}, NodePort {node} (relayed on localhost), {port}"),
        (_, Via::External, _) => format!("{key}, an external address, {port}"),
        _ => format!("{key}, ClusterIP {own}, {port}"),
    }
}

fn other_proxy(service: &Service, via: &Via) -> Option<Lost> {
    let served = service.other_proxy && *via != Via::Headless && *via != Via::Alias;
    let why = || {
        format!(
            "Service {} has the label service.kubernetes.io/service-proxy-name: another program is to serve it",
            service.key
        )
    };
    served.then(|| Lost::new("Service", why(), "Remove the label, or look at that program."))
}

/// True when only endpoints of the node that is reached count. Clients of the cluster are exempt from the external
/// policy, as kube-proxy has it.
fn is_local(service: &Service, via: &Via, asker: &Asker<'_>) -> bool {
    match via {
        Via::ClusterIp => service.internal_local,
        Via::NodePort | Via::External => service.external_local && asker.node.is_empty(),
        Via::Relay => service.external_local,
        _ => false,
    }
}

fn policy(service: &Service, via: &Via, asker: &Asker<'_>, known: &Known) -> String {
    let word =
        |local: bool| if local { "Local: only endpoints of this node" } else { "Cluster: endpoints of all nodes" };
    let traffic = match via {
        Via::ClusterIp => format!("internalTrafficPolicy {}", word(service.internal_local)),
        _ if service.external_local && !is_local(service, via, asker) => {
            "externalTrafficPolicy Local, of which clients in the cluster are exempt".into()
        }
        _ => format!("externalTrafficPolicy {}", word(service.external_local)),
    };
    let affinity = match service.affinity {
        Some(seconds) => format!("; sessionAffinity ClientIP: the same endpoint for {seconds} s"),
        None => String::new(),
    };
    let near = known.object.spec.as_ref().and_then(|spec| spec.traffic_distribution.as_ref());
    let near = near.map(|near| format!("; trafficDistribution {near}")).unwrap_or_default();
    traffic + &affinity + &near
}

/// The endpoints of a Service's port, and what is wrong when none of them can be used.
fn endpoints(
    path: &mut Path,
    snapshot: &Snapshot,
    asker: &Asker<'_>,
    known: &Known,
    target: &Target<'_>,
    (service, port): (&Service, &Port),
) {
    let local = is_local(service, &target.via, asker);
    let backends = service.backends(port);
    let ipv4 = target.to.is_none_or(|to| to.is_ipv4());
    let usable = |local| proxy::usable(snapshot, service, port, asker.node, local, ipv4);
    let elsewhere = local && !usable(false).is_empty();
    let usable = match target.via {
        Via::Headless => backends.iter().filter(|b| service.publishes(b.endpoint)).map(Backend::socket).collect(),
        _ => {
            path.hop("Policy", [policy(service, &target.via, asker, known)]);
            usable(local)
        }
    };
    let mut lines = vec![format!("{} of {} usable", usable.len(), backends.len())];
    for backend in &backends {
        let end = end(known, asker, backend.socket(), backend.endpoint.pod.as_ref(), backend.endpoint.node.as_deref());
        let pod = backend.endpoint.pod.as_ref().and_then(|key| known.pod(key));
        let state = match (backend.endpoint.ready, backend.endpoint.terminating) {
            (true, _) => "ready".into(),
            (false, true) if usable.contains(&end.socket) => "terminating, but the only one".into(),
            (false, true) => "terminating".into(),
            (false, false) => match pod.and_then(|pod| known.trouble(pod)) {
                Some(why) => format!("NOT ready: {why}"),
                None => "NOT ready".into(),
            },
        };
        let heard = end.deaf.as_ref().map(|why| format!(", but {why}")).unwrap_or_default();
        lines.push(format!("{} {}, {state}{heard}", end.socket, end.what));
        if usable.contains(&end.socket) {
            path.ends.push(end);
        }
    }
    let more = lines.len().saturating_sub(1 + SHOWN);
    lines.truncate(1 + SHOWN);
    lines.extend((more > 0).then(|| format!("and {more} more")));
    path.hop("Endpoints", lines);
    if let (Via::Headless, Some(to)) = (&target.via, target.to) {
        let backend = backends.iter().find(|backend| backend.address == to.ip()).map(|backend| backend.endpoint);
        let pod = backend.and_then(|endpoint| endpoint.pod.as_ref());
        path.ends = vec![end(known, asker, to, pod, backend.and_then(|endpoint| endpoint.node.as_deref()))];
    }
    if usable.is_empty() {
        path.lost.get_or_insert_with(|| nobody(known, service, port, elsewhere));
    }
}

/// A pod that is asked by its own address.
fn pod(path: &mut Path, snapshot: &Snapshot, asker: &Asker<'_>, known: &Known, key: &Key, to: Option<SocketAddr>) {
    let node = snapshot.pods.get(key).and_then(|pod| pod.node.clone());
    let trouble = known.pod(key).and_then(|pod| known.trouble(pod));
    let state = trouble.map_or("ready".into(), |why| format!("NOT ready: {why}"));
    let Some(to) = to else {
        path.hop("Pod", [format!("{key} has no address, {state}")]);
        return;
    };
    let end = end(known, asker, to, Some(key), node.as_deref());
    let heard = end.deaf.as_ref().map(|why| format!(", but {why}")).unwrap_or_default();
    path.hop("Pod", [format!("{}, {state}{heard}", end.what)]);
    path.ends.push(end);
}

/// An endpoint with all that is known of it.
fn end(known: &Known, asker: &Asker<'_>, socket: SocketAddr, key: Option<&Key>, node: Option<&str>) -> End {
    let pod = key.and_then(|key| known.pod(key));
    let node = node.map(|node| format!(" on node {node}")).unwrap_or_default();
    let what = match (key, pod) {
        (Some(key), Some(pod)) => {
            format!("Pod {}{node}, {}", key.name, container(pod, socket.port(), asker.protocol))
        }
        (Some(key), None) => format!("Pod {}{node}", key.name),
        (None, _) => format!("an endpoint that is no Pod{node}"),
    };
    let listening = key.and_then(|key| known.listening.get(&*key.name));
    let deaf = listening.and_then(|listening| deaf(listening, socket, asker.protocol));
    End { socket, pod: key.cloned(), what, deaf }
}
