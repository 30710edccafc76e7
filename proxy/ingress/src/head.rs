//! The heads of requests as they go on to endpoints.

use std::net::SocketAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{PathAndQuery, Uri};
use http::{Version, request};

use crate::{Route, hygiene};

pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_SCHEME: HeaderName = HeaderName::from_static("x-forwarded-scheme");
const X_ORIGINAL_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-original-forwarded-for");
const X_ORIGINAL_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-original-forwarded-host");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
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
    remove(headers, hop_by_hop);
}

/// Whether a header is for one connection only (RFC 9110, section 7.6.1).
fn hop_by_hop(name: &str) -> bool {
    matches!(name, "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade" | "te")
}

/// Removes headers by their names, and those that `Connection` names if it is one of them. Most heads have none.
fn remove(headers: &mut HeaderMap, gone: impl Fn(&str) -> bool) {
    if headers.keys().any(|name| gone(name.as_str())) {
        let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
        let named = values.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok());
        let known = headers.keys().filter(|name| gone(name.as_str())).cloned();
        let names: Vec<HeaderName> = named.filter(|name| *name != header::HOST).chain(known).collect();
        for name in names {
            headers.remove(name);
        }
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
/// forwarded it for whom. The `id` is for a request that has none.
pub(crate) fn forward(
    parts: &mut request::Parts,
    host: Option<HeaderValue>,
    client: &Client,
    route: &Route,
    id: impl FnOnce() -> HeaderValue,
) {
    let policy = &route.policy;
    let absolute = parts.uri.authority().is_some();
    remove(&mut parts.headers, |name| {
        let ours = matches!(name, "proxy" | "expect" | "x-original-forwarded-for" | "x-original-forwarded-host");
        ours || hop_by_hop(name) || hygiene::odd(name)
    });
    if let Some(path) = route.rewrite(parts.uri.path()) {
        if let Some(target) = target(path, parts.uri.query()) {
            parts.uri = Uri::from(target);
        }
        if let Some(prefix) = &policy.prefix {
            parts.headers.insert(X_FORWARDED_PREFIX, prefix.clone());
        }
    } else if absolute {
        let path = parts.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        parts.uri = Uri::from(path);
    }
    if parts.version == Version::HTTP_2 {
        join(&mut parts.headers);
    }
    parts.version = Version::HTTP_11;
    let headers = &mut parts.headers;
    if policy.auth.is_some() {
        headers.remove(header::AUTHORIZATION);
    }
    let port = HeaderValue::from_static(if client.tls { "443" } else { "80" });
    let scheme = HeaderValue::from_static(client.scheme());
    headers.insert(X_REAL_IP, client.address.clone());
    if let Some(before) = headers.insert(X_FORWARDED_FOR, client.address.clone()) {
        headers.insert(X_ORIGINAL_FORWARDED_FOR, before);
    }
    headers.insert(X_FORWARDED_PORT, port);
    headers.insert(X_FORWARDED_PROTO, scheme.clone());
    headers.insert(X_FORWARDED_SCHEME, scheme.clone());
    headers.insert(X_SCHEME, scheme);
    headers.entry(X_REQUEST_ID).or_insert_with(id);
    if let Some(host) = policy.vhost.clone().or_else(|| host.clone().filter(|_| absolute)) {
        headers.insert(header::HOST, host);
    }
    if let Some(host) = host
        && let Some(before) = headers.insert(X_FORWARDED_HOST, host)
    {
        headers.insert(X_ORIGINAL_FORWARDED_HOST, before);
    }
}

/// A rewritten path, which may have a query of its own, with the query that the client sent.
fn target(path: String, query: Option<&str>) -> Option<PathAndQuery> {
    let both = match query {
        Some(query) if path.contains('?') => format!("{path}&{query}"),
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    PathAndQuery::try_from(both).ok()
}

/// Joins the crumbs of cookies that HTTP/2 allows (RFC 9113, section 8.2.3).
fn join(headers: &mut HeaderMap) {
    let crumbs = || headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
    if crumbs().nth(1).is_some() {
        let whole = crumbs().collect::<Vec<_>>().join(&b"; "[..]);
        if let Ok(whole) = HeaderValue::from_bytes(&whole) {
            headers.insert(header::COOKIE, whole);
        }
    }
}
