use std::net::{IpAddr, Ipv4Addr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::cluster::{Cluster, PortOf};

mod frontends;
mod streams;

const DEADLINE: Duration = Duration::from_secs(10);
const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// Relays that follow a cluster of one Service, whose nodePort is free at first.
struct Lab {
    cluster: Cluster,
    ports: [PortOf; 2],
    at: SocketAddr,
    /// Where endpoints listen, on addresses of the loopback network.
    target: u16,
    snapshots: watch::Sender<Arc<Snapshot>>,
    shutdown: CancellationToken,
    running: JoinHandle<()>,
    refusals: Box<dyn Fn() -> u64>,
}

/// A port that nobody has, over TCP and UDP.
async fn free() -> u16 {
    loop {
        let tcp = TcpListener::bind((HERE, 0)).await.expect("a port");
        let port = tcp.local_addr().expect("an address").port();
        if UdpSocket::bind((HERE, port)).await.is_ok() {
            return port;
        }
    }
}

impl Lab {
    async fn new(edit: impl FnOnce(&mut Config)) -> Self {
        let (port, target) = (free().await, free().await);
        let ports = [(Protocol::Tcp, 80, Some(port)), (Protocol::Udp, 80, Some(port))];
        let mut config = Config::local("node");
        edit(&mut config);
        let (snapshots, receiver) = watch::channel(Arc::default());
        let shutdown = CancellationToken::new();
        let relays = Relays::new(config);
        let refusals = Box::new(relays.refusals());
        let running = tokio::spawn(relays.run(receiver, shutdown.clone()));
        let mut cluster = Cluster::new();
        cluster.service("web", "10.96.0.1", &ports);
        let at = SocketAddr::from((HERE, port));
        Lab { cluster, ports, at, target, snapshots, shutdown, running, refusals }
    }

    fn endpoints(&mut self, addresses: &[&str]) {
        self.cluster.endpoints("web", &self.ports, self.target, addresses);
        self.send();
    }

    fn send(&self) {
        self.snapshots.send(self.cluster.snapshot()).expect("relays");
    }

    /// A server that says its address, and then echoes until the client ends.
    async fn serve(&self, address: &'static str) {
        let listener = TcpListener::bind((address, self.target)).await.expect("a port");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    stream.write_all(address.as_bytes()).await?;
                    let (mut from, mut to) = stream.split();
                    tokio::io::copy(&mut from, &mut to).await?;
                    to.shutdown().await
                });
            }
        });
    }

    async fn serve_udp(&self, address: &'static str) -> JoinHandle<()> {
        let socket = UdpSocket::bind((address, self.target)).await.expect("a port");
        tokio::spawn(async move {
            let mut buffer = [0; 100];
            while let Ok((_, client)) = socket.recv_from(&mut buffer).await {
                socket.send_to(address.as_bytes(), client).await.ok();
            }
        })
    }

    /// Connects as soon as the port is open.
    async fn connect(&self) -> TcpStream {
        eventually(|| async { TcpStream::connect(self.at).await.ok() }).await
    }

    /// Connects once more: who answers?
    async fn ask(&self) -> io::Result<String> {
        let mut stream = TcpStream::connect(self.at).await?;
        stream.shutdown().await?;
        let mut answer = String::new();
        tokio::time::timeout(DEADLINE, stream.read_to_string(&mut answer)).await??;
        Ok(answer)
    }

    async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(DEADLINE, self.running).await.expect("an end in time").expect("no panic");
    }
}

