//! The endpoints of one port of a Service, as they are now.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use state::{Address, Key, Port, Protocol, Service, Snapshot, Type};

/// Where requests go. It stays the same object while the Service's endpoints come and go, so that no Table
/// is made anew for them.
#[derive(Debug)]
pub struct Upstream {
    /// The Service.
    pub service: Key,
    /// Its port as the Ingress names it: a name or a number.
    pub port: Box<str>,
    endpoints: RwLock<Arc<[SocketAddr]>>,
    turn: AtomicUsize,
}

impl Upstream {
    /// An upstream without endpoints yet.
    pub fn new(service: Key, port: &str) -> Self {
        let endpoints = RwLock::new(Arc::from([]));
        Upstream { service, port: port.into(), endpoints, turn: AtomicUsize::new(0) }
    }

    /// Replaces the endpoints; requests under way go on where they are.
    pub fn update(&self, endpoints: Vec<SocketAddr>) {
        let mut current = self.endpoints.write().unwrap_or_else(PoisonError::into_inner);
        if **current != *endpoints {
            *current = endpoints.into();
        }
    }

    /// The endpoints now.
    pub fn endpoints(&self) -> Arc<[SocketAddr]> {
        self.endpoints.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The number of the one whose turn it is; to be taken modulo their count.
    pub(crate) fn turn(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }
}

/// The upstreams of all Tables: one for a Service's port, however often it is asked for.
#[derive(Debug, Default)]
pub struct Upstreams(BTreeMap<(Key, Box<str>, bool), Arc<Upstream>>);

impl Upstreams {
    /// The upstream of `port` (a name or a number) of `service`, with its endpoints in `snapshot`, or only with
    /// the Service's own address (`service-upstream`); none where there is no such Service or port.
    pub fn get(&mut self, service: &Key, port: &str, virtual_ip: bool, snapshot: &Snapshot) -> Option<Arc<Upstream>> {
        let endpoints = endpoints(service, port, virtual_ip, snapshot)?;
        let upstream = self.0.entry((service.clone(), port.into(), virtual_ip));
        let upstream = upstream.or_insert_with(|| Arc::new(Upstream::new(service.clone(), port)));
        upstream.update(endpoints);
        Some(upstream.clone())
    }

    /// Follows the Services' endpoints from an `older` Snapshot to another one. What only leads to another Service's
    /// (ExternalName) is always looked at.
    pub fn follow(&self, snapshot: &Snapshot, older: &Snapshot) {
        let changed: BTreeSet<&Key> = snapshot.services.changed(&older.services).collect();
        let alias = |key: &Key| snapshot.services.get(key).is_some_and(|service| service.kind == Type::ExternalName);
        for ((key, port, virtual_ip), upstream) in
            self.0.iter().filter(|((key, ..), _)| changed.contains(key) || alias(key))
        {
            upstream.update(endpoints(key, port, *virtual_ip, snapshot).unwrap_or_default());
        }
    }

    /// Forgets those that no Table has any more.
    pub fn sweep(&mut self) {
        self.0.retain(|_, upstream| Arc::strong_count(upstream) > 1);
    }
}

/// The ports of a Service that HTTP goes to: one of UDP may have the same number.
pub(crate) fn ports(service: &Service) -> impl Iterator<Item = &Port> {
    service.ports.iter().filter(|port| port.protocol == Protocol::Tcp)
}

/// The ready endpoints of a Service's port, or those that still serve while they terminate (KEP-1669), of the
/// Service's first family.
fn endpoints(service: &Key, port: &str, virtual_ip: bool, snapshot: &Snapshot) -> Option<Vec<SocketAddr>> {
    let service = snapshot.services.get(service)?;
    let found = ports(service).find(|candidate| match port.parse::<u16>() {
        Ok(number) => candidate.port == number,
        Err(_) => *candidate.name == *port,
    });
    match (&service.address, found) {
        (Address::ExternalName(name), found) => {
            // Its ports need not be declared.
            let number = found.map(|port| port.port).or_else(|| port.parse().ok())?;
            Some(external(name, number, snapshot))
        }
        (Address::ClusterIp(addresses), Some(port)) if virtual_ip => {
            Some(addresses.first().map(|address| SocketAddr::new(*address, port.port)).into_iter().collect())
        }
        (_, found) => Some(proxy::endpoints(service, found?)),
    }
}

/// Where the name of an ExternalName Service leads: an address, or a Service of this cluster
/// (`SERVICE.NAMESPACE.svc`, with the cluster's domain or without). No other names are resolved.
fn external(name: &str, port: u16, snapshot: &Snapshot) -> Vec<SocketAddr> {
    if let Ok(address) = name.parse() {
        return vec![SocketAddr::new(address, port)];
    }
    let mut labels = name.split('.');
    let (Some(service), Some(namespace), Some("svc")) = (labels.next(), labels.next(), labels.next()) else {
        return Vec::new();
    };
    let Some(service) = snapshot.service(namespace, service) else { return Vec::new() };
    let port = ports(service).find(|candidate| candidate.port == port);
    port.map(|port| proxy::endpoints(service, port)).unwrap_or_default()
}
