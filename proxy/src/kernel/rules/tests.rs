use std::sync::Arc;

use super::*;
use crate::cluster::{Cluster, PortOf, endpoint};
use crate::kernel::tests::config;

const WEB: [PortOf; 2] = [(Protocol::Tcp, 80, Some(30001)), (Protocol::Udp, 53, None)];

/// What the kernel holds, and does with a new connection: the rules of `chains` in a few lines.
#[derive(Default, Debug, PartialEq)]
struct Kernel(BTreeSet<Element>);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    To(SocketAddr),
    Refused,
    Dropped,
    /// Not ours.
    Passed,
}

impl Kernel {
    /// As the kernel does it, which takes all of a change or nothing.
    fn commit(&mut self, change: &Change) {
        for element in &change.removed {
            assert!(self.0.remove(element), "removes {element:?}, which is not there");
        }
        for element in &change.added {
            assert!(self.0.insert(*element), "adds {element:?} again");
        }
        let keys: Vec<_> = self.0.iter().map(|element| (element.set(), element.keys().0.bytes().to_vec())).collect();
        assert_eq!(keys.len(), keys.iter().collect::<BTreeSet<_>>().len(), "two values for one key");
    }

    /// Where connections to a frontend can go, over all random numbers and clients.
    fn outcomes(&self, to: Frontend) -> BTreeSet<Outcome> {
        let found = self.0.iter().filter_map(service).find(|(frontend, _)| *frontend == to);
        let endpoint = |wanted: u32| {
            let id = self.0.iter().find_map(|element| match element {
                Element::Id(frontend, Side::Main, index, id) if (*frontend, *index) == (to, wanted) => Some(*id),
                _ => None,
            });
            let mut all = self.0.iter().filter_map(|element| match element {
                Element::Sticky(frontend, found, at) if (*frontend, Some(*found)) == (to, id) => Some(*at),
                Element::Endpoint(frontend, Side::Main, index, at) if (*frontend, *index) == (to, wanted) => Some(*at),
                _ => None,
            });
            Outcome::To(all.next().unwrap_or_else(|| panic!("no endpoint {wanted} at {to:?}")))
        };
        match found {
            Some((_, Target::Drop)) => [Outcome::Dropped].into(),
            Some((_, Target::Pick(pick))) => (0..pick.count).map(endpoint).collect(),
            None if self.0.contains(&Element::Refused(to)) => [Outcome::Refused].into(),
            None => [Outcome::Passed].into(),
        }
    }
}

fn service(element: &Element) -> Option<(Frontend, Target)> {
    match element {
        Element::Service(frontend, Side::Main, target) => Some((*frontend, *target)),
        _ => None,
    }
}

fn at(address: &str, protocol: Protocol, port: u16) -> Frontend {
    Frontend { address: address.parse().expect("an address"), protocol, port }
}

/// A fresh load of a Snapshot.
fn fresh(cluster: &Cluster) -> (Rules, Kernel) {
    let (mut rules, mut kernel) = (Rules::default(), Kernel::default());
    kernel.commit(&rules.update(&Snapshot::default(), &cluster.snapshot(), &config()));
    (rules, kernel)
}

