//! EndpointSlices: who answers for a Service.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::discovery::v1 as discovery;

use crate::service::key;
use crate::{Key, Protocol};

/// The label that names a slice's Service.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// A port that an endpoint listens on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EndpointPort {
    /// The name of the Service's port; empty when it has none.
    pub name: Arc<str>,
    /// Its transport.
    pub protocol: Protocol,
    /// Its number.
    pub port: u16,
}

/// One address behind a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address.
    pub address: IpAddr,
    /// The ports of its slice, shared with the slice's other endpoints; none for a headless
    /// Service without ports.
    pub ports: Arc<[EndpointPort]>,
    /// `conditions.ready`; unknown counts as ready.
    pub ready: bool,
    /// `conditions.serving`: as ready, but kept while it terminates; unknown is as ready.
    pub serving: bool,
    /// `conditions.terminating`.
    pub terminating: bool,
    /// The name it has under its Service in DNS.
    pub hostname: Option<Arc<str>>,
    /// The node it is on.
    pub node: Option<Arc<str>>,
    /// The zone it is in.
    pub zone: Option<Arc<str>>,
    /// Whom it is allotted to; none when it is for all.
    pub hints: Option<Arc<Hints>>,
    /// The Pod it is.
    pub pod: Option<Key>,
}

/// Whom the controller of EndpointSlices allots an endpoint to (`trafficDistribution`, KEP-4444 and
/// KEP-3015); the proxy heeds it only where every ready endpoint has hints.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hints {
    /// `forZones`.
    pub zones: Vec<Arc<str>>,
    /// `forNodes`.
    pub nodes: Vec<Arc<str>>,
}

impl Hints {
    fn read(object: &discovery::EndpointHints) -> Option<Arc<Self>> {
        let zones = object.for_zones.iter().flatten().map(|zone| zone.name.as_str().into());
        let nodes = object.for_nodes.iter().flatten().map(|node| node.name.as_str().into());
        let hints = Hints { zones: zones.collect(), nodes: nodes.collect() };
        (hints != Hints::default()).then(|| Arc::new(hints))
    }
}

/// An endpoint at one of its ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backend<'a> {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// The rest: conditions, node, pod.
    pub endpoint: &'a Endpoint,
}

impl Backend<'_> {
    /// Address and port in one.
    pub fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }
}

/// One EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// Its own namespace and name.
    pub key: Key,
    /// The Service it belongs to, when it says so.
    pub service: Option<Key>,
    /// Its endpoints; none when their addresses are names.
    pub endpoints: Vec<Endpoint>,
}

impl From<&discovery::EndpointSlice> for Slice {
    fn from(object: &discovery::EndpointSlice) -> Self {
        let key = key(&object.metadata);
        let service = object.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_LABEL));
        let service = service.map(|name| Key::new(key.namespace.clone(), name.as_str()));
        let ports: Arc<[EndpointPort]> = object.ports.iter().flatten().filter_map(port).collect();
        let endpoints = match object.address_type.as_str() {
            "IPv4" | "IPv6" => object.endpoints.iter().flatten().flat_map(|e| endpoints(e, &ports)).collect(),
            _ => Vec::new(),
        };
        Slice { key, service, endpoints }
    }
}

fn port(object: &discovery::EndpointPort) -> Option<EndpointPort> {
    Some(EndpointPort {
        name: object.name.as_deref().unwrap_or("").into(),
        protocol: Protocol::parse(object.protocol.as_deref()),
        port: object.port.and_then(|p| u16::try_from(p).ok())?,
    })
}

fn endpoints(object: &discovery::Endpoint, ports: &Arc<[EndpointPort]>) -> Vec<Endpoint> {
    let conditions = object.conditions.as_ref();
    let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
    let pod = object.target_ref.as_ref().filter(|r| r.kind.as_deref() == Some("Pod"));
    let pod = pod.and_then(|r| Some(Key::new(r.namespace.as_deref()?, r.name.as_deref()?)));
    let hints = object.hints.as_ref().and_then(Hints::read);
    let endpoint = |address| Endpoint {
        address,
        ports: ports.clone(),
        ready,
        serving: conditions.and_then(|c| c.serving).unwrap_or(ready),
        terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
        hostname: object.hostname.as_deref().filter(|h| !h.is_empty()).map(Arc::from),
        node: object.node_name.as_deref().map(Arc::from),
        zone: object.zone.as_deref().map(Arc::from),
        hints: hints.clone(),
        pod: pod.clone(),
    };
    object.addresses.iter().filter_map(|a| a.parse().ok()).map(endpoint).collect()
}

/// The endpoints of all slices of a Service in one sorted list. An endpoint that is in two
/// slices (as it moves from one to the other) is taken once, the ready one.
pub(crate) fn fold(slices: &BTreeMap<Key, Arc<Slice>>) -> Vec<Endpoint> {
    let mut all: Vec<Endpoint> = slices.values().flat_map(|slice| slice.endpoints.iter().cloned()).collect();
    all.sort_by(|a, b| {
        let order = (a.address, &a.ports).cmp(&(b.address, &b.ports));
        order.then(b.ready.cmp(&a.ready)).then(b.serving.cmp(&a.serving))
    });
    all.dedup_by(|a, b| a.address == b.address && a.ports == b.ports);
    all
}
