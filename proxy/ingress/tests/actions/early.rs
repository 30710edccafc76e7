//! What happens before a backend is asked.

use std::sync::Arc;

use http::{HeaderValue, StatusCode};
use ingress::{Cookie, Cors, Errors, Limits, Policy, Route, Users};
use regex::bytes::Regex;

use crate::world::{World, canary, endpoint, route, upstream};

#[tokio::test]
async fn ranges_users_and_limits() {
    let app = upstream("app", &[endpoint("app").await]);
    let elsewhere = Policy { allow: vec!["192.0.2.0/24".parse().unwrap()], ..Policy::default() };
    assert_eq!(World::new(route(&app, elsewhere)).await.ask("GET /", &[]).await.status, 403);
    let here = Policy { deny: vec!["127.0.0.0/8".parse().unwrap()], ..Policy::default() };
    assert_eq!(World::new(route(&app, here)).await.ask("GET /", &[]).await.status, 403);

    let users = |passwords| {
        let auth = Some(Arc::new(Users { realm: "Authentication \"Required\"".into(), passwords }));
        World::new(route(&app, Policy { auth, ..Policy::default() }))
    };
    let hash = "$2y$05$abcdefghijklmnopqrstuugwV8qBBvnFAgKU/1lAQTjzoU4mNz2BW";
    let world = users(vec![("ann".into(), hash.into())]).await;
    let refused = world.ask("GET /", &[]).await;
    assert_eq!(
        (refused.status, refused.header("www-authenticate")),
        (401, Some("Basic realm=\"Authentication Required\""))
    );
    // ann:another, ann:myPassword
    assert_eq!(world.ask("GET /", &["Authorization: Basic YW5uOmFub3RoZXI="]).await.status, 401);
    let answer = world.ask("GET /", &["Authorization: Basic YW5uOm15UGFzc3dvcmQ="]).await;
    assert_eq!((answer.status, answer.saw("authorization")), (200, None));
    assert_eq!(users(Vec::new()).await.ask("GET /", &[]).await.status, 503, "the Secret is missing");

    let limits = Limits { per_minute: Some(1), burst: 5, ..Limits::default() };
    let world = World::new(route(&app, Policy { limits: Some(Arc::new(limits)), ..Policy::default() })).await;
    let mut answers = Vec::new();
    for _ in 0..7 {
        answers.push(world.ask("GET /", &[]).await.status);
    }
    assert_eq!(answers, [200, 200, 200, 200, 200, 200, 503], "whatever thread is asked");
}

#[tokio::test]
async fn redirects_and_origins() {
    let app = upstream("app", &[endpoint("app").await]);
    let world = World::new(Route { tls: true, ..route(&app, Policy::default()) }).await;
    let answer = world.ask("GET /x?y", &[]).await;
    assert_eq!((answer.status, answer.header("location")), (308, Some("https://app.com/x?y")));

    let cors = |origins: &[&str]| Cors {
        origins: origins.iter().map(|origin| Box::from(*origin)).collect(),
        methods: HeaderValue::from_static("GET, PUT"),
        headers: HeaderValue::from_static("X-A"),
        expose: None,
        credentials: true,
        max_age: HeaderValue::from_static("600"),
    };
    let anyone = Policy { cors: Some(cors(&["*"]).into()), ..Policy::default() };
    let some = Policy { cors: Some(cors(&["https://*.app.com"]).into()), ..Policy::default() };
    let (anyone, some) = (World::new(route(&app, anyone)).await, World::new(route(&app, some)).await);
    let (friend, foe) = ("Origin: https://a.app.com", "Origin: https://evil.com");
    let cases = [
        (&anyone, "OPTIONS /", friend, 204, Some("*")),
        (&anyone, "GET /", foe, 200, Some("*")),
        (&some, "OPTIONS /", friend, 204, Some("https://a.app.com")),
        (&some, "GET /", friend, 200, Some("https://a.app.com")),
        (&some, "OPTIONS /", foe, 200, None),
        (&some, "GET /", foe, 200, None),
    ];
    for (world, line, origin, status, allowed) in cases {
        let answer = world.ask(line, &[origin]).await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (status, allowed), "{line} {origin}");
        let rest = allowed.map(|_| ("true", "GET, PUT", "X-A", "600"));
        let header = |name: &str| answer.header(&format!("access-control-{name}"));
        let said = header("allow-credentials").zip(header("allow-methods"));
        let said = said.zip(header("allow-headers").zip(header("max-age")));
        assert_eq!(said.map(|((one, two), (three, four))| (one, two, three, four)), rest, "{line} {origin}");
    }
}

