//! A way into the node's network for the API server, which may be outside of it: its proxies of pods and services.

use super::{Answer, text};
use crate::network::said;
use http::{
    HeaderValue, Request, StatusCode,
    header::{CONNECTION, UPGRADE},
};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::{io, net::SocketAddr, time::Duration};
use tokio::{io::copy_bidirectional, net::TcpStream};
use tokio_util::sync::CancellationToken;

/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Answers `/dial/ADDRESS:PORT`: after the upgrade the connection is that to the address.
pub(super) async fn answer(address: &str, mut request: Request<Incoming>, stop: CancellationToken) -> Answer {
    let Ok(address) = address.parse::<SocketAddr>() else {
        return text(StatusCode::BAD_REQUEST, "an address and a port are needed");
    };
    if !request.headers().contains_key(UPGRADE) {
        return text(StatusCode::BAD_REQUEST, "Upgrade request required");
    }
    let dialled = tokio::time::timeout(PATIENCE, TcpStream::connect(address)).await;
    let mut far = match dialled.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(far) => far,
        Err(error) => return text(StatusCode::BAD_GATEWAY, &format!("dial tcp {address}: connect: {}", said(&error))),
    };
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(stop.run_until_cancelled_owned(async move {
        if let Ok(near) = upgraded.await {
            // Either end may just go; there is nobody left to tell.
            let _ = copy_bidirectional(&mut TokioIo::new(near), &mut far).await;
        }
    }));
    let mut answer = text(StatusCode::SWITCHING_PROTOCOLS, "");
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    answer.headers_mut().insert(UPGRADE, HeaderValue::from_static("tcp"));
    answer
}
