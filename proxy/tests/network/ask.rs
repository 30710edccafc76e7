//! Servers that say who they are, and clients that ask, in the namespaces of a lab.

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use state::Protocol;

use crate::cluster::{Cluster, PortOf};
use crate::lab::{DEADLINE, Net, within};

/// How long a client waits for an answer that is not to come.
const NEVER: Duration = Duration::from_millis(300);

/// An address from its text.
pub(crate) fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Address and port, as text.
pub(crate) fn at(text: &str, port: u16) -> String {
    SocketAddr::new(address(text), port).to_string()
}

/// A server that tells every client over TCP and UDP its namespace's name and the client's address.
pub(crate) fn serve(namespace: &str, at: &str) {
    let name = namespace.to_owned();
    let (tcp, udp) = within(namespace, || {
        let tcp = TcpListener::bind(at).expect("a TCP port");
        (tcp, UdpSocket::bind(at).expect("a UDP port"))
    });
    let answer = move |client: IpAddr| format!("{name} {client}\n");
    let answer_udp = answer.clone();
    std::thread::spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            let answer = answer.clone();
            std::thread::spawn(move || {
                let client = stream.peer_addr().expect("a peer").ip();
                let mut lines = BufReader::new(stream.try_clone().expect("a handle"));
                let mut line = String::new();
                while lines.read_line(&mut line).is_ok_and(|length| length > 0) {
                    if stream.write_all(answer(client).as_bytes()).is_err() {
                        break;
                    }
                }
            });
        }
    });
    std::thread::spawn(move || {
        let mut buffer = [0; 100];
        while let Ok((_, client)) = udp.recv_from(&mut buffer) {
            udp.send_to(answer_udp(client.ip()).as_bytes(), client).ok();
        }
    });
}

/// Who answered, and which address it saw.
pub(crate) type Answer = io::Result<(String, IpAddr)>;

/// A connection from a namespace.
pub(crate) fn connect(namespace: &str, to: &str) -> io::Result<TcpStream> {
    let to: SocketAddr = to.parse().expect("an address and port");
    let stream = within(namespace, || TcpStream::connect_timeout(&to, DEADLINE))?;
    stream.set_read_timeout(Some(DEADLINE))?;
    Ok(stream)
}

/// Asks over a connection that is there.
pub(crate) fn say(stream: &mut TcpStream) -> Answer {
    stream.write_all(b"who?\n")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    parse(&line)
}

/// Asks over a new connection.
pub(crate) fn tcp(namespace: &str, to: &str) -> Answer {
    say(&mut connect(namespace, to)?)
}

/// A UDP socket in a namespace that sends to one place.
pub(crate) fn udp_socket(namespace: &str, to: &str) -> UdpSocket {
    within(namespace, || {
        let v4 = to.parse().is_ok_and(|to: SocketAddr| to.is_ipv4());
        let any = if v4 { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
        let socket = UdpSocket::bind((any, 0)).expect("a UDP port");
        socket.connect(to).expect("a route");
        socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        socket
    })
}

/// Asks over a UDP socket.
pub(crate) fn say_udp(socket: &UdpSocket) -> Answer {
    socket.send(b"who?\n")?;
    let mut buffer = [0; 100];
    let length = socket.recv(&mut buffer)?;
    parse(&String::from_utf8_lossy(&buffer[..length]))
}

/// Asks over a new UDP socket.
pub(crate) fn udp(namespace: &str, to: &str) -> Answer {
    say_udp(&udp_socket(namespace, to))
}

pub(crate) fn parse(line: &str) -> Answer {
    let (name, client) = line.trim().split_once(' ').ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok((name.to_owned(), client.parse().map_err(|_| io::ErrorKind::InvalidData)?))
}

/// Asserts that a client was refused, and at once. (Linux answers the sender of a UDP datagram that
/// is rejected on its own machine with EPERM.)
pub(crate) fn assert_refused(what: &str, ask: impl FnOnce() -> Answer) {
    let start = Instant::now();
    let answer = ask();
    let refused = [io::ErrorKind::ConnectionRefused, io::ErrorKind::PermissionDenied];
    let refused = answer.as_ref().is_err_and(|error| refused.contains(&error.kind()));
    assert!(refused, "{what}: {answer:?}");
    assert!(start.elapsed() < DEADLINE / 2, "{what}: refused only after {:?}", start.elapsed());
}

/// A connection from a namespace, from one of its addresses.
pub(crate) fn connect_from(namespace: &str, from: &str, to: &str, patience: Duration) -> io::Result<TcpStream> {
    let (from, to): (SocketAddr, SocketAddr) = (SocketAddr::new(address(from), 0), to.parse().expect("an address"));
    let socket = within(namespace, || Socket::new(Domain::for_address(to), Type::STREAM, None))?;
    socket.bind(&from.into())?;
    socket.connect_timeout(&to.into(), patience)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE))?;
    Ok(stream)
}

/// Asserts that a client's packets to a place are lost.
pub(crate) fn assert_dropped(namespace: &str, from: &str, to: &str) {
    let answer = connect_from(namespace, from, to, NEVER);
    assert_eq!(answer.map(|_| ()).map_err(|error| error.kind()), Err(io::ErrorKind::TimedOut), "{from} → {to}");
}

/// Asserts that those in `who` answer, and nobody else.
pub(crate) fn spread(who: &[&str], ask: impl Fn() -> Answer) {
    let mut seen = BTreeSet::new();
    for round in 0..200 {
        seen.insert(ask().expect("an answer").0);
        if round >= 10 && seen.len() >= who.len() {
            break;
        }
    }
    assert!(seen.iter().eq(who), "{seen:?}");
}

/// The ports of the Service "web".
pub(crate) const WEB: [PortOf; 2] = [(Protocol::Tcp, 80, Some(30001)), (Protocol::Udp, 80, Some(30001))];

/// Three pods that serve the Service "web" on port 80 and the nodePort 30001.
pub(crate) fn web(net: &Net) -> Cluster {
    (0..3).for_each(|pod| serve(&format!("pod{pod}"), &at(net.any, 8080)));
    let mut cluster = Cluster::new();
    cluster.service("web", net.web, &WEB);
    cluster.endpoints("web", &WEB, 8080, &net.pods);
    cluster
}
