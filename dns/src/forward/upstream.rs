//! One resolver: its sockets, and whether it lives.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use hickory_proto::op::{Message, ResponseCode};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::{TcpSocket, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use super::Settings;
use super::question::{Question, random};
use super::streams::{Connecting, Stream, Streams};
use crate::metrics::Proxy;

/// How many questions of this process have a UDP socket; further ones wait. A process may often have
/// no more than 1024 files.
static SOCKETS: Semaphore = Semaphore::const_new(256);

/// The largest answer over UDP, whose size we set: more was cut off.
const DATAGRAM: usize = 4096;

/// How long the answer to a check is waited for.
const CHECK: Duration = Duration::from_secs(1);

/// How a resolver is reached.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// Over TLS: what it trusts, and the name that the resolver's certificate has.
    pub(crate) tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

/// A resolver.
pub(crate) struct Upstream {
    pub(crate) target: Target,
    settings: Arc<Settings>,
    streams: Streams,
    /// How many checks have failed since one succeeded.
    fails: AtomicU32,
    /// Checks it, after a question got no answer, until it gives one.
    check: Mutex<Option<AbortOnDropHandle<()>>>,
    pub(crate) counts: Arc<Proxy>,
}

impl Upstream {
    pub(crate) fn new(target: Target, settings: Arc<Settings>, counts: Arc<Proxy>) -> Self {
        let (streams, fails, check) = Default::default();
        Upstream { target, settings, streams, fails, check, counts }
    }

    /// Its answer. What is cut is asked for again by TCP at once, so that caches get the whole.
    pub(crate) async fn ask(&self, question: &Question, tcp: bool) -> io::Result<Message> {
        let begin = Instant::now();
        let mut message = self.message(question, tcp).await?;
        let odd = matches!(message.metadata.response_code, ResponseCode::FormErr | ResponseCode::NotImp);
        if odd && message.edns.is_none() {
            // It may be the EDNS that it does not understand (RFC 6891 §7).
            message = self.message(&question.plain(), tcp).await?;
        }
        self.counts.answered(message.metadata.response_code, begin.elapsed());
        Ok(message)
    }

    async fn message(&self, question: &Question, tcp: bool) -> io::Result<Message> {
        let streamed = tcp || self.target.tls.is_some();
        // That there are many questions is not the resolver's fault: its time begins afterwards.
        let socket = if streamed { None } else { SOCKETS.acquire().await.ok() };
        let mut packet = self.exchange(question, streamed).await?;
        drop(socket);
        let cut = packet.len() > DATAGRAM || packet[2] & 0x02 != 0;
        if cut && !streamed {
            match self.exchange(question, true).await {
                Ok(whole) => packet = whole,
                Err(error) => tracing::debug!("resolver {} by tcp: {error}", self.target.address),
            }
        }
        let mut message = Message::from_vec(&packet).map_err(io::Error::other)?;
        message.signature = None;
        Ok(message)
    }

    /// The packet that answers a question.
    async fn exchange(&self, question: &Question, streamed: bool) -> io::Result<Vec<u8>> {
        let asked = async {
            if !streamed {
                self.counts.asked(false, false, false);
                return self.by_udp(question).await;
            }
            let (answer, kept) = self.streams.ask(question, self.settings.limits, || self.connect()).await;
            self.counts.asked(true, self.target.tls.is_some(), kept);
            answer
        };
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
        timeout(self.settings.limits.patience, asked).await.map_err(late)?
    }

    /// Where questions leave from.
    fn source(&self) -> SocketAddr {
        let any = match self.target.address {
            SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        };
        SocketAddr::new(self.settings.source.unwrap_or(any), 0)
    }

    async fn by_udp(&self, question: &Question) -> io::Result<Vec<u8>> {
        // A socket for each question: its port is as hard to guess as the id, and the kernel drops
        // what comes from elsewhere (RFC 5452 §9.2).
        let socket = UdpSocket::bind(self.source()).await?;
        socket.connect(self.target.address).await?;
        let id = random();
        socket.send(&question.under(id)).await?;
        let mut answer = vec![0; DATAGRAM + 1];
        loop {
            let length = socket.recv(&mut answer).await?;
            if question.answered_by(id, &answer[..length]) {
                answer.truncate(length);
                return Ok(answer);
            }
        }
    }

    fn connect(&self) -> Connecting {
        let (Target { address, tls }, source) = (self.target.clone(), self.source());
        async move {
            let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            if !source.ip().is_unspecified() {
                socket.bind(source)?;
            }
            let stream = socket.connect(address).await?;
            stream.set_nodelay(true)?;
            let stream: Box<dyn Stream> = match tls {
                Some((config, name)) => Box::new(TlsConnector::from(config).connect(name, stream).await?),
                None => Box::new(stream),
            };
            Ok(stream)
        }
        .boxed()
    }

    /// Whether it gave no answer and was not seen well since.
    pub(crate) fn suspected(&self) -> bool {
        let check = self.check.lock().unwrap_or_else(PoisonError::into_inner);
        check.as_ref().is_some_and(|check| !check.is_finished())
    }

    /// Whether so many checks failed that it is not asked.
    pub(crate) fn down(&self) -> bool {
        let most = self.settings.max_fails;
        most > 0 && self.fails.load(Ordering::Relaxed) >= most
    }

    /// Checks it until it answers anything at all.
    pub(crate) fn suspect(self: &Arc<Self>) {
        let mut check = self.check.lock().unwrap_or_else(PoisonError::into_inner);
        if self.settings.max_fails == 0 || check.as_ref().is_some_and(|check| !check.is_finished()) {
            return;
        }
        let (upstream, interval) = (Arc::downgrade(self), self.settings.check_interval);
        *check = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            while let Some(upstream) = upstream.upgrade() {
                let streamed = upstream.settings.force_tcp || upstream.target.tls.is_some();
                let answer = timeout(CHECK, upstream.exchange(&upstream.settings.check, streamed)).await;
                if matches!(answer, Ok(Ok(_))) {
                    upstream.fails.store(0, Ordering::Relaxed);
                    return;
                }
                upstream.fails.fetch_add(1, Ordering::Relaxed);
                upstream.counts.failed_checks.fetch_add(1, Ordering::Relaxed);
                drop(upstream);
                sleep(interval).await;
            }
        })));
    }
}
