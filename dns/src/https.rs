//! DNS over HTTPS (RFC 8484).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use hickory_proto::op::Message;
use hickory_proto::rr::RData;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::request::{Context, Packets, TCP_SIZE, Transport};
use crate::servers::Servers;

const PATH: &str = "/dns-query";

/// The media type of a message.
const MESSAGE: HeaderValue = HeaderValue::from_static("application/dns-message");

/// Answers a request; its body may take so long.
pub(crate) async fn answer(
    request: Request<Incoming>,
    (client, server): (SocketAddr, SocketAddr),
    servers: Arc<Servers>,
    patience: Duration,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    let packet = match timeout(patience, question(request)).await.unwrap_or(Err(StatusCode::REQUEST_TIMEOUT)) {
        Ok(packet) => packet,
        Err(status) => {
            *response.status_mut() = status;
            return response;
        }
    };
    let context = Context { client, server, transport: Transport::Tcp, servers: servers.clone() };
    match servers.packets(&packet, context).await {
        Some(Packets::One(reply)) => {
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, MESSAGE);
            let age = Message::from_vec(&reply).map_or(0, |message| age(&message));
            headers.extend(HeaderValue::try_from(format!("max-age={age}")).map(|age| (CACHE_CONTROL, age)));
            *response.body_mut() = reply.into();
        }
        // A zone is more than one message, for which there is no form here.
        Some(Packets::Many(_)) => *response.status_mut() = StatusCode::NOT_IMPLEMENTED,
        None => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    response
}

/// The packet in a request, or what is wrong with it.
async fn question(request: Request<Incoming>) -> Result<Vec<u8>, StatusCode> {
    if request.uri().path() != PATH {
        return Err(StatusCode::NOT_FOUND);
    }
    match *request.method() {
        Method::GET => {
            let mut pairs = request.uri().query().unwrap_or_default().split('&');
            let text = pairs.find_map(|pair| pair.strip_prefix("dns=")).ok_or(StatusCode::BAD_REQUEST)?;
            let packet = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|_| StatusCode::BAD_REQUEST)?;
            if packet.len() > TCP_SIZE { Err(StatusCode::URI_TOO_LONG) } else { Ok(packet) }
        }
        Method::POST => {
            let known = request.headers().get(CONTENT_TYPE) == Some(&MESSAGE);
            // Read in any case: a client that can't send all of it does not look at the answer.
            let body = Limited::new(request.into_body(), TCP_SIZE).collect().await;
            let body = body.map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)?;
            if known { Ok(body.to_bytes().into()) } else { Err(StatusCode::UNSUPPORTED_MEDIA_TYPE) }
        }
        _ => Err(StatusCode::METHOD_NOT_ALLOWED),
    }
}

/// How long an answer may be kept, in seconds (RFC 8484 §5.1): as its shortest answer, or as the
/// zone says of what is not there (RFC 2308 §5).
fn age(message: &Message) -> u32 {
    let absent = message.authorities.iter().filter_map(|record| match &record.data {
        RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
        _ => None,
    });
    let answers = message.answers.iter().map(|record| record.ttl);
    answers.min().or(absent.min()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::rdata::{A, SOA};
    use hickory_proto::rr::{Name, Record};

    use super::*;

    #[test]
    fn ages() {
        let record = |ttl, data| Record::from_rdata(Name::root(), ttl, data);
        let address = |ttl| record(ttl, RData::A(A::new(10, 0, 0, 1)));
        let soa = |ttl, minimum| record(ttl, RData::SOA(SOA::new(Name::root(), Name::root(), 1, 1, 1, 1, minimum)));
        for (answers, authorities, want) in [
            (vec![], vec![], 0),
            (vec![address(30), address(5)], vec![soa(1, 1)], 5),
            (vec![], vec![soa(60, 30)], 30),
            (vec![], vec![soa(20, 30)], 20),
        ] {
            let mut message = Message::query();
            (message.answers, message.authorities) = (answers, authorities);
            assert_eq!(age(&message), want);
        }
    }
}
