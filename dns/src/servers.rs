//! The server blocks behind a socket: which of them a question is for.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use futures::FutureExt;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RecordType};
use hickory_proto::serialize::binary::BinEncodable;
use rustls::ServerConfig;
use tokio_util::sync::DropGuard;
use tower::ServiceExt;

use crate::chain::Chain;
use crate::metrics::{Counter, Meter, PANICS, Seen};
use crate::question::Question;
use crate::request::{Body, Context, Failure, Packets, Read, Reply, Request, TCP_SIZE, Transport, read};

thread_local! {
    /// Where ready answers by TCP are written; nothing before the first one.
    static ROOM: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A server block under one of its zones.
pub(crate) struct Server {
    zone: Name,
    /// The zone as in a packet, in lower case.
    wire: Vec<u8>,
    chain: Chain,
    /// Counts its questions, if they are counted.
    pub(crate) meter: Option<Arc<Meter>>,
}

impl Server {
    pub(crate) fn new(zone: Name, chain: Chain) -> Self {
        let mut wire = zone.to_bytes().unwrap_or_default();
        wire.make_ascii_lowercase();
        Server { zone, wire, chain, meter: None }
    }
}

/// All servers of an endpoint.
pub(crate) struct Servers {
    /// Those of longer names first.
    servers: Vec<Server>,
    /// The certificates, for endpoints of TLS.
    pub(crate) tls: Option<Arc<ServerConfig>>,
    /// Counts what no server is for, if questions are counted.
    pub(crate) dropped: Option<Arc<Meter>>,
    turn: AtomicUsize,
    /// What runs beside the chains ends when the last Servers that hold this are gone.
    _background: Arc<DropGuard>,
}

/// A ready answer.
pub(crate) struct Hit<'a> {
    /// In bytes.
    pub(crate) length: usize,
    /// What is to be counted.
    pub(crate) seen: Option<(&'a Meter, Seen)>,
}

impl Servers {
    pub(crate) fn new(mut servers: Vec<Server>, background: Arc<DropGuard>) -> Self {
        servers.sort_by_key(|server| std::cmp::Reverse(server.zone.num_labels()));
        let tls = servers.iter().find_map(|server| server.chain.tls.clone());
        Servers { servers, tls, dropped: None, turn: AtomicUsize::new(0), _background: background }
    }

    /// Whether questions are counted.
    pub(crate) fn metered(&self) -> bool {
        self.dropped.is_some()
    }

    /// The server of the longest zone that the name is in. As CoreDNS does it, a DS record is looked
    /// for where the parent zone may be.
    fn of(&self, name: &Name, kind: RecordType) -> Option<&Server> {
        let mut all = self.servers.iter().filter(|server| server.zone.zone_of(name));
        match kind {
            RecordType::DS => all.clone().rfind(|server| !server.zone.is_root()).or(all.next()),
            _ => all.next(),
        }
    }

    /// The same, for a question as it lies in a packet; those for DS records are left to the slow way.
    fn of_question(&self, question: &Question) -> Option<&Server> {
        match &self.servers[..] {
            [only] if only.zone.is_root() => Some(only),
            _ if question.kind == u16::from(RecordType::DS) => None,
            servers => servers.iter().find(|server| within(question.name(), &server.wire)),
        }
    }

    /// Whether what clients may ask by UDP is limited.
    pub(crate) fn limits(&self) -> bool {
        self.servers.iter().any(|server| server.chain.quick.limit.is_some())
    }

    /// Whether a packet by UDP is one too many of its client. One that is hard to read counts for
    /// any server.
    pub(crate) fn excess(&self, packet: &[u8], client: IpAddr, now: Instant) -> bool {
        let server = Question::parse(packet).and_then(|question| self.of_question(&question));
        let limit = match server {
            Some(server) => server.chain.quick.limit.as_ref(),
            None => self.servers.iter().find_map(|server| server.chain.quick.limit.as_ref()),
        };
        limit.is_some_and(|limit| !limit.admit(client, now))
    }

    /// A ready answer to a packet; see [`crate::quick::Quick::reply`].
    pub(crate) fn ready(
        &self,
        packet: &[u8],
        from: impl FnOnce() -> (SocketAddr, Transport),
        out: &mut [u8],
        turn: usize,
    ) -> Option<Hit<'_>> {
        let question = Question::parse(packet)?;
        let server = self.of_question(&question)?;
        let (length, plugin) = server.chain.quick.reply(&question, out, turn)?;
        let seen = server.meter.as_deref().map(|meter| {
            let ((client, transport), dnssec) = (from(), question.edns.is_some_and(|(_, dnssec)| dnssec));
            let code = out.get(3).map_or(0, |flags| flags & 0x0f).into();
            let (asked, kind) = (packet.len(), question.kind);
            (meter, Seen { client, transport, kind, dnssec, code, plugin, asked, answered: length })
        });
        Some(Hit { length, seen })
    }

    /// The length of the ready answer to a packet, if there is one.
    #[cfg(test)]
    pub(crate) fn quick(&self, packet: &[u8], out: &mut [u8], turn: usize) -> Option<usize> {
        let from = || (SocketAddr::from(([127, 0, 0, 1], 53)), Transport::Udp);
        self.ready(packet, from, out, turn).map(|hit| hit.length)
    }

    /// The reply to a question.
    pub(crate) async fn handle(self: Arc<Self>, request: Request) -> Result<Reply, Failure> {
        match self.of(request.name(), request.kind()) {
            Some(server) => server.chain.service.clone().oneshot(request).await,
            None => Err(Failure { code: ResponseCode::Refused, reason: String::new() }),
        }
    }

    /// The answer to a packet by a transport that takes no more than one, or `None` when it
    /// deserves none.
    pub(crate) async fn resolve(self: Arc<Self>, packet: &[u8], context: Context) -> Option<Vec<u8>> {
        self.packets(packet, context).await?.one()
    }

    /// The answer to a packet, or `None` when it deserves none.
    pub(crate) async fn packets(self: Arc<Self>, packet: &[u8], context: Context) -> Option<Packets> {
        let begin = Instant::now();
        let (client, transport) = (context.client, context.transport);
        // Over UDP this was tried already.
        if transport == Transport::Tcp {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            let ready = ROOM.with_borrow_mut(|room| {
                room.resize(TCP_SIZE, 0);
                let hit = self.ready(packet, || (client, transport), room, turn)?;
                if let Some((meter, seen)) = hit.seen {
                    meter.count(Counter::Task, &seen, begin.elapsed());
                }
                Some(Packets::One(room[..hit.length].to_vec()))
            });
            if ready.is_some() {
                return ready;
            }
        }
        let mut seen = Seen::of(packet, client, transport);
        let request = match read(packet, context) {
            Read::Request(request) => *request,
            Read::Reply(reply) => {
                self.count(None, &mut seen, &reply, begin);
                return Some(Packets::One(reply));
            }
            Read::Silence => return None,
        };
        (seen.kind, seen.dnssec) =
            (request.kind().into(), request.message.edns.as_ref().is_some_and(|e| e.flags().dnssec_ok));
        // A question must not take the others down with it.
        let reply = AssertUnwindSafe(self.clone().handle(request.clone())).catch_unwind().await;
        let reply = reply.unwrap_or_else(|_| {
            PANICS.fetch_add(1, Ordering::Relaxed);
            Err(Failure::server("a panic"))
        });
        let packets = match reply {
            Ok(Reply { body: Body::Message(message), plugin }) => {
                seen.plugin = plugin;
                Packets::One(request.encode(*message))
            }
            Ok(Reply { body: Body::Messages(messages), plugin }) => {
                seen.plugin = plugin;
                let request = request.clone();
                Packets::Many(Box::new(messages.map(move |message| request.encode(message))))
            }
            Ok(Reply { body: Body::Silence, .. }) => return None,
            Err(failure) => {
                let Context { client, server, .. } = request.context;
                tracing::debug!("{} of {client} to {server}: {}", request.query, failure.reason);
                Packets::One(request.fail(failure.code))
            }
        };
        let first = if let Packets::One(packet) = &packets { &packet[..] } else { &[] };
        self.count(Some(&request), &mut seen, first, begin);
        Some(packets)
    }

    /// Counts a question, if they are counted: with its server, or as one that none is for.
    fn count(&self, request: Option<&Request>, seen: &mut Seen, reply: &[u8], begin: Instant) {
        let server = request.map(|request| self.of(request.name(), request.kind()));
        let meter = match server.flatten() {
            Some(server) => &server.meter,
            None => &self.dropped,
        };
        if let Some(meter) = meter {
            (seen.answered, seen.code) = (reply.len(), reply.get(3).map_or(0, |flags| flags & 0x0f).into());
            meter.count(Counter::Task, seen, begin.elapsed());
        }
    }
}

