//! Starts every watch and every controller, and ends them together.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cache::{Cache, Key, Object};
use crate::cluster::Cluster;
use crate::config::Config;
use crate::error::Error;
use crate::queue::Queue;
use crate::{
    deployment, endpoint_slice, endpoints, events, kubernetes_service, namespace, replica_set,
    scheduler, service_account, watch,
};

/// How many keys one controller works on at the same time.
const WORKERS: usize = 16;

/// Runs all controllers against the API server behind `client` until `shutdown` is cancelled.
///
/// The API server may come up later: watches and writes are tried again until they work.
pub async fn run(client: Client, config: Config, shutdown: CancellationToken) {
    let (recorder, inbox) = events::channel();
    let cluster = Arc::new(Cluster::new(client.clone(), config, recorder));
    let mut tasks = JoinSet::new();
    let part = Part {
        cluster: &cluster,
        shutdown: &shutdown,
    };
    tasks.spawn(events::write(client, inbox, shutdown.clone()));
    part.start(&mut tasks, WORKERS, namespace::listen, |c, key| {
        Box::pin(async move { namespace::reconcile(&c, &key).await })
    });
    part.start(&mut tasks, WORKERS, service_account::listen, |c, key| {
        Box::pin(async move { service_account::reconcile(&c, &key).await })
    });
    part.start(&mut tasks, WORKERS, kubernetes_service::listen, |c, key| {
        Box::pin(async move { kubernetes_service::reconcile(&c, &key).await })
    });
    part.start(&mut tasks, WORKERS, deployment::listen, |c, key| {
        Box::pin(async move { deployment::reconcile(&c, &key).await })
    });
    part.start(&mut tasks, WORKERS, replica_set::listen, |c, key| {
        Box::pin(async move { replica_set::reconcile(&c, &key).await })
    });
    part.start(&mut tasks, WORKERS, endpoint_slice::listen, |c, key| {
        Box::pin(async move { endpoint_slice::reconcile(&c, &key).await })
    });
    part.start(&mut tasks, WORKERS, endpoints::listen, |c, key| {
        Box::pin(async move { endpoints::reconcile(&c, &key).await })
    });
    let scheduler = scheduler::listen(&cluster);
    let (to, token) = (cluster.clone(), shutdown.clone());
    tasks.spawn(async move { scheduler.run(&to, token).await });
    part.watch(&mut tasks);
    while tasks.join_next().await.is_some() {}
}

struct Part<'a> {
    cluster: &'a Arc<Cluster>,
    shutdown: &'a CancellationToken,
}

type Outcome = Result<Option<Duration>, Error>;

impl Part<'_> {
    /// Starts one controller: it listens at once and works when every cache has its first list.
    fn start(
        &self,
        tasks: &mut JoinSet<()>,
        workers: usize,
        listen: fn(&Arc<Cluster>, &Arc<Queue<Key>>),
        reconcile: fn(Arc<Cluster>, Key) -> BoxFuture<'static, Outcome>,
    ) {
        let queue = Arc::new(Queue::new());
        listen(self.cluster, &queue);
        let (cluster, shutdown) = (self.cluster.clone(), self.shutdown.clone());
        tasks.spawn(async move {
            if shutdown
                .run_until_cancelled(cluster.ready())
                .await
                .is_some()
            {
                queue
                    .run(workers, shutdown, |key| reconcile(cluster.clone(), key))
                    .await;
            }
        });
    }

    /// Starts the one watch of each kind.
    fn watch(&self, tasks: &mut JoinSet<()>) {
        let (c, all) = (self.cluster, watcher::Config::default);
        let client = || c.client.clone();
        self.feed(tasks, Api::all(client()), &c.namespaces, all());
        self.feed(tasks, Api::all(client()), &c.service_accounts, all());
        self.feed(
            tasks,
            Api::all(client()),
            &c.root_cas,
            all().fields("metadata.name=kube-root-ca.crt"),
        );
        self.feed(tasks, Api::all(client()), &c.services, all());
        self.feed(tasks, Api::all(client()), &c.endpoints, all());
        self.feed(tasks, Api::all(client()), &c.slices, all());
        self.feed(tasks, Api::all(client()), &c.deployments, all());
        self.feed(tasks, Api::all(client()), &c.replica_sets, all());
        self.feed(tasks, Api::all(client()), &c.pods, all());
        self.feed(tasks, Api::all(client()), &c.nodes, all());
        self.feed(
            tasks,
            Api::namespaced(client(), "kube-node-lease"),
            &c.leases,
            all(),
        );
    }

    fn feed<K: Object>(
        &self,
        tasks: &mut JoinSet<()>,
        api: Api<K>,
        cache: &Arc<Cache<K>>,
        config: watcher::Config,
    ) {
        tasks.spawn(watch::feed(
            api,
            config,
            cache.clone(),
            self.shutdown.clone(),
        ));
    }
}
