use std::str::FromStr;

use hickory_proto::op::{Edns, Query};
use hickory_proto::rr::rdata::{A, CNAME, NS, NULL, SOA};

use super::*;

fn name(text: &str) -> Name {
    Name::from_str(text).unwrap()
}

/// A record `NAME TTL TYPE [DATA]`: addresses, aliases, NS, `SOA` with its minimum, and `RRSIG` with
/// expiration and inception.
fn record(text: &str) -> Record {
    let words: Vec<&str> = text.split(' ').collect();
    let [owner, ttl, kind, data @ ..] = &words[..] else { panic!("a record: {text}") };
    let number = |at: usize| data[at].parse::<u32>().unwrap();
    let data = match *kind {
        "A" => RData::A(A::new(192, 0, 2, 1)),
        "CNAME" => RData::CNAME(CNAME(name(data[0]))),
        "NS" => RData::NS(NS(name("ns."))),
        "SOA" => RData::SOA(SOA::new(name("ns."), name("me."), 1, 1, 1, 1, number(0))),
        "RRSIG" => {
            let rdata = [&[0; 8][..], &number(0).to_be_bytes(), &number(1).to_be_bytes(), &[0; 4]].concat();
            RData::Unknown { code: RecordType::RRSIG, rdata: NULL::with(rdata) }
        }
        other => panic!("no such type: {other}"),
    };
    Record::from_rdata(name(owner), ttl.parse().unwrap(), data)
}

/// An answer to the question for `a.`: answers, and authorities after a bar.
fn message(code: ResponseCode, kind: RecordType, records: &str) -> Message {
    let mut message = Message::response(1, hickory_proto::op::OpCode::Query);
    message.metadata.response_code = code;
    message.add_query(Query::query(name("a."), kind));
    let (answers, authorities) = records.split_once('|').unwrap_or((records, ""));
    let section = |text: &str| text.split(';').map(str::trim).filter(|text| !text.is_empty()).map(record).collect();
    (message.answers, message.authorities) = (section(answers), section(authorities));
    message
}

const BOUNDS: Bounds = Bounds { least: 5, most: 100 };

#[test]
fn what_is_kept() {
    use Kind::{Denial, Failure, Success};
    use ResponseCode as Code;
    let table = [
        (Code::NoError, RecordType::A, "a. 60 A", Some((Success, 60))),
        (Code::NoError, RecordType::A, "A. 60 A; a. 30 A", Some((Success, 30))),
        (Code::NoError, RecordType::A, "a. 0 A", Some((Success, 5))),
        (Code::NoError, RecordType::A, "a. 4000000000 A", Some((Success, 100))),
        (Code::NoError, RecordType::A, "a. 60 A | a. 7 NS", Some((Success, 7))),
        (Code::NoError, RecordType::ANY, "a. 60 CNAME b.", Some((Success, 60))),
        (Code::NoError, RecordType::CNAME, "a. 60 CNAME b.", Some((Success, 60))),
        (Code::NoError, RecordType::A, "a. 60 CNAME b.; b. 50 CNAME c.; c. 40 A", Some((Success, 40))),
        (Code::NoError, RecordType::A, "c. 40 A; b. 50 CNAME c.; a. 60 CNAME B.", Some((Success, 40))),
        (Code::NoError, RecordType::A, "a. 60 CNAME b.; a. 60 CNAME b.; b. 40 A", Some((Success, 40))),
        // Nothing is said, or only where to ask.
        (Code::NoError, RecordType::A, "", Some((Success, 5))),
        (Code::NoError, RecordType::A, "| a. 60 NS", Some((Success, 5))),
        // What does not lead to an answer is none, unless it says for how long (RFC 2308 §2.2).
        (Code::NoError, RecordType::A, "a. 60 CNAME b.", None),
        (Code::NoError, RecordType::A, "b. 60 A", None),
        (Code::NoError, RecordType::A, "a. 60 CNAME b.; b. 60 CNAME a.", None),
        (Code::NoError, RecordType::A, "a. 60 CNAME b.; a. 60 CNAME c.; b. 60 A", None),
        (Code::NoError, RecordType::A, "a. 60 CNAME b. | x. 30 SOA 20", Some((Denial, 20))),
        (Code::NoError, RecordType::A, "| x. 30 SOA 40", Some((Denial, 30))),
        (Code::NoError, RecordType::A, "| x. 30 SOA 20; x. 60 NS", Some((Denial, 20))),
        (Code::NXDomain, RecordType::A, "| x. 30 SOA 20", Some((Denial, 20))),
        (Code::NXDomain, RecordType::A, "| x. 3000 SOA 2000", Some((Denial, 100))),
        (Code::NXDomain, RecordType::A, "| x. 30 SOA 0", Some((Denial, 5))),
        (Code::NXDomain, RecordType::A, "", None),
        (Code::NXDomain, RecordType::A, "a. 60 CNAME b. | x. 30 SOA 20", None),
        (Code::ServFail, RecordType::A, "", Some((Failure, 5))),
        (Code::NotImp, RecordType::A, "", Some((Failure, 5))),
        (Code::Refused, RecordType::A, "", None),
        (Code::FormErr, RecordType::A, "a. 60 A", None),
    ];
    for (code, asked, records, expected) in table {
        let mut message = message(code, asked, records);
        let found = kind(&message, 0).map(|kind| (kind, ttl(&message, kind, BOUNDS)));
        assert_eq!(found, expected, "{code} {records}");
        message.metadata.truncation = true;
        assert_eq!(kind(&message, 0), None, "cut: {code} {records}");
    }
}

#[test]
fn signatures_that_are_not_valid() {
    // (expiration, inception, now, kept)
    let table =
        [(200, 100, 150, true), (200, 100, 99, false), (200, 100, 201, false), (50, u32::MAX - 50, u32::MAX, true)];
    for (expiration, inception, now, kept) in table {
        let records = format!("a. 60 A; a. 60 RRSIG {expiration} {inception}");
        let mut message = message(ResponseCode::NoError, RecordType::A, &records);
        assert!(kind(&message, now).is_some(), "who does not ask for them does not look at them");
        let mut edns = Edns::new();
        edns.set_dnssec_ok(true);
        message.set_edns(edns);
        assert_eq!(kind(&message, now).is_some(), kept, "{expiration} {inception} {now}");
    }
}
