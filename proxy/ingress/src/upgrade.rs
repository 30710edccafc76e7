//! Requests that leave HTTP, WebSockets most of all (RFC 9110, section 7.8).

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode, request};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tokio::time::timeout;
use tracing::debug;

use crate::Route;
use crate::body::{Body, Outgoing};
use crate::head::{self, Client};
use crate::pool::Answer;
use crate::serve::Thread;

/// Passes the request on over a connection of its own, and what follows in both directions if the endpoint agrees.
pub(crate) async fn answer(
    thread: &Thread,
    client: &Client,
    route: &Route,
    mut parts: request::Parts,
    body: Incoming,
) -> Result<Response<Body>, StatusCode> {
    let (host, protocol) = (head::host(&parts), parts.headers.get(UPGRADE).cloned());
    head::forward(&mut parts, host, client, route);
    if let Some(protocol) = protocol {
        parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        parts.headers.insert(UPGRADE, protocol);
    }
    let ours = parts.extensions.remove::<hyper::upgrade::OnUpgrade>();
    let upstream = route.backend.as_ref().ok_or(StatusCode::SERVICE_UNAVAILABLE)?;
    let endpoints = upstream.endpoints();
    let at = *endpoints.get(upstream.turn() % endpoints.len().max(1)).ok_or(StatusCode::SERVICE_UNAVAILABLE)?;
    let timeouts = route.policy.timeouts.clone();
    let connecting = timeout(timeouts.connect, (thread.connect)(at)).await;
    let stream = connecting.map_err(|_| StatusCode::GATEWAY_TIMEOUT)?.map_err(|_| StatusCode::BAD_GATEWAY)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|_| StatusCode::BAD_GATEWAY)?;
    tokio::spawn(connection.with_upgrades());
    let sending = sender.send_request(Request::from_parts(parts, Outgoing::Unlimited(body)));
    let answered = timeout(timeouts.read, sending).await.map_err(|_| StatusCode::GATEWAY_TIMEOUT)?;
    let mut response = answered.map_err(|_| StatusCode::BAD_GATEWAY)?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(ours) = ours
    {
        let theirs = hyper::upgrade::on(&mut response);
        tokio::spawn(async move {
            let (ours, theirs) = match futures::future::try_join(ours, theirs).await {
                Ok(both) => both,
                Err(error) => return debug!("failed to upgrade: {error}"),
            };
            let copied = copy_bidirectional(&mut TokioIo::new(ours), &mut TokioIo::new(theirs)).await;
            if let Err(error) = copied {
                debug!("upgraded connection: {error}");
            }
        });
    }
    let (parts, body) = response.into_parts();
    Ok(Response::from_parts(parts, Body::Relayed(Answer::new(body, None, timeouts.read).into())))
}
