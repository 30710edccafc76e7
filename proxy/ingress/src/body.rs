//! The bodies that pass through.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::{Full, Limited};
use hyper::body::Incoming;

use crate::pool::Answer;

/// What can be wrong with a body.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// A request's body on its way to an endpoint.
pub(crate) enum Outgoing {
    /// The client's, no longer than its policy allows.
    Limited(Limited<Incoming>),
    /// The client's, of any length.
    Unlimited(Incoming),
    /// One of our own.
    Full(Full<Bytes>),
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.get_mut() {
            Outgoing::Limited(body) => Pin::new(body).poll_frame(cx),
            Outgoing::Unlimited(body) => Pin::new(body).poll_frame(cx).map_err(Error::from),
            Outgoing::Full(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Outgoing::Limited(body) => body.is_end_stream(),
            Outgoing::Unlimited(body) => body.is_end_stream(),
            Outgoing::Full(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Outgoing::Limited(body) => body.size_hint(),
            Outgoing::Unlimited(body) => body.size_hint(),
            Outgoing::Full(body) => body.size_hint(),
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

/// A response's body that keeps something until it is gone.
pub(crate) struct Held<T> {
    pub(crate) body: Body,
    pub(crate) _by: T,
}

impl<T: Unpin> http_body::Body for Held<T> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