/// Tries until there is a result.
async fn eventually<T, F: Future<Output = Option<T>>>(mut attempt: impl FnMut() -> F) -> T {
    let tries = async {
        loop {
            if let Some(result) = attempt().await {
                return result;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, tries).await.expect("in time")
}

async fn first(stream: &mut TcpStream) -> String {
    let mut buffer = [0; 9];
    stream.read_exact(&mut buffer).await.expect("an answer");
    String::from_utf8_lossy(&buffer).into_owned()
}

#[tokio::test]
async fn takes_endpoints_in_turn_and_copies_to_both_ends() {
    let mut lab = Lab::new(|_| {}).await;
    lab.serve("127.0.0.2").await;
    lab.serve("127.0.0.3").await;
    lab.endpoints(&["127.0.0.2", "127.0.0.3"]);
    let mut stream = lab.connect().await;
    assert_eq!(first(&mut stream).await, "127.0.0.2");
    for expected in ["127.0.0.3", "127.0.0.2", "127.0.0.3"] {
        assert_eq!(lab.ask().await.expect("an answer"), expected);
    }
    // Half-closed after sending, the answer still comes back whole.
    let sent: Vec<u8> = (0..8_000_000u32).map(|i| (i / 7) as u8).collect();
    let (mut from, mut to) = stream.into_split();
    let expected = sent.clone();
    let sending = tokio::spawn(async move {
        to.write_all(&sent).await?;
        to.shutdown().await
    });
    let mut received = Vec::new();
    tokio::time::timeout(DEADLINE, from.read_to_end(&mut received)).await.expect("in time").expect("all");
    sending.await.expect("no panic").expect("sent");
    assert!(received == expected, "{} bytes came back", received.len());
    lab.stop().await;
}

#[tokio::test]
async fn tries_the_next_endpoint_when_one_refuses() {
    let mut lab = Lab::new(|_| {}).await;
    lab.serve("127.0.0.3").await;
    lab.endpoints(&["127.0.0.2", "127.0.0.3", "127.0.0.4"]);
    lab.connect().await;
    for _ in 0..6 {
        assert_eq!(lab.ask().await.expect("an answer"), "127.0.0.3");
    }
    assert_eq!((lab.refusals)(), 2, "who refused is tried last for a while");
    // When all refuse, the client's connection is reset, not just closed.
    lab.endpoints(&["127.0.0.2"]);
    eventually(|| async { lab.ask().await.err() }).await;
    lab.stop().await;
}

#[tokio::test]
async fn a_port_is_open_while_there_are_endpoints() {
    let mut lab = Lab::new(|_| {}).await;
    lab.serve("127.0.0.2").await;
    lab.send();
    assert_eq!(lab.ask().await.expect_err("closed").kind(), io::ErrorKind::ConnectionRefused);
    lab.endpoints(&["127.0.0.2"]);
    let mut stream = lab.connect().await;
    first(&mut stream).await;
    lab.cluster.remove("web");
    lab.send();
    eventually(|| async { lab.ask().await.err() }).await;
    // A connection that was there goes on, until the relays end.
    stream.write_all(b"still here").await.expect("sent");
    let mut buffer = [0; 10];
    stream.read_exact(&mut buffer).await.expect("an answer");
    assert_eq!(&buffer, b"still here");
    lab.stop().await;
    assert!(matches!(stream.read(&mut buffer).await, Ok(0) | Err(_)));
}

#[tokio::test]
async fn a_port_that_closes_is_free_at_once() {
    let mut lab = Lab::new(|_| {}).await;
    lab.serve("127.0.0.2").await;
    lab.serve_udp("127.0.0.2").await;
    for _ in 0..20 {
        let start = std::time::Instant::now();
        lab.endpoints(&["127.0.0.2"]);
        lab.connect().await;
        let client = client(&lab).await;
        eventually(|| ask_udp(&client)).await;
        assert!(start.elapsed() < RETRY, "it was taken by ourselves: {:?}", start.elapsed());
        lab.endpoints(&[]);
        eventually(|| async { lab.ask().await.err() }).await;
    }
    lab.stop().await;
}

#[tokio::test]
async fn a_taken_port_is_tried_again() {
    // At an address of this test's own, nobody else takes the port while it is free.
    let [.., high, low] = std::process::id().to_be_bytes();
    let own = IpAddr::from([127, 1, high, low]);
    let mut lab = Lab::new(|config| config.addresses = vec![own]).await;
    lab.at.set_ip(own);
    lab.serve("127.0.0.2").await;
    let taken = TcpListener::bind(lab.at).await.expect("the port");
    lab.endpoints(&["127.0.0.2"]);
    // UDP, which is free, is open once the Snapshot was followed.
    lab.serve_udp("127.0.0.2").await;
    let socket = client(&lab).await;
    eventually(|| ask_udp(&socket)).await;
    drop(taken);
    eventually(|| async { lab.ask().await.ok().filter(|answer| answer == "127.0.0.2") }).await;
    lab.stop().await;
}

#[tokio::test]
async fn connections_are_bounded() {
    let mut lab = Lab::new(|config| config.max_connections = 1).await;
    lab.serve("127.0.0.2").await;
    lab.endpoints(&["127.0.0.2"]);
    let mut one = lab.connect().await;
    first(&mut one).await;
    let mut two = lab.connect().await;
    let early = tokio::time::timeout(Duration::from_millis(100), two.read_u8()).await;
    assert!(early.is_err(), "the second has to wait");
    drop(one);
    assert_eq!(first(&mut two).await, "127.0.0.2");
    lab.stop().await;
}

#[tokio::test]
async fn a_client_with_affinity_stays() {
    let mut lab = Lab::new(|_| {}).await;
    for address in ["127.0.0.2", "127.0.0.3"] {
        lab.serve(address).await;
    }
    let ports = lab.ports;
    lab.cluster.service_with("web", "10.96.0.1", &ports, |service| service.affinity = Some(10));
    lab.endpoints(&["127.0.0.2", "127.0.0.3"]);
    lab.connect().await;
    let one = lab.ask().await.expect("an answer");
    for _ in 0..5 {
        assert_eq!(lab.ask().await.expect("an answer"), one);
    }
    lab.stop().await;
}

async fn client(lab: &Lab) -> UdpSocket {
    let socket = UdpSocket::bind((HERE, 0)).await.expect("a port");
    socket.connect(lab.at).await.expect("a route");
    socket
}

/// Asks once; None when nobody answers soon.
async fn ask_udp(socket: &UdpSocket) -> Option<String> {
    socket.send(b"who?").await.ok()?;
    let mut buffer = [0; 100];
    let length = tokio::time::timeout(Duration::from_millis(200), socket.recv(&mut buffer)).await.ok()?.ok()?;
    Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

#[tokio::test]
async fn udp_clients_keep_their_endpoint_while_it_is_there() {
    let mut lab = Lab::new(|_| {}).await;
    let refusing = lab.serve_udp("127.0.0.2").await;
    lab.serve_udp("127.0.0.3").await;
    lab.endpoints(&["127.0.0.2", "127.0.0.3"]);
    let (one, two) = (client(&lab).await, client(&lab).await);
    assert_eq!(eventually(|| ask_udp(&one)).await, "127.0.0.2");
    assert_eq!(eventually(|| ask_udp(&two)).await, "127.0.0.3");
    assert_eq!(ask_udp(&one).await.as_deref(), Some("127.0.0.2"));
    // An endpoint that is gone from the Service, and one that refuses.
    lab.endpoints(&["127.0.0.2"]);
    eventually(|| async { ask_udp(&two).await.filter(|answer| answer == "127.0.0.2") }).await;
    lab.endpoints(&["127.0.0.2", "127.0.0.3"]);
    refusing.abort();
    eventually(|| async { ask_udp(&one).await.filter(|answer| answer == "127.0.0.3") }).await;
    lab.stop().await;
}

#[tokio::test]
async fn silent_udp_clients_are_forgotten() {
    let mut lab = Lab::new(|config| {
        config.udp_idle = Duration::from_millis(50);
        config.max_flows = 1;
    })
    .await;
    lab.serve_udp("127.0.0.2").await;
    lab.endpoints(&["127.0.0.2"]);
    let (one, two) = (client(&lab).await, client(&lab).await);
    eventually(|| ask_udp(&one)).await;
    // There is room for one: the second is answered when the first was forgotten.
    eventually(|| ask_udp(&two)).await;
    lab.stop().await;
}
