//! SCTP by way of Services. Few kernels have sockets for it, so that the packets are made here: an INIT that asks, and
//! an INIT ACK whose cookie is the answer (RFC 9260, section 3.3).

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Instant;

use socket2::{Domain, Socket, Type};
use state::Protocol::Sctp;

use crate::cluster::*;
use crate::lab::*;

const PORTS: [PortOf; 1] = [(Sctp, 80, Some(30001))];
const NUMBER: i32 = 132;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const COOKIE: u16 = 7;
/// Our end's tag.
const TAG: u32 = 0x1234_5678;

/// A packet of one chunk.
#[derive(Debug, PartialEq, Eq)]
struct Packet {
    ports: [u16; 2],
    /// The tag that the receiver gave, none yet in an INIT.
    tag: u32,
    kind: u8,
    cookie: String,
}

impl Packet {
    fn encode(&self) -> Vec<u8> {
        let cookie = self.cookie.len() as u16;
        let mut bytes = self.ports.map(u16::to_be_bytes).concat();
        bytes.extend(self.tag.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend([self.kind, 0]);
        bytes.extend((20 + 4 + cookie).to_be_bytes());
        // Tag, window, streams out and in, and the first number of a sequence.
        bytes.extend([TAG, 65_535, 1 << 16 | 1, 1].map(u32::to_be_bytes).concat());
        bytes.extend([COOKIE, 4 + cookie].map(u16::to_be_bytes).concat());
        bytes.extend(self.cookie.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        let sum = checksum(&bytes).to_le_bytes();
        bytes[8..12].copy_from_slice(&sum);
        bytes
    }

    /// None for what is not of ours, or damaged.
    fn decode(mut bytes: Vec<u8>) -> Option<Packet> {
        let short = |bytes: &[u8], at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let sum: [u8; 4] = bytes.get(8..12)?.try_into().ok()?;
        bytes[8..12].fill(0);
        let cookie = bytes.get(36..32 + usize::from(short(&bytes, 34)?))?;
        let packet = Packet {
            ports: [short(&bytes, 0)?, short(&bytes, 2)?],
            tag: u32::from_be_bytes(bytes[4..8].try_into().ok()?),
            kind: bytes[12],
            cookie: String::from_utf8_lossy(cookie).into_owned(),
        };
        (checksum(&bytes) == u32::from_le_bytes(sum)).then_some(packet)
    }
}

/// CRC32c.
fn checksum(bytes: &[u8]) -> u32 {
    let bit = |sum: u32, _| sum >> 1 ^ 0x82f6_3b78 & (sum & 1).wrapping_neg();
    !bytes.iter().fold(!0, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), bit))
}

/// A socket for all packets of SCTP of a namespace.
fn socket(namespace: &str, v4: bool) -> UdpSocket {
    let domain = if v4 { Domain::IPV4 } else { Domain::IPV6 };
    within(namespace, || Socket::new(domain, Type::RAW, Some(NUMBER.into())).expect("a raw socket")).into()
}

/// The next packet; with IPv4 its header comes along.
fn receive(socket: &UdpSocket) -> std::io::Result<(Option<Packet>, IpAddr)> {
    let mut buffer = [0; 1500];
    let (length, from) = socket.recv_from(&mut buffer)?;
    let header = if from.is_ipv4() { usize::from(buffer[0] & 15) * 4 } else { 0 };
    Ok((Packet::decode(buffer[header..length].to_vec()), from.ip()))
}

/// A server that tells every client over SCTP its namespace's name and the client's address.
fn serve_sctp(namespace: &str, net: &Net, port: u16) {
    let (socket, name) = (socket(namespace, net.family == "4"), namespace.to_owned());
    std::thread::spawn(move || {
        while let Ok((packet, client)) = receive(&socket) {
            let Some(Packet { ports: [from, to], tag: 0, kind: INIT, .. }) = packet else { continue };
            if to == port {
                let cookie = format!("{name} {client}");
                let answer = Packet { ports: [to, from], tag: TAG, kind: INIT_ACK, cookie };
                socket.send_to(&answer.encode(), SocketAddr::new(client, 0)).expect("an answer");
            }
        }
    });
}

/// Asks over a new association. The answer has to come from where the question went.
fn sctp(namespace: &str, to: &str) -> Answer {
    static PORT: AtomicU16 = AtomicU16::new(40_000);
    let to: SocketAddr = to.parse().expect("an address and port");
    let socket = socket(namespace, to.is_ipv4());
    socket.connect(SocketAddr::new(to.ip(), 0))?;
    socket.set_read_timeout(Some(DEADLINE))?;
    let port = PORT.fetch_add(1, Ordering::Relaxed);
    let ask = Packet { ports: [port, to.port()], tag: 0, kind: INIT, cookie: String::new() };
    socket.send(&ask.encode())?;
    let start = Instant::now();
    while start.elapsed() < DEADLINE {
        if let (Some(Packet { ports, tag: TAG, kind: INIT_ACK, cookie }), _) = receive(&socket)?
            && ports == [to.port(), port]
        {
            return parse(&cookie);
        }
    }
    Err(std::io::ErrorKind::TimedOut.into())
}

#[test]
fn the_checksum_is_that_of_the_standard() {
    assert_eq!(checksum(b"123456789"), 0xe306_9283);
    let packet = || Packet { ports: [1, 2], tag: 3, kind: INIT_ACK, cookie: "pod0 ::1".into() };
    assert_eq!(Packet::decode(packet().encode()), Some(packet()));
}

#[test]
fn from_everywhere_to_all_endpoints() {
    both("sctp::from_everywhere_to_all_endpoints", |net| {
        let all = ["pod0", "pod1", "pod2"];
        all.iter().for_each(|pod| serve_sctp(pod, net, 8080));
        let mut cluster = Cluster::new();
        let mut plane = plane();
        let external = at(net.external, 80);
        let mut apply = |cluster: &mut Cluster, local: bool, pods: &[&str]| {
            cluster.service_with("web", net.web, &PORTS, |service| {
                (service.external_local, service.external_ips) = (local, vec![address(net.external)]);
            });
            cluster.endpoints("web", &PORTS, 8080, pods);
            plane.apply(cluster.snapshot()).expect("apply");
        };
        apply(&mut cluster, false, &net.pods);
        for from in ["pod0", "node", "outside"] {
            for to in [&net.service(), &net.node_port(), &external] {
                spread(&all, || sctp(from, to));
            }
            assert_eq!(sctp(from, &net.node_port()).expect("an answer").1, address(net.node));
        }
        apply(&mut cluster, true, &net.pods);
        assert_eq!(sctp("outside", &external).expect("an answer").1, address(net.outside));
        apply(&mut cluster, false, &[]);
        for from in ["pod0", "node", "outside"] {
            for to in [&net.service(), &net.node_port(), &external] {
                assert_refused(from, || sctp(from, to));
            }
        }
    });
}
