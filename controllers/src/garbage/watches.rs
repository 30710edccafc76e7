//! The metadata of every kind that has no shared cache: one watch each, of the metadata only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::Api;
use kube::api::DynamicObject;
use kube::core::{ApiResource, PartialObjectMeta};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_kind};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Collector;
use super::graph::Uid;
use crate::cluster::Cluster;
use crate::kinds::Kind;
use crate::watch::Delays;

/// How long a failed discovery waits.
const DISCOVERY_PAUSE: Duration = Duration::from_millis(50);

/// All metadata watches.
pub(super) struct Watches {
    collector: Arc<Collector>,
    cluster: Arc<Cluster>,
    shutdown: CancellationToken,
    /// A definition of a kind came or went.
    changed: Arc<Notify>,
    /// How many kinds are watched, once they are known, and how many of them have been listed.
    expected: watch::Sender<Option<usize>>,
    listed: watch::Sender<usize>,
}

impl Watches {
    pub(super) fn new(collector: Arc<Collector>, cluster: Arc<Cluster>, shutdown: CancellationToken) -> Watches {
        Watches {
            collector,
            cluster,
            shutdown,
            changed: Arc::new(Notify::new()),
            expected: watch::Sender::new(None),
            listed: watch::Sender::new(0),
        }
    }

    /// Waits until every kind was listed once: before that, an owner that was not seen may well be there.
    pub(super) async fn ready(&self) {
        self.cluster.ready().await;
        let mut expected = self.expected.subscribe();
        let Ok(count) = expected.wait_for(Option::is_some).await.map(|count| count.unwrap_or(0)) else { return };
        let _ = self.listed.subscribe().wait_for(|listed| *listed >= count).await;
    }

    /// Watches what there is to watch, and follows as kinds come and go.
    pub(super) async fn run(&self) {
        let mut tasks = JoinSet::new();
        let mut running: BTreeMap<String, CancellationToken> = BTreeMap::new();
        loop {
            match self.cluster.kinds.all().await {
                Ok(kinds) => self.follow(&kinds, &mut running, &mut tasks),
                Err(error) => {
                    tracing::debug!(%error, "discovery failed, trying again");
                    tokio::select! {
                        () = tokio::time::sleep(DISCOVERY_PAUSE) => continue,
                        () = self.shutdown.cancelled() => return,
                    }
                }
            }
            if self.shutdown.run_until_cancelled(self.changed.notified()).await.is_none() {
                break;
            }
            self.cluster.kinds.forget().await;
        }
        while tasks.join_next().await.is_some() {}
    }

    fn follow(&self, kinds: &[Kind], running: &mut BTreeMap<String, CancellationToken>, tasks: &mut JoinSet<()>) {
        let wanted: BTreeMap<String, &Kind> = kinds
            .iter()
            .filter(|kind| kind.has("watch") && kind.resource.plural != "events")
            .filter(|kind| !self.collector.shared.contains(&kind.resource))
            .map(|kind| (kind.title(), kind))
            .collect();
        running.retain(|title, token| {
            let stays = wanted.contains_key(title);
            if !stays {
                token.cancel();
            }
            stays
        });
        let first = self.expected.borrow().is_none();
        for (title, kind) in wanted {
            running.entry(title).or_insert_with(|| {
                let token = self.shutdown.child_token();
                tasks.spawn(self.one(kind.resource.clone(), token.clone()));
                token
            });
        }
        if first {
            self.expected.send_replace(Some(running.len()));
        }
    }

    /// Watches one kind into the graph.
    fn one(&self, kind: ApiResource, shutdown: CancellationToken) -> impl Future<Output = ()> + use<> {
        let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(self.cluster.client.clone(), &kind);
        let (collector, listed) = (self.collector.clone(), self.listed.clone());
        let defines = kind.plural == "customresourcedefinitions" || kind.plural == "apiservices";
        let changed = defines.then(|| self.changed.clone());
        let mut feed = Feed { collector, kind: Arc::new(kind), list: BTreeSet::new() };
        async move {
            let mut done = false;
            let events = watch_kind(api, watcher::Config::default()).backoff(Delays::default());
            let mut events = std::pin::pin!(events);
            while let Some(Some(event)) = shutdown.run_until_cancelled(events.next()).await {
                let Ok(event) = event.inspect_err(|error| {
                    tracing::debug!(kind = feed.kind.plural, %error, "metadata watch failed, trying again");
                }) else {
                    continue;
                };
                if matches!(event, Event::InitDone) && !std::mem::replace(&mut done, true) {
                    listed.send_modify(|listed| *listed += 1);
                } else if let Some(changed) = changed.as_ref().filter(|_| done) {
                    changed.notify_one();
                }
                feed.apply(event);
            }
            // The kind is gone, and with it its objects.
            feed.apply(Event::Init);
            feed.apply(Event::InitDone);
        }
    }
}

/// What one watch has told so far.
struct Feed {
    collector: Arc<Collector>,
    kind: Arc<ApiResource>,
    list: BTreeSet<Uid>,
}

impl Feed {
    fn apply(&mut self, event: Event<PartialObjectMeta<DynamicObject>>) {
        let look = match event {
            Event::Init => {
                self.list.clear();
                vec![]
            }
            Event::InitApply(object) => {
                self.list.extend(object.metadata.uid.as_deref().map(Uid::from));
                self.collector.with(|graph| graph.seen(&self.kind, &object.metadata))
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.list);
                self.collector.with(|graph| graph.keep_only(&self.kind, &listed))
            }
            Event::Apply(object) => self.collector.with(|graph| graph.seen(&self.kind, &object.metadata)),
            Event::Delete(object) => {
                let uid = object.metadata.uid.unwrap_or_default();
                self.collector.with(|graph| graph.gone(&uid))
            }
        };
        self.collector.queue.extend(look);
    }
}
