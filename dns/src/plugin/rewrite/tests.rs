use hickory_proto::op::{Edns, Message, ResponseCode};
use hickory_proto::rr::Record;
use hickory_proto::rr::rdata::opt::EdnsOption;

use super::*;
use crate::fixture;
use crate::servers::Servers;

const A: RecordType = RecordType::A;
const SRV: RecordType = RecordType::SRV;
const AAAA: RecordType = RecordType::AAAA;

fn servers(rules: &str) -> Arc<Servers> {
    let text =
        format!("{rules}\nhosts /nowhere {{\n10.0.0.1 sub.x.org\nttl 100\nfallthrough\n}}\nkubernetes cluster.local");
    Arc::new(fixture::servers(&text, fixture::cluster().snapshot()))
}

/// Each record of the answer, `code` when there is none.
async fn ask(rules: &str, name: &str, kind: RecordType) -> (Vec<String>, Message) {
    let servers = servers(rules);
    let request = fixture::request(name, kind, &servers);
    let packet = servers.clone().resolve(&request.question().to_vec().unwrap(), request.context).await;
    let answer = Message::from_vec(&packet.expect("an answer")).unwrap();
    assert_eq!(answer.queries[0].name().to_ascii(), name, "the question is as it was asked");
    assert_eq!(answer.queries[0].query_type(), kind, "the question is as it was asked");
    let mut records: Vec<String> = answer.answers.iter().map(Record::to_string).collect();
    records.extend(answer.additionals.iter().map(|record| format!("+{record}")));
    if records.is_empty() {
        records.push(rcode::name(answer.metadata.response_code));
    }
    (records, answer)
}

#[tokio::test]
async fn names() {
    let web = "web.default.svc.cluster.local";
    let exact = format!("rewrite name Www.example.org {web}");
    let suffix = "rewrite name suffix .example.org .default.svc.cluster.local answer auto";
    let bare = "rewrite name suffix .example.org .default.svc.cluster.local";
    let regex = r"rewrite name regex (.*)-in-(.*)\.example\.org {1}.{2}.svc.cluster.local";
    let back = format!(
        "rewrite stop {{\n{}\nanswer name (.*)\\.(.*)\\.svc\\.cluster\\.local {{1}}-in-{{2}}.example.org value (.*)\\.default\\..* {{1}}.there\n}}",
        &regex["rewrite ".len()..]
    );
    let two = format!("rewrite continue name suffix .a.org .b.org answer auto\nrewrite name exact web.b.org {web}");
    let prefix = "rewrite name prefix front web.default answer auto";
    let part = "rewrite name substring .sub. . answer auto";
    let table = [
        (exact.as_str(), "www.Example.org.", A, vec!["www.Example.org. 5 IN A 10.96.0.20"]),
        (&exact, "x.www.example.org.", A, vec!["SERVFAIL"]),
        (&exact, "web.default.svc.cluster.local.", A, vec!["web.default.svc.cluster.local. 5 IN A 10.96.0.20"]),
        (suffix, "web.example.org.", A, vec!["web.example.org. 5 IN A 10.96.0.20"]),
        (bare, "web.example.org.", A, vec!["web.default.svc.cluster.local. 5 IN A 10.96.0.20"]),
        (
            suffix,
            "_http._tcp.web.example.org.",
            SRV,
            vec![
                "_http._tcp.web.example.org. 5 IN SRV 0 100 80 web.example.org.",
                "+web.example.org. 5 IN A 10.96.0.20",
            ],
        ),
        (regex, "web-in-default.example.org.", A, vec!["web.default.svc.cluster.local. 5 IN A 10.96.0.20"]),
        (&back, "web-in-default.example.org.", A, vec!["web-in-default.example.org. 5 IN A 10.96.0.20"]),
        (
            &back,
            "_http._tcp.web-in-default.example.org.",
            SRV,
            vec![
                "_http._tcp.web-in-default.example.org. 5 IN SRV 0 100 80 web.there.",
                "+web-in-default.example.org. 5 IN A 10.96.0.20",
            ],
        ),
        (&two, "web.a.org.", A, vec!["web.a.org. 5 IN A 10.96.0.20"]),
        (prefix, "front.svc.cluster.local.", A, vec!["front.svc.cluster.local. 5 IN A 10.96.0.20"]),
        (part, "web.default.sub.svc.cluster.local.", A, vec!["web.default.sub.svc.cluster.local. 5 IN A 10.96.0.20"]),
    ];
    for (rules, name, kind, want) in table {
        assert_eq!(ask(rules, name, kind).await.0, want, "{rules} {name}");
    }
}

