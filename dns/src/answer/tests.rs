use RecordType::{A, AAAA, ANY, AXFR, CNAME, HTTPS, IXFR, MX, NS, PTR, SOA, SRV, TXT};

use super::*;
use crate::fixture;
use crate::zone::{Options, Selector};

/// Question → the answer's records, one a line, or what else it is.
fn show(zone: &Zone, name: &str, kind: RecordType) -> String {
    let line = |r: &Record| {
        let name = r.name.to_ascii().to_ascii_lowercase();
        format!("{} {} {}", name.trim_end_matches(".cluster.local."), r.record_type(), r.data)
    };
    match answer(zone, &Name::from_ascii(name).unwrap(), kind, 0) {
        Answer::Records { answers, additionals } => {
            answers.iter().chain(&additionals).map(line).collect::<Vec<_>>().join("; ")
        }
        Answer::Follow { answers, target } => {
            answers.iter().map(line).collect::<Vec<_>>().join("; ") + &format!("; then {target}")
        }
        other => format!("{other:?}"),
    }
}

fn zone(set: impl FnOnce(&mut Options)) -> Zone {
    let mut options = fixture::options();
    set(&mut options);
    Zone::new(options).unwrap().next(fixture::outer().snapshot(), 7)
}

fn check(zone: &Zone, table: &[(&str, RecordType, &str)]) {
    for (name, kind, want) in table {
        let full = if name.ends_with('.') { (*name).to_owned() } else { format!("{name}.cluster.local.") };
        assert_eq!(show(zone, &full, *kind), *want, "{name} {kind}");
    }
}

