//! What the cluster's domain holds: the Snapshot, and what is kept ready beside it.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use hickory_proto::rr::rdata::SOA;
use hickory_proto::rr::{Name, RData, Record};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder, NameEncoding};
use state::{Key, Service, Snapshot};

use crate::Error;

mod name;

pub(crate) use name::{RECORD, Ready, alias, host};

/// How often a secondary would look, try again and give up; nobody transfers this zone.
const REFRESH: (i32, i32, i32) = (7200, 1800, 86400);

/// How long answers may be kept, in seconds, unless set.
const TTL: u32 = 5;

/// The cluster's domain at one moment.
pub(crate) struct Zone {
    /// The cluster's domain.
    pub(crate) domain: Name,
    /// The same as in a packet, in lower case.
    pub(crate) suffix: Box<[u8]>,
    /// What `ns.dns.<domain>` leads to.
    pub(crate) address: Option<Ipv4Addr>,
    /// Of all records, in seconds.
    pub(crate) ttl: u32,
    /// The state that all else here is made from.
    pub(crate) snapshot: Arc<Snapshot>,
    /// Every name under the domain, as in a packet and in lower case; but not those of pods.
    pub(crate) names: HashMap<Box<[u8]>, Ready>,
    /// The Services that publish an endpoint at an address.
    pub(crate) reverse: HashMap<IpAddr, BTreeSet<Key>>,
    /// How many Services and Pods a namespace has.
    pub(crate) namespaces: HashMap<Arc<str>, usize>,
    /// The zone's SOA record, ready for a packet.
    pub(crate) negative: Box<[u8]>,
    serial: u32,
}

impl Zone {
    /// A zone that knows nothing yet and says so with SERVFAIL.
    pub(crate) fn new(domain: &str, address: Option<Ipv4Addr>) -> Result<Self, Error> {
        let wrong = || Error::Domain(domain.into());
        let mut domain = Name::from_ascii(domain).map_err(|_| wrong())?.to_lowercase();
        domain.set_fqdn(true);
        // Longest name in front of it: an endpoint's, of 4 labels and the word `svc`.
        if domain.is_root() || domain.len() > 120 {
            return Err(wrong());
        }
        let mut zone = Zone {
            suffix: name::wire(&domain),
            domain,
            address,
            ttl: TTL,
            snapshot: Arc::default(),
            names: HashMap::new(),
            reverse: HashMap::new(),
            namespaces: HashMap::new(),
            negative: Box::default(),
            serial: 0,
        };
        for (labels, ready) in name::fixed(&zone) {
            zone.names.insert(name::join(&labels, &zone.suffix), ready);
        }
        zone.sign(0);
        Ok(zone)
    }

    /// Takes over a newer Snapshot; only what changed is made anew. `serial` is the zone's new
    /// serial number (RFC 1982 calls for one that grows: seconds will do).
    pub(crate) fn update(&mut self, snapshot: Arc<Snapshot>, serial: u32) {
        let old = std::mem::replace(&mut self.snapshot, snapshot.clone());
        for key in snapshot.services.changed(&old.services) {
            if let Some(service) = old.services.get(key) {
                self.drop_service(service);
            }
            if let Some(service) = snapshot.services.get(key) {
                self.add_service(service);
            }
        }
        for key in snapshot.pods.changed(&old.pods) {
            match (old.pods.contains(key), snapshot.pods.contains(key)) {
                (false, true) => self.enter(&key.namespace),
                (true, false) => self.leave(&key.namespace),
                _ => {}
            }
        }
        self.sign(serial);
    }

    fn add_service(&mut self, service: &Service) {
        self.enter(&service.key.namespace);
        for (labels, ready) in name::of(service, self.ttl) {
            self.names.insert(name::join(&labels, &self.suffix), ready);
        }
        for endpoint in service.endpoints.iter().filter(|e| service.publishes(e)) {
            self.reverse.entry(endpoint.address).or_default().insert(service.key.clone());
        }
    }

    fn drop_service(&mut self, service: &Service) {
        for (labels, _) in name::of(service, self.ttl) {
            self.names.remove(&name::join(&labels, &self.suffix));
        }
        for endpoint in &service.endpoints {
            if let Some(keys) = self.reverse.get_mut(&endpoint.address) {
                keys.remove(&service.key);
                if keys.is_empty() {
                    self.reverse.remove(&endpoint.address);
                }
            }
        }
        self.leave(&service.key.namespace);
    }

    fn enter(&mut self, namespace: &Arc<str>) {
        let count = self.namespaces.entry(namespace.clone()).or_default();
        *count += 1;
        if *count == 1 {
            for labels in name::of_namespace(namespace) {
                self.names.insert(name::join(&labels, &self.suffix), Ready::empty());
            }
        }
    }

    fn leave(&mut self, namespace: &Arc<str>) {
        let Some(count) = self.namespaces.get_mut(namespace) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            self.namespaces.remove(namespace);
            for labels in name::of_namespace(namespace) {
                self.names.remove(&name::join(&labels, &self.suffix));
            }
        }
    }

    fn sign(&mut self, serial: u32) {
        self.serial = serial;
        let mut bytes = Vec::new();
        let mut encoder = BinEncoder::new(&mut bytes);
        encoder.set_name_encoding(NameEncoding::Uncompressed);
        // A record of a few short names always fits; without it negative answers have none.
        if self.soa().emit(&mut encoder).is_err() {
            bytes.clear();
        }
        self.negative = bytes.into();
    }

    /// The SOA record that names the zone and says how long a negative answer may be kept.
    pub(crate) fn soa(&self) -> Record {
        let (refresh, retry, expire) = REFRESH;
        let mail = self.under(&["hostmaster"]);
        let soa = SOA::new(self.name_server(), mail, self.serial, refresh, retry, expire, self.ttl);
        Record::from_rdata(self.domain.clone(), self.ttl, RData::SOA(soa))
    }

    /// The name of the server itself.
    pub(crate) fn name_server(&self) -> Name {
        self.under(&["ns", "dns"])
    }

    /// `labels` under the domain; the domain itself when they are no labels.
    pub(crate) fn under(&self, labels: &[&str]) -> Name {
        let name = Name::from_labels(labels.iter().map(|label| label.as_bytes()));
        name.and_then(|name| name.append_domain(&self.domain)).unwrap_or_else(|_| self.domain.clone())
    }
}

#[cfg(test)]
mod tests;