#[tokio::test]
async fn what_the_backend_sees() {
    let app = upstream("app", &[endpoint("app").await]);
    let world = World::new(route(&app, Policy::default())).await;
    let lies = [
        "X-Forwarded-For: 192.0.2.1",
        "X-Forwarded-Host: evil.com",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Port: 443",
        "X-Real-IP: 192.0.2.1",
        "X-Original-Forwarded-Host: evil.org",
        "X_Forwarded_For: 192.0.2.1",
        "Proxy: http://evil.com",
        "Connection: keep-alive, x-mine",
        "X-Mine: 1",
        "X-Request-ID: abc",
    ];
    let answer = world.ask("GET /a%20b/../c?d=e", &lies).await;
    assert_eq!(answer.target(), "/a%20b/../c?d=e");
    let seen = [
        ("host", Some("app.com")),
        ("x-forwarded-for", Some("127.0.0.1")),
        ("x-real-ip", Some("127.0.0.1")),
        ("x-forwarded-host", Some("app.com")),
        ("x-forwarded-proto", Some("http")),
        ("x-forwarded-scheme", Some("http")),
        ("x-forwarded-port", Some("80")),
        ("x-original-forwarded-for", Some("192.0.2.1")),
        ("x-original-forwarded-host", Some("evil.com")),
        ("x_forwarded_for", None),
        ("proxy", None),
        ("x-mine", None),
        ("x-request-id", Some("abc")),
    ];
    for (name, value) in seen {
        assert_eq!(answer.saw(name), value, "{name}");
    }
    let answer = world.ask("GET /", &[]).await;
    let (id, other) = (answer.saw("x-request-id").unwrap(), world.ask("GET /", &[]).await);
    assert!(id.len() == 32 && other.saw("x-request-id") != Some(id), "{id}");

    let policy = Policy {
        rewrite: Some("/base/$2".into()),
        prefix: Some(HeaderValue::from_static("/api")),
        vhost: Some(HeaderValue::from_static("inner.com")),
        ..Policy::default()
    };
    let pattern = Some(Regex::new("^/api(/|$)(.*)").unwrap());
    let world = World::new(Route { pattern, ..route(&app, policy) }).await;
    let answer = world.ask("GET /api/v1/x?y=1&z", &[]).await;
    assert_eq!(answer.target(), "/base/v1/x?y=1&z");
    let seen = ["host", "x-forwarded-host", "x-forwarded-prefix"].map(|name| answer.saw(name));
    assert_eq!(seen, [Some("inner.com"), Some("app.com"), Some("/api")]);
}

#[tokio::test]
async fn canaries_and_clients_that_stay() {
    let main = upstream("main", &[endpoint("one").await, endpoint("two").await]);
    let other = upstream("other", &[endpoint("three").await]);
    let (name, attributes) = ("INGRESSCOOKIE".into(), "; Path=/".into());
    let cookie = Cookie { name, attributes, secure: false, change_on_failure: false };
    let policy = Policy { affinity: Some(cookie), ..Policy::default() };
    let mut canary = canary(&other);
    canary.header = Some("x-canary".parse().unwrap());
    let world = World::new(Route { canary: Some(canary), ..route(&main, policy) }).await;
    let mut stays = Vec::new();
    for headers in [&[][..], &[], &["X-Canary: always"]] {
        let answer = world.ask("GET /", headers).await;
        let (pair, attributes) = answer.header("set-cookie").unwrap().split_once(';').unwrap();
        assert_eq!(attributes, " Path=/");
        stays.push((answer.name().to_owned(), format!("Cookie: a=b; {pair}")));
    }
    assert_eq!(stays[2].0, "three");
    assert_ne!(stays[0].0, stays[1].0, "in turn");
    for (name, cookie) in &stays {
        for _ in 0..3 {
            // Who has a cookie stays, with the canary too.
            let answer = world.ask("GET /", &[cookie, "X-Canary: never"]).await;
            assert_eq!((answer.name(), answer.header("set-cookie")), (&**name, None));
        }
    }
    main.update(vec![endpoint("four").await]);
    let answer = world.ask("GET /", &[&stays[0].1]).await;
    assert_eq!(answer.name(), "four", "the endpoint is gone");
    assert!(answer.header("set-cookie").is_some());
}

#[tokio::test]
async fn errors_that_another_backend_explains() {
    let app = upstream("app", &[endpoint("app").await]);
    let pages = upstream("pages", &[endpoint("pages").await]);
    let errors = |codes: &[u16], backend| {
        let codes = codes.iter().map(|code| StatusCode::from_u16(*code).unwrap()).collect();
        Policy { errors: Some(Arc::new(Errors { codes, backend })), ..Policy::default() }
    };
    let world = World::new(route(&app, errors(&[404, 503], Some(pages.clone())))).await;
    assert_eq!(world.ask("GET /x", &["Want: 500"]).await.name(), "app");
    let answer = world.ask("POST /x?y", &["Want: 404", "Accept: text/html", "X-Request-ID: abc"]).await;
    assert_eq!((answer.name(), answer.target(), answer.status), ("pages", "/?y", 200));
    let told = [
        ("x-code", "404"),
        ("x-format", "text/html"),
        ("x-original-uri", "/x?y"),
        ("x-namespace", "default"),
        ("x-ingress-name", "app"),
        ("x-service-name", "app"),
        ("x-service-port", "http"),
        ("x-request-id", "abc"),
        ("x-forwarded-for", "127.0.0.1"),
        ("host", "app.com"),
    ];
    for (name, value) in told {
        assert_eq!(answer.saw(name), Some(value), "{name}");
    }
    let answer = world.ask("GET /", &["Want: 404"]).await;
    assert_eq!(answer.saw("x-request-id").map(str::len), Some(32), "one of its own");
    let users = Users { realm: "app".into(), passwords: vec![("ann".into(), "{PLAIN}a".into())] };
    let policy = Policy { auth: Some(Arc::new(users)), ..errors(&[401], Some(pages.clone())) };
    let answer = World::new(route(&app, policy)).await.ask("GET /", &[]).await;
    assert_eq!((answer.name(), answer.header("www-authenticate")), ("pages", Some("Basic realm=\"app\"")));
    let world = World::new(route(&upstream("app", &[]), errors(&[], Some(pages)))).await;
    assert_eq!(world.ask("GET /", &[]).await.saw("x-code"), Some("503"), "no endpoints");
    let world = World::new(route(&app, errors(&[404], None))).await;
    assert_eq!(world.ask("GET /", &["Want: 404"]).await.status, 404, "nobody explains it");
}