/// Question, type, records; grouped as the sections of the specification.
const SPECIFICATION: &[(&str, RecordType, &str)] = &[
    // 2.1 version
    ("dns-version", TXT, "dns-version TXT 1.1.0"),
    ("dns-version", A, ""),
    // 2.3 a Service with a cluster IP
    ("web.default.svc", A, "web.default.svc A 10.96.0.20"),
    ("WEB.default.SVC.Cluster.Local.", A, "web.default.svc A 10.96.0.20"),
    ("web.dev.svc", A, "web.dev.svc A 10.96.0.21"),
    ("web.default.svc", AAAA, ""),
    ("dual.dev.svc", A, "dual.dev.svc A 10.96.0.30"),
    ("dual.dev.svc", AAAA, "dual.dev.svc AAAA fd00:96::30"),
    ("six.dev.svc", A, ""),
    ("six.dev.svc", AAAA, "six.dev.svc AAAA fd00:96::31"),
    ("web.default.svc", MX, ""),
    ("web.default.svc", HTTPS, ""),
    ("web.default.svc", PTR, ""),
    ("web.default.svc", ANY, "web.default.svc HINFO RFC8482 "),
    ("nope.default.svc", ANY, "NxDomain"),
    ("web.default.svc", AXFR, "Refused"),
    ("web.default.svc", IXFR, "Refused"),
    (
        "_http._tcp.web.default.svc",
        SRV,
        "_http._tcp.web.default.svc SRV 0 100 80 web.default.svc.cluster.local.; web.default.svc A 10.96.0.20",
    ),
    (
        "_s._tcp.dual.dev.svc",
        SRV,
        "_s._tcp.dual.dev.svc SRV 0 50 443 dual.dev.svc.cluster.local.; \
         dual.dev.svc A 10.96.0.30; dual.dev.svc AAAA fd00:96::30",
    ),
    ("_http._udp.web.default.svc", SRV, "NxDomain"),
    ("_nope._tcp.web.default.svc", SRV, "NxDomain"),
    ("_http._tcp.web.dev.svc", SRV, "NxDomain"),
    ("_http._tcp.web.default.svc", A, "_http._tcp.web.default.svc A 10.96.0.20"),
    ("http.tcp.web.default.svc", A, "http.tcp.web.default.svc A 10.96.0.20"),
    ("_tcp.web.default.svc", A, "NxDomain"),
    ("_._tcp.web.default.svc", SRV, "NxDomain"),
    ("web.dev.svc", SRV, "web.dev.svc SRV 0 100 80 web.dev.svc.cluster.local.; web.dev.svc A 10.96.0.21"),
    ("bare.dev.svc", A, "bare.dev.svc A 10.96.0.32"),
    ("bare.dev.svc", SRV, ""),
    ("waits.dev.svc", A, ""),
    ("10-244-0-5.web.default.svc", A, "10-244-0-5.web.default.svc A 10.244.0.5"),
    ("10-244-0-6.web.default.svc", A, "NxDomain"),
    ("20.0.96.10.in-addr.arpa.", PTR, "20.0.96.10.in-addr.arpa. PTR web.default.svc.cluster.local."),
    ("20.0.96.10.in-addr.arpa.", A, "NxDomain"),
    (
        "0.3.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.0.D.F.ip6.arpa.",
        PTR,
        "0.3.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.0.d.f.ip6.arpa. PTR dual.dev.svc.cluster.local.",
    ),
    // 2.4 a headless Service
    ("db.default.svc", A, "db.default.svc A 10.244.0.7; db.default.svc A 10.244.0.8"),
    ("db-0.db.default.svc", A, "db-0.db.default.svc A 10.244.0.7"),
    ("10-244-0-8.db.default.svc", A, "10-244-0-8.db.default.svc A 10.244.0.8"),
    ("10-244-0-08.db.default.svc", A, "NxDomain"),
    ("10-244-0-7.db.default.svc", A, "NxDomain"),
    ("db-2.db.default.svc", A, "NxDomain"),
    ("*.db.default.svc", A, "NxDomain"),
    ("*.default.svc", A, "NxDomain"),
    (
        "_pg._tcp.db.default.svc",
        SRV,
        "_pg._tcp.db.default.svc SRV 0 50 5432 db-0.db.default.svc.cluster.local.; \
         _pg._tcp.db.default.svc SRV 0 50 5432 10-244-0-8.db.default.svc.cluster.local.; \
         db-0.db.default.svc A 10.244.0.7; 10-244-0-8.db.default.svc A 10.244.0.8",
    ),
    (
        "db-0.db.default.svc",
        SRV,
        "db-0.db.default.svc SRV 0 100 5432 db-0.db.default.svc.cluster.local.; db-0.db.default.svc A 10.244.0.7",
    ),
    ("peers.dev.svc", A, "peers.dev.svc A 10.244.0.20; peers.dev.svc A 10.244.0.21"),
    ("peers.dev.svc", AAAA, "peers.dev.svc AAAA fd00:244::20; peers.dev.svc AAAA fd00:244:1::"),
    ("p-0.peers.dev.svc", A, "p-0.peers.dev.svc A 10.244.0.20"),
    ("p-0.peers.dev.svc", AAAA, "p-0.peers.dev.svc AAAA fd00:244::20"),
    ("10-244-0-21.peers.dev.svc", AAAA, ""),
    ("fd00-244-1--0.peers.dev.svc", AAAA, "fd00-244-1--0.peers.dev.svc AAAA fd00:244:1::"),
    ("fd00-244-1--.peers.dev.svc", AAAA, "NxDomain"),
    ("fd00-244-1-0-0-0-0-0.peers.dev.svc", AAAA, "NxDomain"),
    (
        "_q._udp.peers.dev.svc",
        SRV,
        "_q._udp.peers.dev.svc SRV 0 25 7001 p-0.peers.dev.svc.cluster.local.; \
         _q._udp.peers.dev.svc SRV 0 25 7001 10-244-0-21.peers.dev.svc.cluster.local.; \
         _q._udp.peers.dev.svc SRV 0 25 7001 fd00-244-1--0.peers.dev.svc.cluster.local.; \
         p-0.peers.dev.svc A 10.244.0.20; 10-244-0-21.peers.dev.svc A 10.244.0.21; \
         p-0.peers.dev.svc AAAA fd00:244::20; fd00-244-1--0.peers.dev.svc AAAA fd00:244:1::",
    ),
    ("7.0.244.10.in-addr.arpa.", PTR, "7.0.244.10.in-addr.arpa. PTR db-0.db.default.svc.cluster.local."),
    ("9.0.244.10.in-addr.arpa.", PTR, "NxDomain"),
    ("07.0.244.10.in-addr.arpa.", PTR, "NxDomain"),
    ("0.244.10.in-addr.arpa.", PTR, "NxDomain"),
    ("in-addr.arpa.", PTR, ""),
    ("in-addr.arpa.", SOA, "in-addr.arpa. SOA ns.dns.in-addr.arpa. hostmaster.in-addr.arpa. 7 7200 1800 86400 5"),
    ("early.default.svc", A, "early.default.svc A 10.244.0.10"),
    ("early.default.svc", SRV, ""),
    ("none.default.svc", A, "NxDomain"),
    // 2.5 external names
    ("ext.default.svc", CNAME, "ext.default.svc CNAME www.example.org."),
    ("ext.default.svc", A, "ext.default.svc CNAME www.example.org.; then www.example.org."),
    ("x.ext.default.svc", A, "NxDomain"),
    ("_x._tcp.ext.default.svc", SRV, "NxDomain"),
    ("number.default.svc", A, "NxDomain"),
    // load balancers: beyond the specification, as CoreDNS's k8s_external has them
    ("shop.dev.lb", A, "shop.dev.lb A 192.0.2.9; shop.dev.lb A 192.0.2.10"),
    ("Shop.Dev.LB", AAAA, "shop.dev.lb AAAA 2001:db8::10"),
    ("shop.dev.lb", TXT, ""),
    ("till.dev.lb", AAAA, ""),
    ("shop.dev.lb", ANY, "shop.dev.lb HINFO RFC8482 "),
    (
        "_talk._udp.till.dev.lb",
        SRV,
        "_talk._udp.till.dev.lb SRV 0 50 5353 till.dev.lb.cluster.local.; \
         till.dev.lb A 10.96.0.40; till.dev.lb A 192.0.2.10",
    ),
    (
        "host.dev.lb",
        SRV,
        "host.dev.lb SRV 0 50 80 host.dev.lb.cluster.local.; host.dev.lb SRV 0 50 5353 host.dev.lb.cluster.local.; \
         host.dev.lb A 192.0.2.44",
    ),
    ("_http._tcp.host.dev.lb", A, "_http._tcp.host.dev.lb A 192.0.2.44"),
    ("_http._udp.shop.dev.lb", SRV, "NxDomain"),
    ("x.shop.dev.lb", A, "NxDomain"),
    ("10-244-0-40.shop.dev.lb", A, "NxDomain"),
    ("a.b.c.shop.dev.lb", A, "NxDomain"),
    ("cloud.dev.lb", CNAME, "cloud.dev.lb CNAME lb.example.org."),
    ("cloud.dev.lb", A, "cloud.dev.lb CNAME lb.example.org.; then lb.example.org."),
    ("_http._tcp.cloud.dev.lb", SRV, "NxDomain"),
    ("pending.dev.lb", A, "NxDomain"),
    ("web.default.lb", A, "NxDomain"),
    ("db.default.lb", A, "NxDomain"),
    ("nope.default.lb", A, "NxDomain"),
    ("shop.nobody.lb", A, "NxDomain"),
    ("lb", A, ""),
    ("dev.lb", A, ""),
    ("nobody.lb", A, "NxDomain"),
    (
        "10.2.0.192.in-addr.arpa.",
        PTR,
        "10.2.0.192.in-addr.arpa. PTR shop.dev.lb.cluster.local.; \
         10.2.0.192.in-addr.arpa. PTR till.dev.lb.cluster.local.",
    ),
    ("9.2.0.192.in-addr.arpa.", PTR, "9.2.0.192.in-addr.arpa. PTR shop.dev.lb.cluster.local."),
    ("40.0.96.10.in-addr.arpa.", PTR, "40.0.96.10.in-addr.arpa. PTR shop.dev.svc.cluster.local."),
    (
        "44.2.0.192.in-addr.arpa.",
        PTR,
        "44.2.0.192.in-addr.arpa. PTR 192-0-2-44.host.dev.svc.cluster.local.; \
         44.2.0.192.in-addr.arpa. PTR host.dev.lb.cluster.local.",
    ),
    // pods, by their address alone but in namespaces that exist
    ("10-244-0-77.default.pod", A, "10-244-0-77.default.pod A 10.244.0.77"),
    ("10-244-0-77.jobs.pod", A, "10-244-0-77.jobs.pod A 10.244.0.77"),
    ("10-244-0-77.jobs.pod", AAAA, ""),
    ("fd00--77.jobs.pod", AAAA, "fd00--77.jobs.pod AAAA fd00::77"),
    ("10-244-0-77.nobody.pod", A, "NxDomain"),
    ("10-244-0.jobs.pod", A, "NxDomain"),
    ("x.10-244-0-77.jobs.pod", A, "NxDomain"),
    // what is in between, and around
    ("cluster.local.", A, ""),
    ("cluster.local.", SOA, "cluster.local. SOA ns.dns.cluster.local. hostmaster.cluster.local. 7 7200 1800 86400 5"),
    ("cluster.local.", NS, "cluster.local. NS ns.dns.cluster.local.; ns.dns A 10.96.0.10"),
    ("ns.dns", A, "ns.dns A 10.96.0.10"),
    ("ns.dns", AAAA, ""),
    ("svc", A, ""),
    ("default.svc", A, ""),
    ("jobs.svc", A, ""),
    ("jobs.pod", A, ""),
    ("nobody.svc", A, "NxDomain"),
    ("web", A, "NxDomain"),
    ("a.b.c.d.web.default.svc", A, "NxDomain"),
    ("a1.pin._zone.peers.dev.svc", A, "NxDomain"),
    ("web.default.svc.cluster.local.cluster.local.", A, "NxDomain"),
    ("example.org.", A, "Next"),
    ("xcluster.local.", A, "Next"),
    ("cluster.local", A, "NxDomain"),
];

