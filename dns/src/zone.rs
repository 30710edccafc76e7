//! What the cluster's zones hold: the Snapshot, and what is kept ready beside it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::rr::rdata::SOA;
use hickory_proto::rr::{Name, RData, Record};
use hickory_proto::serialize::binary::BinEncodable;
use state::{Address, Endpoint, Key, Service, Snapshot};

mod options;
mod selector;
mod table;

pub(crate) use options::{Options, Pods, address};
pub(crate) use selector::Selector;
pub(crate) use table::{Entry, Leads};

/// How often a secondary looks, tries again and gives up, in seconds.
const REFRESH: (i32, i32, i32) = (7200, 1800, 86400);

/// The longest that an SOA record is kept, as CoreDNS has it, in seconds.
const SOA_TTL: u32 = 300;

/// One of the zones.
pub(crate) struct Origin {
    pub(crate) name: Name,
    /// The same as in a packet.
    wire: Box<[u8]>,
    /// True for names that are made from addresses.
    pub(crate) reverse: bool,
    /// Whether some of its names are left to the next plugin when they do not exist.
    pub(crate) falls: bool,
}

/// The cluster's zones at one moment. It never changes: what comes later is made by [`Zone::next`].
#[derive(Clone)]
pub(crate) struct Zone {
    pub(crate) options: Arc<Options>,
    /// Those of longer names first.
    origins: Arc<[Origin]>,
    /// The state that all else here is made from.
    pub(crate) snapshot: Arc<Snapshot>,
    names: table::Names,
    reverse: table::Reverse,
    /// Of the SOA record; it grows when what is transferred changes.
    pub(crate) serial: u32,
}

impl Zone {
    /// A zone that knows nothing yet and says so with SERVFAIL; `None` when the zones are none that
    /// Services could have names in.
    pub(crate) fn new(options: Options) -> Option<Self> {
        let origin = |name: &Name| Origin {
            wire: wire(name),
            reverse: is_reverse(name),
            falls: options.fallthrough.iter().any(|fall| fall.zone_of(name) || name.zone_of(fall)),
            name: name.clone(),
        };
        let mut origins: Vec<Origin> = options.zones.iter().map(origin).collect();
        if origins.iter().all(|origin| origin.reverse) {
            return None;
        }
        origins.sort_by_key(|origin| std::cmp::Reverse(origin.name.num_labels()));
        let (snapshot, names, reverse) = Default::default();
        Some(Zone { options: Arc::new(options), origins: origins.into(), snapshot, names, reverse, serial: 0 })
    }

    /// The zone with a newer Snapshot; only what changed is made anew, the rest is shared. `now` is
    /// the new serial number if it is larger than the last (RFC 1982: seconds will do).
    pub(crate) fn next(&self, snapshot: Arc<Snapshot>, now: u32) -> Zone {
        let mut zone = self.clone();
        let old = std::mem::replace(&mut zone.snapshot, snapshot.clone());
        let mut changed: BTreeSet<Key> = snapshot.services.changed(&old.services).cloned().collect();
        if self.options.namespace_labels.is_some() {
            let moved = |key: &&Key| {
                let exposes = |of: &Snapshot| self.options.exposes(of, &key.name);
                exposes(&old) != exposes(&snapshot)
            };
            let moved: BTreeSet<&Key> = snapshot.namespaces.changed(&old.namespaces).filter(moved).collect();
            if !moved.is_empty() {
                let within = |key: &&Key| moved.iter().any(|namespace| namespace.name == key.namespace);
                changed.extend(snapshot.services.iter().map(|(key, _)| key).filter(within).cloned());
            }
        }
        for key in &changed {
            zone.replace(key, &old);
        }
        if !changed.is_empty() || old.synced != snapshot.synced {
            zone.serial = now.max(self.serial.wrapping_add(1));
        }
        zone
    }

