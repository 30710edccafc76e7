//! The heads of requests as they go on to endpoints.

use std::net::SocketAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{PathAndQuery, Uri};
use http::{Version, request};

use crate::Route;

/// Headers that are for one connection only (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TE,
];

const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_SCHEME: HeaderName = HeaderName::from_static("x-forwarded-scheme");
const X_SCHEME: HeaderName = HeaderName::from_static("x-scheme");

/// Who asks, and by which door.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    /// Its address.
    pub(crate) from: SocketAddr,
    /// The same as a header.
    pub(crate) address: HeaderValue,
    /// It came by TLS.
    pub(crate) tls: bool,
}

impl Client {
    pub(crate) fn new(from: SocketAddr, tls: bool) -> Self {
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        let address = HeaderValue::try_from(from.ip().to_string()).unwrap_or(HeaderValue::from_static("unknown"));
        Client { from, address, tls }
    }

    pub(crate) fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }
}

/// Removes what is for one connection only.
pub(crate) fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = match headers.get(header::CONNECTION) {
        None => Vec::new(),
        Some(_) => {
            let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
            values.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok()).collect()
        }
    };
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// The host that a request is for, as it was sent.
pub(crate) fn host(parts: &request::Parts) -> Option<HeaderValue> {
    match parts.uri.authority() {
        Some(authority) => HeaderValue::try_from(authority.as_str()).ok(),
        None => parts.headers.get(header::HOST).cloned(),
    }
}

/// Makes the head ready for an endpoint: the form of its target (RFC 9112, section 3.2.1), its host, and who
/// forwarded it for whom.
pub(crate) fn forward(parts: &mut request::Parts, host: Option<HeaderValue>, client: &Client, route: &Route) {
    strip(&mut parts.headers);
    if parts.uri.authority().is_some() {
        let path = parts.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        parts.uri = Uri::from(path);
    }
    parts.version = Version::HTTP_11;
    let headers = &mut parts.headers;
    let port = HeaderValue::from_static(if client.tls { "443" } else { "80" });
    let scheme = HeaderValue::from_static(client.scheme());
    headers.insert(X_REAL_IP, client.address.clone());
    headers.insert(X_FORWARDED_FOR, client.address.clone());
    headers.insert(X_FORWARDED_PORT, port);
    headers.insert(X_FORWARDED_PROTO, scheme.clone());
    headers.insert(X_FORWARDED_SCHEME, scheme.clone());
    headers.insert(X_SCHEME, scheme);
    if let Some(host) = host {
        headers.insert(X_FORWARDED_HOST, host.clone());
        headers.insert(header::HOST, route.policy.vhost.clone().unwrap_or(host));
    }
}
