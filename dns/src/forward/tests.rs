use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::AtomicBool;

use futures::future::join_all;
use hickory_proto::op::{Edns, MessageType, OpCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record};
use rcgen::{CertificateParams, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::*;

/// How long a test waits for what must come.
const DEADLINE: Duration = Duration::from_secs(10);

/// What a resolver sends back: nothing, one packet, or several.
type Answers = Arc<dyn Fn(&Message, bool) -> Vec<Vec<u8>> + Send + Sync>;

/// A resolver on loopback, until it is dropped.
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    udp: Arc<AtomicUsize>,
    tcp: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Peer {
    pub(crate) async fn new(answers: impl Fn(&Message, bool) -> Vec<Vec<u8>> + Send + Sync + 'static) -> Self {
        Self::with(Arc::new(answers), None, usize::MAX).await
    }

    /// Over TLS, and with connections that are closed after so many answers.
    async fn with(answers: Answers, tls: Option<TlsAcceptor>, answered: usize) -> Self {
        let (socket, listener) = loop {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            if let Ok(socket) = UdpSocket::bind(listener.local_addr().unwrap()).await {
                break (socket, listener);
            }
        };
        let address = socket.local_addr().unwrap();
        let [udp, tcp, connections] = <[Arc<AtomicUsize>; 3]>::default();
        let mut tasks = JoinSet::new();
        let (counted, datagrams) = (udp.clone(), answers.clone());
        tasks.spawn(async move {
            let mut packet = [0; 4096];
            loop {
                let (length, from) = socket.recv_from(&mut packet).await.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                for answer in datagrams(&Message::from_vec(&packet[..length]).unwrap(), false) {
                    socket.send_to(&answer, from).await.unwrap();
                }
            }
        });
        let (counted, accepted) = (tcp.clone(), connections.clone());
        tasks.spawn(async move {
            let mut streams = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                accepted.fetch_add(1, Ordering::SeqCst);
                let (answers, counted, tls) = (answers.clone(), counted.clone(), tls.clone());
                streams.spawn(async move {
                    match tls {
                        None => serve(stream, answers, counted, answered).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => serve(stream, answers, counted, answered).await,
                            Err(_) => None,
                        },
                    }
                });
            }
        });
        Peer { address, udp, tcp, connections, _tasks: tasks }
    }

    fn asked(&self) -> (usize, usize) {
        (self.udp.load(Ordering::SeqCst), self.tcp.load(Ordering::SeqCst))
    }

    fn target(&self) -> Target {
        Target { address: self.address, tls: None }
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    answers: Answers,
    counted: Arc<AtomicUsize>,
    answered: usize,
) -> Option<()> {
    for _ in 0..answered {
        let mut packet = vec![0; stream.read_u16().await.ok()?.into()];
        stream.read_exact(&mut packet).await.ok()?;
        counted.fetch_add(1, Ordering::SeqCst);
        for answer in answers(&Message::from_vec(&packet).unwrap(), true) {
            stream.write_u16(answer.len() as u16).await.ok()?;
            stream.write_all(&answer).await.ok()?;
        }
        stream.flush().await.ok()?;
    }
    Some(())
}

pub(crate) fn reply(asked: &Message, code: ResponseCode, address: u8) -> Message {
    let mut reply = Message::new(asked.metadata.id, MessageType::Response, OpCode::Query);
    reply.metadata.response_code = code;
    reply.edns = asked.edns.as_ref().map(|_| Edns::new());
    reply.queries = asked.queries.clone();
    if code == ResponseCode::NoError {
        let data = RData::A(A(Ipv4Addr::new(192, 0, 2, address)));
        reply.add_answer(Record::from_rdata(asked.queries[0].name().clone(), 60, data));
    }
    reply
}

pub(crate) fn packet(reply: &Message) -> Vec<Vec<u8>> {
    vec![reply.to_vec().unwrap()]
}

/// A resolver that answers with this address.
pub(crate) async fn good(address: u8) -> Peer {
    Peer::new(move |asked, _| packet(&reply(asked, ResponseCode::NoError, address))).await
}

