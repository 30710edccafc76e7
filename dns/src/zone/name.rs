//! The names that a Service has, and their ready answers.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::rr::Name;
use state::{Address, Endpoint, Service};

use super::Zone;

/// Labels from left to right, in lower case.
pub(super) type Labels = Vec<String>;

/// What is ready for a name that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ready {
    /// Its A records, each [`RECORD`] bytes whose owner is a pointer to the question; with none,
    /// and for AAAA, the answer is empty.
    Addresses(Box<[u8]>),
    /// An alias: the slow way knows.
    Alias,
}

/// The size of a ready A record: pointer, type, class, ttl, length, address.
pub(crate) const RECORD: usize = 16;

impl Ready {
    /// A name without records of its own.
    pub(super) fn empty() -> Self {
        Ready::Addresses(Box::default())
    }

    fn addresses(addresses: &[Ipv4Addr], ttl: u32) -> Self {
        let mut bytes = Vec::with_capacity(addresses.len() * RECORD);
        for address in addresses {
            // The question's name is at offset 12; type A, class IN.
            bytes.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1]);
            bytes.extend_from_slice(&ttl.to_be_bytes());
            bytes.extend_from_slice(&[0, 4]);
            bytes.extend_from_slice(&address.octets());
        }
        Ready::Addresses(bytes.into())
    }
}

/// The label of an endpoint under its Service: its hostname, or its address with dashes.
pub(crate) fn host(endpoint: &Endpoint) -> String {
    match &endpoint.hostname {
        Some(hostname) => hostname.to_ascii_lowercase(),
        None => endpoint.address.to_string().replace('.', "-"),
    }
}

/// Every name of a Service.
pub(super) fn of(service: &Service, ttl: u32) -> Vec<(Labels, Ready)> {
    let mut names: BTreeMap<Labels, Vec<Ipv4Addr>> = BTreeMap::new();
    let base = vec![service.key.name.to_ascii_lowercase(), service.key.namespace.to_ascii_lowercase(), "svc".into()];
    let mut add = |front: &[String], addresses: &[IpAddr]| {
        let known = names.entry([front, &base].concat()).or_default();
        for address in addresses {
            // Endpoints are sorted by address.
            match address {
                IpAddr::V4(address) if known.last() != Some(address) => known.push(*address),
                _ => {}
            }
        }
    };
    let port = |name: &str, protocol: state::Protocol| {
        let port = format!("_{}", name.to_ascii_lowercase());
        [port, format!("_{}", protocol.to_string().to_ascii_lowercase())]
    };
    match &service.address {
        Address::ExternalName(target) => {
            return if alias(target) { vec![(base, Ready::Alias)] } else { Vec::new() };
        }
        Address::ClusterIp(addresses) => {
            add(&[], addresses);
            for own in service.ports.iter().filter(|own| !own.name.is_empty()) {
                add(&port(&own.name, own.protocol), addresses);
            }
        }
        Address::Headless => {
            for endpoint in service.endpoints.iter().filter(|e| service.publishes(e)) {
                add(&[], &[endpoint.address]);
                for own in endpoint.ports.iter().filter(|own| !own.name.is_empty()) {
                    add(&port(&own.name, own.protocol), &[endpoint.address]);
                }
            }
        }
    }
    for endpoint in service.endpoints.iter().filter(|e| service.publishes(e)) {
        add(&[host(endpoint)], &[endpoint.address]);
    }
    names.into_iter().map(|(labels, addresses)| (labels, Ready::addresses(&addresses, ttl))).collect()
}

/// True for a name that an alias can lead to: Kubernetes does not resolve external names that
/// look like addresses.
pub(crate) fn alias(target: &str) -> bool {
    target.parse::<std::net::IpAddr>().is_err() && Name::from_ascii(target).is_ok_and(|name| !name.is_root())
}

/// The names that a namespace has as soon as there is something in it.
pub(super) fn of_namespace(namespace: &str) -> [Labels; 2] {
    let namespace = namespace.to_ascii_lowercase();
    [vec![namespace.clone(), "svc".into()], vec![namespace, "pod".into()]]
}

/// The names that are always there.
pub(super) fn fixed(zone: &Zone) -> Vec<(Labels, Ready)> {
    let own = zone.address.as_slice();
    let empty = [vec![], vec!["svc".into()], vec!["pod".into()], vec!["dns".into()], vec!["dns-version".into()]];
    let empty = empty.into_iter().map(|labels| (labels, Ready::empty()));
    empty.chain([(vec!["ns".into(), "dns".into()], Ready::addresses(own, zone.ttl))]).collect()
}

/// Labels and suffix as they lie in a packet. A label that is too long makes a name that no
/// question can have, since its length then reads as a pointer.
pub(super) fn join(labels: &Labels, suffix: &[u8]) -> Box<[u8]> {
    let mut wire = Vec::with_capacity(64);
    for label in labels {
        wire.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
        wire.extend_from_slice(label.as_bytes());
    }
    wire.extend_from_slice(suffix);
    wire.into()
}

/// A name as it lies in a packet.
pub(super) fn wire(name: &Name) -> Box<[u8]> {
    let labels: Labels = name.iter().map(|label| String::from_utf8_lossy(label).into_owned()).collect();
    join(&labels, &[0])
}