fn elements(cluster: &Cluster) -> Vec<String> {
    fresh(cluster)
        .1
        .0
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
        (all(&[&far, &unready]), true, vec!["drop"]),
        (all(&[&unready]), true, vec!["refuse"]),
        (all(&[]), false, vec!["refuse"]),
    ];
    for (endpoints, local, expected) in table {
        let mut cluster = Cluster::new();
        cluster.service_with("web", "10.96.0.1", &WEB[..1], |service| {
            (service.internal_local, service.external_local) = (local, local);
        });
        cluster.endpoints_with("web", &WEB[..1], 8080, endpoints);
        let (_, kernel) = fresh(&cluster);
        let expected: BTreeSet<Outcome> = expected
            .iter()
            .map(|word| match *word {
                "drop" => Outcome::Dropped,
                "refuse" => Outcome::Refused,
                address => Outcome::To(SocketAddr::new(address.parse().expect("an address"), 8080)),
            })
            .collect();
        assert_eq!(kernel.outcomes(inside), expected);
        assert_eq!(kernel.outcomes(outside), expected);
        assert!(!local || !kernel.0.contains(&Element::External(outside)), "Local keeps the client's address");
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
    let (mut rules, mut kernel) = (Rules::default(), Kernel::default());
    let mut older = Arc::<Snapshot>::default();
    let mut step = |cluster: &Cluster| {
        let newer = cluster.snapshot();
        kernel.commit(&rules.update(&older, &newer, &config()));
        older = newer;
        kernel.outcomes(at("10.96.0.1", Protocol::Tcp, 80)).into_iter().next().expect("an outcome")
    };
    let to = |address: &str| Outcome::To(SocketAddr::new(address.parse().expect("an address"), 8080));
    for (name, address) in [("b", "10.244.0.2"), ("a", "10.244.0.3")] {
        cluster.service(name, "10.96.0.1", &WEB[..1]);
        cluster.endpoints(name, &WEB[..1], 8080, &[address]);
        assert_eq!(step(&cluster), to(address));
    }
    cluster.remove("a");
    assert_eq!(step(&cluster), to("10.244.0.2"));
    cluster.remove("b");
    cluster.service("c", "10.96.0.1", &WEB[..1]);
    assert_eq!(step(&cluster), Outcome::Refused);
}

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// Something happens to one of eight Services.
fn mutate(cluster: &mut Cluster, dice: &mut Dice) {
    let i = dice.roll(8);
    let name = format!("service-{i}");
    let ports: [PortOf; 2] = [(Protocol::Tcp, 80, Some(30000 + dice.roll(8) as u16)), (Protocol::Udp, 80, None)];
    match dice.roll(6) {
        0 => cluster.remove(&name),
        1 | 2 => {
            let (sticky, local) = (dice.roll(4) == 0, dice.roll(4) == 0);
            cluster.service_with(&name, &format!("10.96.1.{}", dice.roll(10)), &ports, |service| {
                service.affinity = sticky.then_some(10);
                (service.internal_local, service.external_local) = (local, local);
            });
        }
        _ => {
            let endpoints = (0..dice.roll(5)).map(|_| {
                let mut endpoint = endpoint(&format!("10.244.0.{}", dice.roll(12)));
                endpoint.ready = dice.roll(3) > 0;
                endpoint.terminating = dice.roll(2) > 0;
                endpoint.node = Some(if dice.roll(2) > 0 { "node" } else { "other" }.into());
                endpoint
            });
            let endpoints = endpoints.collect();
            cluster.endpoints_with(&name, &ports, 8080, endpoints);
        }
    }
}

#[test]
fn changes_in_sequence_equal_a_fresh_load() {
    for seed in 0..50 {
        let (mut cluster, mut dice) = (Cluster::new(), Dice(seed));
        let (mut rules, mut kernel) = (Rules::default(), Kernel::default());
        let mut older = Arc::<Snapshot>::default();
        for _ in 0..60 {
            for _ in 0..dice.roll(4) {
                mutate(&mut cluster, &mut dice);
            }
            let newer = cluster.snapshot();
            kernel.commit(&rules.update(&older, &newer, &config()));
            assert_eq!((&rules, &kernel), (&fresh(&cluster).0, &fresh(&cluster).1), "seed {seed}");
            check(&newer, &kernel);
            older = newer;
        }
    }
}

/// Every cluster IP that one Service has for itself leads where the Service says.
fn check(snapshot: &Snapshot, kernel: &Kernel) {
    for (_, service) in snapshot.services.iter() {
        if snapshot.services.iter().filter(|(_, s)| s.cluster_ips() == service.cluster_ips()).count() > 1 {
            continue;
        }
        let near = |e: &&state::Endpoint| !service.internal_local || e.node.as_deref() == Some("node");
        let ready = |e: &&state::Endpoint| e.ready;
        let usable = |e: &&state::Endpoint| e.ready || (e.serving && e.terminating);
        let any_ready = service.endpoints.iter().filter(near).any(|e| e.ready);
        let chosen = service.endpoints.iter().filter(near).filter(|e| if any_ready { ready(e) } else { usable(e) });
        let mut expected: BTreeSet<Outcome> = chosen.map(|e| Outcome::To(SocketAddr::new(e.address, 8080))).collect();
        // The names of a slice's ports must be those of the Service's.
        let named = service.endpoints.iter().all(|e| e.ports.iter().any(|p| p.name == service.ports[0].name));
        assert!(named, "the test's own ports");
        if expected.is_empty() {
            let elsewhere = service.endpoints.iter().any(|e| usable(&e));
            expected.insert(if elsewhere { Outcome::Dropped } else { Outcome::Refused });
        }
        let address = service.cluster_ips()[0];
        let frontend = Frontend { address, protocol: Protocol::Tcp, port: 80 };
        assert_eq!(kernel.outcomes(frontend), expected, "{service:?}");
        let addresses = expected.iter().filter_map(|o| if let Outcome::To(to) = o { Some(to.ip()) } else { None });
        addresses.for_each(|address| assert!(kernel.0.contains(&Element::Hairpin(address))));
    }
}
