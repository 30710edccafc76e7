//! A Service as the network sees it: its addresses, its ports and what stands behind them.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::{Backend, Endpoint, EndpointPort, Key};

/// The label that names the program that is to serve a Service's addresses.
const PROXY_LABEL: &str = "service.kubernetes.io/service-proxy-name";

/// The prefixes of MetalLB's annotations, the older one last.
const METALLB: [&str; 2] = ["metallb.io/", "metallb.universe.tf/"];

/// The transport of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP, the default.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    pub(crate) fn parse(text: Option<&str>) -> Self {
        match text {
            Some("UDP") => Protocol::Udp,
            Some("SCTP") => Protocol::Sctp,
            _ => Protocol::Tcp,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        })
    }
}

/// What a Service's name leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// Virtual addresses of its own, the first family first; empty while none is allocated.
    ClusterIp(Vec<IpAddr>),
    /// `clusterIP: None`: the addresses of its endpoints.
    Headless,
    /// Another DNS name.
    ExternalName(Arc<str>),
}

/// `spec.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// Reachable inside the cluster.
    ClusterIp,
    /// And on a port of every node.
    NodePort,
    /// And by an address from outside.
    LoadBalancer,
    /// An alias in DNS.
    ExternalName,
}

/// `targetPort` as it is written in the Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A number.
    Number(u16),
    /// The name of a container's port.
    Name(Arc<str>),
}

/// One port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its name; empty when it has none.
    pub name: Arc<str>,
    /// Its transport.
    pub protocol: Protocol,
    /// The port at the cluster IP.
    pub port: u16,
    /// The port of every node, 30000–32767 by default.
    pub node_port: Option<u16>,
    /// Where it leads in the pod; what counts for forwarding is the EndpointSlice's number.
    pub target: Target,
}

/// What a Service of type LoadBalancer asks of whoever gives it addresses; the annotations are MetalLB's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Balancing {
    /// `spec.loadBalancerClass`: who is to give it addresses; without one, whoever does so by default.
    pub class: Option<Arc<str>>,
    /// The pool that its addresses are to be of: the annotation `address-pool`.
    pub pool: Option<Arc<str>>,
    /// The addresses that it is to have, as written, with commas: the annotation `loadBalancerIPs`, or
    /// `spec.loadBalancerIP`.
    pub addresses: Option<Arc<str>>,
    /// Services may share an address, each with ports of its own, where this is the same: the annotation
    /// `allow-shared-ip`, with the selector if only nodes with endpoints serve the address.
    pub sharing: Option<Arc<str>>,
}

impl Balancing {
    fn read(object: &core::Service, spec: &core::ServiceSpec) -> Self {
        let asked = |name: &str| {
            let annotations = object.metadata.annotations.as_ref()?;
            METALLB.iter().find_map(|prefix| annotations.get(&format!("{prefix}{name}")))
        };
        let shared = |text: Option<&String>| text.filter(|text| !text.is_empty()).map(|text| text.as_str().into());
        let local = spec.selector.iter().flatten().filter(|_| is_local(&spec.external_traffic_policy));
        let sharing = asked("allow-shared-ip").filter(|key| !key.is_empty());
        let sharing =
            sharing.map(|key| local.fold(key.clone(), |all, (label, value)| format!("{all}\n{label}={value}")));
        Balancing {
            class: shared(spec.load_balancer_class.as_ref()),
            pool: shared(asked("address-pool")),
            addresses: shared(asked("loadBalancerIPs").or(spec.load_balancer_ip.as_ref())),
            sharing: shared(sharing.as_ref()),
        }
    }
}

/// A Service and its endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Namespace and name.
    pub key: Key,
    /// What its name leads to.
    pub address: Address,
    /// `spec.type`.
    pub kind: Type,
    /// Its ports.
    pub ports: Vec<Port>,
    /// `sessionAffinity: ClientIP`: for how many seconds a client stays with its endpoint.
    pub affinity: Option<u32>,
    /// `internalTrafficPolicy: Local`: only endpoints on the client's node.
    pub internal_local: bool,
    /// `externalTrafficPolicy: Local`: only endpoints on the node that was reached.
    pub external_local: bool,
    /// `publishNotReadyAddresses`: endpoints count as ready at once.
    pub publish_not_ready: bool,
    /// `spec.externalIPs`.
    pub external_ips: Vec<IpAddr>,
    /// The addresses in `status.loadBalancer` at which packets come (`ipMode: VIP`, KEP-1860).
    pub load_balancer_ips: Vec<IpAddr>,
    /// The others there, as they are written: names, and addresses of load balancers that pass on what
    /// comes to them under another destination (`ipMode: Proxy`).
    pub load_balancer_hosts: Box<[Arc<str>]>,
    /// What it asks of a load balancer; none unless it is of that type.
    pub balancing: Option<Arc<Balancing>>,
    /// `spec.loadBalancerSourceRanges`; empty means everyone.
    pub source_ranges: Vec<IpNet>,
    /// Where a load balancer asks each node, over HTTP, whether it has endpoints; for `external_local`.
    pub health_check_node_port: Option<u16>,
    /// The label `service.kubernetes.io/service-proxy-name`: another program serves its addresses.
    pub other_proxy: bool,
    /// Sorted by address; one for each address and set of ports.
    pub endpoints: Vec<Endpoint>,
}

