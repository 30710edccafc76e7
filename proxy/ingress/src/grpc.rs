//! Connections to endpoints over HTTP/2, each shared by the requests of one thread.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use proxy::user::Open;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tracing::debug;

use crate::body::Outgoing;
use crate::peer::Peer;

/// How many connections are shared at once; what is beyond has one for itself.
const SHARED: usize = 256;
/// For how long one is kept without new requests, and how often it is asked whether it lives.
const REST: Duration = Duration::from_secs(60);

/// The connections of one thread.
#[derive(Default)]
pub(crate) struct Channels(Mutex<HashMap<Peer, (SendRequest<Outgoing>, Instant)>>);

impl Channels {
    /// Where a request may be sent to `peer`.
    pub(crate) async fn reach(
        &self,
        peer: Peer,
        open: &Open<TcpStream>,
        patience: Duration,
    ) -> io::Result<SendRequest<Outgoing>> {
        if let Some((sender, used)) = self.lock().get_mut(&peer)
            && !sender.is_closed()
        {
            *used = Instant::now();
            return Ok(sender.clone());
        }
        let stream = peer.connect(open, patience).await?;
        let mut builder = Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).keep_alive_interval(REST);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!("connection to {}: {error}", peer.at);
            }
        });
        let mut shared = self.lock();
        if shared.len() < SHARED {
            shared.insert(peer, (sender.clone(), Instant::now()));
        }
        Ok(sender)
    }

    /// Forgets connections that are closed or were not used for long; they end with their last request.
    pub(crate) fn sweep(&self) {
        self.lock().retain(|_, (sender, used)| !sender.is_closed() && used.elapsed() < REST);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Peer, (SendRequest<Outgoing>, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
