//! What the `kubernetes` directive of a Corefile sets.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::IpAddr;

use hickory_proto::rr::Name;
use state::{Endpoint, Kind, Scope, Service, Snapshot};

use super::{Selector, alias};

/// The longest label (RFC 1035 §2.3.4).
const LABEL: usize = 63;

/// Whether pods have names that are made from their addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pods {
    /// No.
    Disabled,
    /// Any address has, in any namespace that exists.
    Insecure,
    /// Those that there are.
    Verified,
}

/// The settings of a zone; CoreDNS's README of the plugin says more on each.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// What is answered for, in lower case: at least one zone, and whatever zones of addresses.
    pub(crate) zones: Vec<Name>,
    /// Of all records, 0–3600 seconds.
    pub(crate) ttl: u32,
    /// Names such as `10-244-0-7.default.pod.cluster.local`.
    pub(crate) pods: Pods,
    /// An endpoint without a hostname is called as its pod is, rather than by its address.
    pub(crate) pod_names: bool,
    /// Whether endpoints have names; without, headless Services have none either.
    pub(crate) endpoints: bool,
    /// A Service with a cluster IP but without a ready endpoint does not exist.
    pub(crate) ignore_empty: bool,
    /// Names such as `ZONE.pin._zone.db.default.svc.cluster.local`.
    pub(crate) zonal: bool,
    /// Only these namespaces; with none, all.
    pub(crate) namespaces: Vec<String>,
    /// Only namespaces with such labels.
    pub(crate) namespace_labels: Option<Selector>,
    /// Only Services and EndpointSlices that this label selector matches.
    pub(crate) labels: Option<String>,
    /// Names under these that do not exist here are left to the next plugin.
    pub(crate) fallthrough: Vec<Name>,
    /// The addresses of the server itself.
    pub(crate) addresses: Vec<IpAddr>,
}

impl Options {
    /// CoreDNS's defaults.
    pub(crate) fn new(zones: Vec<Name>) -> Self {
        Options {
            zones,
            ttl: 5,
            pods: Pods::Disabled,
            pod_names: false,
            endpoints: true,
            ignore_empty: false,
            zonal: false,
            namespaces: Vec::new(),
            namespace_labels: None,
            labels: None,
            fallthrough: Vec::new(),
            addresses: Vec::new(),
        }
    }

    /// What has to be known of the cluster.
    pub(crate) fn scope(&self) -> Scope {
        let mut kinds = vec![Kind::Service, Kind::Namespace];
        kinds.extend(self.endpoints.then_some(Kind::Slice));
        kinds.extend((self.pods == Pods::Verified).then_some(Kind::Pod));
        Scope { kinds, labels: self.labels.clone(), namespaces: self.namespaces.clone(), ..Scope::default() }
    }

    /// True when what is in this namespace has names.
    pub(crate) fn exposes(&self, snapshot: &Snapshot, namespace: &str) -> bool {
        let listed = self.namespaces.is_empty() || self.namespaces.iter().any(|name| name == namespace);
        let labelled = |selector: &Selector| snapshot.namespace(namespace).is_some_and(|n| selector.matches(&n.labels));
        listed && self.namespace_labels.as_ref().is_none_or(labelled)
    }

    /// The endpoints that have names.
    pub(crate) fn published<'a>(&self, service: &'a Service) -> impl Iterator<Item = &'a Endpoint> + use<'a> {
        let all: &[Endpoint] = if self.endpoints { &service.endpoints } else { &[] };
        all.iter().filter(|endpoint| service.publishes(endpoint))
    }

    /// True for a Service that `ignore empty_service` makes as if it were not there.
    pub(crate) fn ignores(&self, service: &Service) -> bool {
        self.ignore_empty && self.published(service).next().is_none()
    }

    /// Where the name of a Service's load balancers leads to: to their addresses, each once; else to
    /// the first one's own name; with neither there is no such name.
    pub(crate) fn balancers<'a>(&self, service: &'a Service) -> (BTreeSet<IpAddr>, Option<&'a str>) {
        if self.ignores(service) {
            return Default::default();
        }
        let addresses: BTreeSet<IpAddr> = service.balancers().collect();
        let mut names = service.load_balancer_hosts.iter().map(|host| &**host);
        let name = names.find(|host| addresses.is_empty() && alias(host));
        (addresses, name)
    }

    /// The label of an endpoint under its Service: its hostname, its pod's name, or its address
    /// with dashes.
    pub(crate) fn label<'a>(&self, endpoint: &'a Endpoint) -> Cow<'a, str> {
        let label = |name: &&'a str| name.len() <= LABEL && !name.contains('.');
        let hostname = endpoint.hostname.as_deref().filter(label);
        let pod = || endpoint.pod.as_ref().map(|pod| &*pod.name).filter(label).filter(|_| self.pod_names);
        match hostname.or_else(pod) {
            Some(name) => name.into(),
            None => dashes(endpoint.address).into(),
        }
    }
}

/// An address as a label: `10-244-0-7`, `fd00--7`.
fn dashes(address: IpAddr) -> String {
    let mut label = address.to_string().replace(['.', ':'], "-");
    if label.ends_with('-') {
        label.push('0');
    }
    label
}

/// The address that a label stands for: of IPv4 in its only spelling, of IPv6 in any.
pub(crate) fn address(label: &str) -> Option<IpAddr> {
    let mut text = [0; LABEL];
    let text = text.get_mut(..label.len())?;
    text.copy_from_slice(label.as_bytes());
    if text.iter().any(|byte| matches!(byte, b'.' | b':')) {
        return None;
    }
    let dashes = || label.bytes().filter(|byte| *byte == b'-').count();
    let separator = if label.len() < 16 && dashes() == 3 && !label.contains("--") { b'.' } else { b':' };
    text.iter_mut().filter(|byte| **byte == b'-').for_each(|byte| *byte = separator);
    std::str::from_utf8(text).ok()?.parse().ok()
}
