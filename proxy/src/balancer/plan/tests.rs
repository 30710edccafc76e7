use std::collections::BTreeSet;

use state::{Address, Protocol, Type};

use super::super::listeners::Listener;
use super::super::serves;
use super::*;
use crate::cluster::{Cluster, PortOf};

const NODE: &str = "192.0.2.1";
const LAB: &[(&str, &str)] = &[("lab", "198.51.100.8/30, fd00::8-fd00::9")];
const KEPT: (&str, &str) = ("kept", "203.0.113.7\nautoAssign: false");

/// What a case is about, pools, Services, and what they get; `Own` has listeners, too.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [&'a str], &'a [&'a str]);
type Own<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [(&'a str, u16)], &'a [&'a str], &'a [&'a str]);

/// A Service in words: `port=80`, `port=53/UDP`, `has=ADDRESS`, `ask=ADDRESSES`, `pool=NAME`, `share=KEY`, `class=NAME`,
/// `families=46`, `nodePort=30080`, `externalIP=ADDRESS`.
fn service(words: &str) -> Service {
    let mut service = None;
    let ports: Vec<PortOf> = words.split(' ').filter_map(|word| word.strip_prefix("port=")).map(port).collect();
    let ports = if ports.is_empty() { vec![(Protocol::Tcp, 80, None)] } else { ports };
    Cluster::new().service_with("", "10.96.0.80", &ports, |made| {
        made.kind = Type::LoadBalancer;
        let mut asks = Balancing::default();
        for (key, value) in words.split(' ').filter_map(|word| word.split_once('=')) {
            match key {
                "has" => made.load_balancer_ips.push(ip(value)),
                "ask" => asks.addresses = Some(value.into()),
                "pool" => asks.pool = Some(value.into()),
                "share" => asks.sharing = Some(value.into()),
                "class" => asks.class = Some(value.into()),
                "nodePort" => made.ports[0].node_port = value.parse().ok(),
                "externalIP" => made.external_ips.push(ip(value)),
                "families" => {
                    let of = |family| if family == '4' { ip("10.96.0.80") } else { ip("fd96::80") };
                    made.address = Address::ClusterIp(value.chars().map(of).collect());
                }
                _ => assert_eq!(key, "port"),
            }
        }
        made.balancing = Some(asks.into());
        service = Some(made.clone());
    });
    service.expect("a Service")
}

fn port(text: &str) -> PortOf {
    let number = text.trim_end_matches("/UDP");
    let protocol = if number == text { Protocol::Tcp } else { Protocol::Udp };
    (protocol, number.parse().expect("a port"), None)
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn read(pools: &[(&str, &str)]) -> Pools {
    let data = pools.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    Pools::parse(&data.collect(), &[]).expect("pools")
}

/// A cluster whose Services are called a, b, c …
fn cluster(services: &[&str]) -> Cluster {
    let mut cluster = Cluster::new();
    for (name, words) in ('a'..).zip(services) {
        cluster.service_with(&name.to_string(), "10.96.0.80", &[], |made| {
            *made = Service { key: made.key.clone(), ..service(words) };
        });
    }
    cluster
}

fn ours(cluster: &Cluster) -> Services {
    let snapshot = cluster.snapshot();
    let all = snapshot.services.iter().filter(|(_, service)| serves(service));
    all.map(|(key, service)| (key.clone(), service.clone())).collect()
}

/// What each Service gets, in words.
fn said(planned: &BTreeMap<Key, Assignment>) -> Vec<String> {
    let words = |(_, now): (_, &Assignment)| {
        let ips = now.ips.iter().map(ToString::to_string);
        let problem = now.problem.iter().map(|problem| problem.text(None));
        ips.chain(problem).collect::<Vec<_>>().join(" ")
    };
    planned.iter().map(words).collect()
}

/// Plans for Services where somebody listens at these TCP ports.
fn planned(pools: &[(&str, &str)], listeners: &[(&str, u16)], services: &[&str]) -> Vec<String> {
    let cluster = cluster(services);
    let listener = |(address, port): &(&str, u16)| Listener {
        protocol: Protocol::Tcp,
        address: ip(address),
        port: *port,
        socket: 1,
    };
    let listeners = listeners.iter().map(listener).collect();
    let wanted: BTreeSet<Number> = ours(&cluster).values().flat_map(|service| ports(service)).collect();
    let taken = Taken::new(&wanted, &cluster.snapshot(), "node", listeners, serves);
    let (pools, before) = (read(pools), BTreeMap::new());
    let means = Means { pools: Some(&pools), node: &[ip(NODE)], taken: &taken, before: &before };
    said(&plan(&ours(&cluster), &means))
}

/// Each says so much of what a Service gets.
fn assert_said(found: &[String], want: &[&str], case: &str) {
    let same = found.len() == want.len()
        && found.iter().zip(want).all(|(found, want)| match want.strip_suffix('…') {
            Some(begin) => found.starts_with(begin),
            None => found == want,
        });
    assert!(same, "{case}: {found:#?} is not {want:#?}");
}

#[test]
fn addresses_of_pools() {
    let all: &[(&str, &str)] = &[LAB[0], KEPT];
    let cases: &[Case<'_>] = &[
        ("in order, without network and broadcast", LAB, &["", ""], &["198.51.100.9", "198.51.100.10"]),
        (
            "no more",
            LAB,
            &["", "", ""],
            &[
                "198.51.100.9",
                "198.51.100.10",
                "No IPv4 address is free in \"lab\": add some in the ConfigMap kube-system/load-balancer-pools, or delete Services",
            ],
        ),
        ("who has one keeps it", LAB, &["", "has=198.51.100.9"], &["198.51.100.10", "198.51.100.9"]),
        ("only one may", LAB, &["has=198.51.100.9", "has=198.51.100.9"], &["198.51.100.9", "198.51.100.10"]),
        (
            "one of no pool is given back",
            LAB,
            &["has=192.0.2.1", "has=203.0.113.1"],
            &["198.51.100.9", "198.51.100.10"],
        ),
        ("one that is not given unasked is kept", all, &["has=203.0.113.7", ""], &["203.0.113.7", "198.51.100.9"]),
        ("the network's is had for the asking", LAB, &["ask=198.51.100.8", ""], &["198.51.100.8", "198.51.100.9"]),
        ("who asks comes first", LAB, &["", "ask=198.51.100.9"], &["198.51.100.10", "198.51.100.9"]),
        (
            "but not before who has",
            LAB,
            &["has=198.51.100.9", "ask=198.51.100.9"],
            &["198.51.100.9", "198.51.100.9 belongs to the Service default/a: both need the same annotation…"],
        ),
        ("who asks for another gets it", LAB, &["has=198.51.100.9 ask=198.51.100.10"], &["198.51.100.10"]),
        ("outside", LAB, &["ask=198.51.100.12"], &["198.51.100.12 was asked for, and is in no pool: add it…"]),
        (
            "a pool",
            all,
            &["pool=kept", "pool=lab", "pool=x"],
            &["203.0.113.7", "198.51.100.9", "There is no pool \"x\"…"],
        ),
        ("another pool", all, &["pool=kept has=198.51.100.9"], &["203.0.113.7"]),
        (
            "a pool and an address",
            all,
            &["pool=kept ask=203.0.113.7", "pool=lab ask=203.0.113.7"],
            &["203.0.113.7", "203.0.113.7 was asked for, and is not in the pool \"lab\", which was asked for, too"],
        ),
        ("both families", LAB, &["families=46", "families=64"], &["198.51.100.9 fd00::8", "fd00::9 198.51.100.10"]),
        ("IPv6 alone", LAB, &["families=6", ""], &["fd00::8", "198.51.100.9"]),
        ("a family more", LAB, &["", "families=46 has=198.51.100.9"], &["198.51.100.10", "198.51.100.9 fd00::8"]),
        ("a family less", LAB, &["families=6 has=198.51.100.9 has=fd00::9"], &["fd00::9"]),
        (
            "both from one pool if possible",
            &[("a", "198.51.100.9"), ("b", "fd00::8, 198.51.100.7"), ("c", "fd00::1")],
            &["families=46", "families=46", ""],
            &["198.51.100.7 fd00::8", "198.51.100.9 No IPv6 address is free in \"a\", \"b\", \"c\"…", "No IPv4…"],
        ),
        (
            "asks for both",
            LAB,
            &["families=46 ask=fd00::9,198.51.100.10", "families=46 ask=fd00::8"],
            &["198.51.100.10 fd00::9", "fd00::8"],
        ),
        ("no address", LAB, &["ask=a.b"], &["\"a.b\" was asked for, and is no IP address"]),
        (
            "another family",
            LAB,
            &["ask=fd00::8"],
            &["fd00::8 was asked for, and the Service has no IPv6: see its ipFamilies"],
        ),
        ("two of a family", LAB, &["ask=198.51.100.9,198.51.100.10"], &["Two IPv4 addresses were asked for, …"]),
        (
            "sharing",
            LAB,
            &["share=x", "share=x port=81", "share=x", "share=y", "share=x port=80/UDP"],
            &["198.51.100.9", "198.51.100.9", "198.51.100.10", "No IPv4…", "198.51.100.9"],
        ),
        (
            "sharing for the asking",
            LAB,
            &["share=x ask=198.51.100.9", "share=x ask=198.51.100.9", "ask=198.51.100.9 port=81"],
            &[
                "198.51.100.9",
                "TCP port 80 of 198.51.100.9 is taken by the Service default/a: …",
                "198.51.100.9 belongs…",
            ],
        ),
        (
            "no longer shared",
            LAB,
            &["share=x has=198.51.100.9", "port=81 has=198.51.100.9"],
            &["198.51.100.9", "198.51.100.10"],
        ),
    ];
    for (case, pools, services, want) in cases {
        assert_said(&planned(pools, &[], services), want, case);
    }
}

#[test]
fn the_nodes_own_address() {
    let taken = |by: &str| format!("TCP port 80 of {NODE} is taken by {by}: …");
    let by_program = taken("a program of the node");
    let by_a = taken("the Service default/a");
    let cases: &[Own<'_>] = &[
        ("all share it", &[], &[], &["", "port=81", "port=80/UDP", ""], &[NODE, NODE, NODE, &by_a]),
        (
            "who has it keeps it",
            &[],
            &[],
            &["", "has=192.0.2.1"],
            &["TCP port 80 of 192.0.2.1 is taken by the Service default/b: …", NODE],
        ),
        ("also where pools are for the asking", &[KEPT], &[], &["", "pool=kept"], &[NODE, "203.0.113.7"]),
        ("another node's is given back", &[], &[], &["has=192.0.2.2"], &[NODE]),
        (
            "asked for",
            &[],
            &[],
            &["ask=192.0.2.1", "ask=192.0.2.2"],
            &[NODE, "192.0.2.2 was asked for, and is in no pool…"],
        ),
        ("a program listens everywhere", &[], &[("0.0.0.0", 80)], &["", "port=81"], &[&by_program, NODE]),
        ("or for IPv6, too", &[], &[("::", 80)], &[""], &[&by_program]),
        ("or there", &[], &[(NODE, 80)], &[""], &[&by_program]),
        ("or elsewhere", &[], &[("127.0.0.1", 80), ("192.0.2.2", 80)], &[""], &[NODE]),
        ("which does not concern addresses of pools", LAB, &[("0.0.0.0", 80)], &[""], &["198.51.100.9"]),
        (
            "unless they are the node's",
            &[("a", "192.0.2.1-192.0.2.3")],
            &[("::", 80)],
            &["", ""],
            &["192.0.2.2", "192.0.2.3"],
        ),
        (
            "a node port",
            &[],
            &[],
            &["nodePort=81 port=30000", "port=81", "nodePort=80"],
            &[NODE, "TCP port 81 of 192.0.2.1 is taken by the Service default/a: …", NODE],
        ),
        ("an external address", &[], &[], &["externalIP=192.0.2.1 class=x/y", ""], &[&by_a]),
        ("an address of another class", &[], &[], &["has=192.0.2.1 class=x/y", "class=coracle"], &[&by_a]),
        (
            "IPv6",
            &[],
            &[],
            &["families=46", "families=6 port=81"],
            &[NODE, "This node has no IPv6 address: give IPv6 addresses by a pool…"],
        ),
    ];
    for (case, pools, listeners, services, want) in cases {
        assert_said(&planned(pools, listeners, services), want, case);
    }
}

#[test]
fn what_was_given_stays_while_the_program_runs() {
    let cluster = cluster(&["", "port=81"]);
    let listener = Listener { protocol: Protocol::Tcp, address: ip("0.0.0.0"), port: 80, socket: 1 };
    let wanted = [(Protocol::Tcp, 80), (Protocol::Tcp, 81)].into();
    let taken = Taken::new(&wanted, &cluster.snapshot(), "node", vec![listener], serves);
    let given = |port| Assignment { ips: vec![ip(NODE)], ports: vec![(Protocol::Tcp, port)], problem: None };
    let key = |name: &str| Key::new("default", name);
    let (none, lab) = (read(&[]), read(LAB));
    for (pools, before, want) in [
        (Some(&none), [(key("a"), given(80))], [NODE, NODE]),
        // It had another port.
        (
            Some(&none),
            [(key("a"), given(8080))],
            ["TCP port 80 of 192.0.2.1 is taken by a program of the node: …", NODE],
        ),
        (Some(&lab), [(key("a"), given(80))], ["198.51.100.9", "198.51.100.10"]),
        (None, [(key("a"), given(80))], [NODE, "The ConfigMap kube-system/load-balancer-pools cannot be read: …"]),
    ] {
        let before = before.into();
        let means = Means { pools, node: &[ip(NODE)], taken: &taken, before: &before };
        assert_said(&said(&plan(&ours(&cluster), &means)), &want, &format!("{before:?}"));
    }
}

#[test]
fn thousands_of_services() {
    let pools = read(&[("lab", "10.0.0.0/20")]);
    let mut cluster = Cluster::new();
    for at in 0..4000 {
        cluster.service_with(&format!("{at:04}"), "10.96.0.80", &[], |made| {
            *made = Service { key: made.key.clone(), ..service("") };
        });
    }
    let (taken, before) = Default::default();
    let means = Means { pools: Some(&pools), node: &[], taken: &taken, before: &before };
    let first = plan(&ours(&cluster), &means);
    assert_eq!(first[&Key::new("default", "3999")].ips, [ip("10.0.15.160")]);
    let means = Means { before: &first, ..means };
    assert_eq!(plan(&ours(&cluster), &means), first);
}
