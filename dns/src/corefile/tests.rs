use std::io;

use hickory_proto::rr::RecordType;

use super::*;
use crate::fixture;

/// The files and variables of the tests.
fn read(text: &str) -> Result<Vec<Block>, Error> {
    let variable = |name: &str| match name {
        "ZONE" => Some("example.org".to_owned()),
        "BRACE" => Some("{$ZONE}".to_owned()),
        _ => None,
    };
    let files = |path: &str| {
        let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        match path {
            "/etc/dns/opts" => Ok(vec![file("/etc/dns/opts", "trace\n# more\nforward . 192.0.2.1")]),
            "/etc/dns/more/*.conf" => {
                let bad = "b.org {\n  import ../opts\n}\n";
                Ok(vec![file("/etc/dns/more/a.conf", "a.org {\n}"), file("/etc/dns/more/b.conf", bad)])
            }
            "/etc/dns/more/../opts" => Ok(vec![file("/etc/dns/opts", "trace")]),
            "/etc/dns/none/*" => Ok(vec![]),
            "/etc/dns/wrong" => Ok(vec![file("/etc/dns/wrong", "\n\nwrong")]),
            "/etc/dns/itself" => Ok(vec![file("/etc/dns/itself", "import itself")]),
            _ => Err(io::Error::from(io::ErrorKind::NotFound)),
        }
    };
    parser::parse("/etc/dns/Corefile", text, &Source { variable: &variable, files: &files })
}

/// Blocks on a line: `keys {directive arguments {property arguments; …}; …}`.
fn shown(blocks: &[Block]) -> String {
    let words = |words: &[Word]| words.iter().map(|word| format!(" {}", word.text)).collect::<String>();
    let directive = |directive: &Directive| {
        let body: Vec<String> = directive.body.iter().map(|line| words(line)[1..].to_owned()).collect();
        let body = if body.is_empty() { String::new() } else { format!(" {{{}}}", body.join("; ")) };
        format!("{}{}{body}", directive.name.text, words(&directive.arguments))
    };
    let block = |block: &Block| {
        let keys: Vec<String> = block.keys.iter().map(Key::to_string).collect();
        let directives: Vec<String> = block.directives.iter().map(directive).collect();
        format!("{} {{{}}}", keys.join(" "), directives.join("; "))
    };
    blocks.iter().map(block).collect::<Vec<_>>().join(" ")
}

#[test]
fn languages() {
    let table = [
        // Keys.
        (".", "dns://.:53 {}"),
        (". {\n}", "dns://.:53 {}"),
        (". { }", "dns://.:53 {}"),
        (":1053 {\n}", "dns://.:1053 {}"),
        ("Example.ORG. {\n}", "dns://example.org.:53 {}"),
        ("a.org b.org:54 {\n}", "dns://a.org.:53 dns://b.org.:54 {}"),
        ("a.org, b.org,\n\n c.org\n{\n}", "dns://a.org.:53 dns://b.org.:53 dns://c.org.:53 {}"),
        ("tls://. https://.:8443 dns://x\n{\n}", "tls://.:853 https://.:8443 dns://x.:53 {}"),
        ("10.0.0.0/24 {\n}", "dns://0.0.10.in-addr.arpa.:53 {}"),
        ("10.1.2.3/8:54 {\n}", "dns://10.in-addr.arpa.:54 {}"),
        ("0.0.0.0/0 {\n}", "dns://in-addr.arpa.:53 {}"),
        ("10.9.8.7/32 {\n}", "dns://7.8.9.10.in-addr.arpa.:53 {}"),
        ("10.0.4.0/23 {\n}", "dns://4.0.10.in-addr.arpa.:53 dns://5.0.10.in-addr.arpa.:53 {}"),
        ("2001:db8::/32 {\n}", "dns://8.b.d.0.1.0.0.2.ip6.arpa.:53 {}"),
        ("fd00::/7:54 {\n}", "dns://c.f.ip6.arpa.:54 dns://d.f.ip6.arpa.:54 {}"),
        ("::/0 {\n}", "dns://ip6.arpa.:53 {}"),
        ("0/25.2.0.192.in-addr.arpa {\n}", r"dns://0\/25.2.0.192.in-addr.arpa.:53 {}"),
        // Directives, with and without braces.
        (". {\n trace\n forward . a b # c\n}", "dns://.:53 {trace; forward . a b}"),
        (".\ntrace\nforward . a {\n x 1\n}\n", "dns://.:53 {trace; forward . a {x 1}}"),
        (".\r\n{\r\n\ttrace\r\n}\r\n", "dns://.:53 {trace}"),
        (". { trace\n forward\n} b { trace\n}", "dns://.:53 {trace; forward} dns://b.:53 {trace}"),
        (". {\n forward . a { x 1 }\n trace {\n}\n}", "dns://.:53 {forward . a {x 1}; trace}"),
        (". {\n forward . a {\n x 1 2\n\n # nothing\n y\n }\n}", "dns://.:53 {forward . a {x 1 2; y}}"),
        // Quotes and comments.
        (
            "\u{feff}. {\n trace \"a  b\" \"\" \"c\\\"d\" \"e\\f\\\\\" g\"h#i\n}",
            r#"dns://.:53 {trace a  b  c"d e\f\\ g"h}"#,
        ),
        (". {\n trace \"a\nb\" c\n forward\n}", "dns://.:53 {trace a\nb c; forward}"),
        // Variables.
        (
            "{$ZONE} {\n trace {%ZONE%}.{$ZONE} {$NONE}x {$} {$ZONE\n}",
            "dns://example.org.:53 {trace example.org.example.org x {$} {$ZONE}",
        ),
        (". {\n trace {$BRACE} {args[0]}\n}", "dns://.:53 {trace {$ZONE} {args[0]}}"),
        // Imports.
        ("(s) {\n trace\n forward . a {\n  x\n }\n}\n. {\n import s\n}", "dns://.:53 {trace; forward . a {x}}"),
        (
            "(s) {\n forward {args[0]} {args[1]}{args[2]}\n}\n. {\n import s . \"a b\"\n}",
            "dns://.:53 {forward . a b{args[2]}}",
        ),
        (
            "(a) {\n x {args[0]}\n}\n(b) {\n import a {args[0]}{args[0]}\n}\n. {\n forward . {\n y\n import b 1\n z\n }\n}",
            "dns://.:53 {forward . {y; x 11; z}}",
        ),
        (". {\n import opts\n trace b\n}", "dns://.:53 {trace; forward . 192.0.2.1; trace b}"),
        ("import more/*.conf\nc.org\n", "dns://a.org.:53 {} dns://b.org.:53 {trace} dns://c.org.:53 {}"),
        ("import none/*\n. {\n import none/*\n}", "dns://.:53 {}"),
        // One key on two addresses.
        (
            ". {\n bind 127.0.0.1\n}\n. {\n bind ::1\n}\ntls://. {\n}",
            "dns://.:53 {bind 127.0.0.1} dns://.:53 {bind ::1} tls://.:853 {}",
        ),
    ];
    for (text, want) in table {
        let blocks = read(text).unwrap_or_else(|error| panic!("{text}\n{error}"));
        assert_eq!(shown(&blocks), want, "{text}");
    }
}

