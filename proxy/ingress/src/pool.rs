//! Connections to endpoints over HTTP/1.1, kept alive by one thread.
//!
//! A connection is no task: whoever uses it polls it, the request while it waits for the head of the answer and
//! then the answer's body. So the request's own task is the only one that is woken. One that rests in the pool
//! is polled as it is taken, and by the sweep, which notices that its endpoint closed it.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
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
use tokio::time::{Instant, Sleep};

use crate::body::{Error, Outgoing};
use crate::limit::Place;
use crate::peer::{Peer, Stream};
use crate::serve::HEAD;

/// How many connections rest at once, over all endpoints.
const RESTING: usize = 320;
/// For how long one may rest.
const REST: Duration = Duration::from_secs(60);

/// A connection to an endpoint, with at most one request on it.
pub(crate) struct Exchange {
    sender: SendRequest<Outgoing>,
    connection: Connection<TokioIo<Stream>, Outgoing>,
    peer: Peer,
    pool: Arc<Pool>,
    since: Instant,
    /// It carried a request before: its endpoint may be closing it at this moment.
    pub(crate) reused: bool,
}

/// The connections that rest.
#[derive(Default)]
pub(crate) struct Pool {
    resting: Mutex<Resting>,
}

#[derive(Default)]
struct Resting {
    by_endpoint: HashMap<Peer, Vec<Exchange>>,
    count: usize,
}

impl Pool {
    /// One that rests and whose endpoint has not closed it.
    pub(crate) fn take(&self, peer: Peer) -> Option<Exchange> {
        loop {
            let mut resting = self.lock();
            let mut exchange = resting.by_endpoint.get_mut(&peer)?.pop()?;
            resting.count -= 1;
            drop(resting);
            if exchange.rests() {
                return Some(exchange);
            }
        }
    }

    fn put(&self, mut exchange: Exchange) {
        let mut resting = self.lock();
        if resting.count < RESTING {
            exchange.reused = true;
            exchange.since = Instant::now();
            resting.count += 1;
            resting.by_endpoint.entry(exchange.peer).or_default().push(exchange);
        }
    }

    /// Forgets connections that are closed or have rested long enough.
    pub(crate) fn sweep(&self) {
        let mut gone = Vec::new();
        let mut resting = self.lock();
        resting.by_endpoint.retain(|_, exchanges| {
            gone.extend(exchanges.extract_if(.., |exchange| exchange.since.elapsed() > REST || !exchange.rests()));
            !exchanges.is_empty()
        });
        resting.count -= gone.len();
    }

    fn lock(&self) -> MutexGuard<'_, Resting> {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Exchange {
    /// Speaks HTTP/1.1 on a new connection.
    pub(crate) async fn new(stream: Stream, peer: Peer, pool: Arc<Pool>) -> io::Result<Self> {
        let (sender, connection) =
            http1::Builder::new().max_buf_size(HEAD).handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let mut exchange = Exchange { sender, connection, peer, pool, since: Instant::now(), reused: false };
        // The first poll says that it takes a request.
        exchange.rests();
        Ok(exchange)
    }

    /// Whether it is open and has nothing under way.
    fn rests(&mut self) -> bool {
        let polled = Pin::new(&mut self.connection).poll(&mut Context::from_waker(Waker::noop()));
        polled.is_pending() && self.sender.is_ready()
    }

    /// Sends a request and waits for the head of the answer.
    pub(crate) async fn send(
        &mut self,
        request: Request<Outgoing>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Outgoing>>> {
        let mut response = pin!(self.sender.try_send_request(request));
        let connection = &mut self.connection;
        poll_fn(|cx| {
            // It is the connection that wakes; the response comes from it, in this same poll.
            let _ = Pin::new(&mut *connection).poll(cx);
            response.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        })
        .await
    }
}

/// The body of an endpoint's answer.
pub(crate) struct Answer {
    body: Incoming,
    /// The connection it comes from; none where that is a task of its own.
    exchange: Option<Exchange>,
    /// For how long the endpoint may be silent.
    patience: Duration,
    silence: Option<Pin<Box<Sleep>>>,
    /// What its client has for as long as it lasts.
    pub(crate) place: Option<Place>,
}

impl Answer {
    pub(crate) fn new(body: Incoming, exchange: Option<Exchange>, patience: Duration) -> Self {
        Answer { body, exchange, patience, silence: None, place: None }
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        if let Some(exchange) = &mut this.exchange {
            let _ = Pin::new(&mut exchange.connection).poll(cx);
        }
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.silence = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Error::from)));
        }
        let silence = this.silence.get_or_insert_with(|| Box::pin(tokio::time::sleep(this.patience)));
        silence.as_mut().poll(cx).map(|()| Some(Err("the endpoint stopped in the middle of its answer".into())))
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
        if let Some(mut exchange) = self.exchange.take()
            && exchange.rests()
        {
            exchange.pool.clone().put(exchange);
        }
    }
}
