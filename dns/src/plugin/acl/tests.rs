use super::*;
use crate::fixture;

/// The directives of a block.
fn acl(text: &str) -> Acl {
    let blocks = corefile::parse(&format!(".:53 {{\n{text}\n}}\n")).unwrap();
    let rule = |directive: &Directive| {
        let zones = blocks[0].zones(&directive.arguments).unwrap().into_iter();
        let zones = zones.map(|name| Zone { name, taken: Default::default() }).collect();
        Rule { zones, policies: directive.body.iter().map(|line| policy(line).unwrap()).collect() }
    };
    Acl { rules: blocks[0].directives.iter().map(rule).collect(), allowed: AtomicU64::new(0) }
}

/// The action on a question for `name` by `client`.
fn action(acl: &Acl, name: &str, kind: RecordType, client: &str) -> Action {
    acl.action(&Name::from_ascii(name).unwrap(), kind, client.parse().unwrap())
}

#[test]
fn actions() {
    let only = "acl {\nallow net 192.168.0.0/24 192.168.1.1\nblock\n}";
    let except = "acl {\nALLOW NET 192.168.1.0/24\nblock net 192.168.0.0/16\n}";
    let kinds = "acl {\nfilter type A MX net 10.0.0.0/8\ndrop net 2001:db8::/32 type *\nblock type AAAA net *\n}";
    let zones = "acl a.example.org b.example.org {\nblock type ANY\n}\nacl {\ndrop net 10.0.0.1\n}";
    let table = [
        (only, "x.", RecordType::A, "192.168.0.7", Action::Allow),
        (only, "x.", RecordType::A, "192.168.1.1", Action::Allow),
        (only, "x.", RecordType::A, "::ffff:192.168.1.1", Action::Allow),
        (only, "x.", RecordType::A, "192.168.1.2", Action::Block),
        (only, "x.", RecordType::A, "::1", Action::Block),
        (except, "x.", RecordType::A, "192.168.1.2", Action::Allow),
        (except, "x.", RecordType::A, "192.168.2.2", Action::Block),
        (except, "x.", RecordType::A, "10.0.0.1", Action::Allow),
        (kinds, "x.", RecordType::A, "10.0.0.1", Action::Filter),
        (kinds, "x.", RecordType::MX, "10.0.0.1", Action::Filter),
        (kinds, "x.", RecordType::TXT, "10.0.0.1", Action::Allow),
        (kinds, "x.", RecordType::AAAA, "10.0.0.1", Action::Block),
        (kinds, "x.", RecordType::TXT, "2001:db8::1", Action::Drop),
        (zones, "www.A.example.org.", RecordType::ANY, "10.0.0.2", Action::Block),
        (zones, "b.example.org.", RecordType::A, "10.0.0.2", Action::Allow),
        (zones, "example.org.", RecordType::ANY, "10.0.0.2", Action::Allow),
        (zones, "b.example.org.", RecordType::A, "10.0.0.1", Action::Drop),
    ];
    for (text, name, kind, client, want) in table {
        assert_eq!(action(&acl(text), name, kind, client), want, "{text} {name} {kind} {client}");
    }
}

#[tokio::test]
async fn what_clients_get() {
    let table = [
        ("allow", Some((ResponseCode::NoError, None))),
        ("block", Some((ResponseCode::Refused, Some(BLOCKED)))),
        ("filter", Some((ResponseCode::NoError, Some(FILTERED)))),
        ("drop", None),
    ];
    for (action, want) in table {
        let text = format!("acl {{\n{action} type A\n}}\nkubernetes cluster.local");
        let servers = Arc::new(fixture::servers(&text, fixture::cluster().snapshot()));
        let mut request = fixture::request("web.default.svc.cluster.local.", RecordType::A, &servers);
        request.message.edns = Some(Default::default());
        let packet = request.question().to_vec().unwrap();
        assert_eq!(servers.quick(&packet, &mut [0; 512], 0), None);
        let answer = servers.resolve(&packet, request.context).await;
        let got = answer.map(|packet| {
            let answer = hickory_proto::op::Message::from_vec(&packet).unwrap();
            let option = answer.edns.as_ref().and_then(|edns| edns.option(15.into()).cloned());
            let error = option.map(|option| {
                let bytes = Vec::<u8>::try_from(&option).unwrap();
                u16::from_be_bytes([bytes[0], bytes[1]])
            });
            (answer.metadata.response_code, error)
        });
        assert_eq!(got, want, "{action}");
    }
}

#[test]
fn what_is_wrong() {
    let table = [
        ("permit", "unexpected token \"permit\"; expect 'allow', 'block', 'filter' or 'drop'"),
        ("block from 10.0.0.1", "unexpected token \"from\"; expect 'type | net'"),
        ("block type net 10.0.0.1", "no token specified in \"type\" section"),
        ("block net", "no token specified in \"net\" section"),
        ("block type NOPE", "unexpected token \"NOPE\"; expect legal QTYPE"),
        ("block net 10.0.0.0/33", "unexpected token \"10.0.0.0/33\"; expect an address or CIDR notation"),
    ];
    for (line, want) in table {
        let text = format!("acl {{\n{line}\n}}");
        let error = fixture::try_servers(&text, fixture::cluster().snapshot()).err().unwrap();
        assert_eq!((error.line, error.message.as_str()), (3, want), "{line}");
    }
}

#[test]
fn what_is_counted() {
    let acl = acl("acl org a.org {\nblock net 10.0.0.1\ndrop net 10.0.0.2\nallow net 10.0.0.3\n}");
    for (name, client) in [("x.org.", 1), ("x.a.org.", 1), ("a.org.", 1), ("x.org.", 2), ("x.org.", 3), ("x.", 1)] {
        action(&acl, name, RecordType::A, &format!("10.0.0.{client}"));
    }
    let mut out = Exposition::default();
    acl.expose(&mut out, "dns://:53");
    let text = out.text();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let want = [
        "coredns_acl_allowed_requests_total{server=\"dns://:53\",view=\"\"} 2",
        "coredns_acl_blocked_requests_total{server=\"dns://:53\",zone=\"org.\",view=\"\"} 1",
        "coredns_acl_blocked_requests_total{server=\"dns://:53\",zone=\"a.org.\",view=\"\"} 2",
        "coredns_acl_dropped_requests_total{server=\"dns://:53\",zone=\"org.\",view=\"\"} 1",
    ];
    assert_eq!(lines, want);
}
