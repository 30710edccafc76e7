//! The walk of a request: which route, what its policy says, which endpoint, and back.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, SET_COOKIE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, request};
use http_body_util::Full;
use hyper::body::Incoming;
use tracing::debug;

use crate::affinity::Stay;
use crate::body::{Body, Outgoing};
use crate::failure::Asked;
use crate::head::{self, Client};
use crate::record::{Record, Trace};
use crate::redirect::without_port;
use crate::send::{Way, send};
use crate::serve::Thread;
use crate::{Route, Table, Upstream, canary, cors, hygiene, record, upgrade};

/// An answer that is ours and no backend's.
pub(crate) struct Refusal(Box<Response<Body>>);

impl From<Response<Body>> for Refusal {
    fn from(response: Response<Body>) -> Self {
        Refusal(response.into())
    }
}

impl From<StatusCode> for Refusal {
    fn from(status: StatusCode) -> Self {
        page(status).into()
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

/// Answers a request, and what is to be recorded of it, once the answer is sent.
pub(crate) async fn answer(
    thread: &Thread,
    table: &Table,
    client: &Client,
    request: Request<Incoming>,
) -> (Response<Body>, Option<Box<Record>>) {
    let (parts, body) = request.into_parts();
    let mut record = thread.recorder.as_ref().map(|recorder| Record::new(recorder, client, &parts));
    let method = record.is_some().then(|| parts.method.clone());
    if let Some(status) = hygiene::refused(&parts) {
        return (page(status), record);
    }
    let host = head::host(&parts);
    let name = without_port(host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or_default());
    let name = match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(name.to_ascii_lowercase()),
        false => Cow::Borrowed(name),
    };
    let route = table.find(&name, parts.uri.path()).map(|route| &**route);
    let mut trace = Trace::default();
    let response = match route {
        Some(route) => carry(thread, client, route, &mut trace, host.clone(), parts, body).await,
        None => page(StatusCode::NOT_FOUND),
    };
    if let (Some(record), Some(method)) = (&mut record, method) {
        record.answered((table, route, &name), trace, &method, &response);
    }
    (response, record)
}

/// What the route's policy makes of a request, and of its answer.
async fn carry(
    thread: &Thread,
    client: &Client,
    route: &Route,
    trace: &mut Trace,
    host: Option<HeaderValue>,
    mut parts: request::Parts,
    body: Incoming,
) -> Response<Body> {
    let policy = &*route.policy;
    let origin = policy.cors.as_deref().and_then(|cors| cors::allowed(cors, &parts));
    let errors = policy.errors.as_deref().map(|errors| (errors, Asked::new(thread, client, &mut parts, host.as_ref())));
    let mut response = match respond(thread, client, route, trace, host, parts, body).await {
        Ok(response) => response,
        Err(Refusal(response)) => {
            debug!("{} is answered {}", client.from, response.status());
            *response
        }
    };
    if let Some((errors, asked)) = errors
        && errors
            .cover(response.status(), route.backend.as_ref().is_some_and(|backend| !backend.endpoints().is_empty()))
        && let Some(explained) = asked.explain(thread, route, errors, response.status()).await
    {
        // The browser is to ask its user all the same.
        let challenge = response.headers_mut().remove(WWW_AUTHENTICATE);
        response = explained;
        challenge.map(|challenge| response.headers_mut().insert(WWW_AUTHENTICATE, challenge));
    }
    if let (Some(cors), Some(origin)) = (&policy.cors, origin) {
        cors::tell(cors, origin, response.headers_mut());
    }
    response
}

async fn respond(
    thread: &Thread,
    client: &Client,
    route: &Route,
    trace: &mut Trace,
    host: Option<HeaderValue>,
    mut parts: request::Parts,
    body: Incoming,
) -> Result<Response<Body>, Refusal> {
    let policy = &*route.policy;
    let name = host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or_default();
    let place = thread.gate.pass(client, route, name, &parts).await?;
    let stay = policy.affinity.as_ref().and_then(|cookie| Stay::read(&cookie.name, &parts.headers));
    let upstream = choose(thread, route, stay, &parts.headers).ok_or(StatusCode::SERVICE_UNAVAILABLE)?;
    let protocol = upgrade::wanted(&parts);
    head::forward(&mut parts, host, client, route, || thread.id());
    trace.canary = !route.backend.as_deref().is_some_and(|backend| std::ptr::eq(backend, upstream));
    trace.id = thread.recorder.as_ref().and_then(|_| record::id(&parts));
    let first = stay.and_then(|stay| stay.find(upstream, &upstream.endpoints()));
    let way = Way { upstream, protocol: policy.protocol, timeouts: &policy.timeouts, first };
    let mut reply = match protocol {
        Some(protocol) => upgrade::send(thread, &way, trace, parts, body, protocol, place).await?,
        None => {
            let body = Outgoing::new(body, policy.body).ok_or(StatusCode::PAYLOAD_TOO_LARGE)?;
            let mut reply = send(thread, &way, trace, parts, body).await?;
            reply.response.body_mut().place = place;
            head::strip(reply.response.headers_mut());
            reply
        }
    };
    if let Some(cookie) = &policy.affinity {
        let now = Stay::new(upstream, reply.at);
        let value = if first.is_none() || cookie.change_on_failure && stay != Some(now) {
            now.write(cookie, client.tls)
        } else {
            None
        };
        value.map(|value| reply.response.headers_mut().append(SET_COOKIE, value));
    }
    Ok(reply.response.map(Body::Relayed))
}

/// Where a request goes: where its client has been, or to the canary if that is for it.
fn choose<'a>(thread: &Thread, route: &'a Route, stay: Option<Stay>, headers: &HeaderMap) -> Option<&'a Upstream> {
    let (backend, canary) = (route.backend.as_deref(), route.canary.as_ref());
    let Some(canary) = canary else { return backend };
    let is_with = |upstream: &Upstream| stay.is_some_and(|stay| stay.with(upstream));
    let chosen = match backend {
        Some(backend) if is_with(backend) => false,
        _ if is_with(&canary.backend) => true,
        _ => canary::chosen(canary, headers, thread.random()),
    };
    if chosen { Some(&canary.backend) } else { backend }
}