#[tokio::test]
async fn other_fields() {
    let web = "web.default.svc.cluster.local.";
    let table = [
        ("rewrite type AAAA A", web, AAAA, "web.default.svc.cluster.local. 5 IN A 10.96.0.20"),
        ("rewrite type MX A", web, AAAA, "NOERROR"),
        ("rewrite class CH IN", web, A, "web.default.svc.cluster.local. 5 IN A 10.96.0.20"),
        ("rewrite ttl suffix .local 30-300", web, A, "web.default.svc.cluster.local. 30 IN A 10.96.0.20"),
        ("rewrite ttl web.default.svc.cluster.local -3", web, A, "web.default.svc.cluster.local. 3 IN A 10.96.0.20"),
        ("rewrite ttl regex (.*).org 9", web, A, "web.default.svc.cluster.local. 5 IN A 10.96.0.20"),
        ("rewrite continue {\nttl regex (.*).org 9-\n}", "sub.x.org.", A, "sub.x.org. 100 IN A 10.0.0.1"),
        ("rewrite rcode substring nope NXDOMAIN NOERROR", "nope.svc.cluster.local.", A, "NOERROR"),
        ("rewrite rcode regex .* 2 0", "example.org.", A, "NOERROR"),
        ("rewrite rcode nope SERVFAIL NOERROR", "example.org.", A, "SERVFAIL"),
        ("rewrite name x.org .bad..", "x.org.", A, "SERVFAIL"),
    ];
    for (rules, name, kind, want) in table {
        assert_eq!(ask(rules, name, kind).await.0, [want], "{rules} {name}");
    }
}

#[tokio::test]
async fn targets_of_aliases() {
    let alias = "alias.default.svc.cluster.local.";
    let rules = "rewrite cname regex (.*)\\.default\\.svc\\.cluster\\.local {1}.dev.svc.cluster.local";
    let want = [
        "alias.default.svc.cluster.local. 5 IN CNAME web.dev.svc.cluster.local.",
        "web.dev.svc.cluster.local. 5 IN A 10.96.0.21",
    ];
    assert_eq!(ask(rules, alias, A).await.0, want);
    let rules = "rewrite cname web.default.svc.cluster.local sub.x.org";
    let want = ["alias.default.svc.cluster.local. 5 IN CNAME sub.x.org.", "sub.x.org. 100 IN A 10.0.0.1"];
    assert_eq!(ask(rules, alias, A).await.0, want);
}

#[test]
fn options_of_edns() {
    let servers = servers("");
    let local = |data: &[u8]| Some(EdnsOption::Unknown(0xffee, data.into()));
    let there = || Some(EdnsOption::Unknown(0xffee, b"old".into()));
    let table = [
        ("local set 0xffee 0x61626364", None, local(b"abcd")),
        ("local set 65518 abcd revert", there(), local(b"abcd")),
        ("local replace 0xffee abcd", None, None),
        ("local replace 0xffee abcd", there(), local(b"abcd")),
        ("local append 0xffee abcd", None, local(b"abcd")),
        ("local append 0xffee abcd", there(), local(b"old")),
        ("local unset 0xffee", there(), None),
        ("local set 0xffee {qname}", None, local(b"a.org.")),
        ("local set 0xffee {qtype}", None, local(&[0, 1])),
        ("local set 0xffee {client_ip}", None, local(&[10, 244, 0, 5])),
        ("local set 0xffee {client_port}", None, local(&[16, 0])),
        ("local set 0xffee {protocol}", None, local(b"udp")),
        ("local set 0xffee {server_ip}", None, local(&[10, 96, 0, 10])),
        ("local set 0xffee {server_port}", None, local(&[0, 53])),
    ];
    let rule = |text: &str| {
        let blocks = corefile::parse(&format!(".:53 {{\nrewrite edns0 {text}\n}}\n")).unwrap();
        read(&blocks[0].directives[0]).unwrap()
    };
    for (text, before, want) in table {
        let mut request = fixture::request("a.org.", A, &servers);
        request.message.edns = before.map(|option| {
            let mut edns = Edns::new();
            edns.options_mut().insert(option);
            edns
        });
        assert!(rule(text).apply(&mut request, &mut vec![]).unwrap());
        let edns = request.message.edns.unwrap();
        assert_eq!(edns.options().get_all(0xffee.into()), want.iter().collect::<Vec<_>>(), "{text}");
    }
    for (client, want) in [("10.1.2.3:1", "10.1.2.0/24"), ("[2001:db8:1:2:3::]:1", "2001:db8:1::/56")] {
        let mut request = fixture::request("a.org.", A, &servers);
        request.context.client = client.parse().unwrap();
        rule("subnet set 24 56").apply(&mut request, &mut vec![]).unwrap();
        let edns = request.message.edns.as_ref().unwrap();
        assert_eq!(edns.options().as_ref(), [(8.into(), EdnsOption::Subnet(want.parse().unwrap()))]);
        rule("nsid set").apply(&mut request, &mut vec![]).unwrap();
        assert_eq!(request.message.edns.as_ref().unwrap().options().as_ref().len(), 2);
        rule("subnet unset").apply(&mut request, &mut vec![]).unwrap();
        assert!(matches!(request.message.edns.unwrap().options().as_ref(), [(_, EdnsOption::NSID(_))]));
    }
}

