//! Tables of which a copy costs little, and an update copies only the parts that it touches.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use hashbrown::HashTable;
use state::{Address, Key, Service};

use super::{Options, alias};

/// How many parts a table has.
const PARTS: usize = 256;

/// The same in every run.
type Hasher = BuildHasherDefault<DefaultHasher>;

fn hash(of: impl Hash) -> u64 {
    Hasher::default().hash_one(of)
}

/// The parts of a table, shared with its copies.
#[derive(Clone)]
struct Parts<T>(Box<[Arc<T>]>);

impl<T: Clone + Default> Default for Parts<T> {
    fn default() -> Self {
        Parts(vec![Arc::default(); PARTS].into())
    }
}

impl<T: Clone> Parts<T> {
    /// The tables inside use the lowest and the seven highest bits.
    fn of(hash: u64) -> usize {
        (hash >> 40) as usize % PARTS
    }

    fn get(&self, hash: u64) -> &T {
        &self.0[Self::of(hash)]
    }

    fn get_mut(&mut self, hash: u64) -> &mut T {
        Arc::make_mut(&mut self.0[Self::of(hash)])
    }
}

/// What the name of a Service leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leads {
    /// To its addresses; the name exists when there are none, too.
    Addresses,
    /// To another name.
    Alias,
    /// Nowhere: there is no such name.
    Nowhere,
}

/// How many bytes lie in the table itself: most names with an address, in as much as the smallest
/// allocation would take, and one cache miss less for each question.
const INLINE: usize = 46;

/// Bytes, in place if they are few.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Bytes {
    Few([u8; INLINE], u8),
    Many(Arc<[u8]>),
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        let mut few = [0; INLINE];
        match few.get_mut(..bytes.len()) {
            Some(start) => start.copy_from_slice(&bytes),
            None => return Bytes::Many(bytes.into()),
        }
        Bytes::Few(few, bytes.len() as u8)
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Few(bytes, length) => &bytes[..usize::from(*length)],
            Bytes::Many(bytes) => bytes,
        }
    }
}

/// A Service with what is ready for its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) service: Arc<Service>,
    /// Its labels as in a packet and in lower case; the addresses of IPv4; those of IPv6.
    bytes: Bytes,
    labels: u8,
    v4: u32,
    pub(crate) leads: Leads,
}

impl Entry {
    /// Of the Service's own name; `None` for one that can't have any.
    pub(super) fn new(service: Arc<Service>, options: &Options) -> Option<Self> {
        let mut addresses: Vec<IpAddr> = match &service.address {
            Address::ClusterIp(addresses) => addresses.clone(),
            Address::Headless => options.published(&service).map(|endpoint| endpoint.address).collect(),
            Address::ExternalName(_) => Vec::new(),
        };
        if service.address == Address::Headless {
            // They are sorted; one may be there with several sets of ports.
            addresses.dedup();
        }
        let exists = match &service.address {
            Address::ClusterIp(_) => !options.ignores(&service),
            Address::Headless => !addresses.is_empty(),
            Address::ExternalName(_) => true,
        };
        let leads = match &service.address {
            _ if !exists => Leads::Nowhere,
            Address::ExternalName(target) if alias(target) => Leads::Alias,
            Address::ExternalName(_) => Leads::Nowhere,
            _ => Leads::Addresses,
        };
        let labels = labels(&service.key, SERVICE)?;
        Some(Self::of(service, labels, &addresses, leads))
    }

    /// Of the name of the Service's load balancers, if it leads anywhere.
    pub(super) fn balancer(service: Arc<Service>, options: &Options) -> Option<Self> {
        let (addresses, name) = options.balancers(&service);
        let leads = if name.is_some() { Leads::Alias } else { Leads::Addresses };
        if addresses.is_empty() && name.is_none() {
            return None;
        }
        let labels = labels(&service.key, BALANCER)?;
        Some(Self::of(service, labels, &Vec::from_iter(addresses), leads))
    }