/// True when a name is under a zone, both as in a packet and in lower case.
fn within(name: &[u8], zone: &[u8]) -> bool {
    let Some(front) = name.len().checked_sub(zone.len()) else {
        return false;
    };
    let mut at = 0;
    while at < front {
        at += 1 + usize::from(name[at]);
    }
    at == front && name[front..] == *zone
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[tokio::test]
    async fn a_panic_is_a_failure_of_one_question() {
        let servers = Arc::new(fixture::chain(|_| panic!("on purpose")));
        let packet = fixture::request("a.example.", RecordType::A, &servers).question().to_vec().unwrap();
        let before = PANICS.load(Ordering::Relaxed);
        for _ in 0..2 {
            let context = fixture::request("a.example.", RecordType::A, &servers).context;
            let reply = servers.clone().resolve(&packet, context).await.unwrap();
            assert_eq!((&reply[..2], reply[3] & 0x0f), (&packet[..2], 2));
        }
        assert!(PANICS.load(Ordering::Relaxed) >= before + 2);
    }

    #[test]
    fn names_within_zones() {
        let wire = |name: &str| Name::from_ascii(name).unwrap().to_bytes().unwrap();
        for (name, zone, want) in [
            ("a.b.", "b.", true),
            ("b.", "b.", true),
            ("a.b.", ".", true),
            (".", ".", true),
            ("ab.", "b.", false),
            ("b.", "a.b.", false),
            ("a.c.", "b.", false),
        ] {
            assert_eq!(within(&wire(name), &wire(zone)), want, "{name} in {zone}");
        }
        // The zone's bytes within a label.
        assert!(!within(b"\x04x\x01b\0\0", b"\x01b\0"));
    }
}
