//! HTTP connections, of version 1.1 and 2.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long a connection lives; then it ends when its questions are answered, and others have room.
const AGE: Duration = Duration::from_secs(300);

/// How many questions of one connection are worked on at a time.
const STREAMS: u32 = 32;

/// Answers a connection's requests until it is quiet for too long or `closing`.
pub(crate) async fn serve<S, F, A>(stream: S, idle: Duration, closing: CancellationToken, answer: F)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Incoming>) -> A + Clone,
    A: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(idle);
    let mut http2 = builder.http2();
    http2.timer(TokioTimer::new()).keep_alive_interval(idle).keep_alive_timeout(idle);
    http2.max_concurrent_streams(STREAMS);
    let service = service_fn(move |request| {
        let answer = answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        _ = timeout(AGE, closing.cancelled()) => {
            connection.as_mut().graceful_shutdown();
            timeout(idle, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!("dns http: {error}");
    }
}
