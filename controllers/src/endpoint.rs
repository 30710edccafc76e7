//! The endpoints of a Service, from the pods it selects: what EndpointSlices and Endpoints are both made of.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointPort;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::core::Selector;

use crate::cache::{Cache, Change, Key, Term};
use crate::cluster::Cluster;
use crate::owner;
use crate::pod;
use crate::queue::Queue;

/// The label that marks what belongs to a headless Service.
pub(crate) const HEADLESS: &str = "service.kubernetes.io/headless";

/// One pod as an endpoint of a Service.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Endpoint {
    /// One for each family of addresses that the pod has.
    pub(crate) ips: Vec<String>,
    pub(crate) ready: bool,
    pub(crate) serving: bool,
    pub(crate) terminating: bool,
    /// Only where the pod has a name in this Service's subdomain.
    pub(crate) hostname: Option<String>,
    pub(crate) node: Option<String>,
    /// The zone of that node, for whom it matters to.
    pub(crate) zone: Option<String>,
    /// When its readiness last changed.
    pub(crate) since: Option<Timestamp>,
    pub(crate) target: ObjectReference,
    /// The Service's ports as this pod has them; a named one that it has not is left out.
    pub(crate) ports: Vec<EndpointPort>,
}

impl Endpoint {
    /// Its address of that family, `IPv4` or `IPv6`.
    pub(crate) fn ip(&self, family: &str) -> Option<&String> {
        self.ips.iter().find(|ip| ip.contains(':') == (family == "IPv6"))
    }
}

/// The families of addresses that a Service has, the main one first.
pub(crate) fn families(service: &Service) -> Vec<&str> {
    let families = service.spec.iter().flat_map(|spec| spec.ip_families.iter().flatten()).map(String::as_str);
    let families: Vec<&str> = families.collect();
    if families.is_empty() { vec!["IPv4"] } else { families }
}

/// Queues the Services whose endpoints a change of a Service or pod can touch.
pub(crate) fn listen(cluster: &Arc<Cluster>, queue: &Arc<Queue<Key>>) {
    let keys = queue.clone();
    cluster.services.listen(move |change| {
        keys.extend(change.newest().map(|service| Key::of(&service.metadata)));
    });
    let (keys, services) = (queue.clone(), cluster.services.clone());
    cluster.pods.listen(move |change: &Change<Pod>| {
        if !matters(change) {
            return;
        }
        let namespace = change.newest().and_then(|pod| pod.metadata.namespace.as_deref()).unwrap_or_default();
        keys.extend(selecting(&services, namespace, |service| change.both().any(|pod| selects(service, pod))));
    });
}

/// The Services of a namespace that select something.
fn selecting(services: &Cache<Service>, namespace: &str, selects: impl Fn(&Service) -> bool) -> Vec<Key> {
    let services = services.namespace(namespace);
    services.iter().filter(|service| selects(service)).map(|service| Key::of(&service.metadata)).collect()
}

/// The Services that select the pods of a node.
pub(crate) fn services_on(cluster: &Cluster, node: &str) -> BTreeSet<Key> {
    let pods = cluster.pods.by(&Term::Node(node.into()));
    let of = |pod: &Arc<Pod>| {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        selecting(&cluster.services, namespace, |service| selects(service, pod))
    };
    pods.iter().flat_map(of).collect()
}

/// Whether a pod changed in anything that an endpoint shows.
fn matters(change: &Change<Pod>) -> bool {
    let (Some(before), Some(after)) = (&change.before, &change.after) else {
        return change.newest().is_some_and(|pod| pod::ip(pod).is_some());
    };
    let shown = |pod: &Pod| {
        (
            pod::ips(pod).into_iter().map(str::to_owned).collect::<Vec<_>>(),
            pod::node(pod).map(str::to_owned),
            (pod::is_ready(pod), pod::is_finished(pod), pod::is_terminating(pod)),
            pod.metadata.labels.clone(),
        )
    };
    shown(before) != shown(after)
}

/// The selector of a Service, if it has one.
pub(crate) fn selector(service: &Service) -> Option<Selector> {
    let spec = service.spec.as_ref().filter(|spec| spec.type_.as_deref() != Some("ExternalName"))?;
    let selector = spec.selector.clone().filter(|selector| !selector.is_empty())?;
    Some(Selector::from_iter(selector))
}

fn selects(service: &Service, pod: &Pod) -> bool {
    selector(service).is_some_and(|selector| owner::matches(&selector, &pod.metadata))
}

pub(crate) fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

/// The endpoints that `pods` are for `service`, by pod name.
pub(crate) fn endpoints(service: &Service, pods: &[Arc<Pod>]) -> Vec<Endpoint> {
    let Some(selector) = selector(service) else {
        return vec![];
    };
    let selected = pods.iter().filter(|pod| owner::matches(&selector, &pod.metadata));
    selected.filter_map(|pod| endpoint(service, pod)).collect()
}

fn endpoint(service: &Service, pod: &Pod) -> Option<Endpoint> {
    let ips: Vec<String> = pod::ips(pod).into_iter().map(str::to_owned).collect();
    if ips.is_empty() || pod::is_finished(pod) {
        return None;
    }
    let spec = service.spec.as_ref()?;
    let (serving, terminating) = (pod::is_ready(pod), pod::is_terminating(pod));
    let publish = spec.publish_not_ready_addresses == Some(true);
    let meta = &pod.metadata;
    Some(Endpoint {
        ips,
        ready: publish || serving && !terminating,
        serving,
        terminating,
        hostname: hostname(service, pod),
        node: pod::node(pod).map(str::to_owned),
        zone: None,
        since: pod::readiness_changed(pod),
        target: ObjectReference {
            kind: Some("Pod".into()),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            uid: meta.uid.clone(),
            ..Default::default()
        },
        ports: spec.ports.iter().flatten().filter_map(|port| resolve(port, pod)).collect(),
    })
}

/// A pod with a hostname in a subdomain of the Service's name has a DNS name of its own.
fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let subdomain = spec.subdomain.as_ref().filter(|subdomain| !subdomain.is_empty())?;
    if Some(subdomain) != service.metadata.name.as_ref() {
        return None;
    }
    spec.hostname.clone().filter(|name| !name.is_empty())
}

/// The Service's port on this pod: a number stands for itself, a name for the container port that carries it.
fn resolve(port: &ServicePort, pod: &Pod) -> Option<EndpointPort> {
    let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
    let number = match &port.target_port {
        None | Some(IntOrString::Int(0)) => port.port,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) => named(pod, name, &protocol)?,
    };
    Some(EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(number),
        protocol: Some(protocol),
        app_protocol: port.app_protocol.clone(),
    })
}

fn named(pod: &Pod, name: &str, protocol: &str) -> Option<i32> {
    let spec = pod.spec.as_ref()?;
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let mut ports = spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
    let carries = |protocol_of: Option<&str>| protocol_of.unwrap_or("TCP") == protocol;
    let port = ports.find(|port| port.name.as_deref() == Some(name) && carries(port.protocol.as_deref()));
    port.map(|port| port.container_port)
}
