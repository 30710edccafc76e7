use std::fmt::Write;

use hickory_proto::op::{Edns, OpCode, Query};
use hickory_proto::rr::rdata::NULL;
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{RData, Record, RecordType};

use super::*;
use crate::fixture;
use crate::forward::tests::{Peer, good, packet, reply};
use crate::request::Body;
use crate::servers::Servers;

fn read(directive: &str) -> Result<Settings, String> {
    let blocks =
        corefile::parse(&format!("example.org:53 {{\n{directive}\n}}\n")).map_err(|error| error.to_string())?;
    let own = [([127, 0, 0, 1], 53).into()];
    Settings::read(&blocks[0].directives[0], &own).map_err(|error| error.to_string())
}

/// What is forwarded where to, on a line.
fn summary(settings: &Settings) -> String {
    let mut line = settings.from.iter().map(Name::to_string).collect::<Vec<_>>().join(",");
    for target in &settings.targets {
        let _ = write!(line, " {}", target.address);
        if let Some((_, name)) = &target.tls {
            let _ = write!(line, "%{}", name.to_str());
        }
    }
    line
}

#[test]
fn directives() {
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str, text: &str| {
        std::fs::write(files.path().join(name), text).unwrap();
        files.path().join(name).to_string_lossy().into_owned()
    };
    let key = rcgen::KeyPair::generate().unwrap();
    let authority = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
    let authority = path("ca.pem", &authority.pem());
    let resolv = path("resolv.conf", "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 127.0.0.1\n");
    let empty = path("empty", "search example\n");
    let sixteen: String = (1..=16).map(|i| format!(" 192.0.2.{i}")).collect();
    let table: &[(&str, Result<&str, &str>)] = &[
        ("forward . 192.0.2.1", Ok(". 192.0.2.1:53")),
        ("forward . 192.0.2.1:54 dns://192.0.2.2 dns://192.0.2.3:55", Ok(". 192.0.2.1:54 192.0.2.2:53 192.0.2.3:55")),
        (
            "forward Example.ORG 2001:db8::1 [2001:db8::2] [2001:db8::3]:54",
            Ok("example.org. [2001:db8::1]:53 [2001:db8::2]:53 [2001:db8::3]:54"),
        ),
        ("forward 10.0.0.0/8 192.0.2.1 192.0.2.1:53 127.0.0.1", Ok("10.in-addr.arpa. 192.0.2.1:53")),
        ("forward 10.8.0.0/15 192.0.2.1", Ok("8.10.in-addr.arpa.,9.10.in-addr.arpa. 192.0.2.1:53")),
        (&format!("forward . {resolv}"), Ok(". 192.0.2.1:53 192.0.2.2:53")),
        (&format!("forward . {empty}"), Ok(".")),
        (
            &format!("forward . tls://192.0.2.1 tls://192.0.2.2:54 {{\n tls {authority}\n}}"),
            Ok(". 192.0.2.1:853%192.0.2.1 192.0.2.2:54%192.0.2.2"),
        ),
        (
            &format!("forward . tls://192.0.2.1 {{\n tls {authority}\n tls_servername dns.example\n}}"),
            Ok(". 192.0.2.1:853%dns.example"),
        ),
        (
            &format!(
                "forward . tls://192.0.2.1%a.example:54 tls://[2001:db8::1%b.example]:55 tls://2001:db8::2%c.example {{\n tls {authority}\n}}"
            ),
            Ok(". 192.0.2.1:54%a.example [2001:db8::1]:55%b.example [2001:db8::2]:853%c.example"),
        ),
        (
            &format!("forward . tls://192.0.2.1%a.example {{\n tls {authority}\n tls_servername b\n}}"),
            Err("Corefile:2: a server name here and another by tls_servername"),
        ),
        ("forward .", Err("Corefile:2: wrong argument count or unexpected line ending after '.'")),
        (
            "forward . https://192.0.2.1",
            Err("Corefile:2: 'https' is not supported as a destination protocol in forward"),
        ),
        (
            "forward . /nowhere",
            Err("Corefile:2: not an IP address or file \"/nowhere\": No such file or directory (os error 2)"),
        ),
        ("forward . 192.0.2.1%name", Err("Corefile:2: 192.0.2.1%name: only tls:// has a name after '%'")),
        (&format!("forward .{sixteen}"), Err("Corefile:2: more than 15 TOs configured: 16")),
        ("forward . 192.0.2.1 {\n policy odd\n}", Err("Corefile:3: unknown policy 'odd'")),
        (
            "forward . 192.0.2.1 {\n force_tcp yes\n}",
            Err("Corefile:3: wrong argument count or unexpected line ending after 'yes'"),
        ),
        ("forward . 192.0.2.1 {\n failover SERVFAIL NOERROR\n}", Err("Corefile:3: NOERROR cannot be used in failover")),
        ("forward . 192.0.2.1 {\n next NXDOMAN\n}", Err("Corefile:3: NXDOMAN is not a valid rcode")),
        ("forward . 192.0.2.1 {\n health_check 1s often\n}", Err("Corefile:3: health_check: unknown option often")),
        ("forward . 192.0.2.1 {\n health_check 1s domain\n}", Err("Corefile:3: 'domain' has no name")),
        ("forward . 192.0.2.1 {\n read_timeout 0\n}", Err("Corefile:3: 0 must be positive")),
        ("forward . 192.0.2.1 {\n max_age 5s\n}", Err("Corefile:2: max_age (5s) must not be less than expire (10s)")),
        (
            "forward . 192.0.2.1 {\n tls a b c d\n}",
            Err("Corefile:3: wrong argument count or unexpected line ending after 'd'"),
        ),
        ("forward . 192.0.2.1 {\n resolver 192.0.2.1\n}", Err("Corefile:3: 'resolver' is not supported")),
        ("forward . 192.0.2.1 {\n maxfails 3\n}", Err("Corefile:3: unknown property 'maxfails'")),
    ];
    for (directive, want) in table {
        let got = read(directive).map(|settings| summary(&settings));
        assert_eq!(got.as_deref().map_err(String::as_str), *want, "{directive}");
    }
}

