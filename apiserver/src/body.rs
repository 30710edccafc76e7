use std::io::Write;

use bytes::{Bytes, BytesMut};
use futures::Stream;
use http::{HeaderMap, HeaderValue, Response, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;

use crate::status::Status;

/// Any error of a body.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request or an answer.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// The largest body of a request, as in Kubernetes.
pub(crate) const REQUEST_LIMIT: usize = 3 << 20;
/// Answers from this size on are compressed for clients that accept it, as in Kubernetes.
const COMPRESS_FROM: usize = 128 << 10;

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

/// The whole body, if it is not too large.
pub(crate) async fn read(mut body: Body) -> Result<Bytes, Status> {
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
    let accepts = |value: &HeaderValue| value.to_str().is_ok_and(|value| value.contains("gzip"));
    let squeeze = bytes.len() >= COMPRESS_FROM && request.get_all(header::ACCEPT_ENCODING).iter().any(accepts);
    let packed = if squeeze { gzip(&bytes) } else { None };
    let mut response = Response::new(());
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    let bytes = match packed {
        Some(packed) => {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
            packed
        }
        None => bytes,
    };
    response.map(|()| full(bytes))
}

fn gzip(bytes: &[u8]) -> Option<Bytes> {
    let mut packer = flate2::write::GzEncoder::new(Vec::with_capacity(bytes.len() / 8), flate2::Compression::fast());
    packer.write_all(bytes).ok()?;
    packer.finish().ok().map(Bytes::from)
}

impl Status {
    pub(crate) fn response(&self) -> Response<Body> {
        let mut response = response(self.code, "application/json", self.to_json().into(), &HeaderMap::new());
        let retry = self.details.as_ref().and_then(|details| details.retry_after_seconds);
        if let Some(seconds) = retry {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
