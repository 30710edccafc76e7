//! A client's bad luck, from a seed: conflicts, lost answers, delays, watches that are cut or start too late.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use kube::client::Body as Sent;
use tower::Service;

/// How often things go wrong.
#[derive(Clone)]
pub(crate) struct Faults {
    random: Arc<Mutex<u64>>,
}

impl Faults {
    pub(crate) fn seeded(seed: u64) -> Faults {
        Faults { random: Arc::new(Mutex::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)) }
    }

    pub(crate) fn around(self, server: apiserver::Service) -> Unlucky {
        Unlucky { server, faults: self }
    }

    /// A number below `limit` (xorshift).
    pub(crate) fn below(&self, limit: u64) -> u64 {
        let mut state = self.random.lock().expect("nobody panics with it");
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state % limit
    }
}

/// The API server, seen by an unlucky client.
#[derive(Clone)]
pub(crate) struct Unlucky {
    server: apiserver::Service,
    faults: Faults,
}

type Answer = Result<Response<apiserver::Body>, std::convert::Infallible>;

impl Service<Request<Sent>> for Unlucky {
    type Response = Response<apiserver::Body>;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Sent>) -> Self::Future {
        let (mut server, faults) = (self.server.clone(), self.faults.clone());
        Box::pin(async move {
            let query = request.uri().query().unwrap_or_default();
            let is_watch = query.contains("watch=");
            let resumes = is_watch && query.contains("resourceVersion=");
            let writes = !matches!(*request.method(), Method::GET);
            tokio::time::sleep(Duration::from_micros(faults.below(500))).await;
            match faults.below(20) {
                0 if writes => return Ok(refuse(StatusCode::CONFLICT, "Conflict")),
                1 => return Ok(refuse(StatusCode::INTERNAL_SERVER_ERROR, "InternalError")),
                2 if resumes => return Ok(refuse(StatusCode::GONE, "Expired")),
                3 if writes => {
                    // It happened, but nobody hears.
                    let _ = server.call(request).await;
                    return Ok(refuse(StatusCode::GATEWAY_TIMEOUT, "Timeout"));
                }
                _ => {}
            }
            let answer = server.call(request).await?;
            if is_watch && answer.status().is_success() {
                let life = Duration::from_millis(5 + faults.below(200));
                return Ok(answer.map(|body| cut(body, life)));
            }
            Ok(answer)
        })
    }
}

fn refuse(code: StatusCode, reason: &str) -> Response<apiserver::Body> {
    let status = format!(
        r#"{{"kind":"Status","apiVersion":"v1","metadata":{{}},"status":"Failure","message":"bad luck","reason":"{reason}","code":{}}}"#,
        code.as_u16()
    );
    let body = Full::new(Bytes::from(status)).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    response
}

/// The body until its life is over, at the end of a frame.
fn cut(mut body: apiserver::Body, life: Duration) -> apiserver::Body {
    let end = tokio::time::Instant::now() + life;
    let frames = futures::stream::poll_fn(move |context| {
        if tokio::time::Instant::now() >= end {
            return Poll::Ready(None);
        }
        let mut timer = std::pin::pin!(tokio::time::sleep_until(end));
        match http_body::Body::poll_frame(Pin::new(&mut body), context) {
            Poll::Pending if timer.as_mut().poll(context).is_pending() => {
                // A timer that is dropped does not wake: have a thread of our own time look again.
                let waker = context.waker().clone();
                tokio::spawn(async move {
                    tokio::time::sleep_until(end).await;
                    waker.wake();
                });
                Poll::Pending
            }
            Poll::Pending => Poll::Ready(None),
            ready => ready,
        }
    });
    http_body_util::StreamBody::new(frames).boxed_unsync()
}
