use std::net::IpAddr;

use serde_json::{Value, json};

use super::*;
use crate::{Address, Balancing, Type};

fn service(name: &str, ip: &str, ports: Value) -> Object {
    let object = json!({"metadata": {"namespace": "default", "name": name}, "spec": {"clusterIP": ip, "ports": ports}});
    Object::Service(Service::from(&serde_json::from_value(object).unwrap()))
}

fn slice(name: &str, service: &str, addresses: &[&str], ready: bool) -> Object {
    let object = json!({
        "metadata": {"namespace": "default", "name": name, "labels": {"kubernetes.io/service-name": service}},
        "addressType": if addresses.iter().any(|a| a.contains(':')) { "IPv6" } else { "IPv4" },
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": addresses.iter().map(|a| json!({
            "addresses": [a], "conditions": {"ready": ready},
            "targetRef": {"kind": "Pod", "namespace": "default", "name": format!("pod-{a}")},
        })).collect::<Vec<_>>(),
    });
    Object::Slice(Slice::from(&serde_json::from_value(object).unwrap()))
}

fn http() -> Value {
    json!([{"name": "http", "port": 80, "targetPort": "web", "nodePort": 30001}])
}

fn pod(name: &str, ip: &str) -> Object {
    Object::Pod(Pod {
        key: Key::new("default", name),
        ips: ip.parse().into_iter().collect(),
        host_network: false,
        hostname: None,
        subdomain: None,
        node: None,
        host_ports: Vec::new(),
        ready: true,
    })
}

fn addresses(index: &Index, name: &str) -> Vec<String> {
    let snapshot = index.snapshot();
    let service = snapshot.service("default", name).unwrap();
    service.backends(&service.ports[0]).iter().map(|b| b.socket().to_string()).collect()
}

#[test]
fn service_and_slices_meet_in_either_order() {
    let mut index = Index::default();
    assert!(!index.apply(slice("a-1", "a", &["10.244.0.2"], true)), "no Service yet");
    assert!(index.apply(service("a", "10.96.0.5", http())));
    assert_eq!(addresses(&index, "a"), ["10.244.0.2:8080"]);
    assert!(index.apply(slice("a-2", "a", &["10.244.0.3", "10.244.0.2"], false)));
    assert_eq!(addresses(&index, "a"), ["10.244.0.2:8080", "10.244.0.3:8080"]);
    let snapshot = index.snapshot();
    let service = snapshot.service_at(IpAddr::from([10, 96, 0, 5])).unwrap();
    assert!(service.endpoints[0].ready, "of two the ready one is taken");
    assert!(index.delete(Kind::Slice, &Key::new("default", "a-1")));
    assert!(!index.snapshot().service("default", "a").unwrap().endpoints[0].ready);
    assert!(index.apply(slice("a-2", "b", &["10.244.0.3"], true)), "the slice changed its Service");
    assert!(addresses(&index, "a").is_empty());
}

#[test]
fn both_families_are_read() {
    let mut index = Index::default();
    index.apply(service("a", "fd00:96::5", http()));
    index.apply(slice("a-1", "a", &["10.244.0.2"], true));
    index.apply(slice("a-2", "a", &["fd00:244::2"], true));
    assert_eq!(addresses(&index, "a"), ["10.244.0.2:8080", "[fd00:244::2]:8080"]);
    let at = |text: &str| text.parse::<IpAddr>().unwrap();
    assert!(index.snapshot().service_at(at("fd00:96::5")).is_some());
    index.apply(pod("p", "fd00:244::2"));
    assert_eq!(&*index.snapshot().pod_at(at("fd00:244::2")).unwrap().key.name, "p");
}

#[test]
fn unchanged_services_keep_their_arc() {
    let mut index = Index::default();
    for i in 0..500 {
        index.apply(service(&format!("s{i}"), &format!("10.96.1.{i}"), http()));
    }
    let old = index.snapshot();
    assert!(!index.apply(service("s7", "10.96.1.7", http())), "the same again is no change");
    assert!(index.apply(slice("s9-x", "s9", &["10.244.0.9"], true)));
    let new = index.snapshot();
    let changed: Vec<String> = new.services.changed(&old.services).map(Key::to_string).collect();
    assert_eq!(changed, ["default/s9"]);
    assert!(old.service("default", "s9").unwrap().endpoints.is_empty(), "the past stays");
}

#[test]
fn reset_is_exact_and_syncs() {
    let mut index = Index::default();
    index.apply(service("gone", "10.96.0.7", http()));
    index.apply(slice("gone-1", "stays", &["10.244.0.2"], true));
    assert!(index.reset(Kind::Service, vec![service("stays", "10.96.0.8", http())]));
    assert!(index.snapshot().service("default", "gone").is_none());
    assert!(index.snapshot().service_at(IpAddr::from([10, 96, 0, 7])).is_none());
    assert_eq!(addresses(&index, "stays"), ["10.244.0.2:8080"]);
    assert!(index.reset(Kind::Slice, vec![]));
    assert!(addresses(&index, "stays").is_empty());
    index.reset(Kind::Node, vec![]);
    index.reset(Kind::Namespace, vec![]);
    assert!(!index.synced());
    assert!(index.reset(Kind::Pod, vec![]), "that all is listed is a change");
    assert!(index.snapshot().synced);
    assert!(!index.reset(Kind::Pod, vec![]));
}

