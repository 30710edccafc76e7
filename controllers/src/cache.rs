//! The live objects of one kind, as the watch and our own writes tell them.
//!
//! One [`Cache`] for each kind is shared by all controllers. It differs from kube-runtime's store in three ways
//! that the controllers rest on: look-ups by owner, node and Service; listeners that also hear of deletions; and
//! [`Cache::observe`], which puts the answer to a write in before its watch event comes, so that a controller
//! always reads its own writes and never creates twice on a stale cache (client-go's "expectations").

mod objects;

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use kube::runtime::watcher::Event;
use kube::{Api, Client};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use objects::Objects;

/// Namespace and name; the namespace is empty for what is cluster-scoped.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn new(namespace: &str, name: &str) -> Key {
        Key { namespace: namespace.into(), name: name.into() }
    }

    pub(crate) fn of(meta: &ObjectMeta) -> Key {
        Key { namespace: meta.namespace.clone().unwrap_or_default(), name: meta.name.clone().unwrap_or_default() }
    }
}

/// What a cache can hold: any typed object.
pub(crate) trait Object:
    kube::Resource<DynamicType = (), Scope: Scope> + Clone + Debug + DeserializeOwned + Serialize + Send + Sync + 'static
{
}

impl<K> Object for K where
    K: kube::Resource<DynamicType = (), Scope: Scope>
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize
        + Send
        + Sync
        + 'static
{
}

/// Whether objects of a kind live in namespaces, as the way to reach them.
pub(crate) trait Scope {
    fn api<K: kube::Resource<DynamicType = (), Scope = Self>>(client: Client, namespace: &str) -> Api<K>;
}

impl Scope for NamespaceResourceScope {
    fn api<K: kube::Resource<DynamicType = (), Scope = Self>>(client: Client, namespace: &str) -> Api<K> {
        Api::namespaced(client, namespace)
    }
}

impl Scope for ClusterResourceScope {
    fn api<K: kube::Resource<DynamicType = (), Scope = Self>>(client: Client, _: &str) -> Api<K> {
        Api::all(client)
    }
}

/// Something an object can be looked up by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Term {
    /// The uid of an owner, controlling or not.
    Owner(String),
    /// The namespace of an object that nothing controls.
    Orphan(String),
    /// The node that a pod is bound to; empty for an unbound one.
    Node(String),
    /// The Service that an EndpointSlice belongs to.
    Service(Key),
}

/// One object before and after; `None` is "not there".
pub(crate) struct Change<K> {
    pub(crate) before: Option<Arc<K>>,
    pub(crate) after: Option<Arc<K>>,
}

impl<K: Object> Change<K> {
    /// The object in its newest known form.
    pub(crate) fn newest(&self) -> Option<&Arc<K>> {
        self.after.as_ref().or(self.before.as_ref())
    }

    /// Both forms, to reach what an object belonged to and what it belongs to now.
    pub(crate) fn both(&self) -> impl Iterator<Item = &Arc<K>> {
        self.before.iter().chain(self.after.iter())
    }
}

type Listener<K> = Box<dyn Fn(&Change<K>) + Send + Sync>;

/// The objects of one kind.
pub(crate) struct Cache<K> {
    objects: RwLock<Objects<K>>,
    listeners: RwLock<Vec<Listener<K>>>,
    /// Held while a change is made and told, so that listeners hear of changes in their order.
    order: Mutex<()>,
    ready: watch::Sender<bool>,
}

impl<K: Object> Cache<K> {
    /// An empty cache whose objects can be looked up by what `terms` says of them.
    pub(crate) fn new(terms: fn(&K) -> Vec<Term>) -> Cache<K> {
        Cache {
            objects: RwLock::new(Objects::new(terms)),
            listeners: RwLock::default(),
            order: Mutex::default(),
            ready: watch::Sender::new(false),
        }
    }

    /// Calls `listener` after each change, in their order, on the task that delivers it; it must be quick, must not
    /// block and must not change this cache.
    pub(crate) fn listen(&self, listener: impl Fn(&Change<K>) + Send + Sync + 'static) {
        self.listeners.write().unwrap_or_else(PoisonError::into_inner).push(Box::new(listener));
    }

    /// Waits for the end of the first list.
    pub(crate) async fn ready(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.read().get(key)
    }

    /// All objects, by namespace and name.
    pub(crate) fn all(&self) -> Vec<Arc<K>> {
        self.read().all()
    }

    /// The objects of one namespace, by name.
    pub(crate) fn namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        self.read().namespace(namespace)
    }

    /// The objects that `term` leads to, by namespace and name.
    pub(crate) fn by(&self, term: &Term) -> Vec<Arc<K>> {
        self.read().by(term)
    }

    /// Takes in the answer to a write of ours, unless the watch is already past it.
    pub(crate) fn observe(&self, object: K) {
        self.change(|objects| objects.observe(object));
    }

    /// Takes out what a deletion of ours removed at once.
    pub(crate) fn forget(&self, object: &K) {
        self.change(|objects| objects.remove(object.meta()));
    }

    /// Takes in what the watch says.
    pub(crate) fn apply(&self, event: Event<K>) {
        let done = matches!(event, Event::InitDone);
        self.change(|objects| objects.apply(event));
        if done {
            self.ready.send_replace(true);
        }
    }

    fn change<C: IntoIterator<Item = Change<K>>>(&self, make: impl FnOnce(&mut Objects<K>) -> C) {
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = make(&mut self.write());
        let listeners = self.listeners.read().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            for listener in listeners.iter() {
                listener(&change);
            }
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Objects<K>> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Objects<K>> {
        self.objects.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;
    use std::time::{Duration, Instant};

    #[test]
    fn listeners_hear_of_changes_in_their_order() {
        let cache: Cache<Pod> = Cache::new(|_| vec![]);
        let heard = Arc::new(Mutex::new(vec![]));
        let (begin, begun) = std::sync::mpsc::channel();
        let hears = heard.clone();
        cache.listen(move |change| {
            let revision = change.newest().and_then(|pod| pod.metadata.resource_version.clone());
            if revision.as_deref() == Some("1") {
                // Gives the second change the time to come before.
                begin.send(()).unwrap();
                let end = Instant::now() + Duration::from_millis(100);
                while hears.lock().unwrap().is_empty() && Instant::now() < end {
                    std::thread::yield_now();
                }
            }
            hears.lock().unwrap().extend(revision);
        });
        let pod = |revision: &str| {
            let mut pod = Pod::default();
            pod.metadata.name = Some("a".into());
            pod.metadata.resource_version = Some(revision.into());
            pod
        };
        std::thread::scope(|threads| {
            threads.spawn(|| cache.observe(pod("1")));
            begun.recv().unwrap();
            cache.apply(Event::Apply(pod("2")));
        });
        assert_eq!(*heard.lock().unwrap(), ["1", "2"]);
    }
}
