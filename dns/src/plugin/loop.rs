//! Finds resolvers that send our questions back to us.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hickory_proto::ProtoError;
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};
use tokio::sync::oneshot;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::chain::{Next, Plugin, Setup};
use crate::corefile::{self, Directive};
use crate::forward::random;
use crate::request::{Context, Failure, Read, Reply, Request, Transport, read};
use crate::servers::Servers;

/// How often it is asked: when the first probe comes back, our sockets may not be open yet.
const PROBES: u32 = 3;

/// How long after one probe the next one is sent.
const PAUSE: Duration = Duration::from_secs(1);

/// How long after the last answer a probe may still come back. Later its name is like any other,
/// so that nobody who has seen it can stop the server.
const LATE: Duration = Duration::from_secs(2);

struct Loop {
    zone: Name,
    /// A name that nobody else asks for.
    name: Name,
    watching: AtomicBool,
    found: AtomicBool,
}

/// `loop`: at the start a random name is asked of what follows. When that question comes to us
/// again, nothing is sent on any more. Once is enough, while CoreDNS waits for the third time:
/// as `forward` sends equal questions once, this one does not go round a second time.
pub(crate) fn setup(directive: &Directive, setup: &mut Setup) -> Result<(), corefile::Error> {
    directive.once(setup.block)?;
    directive.line().exactly::<0>()?;
    directive.bodiless()?;
    let zone = setup.block.keys.first().map_or_else(Name::root, |key| key.zone.clone());
    let plugin = Arc::new(Loop::new(zone).map_err(|error| directive.name.error(error))?);
    let (sender, next) = oneshot::channel();
    let prober = plugin.clone();
    setup.push_with(move |next| {
        let _ = sender.send(next.clone());
        plugin
    });
    setup.background.push(Box::pin(async move {
        if let Ok(next) = next.await {
            prober.probe(next).await;
        }
    }));
    Ok(())
}

impl Plugin for Loop {
    async fn handle(self: Arc<Self>, request: Request, next: Next) -> Result<Reply, Failure> {
        let ours = request.kind() == RecordType::HINFO && *request.name() == self.name;
        if ours && self.watching.load(Ordering::Relaxed) && !self.found.swap(true, Ordering::Relaxed) {
            let Context { client, server, .. } = request.context;
            tracing::error!(
                "Loop ({client} -> {server}) detected for zone {:?}, query: \"HINFO {}\": a resolver that the Corefile \
                 forwards to sends questions back to this server, so nothing is forwarded until the Corefile changes. \
                 Name others there than {}; if that is resolv.conf, a cache such as systemd-resolved may be behind it",
                self.zone.to_string(),
                self.name,
                client.ip(),
            );
        }
        match self.found.load(Ordering::Relaxed) {
            true => Err(Failure::server("the resolvers send questions back to this server")),
            false => next.oneshot(request).await,
        }
    }
}

impl Loop {
    fn new(zone: Name) -> Result<Self, ProtoError> {
        let label = || (0..4).fold(0, |number: u64, _| number << 16 | u64::from(random())).to_string();
        let name = Name::from_labels([label().into_bytes(), label().into_bytes()])?.append_domain(&zone)?;
        Ok(Loop { zone, name, watching: AtomicBool::new(true), found: AtomicBool::new(false) })
    }

    /// Asks until a loop is found or there is none.
    async fn probe(&self, next: Next) {
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(self.name.clone(), RecordType::HINFO));
        let nobody = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let servers = Arc::new(Servers::new(Vec::new(), Arc::new(CancellationToken::new().drop_guard())));
        let context = Context { client: nobody, server: nobody, transport: Transport::Udp, servers };
        let Read::Request(request) = read(&message.to_vec().unwrap_or_default(), context) else { return };
        for _ in 0..PROBES {
            // Any answer will do, and none: what counts is what comes back.
            let _ = next.clone().oneshot((*request).clone()).await;
            if self.found.load(Ordering::Relaxed) {
                return;
            }
            sleep(PAUSE).await;
        }
        sleep(LATE).await;
        self.watching.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;
    use std::sync::atomic::AtomicUsize;

    use hickory_proto::op::ResponseCode;
    use tower::service_fn;

    use super::*;
    use crate::fixture;

    fn plugin() -> Arc<Loop> {
        Arc::new(Loop::new(Name::from_ascii("example.").unwrap()).unwrap())
    }

    fn refuse() -> Next {
        let code = ResponseCode::Refused;
        Next::new(service_fn(move |_| std::future::ready(Err(Failure { code, reason: String::new() }))))
    }

    async fn code(plugin: &Arc<Loop>, name: &str, kind: RecordType) -> ResponseCode {
        let servers = Arc::new(fixture::servers("kubernetes", fixture::cluster().snapshot()));
        let request = fixture::request(name, kind, &servers);
        plugin.clone().handle(request, refuse()).await.err().unwrap().code
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_comes_back() {
        let (plugin, asked) = (plugin(), Arc::new(AtomicUsize::new(0)));
        let counted = asked.clone();
        let next = service_fn(move |request: Request| {
            assert_eq!(request.kind(), RecordType::HINFO);
            counted.fetch_add(1, Ordering::Relaxed);
            refuse().oneshot(request)
        });
        plugin.probe(Next::new(next)).await;
        assert_eq!(asked.load(Ordering::Relaxed), 3);
        assert_eq!(code(&plugin, "www.example.", RecordType::A).await, ResponseCode::Refused);
        // Its time is over.
        assert_eq!(code(&plugin, &plugin.name.to_ascii(), RecordType::HINFO).await, ResponseCode::Refused);
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_back_ends_all_forwarding() {
        let plugin = plugin();
        assert_eq!(code(&plugin, &plugin.name.to_ascii(), RecordType::A).await, ResponseCode::Refused);
        let (circle, first): (_, Arc<OnceLock<Next>>) = (plugin.clone(), Arc::default());
        let next = first.clone();
        let upstream =
            Next::new(service_fn(move |request: Request| circle.clone().handle(request, next.get().unwrap().clone())));
        first.set(upstream.clone()).unwrap_or_default();
        plugin.probe(upstream).await;
        assert_eq!(code(&plugin, "www.example.", RecordType::A).await, ResponseCode::ServFail);
    }
}
