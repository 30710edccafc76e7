use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_proto::op::{Edns, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, MX, NS, NULL, SOA, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::*;
use crate::fixture::{self, Seeded};
use crate::question::UDP_SIZE;
use crate::request::{self, Context, Read, TCP_SIZE};

fn class(most: u32) -> Class {
    Class { capacity: 9984, bounds: Bounds { least: 5, most }, except: vec![] }
}

/// The cache of a plain `cache`.
fn cache() -> Cache {
    let (success, denial) = (class(3600), class(1800));
    let zones = vec![[0].into()];
    Cache::new(Settings { zones, success, denial, failure: 5, prefetch: None, stale: None, keep: false })
}

const NAMES: [&str; 6] = ["www.example.org.", "example.org.", "a.b.example.org.", "ns.example.net.", "org.", "."];

fn name(random: &mut Seeded) -> Name {
    Name::from_ascii(random.pick(&NAMES)).unwrap()
}

fn record(owner: Name, kind: RecordType, random: &mut Seeded) -> Record {
    let data = match kind {
        RecordType::A => RData::A(Ipv4Addr::from_bits(random.next() as u32).into()),
        RecordType::AAAA => RData::AAAA(Ipv6Addr::from_bits(random.next().into()).into()),
        RecordType::CNAME => RData::CNAME(CNAME(name(random))),
        RecordType::MX => RData::MX(MX::new(random.next() as u16, name(random))),
        RecordType::TXT => RData::TXT(TXT::new(vec!["x".repeat(random.below(200)); 1 + random.below(4)])),
        RecordType::SOA => RData::SOA(SOA::new(name(random), name(random), 1, 2, 3, 4, random.below(9000) as u32)),
        RecordType::NS => RData::NS(NS(name(random))),
        code => RData::Unknown { code, rdata: NULL::with(vec![7; 1 + random.below(40)]) },
    };
    Record::from_rdata(owner, random.below(5000) as u32, data)
}

const KINDS: [RecordType; 6] = [
    RecordType::A,
    RecordType::AAAA,
    RecordType::MX,
    RecordType::TXT,
    RecordType::Unknown(100),
    RecordType::Unknown(99),
];

/// An answer that may be kept, of any shape and size.
fn answer(query: &Query, random: &mut Seeded) -> Message {
    let mut message = Message::new(random.next() as u16, MessageType::Response, OpCode::Query);
    message.metadata.authoritative = random.below(2) == 0;
    message.metadata.authentic_data = random.below(2) == 0;
    message.metadata.recursion_available = random.below(4) > 0;
    message.metadata.recursion_desired = random.below(2) == 0;
    message.metadata.checking_disabled = random.below(2) == 0;
    message.add_query(query.clone());
    let mut owner = query.name().clone();
    if random.below(3) == 0 {
        let target = Name::from_ascii("alias.example.net.").unwrap();
        message.add_answer(Record::from_rdata(owner, 300, RData::CNAME(CNAME(target.clone()))));
        owner = target;
    }
    if random.below(3) == 0 {
        message.metadata.response_code =
            *random.pick(&[ResponseCode::NoError, ResponseCode::NXDomain, ResponseCode::ServFail]);
        message.answers.clear();
        message.add_authority(record(name(random), RecordType::SOA, random));
    } else {
        for _ in 0..=random.below(12) {
            message.add_answer(record(owner.clone(), query.query_type(), random));
        }
        for _ in 0..random.below(3) {
            message.add_authority(record(name(random), RecordType::NS, random));
        }
    }
    for _ in 0..random.below(4) {
        let kind = *random.pick(&KINDS);
        message.add_additional(record(name(random), kind, random));
    }
    if random.below(2) == 0 {
        message.set_edns(Edns::new());
    }
    message
}

/// A client's question, of that key.
fn question(query: &Query, dnssec: bool, disabled: bool, random: &mut Seeded) -> Vec<u8> {
    let mut message = Message::new(random.next() as u16, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = random.below(2) == 0;
    message.metadata.authentic_data = random.below(2) == 0;
    message.metadata.checking_disabled = disabled;
    message.add_query(query.clone());
    if dnssec || random.below(2) == 0 {
        let mut edns = Edns::new();
        edns.set_max_payload(*random.pick(&[0, 512, 700, 1232, 4096])).set_dnssec_ok(dnssec);
        message.set_edns(edns);
    }
    message.to_vec().unwrap()
}

fn upper(query: &Query) -> Query {
    Query::query(Name::from_ascii(query.name().to_ascii().to_ascii_uppercase()).unwrap(), query.query_type())
}

fn context() -> Context {
    let servers = Arc::new(fixture::servers("", fixture::cluster().snapshot()));
    fixture::request("a.", RecordType::A, &servers).context
}

/// A question of a client that takes what it gets.
fn request(packet: &[u8], context: &Context) -> request::Request {
    match request::read(packet, context.clone()) {
        Read::Request(mut request) => {
            request.limit = TCP_SIZE;
            *request
        }
        _ => panic!("not a question"),
    }
}

/// What the slow way answers from the message that was kept, with these seconds left.
fn slow(message: &Message, packet: &[u8], left: u32, context: &Context) -> Vec<u8> {
    let request = request(packet, context);
    let mut message = message.clone();
    let asked = &request.message.metadata;
    let wants = asked.authentic_data || request.message.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);
    message.metadata.authoritative = true;
    message.metadata.authentic_data &= wants;
    message.metadata.recursion_desired = asked.recursion_desired;
    message.metadata.checking_disabled = asked.checking_disabled;
    let sections = [&mut message.answers, &mut message.authorities, &mut message.additionals];
    for record in sections.into_iter().flatten() {
        record.ttl = left;
        if record.name == *request.name() {
            record.name = request.name().clone();
        }
    }
    request.encode(message)
}

#[test]
fn a_kept_answer_is_byte_for_byte_that_of_the_slow_way() {
    let (mut random, context, start) = (Seeded(11), context(), Instant::now());
    let (mut quick, mut long) = (0, 0);
    for round in 0..1500 {
        let cache = cache();
        let query = Query::query(name(&mut random), *random.pick(&KINDS));
        let (dnssec, disabled) = (random.below(3) == 0, random.below(4) == 0);
        let mut message = answer(&query, &mut random);
        let packet = question(&query, dnssec, disabled, &mut random);
        cache.keep(&Question::parse(&packet).unwrap(), &mut message, start, 0, None);
        let ttl = message.all_sections().next().unwrap().ttl;
        assert!(message.all_sections().all(|record| record.ttl == ttl), "{round}: all are cut to the lowest");
        for ask in 0..4 {
            let shouts = ask == 3;
            let packet = question(&if shouts { upper(&query) } else { query.clone() }, dnssec, disabled, &mut random);
            let asked = Question::parse(&packet).unwrap();
            let left = random.below(ttl as usize + 2) as u32;
            let now = start + Duration::from_secs(u64::from(ttl.saturating_sub(left)));
            let mut out = vec![0; if random.below(8) == 0 { TCP_SIZE } else { UDP_SIZE }];
            let limit = asked.limit(out.len());
            let Some(length) = cache.reply(&asked, &mut out, 0, now) else {
                let size = cache
                    .find(&asked, now)
                    .map_or(usize::MAX, |(entry, _)| entry.message(&asked, 1).unwrap().to_vec().unwrap().len());
                assert!(left == 0 || size + asked.option().len() > limit, "{round}: {left} left, {size} bytes");
                long += usize::from(left > 0);
                continue;
            };
            quick += 1;
            let hit = cache.find(&asked, now).unwrap().0.message(&asked, left.min(ttl)).unwrap();
            assert_eq!(request(&packet, &context).encode(hit), &out[..length], "{round}: a hit of the slow way");
            let slow = slow(&message, &packet, left.min(ttl), &context);
            if shouts {
                // Names of the answer that end as the question does are compressed only here.
                let [quick, slow] = [&out[..length], &slow].map(|bytes| Message::from_vec(bytes).unwrap());
                assert_eq!(quick, slow, "{round}");
            } else {
                assert_eq!(slow, &out[..length], "{round}");
            }
            assert_eq!(out[12..asked.asked().len()], packet[12..asked.asked().len()], "the question as it was asked");
        }
    }
    assert!(quick > 4000 && long > 30, "{quick} quick, {long} too long");
}

#[test]
fn addresses_take_turns() {
    let (cache, start) = (cache(), Instant::now());
    let query = Query::query(Name::from_ascii("www.example.org.").unwrap(), RecordType::A);
    let mut message = Message::response(1, OpCode::Query);
    message.add_query(query.clone());
    let alias = Name::from_ascii("alias.example.net.").unwrap();
    message.add_answer(Record::from_rdata(query.name().clone(), 60, RData::CNAME(CNAME(alias.clone()))));
    for last in 1..=3 {
        message.add_answer(Record::from_rdata(alias.clone(), 60, RData::A(A::new(192, 0, 2, last))));
    }
    let packet = question(&query, false, false, &mut Seeded(1));
    let question = Question::parse(&packet).unwrap();
    cache.keep(&question, &mut message, start, 0, None);
    let turns = [0, 1, 2, 3].map(|turn| {
        let mut out = [0; UDP_SIZE];
        let length = cache.reply(&question, &mut out, turn, start).unwrap();
        let answers = Message::from_vec(&out[..length]).unwrap().answers;
        assert!(
            answers[1..].iter().all(|record| record.name == alias) && answers[0].record_type() == RecordType::CNAME
        );
        answers[1..].iter().map(|record| record.data.to_string()[8..].to_string()).collect::<String>()
    });
    assert_eq!(turns, ["123", "231", "312", "123"]);
}
