use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use serde_json::json;
use state::Snapshot;
use tokio::sync::watch::{Receiver, Sender, channel};
use tokio::task::JoinHandle;

use super::*;
use crate::fixture;

mod edges;

/// How long a test waits for what must come.
const DEADLINE: Duration = Duration::from_secs(10);

/// A UDP socket and a TCP listener at one port of loopback.
fn pair() -> (UdpSocket, TcpListener, SocketAddr) {
    for _ in 0..100 {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = udp.local_addr().unwrap();
        if let Ok(tcp) = TcpListener::bind(address) {
            return (udp, tcp, address);
        }
    }
    panic!("no port is free for both UDP and TCP");
}

struct Running {
    address: SocketAddr,
    snapshots: Sender<Arc<Snapshot>>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

async fn start(snapshot: Arc<Snapshot>, upstreams: Vec<SocketAddr>) -> Running {
    let (snapshots, receiver) = channel(snapshot);
    let mut corefile = ".:53 {\n kubernetes cluster.local in-addr.arpa\n".to_owned();
    if !upstreams.is_empty() {
        let to: String = upstreams.iter().map(|address| format!(" {address}")).collect();
        corefile += &format!(" forward .{to}\n");
    }
    let address = free();
    let server = bind(&(corefile + "}\n"), address, receiver).await.unwrap();
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let task = tokio::spawn(async move { server.run(stop).await });
    Running { address, snapshots, shutdown, task }
}

/// A server of this Corefile, whose port 53 is `address`.
async fn bind(corefile: &str, address: SocketAddr, snapshots: Receiver<Arc<Snapshot>>) -> Result<Server, Error> {
    let Sockets { udp, tcp } = Sockets::host();
    let sockets = Sockets { udp: Arc::new(move |_| udp(address)), tcp: Arc::new(move |_| tcp(address)) };
    let config = Config { corefile: corefile.to_owned(), address: Some([10, 96, 0, 10].into()), port: 53 };
    Server::bind(config, sockets, Arc::new(move |_| snapshots.clone())).await
}

/// A port of loopback that nobody has.
fn free() -> SocketAddr {
    pair().2
}

impl Running {
    async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(DEADLINE, self.task).await.expect("it stops").unwrap();
        // A process that another test starts holds copies of our sockets until its exec.
        let deadline = std::time::Instant::now() + DEADLINE;
        while UdpSocket::bind(self.address).is_err() {
            assert!(std::time::Instant::now() < deadline, "the port is not free again");
        }
    }

    async fn udp(&self, name: &str, kind: RecordType) -> Message {
        let address = self.address;
        let packet = question(name, kind);
        tokio::task::spawn_blocking(move || by_udp(address, &packet)).await.unwrap()
    }

    async fn tcp(&self, name: &str, kind: RecordType) -> Message {
        let address = self.address;
        let packet = question(name, kind);
        tokio::task::spawn_blocking(move || {
            let mut stream = connect(address);
            send(&mut stream, &packet);
            receive(&mut stream)
        })
        .await
        .unwrap()
    }
}

fn question(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message.to_vec().unwrap()
}

fn by_udp(address: SocketAddr, packet: &[u8]) -> Message {
    let socket = UdpSocket::bind(if address.is_ipv6() { "[::1]:0" } else { "127.0.0.1:0" }).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.connect(address).unwrap();
    socket.send(packet).unwrap();
    let mut answer = [0; 4096];
    let length = socket.recv(&mut answer).unwrap();
    assert_eq!(answer[..2], packet[..2], "the id is the question's");
    Message::from_vec(&answer[..length]).unwrap()
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

fn send(stream: &mut TcpStream, packet: &[u8]) {
    stream.write_all(&(packet.len() as u16).to_be_bytes()).unwrap();
    stream.write_all(packet).unwrap();
}

fn receive(stream: &mut TcpStream) -> Message {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).unwrap();
    Message::from_vec(&answer).unwrap()
}

fn data(message: &Message) -> Vec<String> {
    let mut all: Vec<String> = message.answers.iter().map(|record| record.data.to_string()).collect();
    all.sort();
    all
}

