use std::sync::Arc;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use serde_json::json;
use state::Snapshot;

use super::*;
use crate::fixture::{self, Seeded};
use crate::question::UDP_SIZE;
use crate::request::{Body, Context, Read, Reply, TCP_SIZE, Transport, read};
use crate::servers::Servers;
use crate::zone::Options;

/// How many questions the fast and the slow way are compared by.
const CORPUS: usize = 100_000;

fn respond(zone: &Zone, packet: &[u8], out: &mut [u8], turn: usize) -> Option<usize> {
    reply(zone, &Question::parse(packet)?, out, turn)
}

/// The answer of the slow way, however the question came.
async fn slowly(servers: &Arc<Servers>, packet: &[u8], context: Context) -> Option<Vec<u8>> {
    let request = match read(packet, context) {
        Read::Request(request) => *request,
        Read::Reply(reply) => return Some(reply),
        Read::Silence => return None,
    };
    match servers.clone().handle(request.clone()).await {
        Ok(Reply { body: Body::Message(message), .. }) => Some(request.encode(*message)),
        Ok(_) => None,
        Err(failure) => Some(request.fail(failure.code)),
    }
}

/// A cluster of every kind of Service, the names in it, and names near those.
fn cluster(random: &mut Seeded) -> (Arc<Snapshot>, Vec<Name>) {
    let mut objects = vec![fixture::namespace("default", &[]), fixture::namespace("a-b", &[])];
    let mut fronts: Vec<String> = [
        "svc",
        "pod",
        "lb",
        "default.lb",
        "unlisted.lb",
        "dns",
        "ns.dns",
        "dns-version",
        "nope",
        "nope.svc",
        "google.com.default.svc",
        "*.default.svc",
    ]
    .map(String::from)
    .to_vec();
    fronts.extend(
        ["default.svc", "a-b.svc", "10-244-0-5.default.pod", "web.default.svc.cluster.local"].map(String::from),
    );
    for number in 0..40 {
        let (namespace, name) = (*random.pick(&["default", "a-b", "unlisted"]), format!("s-{number}"));
        let four = format!("10.96.{}.{number}", random.below(256));
        let six = format!("fd00:96::{number:x}:{:x}", random.below(9));
        let ips = random.pick(&[vec![&four], vec![&six], vec![&four, &six], vec![&six, &four], vec![]]).clone();
        let spec = match random.below(5) {
            0 => json!({"clusterIPs": ips}),
            1 => json!({"clusterIPs": ips, "ports": [{"name": "http", "port": 80}, {"port": 81}]}),
            2 => json!({"type": "ExternalName", "externalName": random.pick(&["192.0.2.1", "x", "a.example"])}),
            _ => json!({"clusterIP": "None", "publishNotReadyAddresses": random.below(4) == 0}),
        };
        let balancers = [json!({"ip": four}), json!({"ip": six}), json!({"ip": "192.0.2.1", "ipMode": "Proxy"})];
        let ingress = match random.below(4) {
            0 => (0..random.below(4)).map(|_| random.pick(&balancers).clone()).collect(),
            1 => json!([{"hostname": random.pick(&["192.0.2.1", "x", "a.example"])}]),
            _ => json!([]),
        };
        objects.push(fixture::balanced(namespace, &name, spec, ingress));
        let base = format!("{name}.{namespace}.svc");
        let balancer = format!("{name}.{namespace}.lb");
        fronts.extend(["", "", "_http._tcp.", "x.", "a.b.c."].map(|front| format!("{front}{balancer}")));
        for family in ["IPv4", "IPv6"] {
            let count = *random.pick(&[0, 1, 1, 2, 3, 5, 60]);
            let endpoint = |index: usize| {
                let address = match family {
                    "IPv4" => format!("10.244.{number}.{index}"),
                    _ => format!("fd00:244:{number:x}::{index:x}"),
                };
                fronts.push(format!("{}.{base}", address.replace(['.', ':'], "-")));
                let host = format!("h-{}", random.below(8));
                fronts.push(format!("{host}.{base}"));
                let pod = format!("{name}-{index}");
                fronts.push(format!("{pod}.{base}"));
                let mut endpoint = json!({"addresses": [address], "conditions": {"ready": random.below(4) > 0}});
                if random.below(3) == 0 {
                    endpoint["hostname"] = host.into();
                }
                if random.below(2) == 0 {
                    endpoint["targetRef"] = json!({"kind": "Pod", "namespace": namespace, "name": pod});
                }
                endpoint
            };
            let endpoints: Vec<_> = (0..count).map(endpoint).collect();
            objects.push(fixture::raw_slice(namespace, &name, family, json!([]), endpoints.into()));
        }
        fronts.extend(["_http._tcp.", "_x._tcp.", "x.", "a.b.c."].map(|front| format!("{front}{base}")));
        // The Services' own are asked for most.
        fronts.extend((0..20).map(|_| base.clone()));
    }
    let name = |front: &String| Name::from_ascii(format!("{front}.cluster.local.")).unwrap();
    let mut names: Vec<Name> = fronts.iter().map(name).collect();
    let others = ["cluster.local.", "example.org.", ".", "local.", "in-addr.arpa.", "1.0.96.10.in-addr.arpa."];
    names.extend(others.map(|name| Name::from_ascii(name).unwrap()));
    // The bytes of the domain within a label are not the domain.
    names.push(Name::from_labels([&b"a\x07cluster\x05local"[..], b"x"]).unwrap());
    (fixture::listed(objects).snapshot(), names)
}

