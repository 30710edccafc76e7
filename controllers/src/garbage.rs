//! Garbage collection by owner references: what is owned goes when its owners are gone, in the background, in the
//! foreground or not at all, as the deletion asked.

mod collect;
mod graph;
mod watches;

use std::sync::{Arc, Mutex, PoisonError};

use kube::core::ApiResource;
use tokio_util::sync::CancellationToken;

use crate::cache::{Cache, Object};
use crate::cluster::Cluster;
use crate::queue::Queue;
use graph::{Graph, Uid};
use watches::Watches;

/// How many objects are looked at together (kube-controller-manager's `--concurrent-gc-syncs`).
const WORKERS: usize = 20;

/// The graph of who owns what, and the objects to look at.
pub(crate) struct Collector {
    graph: Mutex<Graph>,
    queue: Queue<Uid>,
    /// The kinds that come from the shared caches.
    shared: Vec<ApiResource>,
}

/// Listens to the shared caches.
pub(crate) fn listen(cluster: &Arc<Cluster>) -> Arc<Collector> {
    fn kind<K: Object>(_: &Cache<K>) -> ApiResource {
        ApiResource::erase::<K>(&())
    }
    let c = cluster;
    let collector = Arc::new(Collector {
        graph: Mutex::new(Graph::default()),
        queue: Queue::new(),
        shared: vec![
            kind(&c.namespaces),
            kind(&c.service_accounts),
            kind(&c.services),
            kind(&c.endpoints),
            kind(&c.slices),
            kind(&c.deployments),
            kind(&c.replica_sets),
            kind(&c.pods),
            kind(&c.nodes),
        ],
    });
    collector.hear(&c.namespaces);
    collector.hear(&c.service_accounts);
    collector.hear(&c.services);
    collector.hear(&c.endpoints);
    collector.hear(&c.slices);
    collector.hear(&c.deployments);
    collector.hear(&c.replica_sets);
    collector.hear(&c.pods);
    collector.hear(&c.nodes);
    collector
}

impl Collector {
    fn hear<K: Object>(self: &Arc<Self>, cache: &Cache<K>) {
        let collector = self.clone();
        let kind = Arc::new(ApiResource::erase::<K>(&()));
        cache.listen(move |change| {
            let look = collector.with(|graph| {
                let (before, after) = (change.before.as_ref(), change.after.as_ref());
                let mut look = vec![];
                let uid = |object: Option<&Arc<K>>| object.and_then(|object| object.meta().uid.clone());
                if let Some(gone) = uid(before).filter(|gone| uid(after).as_ref() != Some(gone)) {
                    look.extend(graph.gone(&gone));
                }
                look.extend(after.map(|object| graph.seen(&kind, object.meta())).into_iter().flatten());
                look
            });
            collector.queue.extend(look);
        });
    }

    /// Watches the kinds that no cache has, and collects, until `shutdown`.
    pub(crate) async fn run(self: Arc<Self>, cluster: Arc<Cluster>, shutdown: CancellationToken) {
        let watches = Watches::new(self.clone(), cluster.clone(), shutdown.clone());
        let work = async {
            if shutdown.run_until_cancelled(watches.ready()).await.is_some() {
                let look = |uid: Uid| -> futures::future::BoxFuture<'_, _> {
                    let (collector, cluster) = (&self, &cluster);
                    Box::pin(async move { collect::look(collector, cluster, &uid).await.map(|()| None) })
                };
                self.queue.run(WORKERS, shutdown.clone(), look).await;
            }
        };
        futures::future::join(watches.run(), work).await;
    }

    fn with<T>(&self, act: impl FnOnce(&mut Graph) -> T) -> T {
        act(&mut self.graph.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
