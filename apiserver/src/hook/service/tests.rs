use std::sync::Arc;

use super::*;

fn pool() -> Arc<Pool> {
    Arc::new(Pool::new(&["10.0.0.0/24".parse().unwrap(), "fd00::/120".parse().unwrap()], 30000..=30063))
}

fn reservation(pool: &Arc<Pool>, uid: &str) -> Reservation {
    Reservation::new(pool.clone(), uid.to_owned())
}

#[test]
fn named_and_free_addresses() {
    let pool = pool();
    let mut one = reservation(&pool, "one");
    assert_eq!(one.address("IPv4", "10.0.0.7"), Ok("10.0.0.7".into()));
    let mut two = reservation(&pool, "two");
    assert!(two.address("IPv4", "10.0.0.7").unwrap_err().ends_with("provided IP is already allocated"));
    assert!(two.address("IPv4", "10.1.0.7").unwrap_err().ends_with("The range of valid IPs is 10.0.0.0/24"));
    assert!(two.address("IPv4", "10.0.0.0").is_err() && two.address("IPv4", "10.0.0.255").is_err());
    let free: std::net::Ipv4Addr = two.address("IPv4", "").unwrap().parse().unwrap();
    assert!(free.octets()[3] > 16, "the lower part is for those who ask: {free}");
    drop(one);
    assert!(two.address("IPv4", "10.0.0.7").is_ok());
    let six: std::net::Ipv6Addr = two.address("IPv6", "").unwrap().parse().unwrap();
    assert!(six.segments()[..7] == [0xfd00, 0, 0, 0, 0, 0, 0] && six.segments()[7] > 16, "{six}");
    assert!(two.address("IPv6", "fd00::").is_err() && two.address("IPv6", "10.0.0.9").is_err());
    assert_eq!(two.address("IPv6", "fd00:0::ff"), Ok("fd00::ff".into()));
}

#[test]
fn what_a_service_has_it_keeps_though_the_ranges_are_others_now() {
    let pool = pool();
    let spec = json!({"clusterIPs": ["10.9.0.1"], "healthCheckNodePort": 20000, "ports": [{"nodePort": 20001}]});
    pool.adopt(&json!({"metadata": {"uid": "one"}, "spec": spec}));
    let mut one = reservation(&pool, "one");
    assert!(one.address("IPv4", "10.9.0.1").is_ok() && one.port(Some(20000)).is_ok() && one.port(Some(20001)).is_ok());
    assert!(reservation(&pool, "two").port(Some(20000)).is_err());
}

#[test]
fn every_number_is_given_once() {
    let pool = pool();
    let mut ports: Vec<u16> = Vec::new();
    let mut all = reservation(&pool, "all");
    while let Ok(port) = all.port(None) {
        ports.push(port);
    }
    ports.sort_unstable();
    assert_eq!(ports, (30000..=30063).collect::<Vec<_>>());
    let why = all.port(Some(29999)).unwrap_err();
    assert_eq!(why, "provided port is not in the valid range. The range of valid ports is 30000-30063");
    let why = reservation(&pool, "other").port(Some(30001)).unwrap_err();
    assert_eq!(why, "provided port is already allocated");
}

#[test]
fn a_failed_write_frees_only_its_own() {
    let pool = pool();
    let service = json!({"metadata": {"uid": "one"}, "spec": {"ports": [{"nodePort": 30001}, {"nodePort": 30001}]}});
    pool.adopt(&service);
    let mut failed = reservation(&pool, "one");
    failed.port(Some(30001)).unwrap();
    drop(failed);
    assert!(reservation(&pool, "two").port(Some(30001)).is_err());
    let mut kept = reservation(&pool, "one");
    kept.port(Some(30001)).unwrap();
    kept.keep();
    pool.release(&service);
    assert!(reservation(&pool, "two").port(Some(30001)).is_err());
    pool.release(&service);
    assert!(reservation(&pool, "two").port(Some(30001)).is_ok());
}