#[test]
fn the_specification() {
    check(&zone(|_| {}), SPECIFICATION);
}

#[test]
fn zonal_names() {
    let zone = zone(|options| options.zonal = true);
    let all = "A 10.244.0.20; x.prefer._zone.peers.dev.svc A 10.244.0.21";
    check(
        &zone,
        &[
            ("a1.pin._zone.peers.dev.svc", A, "a1.pin._zone.peers.dev.svc A 10.244.0.20"),
            ("b.c.pin._zone.peers.dev.svc", A, "b.c.pin._zone.peers.dev.svc A 10.244.0.21"),
            ("b.c.prefer._zone.peers.dev.svc", AAAA, "b.c.prefer._zone.peers.dev.svc AAAA fd00:244:1::"),
            ("x.pin._zone.peers.dev.svc", A, ""),
            ("x.pin._zone.peers.dev.svc", TXT, ""),
            ("x.prefer._zone.peers.dev.svc", A, &format!("x.prefer._zone.peers.dev.svc {all}")),
            ("x.pin._zone.none.default.svc", A, ""),
            ("x.pin._zone.web.default.svc", A, "NxDomain"),
            ("x.pin._zone.ext.default.svc", A, "NxDomain"),
            ("x.pin._zone.nope.default.svc", A, "NxDomain"),
            ("x.most._zone.peers.dev.svc", A, "NxDomain"),
            ("pin._zone.peers.dev.svc", A, "NxDomain"),
        ],
    );
    let srv = show(&zone, "a1.pin._zone.peers.dev.svc.cluster.local.", SRV);
    assert_eq!(srv.matches(" SRV 0 25 ").count(), 2, "{srv}");
    assert_eq!(srv.matches("; p-0.peers.dev.svc A").count(), 2, "{srv}");
}

