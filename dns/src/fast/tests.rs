use std::sync::Arc;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use serde_json::json;

use super::*;
use crate::fixture::{self, Seeded};
use crate::question::UDP_SIZE;

fn snapshot() -> Arc<state::Snapshot> {
    let mut index = fixture::cluster();
    let addresses: Vec<String> = (0..=255).map(|i| format!("10.245.0.{i}")).collect();
    let endpoints: Vec<_> = addresses.iter().map(|a| (a.as_str(), "", true)).collect();
    index.apply(fixture::service("default", "wide", json!({"clusterIP": "None"})));
    index.apply(fixture::slice("default", "wide", json!([]), &endpoints));
    index.snapshot()
}

fn respond(zone: &Zone, packet: &[u8], out: &mut [u8], turn: usize) -> Option<usize> {
    reply(zone, &Question::parse(packet)?, out, turn)
}

fn cluster() -> Zone {
    fixture::zone(snapshot())
}

/// Every name that is there, and some that are not.
fn names(zone: &Zone) -> Vec<Name> {
    let mut all: Vec<Name> = zone.names.keys().map(|wire| unwire(wire)).collect();
    all.sort();
    let absent =
        ["nope", "x.svc", "google.com.default.svc", "web.default.svc.cluster.local", "_x._tcp.web.default.svc"];
    all.extend(absent.map(|front| Name::from_ascii(format!("{front}.cluster.local.")).unwrap()));
    let others =
        ["10-244-0-5.default.pod.cluster.local.", "example.org.", ".", "local.", "in-addr.arpa.", "xcluster.local."];
    all.extend(others.map(|name| Name::from_ascii(name).unwrap()));
    // The bytes of the domain within a label are not the domain.
    all.push(Name::from_labels([&b"a\x07cluster\x05local"[..], b"x"]).unwrap());
    all
}

fn unwire(mut wire: &[u8]) -> Name {
    let mut labels = Vec::new();
    while let [length @ 1..64, rest @ ..] = wire {
        let (label, rest) = rest.split_at(usize::from(*length));
        labels.push(label);
        wire = rest;
    }
    let mut name = Name::from_labels(labels).unwrap();
    name.set_fqdn(true);
    name
}

fn question(name: Name, random: &mut Seeded) -> Vec<u8> {
    let kinds = [RecordType::A, RecordType::AAAA, RecordType::A, RecordType::SRV, RecordType::MX, RecordType::ANY];
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
    message.answers.sort_by_key(Record::to_string);
    for record in &mut message.authorities {
        // Its serial is a time.
        if let RData::SOA(soa) = &mut record.data {
            soa.serial = 0;
        }
    }
    message
}

#[tokio::test]
async fn fast_answers_are_the_slow_ones() {
    let (zone, mut random) = (cluster(), Seeded(1));
    let slow = Arc::new(fixture::servers("kubernetes cluster.local", snapshot()));
    let context = fixture::request(".", A.into(), &slow).context;
    let (mut answered, mut truncated, names) = (0, 0, names(&zone));
    for turn in 0..20_000 {
        let packet = question(random.pick(&names).clone(), &mut random);
        let mut out = [0; UDP_SIZE];
        let Some(length) = respond(&zone, &packet, &mut out, turn) else {
            continue;
        };
        answered += 1;
        let mut fast = canonical(&out[..length]);
        let mut slow = canonical(&slow.clone().resolve(&packet, context.clone()).await.unwrap());
        assert!(out[12..].starts_with(&packet[12..16]), "the question's case is echoed");
        if fast.metadata.truncation {
            // Which of them are left depends on the turn, and how many on how well names are
            // compressed: hickory stops after some.
            truncated += 1;
            assert!(fast.answers.len() >= slow.answers.len());
            let size = canonical(&packet).edns.map_or(512, |e| usize::from(e.max_payload()).clamp(512, UDP_SIZE));
            assert!(length <= size && length + RECORD > size, "{length} of {size}");
            fast.answers.clear();
            slow.answers.clear();
        }
        assert_eq!(fast, slow, "{:?}", Message::from_vec(&packet).unwrap());
    }
    assert!(answered > 5_000 && truncated > 20, "{answered} {truncated}");
}

#[test]
fn the_common_questions_are_fast() {
    let zone = cluster();
    let table = [
        ("web.default.svc.cluster.local.", RecordType::A, Some(ResponseCode::NoError)),
        ("web.default.svc.cluster.local.", RecordType::AAAA, Some(ResponseCode::NoError)),
        ("db.default.svc.cluster.local.", RecordType::A, Some(ResponseCode::NoError)),
        ("example.org.default.svc.cluster.local.", RecordType::A, Some(ResponseCode::NXDomain)),
        ("example.org.cluster.local.", RecordType::AAAA, Some(ResponseCode::NXDomain)),
        ("web.default.svc.cluster.local.cluster.local.", RecordType::A, Some(ResponseCode::NXDomain)),
        ("example.org.", RecordType::A, None),
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
    let (zone, mut random) = (cluster(), Seeded(99));
    let slow = Arc::new(fixture::servers("kubernetes cluster.local", snapshot()));
    let context = fixture::request(".", A.into(), &slow).context;
    let names = names(&zone);
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
        let slow = slow.clone().resolve(&packet, context.clone()).await;
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