#[test]
fn changes_of_type() {
    let old = json!({"spec": {
        "type": "NodePort", "clusterIP": "10.0.0.9", "clusterIPs": ["10.0.0.9"],
        "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30001}],
    }});
    let with = |kind: &str, port: Value| json!({"spec": {"type": kind, "ports": [port]}});
    let mut same = with("NodePort", json!({"port": 80, "protocol": "TCP"}));
    update(&old, &mut same);
    assert_eq!(
        (&same["spec"]["clusterIP"], &same["spec"]["ports"][0]["nodePort"]),
        (&json!("10.0.0.9"), &json!(30001))
    );
    let mut inner = with("ClusterIP", json!({"port": 80, "protocol": "TCP", "nodePort": 30001}));
    update(&old, &mut inner);
    assert_eq!(inner["spec"]["ports"][0].get("nodePort"), None);
    let mut other = with("ClusterIP", json!({"port": 80, "protocol": "TCP", "nodePort": 30002}));
    update(&old, &mut other);
    assert_eq!(other["spec"]["ports"][0]["nodePort"], 30002, "the client's, and so its fault");
    let mut name = with("ExternalName", json!({"port": 80, "protocol": "TCP"}));
    update(&old, &mut name);
    assert_eq!((name["spec"].get("clusterIP"), name["spec"].get("clusterIPs")), (None, None));
}

/// A LoadBalancer of policy Local.
fn local() -> Value {
    json!({"spec": {
        "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30009,
        "allocateLoadBalancerNodePorts": true, "loadBalancerClass": "example.com/a",
        "ports": [{"name": "a", "port": 53, "protocol": "TCP", "nodePort": 30001},
            {"name": "b", "port": 53, "protocol": "UDP", "nodePort": 30001}],
    }, "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}})
}

#[test]
fn what_belongs_to_a_type_goes_with_it() {
    let after = |change: Value| {
        let mut new = local();
        for (field, value) in change.as_object().unwrap() {
            new["spec"][field] = value.clone();
        }
        update(&local(), &mut new);
        new
    };
    let has = |service: &Value, fields: [&str; 4]| fields.map(|field| service["spec"].get(field).is_some());
    let fields = ["externalTrafficPolicy", "healthCheckNodePort", "allocateLoadBalancerNodePorts", "loadBalancerClass"];
    for (change, expected) in [
        (json!({}), [true; 4]),
        (json!({"externalTrafficPolicy": "Cluster"}), [true, false, true, true]),
        (json!({"type": "NodePort"}), [true, false, false, false]),
        (json!({"type": "ClusterIP"}), [false; 4]),
        (json!({"type": "ClusterIP", "healthCheckNodePort": 30010}), [false, true, false, false]),
        (json!({"type": "ClusterIP", "externalIPs": ["192.0.2.1"]}), [true, false, false, false]),
        (json!({"healthCheckNodePort": 0}), [true; 4]),
    ] {
        let service = after(change.clone());
        assert_eq!(has(&service, fields), expected, "{change}");
        let balanced = change.get("type").is_none();
        assert_eq!(service["status"]["loadBalancer"].get("ingress").is_some(), balanced, "{change}");
    }
    assert_eq!(after(json!({"healthCheckNodePort": 0}))["spec"]["healthCheckNodePort"], 30009);
}

#[test]
fn ports_keep_their_node_ports_by_name() {
    let numbers = |change: Value| -> Vec<u16> {
        let mut new = local();
        for (field, value) in change.as_object().unwrap() {
            new["spec"][field] = value.clone();
        }
        update(&local(), &mut new);
        let pool = pool();
        let mut taken = reservation(&pool, "one");
        reserve_ports(&mut taken, &mut new).unwrap();
        list(&new, "/spec/ports").iter().map(node_port).collect()
    };
    let (a, b) =
        (json!({"name": "a", "port": 53, "protocol": "TCP"}), json!({"name": "b", "port": 53, "protocol": "UDP"}));
    assert_eq!(numbers(json!({"ports": [a, b]})), [30001, 30001], "one port of two protocols");
    assert_eq!(numbers(json!({"ports": [{"name": "a", "port": 54, "protocol": "TCP"}]})), [30001]);
    let swapped = numbers(json!({"ports": [a, {"name": "c", "port": 80, "protocol": "TCP", "nodePort": 30001}]}));
    assert!(swapped[0] != 30001 && swapped[0] != 0 && swapped[1] == 30001, "{swapped:?}");
    let without =
        json!({"allocateLoadBalancerNodePorts": false, "ports": [a, {"name": "c", "port": 80, "nodePort": 30002}]});
    assert_eq!(numbers(without), [0, 30002], "none are given, and those that are named stay");
    assert_eq!(
        numbers(json!({"allocateLoadBalancerNodePorts": false})),
        [30001, 30001],
        "until the client takes them out"
    );
}
