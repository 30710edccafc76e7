//! The state of the cluster's network at one moment.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::{Map, Namespace, Node, Pod, Service};

/// The name of a namespaced object; the namespace of a cluster-scoped one is empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// metadata.namespace.
    pub namespace: Arc<str>,
    /// metadata.name.
    pub name: Arc<str>,
}

impl Key {
    /// The key of `namespace` and `name`.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Key { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            return f.write_str(&self.name);
        }
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What DNS and the proxy need to know, as far as it is watched; immutable; a copy costs a few microseconds.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// True once every kind was listed: until then nothing may be concluded from what is absent.
    pub synced: bool,
    /// All Services with their endpoints. An unchanged Service keeps its `Arc` from one Snapshot
    /// to the next: `services.changed(&older.services)` names those that did change.
    pub services: Map<Key, Arc<Service>>,
    /// All Nodes (their namespace is empty).
    pub nodes: Map<Key, Arc<Node>>,
    /// All Namespaces (theirs is empty).
    pub namespaces: Map<Key, Arc<Namespace>>,
    /// All Pods, finished ones included.
    pub pods: Map<Key, Arc<Pod>>,
    /// The Service that has a cluster IP.
    pub cluster_ips: Map<IpAddr, Key>,
    /// The Pod that has an address of its own (not one of its node's, and not finished).
    pub pod_ips: Map<IpAddr, Key>,
}

impl Snapshot {
    /// The Service `name` in `namespace`.
    pub fn service(&self, namespace: &str, name: &str) -> Option<&Arc<Service>> {
        self.services.get(&Key::new(namespace, name))
    }

    /// The Service whose cluster IP is `address`.
    pub fn service_at(&self, address: IpAddr) -> Option<&Arc<Service>> {
        self.services.get(self.cluster_ips.get(&address)?)
    }

    /// The Pod whose own address is `address`.
    pub fn pod_at(&self, address: IpAddr) -> Option<&Arc<Pod>> {
        self.pods.get(self.pod_ips.get(&address)?)
    }

    /// The Namespace called `name`.
    pub fn namespace(&self, name: &str) -> Option<&Arc<Namespace>> {
        self.namespaces.get(&Key::new("", name))
    }

    /// The Node called `name`.
    pub fn node(&self, name: &str) -> Option<&Arc<Node>> {
        self.nodes.get(&Key::new("", name))
    }
}
