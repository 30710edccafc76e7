//! Starts every watch and every controller, and ends them together.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use kube::Client;
use kube::runtime::watcher;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cache::{Cache, Key, Object};
use crate::cluster::Cluster;
use crate::config::Config;
use crate::error::Error;
use crate::node_lifecycle::Heartbeats;
use crate::pod_cleanup::Missing;
use crate::queue::Queue;
use crate::{
    deployment, disruption, endpoint_slice, endpoints, events, eviction, garbage, kubernetes_service, namespace,
    node_lifecycle, node_range, pod_cleanup, replica_set, scheduler, service_account, watch,
};

/// How many keys one controller works on at the same time.
const WORKERS: usize = 16;

/// Runs all controllers and the scheduler against the API server behind `client` until `shutdown` is cancelled.
///
/// The API server may come up later: watches and writes are tried again until they work.
pub async fn run(client: Client, config: Config, shutdown: CancellationToken) {
    let (recorder, inbox) = events::channel();
    let cluster = Arc::new(Cluster::new(client.clone(), config, recorder));
    let mut parts = Parts { cluster: cluster.clone(), shutdown: shutdown.clone(), tasks: JoinSet::new() };
    parts.tasks.spawn(events::write(client, inbox, shutdown.clone()));
    // Everybody listens before the first watch begins.
    parts.workloads();
    parts.services();
    parts.nodes();
    let scheduler = scheduler::listen(&cluster);
    let (to, token) = (cluster.clone(), shutdown.clone());
    parts.tasks.spawn(async move { scheduler.run(&to, token).await });
    parts.tasks.spawn(garbage::listen(&cluster).run(cluster, shutdown));
    parts.watch();
    while parts.tasks.join_next().await.is_some() {}
}

type Outcome = Result<Option<Duration>, Error>;

struct Parts {
    cluster: Arc<Cluster>,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
}

impl Parts {
    fn workloads(&mut self) {
        let queue = self.start(WORKERS, |c, key| Box::pin(async move { namespace::reconcile(&c, &key).await }));
        namespace::listen(&self.cluster, &queue);
        let queue = self.start(WORKERS, |c, key| Box::pin(async move { service_account::reconcile(&c, &key).await }));
        service_account::listen(&self.cluster, &queue);
        let queue = self.start(WORKERS, |c, key| Box::pin(async move { deployment::reconcile(&c, &key).await }));
        deployment::listen(&self.cluster, &queue);
        let queue = self.start(WORKERS, |c, key| Box::pin(async move { replica_set::reconcile(&c, &key).await }));
        replica_set::listen(&self.cluster, &queue);
        let queue = self.start(1, |c, key| Box::pin(async move { disruption::reconcile(&c, &key).await }));
        disruption::listen(&self.cluster, &queue);
    }

    fn services(&mut self) {
        let queue = self.start(1, |c, key| Box::pin(async move { kubernetes_service::reconcile(&c, &key).await }));
        kubernetes_service::listen(&self.cluster, &queue);
        let queue = self.start(WORKERS, |c, key| Box::pin(async move { endpoint_slice::reconcile(&c, &key).await }));
        endpoint_slice::listen(&self.cluster, &queue);
        let queue = self.start(WORKERS, |c, key| Box::pin(async move { endpoints::reconcile(&c, &key).await }));
        endpoints::listen(&self.cluster, &queue);
    }

    fn nodes(&mut self) {
        let queue = self.start(1, |c, key| Box::pin(async move { node_range::reconcile(&c, &key).await }));
        node_range::listen(&self.cluster, &queue);
        let heartbeats = Arc::new(Heartbeats::default());
        let heard = heartbeats.clone();
        let queue = self.start(WORKERS, move |c, key| {
            let heard = heard.clone();
            Box::pin(async move { node_lifecycle::reconcile(&c, &heard, &key).await })
        });
        node_lifecycle::listen(&self.cluster, &queue, &heartbeats);
        let queue = self.start(WORKERS, |c, key| Box::pin(async move { eviction::reconcile(&c, &key).await }));
        eviction::listen(&self.cluster, &queue);
        let missing = Arc::new(Missing::default());
        let since = missing.clone();
        let queue = self.start(WORKERS, move |c, key| {
            let since = since.clone();
            Box::pin(async move { pod_cleanup::reconcile(&c, &since, &key).await })
        });
        pod_cleanup::listen(&self.cluster, &queue, &missing);
    }

    /// Starts one controller: it works on its queue as soon as every cache has its first list.
    fn start(
        &mut self,
        workers: usize,
        reconcile: impl Fn(Arc<Cluster>, Key) -> BoxFuture<'static, Outcome> + Send + Sync + 'static,
    ) -> Arc<Queue<Key>> {
        let queue = Arc::new(Queue::new());
        let (keys, cluster, shutdown) = (queue.clone(), self.cluster.clone(), self.shutdown.clone());
        self.tasks.spawn(async move {
            if shutdown.run_until_cancelled(cluster.ready()).await.is_some() {
                keys.run(workers, shutdown, |key| reconcile(cluster.clone(), key)).await;
            }
        });
        queue
    }

    /// Starts the one watch of each kind.
    fn watch(&mut self) {
        let (c, all) = (self.cluster.clone(), watcher::Config::default);
        self.feed(None, &c.namespaces, all());
        self.feed(None, &c.service_accounts, all());
        self.feed(None, &c.root_cas, all().fields("metadata.name=kube-root-ca.crt"));
        self.feed(None, &c.services, all());
        self.feed(None, &c.endpoints, all());
        self.feed(None, &c.slices, all());
        self.feed(None, &c.deployments, all());
        self.feed(None, &c.replica_sets, all());
        self.feed(None, &c.pods, all());
        self.feed(None, &c.budgets, all());
        self.feed(None, &c.nodes, all());
        self.feed(Some("kube-node-lease"), &c.leases, all());
    }

    fn feed<K: Object>(&mut self, namespace: Option<&'static str>, cache: &Arc<Cache<K>>, config: watcher::Config) {
        let client = self.cluster.client.clone();
        self.tasks.spawn(watch::feed(client, namespace, config, cache.clone(), self.shutdown.clone()));
    }
}