    fn replace(&mut self, key: &Key, old: &Snapshot) {
        let exposed = |of: &Snapshot| {
            let service = of.services.get(key).filter(|_| self.options.exposes(of, &key.namespace));
            service.cloned()
        };
        let (before, after) = (exposed(old), exposed(&self.snapshot));
        let addresses = |service: &Option<Arc<Service>>| -> BTreeSet<IpAddr> {
            let published = service.iter().flat_map(|service| self.published(service)).map(|endpoint| endpoint.address);
            published.chain(service.iter().flat_map(|service| self.options.balancers(service).0)).collect()
        };
        let (was, is) = (addresses(&before), addresses(&after));
        let balancer = after.clone().and_then(|service| Entry::balancer(service, &self.options));
        let own = after.and_then(|service| Entry::new(service, &self.options));
        for (entry, follows) in [(own, table::SERVICE), (balancer, table::BALANCER)] {
            match entry {
                Some(entry) => self.names.put(entry),
                None => self.names.remove(key, follows),
            }
        }
        was.difference(&is).for_each(|address| self.reverse.set(*address, key, false));
        is.difference(&was).for_each(|address| self.reverse.set(*address, key, true));
    }

    /// The endpoints of a Service that have names.
    pub(crate) fn published<'a>(&self, service: &'a Service) -> impl Iterator<Item = &'a Endpoint> + use<'a> {
        let named = !matches!(service.address, Address::ExternalName(_));
        self.options.published(service).filter(move |_| named)
    }

    /// The Service of two labels, or its load balancers with the third, as they lie in a packet in
    /// lower case.
    pub(crate) fn entry(&self, labels: &[u8]) -> Option<&Entry> {
        self.names.get(labels)
    }

    /// The Service called so, if it has names.
    pub(crate) fn service(&self, namespace: &str, name: &str) -> Option<&Arc<Service>> {
        self.snapshot.service(namespace, name).filter(|_| self.options.exposes(&self.snapshot, namespace))
    }

    /// The Services with cluster IPs, endpoints or load balancers at an address, the first alone if there are any.
    pub(crate) fn services_at(&self, address: IpAddr) -> Vec<&Arc<Service>> {
        let own = self.snapshot.service_at(address);
        match own.filter(|service| self.options.exposes(&self.snapshot, &service.key.namespace)) {
            Some(service) => vec![service],
            None => self.others_at(address).collect(),
        }
    }

    /// The Services with endpoints at an address.
    pub(crate) fn endpoints_at(&self, address: IpAddr) -> impl Iterator<Item = &Arc<Service>> {
        let here = move |service: &&Arc<Service>| self.published(service).any(|endpoint| endpoint.address == address);
        self.others_at(address).filter(here)
    }

    fn others_at(&self, address: IpAddr) -> impl Iterator<Item = &Arc<Service>> {
        self.reverse.get(&address).iter().filter_map(|key| self.snapshot.services.get(key))
    }

    /// The addresses that have names, in no order.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let own = self.snapshot.cluster_ips.iter().map(|(address, _)| *address);
        own.chain(self.reverse.iter().map(|(address, _)| *address))
    }

    /// True when there is such a namespace, and it has names.
    pub(crate) fn has_namespace(&self, namespace: &str) -> bool {
        self.snapshot.namespace(namespace).is_some() && self.options.exposes(&self.snapshot, namespace)
    }

    /// The zone of a name as in a packet and in lower case, and where in it that zone begins.
    /// `starts` are where its labels do.
    pub(crate) fn origin(&self, name: &[u8], starts: &[u8]) -> Option<(&Origin, usize)> {
        let front = |origin: &Origin| name.strip_suffix(&*origin.wire).map(<[u8]>::len);
        let begins = |front: &usize| starts.iter().any(|start| usize::from(*start) == *front);
        self.origins.iter().find_map(|origin| Some((origin, front(origin).filter(begins)?)))
    }

    /// The zone of a name.
    pub(crate) fn origin_of(&self, name: &Name) -> Option<&Origin> {
        self.origins.iter().find(|origin| origin.name.zone_of(name))
    }

    /// The first zone that is not of addresses.
    pub(crate) fn primary(&self) -> &Name {
        let zones = &self.options.zones;
        zones.iter().find(|name| !is_reverse(name)).unwrap_or(&zones[0])
    }

    /// True when a name that does not exist is left to the next plugin.
    pub(crate) fn falls_through(&self, name: &Name) -> bool {
        self.options.fallthrough.iter().any(|zone| zone.zone_of(name))
    }

    /// How long an SOA record may be kept, in seconds.
    pub(crate) fn soa_ttl(&self) -> u32 {
        self.options.ttl.min(SOA_TTL)
    }

    /// The SOA record that names the zone and says how long a negative answer may be kept.
    pub(crate) fn soa(&self, origin: &Name) -> Record {
        let (refresh, retry, expire) = REFRESH;
        let (server, mail) = (under(&["ns", "dns"], origin), under(&["hostmaster"], origin));
        let soa = SOA::new(server, mail, self.serial, refresh, retry, expire, self.options.ttl);
        Record::from_rdata(origin.clone(), self.soa_ttl(), RData::SOA(soa))
    }

    /// What the SOA record of any zone has after its two names.
    pub(crate) fn soa_numbers(&self) -> [u8; 20] {
        let (refresh, retry, expire) = REFRESH;
        let mut bytes = [0; 20];
        let numbers = [self.serial, refresh as u32, retry as u32, expire as u32, self.options.ttl];
        for (bytes, number) in bytes.chunks_exact_mut(4).zip(numbers) {
            bytes.copy_from_slice(&number.to_be_bytes());
        }
        bytes
    }
}

