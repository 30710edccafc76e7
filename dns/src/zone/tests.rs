use serde_json::json;
use state::{Key, Kind};

use super::*;
use crate::fixture::{self, Seeded};

#[test]
fn what_changed_is_all_that_is_made_anew() {
    let mut index = fixture::cluster();
    let mut zone = fixture::zone(index.snapshot());
    let mut random = Seeded(42);
    for step in 0..400 {
        let (namespace, name) = (*random.pick(&["default", "dev", "new"]), format!("s{}", random.below(6)));
        let ip = format!("10.96.1.{}", random.below(250));
        let spec = match random.below(4) {
            0 => json!({"clusterIP": "None"}),
            1 => json!({"type": "ExternalName", "externalName": "a.example"}),
            _ => json!({"clusterIP": ip, "ports": [{"name": "p", "port": 1}]}),
        };
        let address = format!("10.244.0.{}", random.below(6));
        let ready = random.below(2) == 0;
        match random.below(6) {
            0 => index.delete(Kind::Service, &Key::new(namespace, name)),
            1 => index.delete(Kind::Slice, &Key::new(namespace, format!("{name}-x"))),
            2 => index.delete(Kind::Pod, &Key::new(namespace, name)),
            3 => index.apply(fixture::pod(namespace, &name)),
            4 => index.apply(fixture::slice(namespace, &name, json!([]), &[(&address, "", ready)])),
            _ => index.apply(fixture::service(namespace, &name, spec)),
        };
        if random.below(3) == 0 {
            continue;
        }
        zone.update(index.snapshot(), step);
        let fresh = fixture::zone(index.snapshot());
        assert_eq!(zone.names, fresh.names, "after step {step}");
        assert_eq!(zone.reverse, fresh.reverse, "after step {step}");
        assert_eq!(zone.namespaces, fresh.namespaces, "after step {step}");
    }
}

#[test]
fn domains() {
    for domain in ["", ".", "a..b", &"a.".repeat(70)] {
        assert!(Zone::new(domain, None).is_err(), "{domain:?}");
    }
    assert_eq!(&*Zone::new("K8s.Example.", None).unwrap().suffix, b"\x03k8s\x07example\0");
}
