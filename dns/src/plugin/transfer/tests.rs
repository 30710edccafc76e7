use std::net::Ipv4Addr;

use hickory_proto::rr::rdata::SOA;

use super::*;
use crate::fixture;
use crate::servers::Servers;

const ALL: &str = "transfer {\nto *\n}\nkubernetes cluster.local in-addr.arpa";

/// What a client at 10.244.0.5 is sent over TCP: codes, and how many records each message has.
async fn sent(servers: &Arc<Servers>, name: &str, kind: RecordType, serial: Option<u32>) -> String {
    let mut request = fixture::request(name, kind, servers);
    request.context.transport = Transport::Tcp;
    request.message.authorities.extend(serial.map(|serial| {
        let soa = SOA::new(Name::root(), Name::root(), serial, 1, 1, 1, 1);
        Record::from_rdata(Name::from_ascii(name).unwrap(), 1, RData::SOA(soa))
    }));
    match servers.clone().handle(request).await {
        Ok(Reply { body: Body::Messages(messages), .. }) => {
            let show = |m: hickory_proto::op::Message| format!("{} {}", m.metadata.response_code, m.answers.len());
            messages.map(show).collect::<Vec<_>>().join("; ")
        }
        Ok(Reply { body: Body::Message(message), .. }) => format!("one of {}", message.answers.len()),
        Ok(_) => "silence".into(),
        Err(failure) => failure.code.to_string(),
    }
}

#[tokio::test]
async fn who_gets_what() {
    let far = u32::MAX / 2;
    let to = |list: &str| format!("transfer {{\nto {list}\n}}\nkubernetes cluster.local in-addr.arpa");
    let table = [
        (ALL.into(), "cluster.local.", RecordType::AXFR, None, "No Error 27"),
        (ALL.into(), "in-addr.arpa.", RecordType::AXFR, None, "No Error 11"),
        (ALL.into(), "svc.cluster.local.", RecordType::AXFR, None, "Query Refused"),
        (ALL.into(), "example.org.", RecordType::AXFR, None, "Server Failure"),
        (ALL.into(), "cluster.local.", RecordType::IXFR, None, "Server Failure"),
        (ALL.into(), "cluster.local.", RecordType::IXFR, Some(1), "No Error 27"),
        (ALL.into(), "cluster.local.", RecordType::IXFR, Some(far), "one of 1"),
        (to("192.0.2.1 10.244.0.5:5353"), "cluster.local.", RecordType::AXFR, None, "No Error 27"),
        (to("10.244.0.0/16"), "cluster.local.", RecordType::AXFR, None, "No Error 27"),
        (to("192.0.2.1 ::/0"), "cluster.local.", RecordType::AXFR, None, "Query Refused"),
        ("kubernetes cluster.local".into(), "cluster.local.", RecordType::AXFR, None, "Query Refused"),
    ];
    for (directives, name, kind, serial, want) in table {
        let servers = Arc::new(fixture::servers(&directives, fixture::cluster().snapshot()));
        assert_eq!(sent(&servers, name, kind, serial).await, want, "{directives} {name} {kind} {serial:?}");
    }
    let servers = Arc::new(fixture::servers(ALL, fixture::cluster().snapshot()));
    let request = fixture::request("cluster.local.", RecordType::AXFR, &servers);
    let refused = servers.clone().handle(request).await.err().map(|failure| failure.code);
    assert_eq!(refused, Some(ResponseCode::Refused), "over UDP");
}

#[tokio::test]
async fn large_zones_are_many_messages() {
    let mut index = fixture::cluster();
    for i in 0..1000u32 {
        let ip = Ipv4Addr::from(0x0a60_1000 + i).to_string();
        index.apply(fixture::service("default", &format!("s{i}"), serde_json::json!({"clusterIP": ip})));
    }
    let servers = Arc::new(fixture::servers(ALL, index.snapshot()));
    let all = sent(&servers, "cluster.local.", RecordType::AXFR, None).await;
    assert_eq!(all, format!("{}No Error 27", "No Error 100; ".repeat(10)));
}

#[test]
fn directives() {
    for (directives, want) in [
        ("transfer {\n}", "'to' is required"),
        ("transfer {\nto nobody\n}", "'nobody' is neither an address nor a network"),
        ("transfer {\nto *\nfrom *\n}", "unknown property 'from'"),
        ("transfer a {\nto *\n}\ntransfer {\nto 10.0.0.0/8 ::1\nsource ::1\n}", ""),
    ] {
        let error = fixture::try_servers(directives, Default::default()).err();
        assert_eq!(error.map(|error| error.message).unwrap_or_default(), want, "{directives}");
    }
}
