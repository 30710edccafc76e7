use state::{Balancing, Index, Kind, Object, Snapshot};

use super::*;
use crate::cluster::{Cluster, endpoint};

const WEB: [(Protocol, u16, Option<u16>); 2] = [(Protocol::Udp, 53, Some(30053)), (Protocol::Tcp, 80, Some(30001))];

/// Nodes by their names, each with a mark of what it is: `-` not ready, `~` leaving, `!` excluded.
fn nodes(index: &mut Index, names: &str) {
    let node = |(number, name): (usize, &str)| {
        let bare = name.trim_end_matches(['-', '~', '!']);
        Object::Node(Node {
            key: Key::new("", bare),
            addresses: vec![[192, 0, 2, 1 + number as u8].into()],
            zone: None,
            pod_cidrs: Vec::new(),
            ready: !name.contains('-'),
            leaving: name.contains('~'),
            excluded: name.contains('!'),
        })
    };
    index.reset(Kind::Node, names.split_whitespace().enumerate().map(node).collect());
}

fn all(snapshot: &Snapshot) -> BTreeMap<IpAddr, Claim> {
    let services = snapshot.services.iter().filter(|(_, service)| announced(service));
    claims(&services.map(|(key, service)| (key.clone(), service.clone())).collect(), &snapshot.nodes)
}

/// A Service with an address, and endpoints on these nodes, with the same marks.
fn balanced(cluster: &mut Cluster, name: &str, address: &str, places: &str, edit: impl FnOnce(&mut Service)) {
    cluster.service_with(name, "10.96.0.80", &WEB, |service| {
        service.balancing = Some(Arc::default());
        service.load_balancer_ips = vec![address.parse().unwrap()];
        edit(service);
    });
    let one = |(number, place): (usize, &str)| {
        let mut one = endpoint(&format!("10.244.0.{number}"));
        (one.ready, one.serving) = (!place.contains(['-', '~']), !place.contains('-'));
        one.terminating = place.contains('~');
        one.node = Some(place.trim_end_matches(['-', '~']).into());
        one
    };
    let endpoints = places.split_whitespace().enumerate().map(one).collect();
    cluster.endpoints_with(name, &WEB, 8080, endpoints);
}

fn names(claim: &Claim) -> String {
    let mut names: Vec<&str> = claim.candidates.iter().map(|candidate| &*candidate.node).collect();
    names.sort();
    names.join(" ")
}

#[test]
fn candidates() {
    for (there, local, places, want) in [
        ("a b c", false, "", "a b c"),
        ("a b- c~ d!", false, "a", "a"),
        ("a", false, "", "a"),
        ("a!", false, "a", ""),
        ("", false, "", ""),
        // Nobody is ready: the API may see less than there is.
        ("a- b- c!", false, "", "a b"),
        ("a~", false, "", "a"),
        ("a b c", true, "b c", "b c"),
        ("a b c", true, "b- c", "c"),
        ("a b c", true, "b~ c-", "b"),
        ("a b c!", true, "b c", "b"),
        // A node that leaves has the only endpoint.
        ("a b~", true, "b", "b"),
        ("a b~ c", true, "b c", "c"),
        // Nobody has one: a refusal is better than silence.
        ("a b", true, "", "a b"),
        ("a b", true, "elsewhere", "a b"),
    ] {
        let mut cluster = Cluster::new();
        nodes(&mut cluster.0, there);
        balanced(&mut cluster, "web", "198.51.100.1", places, |service| service.external_local = local);
        let claims = all(&cluster.snapshot());
        assert_eq!(names(&claims[&IpAddr::from([198, 51, 100, 1])]), want, "{there}; {places}");
    }
    // Nodes of IPv4 serve no other address.
    let mut cluster = Cluster::new();
    nodes(&mut cluster.0, "a b");
    balanced(&mut cluster, "web", "2001:db8::1", "a", |_| {});
    assert_eq!(all(&cluster.snapshot()).into_values().next().expect("a claim").candidates, []);
}

#[test]
fn addresses() {
    let none: fn(&mut Service) = |service| service.balancing = None;
    let class: fn(&mut Service) = |service| {
        service.balancing = Some(Arc::new(Balancing { class: Some("another/one".into()), ..Balancing::default() }));
    };
    let other: fn(&mut Service) = |service| service.other_proxy = true;
    for (address, edit, want) in [
        ("198.51.100.1", (|_| {}) as fn(&mut Service), true),
        ("2001:db8::1", |_| {}, true),
        // A node's own address, and those that no neighbour has.
        ("192.0.2.1", |_| {}, false),
        ("127.0.0.1", |_| {}, false),
        ("0.0.0.0", |_| {}, false),
        ("224.0.0.1", |_| {}, false),
        ("ff02::1", |_| {}, false),
        ("198.51.100.1", none, false),
        ("198.51.100.1", class, false),
        ("198.51.100.1", other, false),
        ("198.51.100.1", |service| service.load_balancer_ips.clear(), false),
    ] {
        let mut cluster = Cluster::new();
        nodes(&mut cluster.0, "a");
        balanced(&mut cluster, "web", address, "", edit);
        assert_eq!(all(&cluster.snapshot()).contains_key(&address.parse().unwrap()), want, "{address}");
    }
}

