use std::sync::Arc;

use super::*;

/// An Ingress whose status has these addresses, written by that manager.
fn ingress(addresses: &[&str], manager: &str) -> Arc<Ingress> {
    let entries: Vec<_> = addresses.iter().map(|address| json!({"ip": address})).collect();
    let owned = json!({"f:status": {"f:loadBalancer": {"f:ingress": {}}}});
    let fields = json!([{"manager": manager, "operation": "Update", "subresource": "status", "fieldsV1": owned}]);
    let ingress = json!({
        "metadata": {"name": "app", "namespace": "default", "managedFields": fields},
        "status": {"loadBalancer": {"ingress": entries}},
    });
    Arc::new(serde_json::from_value(ingress).unwrap())
}

#[test]
fn statuses_are_those_of_the_service_and_taken_away_only_where_they_are_from_here() {
    let app = Key::new("default", "app");
    for (before, manager, served, addresses, expected) in [
        (&[][..], "", true, &["192.0.2.1"][..], Some(&["192.0.2.1"][..])),
        (&["192.0.2.1"], NAME, true, &["192.0.2.1"], None),
        (&["192.0.2.1"], NAME, true, &["192.0.2.2", "2001:db8::1"], Some(&["192.0.2.2", "2001:db8::1"])),
        (&["192.0.2.1"], NAME, true, &[], Some(&[])),
        (&["192.0.2.1"], "another", true, &["192.0.2.2"], Some(&["192.0.2.2"])),
        (&[], "", true, &[], None),
        (&["192.0.2.1"], NAME, false, &["192.0.2.1"], Some(&[])),
        (&[], NAME, false, &["192.0.2.1"], None),
        (&["192.0.2.1"], "another", false, &["192.0.2.2"], None),
    ] {
        let objects = Objects { ingresses: [(app.clone(), ingress(before, manager))].into(), ..Objects::default() };
        let served = BTreeSet::from_iter(served.then(|| app.clone()));
        let parsed = |all: &[&str]| all.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
        let found: Vec<_> = statuses(&objects, &served, &parsed(addresses))
            .into_iter()
            .map(|write| match write {
                Write::Status(key, addresses) => (key, addresses),
                other => panic!("{other:?}"),
            })
            .collect();
        let expected = expected.map(|expected| (app.clone(), parsed(expected)));
        assert_eq!(found, Vec::from_iter(expected), "{before:?} by {manager:?}");
    }
}