/// A resolver of the outer world: A is 192.0.2.80; `long.` has records that need TCP.
fn upstream() -> SocketAddr {
    let (udp, tcp, address) = pair();
    let answer = |packet: &[u8], whole: bool| {
        let asked = Message::from_vec(packet).unwrap();
        let query = asked.queries[0].clone();
        let mut reply = Message::new(asked.metadata.id, MessageType::Response, OpCode::Query);
        let long = query.name().to_ascii() == "long.";
        reply.metadata.truncation = long && !whole;
        for i in 0..if long { 20 * u8::from(whole) } else { 1 } {
            let data = match query.query_type() {
                RecordType::TXT => RData::TXT(TXT::new(vec![format!("{i}-{}", "x".repeat(100))])),
                _ => RData::A(std::net::Ipv4Addr::new(192, 0, 2, 80).into()),
            };
            reply.add_answer(Record::from_rdata(query.name().clone(), 60, data));
        }
        reply.add_query(query);
        reply.to_vec().unwrap()
    };
    std::thread::spawn(move || {
        let mut packet = [0; 4096];
        while let Ok((length, from)) = udp.recv_from(&mut packet) {
            // First one that nobody asked for: a forger's.
            let mut forged = answer(&packet[..length], false);
            forged[0] ^= 0xff;
            udp.send_to(&forged, from).unwrap();
            udp.send_to(&answer(&packet[..length], false), from).unwrap();
        }
    });
    std::thread::spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            let mut length = [0; 2];
            while stream.read_exact(&mut length).is_ok() {
                let mut packet = vec![0; usize::from(u16::from_be_bytes(length))];
                stream.read_exact(&mut packet).unwrap();
                send(&mut stream, &answer(&packet, true));
            }
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn both_transports_and_new_snapshots() {
    let server = start(Arc::default(), vec![]).await;
    let early = server.udp("web.default.svc.cluster.local.", RecordType::A).await;
    assert_eq!(early.metadata.response_code, ResponseCode::ServFail, "nothing was listed yet");
    let mut index = fixture::cluster();
    server.snapshots.send(index.snapshot()).unwrap();
    let deadline = std::time::Instant::now() + DEADLINE;
    while server.udp("web.default.svc.cluster.local.", RecordType::A).await.answers.is_empty() {
        assert!(std::time::Instant::now() < deadline, "the snapshot is not taken over");
    }
    for message in [
        server.udp("db.default.svc.cluster.local.", RecordType::A).await,
        server.tcp("db.default.svc.cluster.local.", RecordType::A).await,
    ] {
        assert_eq!(data(&message), ["10.244.0.7", "10.244.0.8"]);
        assert!(message.metadata.authoritative && message.metadata.recursion_available);
    }
    let srv = server.udp("_pg._tcp.db.default.svc.cluster.local.", RecordType::SRV).await;
    assert_eq!((srv.answers.len(), srv.additionals.len()), (2, 2));
    let absent = server.udp("x.default.svc.cluster.local.", RecordType::A).await;
    assert_eq!((absent.metadata.response_code, absent.authorities.len()), (ResponseCode::NXDomain, 1));

    // More endpoints than a datagram holds.
    let addresses: Vec<String> = (1..=200).map(|i| format!("10.244.1.{i}")).collect();
    let endpoints: Vec<_> = addresses.iter().map(|address| (address.as_str(), "", true)).collect();
    index.apply(fixture::slice("default", "none", json!([]), &endpoints));
    server.snapshots.send(index.snapshot()).unwrap();
    while server.udp("none.default.svc.cluster.local.", RecordType::A).await.answers.is_empty() {
        assert!(std::time::Instant::now() < deadline, "the snapshot is not taken over");
    }
    let cut = server.udp("none.default.svc.cluster.local.", RecordType::A).await;
    assert!(cut.metadata.truncation && cut.answers.len() < 32);
    assert_eq!(server.tcp("none.default.svc.cluster.local.", RecordType::A).await.answers.len(), 200);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn others_names_are_forwarded() {
    let (dead, _, address) = pair();
    drop(dead);
    let server = start(fixture::cluster().snapshot(), vec![address, upstream()]).await;
    let found = server.udp("www.example.org.", RecordType::A).await;
    assert_eq!(data(&found), ["192.0.2.80"]);
    assert!(!found.metadata.authoritative);
    let alias = server.udp("ext.default.svc.cluster.local.", RecordType::A).await;
    assert_eq!(data(&alias), ["192.0.2.80", "www.example.org."]);
    let cut = server.udp("long.", RecordType::TXT).await;
    assert!(cut.metadata.truncation && cut.answers.len() < 20);
    assert_eq!(server.tcp("long.", RecordType::TXT).await.answers.len(), 20);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_resolver_is_left_for_the_next() {
    let (_silent, _, address) = pair();
    let server = start(fixture::cluster().snapshot(), vec![address, upstream()]).await;
    assert_eq!(data(&server.udp("www.example.org.", RecordType::A).await), ["192.0.2.80"]);
    // From now on the one that answers is asked first.
    let begin = std::time::Instant::now();
    for _ in 0..5 {
        assert_eq!(data(&server.udp("www.example.org.", RecordType::A).await), ["192.0.2.80"]);
    }
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_resolvers_others_names_fail() {
    let server = start(fixture::cluster().snapshot(), vec![]).await;
    let failed = server.udp("www.example.org.", RecordType::A).await;
    assert_eq!(failed.metadata.response_code, ResponseCode::ServFail);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resolver_that_asks_us_is_left_alone() {
    let (resolver, address) = (UdpSocket::bind("127.0.0.1:0").unwrap(), free());
    let corefile = format!(".:53 {{\n loop\n forward . {}\n}}\n", resolver.local_addr().unwrap());
    let relayed = Arc::new(AtomicUsize::new(0));
    let counted = relayed.clone();
    std::thread::spawn(move || {
        let (mut packet, us) = ([0; 4096], UdpSocket::bind("127.0.0.1:0").unwrap());
        us.set_read_timeout(Some(DEADLINE)).unwrap();
        us.connect(address).unwrap();
        while let Ok((length, from)) = resolver.recv_from(&mut packet) {
            counted.fetch_add(1, Ordering::Relaxed);
            us.send(&packet[..length]).unwrap();
            if let Ok(length) = us.recv(&mut packet) {
                resolver.send_to(&packet[..length], from).unwrap();
            }
        }
    });
    let (_sender, snapshots) = channel(fixture::cluster().snapshot());
    let server = bind(&corefile, address, snapshots).await.unwrap();
    let alone = |name: String| {
        let relayed = relayed.clone();
        tokio::task::spawn_blocking(move || {
            let before = relayed.load(Ordering::Relaxed);
            let answer = by_udp(address, &question(&name, RecordType::A));
            assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
            relayed.load(Ordering::Relaxed) == before
        })
    };
    // To find the loop takes eight seconds.
    let deadline = std::time::Instant::now() + DEADLINE * 6;
    while relayed.load(Ordering::Relaxed) == 0 {
        assert!(std::time::Instant::now() < deadline, "nothing is asked at the start");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for number in 0.. {
        if alone(format!("{number}.example.org.")).await.unwrap() {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "the loop is not found");
    }
    let stop = CancellationToken::new();
    stop.cancel();
    server.run(stop).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_questions_on_one_connection() {
    let server = start(fixture::cluster().snapshot(), vec![upstream()]).await;
    let address = server.address;
    let asked = tokio::task::spawn_blocking(move || {
        let mut stream = connect(address);
        let names = ["web.default.svc.cluster.local.", "nope.cluster.local.", "www.example.org."];
        let packets: Vec<Vec<u8>> = (0..90).map(|i| question(names[i % 3], RecordType::A)).collect();
        for packet in &packets {
            send(&mut stream, packet);
        }
        // Half closed: what was asked is answered all the same.
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answers: Vec<[u8; 2]> =
            packets.iter().map(|_| receive(&mut stream).metadata.id.to_be_bytes()).collect();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "then it is closed");
        let mut asked: Vec<[u8; 2]> = packets.iter().map(|packet| [packet[0], packet[1]]).collect();
        asked.sort();
        answers.sort();
        asked == answers
    });
    assert!(asked.await.unwrap());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn edns_of_another_version_and_odd_packets() {
    let server = start(fixture::cluster().snapshot(), vec![]).await;
    let address = server.address;
    let codes = tokio::task::spawn_blocking(move || {
        let mut message = Message::from_vec(&question("cluster.local.", RecordType::SOA)).unwrap();
        let mut edns = Edns::new();
        edns.set_version(1);
        message.set_edns(edns);
        let versions = by_udp(address, &message.to_vec().unwrap());
        let mut update = question("cluster.local.", RecordType::A);
        update[2] = 0x28;
        let update = by_udp(address, &update);
        let mut two = question("cluster.local.", RecordType::A);
        two[5] = 2;
        [versions, update, by_udp(address, &two)].map(|m| u16::from(m.metadata.response_code))
    });
    let want = [ResponseCode::BADVERS, ResponseCode::NotImp, ResponseCode::FormErr];
    assert_eq!(codes.await.unwrap(), want.map(u16::from));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dig_understands_it() {
    let server = start(fixture::cluster().snapshot(), vec![]).await;
    let port = server.address.port().to_string();
    for transport in ["+notcp", "+tcp"] {
        let mut dig = Command::new("dig");
        dig.args(["@127.0.0.1", "-p", &port, "+tries=1", transport, "Web.default.svc.cluster.local", "A"]);
        let run = move || dig.output().expect("dig runs (install dnsutils)");
        let output = tokio::task::spawn_blocking(run).await.unwrap();
        let words: Vec<String> =
            String::from_utf8_lossy(&output.stdout).split_whitespace().map(str::to_owned).collect();
        let text = words.join(" ");
        assert!(text.contains("Web.default.svc.cluster.local. 5 IN A 10.96.0.20"), "{text}");
        assert!(text.contains("flags: qr aa rd ra;") && !text.contains("recursion requested"), "{text}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_loses_no_question() {
    let address = free();
    let (_sender, snapshots) = channel(fixture::cluster().snapshot());
    let corefile = |domain: &str| format!(".:53 {{\n kubernetes {domain}\n}}\n");
    let server = Arc::new(bind(&corefile("cluster.local"), address, snapshots).await.unwrap());
    let (done, counts) = (Arc::new(AtomicBool::new(false)), <[Arc<AtomicUsize>; 3]>::default());
    let stream = |index: usize, domain: &'static str, by_tcp: bool| {
        let (done, count) = (done.clone(), counts[index].clone());
        tokio::task::spawn_blocking(move || {
            let name = format!("web.default.svc.{domain}.");
            let (mut codes, mut stream) = (std::collections::BTreeSet::new(), connect(address));
            while !done.load(Ordering::Relaxed) {
                let packet = question(&name, RecordType::A);
                let answer = match by_tcp {
                    true => {
                        send(&mut stream, &packet);
                        receive(&mut stream)
                    }
                    false => by_udp(address, &packet),
                };
                codes.insert(u16::from(answer.metadata.response_code));
                count.fetch_add(1, Ordering::Relaxed);
            }
            codes
        })
    };
    let streams = [stream(0, "cluster.local", false), stream(1, "other.local", false), stream(2, "other.local", true)];
    for i in 0..60 {
        server.reload(&corefile(["other.local", "cluster.local"][i % 2])).await.unwrap();
        let wrong = server.reload(".:53 {\n kubernetes cluster.local\n nonsense\n}\n").await.unwrap_err();
        assert_eq!(wrong.to_string(), "Corefile:3: unknown plugin \"nonsense\"");
        // Each of them meets each configuration.
        let asked = || counts.iter().map(|count| count.load(Ordering::Relaxed));
        let before: Vec<usize> = asked().collect();
        while asked().zip(&before).any(|(now, before)| now < before + 2) {
            assert!(streams.iter().all(|stream| !stream.is_finished()), "a question is lost");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    done.store(true, Ordering::Relaxed);
    for stream in streams {
        // Each question was answered, or its stream had panicked; by the one configuration and the other.
        let codes: Vec<u16> = stream.await.unwrap().into_iter().collect();
        assert_eq!(codes, [ResponseCode::NoError, ResponseCode::ServFail].map(u16::from));
    }
    let stop = CancellationToken::new();
    stop.cancel();
    server.run(stop).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wildcard_socket_answers_from_the_address_that_was_asked() {
    let (_sender, snapshots) = channel(fixture::cluster().snapshot());
    for wildcard in ["0.0.0.0", "::"] {
        let port = free().port();
        let address = SocketAddr::new(wildcard.parse().unwrap(), port);
        // A ready answer, and one of the chain.
        let server = bind(".:53 {\n kubernetes cluster.local\n}\n", address, snapshots.clone()).await.unwrap();
        let asked = tokio::task::spawn_blocking(move || {
            for to in ["127.0.0.1", "127.0.0.2", "::1"].iter().filter(|to| wildcard == "::" || !to.contains(':')) {
                for kind in [RecordType::A, RecordType::SOA] {
                    // The socket is connected: it takes no answer from another address.
                    let answer = by_udp(
                        (to.parse::<IpAddr>().unwrap(), port).into(),
                        &question("web.default.svc.cluster.local.", kind),
                    );
                    assert_eq!(answer.metadata.response_code, ResponseCode::NoError, "{to} {kind}");
                }
            }
        });
        asked.await.unwrap();
        let stop = CancellationToken::new();
        stop.cancel();
        server.run(stop).await;
    }
}

#[tokio::test]
async fn a_block_listens_where_it_is_bound() {
    let (asked, host) = (Arc::new(std::sync::Mutex::new(Vec::new())), Sockets::host());
    let (noted, free) = (asked.clone(), free());
    let tcp = Arc::new(move |address| {
        noted.lock().unwrap().push(address);
        (host.tcp)((free.ip(), 0).into())
    });
    let sockets = Sockets { udp: Arc::new(move |_| (Sockets::host().udp)(free)), tcp };
    let corefile = ".:54 {\n bind 127.0.0.1 ::1\n}\n.:54 {\n bind 127.0.0.2\n}\n. {\n}\n";
    let (_, snapshots) = channel(fixture::cluster().snapshot());
    let config = Config { corefile: corefile.into(), address: None, port: 53 };
    let server = Server::bind(config, sockets, Arc::new(move |_| snapshots.clone())).await.unwrap();
    let asked: Vec<String> = asked.lock().unwrap().iter().map(SocketAddr::to_string).collect();
    assert_eq!(asked, ["127.0.0.1:54", "127.0.0.2:54", "[::]:53", "[::1]:54"]);
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_an_imported_file_is_a_change() {
    let folder = std::env::temp_dir().join(format!("coracle-dns-import-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    write("Corefile", ". {\n import *.part\n reload 2s\n}\n");
    write("one.part", "hosts {\n 192.0.2.1 a.example\n}\n");
    let (_sender, snapshots) = channel(fixture::cluster().snapshot());
    let (address, corefile) = (free(), format!("import \"{}\"\n", folder.join("Corefile").display()));
    let server = bind(&corefile, address, snapshots).await.unwrap();
    assert_eq!(server.interval().await, Some(Duration::from_secs(2)));
    let ask = || async move {
        let packet = question("a.example.", RecordType::A);
        data(&tokio::task::spawn_blocking(move || by_udp(address, &packet)).await.unwrap())
    };
    assert_eq!(ask().await, ["192.0.2.1"]);
    write("one.part", "hosts {\n 192.0.2.2 a.example\n}\n");
    server.reload(&corefile).await.unwrap();
    assert_eq!(ask().await, ["192.0.2.2"]);
    write("one.part", "\nhots\n");
    let error = server.reload(&corefile).await.unwrap_err().to_string();
    assert_eq!(error, format!("{}:2: unknown plugin \"hots\"", folder.join("one.part").display()));
    assert_eq!(ask().await, ["192.0.2.2"]);
    write("Corefile", ". {\n whoami\n}\n");
    server.reload(&corefile).await.unwrap();
    assert_eq!((server.interval().await, ask().await.len()), (None, 0));
    std::fs::remove_dir_all(&folder).unwrap();
}