#[test]
fn an_address_that_services_share() {
    let mut cluster = Cluster::new();
    nodes(&mut cluster.0, "a b c");
    balanced(&mut cluster, "one", "198.51.100.1", "a b", |service| service.external_local = true);
    balanced(&mut cluster, "two", "198.51.100.1", "b c", |service| service.external_local = true);
    balanced(&mut cluster, "three", "198.51.100.1", "c", |_| {});
    let claims = all(&cluster.snapshot());
    let claim = &claims[&IpAddr::from([198, 51, 100, 1])];
    assert_eq!((claim.services.len(), names(claim)), (3, "b".into()));
}

#[test]
fn whom_to_ask() {
    let mut cluster = Cluster::new();
    nodes(&mut cluster.0, "a b");
    let asked = |cluster: &Cluster| {
        let claims = all(&cluster.snapshot());
        ["a", "b", "c"].map(|me| ahead(&claims, me)).iter().flatten().copied().collect::<Vec<_>>()
    };
    balanced(&mut cluster, "web", "198.51.100.1", "a b", |_| {});
    let first = all(&cluster.snapshot())[&IpAddr::from([198, 51, 100, 1])].candidates[0].probe;
    // By the one that comes second, whoever that is; a Service's nodePort of UDP cannot be asked.
    assert!(matches!(first, Probe::Node(_, Some(30001))));
    assert_eq!(asked(&cluster), [first]);
    let both = |service: &mut Service| (service.external_local, service.health_check_node_port) = (true, Some(30009));
    balanced(&mut cluster, "web", "198.51.100.1", "a b", both);
    assert!(matches!(asked(&cluster)[..], [Probe::Endpoints(at)] if at.port() == 30009));
    // Without a nodePort its health is enough.
    balanced(&mut cluster, "web", "198.51.100.1", "", |service| service.ports.truncate(1));
    assert!(matches!(asked(&cluster)[..], [Probe::Node(_, None)]));
    // Alone, there is nobody to ask.
    nodes(&mut cluster.0, "a");
    assert_eq!(asked(&cluster), []);
    // Never too many.
    nodes(&mut cluster.0, &(0..200).map(|number| format!("n{number} ")).collect::<String>());
    let claims = all(&cluster.snapshot());
    assert_eq!((0..200).map(|number| ahead(&claims, &format!("n{number}")).len()).max(), Some(PROBES));
}

/// Who announces each address, as all of `there` see it; asserts that it is one of the living.
fn holders(claims: &BTreeMap<IpAddr, Claim>, there: &[String], dead: &BTreeSet<Probe>) -> BTreeMap<IpAddr, String> {
    let holder = |(address, claim): (&IpAddr, &Claim)| {
        let lives = |me: &&String| {
            let own = claim.candidates.iter().find(|candidate| *candidate.node == ***me);
            own.is_none_or(|own| !dead.contains(&own.probe))
        };
        let holders: Vec<&String> = there.iter().filter(lives).filter(|me| claim.is_for(me, dead)).collect();
        let living = claim.candidates.iter().any(|candidate| !dead.contains(&candidate.probe));
        assert_eq!(holders.len(), usize::from(living), "{address}: {holders:?}");
        Some((*address, holders.first()?.to_string()))
    };
    claims.iter().filter_map(holder).collect()
}

#[test]
fn one_announces_and_little_moves() {
    let mut cluster = Cluster::new();
    for number in 0..200 {
        balanced(&mut cluster, &format!("web{number}"), &format!("198.51.100.{number}"), "", |_| {});
    }
    let there = |count: usize| (0..count).map(|number| format!("node-{number}")).collect::<Vec<_>>();
    let mut look = |names: &[String]| {
        nodes(&mut cluster.0, &names.join(" "));
        all(&cluster.snapshot())
    };
    let nobody = BTreeSet::new();
    let mut before = BTreeMap::new();
    for count in 1..8 {
        let names = there(count);
        let claims = look(&names);
        let after = holders(&claims, &names, &nobody);
        // What moves, moves to the one that came; and that is about its share.
        let moved: Vec<_> = after.iter().filter(|(address, holder)| before.get(*address) != Some(*holder)).collect();
        assert!(moved.iter().all(|(_, holder)| **holder == names[count - 1]), "{count}: {moved:?}");
        assert!((100 / count..=300 / count).contains(&moved.len()), "{count}: {} moved", moved.len());
        // Whoever dies, what the others have stays.
        for (mask, claim) in (1..1 << count).zip(claims.values().cycle()) {
            let all = claim.candidates.iter();
            let dead = all.filter(|candidate| {
                let number: usize = candidate.node[5..].parse().unwrap();
                mask >> number & 1 == 1
            });
            let dead: Vec<&Candidate> = dead.collect();
            let gone: BTreeSet<Probe> = dead.iter().map(|candidate| candidate.probe).collect();
            for (address, holder) in holders(&claims, &names, &gone) {
                let kept = after[&address] == holder;
                assert!(kept || dead.iter().any(|candidate| *candidate.node == *after[&address]), "{address}");
            }
        }
        before = after;
    }
}
