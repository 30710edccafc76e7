//! A `kube::Client` over a Unix socket, where the other end trusts whoever can open it.

use std::{
    future::Future,
    io,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderValue, Request, Uri, header::USER_AGENT};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connected, Connection},
    },
    rt::{TokioExecutor, TokioIo},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
};

/// A client of the API server that listens on `socket`; it owns the fields that it sets under that name.
#[must_use]
pub(crate) fn client(socket: PathBuf, name: &'static str) -> kube::Client {
    let http = Client::builder(TokioExecutor::new()).build::<_, kube::client::Body>(Connector(Arc::new(socket)));
    let service = tower::service_fn(move |mut request: Request<kube::client::Body>| {
        let http = http.clone();
        async move {
            // HTTP/1.1 over a socket that has no host still names one.
            let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
            *request.uri_mut() = format!("http://coracle{path}").parse::<Uri>()?;
            request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(name));
            Ok::<_, tower::BoxError>(http.request(request).await?)
        }
    });
    kube::Client::new(service, "default")
}

#[derive(Clone)]
struct Connector(Arc<PathBuf>);

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let path = self.0.clone();
        Box::pin(async move { Ok(TokioIo::new(Stream(UnixStream::connect(&*path).await?))) })
    }
}

/// A Unix stream that the connection pool takes.
struct Stream(UnixStream);

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