    fn of(service: Arc<Service>, mut bytes: Vec<u8>, addresses: &[IpAddr], leads: Leads) -> Self {
        let labels = bytes.len() as u8;
        for address in addresses {
            if let IpAddr::V4(address) = address {
                bytes.extend_from_slice(&address.octets());
            }
        }
        let v4 = (bytes.len() - usize::from(labels)) as u32;
        for address in addresses {
            if let IpAddr::V6(address) = address {
                bytes.extend_from_slice(&address.octets());
            }
        }
        Entry { service, bytes: bytes.into(), labels, v4, leads }
    }

    pub(super) fn labels(&self) -> &[u8] {
        &self.bytes[..usize::from(self.labels)]
    }

    /// Its addresses, 4 bytes each.
    pub(crate) fn v4(&self) -> &[u8] {
        &self.bytes[usize::from(self.labels)..][..self.v4 as usize]
    }

    /// Its addresses, 16 bytes each.
    pub(crate) fn v6(&self) -> &[u8] {
        &self.bytes[usize::from(self.labels) + self.v4 as usize..]
    }
}

/// What follows a Service's two labels where its entries are looked for: the label of its load
/// balancers' names, and nothing in its own, which are more.
pub(super) const SERVICE: &[u8] = b"";
pub(super) const BALANCER: &[u8] = b"\x02lb";

/// A Service's two labels, and what follows, as in a packet and in lower case.
fn labels(key: &Key, follows: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(key.name.len() + key.namespace.len() + 2 + follows.len());
    for label in [&key.name, &key.namespace] {
        bytes.push(u8::try_from(label.len()).ok().filter(|length| (1..64).contains(length))?);
        bytes.extend(label.bytes().map(|byte| byte.to_ascii_lowercase()));
    }
    bytes.extend_from_slice(follows);
    Some(bytes)
}

/// The Services that have names.
#[derive(Clone, Default)]
pub(super) struct Names(Parts<HashTable<Entry>>);

impl Names {
    /// By the Service's two labels, and `lb` for its load balancers, as they lie in a packet in lower case.
    pub(super) fn get(&self, labels: &[u8]) -> Option<&Entry> {
        let hash = hash(labels);
        self.0.get(hash).find(hash, |entry| entry.labels() == labels)
    }

    pub(super) fn put(&mut self, entry: Entry) {
        let hash = hash(entry.labels());
        let table = self.0.get_mut(hash);
        match table.find_mut(hash, |other| other.labels() == entry.labels()) {
            Some(other) => *other = entry,
            None => drop(table.insert_unique(hash, entry, |entry| self::hash(entry.labels()))),
        }
    }

    pub(super) fn remove(&mut self, key: &Key, follows: &[u8]) {
        let Some(labels) = labels(key, follows) else { return };
        let hash = hash(&labels[..]);
        if self.get(&labels).is_some()
            && let Ok(entry) = self.0.get_mut(hash).find_entry(hash, |entry| entry.labels() == labels)
        {
            entry.remove();
        }
    }

    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.0.0.iter().flat_map(|part| part.iter())
    }
}

/// The Services that publish an endpoint, or have a load balancer, at an address.
#[derive(Clone, Default)]
pub(super) struct Reverse(Parts<HashMap<IpAddr, Arc<[Key]>, Hasher>>);

impl Reverse {
    /// Sorted.
    pub(super) fn get(&self, address: &IpAddr) -> &[Key] {
        self.0.get(hash(address)).get(address).map_or(&[], |keys| keys)
    }

    /// Puts a Service among those at an address, or takes it away.
    pub(super) fn set(&mut self, address: IpAddr, key: &Key, present: bool) {
        let known = self.get(&address);
        let others = known.iter().filter(|other| *other != key).cloned();
        let mut keys: Vec<Key> = others.chain(present.then(|| key.clone())).collect();
        keys.sort();
        let part = self.0.get_mut(hash(address));
        match keys.is_empty() {
            true => drop(part.remove(&address)),
            false => drop(part.insert(address, keys.into())),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&IpAddr, &Arc<[Key]>)> {
        self.0.0.iter().flat_map(|part| part.iter())
    }
}