#[test]
fn properties() {
    let text = "forward . 192.0.2.1 {\n except a.example b.example\n max_concurrent 10\n next NXDOMAIN refused\n \
                next_on_nodata\n expire 5s\n max_age 1m\n max_idle_conns 3\n read_timeout 1.5s\n max_fails 0\n \
                max_connect_attempts 0\n source_address 127.0.0.9\n policy round_robin\n failover SERVFAIL\n \
                failfast_all_unhealthy_upstreams\n health_check 2s no_rec domain example.org\n}";
    let settings = read(text).unwrap();
    assert_eq!((settings.except.len(), settings.max_concurrent), (2, Some(10)));
    assert_eq!(settings.next, [ResponseCode::NXDomain, ResponseCode::Refused]);
    assert!(settings.next_on_nodata);
    let upstreams = settings.upstreams;
    let limits = upstreams.limits;
    assert_eq!((limits.expire.as_secs(), limits.age.as_secs(), limits.idle), (5, 60, 3));
    assert_eq!((limits.patience.as_millis(), upstreams.check_interval.as_secs()), (1500, 2));
    assert_eq!((upstreams.max_fails, upstreams.max_connect_attempts), (0, Some(0)));
    assert_eq!((upstreams.source, upstreams.failfast), (Some([127, 0, 0, 9].into()), true));
    assert_eq!(upstreams.failover, [ResponseCode::ServFail]);
    let long = read("forward . 192.0.2.1 {\n expire 5000000000000h\n read_timeout 5000000000000h\n}")
        .unwrap()
        .upstreams
        .limits;
    assert_eq!((long.expire.as_secs(), long.patience.as_secs()), (86400, 86400));
    let check = Message::from_vec(&upstreams.check.under(1)).unwrap();
    assert_eq!(check.queries[0].to_string(), "example.org. IN NS");
    assert!(!check.metadata.recursion_desired);
}

async fn ask(directives: &str, name: &str) -> Result<String, ResponseCode> {
    let servers = Arc::new(fixture::servers(directives, fixture::cluster().snapshot()));
    let request = fixture::request(name, RecordType::A, &servers);
    let reply = servers.handle(request).await.map_err(|failure| failure.code)?;
    let Body::Message(message) = reply.body else { panic!("no message") };
    let text = |record: &Record| record.data.to_string();
    Ok(message.answers.first().map_or_else(|| crate::rcode::name(message.metadata.response_code), text))
}

#[tokio::test]
async fn stub_domains_and_exceptions() {
    let (first, second, third) = (good(1).await, good(2).await, good(3).await);
    let (world, company, lab) = (first.address, second.address, third.address);
    let directives = format!(
        "forward . {world} {{\n except local x.example\n}}\nforward example {company}\nforward lab.example {lab} {{\n except lab.example\n}}\n"
    );
    let table = [
        ("www.org.", Ok("192.0.2.1")),
        ("www.example.", Ok("192.0.2.2")),
        ("WWW.EXAMPLE.", Ok("192.0.2.2")),
        ("x.example.", Ok("192.0.2.2")),
        ("lab.example.", Ok("192.0.2.3")),
        ("a.lab.example.", Ok("192.0.2.2")),
        ("printer.local.", Err(ResponseCode::ServFail)),
    ];
    for (name, want) in table {
        assert_eq!(ask(&directives, name).await.as_deref().map_err(|code| *code), want, "{name}");
    }
}

