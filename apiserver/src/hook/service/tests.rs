use std::sync::Arc;

use super::*;

fn pool() -> Arc<Pool> {
    Arc::new(Pool::new("10.0.0.0/24".parse().unwrap(), 30000..=30063))
}

fn reservation(pool: &Arc<Pool>, uid: &str) -> Reservation {
    Reservation::new(pool.clone(), uid.to_owned())
}

#[test]
fn named_and_free_addresses() {
    let pool = pool();
    let mut one = reservation(&pool, "one");
    assert_eq!(one.address("10.0.0.7"), Ok("10.0.0.7".into()));
    let mut two = reservation(&pool, "two");
    assert!(two.address("10.0.0.7").unwrap_err().ends_with("provided IP is already allocated"));
    assert!(two.address("10.1.0.7").unwrap_err().ends_with("The range of valid IPs is 10.0.0.0/24"));
    assert!(two.address("10.0.0.0").is_err() && two.address("10.0.0.255").is_err());
    let free: std::net::Ipv4Addr = two.address("").unwrap().parse().unwrap();
    assert!(free.octets()[3] > 16, "the lower part is for those who ask: {free}");
    drop(one);
    assert!(two.address("10.0.0.7").is_ok());
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
    assert!(check(Some(&old), &inner).is_empty());
    let mut name = with("ExternalName", json!({"port": 80, "protocol": "TCP"}));
    update(&old, &mut name);
    assert_eq!(name["spec"].get("clusterIP"), None);
    let mut moved = same.clone();
    moved["spec"]["clusterIP"] = "10.0.0.10".into();
    moved["spec"]["clusterIPs"] = json!(["10.0.0.10"]);
    assert_eq!(check(Some(&old), &moved)[0].detail, "may not change once set");
}
