use hickory_proto::op::{Edns, Message};

use super::*;
use crate::fixture;

const A: RecordType = RecordType::A;
const PTR: RecordType = RecordType::PTR;

/// The code and the records of each section, as a client gets them; `kubernetes` is next.
async fn ask(text: &str, name: &str, kind: RecordType) -> (String, Vec<String>) {
    let text = format!("{text}\nkubernetes cluster.local");
    let servers = Arc::new(fixture::servers(&text, fixture::cluster().snapshot()));
    let mut request = fixture::request(name, kind, &servers);
    request.message.edns = Some(Edns::new());
    let packet = servers.resolve(&request.question().to_vec().unwrap(), request.context).await;
    let answer = Message::from_vec(&packet.expect("an answer")).unwrap();
    let section =
        |mark: &str, records: &[Record]| records.iter().map(|record| format!("{mark}{record}")).collect::<Vec<_>>();
    let mut records = section("", &answer.answers);
    records.extend(section("!", &answer.authorities));
    records.extend(section("+", &answer.additionals));
    let option = answer.edns.as_ref().and_then(|edns| edns.option(15.into()).cloned());
    let bytes = option.map(|option| Vec::<u8>::try_from(&option).unwrap());
    records.extend(bytes.map(|bytes| format!("{} {}", bytes[1], String::from_utf8_lossy(&bytes[2..]))));
    (rcode::name(answer.metadata.response_code), records)
}

#[tokio::test]
async fn what_is_documented() {
    let nothing = "template ANY ANY {\nrcode NXDOMAIN\n}";
    let invalid = "template ANY ANY invalid {\nrcode NXDOMAIN\nauthority \"invalid. 60 {{ .Class }} SOA ns.invalid. hostmaster.invalid. (1 60 60 60 60)\"\nederror 21 \"Blocked according to RFC2606\"\n}";
    let search = "template IN ANY example.com {\nmatch \"example\\.com\\.(dc1\\.example\\.com\\.)$\"\nrcode NXDOMAIN\nauthority \"{{ index .Match 1 }} 60 IN SOA ns.{{ index .Match 1 }} hostmaster.{{ index .Match 1 }} (1 60 60 60 60)\"\nfallthrough\n}";
    let pair = "template IN A example {\nmatch (^|[.])ip-(?P<a>[0-9]*)-(?P<b>[0-9]*)-(?P<c>[0-9]*)-(?P<d>[0-9]*)[.]example[.]$\nanswer \"{{ .Name }} 60 IN A {{ .Group.a }}.{{ .Group.b }}.{{ .Group.c }}.{{ .Group.d }}\"\nfallthrough\n}\ntemplate IN PTR in-addr.arpa {\nmatch ^(?P<d>[0-9]*)[.](?P<c>[0-9]*)[.](?P<b>[0-9]*)[.](?P<a>[0-9]*)[.]in-addr[.]arpa[.]$\nanswer \"{{ .Name }} 60 IN PTR ip-{{ .Group.a }}-{{ .Group.b }}-{{ .Group.c }}-{{ .Group.d }}.example.\"\n}";
    let hex = "template IN A example {\nmatch \"^ip0a(?P<b>[a-f0-9]{2})(?P<c>[a-f0-9]{2})(?P<d>[a-f0-9]{2})[.]example[.]$\"\nanswer \"{{ .Name }} 60 IN A 10.{{ parseInt .Group.b 16 8 }}.{{ parseInt .Group.c 16 8 }}.{{ parseInt .Group.d 16 8 }}\"\nfallthrough\n}";
    let mail = "template IN MX example {\nanswer \"{{ .Name }} IN MX 10 {{ .Name }}\"\nadditional \"{{ .Name }} 60 IN A 10.0.0.1\"\nauthority \"example. 60 IN NS ns0.example.\" \"example. 60 IN NS ns1.example.\"\n}";
    let alias = "template IN ANY foogle.com {\nmatch \"^foogle\\.com\\.$\"\nanswer \"foogle.com 60 IN CNAME web.default.svc.cluster.local\"\n}";
    let many = "template IN A example {\nmatch ^a[.] ^b[.]\nanswer \"{{ .Name }} IN A 10.0.0.1\"\n}\ntemplate IN A {\nanswer \"{{ .Name }} IN A 10.0.0.2\"\n}";
    let soa = |name: &str| format!("!{name} 60 IN SOA ns.{name} hostmaster.{name} 1 60 60 60 60");
    let table: Vec<(&str, &str, RecordType, &str, Vec<String>)> = vec![
        (nothing, "web.default.svc.cluster.local.", A, "NXDOMAIN", vec![]),
        (
            invalid,
            "x.Invalid.",
            RecordType::TXT,
            "NXDOMAIN",
            vec![soa("invalid."), "21 Blocked according to RFC2606".into()],
        ),
        (search, "a.example.com.dc1.example.com.", A, "NXDOMAIN", vec![soa("dc1.example.com.")]),
        (search, "a.example.com.", A, "SERVFAIL", vec![]),
        (pair, "x.IP-10-1-2-3.example.", A, "NOERROR", vec!["x.ip-10-1-2-3.example. 60 IN A 10.1.2.3".into()]),
        (
            pair,
            "3.2.1.10.in-addr.arpa.",
            PTR,
            "NOERROR",
            vec!["3.2.1.10.in-addr.arpa. 60 IN PTR ip-10-1-2-3.example.".into()],
        ),
        (pair, "a.10.in-addr.arpa.", PTR, "SERVFAIL", vec![]),
        (hex, "ip0a7b7b7b.example.", A, "NOERROR", vec!["ip0a7b7b7b.example. 60 IN A 10.123.123.123".into()]),
        (
            mail,
            "x.example.",
            RecordType::MX,
            "NOERROR",
            vec![
                "x.example. 3600 IN MX 10 x.example.".into(),
                "!example. 60 IN NS ns0.example.".into(),
                "!example. 60 IN NS ns1.example.".into(),
                "+x.example. 60 IN A 10.0.0.1".into(),
            ],
        ),
        (mail, "x.example.", A, "SERVFAIL", vec![]),
        (
            alias,
            "foogle.com.",
            A,
            "NOERROR",
            vec![
                "foogle.com. 60 IN CNAME web.default.svc.cluster.local.".into(),
                "web.default.svc.cluster.local. 5 IN A 10.96.0.20".into(),
            ],
        ),
        (
            alias,
            "foogle.com.",
            RecordType::TXT,
            "NOERROR",
            vec!["foogle.com. 60 IN CNAME web.default.svc.cluster.local.".into()],
        ),
        (many, "b.example.", A, "NOERROR", vec!["b.example. 3600 IN A 10.0.0.1".into()]),
        (many, "c.example.", A, "SERVFAIL", vec![]),
        (many, "c.", A, "NOERROR", vec!["c. 3600 IN A 10.0.0.2".into()]),
        (many, "web.default.svc.cluster.local.", RecordType::AAAA, "NOERROR", vec![]),
        ("template IN A {\nanswer \"{{ .Name }} IN A x\"\n}", "a.", A, "SERVFAIL", vec![]),
        ("template IN A {\nanswer \"$INCLUDE /etc/hostname\"\n}", "a.", A, "SERVFAIL", vec![]),
        ("template IN A {\nanswer \"{{ index .Match 3 }}\"\n}", "a.", A, "SERVFAIL", vec![]),
        ("template IN A {\nrcode SERVFAIL\nanswer \"{{ .Name }} IN A 10.0.0.1\"\n}", "a.", A, "SERVFAIL", vec![]),
    ];
    for (text, name, kind, code, want) in table {
        let (got, mut records) = ask(text, name, kind).await;
        // The negative answers of the cluster itself are not looked at here.
        records.retain(|record| !record.contains("ns.dns.cluster.local."));
        assert_eq!((got.as_str(), records), (code, want), "{text} {name}");
    }
}

