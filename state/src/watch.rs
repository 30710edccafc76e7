//! The edge: four watches on the API server, one Index, one channel of Snapshots.

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
use serde::de::DeserializeOwned;
use tokio::sync::watch::{Receiver, Sender, channel};
use tokio_util::sync::CancellationToken;

use crate::{Index, Key, Kind, Node, Object, Pod, Service, Slice, Snapshot, node, pod, service};

/// How many events are folded, when so many are ready, before a Snapshot is published.
const BURST: usize = 4096;

/// Watches Services, EndpointSlices, Nodes and Pods of all namespaces until `shutdown`.
///
/// The channel holds an empty Snapshot with `synced` false until every kind was listed; the
/// first one that is published is whole. A burst of events becomes one Snapshot, and a change
/// that the network does not see (a heartbeat, an annotation) becomes none. Errors are logged
/// and tried again with kube's default backoff; the last Snapshot stays.
pub fn watch(client: Client, shutdown: CancellationToken) -> Receiver<Arc<Snapshot>> {
    let (sender, receiver) = channel(Arc::new(Snapshot::default()));
    let events = select_all([
        events(&client, Kind::Service, |o: core::Service| Object::Service(Service::from(&o))),
        events(&client, Kind::Slice, |o: EndpointSlice| Object::Slice(Slice::from(&o))),
        events(&client, Kind::Node, |o: NodeObject| Object::Node(Node::read(&o.metadata, &o.spec, &o.status))),
        events(&client, Kind::Pod, |o: PodObject| Object::Pod(Pod::read(&o.metadata, o.spec, &o.status))),
    ]);
    tokio::spawn(async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = run(events, sender) => {}
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

type NodeObject = Lean<core::Node, NodeSpec, node::Status>;
type PodObject = Lean<core::Pod, pod::Spec, pod::Status>;

/// What a watch says, in the Index's words.
enum Event {
    Apply(Object),
    Delete(Kind, Key),
    Reset(Kind, Vec<Object>),
}

/// One kind's watch; objects are cut down to what is needed as they come.
fn events<K>(client: &Client, kind: Kind, read: fn(K) -> Object) -> BoxStream<'static, Event>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let mut listing = Vec::new();
    let stream = watcher(Api::<K>::all(client.clone()), watcher::Config::default()).default_backoff();
    let event = move |event| match event {
        Ok(watcher::Event::Apply(object)) => Some(Event::Apply(read(object))),
        Ok(watcher::Event::Delete(object)) => Some(Event::Delete(kind, service::key(object.meta()))),
        Ok(watcher::Event::Init) => {
            listing = Vec::new();
            None
        }
        Ok(watcher::Event::InitApply(object)) => {
            listing.push(read(object));
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
async fn run(mut events: impl futures::Stream<Item = Event> + Unpin, sender: Sender<Arc<Snapshot>>) {
    let mut index = Index::default();
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
