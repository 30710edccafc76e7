use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{RData, Record};

use super::*;
use crate::fixture;

/// The rules of a directive.
fn rules(text: &str) -> Result<Vec<Rule>, corefile::Error> {
    let blocks = corefile::parse(&format!(".:53 {{\n{text}\n}}\n"))?;
    read(&blocks[0].directives[0])
}

fn asked() -> Request {
    let servers = Arc::new(fixture::servers("", fixture::cluster().snapshot()));
    let mut request = fixture::request("Www.Example.org.", RecordType::A, &servers);
    request.message.metadata.id = 7;
    request
}

fn answered(request: &Request, code: ResponseCode, answers: usize, soa: bool) -> Result<Reply, Failure> {
    let name = request.name();
    let address = Record::from_rdata(name.clone(), 5, RData::A(A::new(192, 0, 2, 1)));
    let soa = soa.then(|| {
        let soa = SOA::new(name.clone(), name.clone(), 1, 2, 3, 4, 5);
        Record::from_rdata(name.clone(), 5, RData::SOA(soa))
    });
    let sections =
        Sections { answers: vec![address; answers], authorities: soa.into_iter().collect(), additionals: vec![] };
    Ok(Reply::message("test", request.reply(code, true, sections)))
}

#[test]
fn formats() {
    let mut request = asked();
    let common = "10.244.0.5:4096 - 7 \"A IN www.example.org. udp 33 false 512\" NOERROR qr,aa,rd,ra 49 0.25s";
    let table = [
        ("log", common.to_owned()),
        ("log .", common.to_owned()),
        ("log . {common}!", format!("{common}!")),
        ("log . {combined}", format!("{common} \"0\"")),
        ("log . }{{type}{nope}{}{/x/y}{local}", "}{A{nope}{}-10.96.0.10".to_owned()),
        ("log . {/log/class}/{/log/type}", "success/NOERROR".to_owned()),
    ];
    for (text, want) in table {
        let result = answered(&request, ResponseCode::NoError, 1, false);
        assert_eq!(rules(text).unwrap()[0].line(&request, &result, 0.25).unwrap(), want, "{text}");
    }
    request.context.client = "[2001:db8::1]:53".parse().unwrap();
    request.context.transport = Transport::Tcp;
    let table: [(&str, Result<Reply, Failure>, &str); 2] = [
        (
            "log",
            Err(Failure::server("x")),
            "[2001:db8::1]:53 - 7 \"A IN www.example.org. tcp 33 false 65535\" SERVFAIL qr,rd,ra 33 1s",
        ),
        ("log . {rcode},{>rflags},{rsize}", Ok(Reply { body: Body::Silence, plugin: "acl" }), "-,-,0"),
    ];
    for (text, result, want) in table {
        assert_eq!(rules(text).unwrap()[0].line(&request, &result, 1.0).unwrap(), want, "{text}");
    }
}

#[test]
fn classes() {
    let request = asked();
    let silence = Ok(Reply { body: Body::Silence, plugin: "acl" });
    let table = [
        (answered(&request, ResponseCode::NoError, 1, false), "success"),
        (answered(&request, ResponseCode::NoError, 0, false), "success"),
        (answered(&request, ResponseCode::NoError, 0, true), "denial"),
        (answered(&request, ResponseCode::NXDomain, 0, true), "denial"),
        (answered(&request, ResponseCode::NXDomain, 1, true), "error"),
        (answered(&request, ResponseCode::Refused, 0, false), "error"),
        (Err(Failure::server("x")), "error"),
        (silence, "error"),
    ];
    for (result, class) in table {
        for (asked, want) in [("success", class), ("denial", class), ("error", class), ("all", "all")] {
            let rules = rules(&format!("log {{\nclass {asked}\n}}")).unwrap();
            assert_eq!(rules[0].line(&request, &result, 0.0).is_some(), asked == want, "{class} {asked}");
        }
        let both = rules("log {\nclass success denial\nclass error\n}").unwrap();
        assert!(both[0].line(&request, &result, 0.0).is_some());
    }
}

#[test]
fn what_is_wrong() {
    for text in ["log {\nclass\n}", "log {\nclass nope\n}", "log {\nclas all\n}", "log a..b"] {
        assert!(rules(text).is_err(), "{text}");
    }
    let zones = rules("log example.org Example.net {name}").unwrap().into_iter().map(|rule| rule.zone.to_ascii());
    assert_eq!(zones.collect::<Vec<_>>(), ["example.org.", "example.net."]);
}

#[test]
fn logged_questions_are_not_answered_without_the_chain() {
    let kubernetes = "kubernetes cluster.local";
    let table = [
        ("", true),
        ("log\n", false),
        ("log example.org {name}\n", true),
        ("log example.org {name}\nlog svc.Cluster.local\n", false),
        ("log web.default.svc.cluster.local.\n", false),
    ];
    for (text, quick) in table {
        let servers = Arc::new(fixture::servers(&format!("{text}{kubernetes}"), fixture::cluster().snapshot()));
        let request = fixture::request("web.default.svc.cluster.LOCAL.", RecordType::A, &servers);
        let packet = request.question().to_vec().unwrap();
        assert_eq!(servers.quick(&packet, &mut [0; 512], 0).is_some(), quick, "{text}");
    }
}
