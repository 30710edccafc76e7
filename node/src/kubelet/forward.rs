//! Port forwarding: connections to a pod's own localhost, each a pair of streams.

use super::{
    Answer, Query, channel, text,
    upgrade::{self, Connection, Protocols, Writer},
};
use crate::{network, pods::Pods};
use bytes::{Bytes, BytesMut};
use http::{Request, StatusCode};
use hyper::body::Incoming;
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

const PROTOCOLS: Protocols = Protocols {
    spdy: &["portforward.k8s.io"],
    websocket: &["SPDY/3.1+portforward.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io", "portforward.k8s.io"],
};
/// How long the second stream of a pair may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a connection may take.
const DIAL: Duration = Duration::from_secs(30);
/// Ports of one request over channels; each has two of them.
const PORTS_MAX: usize = 64;
/// How much is read at once.
const CHUNK: usize = 32 << 10;

/// The pod that is meant, over restarts of its sandbox.
#[derive(Clone)]
struct Target {
    pods: Arc<Pods>,
    key: (String, String),
    uid: Option<String>,
}

/// Answers `/portForward/NAMESPACE/NAME`.
pub(super) fn answer(
    pods: &Arc<Pods>,
    namespace: &str,
    name: &str,
    query: &Query,
    request: Request<Incoming>,
    stop: CancellationToken,
) -> Answer {
    let key = (namespace.to_owned(), name.to_owned());
    let Some(uid) = pods.live().get(&key).map(|live| live.pod.metadata.uid.clone()) else {
        return text(StatusCode::NOT_FOUND, &format!("pods {name:?} not found"));
    };
    let target = Target { pods: pods.clone(), key, uid };
    let ports: Result<Vec<u16>, String> = query.all("ports").flat_map(|list| list.split(',')).map(port).collect();
    let ports = match ports {
        Ok(ports) if ports.len() <= PORTS_MAX => ports,
        Ok(_) => return text(StatusCode::BAD_REQUEST, &format!("more than {PORTS_MAX} ports")),
        Err(message) => return text(StatusCode::BAD_REQUEST, &message),
    };
    upgrade::answer(request, PROTOCOLS, stop, |connection, protocol| async move {
        match connection {
            Connection::Spdy(session) => pairs(session, target).await,
            Connection::Channels(socket) => {
                let channels = 2 * ports.len() as u8;
                let base64 = protocol.contains("base64");
                numbered(channel::Session::start(*socket, channels, base64), ports, target).await;
            }
        }
    })
}

fn port(text: &str) -> Result<u16, String> {
    let number: u16 = text.parse().map_err(|_| format!("unable to parse {text:?} as a port"))?;
    if number == 0 { Err(format!("port {text:?} must be > 0")) } else { Ok(number) }
}

/// Streams with headers: `port`, `streamtype` (error, data), and the same `requestid` for both of a pair.
async fn pairs(mut session: spdy::Session, target: Target) {
    let mut halves: BTreeMap<String, (Instant, spdy::Stream)> = BTreeMap::new();
    // The end of the session ends them all.
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            stream = session.accept() => stream,
            Some(_) = connections.join_next() => continue,
        };
        let Some(stream) = stream else { return };
        let kind = stream.header("streamtype").unwrap_or_default().to_owned();
        // Clients that number no requests open the error stream first, and the data stream next.
        let numbered = if kind == "data" { stream.id.wrapping_sub(2) } else { stream.id };
        let request = stream.header("requestid").map_or_else(|| numbered.to_string(), str::to_owned);
        let Ok(port) = port(stream.header("port").unwrap_or_default()) else {
            stream.writer.reset();
            continue;
        };
        halves.retain(|_, (since, _)| since.elapsed() < PATIENCE);
        let (error, data) = match (kind.as_str(), halves.remove(&request)) {
            ("error" | "data", None) => {
                halves.insert(request, (Instant::now(), stream));
                continue;
            }
            ("data", Some((_, other))) if other.header("streamtype") == Some("error") => (other, stream),
            ("error", Some((_, other))) if other.header("streamtype") == Some("data") => (stream, other),
            _ => {
                stream.writer.reset();
                continue;
            }
        };
        let target = target.clone();
        connections.spawn(async move {
            let (reset, error) = (data.writer.closed(), Writer::Spdy(error.writer));
            tokio::select! {
                () = forward(&target, port, data.reader, Writer::Spdy(data.writer), &error) => {}
                () = reset => {}
            }
        });
    }
}