#[test]
fn what_is_rewritten_is_not_answered_without_the_chain() {
    let web = "web.default.svc.cluster.local.";
    let table = [
        ("rewrite name web.default.svc.cluster.local x.org", web, false),
        ("rewrite name web.default.svc.cluster.local x.org", "db.default.svc.cluster.local.", true),
        ("rewrite name suffix .default.svc.cluster.local .x.org", "db.default.svc.cluster.local.", false),
        ("rewrite name suffix .example.org .default.svc.cluster.local", web, true),
        ("rewrite ttl regex ^web 3", web, false),
        ("rewrite ttl regex ^db 3", web, true),
        ("rewrite type ANY HINFO", web, false),
        ("rewrite edns0 nsid set", web, false),
    ];
    for (rules, name, quick) in table {
        let servers = servers(rules);
        let packet = fixture::request(name, A, &servers).question().to_vec().unwrap();
        assert_eq!(servers.quick(&packet, &mut [0; 512], 0).is_some(), quick, "{rules} {name}");
    }
}

#[test]
fn what_is_wrong() {
    let table = [
        "",
        "foo",
        "stop",
        "name",
        "name a.com",
        "name a.com b.com c.com",
        "name regex ([a]\\.com new-{1}.com",
        "name regex (dns)\\.(core) {2}.{3}",
        "name regex a b answer name (core) {1}.{2}",
        "name regex a b answer ttl c d",
        "name regex a b NoAnswer name c d",
        "name substring a.com b.com c.com",
        "name like a b",
        "name suffix a b answer",
        "name suffix a b answer auto answer name c d",
        "type",
        "type a",
        "type any a a",
        "type XY WV",
        "class IN",
        "class XY WV",
        "edns0",
        "edns0 unknown set",
        "edns0 local set",
        "edns0 local set 0xffee",
        "edns0 local set invalid abc",
        "edns0 local set 0xffee 0xabc",
        "edns0 local set 0xffee {dummy}",
        "edns0 local unset 0xffee abc",
        "edns0 local foo 0xffee abc",
        "edns0 nsid set junk",
        "edns0 subnet set 33 56",
        "edns0 subnet set 24 129",
        "edns0 subnet set 24",
        "ttl a.org",
        "ttl a.org -",
        "ttl a.org 5-3",
        "ttl a.org x",
        "ttl like a.org 3",
        "rcode a.org 2",
        "rcode a.org NOPE 0",
        "cname a.org",
        "answer name a b",
    ];
    for text in table {
        let rules = format!("rewrite {text}");
        assert!(fixture::try_servers(&rules, fixture::cluster().snapshot()).is_err(), "{rules}");
    }
    let long = format!("rewrite name regex {} x", "a".repeat(10_001));
    assert!(fixture::try_servers(&long, fixture::cluster().snapshot()).is_err());
    assert_eq!(ttl("30-"), Some((30, i32::MAX as u32)));
    assert_eq!(rcode::parse("badsig"), Some(ResponseCode::BADSIG));
}
