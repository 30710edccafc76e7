use super::*;
use crate::cluster::{Cluster, PortOf, endpoint};
use crate::kernel::model::{Model, Outcome, Packet};
use crate::kernel::tests::config;

const WEB: [PortOf; 2] = [(Protocol::Tcp, 80, Some(30001)), (Protocol::Udp, 53, None)];

fn at(address: &str, protocol: Protocol, port: u16) -> Frontend {
    Frontend { address: address.parse().expect("an address"), protocol, port }
}

/// Where the connections of a client outside may go: to these addresses.
fn outcomes(model: &mut Model, to: Frontend) -> BTreeSet<String> {
    let packet = Packet { from: [203, 0, 113, 1].into(), to };
    let word = |random| match model.send(packet, &config(), random) {
        Outcome::To(endpoint, _) => endpoint.ip().to_string(),
        other => format!("{other:?}"),
    };
    (0..6).map(word).collect()
}

/// A fresh load of a Snapshot.
fn elements(cluster: &Cluster) -> Vec<String> {
    let change = Rules::default().update(&Snapshot::default(), &cluster.snapshot(), &config());
    change
        .added
        .iter()
        .map(|element| {
            let at = |f: &Frontend| format!("{}:{}/{}", f.address, f.port, f.protocol);
            match element {
                Element::Endpoint(f, side, index, to) => format!("{} {side:?} {index} {to}", at(f)),
                Element::Id(f, side, index, id) => format!("{} {side:?} {index} {id}", at(f)),
                Element::Sticky(f, id, to) => format!("{} {id} {to}", at(f)),
                Element::Allowed(f, source) => format!("{} from {source}", at(f)),
                Element::External(f) => format!("{} external", at(f)),
                Element::Hairpin(address) => format!("{address} hairpin"),
                Element::Service(f, _, Target::Pick(pick)) => format!("{} {}", at(f), pick.chain()),
                Element::Service(f, side, Target::Drop) => format!("{} {side:?} drop", at(f)),
                Element::Refused(f) => format!("{} refused", at(f)),
            }
        })
        .collect()
}

#[test]
fn a_service_becomes_elements() {
    let mut cluster = Cluster::new();
    cluster.service("web", "10.96.0.1", &WEB[..1]);
    assert_eq!(elements(&cluster), ["10.96.0.1:80/TCP refused", "192.0.2.1:30001/TCP refused"]);
    cluster.endpoints("web", &WEB[..1], 8080, &["10.244.0.3", "10.244.0.2"]);
    assert_eq!(
        elements(&cluster),
        [
            "10.96.0.1:80/TCP Main 0 10.244.0.2:8080",
            "10.96.0.1:80/TCP Main 1 10.244.0.3:8080",
            "192.0.2.1:30001/TCP Main 0 10.244.0.2:8080",
            "192.0.2.1:30001/TCP Main 1 10.244.0.3:8080",
            "192.0.2.1:30001/TCP external",
            "10.244.0.2 hairpin",
            "10.244.0.3 hairpin",
            "10.96.0.1:80/TCP n2",
            "192.0.2.1:30001/TCP n2",
        ]
    );
}