/// `labels` in front of a name; the name itself when they are no labels or do not fit.
pub(crate) fn under(labels: &[&str], name: &Name) -> Name {
    let front = Name::from_labels(labels.iter().map(|label| label.as_bytes()));
    front.and_then(|front| front.append_domain(name)).unwrap_or_else(|_| name.clone())
}

/// True for a name that an alias can lead to: Kubernetes does not resolve external names that
/// look like addresses.
pub(crate) fn alias(target: &str) -> bool {
    target.parse::<IpAddr>().is_err() && Name::from_ascii(target).is_ok_and(|name| !name.is_root())
}

/// True for a zone of names that are made from addresses.
pub(crate) fn is_reverse(name: &Name) -> bool {
    let mut labels = name.iter().rev().map(<[u8]>::to_ascii_lowercase);
    labels.next().is_some_and(|label| label == b"arpa")
        && labels.next().is_some_and(|label| label == b"in-addr" || label == b"ip6")
}

/// The name of an address (RFC 1035 §3.5, RFC 3596 §2.5).
pub(crate) fn arpa(address: IpAddr) -> Name {
    let text: String = match address {
        IpAddr::V4(address) => {
            address.octets().iter().rev().map(|octet| format!("{octet}.")).collect::<String>() + "in-addr.arpa."
        }
        IpAddr::V6(address) => {
            let octets = address.octets();
            let digits = octets.iter().rev().map(|octet| format!("{:x}.{:x}.", octet & 15, octet >> 4));
            digits.collect::<String>() + "ip6.arpa."
        }
    };
    Name::from_ascii(text).unwrap_or_default()
}

/// The address that a name stands for.
pub(crate) fn reversed(name: &Name) -> Option<IpAddr> {
    let mut name = name.clone();
    name.set_fqdn(true);
    let address = name.parse_arpa_name().ok()?.addr();
    (arpa(address) == name).then_some(address)
}

/// A name as in a packet.
fn wire(name: &Name) -> Box<[u8]> {
    // A name is no longer than what can be written.
    name.to_lowercase().to_bytes().unwrap_or_default().into()
}

#[cfg(test)]
mod tests;
