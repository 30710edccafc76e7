use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard};

use ipnet::IpNet;
use serde_json::Value;

use super::{family, node_port, port_of};
use crate::object::{list, text};

/// What a Service can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Item {
    Address(IpAddr),
    Port(u16),
}

/// Who holds an item, and how often: the stored version counts once, and each write under way once more. So a write
/// that fails gives back no more than it took.
struct Holder {
    uid: String,
    count: u32,
}

/// The addresses and node ports that Services hold, of the cluster's ranges.
pub(crate) struct Pool {
    /// One for each family that there is, the default one first.
    addresses: Vec<(IpNet, Range)>,
    ports: Range,
    held: Mutex<HashMap<Item, Holder>>,
}

/// Numbers that can be given, `first..=last`. From `band` on they are given freely; those below are kept for Services
/// that name theirs, until the others are used up (KEP-3070, KEP-3668).
#[derive(Clone, Copy, Debug)]
struct Range {
    first: u128,
    band: u128,
    last: u128,
}

impl Range {
    fn new(first: u128, last: u128, divisor: u128, most: u128) -> Self {
        let size = last.saturating_sub(first).saturating_add(1);
        let band = (size / divisor).clamp(16, most).min(size);
        Range { first, band: if size <= 16 { first } else { first + band }, last }
    }

    /// Those of addresses: the network's own address is not given, nor one for broadcasts.
    fn of_addresses(net: &IpNet) -> Self {
        let (first, last) = (number(net.network()) + 1, number(net.broadcast()) - u128::from(net.addr().is_ipv4()));
        Range::new(first, last, 16, 256)
    }

    fn contains(self, number: u128) -> bool {
        (self.first..=self.last).contains(&number)
    }

    /// Every number once, beginning at a random place of the upper part, the lower part last.
    fn scan(self, random: u32) -> impl Iterator<Item = u128> {
        let upper = self.last.saturating_sub(self.band) + 1;
        let start = u128::from(random) % upper.max(1);
        (0..upper).map(move |at| self.band + (start + at) % upper).chain(self.first..self.band)
    }
}

impl Pool {
    pub(crate) fn new(nets: &[IpNet], ports: RangeInclusive<u16>) -> Self {
        Pool {
            addresses: nets.iter().map(|net| (*net, Range::of_addresses(net))).collect(),
            ports: Range::new((*ports.start()).into(), (*ports.end()).into(), 32, 128),
            held: Mutex::default(),
        }
    }

    /// The families of addresses that there are, the default one first.
    pub(super) fn families(&self) -> Vec<&'static str> {
        self.addresses.iter().map(|(net, _)| family(net.addr())).collect()
    }

    /// Counts in what a stored Service holds.
    pub(crate) fn adopt(&self, service: &Value) {
        let uid = text(service, "/metadata/uid");
        let mut held = self.lock();
        for item in items(service) {
            held.entry(item).or_insert_with(|| Holder { uid: uid.to_owned(), count: 0 }).count += 1;
        }
    }

    /// Counts out what a version of a Service held that is no longer stored.
    pub(crate) fn release(&self, service: &Value) {
        self.give_back(&items(service));
    }

    fn give_back(&self, items: &[Item]) {
        let mut held = self.lock();
        for item in items {
            if let Some(holder) = held.get_mut(item) {
                holder.count -= 1;
                if holder.count == 0 {
                    held.remove(item);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Item, Holder>> {
        self.held.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

/// What a Service holds.
fn items(service: &Value) -> Vec<Item> {
    let addresses = list(service, "/spec/clusterIPs").iter().filter_map(|ip| ip.as_str()?.parse().ok());
    let mut items: Vec<Item> = addresses.map(Item::Address).collect();
    let ports = list(service, "/spec/ports").iter().map(node_port);
    let ports = ports.chain([port_of(&service["spec"], "healthCheckNodePort")]);
    for port in ports.filter(|port| *port != 0).map(Item::Port) {
        if !items.contains(&port) {
            items.push(port);
        }
    }
    items
}

/// What one write has taken for a Service; given back when it is dropped, unless the write was kept.
pub(crate) struct Reservation {
    pool: Arc<Pool>,
    uid: String,
    items: Vec<Item>,
}

impl Reservation {
    pub(super) fn new(pool: Arc<Pool>, uid: String) -> Self {
        Reservation { pool, uid, items: Vec::new() }
    }

    /// Takes that address, or a free one of the family where none is named; the error is Kubernetes' message.
    pub(super) fn address(&mut self, of: &str, asked: &str) -> Result<String, String> {
        let pool = self.pool.clone();
        let range = pool.addresses.iter().find(|(net, _)| family(net.addr()) == of);
        let (net, range) = range.ok_or_else(|| format!("{of} is not configured on this cluster"))?;
        if asked.is_empty() {
            let address = |number: u128| match u32::try_from(number) {
                Ok(number) if of == "IPv4" => Item::Address(Ipv4Addr::from(number).into()),
                _ => Item::Address(Ipv6Addr::from(number).into()),
            };
            return match self.free(*range, address) {
                Some(Item::Address(free)) => Ok(free.to_string()),
                _ => Err("failed to allocate IP: range is full".to_owned()),
            };
        }
        let address: IpAddr = asked.parse().map_err(|_| format!("{asked} is not an IP address"))?;
        let item = Item::Address(address);
        let within = family(address) == of && range.contains(number(address));
        if !within && !self.has(item) {
            return Err(format!(
                "failed to allocate IP {asked}: the provided IP ({asked}) is not in the valid range. \
                 The range of valid IPs is {net}"
            ));
        }
        if self.take(item) {
            return Ok(address.to_string());
        }
        Err(format!("failed to allocate IP {asked}: provided IP is already allocated"))
    }

    /// The same for a node port.
    pub(super) fn port(&mut self, asked: Option<u16>) -> Result<u16, String> {
        let range = self.pool.ports;
        let Some(asked) = asked else {
            return match self.free(range, |number| Item::Port(u16::try_from(number).unwrap_or_default())) {
                Some(Item::Port(free)) => Ok(free),
                _ => Err("range is full".to_owned()),
            };
        };
        if !range.contains(asked.into()) && !self.has(Item::Port(asked)) {
            return Err(format!(
                "provided port is not in the valid range. The range of valid ports is {}-{}",
                range.first, range.last
            ));
        }
        if self.take(Item::Port(asked)) { Ok(asked) } else { Err("provided port is already allocated".to_owned()) }
    }

    /// The stored version has it; the ranges may have been others then.
    fn has(&self, item: Item) -> bool {
        self.pool.lock().get(&item).is_some_and(|holder| holder.uid == self.uid)
    }

    fn take(&mut self, item: Item) -> bool {
        if self.items.contains(&item) {
            return true;
        }
        let mut held = self.pool.lock();
        let holder = held.entry(item).or_insert_with(|| Holder { uid: self.uid.clone(), count: 0 });
        if holder.uid != self.uid {
            return false;
        }
        holder.count += 1;
        self.items.push(item);
        true
    }

    fn free(&mut self, range: Range, item: impl Fn(u128) -> Item) -> Option<Item> {
        let (random, _) = uuid::Uuid::new_v4().as_u64_pair();
        let mut held = self.pool.lock();
        let free = range.scan((random >> 32) as u32).map(item).find(|item| !held.contains_key(item))?;
        held.insert(free, Holder { uid: self.uid.clone(), count: 1 });
        self.items.push(free);
        Some(free)
    }

    /// The write is stored: what was taken belongs to the stored version now.
    pub(crate) fn keep(mut self) {
        self.items.clear();
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.pool.give_back(&self.items);
    }
}
