//! When the change was that a slice is written for: what kube-proxy counts from in
//! `kubeproxy_network_programming_duration_seconds`.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1 as api;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::plan::Plan;
use crate::endpoint::Endpoint;

const ANNOTATION: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// Annotates what is to be written: a new Service's slices with its creation, others with the earliest change of a pod's
/// readiness that is new in the slice; without one they have no time.
pub(super) fn stamp(plan: &mut Plan, service: &Service, endpoints: &[Endpoint], first: bool) {
    for slice in &mut plan.create {
        let created = service.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let time = if first { created } else { earliest(&[], slice, endpoints) };
        annotate(slice, time);
    }
    for (before, after) in &mut plan.update {
        if **before != *after {
            let time = earliest(before.endpoints.as_deref().unwrap_or_default(), after, endpoints);
            annotate(after, time);
        }
    }
}

/// The earliest time of an endpoint that was not in the slice, or that was not as ready or unready.
fn earliest(before: &[api::Endpoint], slice: &EndpointSlice, endpoints: &[Endpoint]) -> Option<Timestamp> {
    let serving = |e: &api::Endpoint| e.conditions.as_ref().and_then(|conditions| conditions.serving);
    let state = |e: &api::Endpoint| (e.target_ref.as_ref().and_then(|pod| pod.uid.clone()), serving(e));
    let known: Vec<_> = before.iter().map(state).collect();
    let new = slice.endpoints.iter().flatten().map(state).filter(|state| !known.contains(state));
    new.filter_map(|(uid, _)| endpoints.iter().find(|endpoint| endpoint.target.uid == uid)?.since).min()
}

fn annotate(slice: &mut EndpointSlice, time: Option<Timestamp>) {
    let annotations = &mut slice.metadata.annotations;
    match time {
        Some(time) => drop(annotations.get_or_insert_default().insert(ANNOTATION.into(), time.to_string())),
        None => drop(annotations.as_mut().and_then(|annotations| annotations.remove(ANNOTATION))),
    }
}
