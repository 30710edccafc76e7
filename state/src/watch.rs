//! The edge: a watch of each kind on the API server, one Index, one channel of Snapshots.

use std::borrow::Cow;
use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::Arc;

use futures::stream::{BoxStream, select_all};
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::{self as core, NodeSpec};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use tokio::sync::watch::{Receiver, Sender, channel};
use tokio_util::sync::CancellationToken;

use crate::{Index, Key, Kind, Namespace, Node, Object, Pod, Service, Slice, Snapshot, node, pod, service};

/// How many events are folded, when so many are ready, before a Snapshot is published.
const BURST: usize = 4096;

/// What of the cluster is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// These kinds; of the others a Snapshot has none.
    pub kinds: Vec<Kind>,
    /// Only Services, EndpointSlices and Pods that this label selector matches.
    pub labels: Option<String>,
    /// Only what is in these namespaces; with none, in all.
    pub namespaces: Vec<String>,
    /// Only the Node of this name; without one all.
    pub node: Option<String>,
}

impl Default for Scope {
    /// Everything.
    fn default() -> Self {
        Scope { kinds: Kind::ALL.into(), labels: None, namespaces: Vec::new(), node: None }
    }
}

/// Watches what is in `scope` until `shutdown`, or until there is no receiver any more.
///
/// The channel holds an empty Snapshot with `synced` false until every kind was listed; the
/// first one that is published is whole. A burst of events becomes one Snapshot, and a change
/// that the network does not see (a heartbeat, an annotation) becomes none. Errors are logged
/// and tried again with kube's default backoff; the last Snapshot stays.
pub fn watch(client: Client, scope: Scope, shutdown: CancellationToken) -> Receiver<Arc<Snapshot>> {
    let (sender, receiver) = channel(Arc::new(Snapshot::default()));
    let mut index = Index::default();
    for kind in Kind::ALL.iter().filter(|kind| !scope.kinds.contains(kind)) {
        index.reset(*kind, Vec::new());
    }
    let stream = |kind: &Kind| match kind {
        Kind::Service => events(&client, &scope, *kind, |o: core::Service| Object::Service(Service::from(&o))),
        Kind::Slice => events(&client, &scope, *kind, |o: EndpointSlice| Object::Slice(Slice::from(&o))),
        Kind::Namespace => {
            events(&client, &scope, *kind, |o: NamespaceObject| Object::Namespace(Namespace::read(&o.metadata)))
        }
        Kind::Node => {
            events(&client, &scope, *kind, |o: NodeObject| Object::Node(Node::read(&o.metadata, &o.spec, &o.status)))
        }
        Kind::Pod => {
            events(&client, &scope, *kind, |o: PodObject| Object::Pod(Pod::read(&o.metadata, o.spec, &o.status)))
        }
    };
    let events = select_all(scope.kinds.iter().map(stream));
    tokio::spawn(async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = sender.closed() => {}
            () = run(index, events, &sender) => {}
        }
    });
    receiver
}

/// An object of the API's kind `K` of whose spec and status only `P` and `U` are parsed.
#[derive(Debug, Clone, Deserialize)]
struct Lean<K, P, U> {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: P,
    #[serde(default)]
    status: U,
    #[serde(skip)]
    kind: PhantomData<K>,
}

impl<K: Resource<DynamicType = ()>, P, U> Resource for Lean<K, P, U> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind(_: &()) -> Cow<'_, str> {
        K::kind(&())
    }
    fn group(_: &()) -> Cow<'_, str> {
        K::group(&())
    }
    fn version(_: &()) -> Cow<'_, str> {
        K::version(&())
    }
    fn plural(_: &()) -> Cow<'_, str> {
        K::plural(&())
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

type NamespaceObject = Lean<core::Namespace, IgnoredAny, IgnoredAny>;
type NodeObject = Lean<core::Node, NodeSpec, node::Status>;
type PodObject = Lean<core::Pod, pod::Spec, pod::Status>;

/// What a watch says, in the Index's words.
enum Event {
    Apply(Object),
    Delete(Kind, Key),
    Reset(Kind, Vec<Object>),
}

/// One kind's watch; objects are cut down to what is needed as they come.
fn events<K>(client: &Client, scope: &Scope, kind: Kind, read: fn(K) -> Object) -> BoxStream<'static, Event>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let mut listing = Vec::new();
    let namespaced = matches!(kind, Kind::Service | Kind::Slice | Kind::Pod);
    let labels = scope.labels.as_deref().filter(|_| namespaced);
    let mut config = labels.map(|labels| watcher::Config::default().labels(labels)).unwrap_or_default();
    if let (Kind::Node, Some(name)) = (kind, &scope.node) {
        config = config.fields(&format!("metadata.name={name}"));
    }
    let stream = watcher(Api::<K>::all(client.clone()), config).default_backoff();
    let namespaces = scope.namespaces.clone();
    let wanted = move |object: &K| {
        let within = |namespace: &String| Some(namespace) == object.meta().namespace.as_ref();
        !namespaced || namespaces.is_empty() || namespaces.iter().any(within)
    };
    let event = move |event| match event {
        Ok(watcher::Event::Apply(object)) => wanted(&object).then(|| Event::Apply(read(object))),
        Ok(watcher::Event::Delete(object)) => Some(Event::Delete(kind, service::key(object.meta()))),
        Ok(watcher::Event::Init) => {
            listing = Vec::new();
            None
        }
        Ok(watcher::Event::InitApply(object)) => {
            if wanted(&object) {
                listing.push(read(object));
            }
            None
        }
        Ok(watcher::Event::InitDone) => Some(Event::Reset(kind, std::mem::take(&mut listing))),
        Err(error) => {
            tracing::warn!("watch of {}: {error}", K::plural(&()));
            None
        }
    };
    stream.map(event).filter_map(std::future::ready).boxed()
}

/// Folds whatever is ready, then publishes once.
async fn run(mut index: Index, mut events: impl futures::Stream<Item = Event> + Unpin, sender: &Sender<Arc<Snapshot>>) {
    while let Some(first) = events.next().await {
        let mut changed = fold(&mut index, first);
        for _ in 1..BURST {
            match events.next().now_or_never() {
                Some(Some(event)) => changed |= fold(&mut index, event),
                _ => break,
            }
        }
        if changed && index.synced() {
            sender.send_replace(index.snapshot());
        }
    }
}

fn fold(index: &mut Index, event: Event) -> bool {
    match event {
        Event::Apply(object) => index.apply(object),
        Event::Delete(kind, key) => index.delete(kind, &key),
        Event::Reset(kind, objects) => index.reset(kind, objects),
    }
}