#[test]
fn options_change_what_there_is() {
    check(
        &zone(|options| options.pods = Pods::Disabled),
        &[("10-244-0-21.dev.pod", A, "NxDomain"), ("dev.pod", A, "NxDomain"), ("pod", A, "")],
    );
    check(
        &zone(|options| options.pods = Pods::Verified),
        &[
            ("10-244-0-21.dev.pod", A, "10-244-0-21.dev.pod A 10.244.0.21"),
            ("fd00-244--21.dev.pod", AAAA, "fd00-244--21.dev.pod AAAA fd00:244::21"),
            ("10-244-0-21.default.pod", A, "NxDomain"),
            ("10-244-0-22.dev.pod", A, "NxDomain"),
        ],
    );
    check(
        &zone(|options| options.pod_names = true),
        &[
            ("p-0.peers.dev.svc", A, "p-0.peers.dev.svc A 10.244.0.20"),
            ("peer-b.peers.dev.svc", A, "peer-b.peers.dev.svc A 10.244.0.21"),
            ("10-244-0-21.peers.dev.svc", A, "NxDomain"),
            ("fd00-244-1--0.peers.dev.svc", AAAA, "fd00-244-1--0.peers.dev.svc AAAA fd00:244:1::"),
        ],
    );
    check(
        &zone(|options| options.endpoints = false),
        &[
            ("db.default.svc", A, "NxDomain"),
            ("10-244-0-5.web.default.svc", A, "NxDomain"),
            ("web.default.svc", A, "web.default.svc A 10.96.0.20"),
            ("7.0.244.10.in-addr.arpa.", PTR, "NxDomain"),
        ],
    );
    check(
        &zone(|options| options.ignore_empty = true),
        &[
            ("web.default.svc", A, "web.default.svc A 10.96.0.20"),
            ("dual.dev.svc", A, "NxDomain"),
            ("_s._tcp.dual.dev.svc", SRV, "NxDomain"),
            ("db.default.svc", AAAA, ""),
            ("ext.default.svc", CNAME, "ext.default.svc CNAME www.example.org."),
            ("host.dev.lb", A, "host.dev.lb A 192.0.2.44"),
            ("till.dev.lb", A, "NxDomain"),
            ("cloud.dev.lb", A, "NxDomain"),
            ("10.2.0.192.in-addr.arpa.", PTR, "10.2.0.192.in-addr.arpa. PTR shop.dev.lb.cluster.local."),
        ],
    );
    check(
        &zone(|options| options.namespaces = vec!["default".into()]),
        &[("till.dev.lb", A, "NxDomain"), ("dev.lb", A, "NxDomain"), ("10.2.0.192.in-addr.arpa.", PTR, "NxDomain")],
    );
    let only_dev = [
        ("web.dev.svc", A, "web.dev.svc A 10.96.0.21"),
        ("till.dev.lb", A, "till.dev.lb A 10.96.0.40; till.dev.lb A 192.0.2.10"),
        ("dev.svc", A, ""),
        ("web.default.svc", A, "NxDomain"),
        ("default.svc", A, "NxDomain"),
        ("20.0.96.10.in-addr.arpa.", PTR, "NxDomain"),
        ("7.0.244.10.in-addr.arpa.", PTR, "NxDomain"),
    ];
    check(&zone(|options| options.namespaces = vec!["dev".into(), "nobody".into()]), &only_dev);
    check(&zone(|options| options.namespace_labels = Selector::parse("stage in (dev)")), &only_dev);
    let reverse = || Name::from_ascii("in-addr.arpa.").unwrap();
    check(
        &zone(|options| options.fallthrough = vec![reverse()]),
        &[("9.0.244.10.in-addr.arpa.", PTR, "Next"), ("nope.default.svc", A, "NxDomain")],
    );
    check(&zone(|options| options.fallthrough = vec![Name::root()]), &[("nope.default.svc", A, "Next")]);
    check(&zone(|options| options.zones.truncate(1)), &[("20.0.96.10.in-addr.arpa.", PTR, "Next")]);
}

