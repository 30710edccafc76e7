use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use schema::{Registry, Resource};
use store::{Key, Store};
use tokio_util::sync::CancellationToken;

use crate::body::{self, Body, BoxError};
use crate::config::Config;
use crate::hook::service::Pool;
use crate::identity::Identity;
use crate::meta::Meta;

/// What every server begins with, read once: servers in one process are many where they are for tests.
static BUILTIN: LazyLock<Arc<Registry>> = LazyLock::new(|| Arc::new(Registry::builtin()));

/// The API server: the REST of Kubernetes over a [`Store`]. Cloning it is cheap, and every clone is the same server.
#[derive(Clone)]
pub struct ApiServer {
    pub(crate) registry: Arc<Registry>,
    pub(crate) store: Store<Meta>,
    pub(crate) config: Arc<Config>,
    /// The addresses and node ports that Services hold.
    pub(crate) pool: Arc<Pool>,
    /// Ends watches and other streams.
    pub(crate) shutdown: CancellationToken,
}

impl ApiServer {
    /// A server of the objects in `store`, which was opened with [`parse`](crate::parse). What Services hold of the
    /// ranges in `config` is read from the store.
    pub fn new(config: Config, store: Store<Meta>) -> Self {
        let pool = Arc::new(Pool::new(&config.services, config.node_ports.clone()));
        for entry in store.list("/services", None).1 {
            if let Ok(service) = serde_json::from_slice(&entry.bytes) {
                pool.adopt(&service);
            }
        }
        ApiServer {
            registry: BUILTIN.clone(),
            store,
            config: Arc::new(config),
            pool,
            shutdown: CancellationToken::new(),
        }
    }

    /// A tower service, for [`kube::Client::new`](https://docs.rs/kube) in the same process: every request is made
    /// by `identity`.
    pub fn service(&self, identity: Identity) -> Service {
        Service { server: self.clone(), identity: Some(Arc::new(identity)) }
    }

    /// The same for one connection: None is anonymous.
    pub(crate) fn connection(&self, identity: Option<Identity>) -> Service {
        Service { server: self.clone(), identity: identity.map(Arc::new) }
    }

    /// Ends every watch, exec and log stream; new ones end at once. Other requests are still answered.
    pub fn end_streams(&self) {
        self.shutdown.cancel();
    }
}

/// Reads what the server keeps beside an object's bytes: the parser that the server's store is to be opened with.
pub fn parse(_: &Key, bytes: &[u8]) -> Result<Meta, String> {
    Meta::parse(bytes)
}

/// The resource that a kind's objects are stored under; two versions or groups of one kind share it.
pub(crate) fn stored_under(resource: &Resource) -> String {
    match (&*resource.group, &*resource.plural) {
        ("events.k8s.io", "events") => "/events".to_owned(),
        (group, plural) => format!("{group}/{plural}"),
    }
}

/// An [`ApiServer`] for one client: a tower service of HTTP requests. Paths may be relative.
#[derive(Clone)]
pub struct Service {
    server: ApiServer,
    identity: Option<Arc<Identity>>,
}

/// The answer to one request, in the making.
type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl Service {
    fn answer<B>(&self, request: Request<B>) -> Answering
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (server, identity) = (self.server.clone(), self.identity.clone());
        let request = request.map(body::erase);
        Box::pin(async move { Ok(crate::handle::handle(server, identity, request).await) })
    }
}

impl<B> tower::Service<Request<B>> for Service
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Answering {
        self.answer(request)
    }
}

impl<B> hyper::service::Service<Request<B>> for Service
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: Request<B>) -> Answering {
        self.answer(request)
    }
}
