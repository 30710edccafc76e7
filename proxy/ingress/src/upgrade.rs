//! Requests that leave HTTP, WebSockets most of all (RFC 9110, section 7.8).

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderValue, Method, Request, StatusCode, Version, request};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::ext::Protocol;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio::time::timeout;
use tracing::debug;

use crate::body::Outgoing;
use crate::head::strip;
use crate::limit::Place;
use crate::pool::Answer;
use crate::record::Trace;
use crate::send::{Reply, Tries, Way};
use crate::serve::{HEAD, Thread};

/// What the client wants to leave HTTP/1.1 for. It cannot be HTTP/2: requests would follow that no rule has seen.
pub(crate) fn wanted(parts: &request::Parts) -> Option<HeaderValue> {
    if over_second(parts) {
        return Some(HeaderValue::from_static("websocket"));
    }
    let tokens = |name| {
        let lines = parts.headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
        lines.flat_map(|line| line.split(',')).map(str::trim)
    };
    let protocol = parts.headers.get(UPGRADE).filter(|_| parts.version == Version::HTTP_11)?;
    let other = tokens(UPGRADE).all(|token| !token.to_ascii_lowercase().starts_with("h2"));
    (other && tokens(CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"))).then(|| protocol.clone())
}

/// True for a WebSocket inside a stream of HTTP/2 (RFC 8441).
pub(crate) fn over_second(parts: &request::Parts) -> bool {
    let protocol = parts.extensions.get::<Protocol>();
    parts.method == Method::CONNECT && protocol.is_some_and(|protocol| protocol.as_str() == "websocket")
}

/// Passes the request on over a connection of its own, and what follows in both directions if the endpoint agrees. That
/// ends when both have been silent for as long as an endpoint may be.
pub(crate) async fn send(
    thread: &Thread,
    way: &Way<'_>,
    trace: &mut Trace,
    mut parts: request::Parts,
    body: Incoming,
    protocol: HeaderValue,
    place: Option<Place>,
) -> Result<Reply, StatusCode> {
    parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    parts.headers.insert(UPGRADE, protocol);
    let second = over_second(&parts);
    if second {
        let key = STANDARD.encode([thread.random(), thread.random()].map(u64::to_ne_bytes).concat());
        parts.method = Method::GET;
        parts.headers.extend(HeaderValue::try_from(key).ok().map(|key| (SEC_WEBSOCKET_KEY, key)));
    }
    let ours = parts.extensions.remove::<hyper::upgrade::OnUpgrade>();
    // The client's connection is none of the server's any more, then.
    let room = thread.places.clone().try_acquire_owned().map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    let (at, stream) = Tries::new(thread, way, trace).connect().await?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|_| StatusCode::BAD_GATEWAY)?;
    tokio::spawn(connection.with_upgrades());
    let body = Outgoing::new(body, None).unwrap_or(Outgoing::Empty);
    let sending = sender.send_request(Request::from_parts(parts, body));
    let answered = timeout(way.timeouts.read, sending).await.map_err(|_| StatusCode::GATEWAY_TIMEOUT)?;
    let mut response = answered.map_err(|_| StatusCode::BAD_GATEWAY)?;
    trace.answered = Some((at, response.status()));
    let (mut place, patience) = (place, way.timeouts.read);
    if response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(ours) = ours
    {
        let (theirs, place) = (hyper::upgrade::on(&mut response), place.take());
        tokio::spawn(async move {
            let _kept = (place, room);
            let (ours, theirs) = match futures::future::try_join(ours, theirs).await {
                Ok(both) => both,
                Err(error) => return debug!("failed to upgrade: {error}"),
            };
            if let Err(error) = relay(TokioIo::new(ours), TokioIo::new(theirs), patience).await {
                debug!("upgraded connection: {error}");
            }
        });
        if second {
            *response.status_mut() = StatusCode::OK;
            response.headers_mut().remove(SEC_WEBSOCKET_ACCEPT);
            strip(response.headers_mut());
        }
    } else if second && response.status().is_success() {
        // To the client that would mean that the endpoint agrees.
        return Err(StatusCode::BAD_GATEWAY);
    } else {
        strip(response.headers_mut());
    }
    let response = response.map(|body| {
        let mut answer = Answer::new(body, None, patience);
        answer.place = place;
        answer.into()
    });
    Ok(Reply { at, response })
}

/// Copies in both directions, until both are silent for too long.
async fn relay(
    mut ours: impl AsyncRead + AsyncWrite + Unpin,
    theirs: impl AsyncRead + AsyncWrite + Unpin,
    patience: std::time::Duration,
) -> io::Result<()> {
    let steps = Arc::new(AtomicU32::new(0));
    let mut theirs = Counted { stream: theirs, steps: steps.clone() };
    let mut copying = pin!(copy_bidirectional(&mut ours, &mut theirs));
    loop {
        let before = steps.load(Ordering::Relaxed);
        match timeout(patience, &mut copying).await {
            Ok(copied) => return copied.map(|_| ()),
            Err(_) if steps.load(Ordering::Relaxed) == before => return Err(io::ErrorKind::TimedOut.into()),
            Err(_) => {}
        }
    }
}

/// A stream whose reads and writes are counted.
struct Counted<T> {
    stream: T,
    steps: Arc<AtomicU32>,
}

impl<T> Counted<T> {
    fn count<R>(&self, polled: Poll<R>) -> Poll<R> {
        self.steps.fetch_add(polled.is_ready().into(), Ordering::Relaxed);
        polled
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.count(polled)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.count(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
