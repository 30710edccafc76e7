//! Slices and their endpoints, by table.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use super::plan::{Plan, plan};
use crate::endpoint::endpoints;

fn service(spec: Value) -> Service {
    let mut whole = json!({"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]});
    for (name, value) in spec.as_object().into_iter().flatten() {
        whole[name] = value.clone();
    }
    let metadata = json!({"name": "web", "namespace": "default", "uid": "s", "labels": {"tier": "front"}});
    serde_json::from_value(json!({"metadata": metadata, "spec": whole})).expect("a service")
}

fn pod(number: usize, change: Value) -> Arc<Pod> {
    let mut object = json!({
        "metadata": {"name": format!("p{number}"), "namespace": "default", "uid": format!("u{number}"),
            "labels": {"app": "web"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]},
        "status": {"phase": "Running", "podIP": format!("10.244.0.{number}"),
            "conditions": [{"type": "Ready", "status": "True"}]},
    });
    merge(&mut object, change);
    Arc::new(serde_json::from_value(object).expect("a pod"))
}

fn merge(into: &mut Value, change: Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (name, value) in change {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, change) => *into = change,
    }
}

fn pods(numbers: std::ops::Range<usize>) -> Vec<Arc<Pod>> {
    numbers.map(|n| pod(n, json!({}))).collect()
}

/// Carries a plan out.
fn apply(plan: Plan, slices: &mut Vec<Arc<EndpointSlice>>) -> usize {
    let mut writes = plan.create.len() + plan.delete.len();
    slices.retain(|slice| !plan.delete.iter().any(|gone| gone.metadata.name == slice.metadata.name));
    for (before, after) in plan.update {
        writes += usize::from(*before != after);
        slices.retain(|slice| slice.metadata.name != before.metadata.name);
        slices.push(Arc::new(after));
    }
    for mut slice in plan.create {
        slice.metadata.name = Some(format!("web-{}", slices.len()));
        slices.push(Arc::new(slice));
    }
    writes
}

fn addresses(slices: &[Arc<EndpointSlice>]) -> BTreeSet<String> {
    slices.iter().flat_map(|s| s.endpoints.iter().flatten()).flat_map(|e| e.addresses.clone()).collect()
}

#[test]
fn slices_hold_at_most_a_hundred_and_change_as_little_as_possible() {
    let service = service(json!({}));
    let mut slices = vec![];
    let mut settle = |pods: &[Arc<Pod>]| {
        let writes = apply(plan(&service, &endpoints(&service, pods), &slices), &mut slices);
        let again = apply(plan(&service, &endpoints(&service, pods), &slices.clone()), &mut slices);
        assert_eq!(again, 0, "a second look writes nothing");
        assert_eq!(addresses(&slices).len(), pods.len());
        (writes, slices.len())
    };
    assert_eq!(settle(&[]), (1, 1), "an empty slice says that there is nothing");
    assert_eq!(settle(&pods(0..3)), (1, 1));
    assert_eq!(settle(&pods(0..100)), (1, 1));
    assert_eq!(settle(&pods(0..101)), (1, 2));
    assert_eq!(settle(&pods(0..250)), (2, 3));
    assert_eq!(settle(&pods(1..250)), (1, 3), "one leaves: one slice changes");
    assert_eq!(settle(&pods(1..251)), (1, 3), "a gap is filled");
    assert_eq!(settle(&[]), (3, 1));
}

#[test]
fn an_endpoint_tells_how_its_pod_is() {
    let cases = [
        (json!({}), json!({}), Some((true, true, false))),
        (
            json!({}),
            json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}),
            Some((false, false, false)),
        ),
        (json!({}), json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}), Some((false, true, true))),
        (
            json!({"publishNotReadyAddresses": true}),
            json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}),
            Some((true, false, false)),
        ),
        (json!({}), json!({"status": {"phase": "Succeeded"}}), None),
        (json!({}), json!({"status": {"podIP": ""}}), None),
        (json!({}), json!({"metadata": {"labels": {"app": "other"}}}), None),
        (json!({"selector": null}), json!({}), None),
        (json!({"type": "ExternalName"}), json!({}), None),
    ];
    for (spec, change, expected) in cases {
        let found = endpoints(&service(spec.clone()), &[pod(1, change.clone())]);
        let shown = found.first().map(|e| (e.ready, e.serving, e.terminating));
        assert_eq!(shown, expected, "{spec} {change}");
    }
}

