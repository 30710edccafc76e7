use super::*;
use crate::cluster::{Cluster, PortOf, endpoint};
use state::Protocol;

/// An endpoint in words: its address's last byte; then `far` (on another node), `unready`, `leaving`, zones it is
/// allotted to (`a`, `b`), nodes it is allotted to (`@node`, `@other`).
fn parse(text: &str) -> state::Endpoint {
    let mut words = text.split(' ');
    let mut found = endpoint(&format!("10.244.0.{}", words.next().expect("a byte")));
    let mut hints = Hints::default();
    for word in words {
        match word {
            "far" => found.node = Some("other".into()),
            "unready" => (found.ready, found.serving) = (false, false),
            "leaving" => (found.ready, found.terminating) = (false, true),
            word => match word.strip_prefix('@') {
                Some(node) => hints.nodes.push(node.into()),
                None => hints.zones.push(word.into()),
            },
        }
    }
    found.hints = (hints != Hints::default()).then(|| hints.into());
    found
}

#[test]
fn which_endpoints_a_node_uses() {
    // Endpoints; the node's zone; those for the policies Cluster and Local.
    let table: [(&[&str], Option<&str>, &str, &str); 13] = [
        (&["1", "2 far", "3 unready"], None, "1 2", "1"),
        (&["1 leaving", "2 far"], None, "2", "1"),
        (&["1 leaving", "2 far leaving"], None, "1 2", "1"),
        (&["2 far", "3 unready"], None, "2", "elsewhere"),
        (&["3 unready"], None, "none", "none"),
        (&[], None, "none", "none"),
        (&["1 a", "2 far b"], Some("b"), "2", "1"),
        (&["1 a", "2 far a", "3 far b"], Some("a"), "1 2", "1"),
        (&["1 a", "2 far b"], Some("c"), "1 2", "1"),
        (&["1 a", "2 far b"], None, "1 2", "1"),
        (&["1 a", "2 far"], Some("a"), "1 2", "1"),
        (&["1 a @node", "2 far a @other", "3 unready"], Some("a"), "1", "1"),
        (&["1 a", "2 far a @other", "3 leaving b"], Some("a"), "1 2", "1"),
    ];
    let ports: [PortOf; 1] = [(Protocol::Tcp, 80, None)];
    for (endpoints, zone, cluster, local) in table {
        let mut snapshots = Cluster::new();
        snapshots.service("web", "10.96.0.1", &ports);
        snapshots.endpoints_with("web", &ports, 80, endpoints.iter().map(|text| parse(text)).collect());
        let snapshot = snapshots.snapshot();
        let service = snapshot.service("default", "web").expect("the Service");
        let place = Place { node: "node".into(), zone: zone.map(Arc::from) };
        for (policy, expected) in [(false, cluster), (true, local)] {
            let found = match backends(service, &service.ports[0], &place, policy, true) {
                Backends::Ready(found) => {
                    found.iter().map(|at| at.ip().to_string().replace("10.244.0.", "")).collect::<Vec<_>>().join(" ")
                }
                Backends::Elsewhere => "elsewhere".into(),
                Backends::None => "none".into(),
            };
            assert_eq!(found, expected, "{endpoints:?} in {zone:?}, Local: {policy}");
            assert_eq!(backends(service, &service.ports[0], &place, policy, false), Backends::None, "of IPv6");
        }
    }
}
