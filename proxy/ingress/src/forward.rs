//! The walk of a request: which route, what its policy says, which endpoint, and back.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, UPGRADE};
use http::{HeaderValue, Method, Request, Response, StatusCode, request};
use http_body_util::{Full, Limited};
use hyper::body::{Body as _, Incoming};
use tokio::time::timeout;
use tracing::debug;

use crate::body::{Body, Outgoing};
use crate::head::{self, Client};
use crate::pool::{Answer, Exchange};
use crate::serve::Thread;
use crate::{Route, Table, upgrade};

/// How many endpoints are tried for a request.
const TRIES: usize = 3;

/// Answers a request.
pub(crate) async fn answer(
    thread: &Thread,
    table: &Table,
    client: &Client,
    request: Request<Incoming>,
) -> Response<Body> {
    match respond(thread, table, client, request).await {
        Ok(response) => response,
        Err(status) => {
            debug!("{} is answered {status}", client.from);
            page(status)
        }
    }
}

/// A page of our own, as short as nginx's.
pub(crate) fn page(status: StatusCode) -> Response<Body> {
    let text = format!("{} {}\n", status.as_u16(), status.canonical_reason().unwrap_or_default());
    let mut response = Response::new(Body::Full(Full::from(Bytes::from(text))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

async fn respond(
    thread: &Thread,
    table: &Table,
    client: &Client,
    request: Request<Incoming>,
) -> Result<Response<Body>, StatusCode> {
    let (mut parts, body) = request.into_parts();
    let host = head::host(&parts);
    let name = host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = name.rsplit_once(':').map_or(name, |(name, _)| name);
    let route = match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => table.find(&name.to_ascii_lowercase(), parts.uri.path()),
        false => table.find(name, parts.uri.path()),
    };
    let route = route.ok_or(StatusCode::NOT_FOUND)?;
    if parts.headers.contains_key(UPGRADE) && parts.version == http::Version::HTTP_11 {
        return upgrade::answer(thread, client, route, parts, body).await;
    }
    head::forward(&mut parts, host, client, route);
    let body = outgoing(route, body)?;
    send(thread, route, parts, body).await
}

/// The body within the policy's bounds.
fn outgoing(route: &Route, body: Incoming) -> Result<Outgoing, StatusCode> {
    let Some(limit) = route.policy.body else {
        return Ok(Outgoing::Unlimited(body));
    };
    match body.size_hint().exact() {
        Some(length) if length > limit => Err(StatusCode::PAYLOAD_TOO_LARGE),
        Some(_) => Ok(Outgoing::Unlimited(body)),
        None => Ok(Outgoing::Limited(Limited::new(body, usize::try_from(limit).unwrap_or(usize::MAX)))),
    }
}

/// Whether a request may be sent twice, when it is not known whether it was answered (RFC 9110, section 9.2.2).
fn repeatable(parts: &request::Parts, body: &Outgoing) -> bool {
    matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS) && http_body::Body::is_end_stream(body)
}

/// Sends a request to one endpoint after the other, until one has taken it.
async fn send(
    thread: &Thread,
    route: &Route,
    parts: request::Parts,
    body: Outgoing,
) -> Result<Response<Body>, StatusCode> {
    let upstream = route.backend.as_ref().ok_or(StatusCode::SERVICE_UNAVAILABLE)?;
    let endpoints = upstream.endpoints();
    if endpoints.is_empty() {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    let (turn, timeouts) = (upstream.turn(), &route.policy.timeouts);
    let mut failed = StatusCode::BAD_GATEWAY;
    let spare = repeatable(&parts, &body).then(|| parts.clone());
    let mut request = Some(Request::from_parts(parts, body));
    for attempt in 0..TRIES {
        let at = endpoints[(turn + attempt) % endpoints.len()];
        let mut exchange = match reach(thread, at, timeouts.connect).await {
            Ok(exchange) => exchange,
            Err(error) => {
                debug!("endpoint {at} of {}: {error}", upstream.service);
                failed = match error.kind() {
                    std::io::ErrorKind::TimedOut => StatusCode::GATEWAY_TIMEOUT,
                    _ => StatusCode::BAD_GATEWAY,
                };
                continue;
            }
        };
        let Some(sent) = request.take() else { break };
        match timeout(timeouts.read, exchange.send(sent)).await {
            Ok(Ok(response)) => {
                let (mut parts, body) = response.into_parts();
                head::strip(&mut parts.headers);
                return Ok(Response::from_parts(
                    parts,
                    Body::Relayed(Answer::new(body, Some(exchange), timeouts.read).into()),
                ));
            }
            Ok(Err(mut error)) => {
                debug!("endpoint {at} of {}: {}", upstream.service, error.error());
                request = error.take_message();
                if request.is_none()
                    && let Some(parts) = &spare
                {
                    request = Some(Request::from_parts(parts.clone(), Outgoing::Full(Full::default())));
                }
                failed = StatusCode::BAD_GATEWAY;
            }
            Err(_) => {
                debug!("endpoint {at} of {} did not answer within {:?}", upstream.service, timeouts.read);
                return Err(StatusCode::GATEWAY_TIMEOUT);
            }
        }
    }
    Err(failed)
}

/// A connection to an endpoint, one that rests if there is one.
async fn reach(thread: &Thread, at: SocketAddr, patience: std::time::Duration) -> std::io::Result<Exchange> {
    if let Some(exchange) = thread.pool.take(at) {
        return Ok(exchange);
    }
    let stream = timeout(patience, (thread.connect)(at)).await??;
    Exchange::new(stream, at, Arc::clone(&thread.pool)).await
}
