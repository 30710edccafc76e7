use RecordType::{A, AAAA, ANY, AXFR, CNAME, MX, NS, PTR, SOA, SRV, TXT};

use super::*;
use crate::fixture;

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

/// Question, type, records; grouped as the sections of the specification.
const SPECIFICATION: &[(&str, RecordType, &str)] = &[
    // 2.1 version
    ("dns-version.cluster.local.", TXT, "dns-version TXT 1.1.0"),
    ("dns-version.cluster.local.", A, ""),
    // 2.3 a Service with a cluster IP
    ("web.default.svc.cluster.local.", A, "web.default.svc A 10.96.0.20"),
    ("WEB.default.SVC.Cluster.Local.", A, "web.default.svc A 10.96.0.20"),
    ("web.dev.svc.cluster.local.", A, "web.dev.svc A 10.96.0.21"),
    ("web.default.svc.cluster.local.", AAAA, ""),
    ("web.default.svc.cluster.local.", MX, ""),
    ("web.default.svc.cluster.local.", ANY, ""),
    ("web.default.svc.cluster.local.", AXFR, "Refused"),
    (
        "_http._tcp.web.default.svc.cluster.local.",
        SRV,
        "_http._tcp.web.default.svc SRV 0 100 80 web.default.svc.cluster.local.; web.default.svc A 10.96.0.20",
    ),
    ("_http._udp.web.default.svc.cluster.local.", SRV, "NxDomain"),
    ("_nope._tcp.web.default.svc.cluster.local.", SRV, "NxDomain"),
    ("_http._tcp.web.dev.svc.cluster.local.", SRV, "NxDomain"),
    ("_http._tcp.web.default.svc.cluster.local.", A, "_http._tcp.web.default.svc A 10.96.0.20"),
    (
        "web.dev.svc.cluster.local.",
        SRV,
        "web.dev.svc SRV 0 100 80 web.dev.svc.cluster.local.; web.dev.svc A 10.96.0.21",
    ),
    ("10-244-0-5.web.default.svc.cluster.local.", A, "10-244-0-5.web.default.svc A 10.244.0.5"),
    ("10-244-0-6.web.default.svc.cluster.local.", A, "NxDomain"),
    ("20.0.96.10.in-addr.arpa.", PTR, "20.0.96.10.in-addr.arpa. PTR web.default.svc.cluster.local."),
    ("20.0.96.10.in-addr.arpa.", A, "Forward"),
    // 2.4 a headless Service
    ("db.default.svc.cluster.local.", A, "db.default.svc A 10.244.0.7; db.default.svc A 10.244.0.8"),
    ("db-0.db.default.svc.cluster.local.", A, "db-0.db.default.svc A 10.244.0.7"),
    ("10-244-0-8.db.default.svc.cluster.local.", A, "10-244-0-8.db.default.svc A 10.244.0.8"),
    ("10-244-0-7.db.default.svc.cluster.local.", A, "NxDomain"),
    ("db-2.db.default.svc.cluster.local.", A, "NxDomain"),
    (
        "_pg._tcp.db.default.svc.cluster.local.",
        SRV,
        "_pg._tcp.db.default.svc SRV 0 50 5432 db-0.db.default.svc.cluster.local.; \
         _pg._tcp.db.default.svc SRV 0 50 5432 10-244-0-8.db.default.svc.cluster.local.; \
         db-0.db.default.svc A 10.244.0.7; 10-244-0-8.db.default.svc A 10.244.0.8",
    ),
    ("7.0.244.10.in-addr.arpa.", PTR, "7.0.244.10.in-addr.arpa. PTR db-0.db.default.svc.cluster.local."),
    ("9.0.244.10.in-addr.arpa.", PTR, "Forward"),
    ("early.default.svc.cluster.local.", A, "early.default.svc A 10.244.0.10"),
    ("early.default.svc.cluster.local.", SRV, ""),
    ("none.default.svc.cluster.local.", A, "NxDomain"),
    // 2.5 external names
    ("ext.default.svc.cluster.local.", CNAME, "ext.default.svc CNAME www.example.org."),
    ("ext.default.svc.cluster.local.", A, "ext.default.svc CNAME www.example.org.; then www.example.org."),
    ("x.ext.default.svc.cluster.local.", A, "NxDomain"),
    (
        "alias.default.svc.cluster.local.",
        A,
        "alias.default.svc CNAME web.default.svc.cluster.local.; web.default.svc A 10.96.0.20",
    ),
    ("number.default.svc.cluster.local.", A, "NxDomain"),
    // pods, by their address alone but in namespaces that have something
    ("10-244-0-77.default.pod.cluster.local.", A, "10-244-0-77.default.pod A 10.244.0.77"),
    ("10-244-0-77.jobs.pod.cluster.local.", A, "10-244-0-77.jobs.pod A 10.244.0.77"),
    ("10-244-0-77.jobs.pod.cluster.local.", AAAA, ""),
    ("10-244-0-77.nobody.pod.cluster.local.", A, "NxDomain"),
    ("10-244-0.jobs.pod.cluster.local.", A, "NxDomain"),
    // what is in between, and around
    ("cluster.local.", A, ""),
    ("cluster.local.", SOA, "cluster.local. SOA ns.dns.cluster.local. hostmaster.cluster.local. 7 7200 1800 86400 5"),
    ("cluster.local.", NS, "cluster.local. NS ns.dns.cluster.local.; ns.dns A 10.96.0.10"),
    ("ns.dns.cluster.local.", A, "ns.dns A 10.96.0.10"),
    ("svc.cluster.local.", A, ""),
    ("default.svc.cluster.local.", A, ""),
    ("jobs.svc.cluster.local.", A, ""),
    ("nobody.svc.cluster.local.", A, "NxDomain"),
    ("web.cluster.local.", A, "NxDomain"),
    ("a.b.c.d.web.default.svc.cluster.local.", A, "NxDomain"),
    ("web.default.svc.cluster.local.cluster.local.", A, "NxDomain"),
    ("example.org.", A, "Forward"),
    ("xcluster.local.", A, "Forward"),
    ("1.2.0.192.in-addr.arpa.", PTR, "Forward"),
];

#[test]
fn the_specification() {
    let zone = fixture::zone(fixture::cluster().snapshot());
    for (name, kind, want) in SPECIFICATION {
        assert_eq!(show(&zone, name, *kind), *want, "{name} {kind}");
    }
}

#[test]
fn nothing_is_concluded_before_all_is_listed() {
    let zone = fixture::zone(Default::default());
    for (name, want) in [("web.default.svc.cluster.local.", "ServFail"), ("example.org.", "Forward")] {
        assert_eq!(show(&zone, name, RecordType::A), want);
    }
    assert_eq!(show(&zone, "20.0.96.10.in-addr.arpa.", RecordType::PTR), "ServFail");
}

#[test]
fn addresses_take_turns_and_circles_end() {
    let zone = fixture::zone(fixture::cluster().snapshot());
    let name = Name::from_ascii("db.default.svc.cluster.local.").unwrap();
    let first = |turn| match answer(&zone, &name, RecordType::A, turn) {
        Answer::Records { answers, .. } => answers[0].data.to_string(),
        other => format!("{other:?}"),
    };
    assert_eq!([first(0), first(1), first(2)], ["10.244.0.7", "10.244.0.8", "10.244.0.7"]);
    let circle = show(&zone, "circle.default.svc.cluster.local.", RecordType::A);
    assert_eq!(circle.matches("CNAME").count(), ALIASES + 1);
}
