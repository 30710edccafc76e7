//! HTTP/1.1 on a listener, for questions without a body.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// How long a client may take for the head of a request, and a connection may rest.
const HEAD: Duration = Duration::from_secs(30);
/// How long a connection lives, so that those who are silent leave room for others.
const AGE: Duration = Duration::from_secs(300);
/// A pause after a failed accept: out of descriptors, most likely.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers a path.
pub type Pages = Arc<dyn Fn(&str) -> Answer + Send + Sync>;

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its media type.
    pub kind: &'static str,
    /// What a load balancer may give this node of its connections: `X-Load-Balancing-Endpoint-Weight`.
    pub weight: Option<usize>,
    /// Its body.
    pub body: String,
}

impl Answer {
    /// 200, with a text.
    pub fn text(body: String) -> Self {
        Answer { status: StatusCode::OK, kind: "text/plain; charset=utf-8", weight: None, body }
    }
}

/// Answers everyone until `close`; connections take one of the `places` each.
pub async fn serve(listener: TcpListener, places: Arc<Semaphore>, close: CancellationToken, pages: Pages) {
    let accept = async {
        while let Ok(place) = places.clone().acquire_owned().await {
            let Ok((stream, _)) = listener.accept().await else {
                sleep(PAUSE).await;
                continue;
            };
            let (pages, close) = (pages.clone(), close.clone());
            tokio::spawn(async move {
                close.run_until_cancelled(timeout(AGE, talk(stream, pages))).await;
                drop(place);
            });
        }
    };
    close.run_until_cancelled(accept).await;
}

async fn talk(stream: TcpStream, pages: Pages) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let response = respond(&request, &pages);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), answer).await {
        tracing::debug!("proxy http: {error}");
    }
}

fn respond(request: &Request<Incoming>, pages: &Pages) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let Answer { status, kind, weight, body } = pages(request.uri().path());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(weight) = weight {
        headers.insert("x-load-balancing-endpoint-weight", weight.into());
    }
    *response.body_mut() = body.into();
    response
}