#[test]
fn errors_name_their_line() {
    let table = [
        ("", "Corefile:1: there is no server block"),
        ("# nothing\n\n(s) {\n}\n", "Corefile:4: there is no server block"),
        (". {\n trace\n\n wrong\n}", "Corefile:4: unknown plugin \"wrong\""),
        (". {\n dnssec\n}", "Corefile:2: plugin \"dnssec\" of CoreDNS is not part of coracle"),
        (". {\n trace\n", "Corefile:1: unexpected end of the file: the '{' of this line is not closed"),
        (". {\n forward . a {\n x\n", "Corefile:2: unexpected end of the file: the '{' of this line is not closed"),
        ("(s) {\n trace\n", "Corefile:1: unexpected end of the file: the '{' of this line is not closed"),
        (". {\n trace \"a\n b\n}", "Corefile:2: a quote that is not closed"),
        (". { trace }", "Corefile:1: unexpected '}'"),
        (". {\n}\n}", "Corefile:3: unexpected '}'"),
        (".\ntrace\n}", "Corefile:3: unexpected '}'"),
        ("{\n}", "Corefile:1: unexpected '{'"),
        (". {\n forward . a {\n x {\n }\n }\n}", "Corefile:3: unexpected '{'"),
        (". {\n forward . a {\n } b\n}", "Corefile:3: unexpected 'b'"),
        ("a,\nb, {\n}", "Corefile:2: expected another address: there is a comma too many"),
        ("a,", "Corefile:1: expected another address: there is a comma too many"),
        ("\n.:53{\n}", "Corefile:2: there is no space before '{'"),
        ("a.org:\n", "Corefile:1: expected a port after the last colon of \"a.org:\""),
        ("a.org:70000\n", "Corefile:1: \"70000\" is not a port"),
        ("a..org\n", "Corefile:1: \"a..org\" is not a domain name"),
        ("10.0.0.0/33\n", "Corefile:1: \"10.0.0.0/33\" is not a network"),
        ("\ngrpc://.\n", "Corefile:2: transport \"grpc\" is not supported"),
        ("quic://. {\n}", "Corefile:1: transport \"quic\" is not supported"),
        ("a.org b.org {\n}\nA.org. {\n}", "Corefile:3: cannot serve dns://a.org.:53: it is already defined"),
        (
            "10.0.0.0/24 {\n}\n0.0.10.in-addr.arpa {\n}",
            "Corefile:3: cannot serve dns://0.0.10.in-addr.arpa.:53: it is already defined",
        ),
        (". {\n bind ::1\n}\n. {\n bind ::1\n}", "Corefile:4: cannot serve dns://.:53 on ::1: it is already defined"),
        (". {\n bind ::1\n}\n. {\n}", "Corefile:4: cannot serve dns://.:53: it overlaps with dns://.:53 on ::1"),
        (". {\n}\n. {\n bind ::1\n}", "Corefile:3: cannot serve dns://.:53 on ::1: it overlaps with dns://.:53"),
        ("(s) {\n}\n(s) {\n}\n", "Corefile:3: the snippet (s) is declared twice"),
        ("(s)\ntrace\n", "Corefile:1: a snippet has to be in braces"),
        (". {\n import\n}", "Corefile:2: import needs the name of a snippet or a file"),
        (". {\n import gone\n}", "Corefile:2: import /etc/dns/gone: entity not found"),
        (". {\n import wrong\n}", "wrong:3: unknown plugin \"wrong\""),
        (
            "(s) {\n import s\n}\n. {\n import s\n}",
            "Corefile:2: imports are nested more than 32 deep: s leads to itself",
        ),
        ("import itself", "itself:1: imports are nested more than 32 deep: itself leads to itself"),
    ];
    for (text, want) in table {
        let error = read(text).err().unwrap_or_else(|| panic!("no error: {text}"));
        assert_eq!(error.to_string(), format!("/etc/dns/{want}"), "{text}");
    }
}