#[tokio::test]
async fn the_next_one_is_asked() {
    let refusing = |code| Peer::new(move |asked, _| packet(&reply(asked, code, 0)));
    let absent = refusing(ResponseCode::NXDomain).await;
    let empty = Peer::new(|asked, _| {
        let mut reply = reply(asked, ResponseCode::NoError, 0);
        reply.answers.clear();
        packet(&reply)
    });
    let (empty, last) = (empty.await, good(3).await);
    let forward = |peer: &Peer, body: &str| format!("forward . {} {{\n{body}\n}}\n", peer.address);
    let all =
        |next: &str| forward(&absent, next) + &forward(&empty, "next_on_nodata") + &forward(&last, "next NOERROR");
    assert_eq!(ask(&all("next NXDOMAIN"), "www.example.").await.unwrap(), "192.0.2.3");
    assert_eq!(ask(&all("next REFUSED"), "www.example.").await.unwrap(), "NXDOMAIN");
    assert_eq!(ask(&forward(&absent, "next NXDOMAIN"), "www.example.").await.unwrap(), "NXDOMAIN", "there is none");
}

#[tokio::test]
async fn more_at_a_time_are_refused() {
    let silent = Peer::new(|_, _| Vec::new()).await;
    let directives = format!("forward . {} {{\n max_concurrent 1\n}}", silent.address);
    let servers = Arc::new(fixture::servers(&directives, fixture::cluster().snapshot()));
    let question = || servers.clone().handle(fixture::request("www.example.", RecordType::A, &servers));
    let mut first = std::pin::pin!(question());
    assert!(futures::poll!(&mut first).is_pending());
    assert_eq!(question().await.err().unwrap().code, ResponseCode::Refused);
}

#[tokio::test]
async fn what_goes_out_and_comes_back() {
    let signature = RData::Unknown { code: RecordType::RRSIG, rdata: NULL::with(vec![7; 30]) };
    let expected = signature.clone();
    let peer = Peer::new(move |asked, _| {
        assert!(asked.metadata.checking_disabled && asked.metadata.authentic_data && !asked.metadata.recursion_desired);
        let edns = asked.edns.as_ref().unwrap();
        assert!(edns.flags().dnssec_ok && edns.options().as_ref().is_empty());
        assert_eq!((edns.max_payload(), asked.queries[0].name().to_ascii()), (1232, "WwW.Example.".to_owned()));
        let mut reply = reply(asked, ResponseCode::NXDomain, 0);
        reply.metadata.authentic_data = true;
        reply.metadata.checking_disabled = true;
        reply.add_authority(Record::from_rdata("example.".parse().unwrap(), 9, signature.clone()));
        packet(&reply)
    });
    let peer = peer.await;
    let servers = fixture::servers(&format!("forward . {}", peer.address), fixture::cluster().snapshot());
    let servers: Arc<Servers> = Arc::new(servers);
    let context = fixture::request("x.", RecordType::A, &servers).context;
    let mut question = Message::new(4711, hickory_proto::op::MessageType::Query, OpCode::Query);
    question.metadata.checking_disabled = true;
    question.metadata.authentic_data = true;
    let mut edns = Edns::new();
    edns.set_dnssec_ok(true).set_max_payload(4096);
    edns.options_mut().insert(EdnsOption::Unknown(10, vec![7; 8]));
    question.set_edns(edns).add_query(Query::query(Name::from_ascii("WwW.Example.").unwrap(), RecordType::A));
    let answer = servers.resolve(&question.to_vec().unwrap(), context).await.unwrap();
    let answer = Message::from_vec(&answer).unwrap();
    assert_eq!((answer.metadata.id, answer.metadata.response_code), (4711, ResponseCode::NXDomain));
    assert!(answer.metadata.authentic_data && answer.metadata.checking_disabled);
    assert_eq!(
        (answer.queries[0].name().to_ascii(), &answer.authorities[0].data),
        ("WwW.Example.".to_owned(), &expected)
    );
    let edns = answer.edns.unwrap();
    assert!(edns.flags().dnssec_ok && edns.options().as_ref().is_empty());
}
