//! How a request reaches an endpoint: whom to ask, whom next, and for how long to wait.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HOST, TE};
use http::uri::{Authority, Scheme};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, request};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http2};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tracing::debug;

use crate::body::{Outgoing, Progress};
use crate::peer::Peer;
use crate::pool::{Answer, Exchange};
use crate::record::Trace;
use crate::serve::Thread;
use crate::stream::Stream;
use crate::{Protocol, Timeouts, Upstream};

/// How many endpoints are tried for a request (`proxy_next_upstream_tries`).
const TRIES: usize = 3;

/// Bytes that the fields of most requests need.
const SPARE: usize = 1000;

/// Where to, and how.
pub(crate) struct Way<'a> {
    pub(crate) upstream: &'a Upstream,
    pub(crate) protocol: Protocol,
    pub(crate) timeouts: &'a Timeouts,
    /// The number of the endpoint that is asked first; otherwise the one whose turn it is.
    pub(crate) first: Option<usize>,
}

/// An endpoint's answer, and which one's.
pub(crate) struct Reply {
    pub(crate) at: SocketAddr,
    pub(crate) response: Response<Box<Answer>>,
}

/// Endpoints of an upstream, one after the other.
pub(crate) struct Tries<'a> {
    thread: &'a Thread,
    way: &'a Way<'a>,
    endpoints: Arc<[SocketAddr]>,
    turn: usize,
    trace: &'a mut Trace,
    /// What is answered, when there are no more.
    pub(crate) failed: StatusCode,
}

impl<'a> Tries<'a> {
    pub(crate) fn new(thread: &'a Thread, way: &'a Way<'a>, trace: &'a mut Trace) -> Self {
        let turn = way.first.unwrap_or_else(|| way.upstream.turn());
        let (endpoints, failed) = (way.upstream.endpoints(), StatusCode::SERVICE_UNAVAILABLE);
        Tries { thread, way, endpoints, turn, trace, failed }
    }

    /// The next one.
    pub(crate) fn next(&mut self) -> Option<Peer> {
        if self.trace.tried.len() == TRIES {
            return None;
        }
        let at = self.thread.aside.pick(&self.endpoints, self.turn, &self.trace.tried, Instant::now())?;
        Some(Peer { at, protocol: self.way.protocol })
    }

    /// It could not be reached.
    pub(crate) fn unreachable(&mut self, peer: Peer, error: &io::Error) {
        debug!("endpoint {} of {:?}: {error}", peer.at, self.way.upstream.service);
        self.thread.aside.put(peer.at, Instant::now());
        self.trace.tried.push(peer.at);
        self.failed = match error.kind() {
            ErrorKind::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::BAD_GATEWAY,
        };
    }

    fn failed(&mut self, peer: Peer, failed: StatusCode) {
        self.trace.tried.push(peer.at);
        self.failed = failed;
    }

    /// A new connection to the next endpoint that takes one.
    pub(crate) async fn connect(&mut self) -> Result<(SocketAddr, Stream<TcpStream>), StatusCode> {
        while let Some(peer) = self.next() {
            match peer.connect(&self.thread.connect, self.way.timeouts.connect).await {
                Ok(stream) => return Ok((peer.at, stream)),
                Err(error) => self.unreachable(peer, &error),
            }
        }
        Err(self.failed)
    }
}

/// A connection that takes a request.
enum Channel {
    Own(Box<Exchange>),
    Shared(http2::SendRequest<Outgoing>),
}

impl Channel {
    async fn reach(thread: &Thread, peer: Peer, timeouts: &Timeouts) -> io::Result<Self> {
        if let Protocol::Grpc | Protocol::Grpcs = peer.protocol {
            return Ok(Channel::Shared(thread.channels.reach(peer, &thread.connect, timeouts.connect).await?));
        }
        if let Some(exchange) = thread.pool.take(peer) {
            return Ok(Channel::Own(exchange));
        }
        let stream = peer.connect(&thread.connect, timeouts.connect).await?;
        Ok(Channel::Own(Exchange::new(stream, peer, Arc::clone(&thread.pool)).await?))
    }

    /// The answer, if it comes within `patience`.
    async fn send(
        &mut self,
        request: Request<Outgoing>,
        patience: Option<Duration>,
    ) -> Option<Result<Response<Incoming>, TrySendError<Request<Outgoing>>>> {
        match (self, patience) {
            (Channel::Own(exchange), _) => exchange.send(request, patience).await,
            (Channel::Shared(sender), Some(patience)) => timeout(patience, sender.try_send_request(request)).await.ok(),
            (Channel::Shared(sender), None) => Some(sender.try_send_request(request).await),
        }
    }
}

