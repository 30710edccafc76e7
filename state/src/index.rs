//! What was heard of the cluster, folded into Snapshots; pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::{Key, Map, Namespace, Node, Pod, Service, Slice, Snapshot, slice};

/// The kinds that an Index takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// v1 Service.
    Service,
    /// discovery.k8s.io/v1 EndpointSlice.
    Slice,
    /// v1 Namespace.
    Namespace,
    /// v1 Node.
    Node,
    /// v1 Pod.
    Pod,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 5] = [Kind::Service, Kind::Slice, Kind::Namespace, Kind::Node, Kind::Pod];
}

/// An object of one of these kinds.
#[derive(Debug, Clone)]
pub enum Object {
    /// A Service; its endpoints are left out of account: they come from its slices.
    Service(Service),
    /// An EndpointSlice.
    Slice(Slice),
    /// A Namespace.
    Namespace(Namespace),
    /// A Node.
    Node(Node),
    /// A Pod.
    Pod(Pod),
}

impl Object {
    fn key(&self) -> &Key {
        match self {
            Object::Service(service) => &service.key,
            Object::Slice(slice) => &slice.key,
            Object::Namespace(namespace) => &namespace.key,
            Object::Node(node) => &node.key,
            Object::Pod(pod) => &pod.key,
        }
    }
}

/// The fold. Every method says whether the next Snapshot differs from the last.
#[derive(Debug, Default)]
pub struct Index {
    snapshot: Snapshot,
    /// The slices by their own key.
    slices: BTreeMap<Key, Arc<Slice>>,
    /// The same by the key of their Service, which may not be there yet.
    by_service: BTreeMap<Key, BTreeMap<Key, Arc<Slice>>>,
    listed: BTreeSet<Kind>,
}

