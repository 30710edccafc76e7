//! Connections to endpoints over HTTP/1.1, kept alive by one thread.
//!
//! A connection is no task: whoever uses it polls it, the request while it waits for the head of the answer and
//! then the answer's body. So the request's own task is the only one that is woken. One that rests in the pool
//! is polled as it is taken, and by the sweep, which notices that its endpoint closed it; that makes it forget its last
//! task, too.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::alarm::Alarm;
use crate::body::{Error, Outgoing};
use crate::limit::Place;
use crate::peer::Peer;
use crate::stream::Stream;

/// How many connections rest at once, over all endpoints.
const RESTING: usize = 320;
/// For how long one may rest.
const REST: Duration = Duration::from_secs(60);
/// How much is read at once, in bytes; no head may be longer.
const BUFFER: usize = 256 << 10;
/// How much an endpoint may send until the head of its answer is complete, interim answers included, in bytes. The answer's
/// first pieces may come in the same moment.
const UNANSWERED: usize = 4 * BUFFER;

/// A connection to an endpoint, with at most one request on it.
pub(crate) struct Exchange {
    sender: SendRequest<Outgoing>,
    connection: Connection<TokioIo<Metered>, Outgoing>,
    /// What the endpoint may still send.
    left: Arc<AtomicUsize>,
    peer: Peer,
    pool: Arc<Pool>,
    since: Instant,
    alarm: Alarm,
}

/// The connections that rest.
#[derive(Default)]
pub(crate) struct Pool {
    resting: Mutex<Resting>,
}

#[derive(Default)]
struct Resting {
    /// Boxed, since they move with every request.
    by_endpoint: BTreeMap<Peer, VecDeque<Box<Exchange>>>,
    count: usize,
}

impl Pool {
    /// One that rests and whose endpoint has not closed it.
    pub(crate) fn take(&self, peer: Peer) -> Option<Box<Exchange>> {
        loop {
            let mut resting = self.lock();
            let mut exchange = resting.by_endpoint.get_mut(&peer)?.pop_back()?;
            resting.count -= 1;
            drop(resting);
            if exchange.rests() {
                return Some(exchange);
            }
        }
    }

    fn put(&self, mut exchange: Box<Exchange>) {
        let mut resting = self.lock();
        if resting.count < RESTING {
            exchange.since = Instant::now();
            resting.count += 1;
            resting.by_endpoint.entry(exchange.peer).or_default().push_back(exchange);
        }
    }

    /// Forgets connections that are closed or have rested long enough.
    pub(crate) fn sweep(&self) {
        let (mut resting, mut count) = (self.lock(), 0);
        resting.by_endpoint.retain(|_, exchanges| {
            exchanges.retain_mut(|exchange| exchange.since.elapsed() <= REST && exchange.rests());
            count += exchanges.len();
            !exchanges.is_empty()
        });
        resting.count = count;
    }

    fn lock(&self) -> MutexGuard<'_, Resting> {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Exchange {
    /// Speaks HTTP/1.1 on a new connection.
    pub(crate) async fn new(stream: Stream<TcpStream>, peer: Peer, pool: Arc<Pool>) -> io::Result<Box<Self>> {
        let left = Arc::new(AtomicUsize::new(usize::MAX));
        let stream = TokioIo::new(Metered { stream, left: left.clone() });
        let connecting = http1::Builder::new().max_buf_size(BUFFER).handshake(stream).await;
        let (sender, connection) = connecting.map_err(io::Error::other)?;
        let (since, alarm) = (Instant::now(), Alarm::new(REST));
        let mut exchange = Box::new(Exchange { sender, connection, left, peer, pool, since, alarm });
        // The first poll says that it takes a request.
        exchange.rests();
        Ok(exchange)
    }

    /// Whether it is open and has nothing under way.
    fn rests(&mut self) -> bool {
        let polled = Pin::new(&mut self.connection).poll(&mut Context::from_waker(Waker::noop()));
        polled.is_pending() && self.sender.is_ready()
    }

    /// Sends a request and waits for the head of the answer; `None` when there is none within `patience`.
    pub(crate) async fn send(
        &mut self,
        request: Request<Outgoing>,
        patience: Option<Duration>,
    ) -> Option<Result<Response<Incoming>, TrySendError<Request<Outgoing>>>> {
        let mut response = pin!(self.sender.try_send_request(request));
        let (connection, alarm) = (&mut self.connection, &mut self.alarm);
        patience.into_iter().for_each(|patience| alarm.set(patience));
        self.left.store(UNANSWERED, Ordering::Relaxed);
        let answered = poll_fn(|cx| {
            // It is the connection that wakes; the response comes from it, in this same poll.
            let _ = Pin::new(&mut *connection).poll(cx);
            match response.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(answered) => Poll::Ready(Some(answered)),
                Poll::Pending if patience.is_some() => alarm.poll(cx).map(|()| None),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
        self.left.store(usize::MAX, Ordering::Relaxed);
        answered
    }
}

/// A connection whose endpoint sends no more than it may: one that never comes to its answer would otherwise be read for as
/// long as it goes on.
struct Metered {
    stream: Stream<TcpStream>,
    left: Arc<AtomicUsize>,
}

impl AsyncRead for Metered {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 {
            return Poll::Ready(Err(io::Error::other("too much before the answer")));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if left != usize::MAX {
            self.left.store(left.saturating_sub(buffer.filled().len() - before), Ordering::Relaxed);
        }
        polled
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The body of an endpoint's answer.
pub(crate) struct Answer {
    body: Incoming,
    /// The connection it comes from; none where that is a task of its own.
    exchange: Option<Box<Exchange>>,
    /// For how long the endpoint may be silent, and whether it is.
    patience: Duration,
    silent: bool,
    /// Where there is no exchange's.
    alarm: Option<Alarm>,
    /// What its client has for as long as it lasts.
    pub(crate) place: Option<Place>,
}

impl Answer {
    pub(crate) fn new(body: Incoming, exchange: Option<Box<Exchange>>, patience: Duration) -> Self {
        Answer { body, exchange, patience, silent: false, alarm: None, place: None }
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let mut body = Pin::new(&mut this.body);
        let frame = match &mut this.exchange {
            None => body.poll_frame(cx),
            // What is short came with its head. It is the connection that wakes, as for that.
            Some(exchange) => match body.as_mut().poll_frame(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => {
                    let _ = Pin::new(&mut exchange.connection).poll(cx);
                    body.poll_frame(&mut Context::from_waker(Waker::noop()))
                }
                frame => frame,
            },
        };
        if let Poll::Ready(frame) = frame {
            this.silent = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(Error::from)));
        }
        let alarm = match &mut this.exchange {
            Some(exchange) => &mut exchange.alarm,
            None => this.alarm.get_or_insert_with(|| Alarm::new(this.patience)),
        };
        if !std::mem::replace(&mut this.silent, true) {
            alarm.set(this.patience);
        }
        alarm.poll(cx).map(|()| Some(Err("the endpoint stopped in the middle of its answer".into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // Nearly always its last poll has come to its rest, too.
        if let Some(mut exchange) = self.exchange.take()
            && (exchange.sender.is_ready() || exchange.rests())
        {
            exchange.pool.clone().put(exchange);
        }
    }
}
