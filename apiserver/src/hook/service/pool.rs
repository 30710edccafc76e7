use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard};

use ipnet::Ipv4Net;
use serde_json::Value;

use super::node_port;
use crate::object::{list, text};

/// What a Service can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Item {
    Address(u32),
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
    /// First and last address that can be given, and how many of the first are only given when asked for.
    addresses: Range,
    range: Ipv4Net,
    ports: Range,
    held: Mutex<HashMap<Item, Holder>>,
}

/// Numbers that can be given, `first..=last`. From `band` on they are given freely; those below are kept for Services
/// that name theirs, until the others are used up (KEP-3070, KEP-3668).
#[derive(Clone, Copy, Debug)]
struct Range {
    first: u32,
    band: u32,
    last: u32,
}

impl Range {
    fn new(first: u32, last: u32, divisor: u32, most: u32) -> Self {
        let size = last.saturating_sub(first) + 1;
        let band = (size / divisor).clamp(16, most).min(size);
        Range { first, band: if size <= 16 { first } else { first + band }, last }
    }

    fn contains(self, number: u32) -> bool {
        (self.first..=self.last).contains(&number)
    }

    /// Every number once, beginning at a random place of the upper part, the lower part last.
    fn scan(self, random: u32) -> impl Iterator<Item = u32> {
        let upper = self.last.saturating_sub(self.band) + 1;
        let start = random % upper.max(1);
        (0..upper).map(move |at| self.band + (start + at) % upper).chain(self.first..self.band)
    }
}

impl Pool {
    pub(crate) fn new(range: Ipv4Net, ports: RangeInclusive<u16>) -> Self {
        // Neither the network's own address nor the broadcast address is given.
        let first = u32::from(range.network()).saturating_add(1);
        let last = u32::from(range.broadcast()).saturating_sub(1);
        Pool {
            addresses: Range::new(first, last, 16, 256),
            range,
            ports: Range::new(u32::from(*ports.start()), u32::from(*ports.end()), 32, 128),
            held: Mutex::default(),
        }
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

/// What a Service holds.
fn items(service: &Value) -> Vec<Item> {
    let address = text(service, "/spec/clusterIP").parse::<Ipv4Addr>().ok();
    let mut items: Vec<Item> = address.map(|address| Item::Address(address.into())).into_iter().collect();
    let ports = list(service, "/spec/ports").iter().map(node_port);
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

    /// Takes that address, or a free one where none is named; the error is Kubernetes' message.
    pub(super) fn address(&mut self, asked: &str) -> Result<String, String> {
        let pool = self.pool.clone();
        if asked.is_empty() {
            let free = self.free(pool.addresses, Item::Address);
            let free = free.ok_or_else(|| "failed to allocate IP: range is full".to_owned())?;
            return Ok(Ipv4Addr::from(free).to_string());
        }
        let address: Ipv4Addr = asked.parse().map_err(|_| format!("{asked} is not an IPv4 address"))?;
        if !pool.addresses.contains(address.into()) {
            return Err(format!(
                "failed to allocate IP {asked}: the provided IP ({asked}) is not in the valid range. \
                 The range of valid IPs is {}",
                pool.range
            ));
        }
        if self.take(Item::Address(address.into())) {
            return Ok(address.to_string());
        }
        Err(format!("failed to allocate IP {asked}: provided IP is already allocated"))
    }

    /// The same for a node port.
    pub(super) fn port(&mut self, asked: Option<u16>) -> Result<u16, String> {
        let range = self.pool.ports;
        let Some(asked) = asked else {
            let port = |number| Item::Port(u16::try_from(number).unwrap_or_default());
            let free = self.free(range, port).and_then(|free| u16::try_from(free).ok());
            return free.ok_or_else(|| "range is full".to_owned());
        };
        if !range.contains(u32::from(asked)) {
            return Err(format!(
                "provided port is not in the valid range. The range of valid ports is {}-{}",
                range.first, range.last
            ));
        }
        if self.take(Item::Port(asked)) { Ok(asked) } else { Err("provided port is already allocated".to_owned()) }
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

    fn free(&mut self, range: Range, item: impl Fn(u32) -> Item) -> Option<u32> {
        let (random, _) = uuid::Uuid::new_v4().as_u64_pair();
        let mut held = self.pool.lock();
        let free = range.scan((random >> 32) as u32).find(|number| !held.contains_key(&item(*number)))?;
        held.insert(item(free), Holder { uid: self.uid.clone(), count: 1 });
        self.items.push(item(free));
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
