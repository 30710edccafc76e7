//! What is wrong with a request that reached us, though it can be read.

use http::header::{HOST, HeaderValue};
use http::{Method, StatusCode, Version, request};

use crate::upgrade;

/// How many fields a head may have; hyper holds to it in HTTP/1.
const FIELDS: usize = 100;

/// The answer to a request that goes nowhere: one without a path, or without exactly one host that could be one (RFC 9112,
/// section 3.2; RFC 9113, section 8.3.1), with spaces around a value (section 8.2.1), or of a method that is not for
/// servers behind others, as nginx says.
pub(crate) fn refused(parts: &request::Parts) -> Option<StatusCode> {
    if matches!(parts.method, Method::CONNECT | Method::TRACE) && !upgrade::over_second(parts) {
        return Some(StatusCode::METHOD_NOT_ALLOWED);
    }
    if parts.headers.len() > FIELDS {
        return Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    }
    // HTTP/1.1 has spaces around values that are none of theirs.
    let spaced = |value: &HeaderValue| {
        let ends = [value.as_bytes().first(), value.as_bytes().last()];
        ends.into_iter().flatten().any(|byte| matches!(byte, b' ' | b'\t'))
    };
    if parts.version == Version::HTTP_2 && parts.headers.values().any(spaced) {
        return Some(StatusCode::BAD_REQUEST);
    }
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    let mut hosts = parts.headers.get_all(HOST).iter().map(|host| host.as_bytes());
    let (host, more) = (hosts.next(), hosts.next());
    let differs = parts.version == Version::HTTP_2 && authority.is_some() && host.is_some() && authority != host;
    let fine = match authority.or(host) {
        None => parts.version == Version::HTTP_10,
        Some(host) => !host.is_empty() && host.iter().all(in_host),
    };
    let nowhere = !parts.uri.path().starts_with('/');
    (!fine || differs || nowhere || more.is_some()).then_some(StatusCode::BAD_REQUEST)
}

/// Whether a byte may be in a host with its port: unreserved or percent-encoded, or of an address in brackets.
fn in_host(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%:[]".contains(byte)
}

/// Whether backends may mix up a header with others by its name, which is in lower case: most of all by underscores, since
/// CGI has no other letters for a hyphen (nginx: `underscores_in_headers off`, `ignore_invalid_headers on`).
pub(crate) fn odd(name: &str) -> bool {
    !name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}
