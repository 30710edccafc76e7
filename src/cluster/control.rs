//! The control plane: store, API server, controllers.

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener},
    path::PathBuf,
    sync::Arc,
};

use anyhow::Context as _;
use apiserver::{ApiServer, Identity, Pki};
use futures::future::try_join_all;
use http::{HeaderValue, Request, header::USER_AGENT};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use rustls::ServerConfig;
use tokio::runtime::Handle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use super::kubeconfig::Access;

/// What a control plane is made of.
pub(super) struct Settings {
    /// Where its store and its certificates are; in memory where there is none.
    pub directory: Option<PathBuf>,
    pub api: apiserver::Config,
    pub controllers: Option<controllers::Config>,
    /// The names and addresses in the API server's certificate.
    pub names: Vec<String>,
}

impl Default for Settings {
    /// The ranges of Kubernetes and no node, in memory.
    fn default() -> Self {
        let (kubernetes, gateway) = (Ipv4Addr::new(10, 96, 0, 1), Ipv4Addr::new(10, 244, 0, 1));
        Self {
            directory: None,
            api: apiserver::Config::default(),
            controllers: Some(controllers::Config::new(SocketAddrV4::new(gateway, 6443))),
            names: apiserver::server_names("cluster.local", kubernetes.into()),
        }
    }
}

/// A control plane whose store is open. Clones are the same one.
#[derive(Clone)]
pub(super) struct Control {
    server: ApiServer,
    store: store::Store<apiserver::Meta>,
    pki: Arc<Pki>,
    names: Vec<String>,
    controllers: Option<controllers::Config>,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// What was mended when the store was opened, in words for the user.
    pub recovered: Option<String>,
}

impl Control {
    /// Opens the store, and makes or reads the certificates. Blocks where there is a directory.
    ///
    /// # Errors
    /// A damaged store, a directory that cannot be written.
    pub(super) fn open(settings: Settings) -> anyhow::Result<Self> {
        let Settings { directory, api, mut controllers, names } = settings;
        let (store, pki, recovered) = match directory {
            None => (open(store::Memory)?, Pki::in_memory(), None),
            Some(directory) => {
                let backend = store::Sled::open(directory.join("store")).context("open the store")?;
                let recovered = backend.recovered().map(ToString::to_string);
                (open(backend)?, Pki::open(&directory.join("pki")), recovered)
            }
        };
        let pki = pki.context("make the cluster's certificates")?;
        if let Some(controllers) = &mut controllers {
            controllers.ca = Some(pki.authority_pem().to_owned());
        }
        let server = ApiServer::new(api, store.clone());
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        Ok(Self { server, store, pki: Arc::new(pki), names, controllers, tasks, stop, recovered })
    }

    /// A client in this process.
    pub(super) fn client(&self, identity: Identity) -> Client {
        Client::new(self.server.service(identity), "default")
    }

    /// A client in this process for a part of the cluster, under which name it owns the fields that it sets.
    pub(super) fn component(&self, name: &'static str) -> Client {
        let named = move |mut request: Request<kube::client::Body>| {
            request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(name));
            request
        };
        Client::new(self.server.service(Identity::admin()).map_request(named), "default")
    }

    /// The administrator's way to the API server that listens there.
    ///
    /// # Errors
    /// When the certificate cannot be made.
    pub(super) fn access(&self, api: SocketAddr) -> anyhow::Result<Access> {
        let admin = self.pki.admin().context("make the administrator's certificate")?;
        Ok(Access {
            server: format!("https://{api}"),
            authority_pem: self.pki.authority_pem().to_owned(),
            certificate_pem: admin.certificate_pem,
            key_pem: admin.key_pem,
        })
    }

    /// What [`Self::serve`] needs.
    ///
    /// # Errors
    /// When the certificate cannot be made.
    pub(super) fn tls(&self) -> anyhow::Result<Arc<ServerConfig>> {
        self.pki.server(&self.names).and_then(|pair| self.pki.server_config(&pair)).context("set up TLS")
    }

    /// Serves HTTPS there until the end.
    pub(super) fn serve(&self, listener: TcpListener, tls: Arc<ServerConfig>, runtime: &Handle) {
        let (server, stop) = (self.server.clone(), self.stop.clone());
        let serving = async move {
            if let Err(error) = server.serve_tls(listener, tls, stop).await {
                tracing::warn!(%error, "failed to serve the API");
            }
        };
        self.tasks.spawn_on(serving, runtime);
    }

    /// Serves the administrator on a Unix socket until the end.
    #[cfg(feature = "node")]
    pub(super) fn serve_unix(&self, listener: std::os::unix::net::UnixListener) {
        let (server, stop) = (self.server.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            if let Err(error) = server.serve_unix(listener, Identity::admin(), stop).await {
                tracing::warn!(%error, "failed to serve the API");
            }
        });
    }

    /// Makes the namespaces that every cluster has, and starts the controllers.
    ///
    /// # Errors
    /// When the store takes no write.
    pub(super) async fn begin(&self) -> anyhow::Result<()> {
        let client = self.component("kube-controller-manager");
        let namespaces: Api<Namespace> = Api::all(client.clone());
        // At once, so that a durable store has one wait for the disk.
        try_join_all(controllers::NAMESPACES.map(async |name| {
            let metadata = ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() };
            let namespace = Namespace { metadata, ..Namespace::default() };
            match namespaces.create(&PostParams::default(), &namespace).await {
                Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
                created => created.map(drop).with_context(|| format!("make the namespace {name}")),
            }
        }))
        .await?;
        if let Some(config) = &self.controllers {
            self.tasks.spawn(controllers::run(client, config.clone(), self.stop.clone()));
        }
        Ok(())
    }

    /// Ends watches and controllers, finishes the requests under way, and closes the store.
    pub(super) async fn end(&self) {
        self.server.end_streams();
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.store.close().await;
    }
}

fn open(backend: impl store::Backend) -> anyhow::Result<store::Store<apiserver::Meta>> {
    store::Store::open(backend, apiserver::parse, store::Limits::default()).context("read the store")
}
