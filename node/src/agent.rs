//! The agent: watches the pods that are bound to its node and keeps a task for each.

use crate::{
    Config, Error,
    cleanup::cgroup,
    kubelet,
    network::Links,
    pod::{Desired, Record, Worker, discard},
    pods::Pods,
    register,
};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    runtime::{WatchStreamExt, watcher},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::Arc,
};
use tokio::{net::UnixListener, sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// What kubelet is to a node: registers it, runs its pods, and serves their logs and shells.
#[derive(Debug)]
pub struct Agent {
    pods: Arc<Pods>,
    socket: UnixListener,
}

impl Agent {
    /// Binds the kubelet API's socket and looks at the machine. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Io`] when a directory or the socket can not be made, [`Error::Link`] when netlink
    /// does not answer.
    pub async fn new(config: Config, images: image::Store, client: kube::Client) -> Result<Self, Error> {
        let dir = config.data_dir.join("pods");
        fs::create_dir_all(&dir).map_err(Error::io("make", dir))?;
        let path = &config.kubelet_socket;
        let _ = fs::remove_file(path);
        let socket = UnixListener::bind(path).map_err(Error::io("bind", path))?;
        let links = Links::open(&config.cluster_id, config.node_address).await?;
        let capacity = register::capacity();
        let pods = Arc::new(Pods::new(config, images, client, links, capacity));
        Ok(Self { pods, socket })
    }

    /// Runs the node until `shutdown`; then ends all pods quickly (their objects stay, and the next
    /// agent starts their containers anew) and removes their links and cgroups. When the process
    /// is killed instead, the pods go on and the next agent adopts them.
    ///
    /// # Errors
    /// [`Error::Link`] when links can not be listed.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let Self { pods, socket } = self;
        let mut kept = Vec::new();
        for (_, record) in Record::all(&pods.dir()) {
            if let Some(address) = record.held()
                && pods.addresses().keep(address)
            {
                kept.push(address);
            }
        }
        pods.links.sweep(&kept).await?;
        let mut parts = JoinSet::new();
        parts.spawn(kubelet::serve(pods.clone(), socket, shutdown.clone()));
        parts.spawn(register::run(pods.clone(), shutdown.clone()));
        Workers::new(pods.clone(), shutdown).run().await;
        parts.join_all().await;
        pods.links.sweep(&[]).await?;
        shim::remove_cgroup(&cgroup(&pods.config.cluster_id));
        let _ = fs::remove_file(&pods.config.kubelet_socket);
        Ok(())
    }
}

/// The tasks of all pods.
struct Workers {
    pods: Arc<Pods>,
    shutdown: CancellationToken,
    desired: BTreeMap<String, watch::Sender<Desired>>,
    tasks: JoinSet<String>,
    /// The pods of a list that is being read.
    listed: BTreeSet<String>,
    swept: bool,
}

impl Workers {
    fn new(pods: Arc<Pods>, shutdown: CancellationToken) -> Self {
        Self { pods, shutdown, desired: BTreeMap::new(), tasks: JoinSet::new(), listed: BTreeSet::new(), swept: false }
    }

    async fn run(mut self) {
        let field = format!("spec.nodeName={}", self.pods.config.node_name);
        let api: Api<Pod> = Api::all(self.pods.client.clone());
        let events = watcher(api, watcher::Config::default().fields(&field)).default_backoff();
        let mut events = events.into_stream().boxed();
        let shutdown = self.shutdown.clone();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                event = events.try_next() => match event {
                    Ok(Some(event)) => self.hear(event).await,
                    Ok(None) => break,
                    Err(error) => tracing::warn!(%error, "failed to watch pods"),
                },
                Some(done) = self.tasks.join_next() => self.done(done),
            }
        }
        while let Some(done) = self.tasks.join_next().await {
            self.done(done);
        }
    }

    fn done(&mut self, done: Result<String, tokio::task::JoinError>) {
        match done {
            Ok(uid) => drop(self.desired.remove(&uid)),
            Err(error) => tracing::error!(%error, "the task of a pod ended badly"),
        }
    }

    async fn hear(&mut self, event: watcher::Event<Pod>) {
        match event {
            watcher::Event::Init => self.listed.clear(),
            watcher::Event::InitApply(pod) => {
                self.listed.extend(pod.metadata.uid.clone());
                self.want(pod);
            }
            watcher::Event::Apply(pod) => self.want(pod),
            watcher::Event::Delete(pod) => {
                if let Some(desired) = pod.metadata.uid.and_then(|uid| self.desired.get(&uid)) {
                    desired.send_replace(Desired::Gone);
                }
            }
            watcher::Event::InitDone => {
                for (uid, desired) in &self.desired {
                    if !self.listed.contains(uid) {
                        desired.send_replace(Desired::Gone);
                    }
                }
                if !std::mem::replace(&mut self.swept, true) {
                    self.sweep().await;
                }
            }
        }
    }

    fn want(&mut self, pod: Pod) {
        let Some(uid) = pod.metadata.uid.clone() else { return };
        let pod = Arc::new(pod);
        if let Some(desired) = self.desired.get(&uid) {
            desired.send_replace(Desired::Run(pod));
            return;
        }
        let (send, desired) = watch::channel(Desired::Run(pod.clone()));
        self.desired.insert(uid.clone(), send);
        let (pods, shutdown) = (self.pods.clone(), self.shutdown.clone());
        self.tasks.spawn(async move {
            let worker = Worker::new(pods, pod).await;
            worker.run(desired, shutdown).await;
            uid
        });
    }

    /// Removes pods of a former agent that are not bound to this node any more.
    async fn sweep(&self) {
        let entries = fs::read_dir(self.pods.dir()).into_iter().flatten().flatten();
        let strays = entries.map(|entry| entry.path()).filter(|dir| {
            let uid = dir.file_name().unwrap_or_default().to_string_lossy();
            !self.desired.contains_key(uid.as_ref())
        });
        let strays: Vec<_> = strays.collect();
        let discards = strays.iter().map(|dir| async {
            discard(&self.pods, dir, Record::load(dir).as_ref()).await;
        });
        futures::future::join_all(discards).await;
    }
}
