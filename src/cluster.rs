//! A running cluster, and how one is started.

mod control;
#[cfg(feature = "node")]
mod coredns;
#[cfg(feature = "node")]
mod ingress;
mod kubeconfig;
#[cfg(feature = "node")]
mod listen;
#[cfg(feature = "node")]
mod node;
#[cfg(feature = "node")]
mod worker;

#[cfg(feature = "node")]
pub(crate) use self::worker::{Puller, Worker, pull};

use std::{
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use anyhow::Context as _;
use apiserver::Identity;
use kube::config::Kubeconfig;
use tokio::{runtime::Handle, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use self::{
    control::{Control, Settings},
    kubeconfig::Access,
};

/// A running Kubernetes cluster in this process: an API server that needs no socket, and as many of the other parts
/// as the builder was asked for.
///
/// This is what tests of controllers and clients want instead of a cluster on the machine: nothing has to be installed
/// or downloaded, it is ready in milliseconds, and any number run side by side, each with objects of its own.
///
/// ```no_run
/// use k8s_openapi::api::core::v1::ConfigMap;
/// use kube::{Api, api::{ObjectMeta, PostParams}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> anyhow::Result<()> {
/// let cluster = coracle::Cluster::builder().start().await?;
/// let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
/// let map = ConfigMap {
///     metadata: ObjectMeta { name: Some("settings".into()), ..Default::default() },
///     ..Default::default()
/// };
/// let map = maps.create(&PostParams::default(), &map).await?;
/// assert!(map.metadata.resource_version.is_some());
/// # Ok(())
/// # }
/// ```
///
/// # What runs
///
/// | asked for | runs | for |
/// | --- | --- | --- |
/// | [`Builder::api_only`] | the API server | tests that play the other parts themselves: nothing changes an object but the test |
/// | nothing | API server, controllers, scheduler | most tests: owned objects are collected, namespaces empty themselves, Deployments make pods |
/// | [`Builder::node`] | all that, DNS, Service relays, and a node that runs containers | end-to-end tests |
///
/// Without a node, pods stay `Pending`; a test that needs one to run creates a Node and writes the pod's status, as a
/// kubelet does.
///
/// # Its end
///
/// Dropping it ends it: watches end, tasks and the store's thread stop, ports are closed, and nothing is left on the
/// disk but a durable store's directory. [`Cluster::shutdown`] does the same and waits for it, which a durable store or
/// a node deserves. A client that outlives its cluster has its writes refused.
pub struct Cluster {
    control: Control,
    /// The way in from outside of the process, once there is one.
    access: Mutex<Option<Access>>,
    runtime: Handle,
    stop: CancellationToken,
    running: Option<JoinHandle<anyhow::Result<()>>>,
    #[cfg(feature = "node")]
    place: Option<node::Place>,
}

/// How a [`Cluster`] is to be.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Builder {
    directory: Option<PathBuf>,
    api_only: bool,
    #[cfg(feature = "node")]
    node: Option<crate::Options>,
}

impl Builder {
    /// Leaves out the controllers: an API server and its four namespaces are all there is. Nothing is garbage
    /// collected then, and a deleted namespace stays `Terminating`.
    pub fn api_only(mut self) -> Self {
        self.api_only = true;
        self
    }

    /// Keeps objects and certificates in a directory, made when it is missing; a later cluster goes on with them. An
    /// acknowledged write is on the disk. Without this, everything is in memory.
    pub fn durable(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Adds a node with its network, DNS and Service relays. All of it is kept in the directory of the options.
    #[cfg(feature = "node")]
    pub fn node(mut self, options: crate::Options) -> Self {
        self.node = Some(options);
        self
    }

    /// Starts the cluster on the current tokio runtime. When this returns, the API server answers and its namespaces
    /// exist; the controllers are about to begin, and a node needs some more to be ready ([`node_ready`]).
    ///
    /// [`node_ready`]: Cluster::node_ready
    ///
    /// # Errors
    /// A directory that cannot be used, or a store that another cluster has open or that cannot be read; with a node,
    /// anything that is taken, missing or forbidden, with what to do about it. Nothing is left running then.
    pub async fn start(self) -> anyhow::Result<Cluster> {
        #[cfg(feature = "node")]
        if let Some(options) = self.node {
            return Cluster::with_node(options, &|_| {}).await;
        }
        let mut settings = Settings { directory: self.directory, ..Settings::default() };
        if self.api_only {
            settings.controllers = None;
        }
        let control = match settings.directory {
            None => Control::open(settings)?,
            Some(_) => tokio::task::spawn_blocking(|| Control::open(settings)).await??,
        };
        control.begin().await?;
        let (ending, stop) = (control.clone(), CancellationToken::new());
        let stopped = stop.clone();
        let running = tokio::spawn(async move {
            stopped.cancelled().await;
            ending.end().await;
            Ok(())
        });
        Ok(Cluster::new(control, stop, running))
    }
}

impl Cluster {
    /// A cluster of API server and controllers, in memory, unless told otherwise.
    pub fn builder() -> Builder {
        Builder::default()
    }

    fn new(control: Control, stop: CancellationToken, running: JoinHandle<anyhow::Result<()>>) -> Self {
        Self {
            control,
            access: Mutex::default(),
            runtime: Handle::current(),
            stop,
            running: Some(running),
            #[cfg(feature = "node")]
            place: None,
        }
    }

    /// A client of the cluster's administrator, who may do everything. Its requests are calls in this process: there
    /// is no socket. Its default namespace is `default`.
    #[must_use]
    pub fn client(&self) -> kube::Client {
        self.control.client(Identity::admin())
    }

    /// The same for another user, who is in these groups and in `system:authenticated`.
    #[must_use]
    pub fn client_as(&self, user: &str, groups: &[&str]) -> kube::Client {
        self.control.client(Identity::new(user, groups.iter().map(ToString::to_string)))
    }

    /// The administrator's kubeconfig, for programs outside of this process. The first call makes the API server
    /// listen, with TLS on a free port of 127.0.0.1; before it nothing listens.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn kubeconfig(&self) -> anyhow::Result<Kubeconfig> {
        Kubeconfig::from_yaml(&self.kubeconfig_yaml()?).context("read the own kubeconfig")
    }

    /// The text of [`Self::kubeconfig`], to be written to a file.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn kubeconfig_yaml(&self) -> anyhow::Result<String> {
        let mut access = self.access.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(access) = &*access {
            return Ok(access.render());
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen on 127.0.0.1")?;
        let made = self.control.access(listener.local_addr()?)?;
        let tls = self.control.tls()?;
        self.control.serve(listener, tls, &self.runtime);
        Ok(access.insert(made).render())
    }

    /// What was mended when a durable store was opened, in words for people.
    #[must_use]
    pub fn recovered(&self) -> Option<&str> {
        self.control.recovered.as_deref()
    }

    /// Waits until the cluster has ended by itself, which one with a node can.
    ///
    /// # Errors
    /// Why it has ended.
    pub async fn ended(&mut self) -> anyhow::Result<()> {
        let Some(running) = &mut self.running else { return Ok(()) };
        let result = running.await;
        self.running = None;
        result?
    }

    /// Ends the cluster and waits for that: a node's pods are stopped first, the store is closed last.
    ///
    /// # Errors
    /// What could not be stopped or removed; only a node can fail so.
    pub async fn shutdown(mut self) -> anyhow::Result<()> {
        self.stop.cancel();
        self.ended().await
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").finish_non_exhaustive()
    }
}