async fn silent() -> Peer {
    Peer::new(|_, _| Vec::new()).await
}

fn upstreams(targets: Vec<Target>, change: impl FnOnce(&mut Settings)) -> Arc<Upstreams> {
    let mut settings = Settings::standard().unwrap();
    settings.policy = Policy::Sequential;
    settings.limits.patience = Duration::from_secs(1);
    settings.check_interval = Duration::from_millis(10);
    change(&mut settings);
    Arc::new(Upstreams::new(targets, settings, Arc::default()))
}

fn question(name: &str) -> Question {
    Question::check(Query::query(Name::from_ascii(name).unwrap(), RecordType::A), true).unwrap()
}

/// The last part of the address that comes back, the code without one, or why there is nothing.
async fn ask(upstreams: &Arc<Upstreams>, name: &str, tcp: bool) -> String {
    let answer = timeout(DEADLINE, upstreams.clone().ask(question(name), tcp)).await.expect("an end in time");
    match answer {
        Ok(message) => match message.answers.first().map(|record| &record.data) {
            Some(RData::A(A(address))) => address.octets()[3].to_string(),
            _ => crate::rcode::name(message.metadata.response_code),
        },
        Err(reason) => reason.to_string(),
    }
}

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn policies() {
    let draw = || 1;
    assert_eq!(order(Policy::Sequential, 3, 5, draw), [0, 1, 2]);
    assert_eq!(order(Policy::RoundRobin, 3, 5, draw), [2, 0, 1]);
    assert_eq!(order(Policy::Random, 3, 5, draw), [0, 2, 1]);
    assert_eq!(order(Policy::RoundRobin, 0, 5, draw), [0; 0]);
    let all = (0..100).map(|seed| {
        let mut numbers = crate::fixture::Seeded(seed + 1);
        let drawn = std::cell::RefCell::new(&mut numbers);
        order(Policy::Random, 3, 0, || drawn.borrow_mut().next() as usize >> 8)
    });
    assert_eq!(all.collect::<std::collections::BTreeSet<_>>().len(), 6);
}

#[tokio::test]
async fn forged_answers_are_waited_past() {
    let peer = Peer::new(|asked, _| {
        let honest = packet(&reply(asked, ResponseCode::NoError, 1)).remove(0);
        let mut lies = vec![honest.clone(); 3];
        lies[0][0] ^= 0xff;
        lies[1][13] ^= 1;
        lies[2].truncate(7);
        [lies, vec![vec![0xff; 300], honest]].concat()
    })
    .await;
    let upstreams = upstreams(vec![peer.target()], |_| {});
    assert_eq!(ask(&upstreams, "www.example.", false).await, "1");
    assert_eq!(peer.asked(), (1, 0));
}

#[tokio::test]
async fn a_broken_answer_is_none() {
    let broken = Peer::new(|asked, _| {
        let mut packet = packet(&reply(asked, ResponseCode::NoError, 1));
        packet[0].truncate(40);
        packet
    });
    let (broken, second) = (broken.await, good(2).await);
    let upstreams = upstreams(vec![broken.target(), second.target()], |_| {});
    assert_eq!(ask(&upstreams, "www.example.", false).await, "2");
}

#[tokio::test]
async fn what_is_cut_comes_by_tcp() {
    let cut = |tcp: bool, asked: &Message| {
        let mut cut = reply(asked, ResponseCode::NoError, if tcp { 2 } else { 1 });
        cut.metadata.truncation = !tcp;
        packet(&cut)
    };
    let peer = Peer::new(move |asked, tcp| cut(tcp, asked)).await;
    let whole = upstreams(vec![peer.target()], |_| {});
    assert_eq!(ask(&whole, "www.example.", false).await, "2");
    assert_eq!(peer.asked(), (1, 1));
    // Without TCP the part is better than nothing.
    let peer = Peer::new(move |asked, tcp| if tcp { Vec::new() } else { cut(false, asked) }).await;
    let part = upstreams(vec![peer.target()], |_| {});
    assert_eq!(ask(&part, "www.example.", false).await, "1");
}