#[test]
fn servers_are_the_services_that_we_are_endpoints_of() {
    let own = |address: &str| {
        let zone = zone(|options| options.addresses = vec![address.parse().unwrap()]);
        (show(&zone, "cluster.local.", NS), show(&zone, "ns.dns.cluster.local.", AAAA))
    };
    let cluster_ip = "cluster.local. NS web.default.svc.cluster.local.; web.default.svc A 10.96.0.20";
    assert_eq!(own("10.244.0.5"), (cluster_ip.into(), String::new()));
    let (ns, aaaa) = own("10.244.0.21");
    assert_eq!((ns.matches(" NS ").count(), aaaa.matches(" AAAA ").count()), (3, 2), "{ns} {aaaa}");
    // Where only a load balancer is, no server is.
    assert_eq!(own("192.0.2.10").1, "");
    let alone = "cluster.local. NS ns.dns.cluster.local.; ns.dns AAAA fd00::53";
    assert_eq!(own("fd00::53"), (alone.into(), "ns.dns AAAA fd00::53".into()));
}

#[test]
fn ttls_are_those_of_the_option() {
    let zone = zone(|options| options.ttl = 3600);
    let soa = zone.soa(&Name::from_ascii("cluster.local.").unwrap());
    assert_eq!((soa.ttl, soa.data.to_string().ends_with(" 3600")), (300, true));
    match answer(&zone, &Name::from_ascii("web.default.svc.cluster.local.").unwrap(), A, 0) {
        Answer::Records { answers, .. } => assert_eq!(answers[0].ttl, 3600),
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_is_concluded_before_all_is_listed() {
    let mut options = fixture::options();
    options.fallthrough = vec![Name::from_ascii("ip6.arpa.").unwrap()];
    let zone = Zone::new(options).unwrap();
    for (name, want) in [
        ("web.default.svc.cluster.local.", "ServFail"),
        ("20.0.96.10.in-addr.arpa.", "ServFail"),
        ("1.ip6.arpa.", "Next"),
        ("example.org.", "Next"),
    ] {
        assert_eq!(show(&zone, name, PTR), want, "{name}");
    }
}

#[test]
fn addresses_take_turns() {
    let zone = zone(|_| {});
    let name = Name::from_ascii("db.default.svc.cluster.local.").unwrap();
    let first = |kind, turn| match answer(&zone, &name, kind, turn) {
        Answer::Records { answers, .. } => answers[0].data.to_string(),
        other => format!("{other:?}"),
    };
    assert_eq!([first(A, 0), first(A, 1), first(A, 2)], ["10.244.0.7", "10.244.0.8", "10.244.0.7"]);
    assert_ne!(first(SRV, 0), first(SRV, 1));
}