fn question(name: Name, random: &mut Seeded) -> Vec<u8> {
    use RecordType::{A, AAAA, ANY, CNAME, HTTPS, MX, NS, PTR, SOA, SRV, TXT};
    let kinds = [A, A, A, A, AAAA, AAAA, AAAA, SRV, MX, TXT, HTTPS, NS, SOA, PTR, CNAME, ANY];
    let mut message = Message::new(random.next() as u16, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = random.below(2) == 0;
    message.metadata.checking_disabled = random.below(8) == 0;
    message.metadata.authentic_data = random.below(4) == 0;
    let mut query = Query::query(name, *random.pick(&kinds));
    if random.below(20) == 0 {
        query.set_query_class(DNSClass::CH);
    }
    message.add_query(query);
    if random.below(2) == 0 {
        let mut edns = Edns::new();
        edns.set_max_payload(*random.pick(&[0, 512, 700, 1232, 4096])).set_dnssec_ok(random.below(2) == 0);
        edns.set_version(u8::from(random.below(20) == 0));
        message.set_edns(edns);
    }
    let mut packet = message.to_vec().unwrap();
    // Any case of any letter (the name ends where the labels do).
    let mut at = 12;
    while packet[at] != 0 {
        let label = at + 1..at + 1 + usize::from(packet[at]);
        at = label.end;
        for byte in &mut packet[label] {
            if random.below(3) == 0 {
                byte.make_ascii_uppercase();
            }
        }
    }
    packet
}

/// The same whatever the order of its records.
fn canonical(bytes: &[u8]) -> Message {
    let mut message = Message::from_vec(bytes).unwrap();
    message.answers.sort_by_cached_key(Record::to_string);
    for record in &mut message.authorities {
        // Its serial is a time.
        if let RData::SOA(soa) = &mut record.data {
            soa.serial = 0;
        }
    }
    message
}

/// Directives of one meaning, and the options that they set.
type Variant = (&'static str, fn(&mut Options));

const VARIANTS: &[Variant] = &[
    ("{\npods insecure\n}", |_| {}),
    ("{\npods insecure\nendpoint_pod_names\nttl 0\n}", |options| (options.pod_names, options.ttl) = (true, 0)),
    ("{\npods insecure\nignore empty_service\nnamespaces default\n}", |options| {
        (options.ignore_empty, options.namespaces) = (true, vec!["default".into()]);
    }),
    ("{\npods insecure\nnoendpoints\nttl 3600\n}", |options| (options.endpoints, options.ttl) = (false, 3600)),
    ("{\npods insecure\nzonal\n}", |options| options.zonal = true),
];

#[tokio::test]
async fn fast_answers_are_the_slow_ones() {
    let mut random = Seeded(1);
    let (mut answered, mut truncated, mut out) = (0, 0, vec![0; TCP_SIZE]);
    for round in 0..10 {
        let (directive, set) = VARIANTS[round % VARIANTS.len()];
        let (snapshot, names) = cluster(&mut random);
        let mut options = fixture::options();
        set(&mut options);
        let zone = Zone::new(options).unwrap().next(snapshot.clone(), 7);
        let directive = format!("kubernetes cluster.local in-addr.arpa ip6.arpa {directive}");
        let slow = Arc::new(fixture::servers(&directive, snapshot));
        let context = fixture::request(".", RecordType::A, &slow).context;
        for turn in 0..CORPUS / 10 {
            let packet = question(random.pick(&names).clone(), &mut random);
            let (transport, size) = *random.pick(&[(Transport::Udp, UDP_SIZE), (Transport::Tcp, TCP_SIZE)]);
            let Some(length) = respond(&zone, &packet, &mut out[..size], turn) else {
                continue;
            };
            answered += 1;
            let mut fast = canonical(&out[..length]);
            let slow = slowly(&slow, &packet, Context { transport, ..context.clone() }).await.unwrap();
            let mut slow = canonical(&slow);
            if fast.metadata.truncation {
                // Which of them are left depends on the turn, and how many on how well names are
                // compressed: hickory stops after some.
                truncated += 1;
                assert!(fast.answers.len() >= slow.answers.len());
                let limit = canonical(&packet).edns.map_or(512, |e| usize::from(e.max_payload()).clamp(512, UDP_SIZE));
                assert!(length <= limit && length + 28 > limit, "{length} of {limit}");
                fast.answers.clear();
                slow.answers.clear();
            }
            // As bytes, since names are equal in any case.
            let asked = || Message::from_vec(&packet).unwrap();
            assert_eq!(fast.to_vec().unwrap(), slow.to_vec().unwrap(), "{}\n{fast}\n{slow}", asked());
        }
    }
    assert!(answered > CORPUS / 2 && truncated > 100, "{answered} {truncated}");
}

#[test]
fn the_common_questions_are_fast() {
    let zone = fixture::zone(fixture::outer().snapshot());
    let table = [
        ("shop.dev.lb.cluster.local.", RecordType::A, Some(ResponseCode::NoError)),
        ("pending.dev.lb.cluster.local.", RecordType::A, Some(ResponseCode::NXDomain)),
        ("x.shop.dev.lb.cluster.local.", RecordType::A, Some(ResponseCode::NXDomain)),
        ("cloud.dev.lb.cluster.local.", RecordType::A, None),
        ("web.default.svc.cluster.local.", RecordType::A, Some(ResponseCode::NoError)),
        ("web.default.svc.cluster.local.", RecordType::AAAA, Some(ResponseCode::NoError)),
        ("db.default.svc.cluster.local.", RecordType::A, Some(ResponseCode::NoError)),
        ("example.org.default.svc.cluster.local.", RecordType::A, Some(ResponseCode::NXDomain)),
        ("example.org.cluster.local.", RecordType::AAAA, Some(ResponseCode::NXDomain)),
        ("web.default.svc.cluster.local.cluster.local.", RecordType::A, Some(ResponseCode::NXDomain)),
        ("example.org.", RecordType::A, None),
        ("db-0.db.default.svc.cluster.local.", RecordType::A, Some(ResponseCode::NoError)),
        ("10-244-0-8.db.default.svc.cluster.local.", RecordType::AAAA, Some(ResponseCode::NoError)),
        ("web.default.svc.cluster.local.", RecordType::HTTPS, Some(ResponseCode::NoError)),
        ("ext.default.svc.cluster.local.", RecordType::A, None),
        ("10-244-0-5.default.pod.cluster.local.", RecordType::A, None),
    ];
    for (name, kind, want) in table {
        let mut message = Message::new(1, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        let mut out = [0; UDP_SIZE];
        let length = respond(&zone, &message.to_vec().unwrap(), &mut out, 0);
        let code = length.map(|length| Message::from_vec(&out[..length]).unwrap().metadata.response_code);
        assert_eq!(code, want, "{name} {kind}");
    }
}

#[tokio::test]
async fn broken_packets_neither_panic_nor_grow() {
    let mut random = Seeded(99);
    let (snapshot, names) = cluster(&mut random);
    let zone = fixture::zone(snapshot.clone());
    let slow = Arc::new(fixture::servers("kubernetes cluster.local in-addr.arpa {\npods insecure\n}", snapshot));
    let context = fixture::request(".", RecordType::A, &slow).context;
    for turn in 0..60_000 {
        let mut packet = match random.below(4) {
            0 => (0..random.below(80)).map(|_| random.next() as u8).collect(),
            _ => question(random.pick(&names).clone(), &mut random),
        };
        for _ in 0..random.below(4) {
            match (packet.len(), random.below(3)) {
                (0, _) => {}
                (length, 0) => packet.truncate(random.below(length)),
                (length, 1) => packet[random.below(length)] = random.next() as u8,
                _ => packet.push(random.next() as u8),
            }
        }
        let mut out = [0; UDP_SIZE];
        let fast = respond(&zone, &packet, &mut out, turn);
        let slow = slowly(&slow, &packet, context.clone()).await;
        if Message::from_vec(&packet).is_err() {
            assert_eq!(fast, None, "{packet:?}");
            assert!(slow.is_none_or(|bytes| bytes.len() == 12), "{packet:?}");
        } else if let Some(length) = fast {
            let (fast, slow) = (canonical(&out[..length]), canonical(&slow.unwrap()));
            assert_eq!(
                (fast.metadata, fast.queries, fast.edns),
                (slow.metadata, slow.queries, slow.edns),
                "{packet:?}"
            );
        }
    }
}
