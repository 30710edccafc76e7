use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use state::Key;

use super::*;
use crate::Protocol;

fn read(annotations: &[(&str, &str)]) -> (Policy, Annotations, Vec<String>) {
    let full = |(name, value): &(&str, &str)| (format!("{PREFIX}{name}"), (*value).to_owned());
    let (read, mut complaints) = Annotations::read(&annotations.iter().map(full).collect());
    let policy = read.policy(None, &mut complaints);
    (policy, read, complaints.into_iter().map(|(reason, message)| format!("{reason} {message}")).collect())
}

/// What differs from a policy without annotations.
fn differs(annotations: &[(&str, &str)]) -> String {
    let (policy, _, complaints) = read(annotations);
    assert_eq!(complaints, [""; 0], "{annotations:?}");
    let (ours, usual) = (format!("{policy:#?}"), format!("{:#?}", Policy::default()));
    let usual: BTreeSet<&str> = usual.lines().collect();
    ours.lines().filter(|line| !usual.contains(line)).map(str::trim).collect::<Vec<_>>().join(" ")
}

/// Annotations, and what differs by them from a policy without any, as it is debugged.
#[rustfmt::skip]
const EFFECTS: &[(&[(&str, &str)], &str)] = &[
    (&[("rewrite-target", "/$2")], r#"rewrite: Some( "/$2", ),"#),
    (&[("x-forwarded-prefix", "/app")], r#"prefix: Some( "/app", ),"#),
    (&[("app-root", "/start")], r#"app_root: Some( "/start", ),"#),
    (&[("ssl-redirect", "false")], "ssl_redirect: false,"),
    (&[("force-ssl-redirect", "true")], "force_ssl_redirect: true,"),
    (&[("preserve-trailing-slash", "true")], "trailing_slash: true,"),
    (
        &[("permanent-redirect", "https://new.com/x")],
        r#"redirect: Some( Redirect { to: "https://new.com/x", code: 301, }, ),"#,
    ),
    (
        &[("permanent-redirect", "https://new.com"), ("permanent-redirect-code", "308")],
        r#"redirect: Some( Redirect { to: "https://new.com", code: 308, }, ),"#,
    ),
    (
        &[("permanent-redirect", "https://new.com"), ("temporal-redirect", "https://now.com")],
        r#"redirect: Some( Redirect { to: "https://now.com", code: 302, }, ),"#,
    ),
    (
        &[("temporal-redirect", "https://now.com"), ("temporal-redirect-code", "307")],
        r#"redirect: Some( Redirect { to: "https://now.com", code: 307, }, ),"#,
    ),
    (&[("permanent-redirect-code", "308")], ""),
    (&[("backend-protocol", "https")], "protocol: Https,"),
    (&[("backend-protocol", "GRPC")], "protocol: Grpc,"),
    (&[("backend-protocol", "GRPCS")], "protocol: Grpcs,"),
    (&[("upstream-vhost", "inside.local")], r#"vhost: Some( "inside.local", ),"#),
    (&[("proxy-body-size", "8m")], "8388608,"),
    (&[("proxy-body-size", "0")], "body: None,"),
    (&[("proxy-body-size", "2G")], "2147483648,"),
    (&[("proxy-body-size", "100")], "100,"),
    (&[("proxy-connect-timeout", "3")], "connect: 3s,"),
    (&[("proxy-send-timeout", "7")], "send: 7s,"),
    (&[("proxy-read-timeout", "3600")], "read: 3600s,"),
    (
        &[("affinity", "cookie")],
        r#"affinity: Some( Cookie { name: "INGRESSCOOKIE", attributes: "; HttpOnly", secure: false, change_on_failure: false, }, ),"#,
    ),
    (
        &[
            ("affinity", "cookie"),
            ("session-cookie-name", "route"),
            ("session-cookie-path", "/app"),
            ("session-cookie-domain", "app.com"),
            ("session-cookie-expires", "172800"),
            ("session-cookie-samesite", "lax"),
            ("session-cookie-secure", "true"),
            ("session-cookie-change-on-failure", "true"),
            ("affinity-mode", "persistent"),
        ],
        r#"affinity: Some( Cookie { name: "route", attributes: "; Path=/app; Domain=app.com; Max-Age=172800; SameSite=Lax; HttpOnly", secure: true, change_on_failure: true, }, ),"#,
    ),
    (&[("session-cookie-name", "route")], ""),
    (&[("cors-allow-origin", "https://app.com")], ""),
    (
        &[("enable-cors", "true")],
        r#"cors: Some( Cors { origins: [ "*", ], methods: "GET, PUT, POST, DELETE, PATCH, OPTIONS", headers: "DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,Content-Type,Range,Authorization", expose: None, credentials: true, max_age: "1728000", }, ),"#,
    ),
    (
        &[
            ("enable-cors", "true"),
            ("cors-allow-origin", "https://app.com:8443, http://*.app.com"),
            ("cors-allow-methods", "PUT, GET"),
            ("cors-allow-headers", "X-Key, X_other"),
            ("cors-expose-headers", "*, X-Seen"),
            ("cors-allow-credentials", "false"),
            ("cors-max-age", "-1"),
        ],
        r#"cors: Some( Cors { origins: [ "https://app.com:8443", "http://*.app.com", ], methods: "PUT, GET", headers: "X-Key, X_other", expose: Some( "*, X-Seen", ), credentials: false, max_age: "-1", }, ),"#,
    ),
    (
        &[("allowlist-source-range", "10.0.0.1/8, 192.0.2.7,fd00::/8")],
        "allow: [ 10.0.0.0/8, 192.0.2.7/32, fd00::/8, ],",
    ),
    (&[("whitelist-source-range", "10.0.0.0/8")], "allow: [ 10.0.0.0/8, ],"),
    (
        &[("allowlist-source-range", "10.0.0.0/8"), ("whitelist-source-range", "0.0.0.0/0")],
        "allow: [ 10.0.0.0/8, ],",
    ),
    (&[("denylist-source-range", "192.0.2.0/24")], "deny: [ 192.0.2.0/24, ],"),
    (
        &[("limit-rps", "5"), ("limit-rpm", "100"), ("limit-connections", "2"), ("limit-allowlist", "10.0.0.0/8")],
        "limits: Some( Limits { per_second: Some( 5, ), per_minute: Some( 100, ), at_once: Some( 2, ), burst: 5, exempt: [ 10.0.0.0/8, ], }, ),",
    ),
    (
        &[("limit-rps", "1"), ("limit-burst-multiplier", "1"), ("limit-whitelist", "10.0.0.1")],
        "limits: Some( Limits { per_second: Some( 1, ), per_minute: None, at_once: None, burst: 1, exempt: [ 10.0.0.1/32, ], }, ),",
    ),
    (&[("limit-rps", "0"), ("limit-burst-multiplier", "3")], ""),
    (&[("enable-access-log", "false")], "logged: false,"),
    (&[("satisfy", "all"), ("ssl-passthrough", "false"), ("proxy-redirect-from", "off")], ""),
    (&[("proxy-buffering", "on"), ("proxy-http-version", "1.0"), ("proxy-body-size", "")], ""),
];

#[test]
fn every_annotation_has_its_effect() {
    for (annotations, expected) in EFFECTS {
        let found = differs(annotations);
        let braces = |text: &str| {
            text.split_whitespace().filter(|word| !["},", "),", "],"].contains(word)).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(braces(&found), braces(expected), "{annotations:?}");
    }
}

#[test]
fn what_is_wrong_is_said_and_what_is_assumed() {
    let cases = [
        ("rewrite-target", "/$uri", "has variables of nginx besides $1 to $9; paths are not rewritten"),
        ("rewrite-target", "/a b", "is no path; paths are not rewritten"),
        (
            "rewrite-target",
            "https://new.com/$1",
            "is no path (permanent-redirect and temporal-redirect lead elsewhere); paths are not rewritten",
        ),
        ("use-regex", "yes", "is neither true nor false; false is assumed"),
        ("app-root", "start", "does not begin with a slash; it is left out"),
        ("ssl-redirect", "on", "is neither true nor false; true is assumed"),
        ("permanent-redirect", "new.com", "is no address with http or https; it is left out"),
        ("permanent-redirect", "https://new.com$request_uri", "has variables of nginx; it is left out"),
        ("permanent-redirect-code", "200", "is no status from 300 to 308; 301 is assumed"),
        ("temporal-redirect-code", "308", "is no status from 300 to 307; 302 is assumed"),
        ("backend-protocol", "FCGI", "is none of HTTP, HTTPS, GRPC, GRPCS; HTTP is assumed"),
        ("proxy-body-size", "8 MB", "is no size such as 8m; 1m is assumed"),
        ("proxy-body-size", "18446744073709551615g", "is no size such as 8m; 1m is assumed"),
        ("proxy-read-timeout", "60s", "is no whole number of seconds; 60 is assumed"),
        ("proxy-connect-timeout", "0", "is no whole number of seconds; 5 is assumed"),
        ("affinity", "ip", "is none of cookie; it is left out"),
        ("session-cookie-name", "a;b", "is no attribute of a cookie; INGRESSCOOKIE is assumed"),
        ("session-cookie-path", "/; Secure", "is no attribute of a cookie; it is left out"),
        ("session-cookie-expires", "soon", "is no number of seconds; it is left out"),
        ("session-cookie-samesite", "no", "is none of None, Lax, Strict; it is left out"),
        ("cors-allow-origin", "app.com", "has \"app.com\", which is no origin such as https://app.com; it is left out"),
        ("cors-allow-methods", "GET;PUT", "is no list of names; the usual ones are assumed"),
        ("cors-max-age", "long", "is no number of seconds; 1728000 is assumed"),
        ("custom-http-errors", "404,200", "is no status from 400 to 599; it is left out"),
        ("limit-rps", "-1", "is no whole number; it is left out"),
        ("limit-allowlist", "here", "is no list of addresses and networks; it is left out"),
        ("server-alias", "~^www[0-9]", "is no list of hosts; expressions are not read; it is left out"),
        ("upstream-vhost", "$host", "has variables of nginx; it is left out"),
        ("auth-realm", "a\"b", "is no text for a header; it is left out"),
        ("satisfy", "any", "is none of all; all is assumed"),
        ("canary-weight", "half", "is no whole number; 0 is assumed"),
        ("canary-by-header", "a b", "is no name of a header; it is left out"),
        (
            "canary-by-header-pattern",
            "(?!x)",
            "is no expression (look-around, including look-ahead and look-behind, is not supported); it is left out",
        ),
    ];
    for (name, value, expected) in cases {
        let (_, _, complaints) = read(&[(name, value)]);
        assert_eq!(complaints, [format!("InvalidAnnotation {PREFIX}{name}: {value:?} {expected}")]);
        assert_eq!(differs(&[]), "");
    }
    let (policy, ..) = read(&[("proxy-read-timeout", "60s"), ("ssl-redirect", "on"), ("proxy-body-size", "x")]);
    assert_eq!(
        (policy.timeouts.read, policy.ssl_redirect, policy.body),
        (Duration::from_secs(60), true, Some(1 << 20))
    );
    assert_eq!((policy.protocol, policy.deny.len()), (Protocol::Http, 0));
}

#[test]
fn unknown_annotations_and_snippets_are_named() {
    let (_, _, complaints) =
        read(&[("configuration-snippet", "deny all;"), ("rewrite-tarrget", "/"), ("mirror-target", "x")]);
    let said = [
        format!(
            "UnsupportedAnnotation {PREFIX}configuration-snippet: there is no nginx here that could run snippets of its configuration"
        ),
        format!("UnsupportedAnnotation {PREFIX}mirror-target: requests go to one backend only"),
        format!("UnknownAnnotation {PREFIX}rewrite-tarrget is not known and has no effect"),
    ];
    assert_eq!(complaints, said);
    let others = [("cert-manager.io/cluster-issuer", "x"), ("kubernetes.io/ingress.class", "nginx")];
    let others: BTreeMap<_, _> = others.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    assert_eq!(Annotations::read(&others).1, []);
}

#[test]
fn a_wrong_door_is_a_closed_door() {
    let all = ["0.0.0.0/0", "::/0"].map(|all| all.parse().unwrap());
    for (name, value) in [
        ("allowlist-source-range", "10.0.0.0/8, office"),
        ("allowlist-source-range", ","),
        // As a template renders it, when its variable is missing.
        ("allowlist-source-range", ""),
        ("denylist-source-range", " "),
        ("auth-type", "digest"),
        ("whitelist-source-range", "10.0.0.0/33"),
        ("denylist-source-range", "everyone"),
        ("auth-url", "https://login.app.com/check"),
        ("auth-tls-secret", "default/clients"),
    ] {
        let (policy, _, complaints) = read(&[(name, value)]);
        assert_eq!(policy.deny, all, "{name}");
        assert!(complaints.len() == 1 && complaints[0].ends_with("; nobody is let in"), "{complaints:?}");
    }
    assert_eq!(differs(&[("auth-type", ""), ("auth-secret", "users")]), "");
}

#[test]
fn users_are_a_file_or_a_map() {
    let secret = |data: &[(&str, &str)]| {
        let data = data.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec())));
        Secret { data: Some(data.collect()), ..Secret::default() }
    };
    let users = |kind: &str, secret: Option<&Secret>| {
        let annotations =
            [("auth-type", "basic"), ("auth-secret", "users"), ("auth-secret-type", kind), ("auth-realm", "Lab 1")];
        let annotations = annotations.map(|(name, value)| (format!("{PREFIX}{name}"), value.to_owned()));
        let (read, mut complaints) = Annotations::read(&annotations.into());
        assert_eq!((read.secret(), complaints.len()), (Some("users"), 0));
        let users = read.policy(secret, &mut complaints).auth.unwrap();
        assert_eq!(&*users.realm, "Lab 1");
        let pairs: Vec<String> = users.passwords.iter().map(|(name, hash)| format!("{name} {hash}")).collect();
        (pairs, complaints.into_iter().map(|(_, message)| message).collect::<Vec<_>>())
    };
    let file = secret(&[("auth", "ann:$apr1$x$y\n# none\n\nbob:{SHA}z:Bob of the lab\r\nbroken\n")]);
    assert_eq!(users("auth-file", Some(&file)).0, ["ann $apr1$x$y", "bob {SHA}z"]);
    let old = secret(&[("auth", "ann:$apr1$x$y\nbob:rqXexS6ZhobKA\n")]);
    assert_eq!(
        users("auth-file", Some(&old)).1,
        ["the password of bob in the Secret users is hashed in no way that is known; see htpasswd -B"]
    );
    let map = secret(&[("ann", "$2y$05$x\n"), ("bob", "{SHA}z")]);
    assert_eq!(users("auth-map", Some(&map)).0, ["ann $2y$05$x", "bob {SHA}z"]);
    let (pairs, complaints) = users("auth-file", Some(&map));
    assert_eq!(
        (pairs.len(), &*complaints[0]),
        (0, "the Secret users of auth-secret has no text in the key auth; nobody is let in")
    );
    let (pairs, complaints) = users("auth-file", None);
    assert_eq!(
        (pairs.len(), &*complaints[0]),
        (0, "the Secret users of auth-secret does not exist in this namespace, or is empty; nobody is let in")
    );
}

#[test]
fn canaries() {
    let upstream = || Arc::new(Upstream::new(Key::new("default", "new"), "80"));
    let canary = |annotations: &[(&str, &str)]| {
        let (_, read, complaints) = read(&[&[("canary", "true")], annotations].concat());
        assert!(read.is_canary());
        (read.canary(upstream()), complaints)
    };
    let (read_by, complaints) = canary(&[
        ("canary-by-header", "X-New"),
        ("canary-by-header-value", "yes"),
        ("canary-by-header-pattern", "y.*"),
    ]);
    assert_eq!((read_by.header.unwrap().as_str(), read_by.header_value.as_deref()), ("x-new", Some("yes")));
    assert!(read_by.header_pattern.is_none() && complaints.is_empty());
    let (by, _) = canary(&[("canary-by-header", "X-New"), ("canary-by-header-pattern", "^y.*")]);
    assert!(by.header_pattern.is_some_and(|pattern| pattern.is_match(b"yes") && !pattern.is_match(b"no yes")));
    let (by, _) = canary(&[("canary-by-cookie", "new"), ("canary-weight", "30")]);
    assert_eq!((by.cookie.as_deref(), by.weight, by.total), (Some("new"), 30, 100));
    let (by, _) = canary(&[("canary-weight", "300"), ("canary-weight-total", "200")]);
    assert_eq!((by.weight, by.total), (200, 200));
    assert_eq!(canary(&[]).1.len(), 1);
    assert_eq!(canary(&[("canary-by-header-value", "yes"), ("canary-weight", "1")]).1.len(), 1);
    let (_, off, complaints) = read(&[("canary-weight", "30")]);
    assert!(!off.is_canary() && complaints.len() == 1);
}

#[test]
fn the_table_names_every_annotation_once() {
    let names: BTreeSet<&str> = TABLE.iter().map(|(name, _)| *name).collect();
    assert_eq!(names.len(), TABLE.len());
}

#[test]
fn the_page_has_every_annotation_in_its_section() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/ingress.md");
    let page = std::fs::read_to_string(page).expect("docs/ingress.md");
    let sections: Vec<&str> = page.split("\n### ").collect();
    let [_, done, harmless, left] = sections[..] else { panic!("three sections of annotations") };
    for (name, entry) in TABLE {
        let (quoted, closed) = (format!("`{name}`"), format!("`{name}`*"));
        let right = match entry {
            Entry::Read(..) | Entry::Guard(_) => done.contains(&quoted) || left.contains(&quoted),
            Entry::Harmless => harmless.contains(&quoted),
            Entry::Without(_) => left.contains(&quoted) && !left.contains(&closed),
            Entry::Closed(_) => left.contains(&closed),
        };
        assert!(right, "{name} is in another section of docs/ingress.md, or in none");
    }
    for name in harmless.split('`').chain(left.split('`')).skip(1).step_by(2).filter(|name| name.contains('-')) {
        assert!(TABLE.iter().any(|(known, _)| *known == name), "docs/ingress.md has {name}, which is unknown");
    }
}