#[test]
fn named_ports_are_each_pods_own() {
    let other = json!({"spec": {"containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 9090}]}]}});
    let none = json!({"spec": {"containers": [{"name": "c"}]}});
    let udp = json!({"spec": {"containers": [
        {"name": "c", "ports": [{"name": "http", "containerPort": 1, "protocol": "UDP"}]}]}});
    let service = service(json!({}));
    let pods = [pod(1, json!({})), pod(2, other), pod(3, none), pod(4, udp)];
    let plan = plan(&service, &endpoints(&service, &pods), &[]);
    let shown: Vec<(Vec<Option<i32>>, usize)> = plan
        .create
        .iter()
        .map(|s| (s.ports.iter().flatten().map(|p| p.port).collect(), s.endpoints.iter().flatten().count()))
        .collect();
    assert_eq!(shown, [(vec![Some(8080)], 1), (vec![Some(9090)], 1), (vec![], 2)]);
}

#[test]
fn a_headless_service_needs_no_ports_and_names_its_pods() {
    let service = service(json!({"clusterIP": "None", "ports": null}));
    let named = pod(1, json!({"spec": {"hostname": "web-0", "subdomain": "web"}}));
    let stranger = pod(2, json!({"spec": {"hostname": "web-1", "subdomain": "other"}}));
    let plan = plan(&service, &endpoints(&service, &[named, stranger]), &[]);
    let slice = &plan.create[0];
    let names: Vec<_> = slice.endpoints.iter().flatten().map(|e| e.hostname.clone()).collect();
    assert_eq!(names, [Some("web-0".into()), None]);
    assert_eq!(slice.ports, Some(vec![]));
    let labels = slice.metadata.labels.clone().expect("labels");
    assert_eq!(labels.get("service.kubernetes.io/headless"), Some(&String::new()));
    assert_eq!(labels.get("kubernetes.io/service-name").map(String::as_str), Some("web"));
    assert_eq!(labels.get("tier").map(String::as_str), Some("front"));
}

fn members(plan: &Plan, family: &str) -> Vec<Value> {
    let slices = plan.create.iter().filter(|slice| slice.address_type == family);
    slices.flat_map(|slice| slice.endpoints.iter().flatten()).map(|e| serde_json::to_value(e).expect("JSON")).collect()
}

#[test]
fn ready_endpoints_are_allotted_by_traffic_distribution() {
    let unready = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    let zones = json!({"forZones": [{"name": "a"}]});
    let both = json!({"forZones": [{"name": "a"}], "forNodes": [{"name": "n1"}]});
    let node = json!({"forNodes": [{"name": "n1"}]});
    for (distribution, zone, change, expected) in [
        (json!("PreferClose"), Some("a"), json!({}), zones.clone()),
        (json!("PreferSameZone"), Some("a"), json!({}), zones),
        (json!("PreferSameNode"), Some("a"), json!({}), both),
        (json!("PreferSameNode"), None, json!({}), node),
        (json!("PreferClose"), None, json!({}), Value::Null),
        (json!("PreferClose"), Some("a"), unready, Value::Null),
        (json!(null), Some("a"), json!({}), Value::Null),
    ] {
        let service = service(json!({"trafficDistribution": distribution}));
        let mut endpoints = endpoints(&service, &[pod(1, change)]);
        endpoints[0].zone = zone.map(str::to_owned);
        let shown = &members(&plan(&service, &endpoints, &[]), "IPv4")[0];
        assert_eq!(shown["hints"], expected, "{distribution} {zone:?}");
        assert_eq!((shown["zone"].as_str(), shown["nodeName"].as_str()), (zone, Some("n1")));
    }
}

#[test]
fn each_family_of_a_service_has_slices_of_its_own() {
    let ips = |ips: Value| json!({"status": {"podIPs": ips}});
    let pods = [
        pod(1, ips(json!([{"ip": "10.244.0.1"}, {"ip": "fd00::1"}]))),
        pod(2, ips(json!([{"ip": "10.244.0.2"}]))),
        pod(3, json!({})),
    ];
    let of = |families: Value| service(json!({"ipFamilies": families}));
    let addresses = |plan: &Plan, family| -> Vec<Value> {
        members(plan, family).iter().map(|endpoint| endpoint["addresses"][0].clone()).collect()
    };
    let (four, six) = (vec!["10.244.0.1", "10.244.0.2", "10.244.0.3"], vec!["fd00::1"]);
    let mut slices = vec![];
    for (families, four, six) in [
        (json!(["IPv6"]), vec![], six.clone()),
        (json!(["IPv6", "IPv4"]), four.clone(), six),
        (json!(["IPv4"]), four, vec![]),
    ] {
        let service = of(families);
        let endpoints = endpoints(&service, &pods);
        let fresh = plan(&service, &endpoints, &[]);
        assert_eq!(json!([addresses(&fresh, "IPv4"), addresses(&fresh, "IPv6")]), json!([four, six]));
        // What was there of another family goes.
        apply(plan(&service, &endpoints, &slices), &mut slices);
        assert_eq!(slices.len(), fresh.create.len());
    }
    let none = plan(&of(json!(["IPv4", "IPv6"])), &[], &[]);
    assert_eq!(none.create.iter().map(|slice| &*slice.address_type).collect::<Vec<_>>(), ["IPv4", "IPv6"]);
}

#[test]
fn a_write_tells_of_the_change_it_is_for() {
    let at = |number: usize, status: &str, second: u32| {
        let time = format!("2026-01-01T00:00:{second:02}Z");
        let ready = json!({"type": "Ready", "status": status, "lastTransitionTime": time});
        pod(number, json!({"status": {"conditions": [ready]}}))
    };
    let mut service = service(json!({}));
    service.metadata.creation_timestamp = Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).expect("a time"));
    let mut slices = vec![];
    let mut written = |pods: &[Arc<Pod>]| {
        apply(plan(&service, &endpoints(&service, pods), &slices), &mut slices);
        let annotations = slices[0].metadata.annotations.as_ref();
        annotations.and_then(|all| all.get("endpoints.kubernetes.io/last-change-trigger-time")).cloned()
    };
    let time = |second: u32| Some(format!("2026-01-01T00:00:{second:02}Z"));
    let (one, two) = (at(1, "True", 5), at(2, "True", 4));
    assert_eq!(written(&[]), time(0), "a new Service");
    assert_eq!(written(&[one.clone(), two.clone()]), time(4));
    assert_eq!(written(&[one.clone(), two]), time(4), "nothing is written");
    assert_eq!(written(&[one.clone(), at(2, "False", 9)]), time(9));
    assert_eq!(written(&[one]), None, "one left, and nothing says when");
}
