//! HTTP connections, of version 1.1 and 2.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::forward::Stream;

/// How long a connection lives; then it ends when its questions are answered, and others have room.
const AGE: Duration = Duration::from_secs(300);

/// How many questions of one connection are worked on at a time.
const STREAMS: u32 = 32;

/// Answers a request.
type Answer = Arc<dyn Fn(Request<Incoming>) -> BoxFuture<'static, Response<Full<Bytes>>> + Send + Sync>;

/// Answers a connection's requests until it is quiet for too long or `closing`.
pub(crate) async fn serve<A>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    idle: Duration,
    closing: CancellationToken,
    answer: impl Fn(Request<Incoming>) -> A + Send + Sync + 'static,
) where
    A: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    speak(Box::new(stream), idle, closing, Arc::new(move |request| answer(request).boxed())).await;
}

/// The same for any kind of connection and answer: hyper's code is long, and is here once.
async fn speak(stream: Box<dyn Stream>, idle: Duration, closing: CancellationToken, answer: Answer) {
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