/// Channels by number: for each port one for data and one for errors, both begun with the port.
async fn numbered((mut session, channels): (channel::Session, Vec<channel::Channel>), ports: Vec<u16>, target: Target) {
    let mut connections = JoinSet::new();
    let mut channels = channels.into_iter().map(|(reader, writer)| (reader, Writer::Channel(writer)));
    for port in ports {
        let (Some(data), Some(error)) = (channels.next(), channels.next()) else { return };
        let target = target.clone();
        connections.spawn(async move {
            let number = Bytes::copy_from_slice(&port.to_le_bytes());
            if data.1.send(number.clone()).await && error.1.send(number).await {
                forward(&target, port, data.0, data.1, &error.1).await;
            }
        });
    }
    let all = async { while connections.join_next().await.is_some() {} };
    tokio::select! {
        () = all => session.finish().await,
        () = session.gone() => {}
    }
}

/// One connection, to its end.
async fn forward(target: &Target, port: u16, mut reader: mpsc::Receiver<Bytes>, writer: Writer, error: &Writer) {
    let connection = match target.dial(port).await {
        Ok(connection) => connection,
        Err(text) => {
            let (namespace, name) = &target.key;
            let text = format!("error forwarding port {port} to pod {name}_{namespace}, uid : {text}");
            error.send(text.into()).await;
            return;
        }
    };
    let (mut from, mut to) = connection.into_split();
    // A channel cannot tell that no more will follow: only the end of them all can, once the pod has said everything.
    let has_ends = matches!(writer, Writer::Spdy(_));
    let up = async {
        while let Some(bytes) = reader.recv().await {
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        // It may be closed already.
        let _ = to.shutdown().await;
    };
    let down = async move {
        let mut buffer = BytesMut::with_capacity(CHUNK);
        while let Ok(1..) = from.read_buf(&mut buffer).await
            && writer.send(buffer.split().freeze()).await
        {
            buffer.reserve(CHUNK);
        }
        // Says that no more will follow, while the client may still send.
        drop(writer);
    };
    if has_ends {
        tokio::pin!(up, down);
        tokio::select! {
            () = &mut up => down.await,
            () = &mut down => up.await,
        }
        return;
    }
    tokio::select! {
        () = down => {}
        () = async { up.await; std::future::pending().await } => {}
    }
}

impl Target {
    /// Connects to localhost as the pod sees it, by IPv4 and then by IPv6.
    async fn dial(&self, port: u16) -> Result<TcpStream, String> {
        let shim = {
            let pods = self.pods.live();
            let live = pods.get(&self.key).filter(|live| live.pod.metadata.uid == self.uid);
            live.and_then(|live| live.shim.clone())
        };
        let shim = shim.ok_or_else(|| "the pod does not run".to_owned())?;
        let mut texts = Vec::new();
        for (family, host) in [("4", IpAddr::from(Ipv4Addr::LOCALHOST)), ("6", IpAddr::from(Ipv6Addr::LOCALHOST))] {
            let address = SocketAddr::new(host, port);
            let dialled = tokio::time::timeout(DIAL, network::dial(shim.pid(), address)).await;
            match dialled.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())) {
                Ok(connection) => return Ok(connection),
                Err(error) => {
                    texts.push(format!("IPv{family}: dial tcp{family} {address}: connect: {}", network::said(&error)))
                }
            }
        }
        Err(format!("failed to connect to localhost:{port} inside the pod's network namespace, {}", texts.join(" ")))
    }
}
