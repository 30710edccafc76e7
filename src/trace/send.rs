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
    /// Somebody in between accepts connections before the endpoint does.
    pub(super) relayed: bool,
}

impl Send<'_> {
    /// Connects, asks if it is to, and closes.
    pub(super) async fn tcp(&self) -> io::Result<Probe> {
        let connections = Connections::open();
        let socket = self.place.tcp(self.to.ip())?;
        let port = socket.local_addr()?.port();
        let began = Instant::now();
        let outcome = match timeout(PATIENCE, socket.connect(self.to)).await {
            Err(_) => Outcome::Silence(PATIENCE),
            Ok(Err(error)) => refusal(&error),
            Ok(Ok(stream)) => {
                let connected = began.elapsed();
                let outcome = self.over(stream).await;
                if let Outcome::Through(answer) = &outcome
                    && answer.is_empty()
                {
                    return Ok(self.done(Protocol::Tcp, connections, port, outcome, connected));
                }
                outcome
            }
        };
        Ok(self.done(Protocol::Tcp, connections, port, outcome, began.elapsed()))
    }

    async fn over(&self, mut stream: TcpStream) -> Outcome {
        let Some((host, path)) = self.http else {
            let mut byte = [0];
            return match timeout(MOMENT, async { if self.relayed { stream.read(&mut byte).await } else { Ok(1) } })
                .await
            {
                Ok(Ok(0) | Err(_)) => Outcome::Broken,
                Ok(Ok(_)) | Err(_) => Outcome::Through(String::new()),
            };
        };
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

    /// Sends an empty datagram.
    pub(super) async fn udp(&self) -> io::Result<Probe> {
        let connections = Connections::open();
        let began = Instant::now();
        let socket = match self.place.udp(self.to).await {
            Ok(socket) => socket,
            Err(error) => return Ok(self.done(Protocol::Udp, connections, 0, refusal(&error), began.elapsed())),
        };
        let port = socket.local_addr()?.port();
        let answered = timeout(MOMENT, async {
            socket.send(&[]).await?;
            socket.recv(&mut [0; 1]).await
        });
        let outcome = match answered.await {
            Ok(Ok(_)) => Outcome::Through("answered".into()),
            Ok(Err(error)) => refusal(&error),
            Err(_) => Outcome::Unanswered,
        };
        Ok(self.done(Protocol::Udp, connections, port, outcome, began.elapsed()))
    }

    fn done(
        &self,
        protocol: Protocol,
        connections: Result<Connections, proxy::Error>,
        port: u16,
        outcome: Outcome,
        took: Duration,
    ) -> Probe {
        let any: IpAddr = if self.to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        let from = SocketAddr::new(self.from.unwrap_or(any), port);
        // What a relay sends on has another source, and what stays in a pod is not seen by the node.
        let end = match port != 0 && !self.to.ip().is_loopback() {
            true => connections.and_then(|mut connections| connections.destination(protocol, from, self.to)),
            false => Ok(None),
        };
        Probe { to: self.to, outcome, end: end.map_err(|error| error.to_string()), took }
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
