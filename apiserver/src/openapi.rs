//! OpenAPI over HTTP, as kube-apiserver has it: by hash, kept by clients as long as that stands.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use jiff::SignedDuration;
use schema::{Encoding, Registry};

use crate::body::{self, Body};
use crate::media;
use crate::query::Query;
use crate::status::Status;

const JSON: &str = "application/json";
const V2: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
const V3: &str = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf";

/// How long a client may keep what never changes.
const YEAR: SignedDuration = SignedDuration::from_hours(365 * 24);

/// Answers a path below `/openapi/`.
pub(crate) fn answer(
    registry: &Registry,
    path: &str,
    query: &Query,
    headers: &HeaderMap,
) -> Result<Response<Body>, Status> {
    if path == "v3" {
        let index = registry.openapi_index().to_string();
        return Ok(body::response(200, JSON, index.into(), headers));
    }
    let document = path.strip_prefix("v3/");
    let protobuf = match document {
        None if path != "v2" => return Err(Status::no_such_path()),
        None => V2,
        Some(_) => V3,
    };
    let refused = || Status::not_acceptable(&[JSON, protobuf].join(", "));
    let (encoding, content_type) = encoding(headers, protobuf).ok_or_else(refused)?;
    let hash = registry.openapi_hash(document.unwrap_or_default()).ok_or_else(Status::no_such_path)?;
    let asked = query.get("hash");
    if let Some(document) = document
        && asked.is_some_and(|asked| asked != hash)
    {
        return Ok(moved(document, &hash));
    }
    let make = || match document {
        None => Some(registry.openapi_v2(encoding)),
        Some(document) => registry.openapi_v3(document, encoding),
    };
    let mut response = tagged(&hash, content_type, headers, || make().unwrap_or_default().into());
    if document.is_some() && asked.is_some() {
        // What has its hash in its address never changes.
        let expires = jiff::Timestamp::now() + YEAR;
        let told = [
            (header::CACHE_CONTROL, "public, immutable".to_owned()),
            (header::EXPIRES, expires.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()),
        ];
        insert(&mut response, told);
    }
    Ok(response)
}

/// An answer that a client keeps with its tag and asks about again: 304 while the tag stands.
pub(crate) fn tagged(
    tag: &str,
    content_type: &'static str,
    headers: &HeaderMap,
    make: impl FnOnce() -> Bytes,
) -> Response<Body> {
    let tag = format!("\"{tag}\"");
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let fresh =
        known.flat_map(|value| value.split(',')).any(|one| matches!(one.trim(), one if one == tag || one == "*"));
    let mut response = if fresh {
        let mut response = Response::new(body::full(""));
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        body::response(200, content_type, make(), headers)
    };
    insert(&mut response, [(header::ETAG, tag)]);
    response.headers_mut().append(header::VARY, HeaderValue::from_static("Accept"));
    response
}

/// To the address of the document as it is now.
fn moved(document: &str, hash: &str) -> Response<Body> {
    let mut response = Response::new(body::full(""));
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    insert(&mut response, [(header::LOCATION, format!("/openapi/v3/{document}?hash={hash}"))]);
    response
}

fn insert(response: &mut Response<Body>, headers: impl IntoIterator<Item = (HeaderName, String)>) {
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    }
}

/// The best of the accepted media types that there is, and its content type; the one with `@` is what it was called
/// before it was found to be no media type.
fn encoding(headers: &HeaderMap, protobuf: &'static str) -> Option<(Encoding, &'static str)> {
    let accepted = media::accepted(headers);
    if accepted.is_empty() {
        return Some((Encoding::Json, JSON));
    }
    accepted.into_iter().find_map(|range| match range.split(';').next().unwrap_or_default().trim() {
        "*/*" | "application/*" | JSON => Some((Encoding::Json, JSON)),
        range if range.replace('@', ".") == protobuf => Some((Encoding::Protobuf, protobuf)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_accept() {
        for (accept, expected) in [
            ("application/json", Some(Encoding::Json)),
            ("application/com.github.proto-openapi.spec.v2@v1.0+protobuf", Some(Encoding::Protobuf)),
            ("application/com.github.proto-openapi.spec.v2.v1.0+protobuf, application/json", Some(Encoding::Protobuf)),
            ("text/html, */*;q=0.8", Some(Encoding::Json)),
            ("application/com.github.proto-openapi.spec.v3@v1.0+protobuf", None),
            ("text/html", None),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]);
            assert_eq!(encoding(&headers, V2).map(|found| found.0), expected, "{accept}");
        }
        assert_eq!(encoding(&HeaderMap::new(), V2), Some((Encoding::Json, JSON)));
    }
}
