//! The probe: one real connection or datagram, and where the kernel says that it went.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use proxy::Connections;
use state::Protocol;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::verdict::{Outcome, Probe};
use crate::place::Place;

/// How long a connection may take: the kernel sends its first packet three times meanwhile.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long a closed port may take to say so, and a relay to give up a connection that it took.
const MOMENT: Duration = Duration::from_millis(500);
/// How much of an answer is read to find its first line.
const LINE: u64 = 1024;

/// What is sent, and from where.
pub(super) struct Send<'a> {
    pub(super) place: &'a Place,
    /// The asker's address, where it is known.
    pub(super) from: Option<IpAddr>,
    pub(super) to: SocketAddr,
    /// For an HTTP request: host and path.
    pub(super) http: Option<(&'a str, &'a str)>,
    /// It is an address of a Service, where a relay in user space may take connections before an endpoint does.
    pub(super) service: bool,
}

impl Send<'_> {
    /// Connects, asks if it is to, and closes.
    pub(super) async fn tcp(&self) -> io::Result<Probe> {
        let connections = Connections::open();
        let socket = self.place.tcp(self.to.ip())?;
        let port = socket.local_addr()?.port();
        let began = Instant::now();
        let connected = timeout(PATIENCE, socket.connect(self.to)).await;
        let took = began.elapsed();
        let end = self.end(Protocol::Tcp, connections, port);
        let relayed = self.service && (self.to.ip().is_loopback() || end == Ok(Some(self.to)));
        let outcome = match connected {
            Err(_) => Outcome::Silence(PATIENCE),
            Ok(Err(error)) => refusal(&error),
            Ok(Ok(stream)) => match self.http {
                Some((host, path)) => get(stream, host, path).await,
                None if relayed && breaks(stream).await => Outcome::Broken,
                None => Outcome::Through(String::new()),
            },
        };
        let took = if self.http.is_some() { began.elapsed() } else { took };
        Ok(Probe { to: self.to, outcome, end, relayed, took })
    }

    /// Sends an empty datagram.
    pub(super) async fn udp(&self) -> io::Result<Probe> {
        let connections = Connections::open();
        let began = Instant::now();
        let socket = self.place.udp(self.to).await;
        let port = socket.as_ref().map_or(0, |socket| socket.local_addr().map_or(0, |own| own.port()));
        let answered = timeout(MOMENT, async {
            let socket = socket?;
            socket.send(&[]).await?;
            socket.recv(&mut [0; 1]).await
        });
        let outcome = match answered.await {
            Ok(Ok(_)) => Outcome::Through("answered".into()),
            Ok(Err(error)) => refusal(&error),
            Err(_) => Outcome::Unanswered,
        };
        let end = self.end(Protocol::Udp, connections, port);
        let relayed = self.service && (self.to.ip().is_loopback() || end == Ok(Some(self.to)));
        Ok(Probe { to: self.to, outcome, end, relayed, took: began.elapsed() })
    }

    /// Where the kernel sent it.
    fn end(
        &self,
        protocol: Protocol,
        connections: Result<Connections, proxy::Error>,
        port: u16,
    ) -> Result<Option<SocketAddr>, String> {
        let any: IpAddr = if self.to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        let from = SocketAddr::new(self.from.unwrap_or(any), port);
        // What a relay sends on has another source, and what stays in a pod is not seen by the node.
        if port == 0 || self.to.ip().is_loopback() {
            return Ok(None);
        }
        let end = connections.and_then(|mut connections| connections.destination(protocol, from, self.to));
        end.map_err(|error| error.to_string())
    }
}

/// Whether the connection ends at once, as a relay's does that finds no endpoint.
async fn breaks(mut stream: TcpStream) -> bool {
    matches!(timeout(MOMENT, stream.read(&mut [0; 1])).await, Ok(Ok(0) | Err(_)))
}

/// An HTTP request.
async fn get(mut stream: TcpStream, host: &str, path: &str) -> Outcome {
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: coracle-trace\r\nConnection: close\r\n\r\n");
    let mut answer = Vec::new();
    let asked = timeout(PATIENCE, async {
        stream.write_all(request.as_bytes()).await?;
        stream.take(LINE).read_to_end(&mut answer).await
    });
    // What came before a reset or the time-out counts.
    let in_time = asked.await.is_ok();
    let text = String::from_utf8_lossy(&answer);
    match text.lines().next() {
        None if in_time => Outcome::Broken,
        None => Outcome::Through("connected, but HTTP was not answered".into()),
        Some(line) if line.starts_with("HTTP/") => Outcome::Through(format!("GET {path}: {line}")),
        Some(_) => Outcome::Through(format!("GET {path}: answered, but not with HTTP")),
    }
}

fn refusal(error: &io::Error) -> Outcome {
    match error.kind() {
        // Linux has the latter for a UDP datagram that its own machine rejects.
        io::ErrorKind::ConnectionRefused | io::ErrorKind::PermissionDenied => Outcome::Refused,
        io::ErrorKind::TimedOut => Outcome::Silence(PATIENCE),
        _ => Outcome::NoWay(error.to_string()),
    }
}
