//! The bodies that pass through.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;

use crate::delivery::handed;
use crate::pool::Answer;
use crate::record::Record;

/// What can be wrong with a body.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// A request's body on its way to an endpoint.
pub(crate) enum Outgoing {
    /// There is none.
    Empty,
    /// The client's.
    Passing(Passing),
}

/// A client's body, no longer than its policy allows.
pub(crate) struct Passing {
    body: Incoming,
    left: u64,
    progress: Arc<Progress>,
}

/// How far a body has come.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    steps: AtomicU32,
    /// The client has it that the next step is not done.
    client: AtomicBool,
    done: AtomicBool,
    too_long: AtomicBool,
}

impl Progress {
    /// A number that grows.
    pub(crate) fn steps(&self) -> u32 {
        self.steps.load(Ordering::Relaxed)
    }

    /// Whether it is the client that is waited for.
    pub(crate) fn client(&self) -> bool {
        self.client.load(Ordering::Relaxed)
    }

    /// All of it was taken.
    pub(crate) fn done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }

    /// There was more than is allowed.
    pub(crate) fn too_long(&self) -> bool {
        self.too_long.load(Ordering::Relaxed)
    }
}

impl Outgoing {
    /// The client's body within a limit; `None` when it says itself that it is longer.
    pub(crate) fn new(body: Incoming, limit: Option<u64>) -> Option<Self> {
        use http_body::Body as _;
        let left = limit.unwrap_or(u64::MAX);
        if body.is_end_stream() {
            return Some(Outgoing::Empty);
        }
        (body.size_hint().lower() <= left).then(|| Outgoing::Passing(Passing { body, left, progress: Arc::default() }))
    }

    /// How far it has come, if there is one.
    pub(crate) fn progress(&self) -> Option<Arc<Progress>> {
        match self {
            Outgoing::Empty => None,
            Outgoing::Passing(passing) => Some(passing.progress.clone()),
        }
    }
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Outgoing::Passing(Passing { body, left, progress }) = self.get_mut() else { return Poll::Ready(None) };
        let polled = Pin::new(&mut *body).poll_frame(cx);
        progress.client.store(polled.is_pending(), Ordering::Relaxed);
        let Poll::Ready(frame) = polled else { return Poll::Pending };
        progress.steps.fetch_add(1, Ordering::Relaxed);
        let Some(frame) = frame.transpose()? else {
            progress.done.store(true, Ordering::Relaxed);
            return Poll::Ready(None);
        };
        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
        match left.checked_sub(length) {
            Some(rest) => {
                *left = rest;
                progress.done.store(http_body::Body::is_end_stream(body), Ordering::Relaxed);
                Poll::Ready(Some(Ok(frame)))
            }
            None => {
                progress.too_long.store(true, Ordering::Relaxed);
                Poll::Ready(Some(Err("the body is longer than allowed".into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Outgoing::Empty => true,
            Outgoing::Passing(passing) => passing.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Outgoing::Empty => SizeHint::with_exact(0),
            Outgoing::Passing(passing) => passing.body.size_hint(),
        }
    }
}

/// A response's body on its way to the client.
pub(crate) enum Body {
    /// An endpoint's, with the connection that it comes from.
    Relayed(Box<Answer>),
    /// One of our own.
    Full(Full<Bytes>),
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.get_mut() {
            Body::Relayed(body) => Pin::new(body).poll_frame(cx),
            Body::Full(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Relayed(body) => body.is_end_stream(),
            Body::Full(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Relayed(body) => body.size_hint(),
            Body::Full(body) => body.size_hint(),
        }
    }
}

/// A response's body on a client's connection.
pub(crate) struct Held {
    pub(crate) body: Body,
    /// It is counted with the requests of its connection until it is gone.
    pub(crate) _by: Arc<AtomicUsize>,
    /// It is recorded then.
    pub(crate) record: Option<Box<Record>>,
    /// How much is handed on at once, in bytes, and what is left of a larger piece.
    pub(crate) piece: usize,
    pub(crate) rest: Bytes,
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let mut polled = match std::mem::take(&mut this.rest) {
            rest if rest.is_empty() => Pin::new(&mut this.body).poll_frame(cx),
            rest => Poll::Ready(Some(Ok(Frame::data(rest)))),
        };
        handed(polled.is_ready());
        if let Poll::Ready(Some(Ok(frame))) = &mut polled
            && let Some(data) = frame.data_mut()
        {
            this.rest = data.split_off(data.len().min(this.piece));
            if let Some(record) = &mut this.record {
                record.sent += data.len() as u64;
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    /// Before the first piece.
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
