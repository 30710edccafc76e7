use std::fs;

use super::*;
use crate::fixture;

const A: RecordType = RecordType::A;
const AAAA: RecordType = RecordType::AAAA;
const PTR: RecordType = RecordType::PTR;

/// The answers, or how it failed; `kubernetes` is the next plugin.
async fn ask(hosts: &str, name: &str, kind: RecordType) -> Result<Vec<String>, ResponseCode> {
    let text = format!("{hosts}\nkubernetes cluster.local");
    let servers = Arc::new(fixture::servers(&text, fixture::cluster().snapshot()));
    let request = fixture::request(name, kind, &servers);
    match servers.handle(request).await {
        Ok(Reply { body: crate::request::Body::Message(answer), .. }) => {
            Ok(answer.answers.iter().map(|record| format!("{} {}", record.ttl, record.data)).collect())
        }
        Ok(_) => panic!("silence"),
        Err(failure) => Err(failure.code),
    }
}

#[tokio::test]
async fn questions() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = "# all\n10.0.0.1 Www.example.org www # one\n::1%lo www.example.org\n10.0.0.2 *.example.org\n10.0.0.9\nx y\n\
                10.0.0.3 web.default.svc.cluster.local\n10.0.0.4 www.example.org";
    fs::write(file.path(), text).unwrap();
    let path = file.path().display();
    let plain = format!("hosts {path}");
    let falls = format!("hosts {path} {{\n10.0.0.7 www.example.org in.line\nttl 60\nfallthrough\n}}");
    let zoned = format!("hosts {path} example.org {{\nfallthrough a.example.org\nno_reverse\n}}");
    let wide = format!("hosts {path} {{\nfallthrough\nfallthrough_unsupported\n}}");
    let (failed, refused) = (Err(ResponseCode::ServFail), Ok(vec![]));
    let table = [
        (&plain, "WWW.example.org.", A, Ok(vec!["3600 10.0.0.1", "3600 10.0.0.4"])),
        (&plain, "www.example.org.", AAAA, Ok(vec!["3600 ::1"])),
        (&plain, "www.example.org.", RecordType::TXT, Ok(vec![])),
        (&plain, "www.", A, Ok(vec!["3600 10.0.0.1"])),
        (&plain, "www.", AAAA, Ok(vec![])),
        (&plain, "any.example.org.", A, Ok(vec!["3600 10.0.0.2"])),
        (&plain, "any.example.org.", AAAA, Ok(vec![])),
        (&plain, "two.any.example.org.", A, failed.clone()),
        (&plain, "example.org.", A, failed.clone()),
        (&plain, "web.default.svc.cluster.local.", A, Ok(vec!["3600 10.0.0.3"])),
        (&plain, "db.default.svc.cluster.local.", A, failed.clone()),
        (&plain, "1.0.0.10.in-addr.arpa.", PTR, Ok(vec!["3600 www.example.org.", "3600 www."])),
        (&plain, "2.0.0.10.in-addr.arpa.", PTR, failed.clone()),
        (&falls, "www.example.org.", A, Ok(vec!["60 10.0.0.1", "60 10.0.0.4", "60 10.0.0.7"])),
        (&falls, "in.line.", A, Ok(vec!["60 10.0.0.7"])),
        (&falls, "7.0.0.10.in-addr.arpa.", PTR, Ok(vec!["60 www.example.org.", "60 in.line."])),
        (&falls, "dev.dns-version.cluster.local.", A, refused.clone()),
        (&falls, "none.default.svc.cluster.local.", A, refused.clone()),
        (&zoned, "www.example.org.", A, Ok(vec!["3600 10.0.0.1", "3600 10.0.0.4"])),
        (&zoned, "www.", A, failed.clone()),
        (&zoned, "1.0.0.10.in-addr.arpa.", PTR, failed.clone()),
        (&zoned, "web.default.svc.cluster.local.", A, Ok(vec!["5 10.96.0.20"])),
        (&wide, "www.example.org.", A, Ok(vec!["3600 10.0.0.1", "3600 10.0.0.4"])),
        (&wide, "web.default.svc.cluster.local.", A, Ok(vec!["3600 10.0.0.3"])),
        (&wide, "www.example.org.", RecordType::TXT, failed.clone()),
    ];
    for (hosts, name, kind, want) in table {
        let got = ask(hosts, name, kind).await;
        let want = want.map(|want| want.into_iter().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(got, want, "{hosts} {name} {kind}");
    }
}

#[test]
fn only_what_is_not_here_is_answered_without_the_chain() {
    let line = "10.0.0.1 web.default.svc.cluster.local *.dev.svc.cluster.local";
    let inline = format!("hosts /nowhere {{\n{line}\nfallthrough\n}}");
    let other = format!("hosts /nowhere {{\n{line}\nfallthrough org\n}}");
    let table = [
        (&inline, "web.default.svc.cluster.local.", false),
        (&inline, "web.dev.svc.cluster.local.", false),
        (&inline, "db.default.svc.cluster.local.", true),
        (&other, "db.default.svc.cluster.local.", false),
    ];
    for (hosts, name, quick) in table {
        let text = format!("{hosts}\nkubernetes cluster.local");
        let servers = Arc::new(fixture::servers(&text, fixture::cluster().snapshot()));
        let packet = fixture::request(name, A, &servers).question().to_vec().unwrap();
        assert_eq!(servers.quick(&packet, &mut [0; 512], 0).is_some(), quick, "{hosts} {name}");
    }
}

#[test]
fn a_file_is_read_when_it_changed() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = format!(".:53 {{\nhosts {}\n}}\n", file.path().display());
    let blocks = corefile::parse(&text).unwrap();
    let (hosts, _) = read(&blocks[0].directives[0], &blocks[0]).unwrap();
    let name = Name::from_ascii("x.").unwrap();
    let mut read = File::new(&hosts.path);
    for (text, want) in [("10.0.0.1 x", 1), ("10.0.0.1 x\n10.0.0.2 x", 2), ("", 0), ("10.0.0.1 x # one", 1)] {
        fs::write(file.path(), text).unwrap();
        assert!(hosts.refresh(&mut read));
        assert_eq!(hosts.addresses(&name, true).len(), want, "{text}");
        assert!(!hosts.refresh(&mut read));
    }
    let mut out = Exposition::default();
    hosts.expose(&mut out);
    let (text, path) = (out.text(), file.path().display().to_string());
    assert!(text.contains(&format!("coredns_hosts_entries{{hostsfile=\"{path}\"}} 2\n")), "{text}");
    let changed = fs::metadata(file.path()).unwrap().modified().unwrap();
    let changed = changed.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!(text.contains(&format!("coredns_hosts_reload_timestamp_seconds {changed}\n")), "{text}");
    file.close().unwrap();
    assert!(!hosts.refresh(&mut read));
    assert_eq!(hosts.addresses(&name, true).len(), 1, "what it said stays");
}

#[test]
fn what_is_wrong() {
    let table = ["ttl 0", "ttl 65536", "ttl", "reload soon", "nope", "10.0.0.300 x", "fallthrough a..b"];
    for line in table {
        let text = format!("hosts /nowhere {{\n{line}\n}}");
        assert_eq!(fixture::try_servers(&text, fixture::cluster().snapshot()).err().unwrap().line, 3, "{text}");
    }
    for text in ["hosts\nhosts", "hosts /nowhere {\nfallthrough_unsupported\n}"] {
        assert!(fixture::try_servers(text, fixture::cluster().snapshot()).is_err(), "{text}");
    }
}
