//! The server blocks behind a socket: which of them a question is for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::Name;
use tokio_util::sync::DropGuard;
use tower::ServiceExt;

use crate::chain::Chain;
use crate::request::{Body, Context, Failure, Packets, Read, Reply, Request, TCP_SIZE, Transport, read};

/// A server block under one of its zones.
pub(crate) struct Server {
    pub(crate) zone: Name,
    pub(crate) chain: Chain,
}

/// All servers of a port.
pub(crate) struct Servers {
    /// Those of longer names first.
    servers: Vec<Server>,
    turn: AtomicUsize,
    /// What runs beside the chains ends when the last Servers that hold this are gone.
    _background: Arc<DropGuard>,
}

impl Servers {
    pub(crate) fn new(mut servers: Vec<Server>, background: Arc<DropGuard>) -> Self {
        servers.sort_by_key(|server| std::cmp::Reverse(server.zone.num_labels()));
        Servers { servers, turn: AtomicUsize::new(0), _background: background }
    }

    /// The server of the longest zone that `name` is in.
    fn of(&self, name: &Name) -> Option<&Server> {
        self.servers.iter().find(|server| server.zone.zone_of(name))
    }

    /// A ready answer to a packet; see [`crate::quick::Quick::reply`].
    pub(crate) fn quick(&self, packet: &[u8], out: &mut [u8], turn: usize) -> Option<usize> {
        match &self.servers[..] {
            [only] if only.zone.is_root() => only.chain.quick.reply(packet, out, turn),
            _ => None,
        }
    }

    /// The reply to a question.
    pub(crate) async fn handle(self: Arc<Self>, request: Request) -> Result<Reply, Failure> {
        match self.of(request.name()) {
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
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        // Over UDP this was tried already.
        if context.transport == Transport::Tcp {
            let mut out = vec![0; TCP_SIZE];
            if let Some(length) = self.quick(packet, &mut out, turn) {
                out.truncate(length);
                return Some(Packets::One(out));
            }
        }
        let request = match read(packet, context) {
            Read::Request(request) => *request,
            Read::Reply(reply) => return Some(Packets::One(reply)),
            Read::Silence => return None,
        };
        match self.handle(request.clone()).await {
            Ok(Reply { body: Body::Message(message), .. }) => Some(Packets::One(request.encode(*message))),
            Ok(Reply { body: Body::Messages(messages), .. }) => {
                Some(Packets::Many(Box::new(messages.map(move |message| request.encode(message)))))
            }
            Ok(Reply { body: Body::Silence, .. }) => None,
            Err(failure) => {
                let Context { client, server, .. } = request.context;
                tracing::debug!("{} of {client} to {server}: {}", request.query, failure.reason);
                Some(Packets::One(request.fail(failure.code)))
            }
        }
    }
}