#[test]
fn what_fits_is_not_answered_without_the_chain() {
    let name = "web.default.svc.cluster.local.";
    let table = [
        ("template IN A org {\nrcode NXDOMAIN\n}", true),
        ("template IN MX {\nrcode NXDOMAIN\n}", false),
        ("template IN A {\nmatch ^web\nfallthrough\n}", false),
        ("template IN A {\nmatch ^db\nfallthrough\n}", true),
        ("template IN A {\nmatch ^db\nfallthrough org\n}", false),
        ("template IN A {\nmatch ^db\n}", false),
    ];
    for (text, quick) in table {
        let text = format!("{text}\nkubernetes cluster.local");
        let servers = Arc::new(fixture::servers(&text, fixture::cluster().snapshot()));
        let packet = fixture::request(name, A, &servers).question().to_vec().unwrap();
        assert_eq!(servers.quick(&packet, &mut [0; 512], 0).is_some(), quick, "{text}");
    }
}

#[test]
fn what_is_wrong() {
    let lines = [
        "match",
        "match (",
        "answer",
        "answer \"{{ .Nope }}\"",
        "additional",
        "authority \"{{ printf }}\"",
        "rcode",
        "rcode NOPE",
        "ederror",
        "ederror x",
        "ederror 1 2 3",
        "var a b",
        "expr true",
        "fallthrough a..b",
    ];
    for line in lines {
        let text = format!("template IN A {{\n{line}\n}}");
        assert_eq!(fixture::try_servers(&text, fixture::cluster().snapshot()).err().unwrap().line, 3, "{text}");
    }
    for text in ["template", "template IN", "template XX A", "template IN XX", "template IN A a..b"] {
        assert!(fixture::try_servers(text, fixture::cluster().snapshot()).is_err(), "{text}");
    }
}