/// Sends a request to one endpoint after the other, until one has taken it.
pub(crate) async fn send(
    thread: &Thread,
    way: &Way<'_>,
    trace: &mut Trace,
    mut parts: request::Parts,
    body: Outgoing,
) -> Result<Reply, StatusCode> {
    if let Protocol::Grpc | Protocol::Grpcs = way.protocol {
        second(&mut parts, way.protocol);
    }
    let mut tries = Tries::new(thread, way, trace);
    let progress = body.progress();
    let patience = progress.is_none().then_some(way.timeouts.read);
    let spare = (progress.is_none() && repeatable(&parts.method)).then(|| Spare::new(&parts));
    let mut request = Some(Request::from_parts(parts, body));
    while let Some(peer) = tries.next() {
        let again = || spare.as_ref()?.request();
        let Some(sent) = request.take().or_else(again) else { break };
        let mut channel = match Channel::reach(thread, peer, way.timeouts).await {
            Ok(channel) => channel,
            Err(error) => {
                request = Some(sent);
                tries.unreachable(peer, &error);
                continue;
            }
        };
        match patiently(channel.send(sent, patience), progress.as_deref(), way.timeouts).await {
            Ok(Ok(response)) if response.status().is_informational() => {
                debug!("endpoint {} of {:?}: {} unasked", peer.at, way.upstream.service, response.status());
                return Err(StatusCode::BAD_GATEWAY);
            }
            Ok(Ok(response)) => {
                tries.trace.answered = Some((peer.at, response.status()));
                let exchange = match channel {
                    Channel::Own(exchange) => Some(exchange),
                    Channel::Shared(_) => None,
                };
                let response = response.map(|body| Answer::new(body, exchange, way.timeouts.read).into());
                return Ok(Reply { at: peer.at, response });
            }
            Ok(Err(mut error)) => {
                debug!("endpoint {} of {:?}: {}", peer.at, way.upstream.service, error.error());
                request = error.take_message();
                let failed = blame(error.error(), progress.as_deref());
                tries.failed(peer, failed);
                if failed != StatusCode::BAD_GATEWAY {
                    break;
                }
            }
            Err(failed) => {
                debug!("endpoint {} of {:?}: silence", peer.at, way.upstream.service);
                tries.failed(peer, failed);
            }
        }
    }
    Err(tries.failed)
}

/// A request without a body that may have to be sent again: its fields in one piece, since it seldom has to.
struct Spare {
    method: Method,
    uri: Uri,
    version: Version,
    /// Names and values, each with an end of line after it: none has one inside.
    fields: Vec<u8>,
}

impl Spare {
    fn new(parts: &request::Parts) -> Self {
        let mut fields = Vec::with_capacity(SPARE);
        for (name, value) in &parts.headers {
            fields.extend_from_slice(name.as_str().as_bytes());
            fields.push(b'\n');
            fields.extend_from_slice(value.as_bytes());
            fields.push(b'\n');
        }
        Spare { method: parts.method.clone(), uri: parts.uri.clone(), version: parts.version, fields }
    }

    fn request(&self) -> Option<Request<Outgoing>> {
        let mut request = Request::new(Outgoing::Empty);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = self.version;
        let mut texts = self.fields.split(|byte| *byte == b'\n');
        while let (Some(name), Some(value)) = (texts.next(), texts.next()) {
            request.headers_mut().append(HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?);
        }
        Some(request)
    }
}

/// Whether a request may be sent twice when it is not known whether it was answered (RFC 9110, section 9.2.2).
fn repeatable(method: &Method) -> bool {
    method.is_idempotent()
}

/// Whose fault it is that a request could not be sent: the endpoint's, unless the client's body was none.
fn blame(error: &hyper::Error, progress: Option<&Progress>) -> StatusCode {
    match progress {
        Some(progress) if progress.too_long() => StatusCode::PAYLOAD_TOO_LARGE,
        Some(_) if error.is_user() => StatusCode::BAD_REQUEST,
        _ => StatusCode::BAD_GATEWAY,
    }
}

/// Waits for an answer, for as long as the body goes on, and then for as long as the endpoint may think. Where there is no
/// body the answer has its own bound.
async fn patiently<T>(
    answer: impl Future<Output = Option<T>>,
    progress: Option<&Progress>,
    timeouts: &Timeouts,
) -> Result<T, StatusCode> {
    let Some(progress) = progress else {
        return answer.await.ok_or(StatusCode::GATEWAY_TIMEOUT);
    };
    let mut answer = pin!(answer);
    loop {
        let before = progress.steps();
        let patience = if progress.done() { timeouts.read } else { timeouts.send };
        match timeout(patience, &mut answer).await {
            Ok(answer) => return answer.ok_or(StatusCode::GATEWAY_TIMEOUT),
            Err(_) if progress.steps() != before => {}
            Err(_) if progress.client() => return Err(StatusCode::REQUEST_TIMEOUT),
            Err(_) => return Err(StatusCode::GATEWAY_TIMEOUT),
        }
    }
}

/// Makes a head one of HTTP/2, for gRPC.
fn second(parts: &mut request::Parts, protocol: Protocol) {
    parts.version = Version::HTTP_2;
    parts.headers.insert(TE, HeaderValue::from_static("trailers"));
    let host = parts.headers.remove(HOST);
    let authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let mut uri = std::mem::take(&mut parts.uri).into_parts();
    uri.scheme = Some(if protocol == Protocol::Grpcs { Scheme::HTTPS } else { Scheme::HTTP });
    uri.authority = authority.or_else(|| "localhost".parse().ok());
    parts.uri = Uri::from_parts(uri).unwrap_or_default();
}