#[test]
fn policies_and_conditions() {
    let [inside, outside] = [at("10.96.0.1", Protocol::Tcp, 80), at("192.0.2.1", Protocol::Tcp, 30001)];
    let mut far = endpoint("10.244.1.9");
    far.node = Some("other".into());
    let mut leaving = endpoint("10.244.0.8");
    (leaving.ready, leaving.terminating) = (false, true);
    let mut unready = endpoint("10.244.0.7");
    (unready.ready, unready.serving) = (false, false);
    let near = endpoint("10.244.0.2");
    let all = |list: &[&state::Endpoint]| list.iter().map(|e| (*e).clone()).collect::<Vec<_>>();
    // Endpoints; policy of Local; where the cluster IP and where the NodePort lead.
    let table = [
        (all(&[&near, &far, &unready]), false, vec!["10.244.0.2", "10.244.1.9"]),
        (all(&[&near, &far, &leaving]), true, vec!["10.244.0.2"]),
        (all(&[&leaving, &unready]), false, vec!["10.244.0.8"]),
        (all(&[&far, &leaving]), true, vec!["10.244.0.8"]),
        (all(&[&far, &unready]), true, vec!["Dropped"]),
        (all(&[&unready]), true, vec!["Refused"]),
        (all(&[]), false, vec!["Refused"]),
    ];
    for (endpoints, local, expected) in table {
        let mut cluster = Cluster::new();
        cluster.service_with("web", "10.96.0.1", &WEB[..1], |service| {
            (service.internal_local, service.external_local) = (local, local);
        });
        cluster.endpoints_with("web", &WEB[..1], 8080, endpoints);
        let mut model = Model::new(cluster.snapshot(), &config());
        let expected: BTreeSet<String> = expected.into_iter().map(str::to_owned).collect();
        assert_eq!(outcomes(&mut model, inside), expected);
        assert_eq!(outcomes(&mut model, outside), expected);
    }
}

#[test]
fn addresses_that_the_node_answers_are_left_alone() {
    let mut cluster = Cluster::new();
    let dns: [PortOf; 1] = [(Protocol::Udp, 53, None)];
    cluster.service("kube-dns", "10.96.0.10", &dns);
    cluster.service("kubernetes", "10.96.0.11", &dns);
    assert_eq!(elements(&cluster), [""; 0]);
}

#[test]
fn other_external_addresses() {
    let mut cluster = Cluster::new();
    let balanced = |service: &mut state::Service| {
        service.external_ips = vec![[198, 51, 100, 1].into()];
        service.load_balancer_ips = vec![[198, 51, 100, 2].into()];
    };
    cluster.service_with("web", "10.96.0.1", &WEB[1..], balanced);
    let expected = ["10.96.0.1:53/UDP refused", "198.51.100.1:53/UDP refused", "198.51.100.2:53/UDP refused"];
    assert_eq!(elements(&cluster), expected);
    cluster.service_with("web", "10.96.0.1", &WEB[1..], |service| {
        balanced(service);
        service.source_ranges = vec!["192.0.2.0/24".parse().expect("a network")];
    });
    assert_eq!(elements(&cluster), expected);
    cluster.endpoints("web", &WEB[1..], 53, &["10.244.0.2"]);
    let guarded: Vec<String> = elements(&cluster).into_iter().filter(|element| element.contains("100.2")).collect();
    let expected = [
        "198.51.100.2:53/UDP Main 0 10.244.0.2:53",
        "198.51.100.2:53/UDP external",
        "198.51.100.2:53/UDP from 192.0.2.0/24",
        "198.51.100.2:53/UDP from 198.51.100.2/32",
        "198.51.100.2:53/UDP n1-allowed",
    ];
    assert_eq!(guarded, expected);
}

#[test]
fn an_address_goes_to_another_service() {
    let mut cluster = Cluster::new();
    let mut model = Model::new(cluster.snapshot(), &config());
    let mut step = |cluster: &Cluster| {
        model.step(cluster.snapshot(), &config());
        outcomes(&mut model, at("10.96.0.1", Protocol::Tcp, 80)).into_iter().collect::<Vec<_>>()
    };
    for (name, address) in [("b", "10.244.0.2"), ("a", "10.244.0.3")] {
        cluster.service(name, "10.96.0.1", &WEB[..1]);
        cluster.endpoints(name, &WEB[..1], 8080, &[address]);
        assert_eq!(step(&cluster), [address]);
    }
    cluster.remove("a");
    assert_eq!(step(&cluster), ["10.244.0.2"]);
    cluster.remove("b");
    cluster.service("c", "10.96.0.1", &WEB[..1]);
    assert_eq!(step(&cluster), ["Refused"]);
}