impl Service {
    /// The endpoints of one of its ports, ready or not, each address and port once, in their order.
    /// A port of an EndpointSlice belongs to the Service's port of the same name.
    pub fn backends<'a>(&'a self, port: &Port) -> Vec<Backend<'a>> {
        let own = |own: &&EndpointPort| own.name == port.name && own.protocol == port.protocol;
        let at = |endpoint: &'a Endpoint| {
            let ports = endpoint.ports.iter().filter(own);
            ports.map(move |own| Backend { address: endpoint.address, port: own.port, endpoint })
        };
        let mut backends: Vec<Backend<'a>> = self.endpoints.iter().flat_map(at).collect();
        backends.sort_by_key(|backend| (backend.socket(), !backend.endpoint.ready, !backend.endpoint.serving));
        backends.dedup_by_key(|backend| backend.socket());
        backends
    }

    /// True when DNS may publish this endpoint.
    pub fn publishes(&self, endpoint: &Endpoint) -> bool {
        endpoint.ready || self.publish_not_ready
    }

    /// The cluster IPs, at most one of each family; none for headless and external ones.
    pub fn cluster_ips(&self) -> &[IpAddr] {
        match &self.address {
            Address::ClusterIp(addresses) => addresses,
            _ => &[],
        }
    }

    /// All addresses of its load balancers, in whatever mode.
    pub fn balancers(&self) -> impl Iterator<Item = IpAddr> {
        let hosts = self.load_balancer_hosts.iter().filter_map(|host| host.parse().ok());
        self.load_balancer_ips.iter().copied().chain(hosts)
    }
}

impl From<&core::Service> for Service {
    /// The Service without endpoints; fields that are wrong are left out.
    fn from(object: &core::Service) -> Self {
        let empty = core::ServiceSpec::default();
        let spec = object.spec.as_ref().unwrap_or(&empty);
        let kind = match spec.type_.as_deref() {
            Some("NodePort") => Type::NodePort,
            Some("LoadBalancer") => Type::LoadBalancer,
            Some("ExternalName") => Type::ExternalName,
            _ => Type::ClusterIp,
        };
        let ingress = object.status.as_ref().and_then(|s| s.load_balancer.as_ref()?.ingress.as_ref());
        let virtually = |i: &&core::LoadBalancerIngress| i.ip.is_some() && i.ip_mode.as_deref() != Some("Proxy");
        let (ips, hosts): (Vec<_>, Vec<_>) = ingress.into_iter().flatten().partition(virtually);
        let hosts = hosts.into_iter().filter_map(|i| i.ip.as_deref().or(i.hostname.as_deref()));
        let labels = object.metadata.labels.as_ref();
        Service {
            key: key(&object.metadata),
            address: address(kind, spec),
            kind,
            ports: spec.ports.iter().flatten().filter_map(port).collect(),
            affinity: affinity(spec),
            internal_local: is_local(&spec.internal_traffic_policy),
            external_local: is_local(&spec.external_traffic_policy),
            publish_not_ready: spec.publish_not_ready_addresses == Some(true),
            external_ips: parsed(&spec.external_ips),
            balancing: (kind == Type::LoadBalancer).then(|| Arc::new(Balancing::read(object, spec))),
            load_balancer_ips: ips.into_iter().filter_map(|i| i.ip.as_ref()?.parse().ok()).collect(),
            load_balancer_hosts: hosts.map(Arc::from).collect(),
            source_ranges: parsed(&spec.load_balancer_source_ranges),
            health_check_node_port: spec.health_check_node_port.and_then(number),
            other_proxy: labels.is_some_and(|labels| labels.contains_key(PROXY_LABEL)),
            endpoints: Vec::new(),
        }
    }
}

fn is_local(policy: &Option<String>) -> bool {
    policy.as_deref() == Some("Local")
}

/// The key in an object's metadata.
pub(crate) fn key(meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Key {
    Key::new(meta.namespace.as_deref().unwrap_or(""), meta.name.as_deref().unwrap_or(""))
}

fn address(kind: Type, spec: &core::ServiceSpec) -> Address {
    if kind == Type::ExternalName {
        return Address::ExternalName(spec.external_name.as_deref().unwrap_or("").into());
    }
    let first = spec.cluster_ip.as_deref().unwrap_or("");
    if first == "None" {
        return Address::Headless;
    }
    let mut addresses: Vec<IpAddr> = parsed(&spec.cluster_ips);
    if let Ok(first) = first.parse()
        && !addresses.contains(&first)
    {
        addresses.insert(0, first);
    }
    Address::ClusterIp(addresses)
}

fn port(object: &core::ServicePort) -> Option<Port> {
    let port = u16::try_from(object.port).ok()?;
    let target = match &object.target_port {
        Some(IntOrString::Int(number)) => Target::Number(u16::try_from(*number).ok()?),
        Some(IntOrString::String(name)) => Target::Name(name.as_str().into()),
        None => Target::Number(port),
    };
    Some(Port {
        name: object.name.as_deref().unwrap_or("").into(),
        protocol: Protocol::parse(object.protocol.as_deref()),
        port,
        node_port: object.node_port.and_then(number),
        target,
    })
}

/// A port; none for 0, which stands for one that is not set.
pub(crate) fn number(port: i32) -> Option<u16> {
    u16::try_from(port).ok().filter(|port| *port > 0)
}

/// The default of three hours is that of the API.
fn affinity(spec: &core::ServiceSpec) -> Option<u32> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let seconds = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref()?.timeout_seconds);
    Some(seconds.and_then(|s| u32::try_from(s).ok()).unwrap_or(10_800))
}

fn parsed<T: std::str::FromStr>(texts: &Option<Vec<String>>) -> Vec<T> {
    texts.iter().flatten().filter_map(|text| text.trim().parse().ok()).collect()
}
