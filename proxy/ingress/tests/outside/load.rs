//! Requests go on while everything else changes: none fails.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ingress::{Certificates, Policy};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::authority::Authority;
use crate::message::{Message, Raw, request};
use crate::world::{PATIENCE, World, echo, endpoint, said, table};

/// How many ask at once.
const CLIENTS: usize = 8;
/// How many requests are enough for one change.
const ENOUGH: usize = 100;

/// How often clients were answered so far: well, or that there is nobody.
#[derive(Default)]
struct Answers {
    well: AtomicUsize,
    nobody: AtomicUsize,
}

impl Answers {
    fn take(&self, answer: &Message) {
        match answer.status() {
            200 => self.well.fetch_add(1, Ordering::Relaxed),
            503 => self.nobody.fetch_add(1, Ordering::Relaxed),
            _ => panic!("{answer:?}"),
        };
    }

    /// Waits for more of these.
    async fn more(&self, count: &AtomicUsize) {
        let before = count.load(Ordering::Relaxed);
        let enough = async {
            while count.load(Ordering::Relaxed) < before + ENOUGH {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, enough).await.expect("answers");
    }
}

/// Clients that ask all the time, over connections that stay, with bodies and without.
async fn asking(at: SocketAddr, answers: &Answers) {
    let clients = (0..CLIENTS).map(async |number| {
        let mut client = Raw::connect(at).await;
        for id in 0.. {
            let method = ["GET", "POST"][(number + id) % 2];
            let id = format!("{number}-{id}");
            let answer = timeout(PATIENCE, client.ask(&request(method, "/", &id, "abc"))).await.expect("an answer");
            answers.take(&answer);
            assert!(answer.status() == 503 || answer.text() == format!("{id} / 3"), "{answer:?}");
        }
    });
    futures::future::join_all(clients).await;
}

/// An endpoint that leaves as pods do that are told to: it answers what it has, and then closes.
async fn leaving(stop: CancellationToken) -> SocketAddr {
    endpoint(move |stream: TcpStream, _| {
        let stop = stop.clone();
        async move {
            stream.set_nodelay(true).unwrap();
            let mut stream = tokio::io::BufReader::new(stream);
            loop {
                let next = stop.run_until_cancelled(Message::request(&mut stream)).await;
                let Some(Ok(Some(request))) = next else { return };
                tokio::io::AsyncWriteExt::write_all(&mut stream, said(&request).as_bytes()).await.unwrap();
            }
        }
    })
    .await
}

#[tokio::test]
async fn endpoints_come_and_go() {
    let world = World::new(Vec::new());
    let (answers, mut endpoints) = (Answers::default(), Vec::new());
    for _ in 0..3 {
        let stop = CancellationToken::new();
        endpoints.push((leaving(stop.clone()).await, stop));
    }
    let tell = |endpoints: &[(SocketAddr, CancellationToken)]| {
        world.upstream.update(endpoints.iter().map(|(at, _)| *at).collect());
    };
    tell(&endpoints);
    let changes = async {
        for _ in 0..12 {
            let stop = CancellationToken::new();
            endpoints.push((leaving(stop.clone()).await, stop));
            let (_, gone) = endpoints.remove(0);
            tell(&endpoints);
            // What preStop is for: requests that were on their way still arrive.
            answers.more(&answers.well).await;
            gone.cancel();
            answers.more(&answers.well).await;
        }
        assert_eq!(answers.nobody.load(Ordering::Relaxed), 0);
        tell(&[]);
        answers.more(&answers.nobody).await;
        tell(&endpoints);
        // Those on their way may still hear of nobody.
        answers.more(&answers.well).await;
        let nobody = answers.nobody.load(Ordering::Relaxed);
        answers.more(&answers.well).await;
        assert_eq!(answers.nobody.load(Ordering::Relaxed), nobody);
    };
    tokio::select! {
        () = asking(world.at, &answers) => unreachable!("they ask for ever"),
        () = changes => {}
    }
}

#[tokio::test]
async fn tables_and_certificates_change() {
    let (at, seen) = echo().await;
    let world = World::new(vec![at]);
    let authority = Authority::new();
    let certificates = || {
        let host = |name: &str| (name.into(), authority.issue(&[name]));
        Certificates {
            hosts: [host("app.com"), host("*.app.com")].into(),
            default: Some(authority.issue(&["default"])),
        }
    };
    world.table.send_replace(Arc::new(table(&world.upstream, Policy::default(), certificates())));
    let (answers, handshakes) = (Answers::default(), Answers::default());
    let connecting = async {
        for number in 0_usize.. {
            let name = ["app.com", "www.app.com"][number % 2];
            let mut client = authority.connect(world.tls, name).await;
            for id in 0..3 {
                let answer = client.ask(&request("GET", "/", &id.to_string(), "")).await;
                assert_eq!(answer.text(), format!("{id} / 0"));
            }
            handshakes.well.fetch_add(3, Ordering::Relaxed);
        }
    };
    let staying = async {
        let mut client = authority.connect(world.tls, "app.com").await;
        loop {
            answers.take(&client.ask(&request("POST", "/", "1", "abc")).await);
        }
    };
    let changing = async {
        for _ in 0..10 {
            for _ in 0..20 {
                world.table.send_replace(Arc::new(table(&world.upstream, Policy::default(), certificates())));
                tokio::task::yield_now().await;
            }
            answers.more(&answers.well).await;
            handshakes.more(&handshakes.well).await;
        }
    };
    tokio::select! {
        () = connecting => unreachable!("for ever"),
        () = staying => unreachable!("for ever"),
        () = asking(world.at, &answers) => unreachable!("for ever"),
        () = changing => {}
    }
    assert!(seen.wrong.lock().unwrap().is_empty());
}

/// Who is shown what (RFC 6066, section 3), and that a new certificate is shown from then on.
#[tokio::test]
async fn names_get_their_certificates() {
    let (at, _) = echo().await;
    let world = World::new(vec![at]);
    let authority = Authority::new();
    let [exact, wildcard, default, renewed] =
        [&["app.com"][..], &["*.app.com"], &["default.test"], &["app.com"]].map(|names| authority.issue(names));
    let tell = |exact: &Arc<rustls::sign::CertifiedKey>, default| {
        let hosts = [("app.com".into(), exact.clone()), ("*.app.com".into(), wildcard.clone())].into();
        let certificates = Certificates { hosts, default };
        world.table.send_replace(Arc::new(table(&world.upstream, Policy::default(), certificates)));
    };
    tell(&exact, Some(default.clone()));
    let cases = [
        ("app.com", &exact),
        ("APP.com", &exact),
        ("www.app.com", &wildcard),
        ("a.b.app.com", &default),
        ("other.com", &default),
        ("192.0.2.1", &default),
    ];
    for (name, expected) in cases {
        assert_eq!(authority.shown(world.tls, name).await, Ok(expected.cert[0].clone()), "{name}");
    }
    tell(&renewed, None);
    assert_eq!(authority.shown(world.tls, "app.com").await, Ok(renewed.cert[0].clone()));
    authority.shown(world.tls, "other.com").await.expect_err("there is nothing for it");
}