#[tokio::test]
async fn transports() {
    type Row = (bool, fn(&mut Settings), (usize, usize));
    let table: [Row; 5] = [
        (false, |_| {}, (1, 0)),
        (true, |_| {}, (0, 1)),
        (false, |settings| settings.force_tcp = true, (0, 1)),
        (true, |settings| settings.prefer_udp = true, (1, 0)),
        (true, |settings| (settings.prefer_udp, settings.force_tcp) = (true, true), (0, 1)),
    ];
    for (row, (tcp, change, want)) in table.into_iter().enumerate() {
        let peer = good(1).await;
        assert_eq!(ask(&upstreams(vec![peer.target()], change), "www.example.", tcp).await, "1");
        assert_eq!(peer.asked(), want, "row {row}");
    }
}

#[tokio::test]
async fn without_edns() {
    let peer = Peer::new(|asked, _| {
        let code = if asked.edns.is_some() { ResponseCode::FormErr } else { ResponseCode::NoError };
        let mut reply = reply(asked, code, 1);
        reply.edns = None;
        packet(&reply)
    });
    let peer = peer.await;
    assert_eq!(ask(&upstreams(vec![peer.target()], |_| {}), "www.example.", false).await, "1");
}

#[tokio::test]
async fn a_silent_resolver_is_asked_last_until_it_speaks() {
    let speaks = Arc::new(AtomicBool::new(false));
    let spoken = speaks.clone();
    let first = Peer::new(move |asked, _| match spoken.load(Ordering::SeqCst) {
        true => packet(&reply(asked, ResponseCode::NoError, 1)),
        false => Vec::new(),
    });
    let (first, second) = (first.await, good(2).await);
    let upstreams = upstreams(vec![first.target(), second.target()], |_| {});
    assert_eq!(ask(&upstreams, "www.example.", false).await, "2");
    let begin = Instant::now();
    for _ in 0..20 {
        assert_eq!(ask(&upstreams, "www.example.", false).await, "2");
    }
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    eventually("two checks fail", || upstreams.all[0].down()).await;
    assert!(!upstreams.all[1].down() && !upstreams.all[1].suspected());
    speaks.store(true, Ordering::SeqCst);
    eventually("a check succeeds", || !upstreams.all[0].down() && !upstreams.all[0].suspected()).await;
    assert_eq!(ask(&upstreams, "www.example.", false).await, "1");
    let asked = first.asked();
    assert_eq!(ask(&upstreams, "www.example.", false).await, "1");
    assert_eq!(first.asked(), (asked.0 + 1, 0), "it is not checked any more");
}

#[tokio::test]
async fn all_are_down() {
    for failfast in [false, true] {
        let peer = silent().await;
        let upstreams = upstreams(vec![peer.target()], |settings| {
            settings.failfast = failfast;
            settings.max_fails = 1;
        });
        assert!(ask(&upstreams, "www.example.", false).await.ends_with("no answer in time"));
        eventually("a check fails", || upstreams.all[0].down()).await;
        let answer = ask(&upstreams, "www.example.", false).await;
        let want = if failfast { "all resolvers are down" } else { "no answer in time" };
        assert!(answer.ends_with(want), "{answer}");
        assert_eq!(upstreams.metrics.proxies.broken.load(Ordering::Relaxed), 1);
    }
    assert_eq!(ask(&upstreams(vec![], |_| {}), "www.example.", false).await, "no resolver is known");
}

#[tokio::test]
async fn attempts_are_limited() {
    let closed = good(1).await.address;
    for (attempts, want) in [(None, 2), (Some(1), 1), (Some(3), 3)] {
        let upstreams = upstreams(vec![Target { address: closed, tls: None }], |settings| {
            settings.max_connect_attempts = attempts;
            settings.max_fails = 0;
        });
        assert!(ask(&upstreams, "www.example.", false).await.contains("refused"));
        assert_eq!(upstreams.all[0].counts.hits_and_misses(), (0, want));
        assert!(!upstreams.all[0].suspected(), "nothing is checked");
    }
}