#[test]
fn an_address_belongs_to_its_newest_owner() {
    let mut index = Index::default();
    index.apply(pod("a", "10.244.0.2"));
    index.apply(pod("b", "10.244.0.2"));
    index.delete(Kind::Pod, &Key::new("default", "a"));
    let ip = IpAddr::from([10, 244, 0, 2]);
    assert_eq!(&*index.snapshot().pod_at(ip).unwrap().key.name, "b");
    index.apply(pod("b", ""));
    assert!(index.snapshot().pod_at(ip).is_none());
    index.apply(service("x", "10.96.0.9", http()));
    index.apply(service("y", "10.96.0.9", http()));
    index.apply(service("x", "", http()));
    let vip = IpAddr::from([10, 96, 0, 9]);
    assert_eq!(&*index.snapshot().service_at(vip).unwrap().key.name, "y");
}

#[test]
fn service_fields() {
    let object = json!({"metadata": {"namespace": "n", "name": "s"},
        "spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00::1"],
            "ports": [{"port": 53, "protocol": "UDP"}], "sessionAffinity": "ClientIP",
            "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Cluster",
            "publishNotReadyAddresses": true, "externalIPs": ["192.0.2.1", "2001:db8::1"],
            "loadBalancerSourceRanges": ["198.51.100.0/24", "nonsense"]},
        "status": {"loadBalancer": {"ingress": [
            {"ip": "203.0.113.4"}, {"hostname": "x"}, {"ip": "203.0.113.5", "ipMode": "Proxy"}, {"ip": "y"}, {}]}}});
    let service = Service::from(&serde_json::from_value(object).unwrap());
    assert_eq!(service.address, Address::ClusterIp(vec!["10.96.0.1".parse().unwrap(), "fd00::1".parse().unwrap()]));
    assert_eq!((service.kind, service.affinity), (Type::LoadBalancer, Some(10_800)));
    assert_eq!(service.ports[0].target, crate::Target::Number(53));
    assert!(service.external_local && !service.internal_local && service.publish_not_ready);
    assert_eq!(service.external_ips.len() + service.load_balancer_ips.len() + service.source_ranges.len(), 4);
    assert_eq!(service.load_balancer_hosts.iter().map(|host| &**host).collect::<Vec<_>>(), ["x", "203.0.113.5"]);
    assert_eq!(service.balancers().map(|ip| ip.to_string()).collect::<Vec<_>>(), ["203.0.113.4", "203.0.113.5"]);
    for (spec, want) in [
        (json!({"clusterIP": "None"}), Address::Headless),
        (json!({"type": "ExternalName", "externalName": "a.example"}), Address::ExternalName("a.example".into())),
        (json!({}), Address::ClusterIp(vec![])),
    ] {
        let object = json!({"metadata": {}, "spec": spec});
        assert_eq!(Service::from(&serde_json::from_value(object).unwrap()).address, want);
    }
}

#[test]
fn what_is_asked_of_a_load_balancer() {
    let read = |kind: &str, annotations: Value, spec: Value| {
        let mut object = json!({"metadata": {"annotations": annotations}, "spec": spec});
        object["spec"]["type"] = kind.into();
        object["spec"]["selector"] = json!({"app": "web"});
        Service::from(&serde_json::from_value(object).unwrap()).balancing.map(|asked| (*asked).clone())
    };
    let text = |text: &str| Some(text.into());
    let (new, old) = ("metallb.io/", "metallb.universe.tf/");
    for (annotations, spec, want) in [
        (json!({}), json!({}), Balancing::default()),
        (json!({}), json!({"loadBalancerClass": "a/b"}), Balancing { class: text("a/b"), ..Balancing::default() }),
        (
            json!({format!("{new}address-pool"): "lab", format!("{old}loadBalancerIPs"): "192.0.2.1,fd00::1"}),
            json!({"loadBalancerIP": "192.0.2.9"}),
            Balancing { pool: text("lab"), addresses: text("192.0.2.1,fd00::1"), ..Balancing::default() },
        ),
        (
            json!({format!("{old}allow-shared-ip"): "key"}),
            json!({"loadBalancerIP": "192.0.2.9"}),
            Balancing { addresses: text("192.0.2.9"), sharing: text("key"), ..Balancing::default() },
        ),
        (
            json!({format!("{new}allow-shared-ip"): "key"}),
            json!({"externalTrafficPolicy": "Local"}),
            Balancing { sharing: text("key\napp=web"), ..Balancing::default() },
        ),
    ] {
        assert_eq!(read("LoadBalancer", annotations.clone(), spec.clone()), Some(want), "{annotations} {spec}");
        assert_eq!(read("NodePort", annotations, spec), None);
    }
}
