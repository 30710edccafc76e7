use std::io::Write;
use std::iter::Peekable;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::Stream;
use http::{HeaderMap, HeaderValue, Response, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use tokio::time::timeout;

use crate::status::Status;

/// Any error of a body.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request or an answer.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// The largest body of a request, as in Kubernetes.
pub(crate) const REQUEST_LIMIT: usize = 3 << 20;
/// How long the body of a request may take, as whole requests may in Kubernetes.
const READ: Duration = Duration::from_secs(60);
/// Answers from this size on are compressed for clients that accept it, as in Kubernetes.
const COMPRESS_FROM: usize = 128 << 10;
/// What is joined, or compressed, in one go.
const CHUNK: usize = 64 << 10;

pub(crate) fn erase<B>(body: B) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    body.map_err(Into::into).boxed_unsync()
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

pub(crate) fn stream(chunks: impl Stream<Item = Bytes> + Send + 'static) -> Body {
    use futures::StreamExt;
    StreamBody::new(chunks.map(|chunk| Ok(Frame::data(chunk)))).boxed_unsync()
}

/// The whole body, if it is not too large and does not take too long.
pub(crate) async fn read(body: Body) -> Result<Bytes, Status> {
    read_within(body, READ).await
}

async fn read_within(body: Body, time: Duration) -> Result<Bytes, Status> {
    let late = |_| Status::new(504, "Timeout", "Timeout: request did not complete within the allotted timeout");
    timeout(time, gather(body)).await.map_err(late)?
}

async fn gather(mut body: Body) -> Result<Bytes, Status> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Status::bad_request(format!("unable to read the body: {error}")))?;
        if let Ok(data) = frame.into_data() {
            if bytes.len() + data.len() > REQUEST_LIMIT {
                return Err(Status::too_large(REQUEST_LIMIT));
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.freeze())
}

/// An answer of ready bytes, compressed when it is large and the client accepts that.
pub(crate) fn response(code: u16, content_type: &'static str, bytes: Bytes, request: &HeaderMap) -> Response<Body> {
    pieces(code, content_type, vec![bytes], request)
}

/// The same for bytes in pieces, which are joined, or compressed, a chunk at a time.
pub(crate) fn pieces(code: u16, content_type: &'static str, pieces: Vec<Bytes>, request: &HeaderMap) -> Response<Body> {
    let size: usize = pieces.iter().map(Bytes::len).sum();
    let squeezed = size >= COMPRESS_FROM && accepts_gzip(request);
    let body = if squeezed {
        stream(futures::stream::iter(Squeeze::new(pieces).filter(|chunk| !chunk.is_empty())))
    } else if size <= CHUNK {
        full(pieces.concat())
    } else if pieces.len() == 1 {
        full(pieces.into_iter().next().unwrap_or_default())
    } else {
        stream(futures::stream::iter(Join(pieces.into_iter().peekable())))
    };
    let mut response = Response::new(body);
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    if squeezed {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    response
}

fn accepts_gzip(request: &HeaderMap) -> bool {
    let accepted = request.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|coding| coding.trim() == "gzip")
}

/// Small pieces in chunks that are worth sending.
struct Join(Peekable<std::vec::IntoIter<Bytes>>);

impl Iterator for Join {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let first = self.0.next()?;
        if first.len() >= CHUNK || self.0.peek().is_none() {
            return Some(first);
        }
        let mut chunk = Vec::with_capacity(CHUNK + first.len());
        chunk.extend_from_slice(&first);
        while let Some(piece) = self.0.next_if(|piece| chunk.len() + piece.len() <= CHUNK) {
            chunk.extend_from_slice(&piece);
        }
        Some(chunk.into())
    }
}

/// Pieces as they come out of gzip: no more than a chunk of what comes in is compressed in one go.
struct Squeeze {
    pieces: std::vec::IntoIter<Bytes>,
    rest: Bytes,
    packer: Option<GzEncoder<Vec<u8>>>,
}

impl Squeeze {
    fn new(pieces: Vec<Bytes>) -> Self {
        let packer = GzEncoder::new(Vec::new(), Compression::fast());
        Squeeze { pieces: pieces.into_iter(), rest: Bytes::new(), packer: Some(packer) }
    }
}

impl Iterator for Squeeze {
    type Item = Bytes;

    /// May be empty: then there was not enough to say.
    fn next(&mut self) -> Option<Bytes> {
        let packer = self.packer.as_mut()?;
        let mut room = CHUNK;
        while room > 0 {
            if self.rest.is_empty() {
                let Some(piece) = self.pieces.next() else {
                    // Writing into memory cannot fail.
                    return self.packer.take()?.finish().ok().map(Bytes::from);
                };
                self.rest = piece;
            }
            let part = self.rest.split_to(self.rest.len().min(room));
            room -= part.len();
            packer.write_all(&part).ok()?;
        }
        Some(std::mem::take(packer.get_mut()).into())
    }
}

impl Status {
    pub(crate) fn response(&self) -> Response<Body> {
        let mut response = response(self.code, "application/json", self.to_json().into(), &HeaderMap::new());
        let retry = self.details.as_ref().and_then(|details| details.retry_after_seconds);
        if let Some(seconds) = retry {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        // For who would rather have it in another format.
        response.extensions_mut().insert(self.clone());
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bodies_that_are_large_or_late() {
        let chunk = Bytes::from(vec![b' '; 1 << 20]);
        let large = stream(futures::stream::repeat(chunk.clone()));
        assert_eq!(read(large).await.unwrap_err().code, 413);
        assert_eq!(read(stream(futures::stream::iter([chunk.clone(), chunk]))).await.unwrap().len(), 2 << 20);
        let late = stream(futures::stream::pending());
        assert_eq!(read_within(late, Duration::from_millis(20)).await.unwrap_err().code, 504);
    }

    #[test]
    fn chunks() {
        let pieces = || vec![Bytes::from(vec![b'a'; 10]); 20_000];
        let sizes: Vec<usize> = Join(pieces().into_iter().peekable()).map(|chunk| chunk.len()).collect();
        assert_eq!((sizes.len(), sizes.iter().sum::<usize>()), (4, 200_000));
        // A large piece is given in parts, too, so that no step takes long.
        assert!(Squeeze::new(vec![Bytes::from(vec![b'a'; 1 << 20])]).count() >= (1 << 20) / CHUNK);
    }
}
