//! Which slices to write so that they hold exactly the endpoints there are, changing as few as possible.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1 as api;
use k8s_openapi::api::discovery::v1::{
    EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::trigger;
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

/// The slices of each family of addresses that the Service has.
pub(super) fn plan(service: &Service, endpoints: &[Endpoint], slices: &[Arc<EndpointSlice>]) -> Plan {
    let families = endpoint::families(service);
    let mut plan = Plan::default();
    for family in &families {
        let own = slices.iter().filter(|slice| slice.address_type == *family).cloned().collect();
        let of_family = family_plan(service, family, endpoints, own);
        plan.create.extend(of_family.create);
        plan.update.extend(of_family.update);
        plan.delete.extend(of_family.delete);
    }
    plan.delete.extend(slices.iter().filter(|slice| !families.contains(&&*slice.address_type)).cloned());
    trigger::stamp(&mut plan, service, endpoints, slices.is_empty());
    plan
}

/// Endpoints stay in the slice they are in; new ones fill gaps and then new slices; empty slices go, but one stays,
/// empty, for a Service without endpoints.
fn family_plan(service: &Service, family: &str, endpoints: &[Endpoint], slices: Vec<Arc<EndpointSlice>>) -> Plan {
    let mut groups = grouped(service, family, endpoints);
    if groups.is_empty() {
        groups.push((vec![], VecDeque::new()));
    }
    let mut plan = Plan::default();
    let mut unused = slices;
    for (ports, endpoints) in groups {
        let (fitting, rest): (Vec<_>, Vec<_>) = unused.into_iter().partition(|slice| same_ports(slice, &ports));
        unused = rest;
        fill(&made(service, family, &ports), endpoints, fitting, &mut plan);
    }
    plan.delete.extend(unused);
    recycle(&mut plan);
    plan
}

/// A slice that would go becomes one that would come: one write in place of two, and no gap between them.
fn recycle(plan: &mut Plan) {
    while !plan.create.is_empty() && !plan.delete.is_empty() {
        let (old, new) = (plan.delete.remove(0), plan.create.remove(0));
        plan.update.push((old.clone(), relabelled(&old, new)));
    }
}

/// The endpoints of a family by their ports: pods may carry one port's name on different numbers.
fn grouped(
    service: &Service,
    family: &str,
    endpoints: &[Endpoint],
) -> Vec<(Vec<EndpointPort>, VecDeque<api::Endpoint>)> {
    let mut groups: Vec<(Vec<EndpointPort>, VecDeque<api::Endpoint>)> = vec![];
    let distribution = service.spec.as_ref().and_then(|spec| spec.traffic_distribution.as_deref());
    for (endpoint, ip) in endpoints.iter().filter_map(|endpoint| Some((endpoint, endpoint.ip(family)?))) {
        let member = api::Endpoint { hints: hints(endpoint, distribution), ..shown(endpoint, ip) };
        match groups.iter_mut().find(|(ports, _)| *ports == endpoint.ports) {
            Some((_, members)) => members.push_back(member),
            None => groups.push((endpoint.ports.clone(), VecDeque::from([member]))),
        }
    }
    groups
}

/// Whom a ready endpoint is allotted to by `trafficDistribution`: its zone, and its node where that is preferred.
fn hints(endpoint: &Endpoint, distribution: Option<&str>) -> Option<EndpointHints> {
    let by_node = match distribution.filter(|_| endpoint.ready)? {
        "PreferClose" | "PreferSameZone" => false,
        "PreferSameNode" => true,
        _ => return None,
    };
    let for_zones = endpoint.zone.clone().map(|name| vec![ForZone { name }]);
    let for_nodes = endpoint.node.clone().filter(|_| by_node).map(|name| vec![ForNode { name }]);
    (for_zones.is_some() || for_nodes.is_some()).then_some(EndpointHints { for_nodes, for_zones })
}

fn same_ports(slice: &EndpointSlice, ports: &[EndpointPort]) -> bool {
    slice.ports.as_deref().unwrap_or_default() == ports
}

/// Spreads endpoints over slices that are each like `empty_slice`.
fn fill(
    empty_slice: &EndpointSlice,
    endpoints: VecDeque<api::Endpoint>,
    slices: Vec<Arc<EndpointSlice>>,
    plan: &mut Plan,
) {
    let made = |members| EndpointSlice { endpoints: Some(members), ..empty_slice.clone() };
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
        plan.update.push((slice.clone(), relabelled(&slice, made(members))));
    }
    while !new.is_empty() {
        let members = new.drain(..new.len().min(LARGEST)).collect();
        plan.create.push(made(members));
    }
    if empty && plan.update.is_empty() {
        plan.create.push(made(vec![]));
    }
}

/// The same pod at the same address.
fn same_place(a: &api::Endpoint, b: &api::Endpoint) -> bool {
    let uid = |e: &api::Endpoint| e.target_ref.as_ref().and_then(|target| target.uid.clone());
    a.addresses == b.addresses && uid(a) == uid(b)
}

fn shown(endpoint: &Endpoint, ip: &str) -> api::Endpoint {
    api::Endpoint {
        addresses: vec![ip.into()],
        conditions: Some(EndpointConditions {
            ready: Some(endpoint.ready),
            serving: Some(endpoint.serving),
            terminating: Some(endpoint.terminating),
        }),
        hostname: endpoint.hostname.clone(),
        node_name: endpoint.node.clone(),
        zone: endpoint.zone.clone(),
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

fn made(service: &Service, family: &str, ports: &[EndpointPort]) -> EndpointSlice {
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: service.metadata.name.as_ref().map(|name| format!("{name}-")),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels(service)),
            owner_references: Some(vec![owner::controller_reference(service)]),
            ..Default::default()
        },
        address_type: family.into(),
        endpoints: None,
        ports: Some(ports.to_vec()),
    }
}

/// An existing slice keeps its name and all; only the labels are the Service's.
fn relabelled(old: &EndpointSlice, new: EndpointSlice) -> EndpointSlice {
    let ObjectMeta { labels, owner_references, .. } = new.metadata;
    EndpointSlice { metadata: ObjectMeta { labels, owner_references, ..old.metadata.clone() }, ..new }
}
