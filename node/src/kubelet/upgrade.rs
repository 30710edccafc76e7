//! From a request to the streams of a client: SPDY, SPDY inside a WebSocket (KEP-4006), or a WebSocket whose messages
//! begin with the number of their channel.

use super::{Answer, channel, text};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{
    HeaderMap, HeaderValue, Request, StatusCode,
    header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE},
};
use hyper::{body::Incoming, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use std::io;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, handshake::derive_accept_key, protocol::Role},
};
use tokio_util::{
    io::{CopyToBytes, SinkWriter, StreamReader},
    sync::CancellationToken,
};

/// Names the protocol that is spoken in SPDY's streams, in the request and in the answer.
const PROTOCOL: &str = "x-stream-protocol-version";
/// Tells a client what it could have asked for.
const ACCEPTED: &str = "accepted-stream-protocol-versions";
/// Before the name of a protocol: SPDY as bytes in messages.
const TUNNELLED: &str = "SPDY/3.1+";

pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// The protocols that a request may ask for, best first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Protocols {
    pub(super) spdy: &'static [&'static str],
    pub(super) websocket: &'static [&'static str],
}

/// A client's connection, upgraded.
pub(super) enum Connection {
    Spdy(spdy::Session),
    Channels(Box<Socket>),
}

/// Sends to a client on one stream.
#[derive(Debug)]
pub(super) enum Writer {
    Spdy(spdy::Writer),
    Channel(channel::Writer),
}

impl Writer {
    /// False when nobody takes it any more.
    pub(super) async fn send(&self, bytes: Bytes) -> bool {
        match self {
            Self::Spdy(writer) => writer.send(bytes).await,
            Self::Channel(writer) => writer.send(bytes).await,
        }
    }
}

/// The accept key of a WebSocket, and the protocol; or why not.
fn choose(headers: &HeaderMap, protocols: Protocols) -> Result<(Option<HeaderValue>, &'static str), Box<Answer>> {
    let bad = |message: &str| Box::new(text(StatusCode::BAD_REQUEST, message));
    let offered = |name: &str| -> Vec<&str> {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).map(str::trim).filter(|value| !value.is_empty()).collect()
    };
    let upgrade = headers.get(UPGRADE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (spdy, served, asked) = match upgrade.to_ascii_lowercase().as_str() {
        "spdy/3.1" => (true, protocols.spdy, offered(PROTOCOL)),
        "websocket" => (false, protocols.websocket, offered(SEC_WEBSOCKET_PROTOCOL.as_str())),
        _ => return Err(bad("Upgrade request required")),
    };
    // Who names none gets the oldest.
    let fallback = asked.is_empty().then_some("");
    let Some(chosen) = served.iter().copied().find(|known| asked.contains(known)).or(fallback) else {
        let message = format!(
            "unable to upgrade: unable to negotiate protocol: client supports {asked:?}, server accepts {served:?}"
        );
        let mut answer = text(StatusCode::FORBIDDEN, &message);
        for known in served {
            answer.headers_mut().append(ACCEPTED, HeaderValue::from_static(known));
        }
        return Err(Box::new(answer));
    };
    if spdy {
        return Ok((None, chosen));
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).ok_or_else(|| bad("missing Sec-WebSocket-Key header"))?;
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()));
    Ok((Some(accept.map_err(|_| bad("invalid Sec-WebSocket-Key header"))?), chosen))
}

/// Answers with the upgrade; `serve` goes on with the connection and the protocol's name until `stop`.
pub(super) fn answer<F: Future<Output = ()> + Send>(
    mut request: Request<Incoming>,
    protocols: Protocols,
    stop: CancellationToken,
    serve: impl FnOnce(Connection, &'static str) -> F + Send + 'static,
) -> Answer {
    let (accept, protocol) = match choose(request.headers(), protocols) {
        Ok(chosen) => chosen,
        Err(answer) => return *answer,
    };
    let upgraded = hyper::upgrade::on(&mut request);
    let websocket = accept.is_some();
    tokio::spawn(async move {
        let connection = match upgraded.await {
            Ok(upgraded) => connect(TokioIo::new(upgraded), websocket, protocol).await,
            Err(error) => return tracing::debug!(%error, "upgrade failed"),
        };
        stop.run_until_cancelled(serve(connection, protocol)).await;
    });
    let mut answer = text(StatusCode::SWITCHING_PROTOCOLS, "");
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(if websocket { "websocket" } else { "SPDY/3.1" }));
    if !protocol.is_empty() {
        let name = if websocket { SEC_WEBSOCKET_PROTOCOL.as_str() } else { PROTOCOL };
        headers.insert(name, HeaderValue::from_static(protocol));
    }
    if let Some(accept) = accept {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    answer
}

async fn connect(io: TokioIo<Upgraded>, websocket: bool, protocol: &str) -> Connection {
    if !websocket {
        let (reader, writer) = tokio::io::split(io);
        return Connection::Spdy(spdy::Session::start(reader, writer));
    }
    let socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
    if !protocol.starts_with(TUNNELLED) {
        return Connection::Channels(Box::new(socket));
    }
    let (sink, source) = socket.split();
    let bytes = source.filter_map(|message| async {
        match message {
            Ok(Message::Binary(bytes)) => Some(Ok(bytes)),
            Ok(_) => None,
            Err(error) => Some(Err(io::Error::other(error))),
        }
    });
    let sink = sink.sink_map_err(io::Error::other).with(|bytes| async { io::Result::Ok(Message::Binary(bytes)) });
    let writer = SinkWriter::new(CopyToBytes::new(Box::pin(sink)));
    Connection::Spdy(spdy::Session::start(StreamReader::new(Box::pin(bytes)), writer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_negotiated() {
        let protocols = Protocols { spdy: &["v5", "v4"], websocket: &["SPDY/3.1+x", "v5"] };
        let headers = |list: &[(&'static str, &'static str)]| -> HeaderMap {
            list.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
        };
        let key = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        let cases = [
            (vec![("upgrade", "SPDY/3.1"), (PROTOCOL, "v4")], Ok("v4")),
            (vec![("upgrade", "SPDY/3.1")], Ok("")),
            (vec![("upgrade", "SPDY/3.1"), (PROTOCOL, "v9")], Err(403)),
            (vec![("upgrade", "websocket"), key, ("sec-websocket-protocol", "v4, v5")], Ok("v5")),
            (vec![("upgrade", "WebSocket"), key, ("sec-websocket-protocol", "SPDY/3.1+x")], Ok("SPDY/3.1+x")),
            (vec![("upgrade", "websocket"), ("sec-websocket-protocol", "v5")], Err(400)),
            (vec![], Err(400)),
        ];
        for (list, expected) in cases {
            let chosen = choose(&headers(&list), protocols);
            let chosen = chosen.map(|(_, protocol)| protocol).map_err(|answer| answer.status().as_u16());
            assert_eq!(chosen, expected, "{list:?}");
        }
        let accept = choose(&headers(&[("upgrade", "websocket"), key]), protocols).unwrap().0;
        assert_eq!(accept.unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
