//! Which slices to write so that they hold exactly the endpoints there are, changing as few as possible.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1 as api;
use k8s_openapi::api::discovery::v1::{EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::endpoint::{self, Endpoint, HEADLESS};
use crate::owner;

pub(super) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub(super) const MANAGER: &str = "endpointslice-controller.k8s.io";
const SERVICE: &str = "kubernetes.io/service-name";
/// The most endpoints in one slice (kube-controller-manager's `--max-endpoints-per-slice`).
const LARGEST: usize = 100;

/// What to write.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) create: Vec<EndpointSlice>,
    pub(super) update: Vec<(Arc<EndpointSlice>, EndpointSlice)>,
    pub(super) delete: Vec<Arc<EndpointSlice>>,
}

/// Endpoints stay in the slice they are in; new ones fill gaps and then new slices; empty slices go, but one stays,
/// empty, for a Service without endpoints.
pub(super) fn plan(service: &Service, endpoints: &[Endpoint], slices: &[Arc<EndpointSlice>]) -> Plan {
    let mut groups = grouped(endpoints);
    if groups.is_empty() {
        groups.push((vec![], VecDeque::new()));
    }
    let mut plan = Plan::default();
    let mut unused: Vec<Arc<EndpointSlice>> = slices.to_vec();
    for (ports, endpoints) in groups {
        let (fitting, rest): (Vec<_>, Vec<_>) =
            unused.into_iter().partition(|slice| same_ports(slice, &ports) && slice.address_type == "IPv4");
        unused = rest;
        fill(service, &ports, endpoints, fitting, &mut plan);
    }
    plan.delete.extend(unused);
    recycle(&mut plan);
    plan
}

/// A slice that would go becomes one that would come: one write in place of two, and no gap between them.
fn recycle(plan: &mut Plan) {
    while !plan.create.is_empty() {
        let Some(at) = plan.delete.iter().position(|slice| slice.address_type == "IPv4") else { return };
        let old = plan.delete.remove(at);
        let new = plan.create.remove(0);
        let metadata = relabelled(&old.metadata, new.metadata.clone());
        plan.update.push((old, EndpointSlice { metadata, ..new }));
    }
}

/// The endpoints by their ports: pods may carry one port's name on different numbers.
fn grouped(endpoints: &[Endpoint]) -> Vec<(Vec<EndpointPort>, VecDeque<api::Endpoint>)> {
    let mut groups: Vec<(Vec<EndpointPort>, VecDeque<api::Endpoint>)> = vec![];
    for endpoint in endpoints {
        match groups.iter_mut().find(|(ports, _)| *ports == endpoint.ports) {
            Some((_, members)) => members.push_back(shown(endpoint)),
            None => groups.push((endpoint.ports.clone(), VecDeque::from([shown(endpoint)]))),
        }
    }
    groups
}

fn same_ports(slice: &EndpointSlice, ports: &[EndpointPort]) -> bool {
    slice.ports.as_deref().unwrap_or_default() == ports
}

fn fill(
    service: &Service,
    ports: &[EndpointPort],
    endpoints: VecDeque<api::Endpoint>,
    slices: Vec<Arc<EndpointSlice>>,
    plan: &mut Plan,
) {
    let empty = endpoints.is_empty();
    let mut new = endpoints;
    let mut kept: Vec<Vec<api::Endpoint>> = vec![];
    for slice in &slices {
        let mut stay = vec![];
        for old in slice.endpoints.iter().flatten() {
            if let Some(at) = new.iter().position(|endpoint| same_place(endpoint, old)) {
                stay.extend(new.remove(at));
            }
        }
        kept.push(stay);
    }
    for (slice, mut members) in slices.into_iter().zip(kept) {
        let room = LARGEST.saturating_sub(members.len()).min(new.len());
        members.extend(new.drain(..room));
        if members.is_empty() && !(empty && plan.update.is_empty()) {
            plan.delete.push(slice);
            continue;
        }
        let mut after = made(service, ports, members);
        after.metadata = relabelled(&slice.metadata, after.metadata);
        plan.update.push((slice, after));
    }
    while !new.is_empty() {
        let members = new.drain(..new.len().min(LARGEST)).collect();
        plan.create.push(made(service, ports, members));
    }
    if empty && plan.update.is_empty() {
        plan.create.push(made(service, ports, vec![]));
    }
}

/// The same pod at the same address.
fn same_place(a: &api::Endpoint, b: &api::Endpoint) -> bool {
    let uid = |e: &api::Endpoint| e.target_ref.as_ref().and_then(|target| target.uid.clone());
    a.addresses == b.addresses && uid(a) == uid(b)
}

fn shown(endpoint: &Endpoint) -> api::Endpoint {
    api::Endpoint {
        addresses: vec![endpoint.ip.clone()],
        conditions: Some(EndpointConditions {
            ready: Some(endpoint.ready),
            serving: Some(endpoint.serving),
            terminating: Some(endpoint.terminating),
        }),
        hostname: endpoint.hostname.clone(),
        node_name: endpoint.node.clone(),
        target_ref: Some(endpoint.target.clone()),
        ..Default::default()
    }
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if endpoint::is_headless(service) {
        labels.insert(HEADLESS.into(), String::new());
    }
    labels.insert(SERVICE.into(), service.metadata.name.clone().unwrap_or_default());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    labels
}

fn made(service: &Service, ports: &[EndpointPort], endpoints: Vec<api::Endpoint>) -> EndpointSlice {
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: service.metadata.name.as_ref().map(|name| format!("{name}-")),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels(service)),
            owner_references: Some(vec![owner::controller_reference(service)]),
            ..Default::default()
        },
        address_type: "IPv4".into(),
        endpoints: Some(endpoints),
        ports: Some(ports.to_vec()),
    }
}

/// An existing slice keeps its name and all; only the labels are the Service's.
fn relabelled(old: &ObjectMeta, new: ObjectMeta) -> ObjectMeta {
    ObjectMeta { labels: new.labels, owner_references: new.owner_references, ..old.clone() }
}