#[tokio::test]
async fn codes_are_passed_on_or_over() {
    let refusing = |code| Peer::new(move |asked, _| packet(&reply(asked, code, 0)));
    let (first, second) = (refusing(ResponseCode::ServFail).await, refusing(ResponseCode::Refused).await);
    let third = good(3).await;
    let all = [&first, &second, &third].map(Peer::target).to_vec();
    let codes = [ResponseCode::ServFail, ResponseCode::Refused];
    let ask_all = |targets: Vec<Target>, failover: &[ResponseCode]| {
        let failover = failover.to_vec();
        async move { ask(&upstreams(targets, |settings| settings.failover = failover), "www.example.", false).await }
    };
    assert_eq!(ask_all(all.clone(), &[]).await, "SERVFAIL");
    assert_eq!(ask_all(all.clone(), &codes).await, "3");
    assert_eq!(ask_all(all[..2].to_vec(), &codes).await, "REFUSED", "the last one's, when all decline");
}

#[tokio::test]
async fn equal_questions_are_one() {
    let open = Arc::new(tokio::sync::Semaphore::new(0));
    let (gate, tasks) = (open.clone(), tokio::runtime::Handle::current());
    // It answers the first try only when it is told to; there is no second one within patience.
    let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let address = socket.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let serving = tasks.spawn(async move {
        let mut packet = [0; 4096];
        loop {
            let (length, from) = socket.recv_from(&mut packet).await.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            let message = Message::from_vec(&packet[..length]).unwrap();
            let (socket, gate) = (socket.clone(), gate.clone());
            tokio::spawn(async move {
                let _permit = gate.acquire().await;
                socket.send_to(&reply(&message, ResponseCode::NoError, 1).to_vec().unwrap(), from).await.unwrap();
            });
        }
    });
    let target = Target { address, tls: None };
    let upstreams = upstreams(vec![target], |settings| settings.limits.patience = DEADLINE);
    let first = tokio::spawn(upstreams.clone().ask(question("www.example."), false));
    eventually("it is asked", || asked.load(Ordering::SeqCst) == 1).await;
    let same: Vec<_> = (0..50).map(|_| tokio::spawn(upstreams.clone().ask(question("www.example."), false))).collect();
    let other = tokio::spawn(upstreams.clone().ask(question("WWW.example."), false));
    eventually("another question is asked", || asked.load(Ordering::SeqCst) == 2).await;
    // The one that asked goes; the others still get their answer.
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    open.add_permits(1);
    for outcome in join_all(same).await.into_iter().chain([other.await]) {
        assert_eq!(outcome.unwrap().unwrap().answers.len(), 1);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    assert!(upstreams.flights.lock().unwrap().is_empty());
    // When nobody waits any more, the question is given up.
    open.forget_permits(1);
    let lonely = tokio::spawn(upstreams.clone().ask(question("www.example."), false));
    eventually("it is asked again", || asked.load(Ordering::SeqCst) == 3).await;
    lonely.abort();
    assert!(lonely.await.unwrap_err().is_cancelled());
    assert!(upstreams.flights.lock().unwrap().is_empty());
    serving.abort();
}

#[tokio::test]
async fn connections_are_kept_and_shared() {
    let peer = good(1).await;
    let upstreams = upstreams(vec![peer.target()], |settings| settings.limits.idle = 2);
    for _ in 0..5 {
        assert_eq!(ask(&upstreams, "www.example.", true).await, "1");
    }
    assert_eq!((peer.asked(), peer.connections.load(Ordering::SeqCst)), ((0, 5), 1));
    let names: Vec<String> = (0..100).map(|i| format!("{i}.example.")).collect();
    let answers = join_all(names.iter().map(|name| ask(&upstreams, name, true))).await;
    assert_eq!(answers, ["1"; 100]);
    assert_eq!((peer.asked(), peer.connections.load(Ordering::SeqCst)), ((0, 105), 2));
    assert_eq!(upstreams.all[0].counts.hits_and_misses(), (103, 2));
}

#[tokio::test]
async fn counts() {
    let (first, second) = (silent().await, good(2).await);
    let upstreams = upstreams(vec![first.target(), second.target()], |_| {});
    assert_eq!(ask(&upstreams, "www.example.", false).await, "2");
    assert_eq!(ask(&upstreams, "www.example.", true).await, "2");
    assert_eq!(ask(&upstreams, "www.example.", true).await, "2");
    eventually("two checks fail", || upstreams.all[0].down()).await;
    let mut out = crate::metrics::Exposition::default();
    upstreams.metrics.expose(&mut out);
    let (text, to) = (out.text(), |peer: &Peer| format!("proxy_name=\"forward\",to=\"{}\"", peer.address));
    for line in [
        "coredns_forward_healthcheck_broken_total 0".to_owned(),
        "coredns_forward_max_concurrent_rejects_total 0".to_owned(),
        format!("coredns_proxy_request_duration_seconds_count{{{},rcode=\"NOERROR\"}} 3", to(&second)),
        format!("coredns_proxy_conn_cache_hits_total{{{},proto=\"tcp\"}} 1", to(&second)),
        format!("coredns_proxy_conn_cache_misses_total{{{},proto=\"tcp\"}} 1", to(&second)),
        format!("coredns_proxy_conn_cache_misses_total{{{},proto=\"udp\"}} 1", to(&second)),
        format!("coredns_proxy_healthcheck_failures_total{{{}}} ", to(&first)),
    ] {
        assert!(text.lines().any(|found| found.starts_with(&line)), "{line}\n{text}");
    }
}

#[tokio::test]
async fn connections_end() {
    // By the resolver: the next question finds another one.
    let answers: Answers = Arc::new(|asked, _| packet(&reply(asked, ResponseCode::NoError, 1)));
    let peer = Peer::with(answers, None, 2).await;
    let closing = upstreams(vec![peer.target()], |settings| settings.max_connect_attempts = Some(1));
    for _ in 0..6 {
        assert_eq!(ask(&closing, "www.example.", true).await, "1");
    }
    assert_eq!(peer.connections.load(Ordering::SeqCst), 3);
    // By us, when they are idle for long, or old.
    let table: [fn(&mut Limits); 2] =
        [|limits| limits.expire = Duration::from_millis(1), |limits| limits.age = Duration::from_nanos(1)];
    for change in table {
        let peer = good(1).await;
        let upstreams = upstreams(vec![peer.target()], |settings| change(&mut settings.limits));
        let deadline = Instant::now() + DEADLINE;
        while peer.connections.load(Ordering::SeqCst) < 2 {
            assert!(Instant::now() < deadline, "the first connection is kept");
            assert_eq!(ask(&upstreams, "www.example.", true).await, "1");
            sleep(Duration::from_millis(2)).await;
        }
    }
}

#[tokio::test]
async fn over_tls() {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["dns.example".to_owned()]).unwrap().self_signed(&key).unwrap();
    let certificate: CertificateDer = certificate.der().clone();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = Arc::new(client);
    let answers: Answers = Arc::new(|asked, _| packet(&reply(asked, ResponseCode::NoError, 1)));
    let peer = Peer::with(answers, Some(TlsAcceptor::from(Arc::new(server))), usize::MAX).await;
    let named = |name: &str| {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let target = Target { address: peer.address, tls: Some((client.clone(), name)) };
        upstreams(vec![target], |settings| settings.limits.patience = Duration::from_secs(2))
    };
    let right = named("dns.example");
    for _ in 0..3 {
        assert_eq!(ask(&right, "www.example.", false).await, "1");
    }
    assert_eq!((peer.asked(), peer.connections.load(Ordering::SeqCst)), ((0, 3), 1));
    let wrong = ask(&named("other.example"), "www.example.", false).await;
    assert!(wrong.contains("certificate"), "{wrong}");
}
