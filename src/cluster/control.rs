//! The control plane: store, API server, controllers.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    sync::Arc,
};

use anyhow::Context as _;
use apiserver::{ApiServer, Identity, Pki};
use futures::FutureExt as _;
use tokio::{net::UnixStream, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{config::Options, data::Dir, kubeconfig};

/// A control plane whose ports are taken and whose store is open.
pub struct Control {
    server: ApiServer,
    store: store::Store<apiserver::Meta>,
    tls: Arc<rustls::ServerConfig>,
    listeners: Vec<TcpListener>,
    unix: std::os::unix::net::UnixListener,
    controllers: controllers::Config,
    /// Where the host reaches the API server.
    pub api: SocketAddr,
    /// What was mended when the store was opened, in words for the user.
    pub recovered: Option<String>,
}

impl Control {
    /// Opens the store, makes or reads the certificates, writes the kubeconfig. Blocks.
    ///
    /// # Errors
    /// A damaged store, a directory that cannot be written.
    pub fn bind(options: &Options, dir: &Dir, listeners: Listeners) -> anyhow::Result<Self> {
        let backend = store::Sled::open(dir.join("store")).context("open the store")?;
        let recovered = backend.recovered().map(ToString::to_string);
        let store =
            store::Store::open(backend, apiserver::parse, store::Limits::default()).context("read the store")?;
        let api = listeners.api;
        let pki = Pki::open(&dir.join("pki")).context("make the cluster's certificates")?;
        let tls = pki.server(&names(options)).and_then(|pair| pki.server_config(&pair)).context("set up TLS")?;
        write_kubeconfig(dir, &pki, api)?;
        let server = ApiServer::new(
            apiserver::Config {
                services: options.service_cidr,
                node_ports: options.node_ports.clone(),
                kubelet: kubelet(dir.kubelet_socket()),
            },
            store.clone(),
        );
        let mut controllers = controllers::Config::new(options.api(api.port()));
        controllers.services = options.service_cidr;
        controllers.pods = options.pod_cidr;
        controllers.ca = Some(pki.authority_pem().to_owned());
        let unix = unix(dir.api_socket())?;
        Ok(Self { server, store, tls, listeners: listeners.all, unix, controllers, api, recovered })
    }

    /// Serves there, too; a socket of whatever network namespace.
    pub fn listen(&mut self, listener: TcpListener) {
        self.listeners.push(listener);
    }

    /// A client in this process, with all rights.
    #[must_use]
    pub fn client(&self) -> kube::Client {
        kube::Client::new(self.server.service(Identity::admin()), "default")
    }

    /// Serves and controls until `shutdown`, then drains and closes the store.
    ///
    /// # Errors
    /// When a listener fails.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut tasks = JoinSet::new();
        let client = self.client();
        for listener in self.listeners {
            let (server, tls, shutdown) = (self.server.clone(), self.tls.clone(), shutdown.clone());
            tasks.spawn(async move { server.serve_tls(listener, tls, shutdown).await });
        }
        let (server, stop) = (self.server.clone(), shutdown.clone());
        tasks.spawn(async move { server.serve_unix(self.unix, Identity::admin(), stop).await });
        tasks.spawn(controllers::run(client, self.controllers, shutdown.clone()).map(Ok));
        shutdown.cancelled().await;
        while let Some(ended) = tasks.join_next().await {
            ended?.context("serve the API")?;
        }
        self.store.close().await;
        Ok(())
    }
}

/// The API server's sockets.
pub struct Listeners {
    /// The first one, on the host's loopback.
    pub api: SocketAddr,
    /// All of them.
    pub all: Vec<TcpListener>,
}

impl Listeners {
    /// Takes the host's ports.
    ///
    /// # Errors
    /// When one is taken, with what to do.
    pub fn bind(options: &Options) -> anyhow::Result<Self> {
        let listen = |address: IpAddr, port: u16| {
            TcpListener::bind((address, port)).with_context(|| {
                format!("listen on {address}:{port} for the API server: choose another port with --api-port")
            })
        };
        // A socket on every address has loopback's, too, and no other one can have the port.
        let first = options.listens_everywhere().unwrap_or(Ipv4Addr::LOCALHOST.into());
        let mut all = vec![listen(first, options.api_port)?];
        let port = all[0].local_addr()?.port();
        let others = options.listen.iter().filter(|_| !first.is_unspecified());
        for address in others.filter(|address| !address.is_loopback()) {
            all.push(listen(*address, port)?);
        }
        Ok(Self { api: (Ipv4Addr::LOCALHOST, port).into(), all })
    }
}

/// The names and addresses in the API server's certificate.
fn names(options: &Options) -> Vec<String> {
    let mut names = apiserver::server_names(&options.cluster_domain, options.kubernetes().into());
    names.push(options.node_name.clone());
    names.push(options.gateway().to_string());
    names.extend(options.listen.iter().map(ToString::to_string));
    names.extend(options.node_ip.iter().map(ToString::to_string));
    if options.listens_everywhere().is_some() {
        names.extend(own_address().map(|address| address.to_string()));
    }
    names
}

/// The address that others reach this machine by: the one that packets to the world leave from.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // Connecting only asks for the route; the address is of a range for documents.
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn write_kubeconfig(dir: &Dir, pki: &Pki, api: SocketAddr) -> anyhow::Result<()> {
    let admin = pki.admin().context("make the administrator's certificate")?;
    let access = kubeconfig::Access {
        server: format!("https://{api}"),
        authority_pem: pki.authority_pem().to_owned(),
        certificate_pem: admin.certificate_pem,
        key_pem: admin.key_pem,
    };
    kubeconfig::write(&dir.join("kubeconfig"), &access)
}

/// A Unix listener that only its owner can open. One left by a crash is replaced: the directory is locked.
fn unix(path: PathBuf) -> anyhow::Result<std::os::unix::net::UnixListener> {
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("remove {}", path.display()));
        }
        _ => {}
    }
    let listener =
        std::os::unix::net::UnixListener::bind(&path).with_context(|| format!("listen on {}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// The way to the only node.
fn kubelet(socket: PathBuf) -> apiserver::Kubelet {
    let socket = Arc::new(socket);
    Arc::new(move |_node| {
        let socket = socket.clone();
        async move {
            let stream = UnixStream::connect(&*socket).await?;
            Ok(Box::new(stream) as Box<dyn apiserver::Io>)
        }
        .boxed()
    })
}