impl Index {
    /// The state so far; unchanged objects are shared with earlier Snapshots.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::new(self.snapshot.clone())
    }

    /// True once `reset` was called for every kind.
    pub fn synced(&self) -> bool {
        self.snapshot.synced
    }

    /// An object was created or modified.
    pub fn apply(&mut self, object: Object) -> bool {
        match object {
            Object::Service(service) => self.put_service(service),
            Object::Slice(slice) => self.put_slice(slice),
            Object::Namespace(namespace) => put(&mut self.snapshot.namespaces, namespace.key.clone(), namespace),
            Object::Node(node) => put(&mut self.snapshot.nodes, node.key.clone(), node),
            Object::Pod(pod) => self.put_pod(pod),
        }
    }

    /// An object is gone.
    pub fn delete(&mut self, kind: Kind, key: &Key) -> bool {
        match kind {
            Kind::Service => {
                let Some(old) = self.snapshot.services.remove(key) else {
                    return false;
                };
                self.forget_cluster_ips(&old);
                true
            }
            Kind::Slice => match self.slices.remove(key) {
                Some(old) => self.unlink(&old).is_some_and(|service| self.fold(&service)),
                None => false,
            },
            Kind::Namespace => self.snapshot.namespaces.remove(key).is_some(),
            Kind::Node => self.snapshot.nodes.remove(key).is_some(),
            Kind::Pod => {
                let Some(old) = self.snapshot.pods.remove(key) else {
                    return false;
                };
                self.forget_pod_ips(&old);
                true
            }
        }
    }

    /// All objects of a kind were listed: what is not among them is gone.
    pub fn reset(&mut self, kind: Kind, objects: Vec<Object>) -> bool {
        let present: BTreeSet<&Key> = objects.iter().map(Object::key).collect();
        let known: Vec<Key> = match kind {
            Kind::Service => keys(&self.snapshot.services),
            Kind::Slice => self.slices.keys().cloned().collect(),
            Kind::Namespace => keys(&self.snapshot.namespaces),
            Kind::Node => keys(&self.snapshot.nodes),
            Kind::Pod => keys(&self.snapshot.pods),
        };
        let gone: Vec<Key> = known.into_iter().filter(|key| !present.contains(key)).collect();
        let mut changed = false;
        for key in gone {
            changed |= self.delete(kind, &key);
        }
        for object in objects {
            changed |= self.apply(object);
        }
        self.listed.insert(kind);
        let synced = self.listed.len() == Kind::ALL.len();
        changed |= synced != self.snapshot.synced;
        self.snapshot.synced = synced;
        changed
    }

    fn put_service(&mut self, mut service: Service) -> bool {
        service.endpoints = self.by_service.get(&service.key).map(slice::fold).unwrap_or_default();
        let old = self.snapshot.services.get(&service.key).cloned();
        if let Some(old) = &old {
            if **old == service {
                return false;
            }
            self.forget_cluster_ips(old);
        }
        for address in service.cluster_ips() {
            self.snapshot.cluster_ips.insert(*address, service.key.clone());
        }
        self.snapshot.services.insert(service.key.clone(), Arc::new(service));
        true
    }

    /// An address that another Service has taken over in the meantime stays with it.
    fn forget_cluster_ips(&mut self, service: &Service) {
        for address in service.cluster_ips() {
            if self.snapshot.cluster_ips.get(address) == Some(&service.key) {
                self.snapshot.cluster_ips.remove(address);
            }
        }
    }

    fn put_slice(&mut self, slice: Slice) -> bool {
        if self.slices.get(&slice.key).is_some_and(|old| **old == slice) {
            return false;
        }
        let slice = Arc::new(slice);
        let old = self.slices.insert(slice.key.clone(), slice.clone());
        let before = old.and_then(|old| self.unlink(&old));
        if let Some(service) = &slice.service {
            let slices = self.by_service.entry(service.clone()).or_default();
            slices.insert(slice.key.clone(), slice.clone());
        }
        let mut changed = slice.service.as_ref().is_some_and(|service| self.fold(service));
        if before != slice.service {
            changed |= before.is_some_and(|service| self.fold(&service));
        }
        changed
    }

    /// Takes a slice from its Service's; returns that Service.
    fn unlink(&mut self, slice: &Slice) -> Option<Key> {
        let service = slice.service.clone()?;
        let slices = self.by_service.get_mut(&service)?;
        slices.remove(&slice.key);
        if slices.is_empty() {
            self.by_service.remove(&service);
        }
        Some(service)
    }

    /// Folds a Service's slices anew.
    fn fold(&mut self, key: &Key) -> bool {
        let Some(old) = self.snapshot.services.get(key) else {
            return false;
        };
        let endpoints = self.by_service.get(key).map(slice::fold).unwrap_or_default();
        if old.endpoints == endpoints {
            return false;
        }
        let service = Service { endpoints, ..Service::clone(old) };
        self.snapshot.services.insert(key.clone(), Arc::new(service));
        true
    }

    fn put_pod(&mut self, pod: Pod) -> bool {
        let old = self.snapshot.pods.get(&pod.key).cloned();
        if let Some(old) = &old {
            if **old == pod {
                return false;
            }
            self.forget_pod_ips(old);
        }
        for address in pod.ips.iter().filter(|_| !pod.host_network) {
            self.snapshot.pod_ips.insert(*address, pod.key.clone());
        }
        self.snapshot.pods.insert(pod.key.clone(), Arc::new(pod));
        true
    }

    fn forget_pod_ips(&mut self, pod: &Pod) {
        for address in &pod.ips {
            if self.snapshot.pod_ips.get(address) == Some(&pod.key) {
                self.snapshot.pod_ips.remove(address);
            }
        }
    }
}

fn keys<T>(map: &Map<Key, Arc<T>>) -> Vec<Key> {
    map.iter().map(|(key, _)| key.clone()).collect()
}

/// Puts an object that nothing else depends on; false when it is there already.
fn put<T: PartialEq>(map: &mut Map<Key, Arc<T>>, key: Key, object: T) -> bool {
    let same = map.get(&key).is_some_and(|old| **old == object);
    if !same {
        map.insert(key, Arc::new(object));
    }
    !same
}

#[cfg(test)]
mod tests;