#[test]
fn what_grows_has_an_end() {
    let mut doubled = "(s0) {\n trace {args[0]}\n}\n".to_owned();
    for level in 1..30 {
        let before = level - 1;
        doubled += &format!("(s{level}) {{\n import s{before} a\n import s{before} b\n}}\n");
    }
    let error = read(&format!("{doubled}. {{\n import s29\n}}\n")).unwrap_err();
    assert!(error.message.contains("words"), "{error}");
    let mut longer = "(s0) {\n trace {args[0]}\n}\n".to_owned();
    for level in 1..30 {
        longer += &format!("(s{level}) {{\n import s{} {{args[0]}}{{args[0]}}\n}}\n", level - 1);
    }
    let error = read(&format!("{longer}. {{\n import s29 ab\n}}\n")).unwrap_err();
    assert!(error.message.contains("a word of more than"), "{error}");
    let networks = |count| (0..count).map(|first| format!("{first}.0.0.0/9 ")).collect::<String>();
    assert_eq!(read(&networks(30)).unwrap()[0].keys.len(), 30 * 128);
    assert!(read(&networks(64)).unwrap_err().message.contains("zones"));
    assert!(read(&" ".repeat(5 << 20)).unwrap_err().message.contains("bytes"));
}

/// What people have in their Corefiles, plugin by plugin, is taken.
#[test]
fn examples_become_chains() {
    let environment = fixture::environment(fixture::cluster().snapshot());
    for text in include_str!("tests/examples").split("---\n") {
        let blocks = read(text).unwrap_or_else(|error| panic!("{text}\n{error}"));
        for block in blocks {
            if let Err(error) = crate::chain::build(&block, &environment) {
                panic!("{text}\n{error}");
            }
        }
    }
}

/// Nothing in the Corefile of everyone stands between a pod and the ready answers.
#[test]
fn the_standard_corefile_is_quick() {
    let standard = standard("cluster.local");
    assert!(include_str!("../../../docs/dns.md").contains(&standard), "docs/dns.md has another");
    let standard = standard.replace("/etc/resolv.conf", "192.0.2.1");
    let directives = standard.trim().trim_start_matches(".:53 {").trim_end_matches('}');
    let servers = fixture::servers(directives, fixture::cluster().snapshot());
    let request = fixture::request("web.default.svc.cluster.local.", RecordType::A, &servers.into());
    let packet = request.question().to_vec().unwrap();
    let length = request.context.servers.quick(&packet, &mut [0; 512], 0);
    assert!(length.is_some_and(|length| length > packet.len()));
}

/// Any change to a Corefile leads to blocks or to an error on one of its lines.
#[test]
fn no_text_breaks_the_parser() {
    let standard = standard("cluster.local");
    let others = include_str!("tests/others");
    let mut seeded = fixture::Seeded(0x5eed);
    let bits = [
        "{",
        "}",
        "\"",
        "\n",
        " ",
        ",",
        "#",
        "\\",
        "(s)",
        "import s",
        "import opts",
        "{$ZONE}",
        "{args[0]}",
        ":",
        "/",
        "://",
        "é",
        "\u{0}",
        "10.0.0.0/9",
        "::/0",
    ];
    let (mut right, mut wrong) = (0, 0);
    for _ in 0..5000 {
        let mut text: Vec<char> = seeded.pick(&[&standard[..], others]).chars().collect();
        for _ in 0..=seeded.below(4) {
            let (at, length) = (seeded.below(text.len()), seeded.below(12));
            let end = text.len().min(at + length * seeded.below(2));
            text.splice(at..end, seeded.pick(&bits).chars());
        }
        let text: String = text.into_iter().collect();
        match read(&text) {
            Ok(blocks) => {
                right += 1;
                assert!(blocks.iter().all(|block| !block.keys.is_empty()));
            }
            Err(error) => {
                wrong += 1;
                let inside = error.file.ends_with("Corefile");
                assert!((1..=text.lines().count().max(1)).contains(&error.line) || !inside, "{text}\n{error}");
            }
        }
    }
    assert!(right > 100 && wrong > 100, "{right} {wrong}");
}
