use std::collections::BTreeMap;

use serde_json::json;
use state::Kind;

use super::*;
use crate::fixture::{self, Seeded};

/// All that a zone keeps beside its Snapshot, in one order.
type Kept = (BTreeMap<Vec<u8>, Entry>, BTreeMap<IpAddr, Arc<[Key]>>);

fn kept(zone: &Zone) -> Kept {
    let names = zone.names.iter().map(|entry| (entry.labels().to_vec(), entry.clone()));
    (names.collect(), zone.reverse.iter().map(|(address, keys)| (*address, keys.clone())).collect())
}

#[test]
fn what_changed_is_all_that_is_made_anew() {
    for labels in [None, Selector::parse("stage")] {
        let ignore_empty = labels.is_some();
        let options = Options { namespace_labels: labels, ignore_empty, ..fixture::options() };
        let fresh = |index: &state::Index| Zone::new(options.clone()).unwrap().next(index.snapshot(), 7);
        let mut index = fixture::cluster();
        let mut zone = fresh(&index);
        let mut random = Seeded(42);
        for step in 0..600 {
            let (namespace, name) = (*random.pick(&["default", "dev", "new"]), format!("s{}", random.below(6)));
            let ip = format!("10.96.1.{}", random.below(250));
            let spec = match random.below(4) {
                0 => json!({"clusterIP": "None"}),
                1 => json!({"type": "ExternalName", "externalName": "a.example"}),
                _ => json!({"clusterIP": ip, "ports": [{"name": "p", "port": 1}]}),
            };
            let address = format!("{}{}", random.pick(&["10.244.0.", "fd00::"]), random.below(6));
            let ready = random.below(2) == 0;
            let stages: [&[(&str, &str)]; 2] = [&[("stage", "x")], &[]];
            let balancer = match random.below(6) {
                0 => json!({"ip": address}),
                1 => json!({"ip": "192.0.2.1", "ipMode": "Proxy"}),
                2 => json!({"hostname": "lb.example"}),
                _ => json!({}),
            };
            match random.below(7) {
                0 => index.delete(Kind::Service, &Key::new(namespace, name)),
                1 => index.delete(Kind::Slice, &Key::new(namespace, format!("{name}-x"))),
                2 => index.delete(Kind::Namespace, &Key::new("", namespace)),
                3 => index.apply(fixture::namespace(namespace, stages[random.below(2)])),
                4 => index.apply(fixture::slice(namespace, &name, json!([]), &[(&address, "", ready)])),
                _ => index.apply(fixture::balanced(namespace, &name, spec, json!([balancer]))),
            };
            if random.below(3) == 0 {
                continue;
            }
            let before = (zone.clone(), kept(&zone));
            zone = zone.next(index.snapshot(), step);
            assert_eq!(kept(&zone), kept(&fresh(&index)), "after step {step}");
            assert_eq!(kept(&before.0), before.1, "the past stays");
        }
    }
}

#[test]
fn the_serial_number_grows_with_what_is_transferred() {
    let mut index = fixture::cluster();
    let zone = Zone::new(fixture::options()).unwrap().next(index.snapshot(), 100);
    index.apply(fixture::namespace("more", &[]));
    let same = zone.next(index.snapshot(), 200);
    index.apply(fixture::service("default", "more", json!({"clusterIP": "10.96.3.1"})));
    let within_a_second = same.next(index.snapshot(), 100);
    assert_eq!([zone.serial, same.serial, within_a_second.serial], [100, 100, 101]);
}

#[test]
fn zones() {
    let zones = |names: &[&str]| {
        let names = names.iter().map(|name| Name::from_ascii(name).unwrap()).collect();
        Zone::new(Options::new(names))
    };
    assert!(zones(&["in-addr.arpa."]).is_none());
    let zone = zones(&["ip6.arpa.", "k8s.example.", "a.k8s.example.", "."]).unwrap();
    assert_eq!(zone.primary().to_ascii(), "k8s.example.");
    for (name, want) in [("x.a.k8s.example.", "a.k8s.example."), ("x.k8s.example.", "k8s.example."), ("x.", ".")] {
        assert_eq!(zone.origin_of(&Name::from_ascii(name).unwrap()).unwrap().name.to_ascii(), want);
    }
}

#[test]
fn names_of_addresses() {
    for (address, name) in [
        ("10.96.0.1", "1.0.96.10.in-addr.arpa."),
        ("2001:db8::567:89ab", "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa."),
    ] {
        let (address, name) = (address.parse().unwrap(), Name::from_ascii(name).unwrap());
        assert_eq!((arpa(address), reversed(&name)), (name, Some(address)));
    }
    for name in ["01.0.96.10.in-addr.arpa.", "1.0.10.in-addr.arpa.", "1.0.0.0.10.in-addr.arpa.", "1.2.3.4.arpa."] {
        assert_eq!(reversed(&Name::from_ascii(name).unwrap()), None, "{name}");
    }
}
