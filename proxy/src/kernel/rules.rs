//! What the maps and sets of the kernel hold, and how it changes from Snapshot to Snapshot. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use state::{Key, Protocol, Snapshot};

use super::Config;
use super::family::Value;
use super::frontends::{self, Claim, Frontend, Owner};
use crate::endpoints::{Backends, Place};

/// What happens to a new connection to a frontend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    /// To one of the endpoints.
    Pick(Pick),
    /// Nowhere.
    Drop,
}

/// How one of the endpoints of a frontend is picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pick {
    /// Among which.
    pub(crate) side: Side,
    /// How many there are.
    pub(crate) count: u32,
    /// For how many seconds a client stays with its endpoint.
    pub(crate) affinity: Option<u32>,
    /// Only clients in the set `allowed` are let through.
    pub(crate) guarded: bool,
}

/// A frontend has one list of endpoints, or two where those inside go elsewhere than those outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    /// The endpoints of all clients, or of those outside.
    Main,
    /// The endpoints of clients on this node, where they are others.
    Inside,
}

/// One element of one of the maps and sets. They are added in this order, and removed in the
/// opposite one, so that nothing leads to what is not there yet where it takes two transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Element {
    /// Map `endpoints`: the endpoint of this index behind a frontend without affinity.
    Endpoint(Frontend, Side, u32, SocketAddr),
    /// Map `sticky`: the endpoint of this id behind a frontend with affinity.
    Sticky(Frontend, u32, SocketAddr),
    /// Map `ids`: the id of the endpoint of this index.
    Id(Frontend, Side, u32, u32),
    /// Set `external`: connections that came there go on with the node's address as their source.
    External(Frontend),
    /// Set `hairpin`: an endpoint that may reach itself by way of a Service.
    Hairpin(IpAddr),
    /// Set `allowed`: these clients may use a guarded frontend.
    Allowed(Frontend, IpNet),
    /// Maps `services` and `inside`: what happens at a frontend.
    Service(Frontend, Side, Target),
    /// Set `refused`: nobody answers there.
    Refused(Frontend),
}

/// A step from one set of elements to another.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) removed: BTreeSet<Element>,
    pub(crate) added: BTreeSet<Element>,
    /// Connection tracking may lead UDP clients of a frontend where they should not go any more: an endpoint left, or
    /// the frontend leads somewhere now and packets went elsewhere before.
    pub(crate) reroutes_udp: bool,
}

/// All frontends and the endpoints behind them, kept from Snapshot to Snapshot so that a change
/// costs as much as the Services that changed, however many there are.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    /// Sorted by owner; the first one has the frontend. More than one only for a moment, when an
    /// address goes to another Service.
    frontends: BTreeMap<Frontend, Vec<Claim>>,
    /// How many frontends lead to an address.
    uses: BTreeMap<IpAddr, u32>,
}

impl Rules {
    /// Follows the step from one Snapshot (an empty one at first) to the next.
    pub(crate) fn update(&mut self, older: &Snapshot, newer: &Snapshot, config: &Config) -> Change {
        let (was, is) = (Place::new(&config.node_name, older), Place::new(&config.node_name, newer));
        let mut before: BTreeMap<Frontend, Option<Claim>> = BTreeMap::new();
        let mut change = |owner: Owner, old: BTreeMap<Frontend, Claim>, new: BTreeMap<Frontend, Claim>| {
            for frontend in old.keys().chain(new.keys()) {
                before.entry(*frontend).or_insert_with(|| self.winner(frontend).cloned());
            }
            for frontend in old.keys() {
                self.withdraw(frontend, &owner);
            }
            for (frontend, claim) in new {
                self.claim(frontend, claim);
            }
        };
        let all = newer.services.iter().map(|(key, _)| key).filter(|_| was != is);
        let changed: BTreeSet<&Key> = newer.services.changed(&older.services).chain(all).collect();
        for key in changed {
            let old = older.services.get(key).map(|service| frontends::service(service, &was, config));
            let new = newer.services.get(key).map(|service| frontends::service(service, &is, config));
            change(Owner::Service(key.clone()), old.unwrap_or_default(), new.unwrap_or_default());
        }
        for key in newer.pods.changed(&older.pods) {
            let old = older.pods.get(key).map(|pod| frontends::pod(pod, config));
            let new = newer.pods.get(key).map(|pod| frontends::pod(pod, config));
            change(Owner::Pod(key.clone()), old.unwrap_or_default(), new.unwrap_or_default());
        }
        self.compare(before)
    }

    /// What is wanted at a frontend; None when there is no such frontend.
    pub(crate) fn winner(&self, frontend: &Frontend) -> Option<&Claim> {
        self.frontends.get(frontend)?.first()
    }

    fn claim(&mut self, frontend: Frontend, claim: Claim) {
        let claims = self.frontends.entry(frontend).or_default();
        let at = claims.partition_point(|other| other.owner < claim.owner);
        claims.insert(at, claim);
    }

    fn withdraw(&mut self, frontend: &Frontend, owner: &Owner) {
        if let Some(claims) = self.frontends.get_mut(frontend) {
            claims.retain(|claim| claim.owner != *owner);
            if claims.is_empty() {
                self.frontends.remove(frontend);
            }
        }
    }

    /// The elements that the frontends in `before` lost and won since.
    fn compare(&mut self, before: BTreeMap<Frontend, Option<Claim>>) -> Change {
        let mut change = Change::default();
        let mut touched: BTreeMap<IpAddr, u32> = BTreeMap::new();
        for (frontend, old) in &before {
            let new = self.frontends.get(frontend).and_then(|claims| claims.first());
            if old.as_ref() == new {
                continue;
            }
            if frontend.protocol == Protocol::Udp {
                let flows = |claim: Option<&Claim>| claim.into_iter().flat_map(Claim::flows).collect::<BTreeSet<_>>();
                let (was, is) = (flows(old.as_ref()), flows(new));
                change.reroutes_udp |= was.is_empty() && !is.is_empty() || !was.is_subset(&is);
            }
            let was = old.as_ref().map(|claim| claim.elements(frontend)).unwrap_or_default();
            let is = new.map(|claim| claim.elements(frontend)).unwrap_or_default();
            change.removed.extend(was.difference(&is));
            change.added.extend(is.difference(&was));
            for address in old.iter().flat_map(Claim::addresses) {
                touched.entry(address).or_insert_with(|| self.uses.get(&address).copied().unwrap_or(0));
                let uses = self.uses.entry(address).or_default();
                *uses = uses.saturating_sub(1);
            }
            for address in new.iter().flat_map(|claim| claim.addresses()) {
                touched.entry(address).or_insert_with(|| self.uses.get(&address).copied().unwrap_or(0));
                *self.uses.entry(address).or_default() += 1;
            }
        }
        for (address, old) in touched {
            let new = self.uses.get(&address).copied().unwrap_or(0);
            match (old, new) {
                (0, 1..) => drop(change.added.insert(Element::Hairpin(address))),
                (1.., 0) => drop(change.removed.insert(Element::Hairpin(address))),
                _ => {}
            }
            if new == 0 {
                self.uses.remove(&address);
            }
        }
        change
    }
}

impl Claim {
    /// The addresses of its endpoints, each once.
    fn addresses(&self) -> BTreeSet<IpAddr> {
        self.endpoints().map(|endpoint| endpoint.ip()).collect()
    }

    /// The elements that make a frontend lead where this claim wants it.
    fn elements(&self, frontend: &Frontend) -> BTreeSet<Element> {
        let frontend = *frontend;
        let mut elements = BTreeSet::new();
        let mut ids = BTreeSet::new();
        let mut lead = |side: Side, endpoints: &[SocketAddr]| {
            let (count, guarded) = (endpoints.len() as u32, !self.sources.is_empty());
            let pick = Pick { side, count, affinity: self.affinity, guarded };
            elements.insert(Element::Service(frontend, side, Target::Pick(pick)));
            for (index, endpoint) in (0..).zip(endpoints) {
                if self.affinity.is_none() {
                    elements.insert(Element::Endpoint(frontend, side, index, *endpoint));
                    continue;
                }
                let id = id(side, *endpoint, &mut ids);
                elements.insert(Element::Sticky(frontend, id, *endpoint));
                elements.insert(Element::Id(frontend, side, index, id));
            }
        };
        match &self.backends {
            Backends::None => return [Element::Refused(frontend)].into(),
            Backends::Elsewhere => {}
            Backends::Ready(endpoints) => lead(Side::Main, endpoints),
        }
        if let Some(inside) = &self.inside {
            lead(Side::Inside, inside);
        }
        if self.backends == Backends::Elsewhere {
            elements.insert(Element::Service(frontend, Side::Main, Target::Drop));
        }
        elements.extend(self.external.then_some(Element::External(frontend)));
        elements.extend(self.sources.iter().map(|source| Element::Allowed(frontend, *source)));
        elements
    }
}

/// A number that an endpoint of a frontend keeps, whatever others there are and however often the program is started
/// (but for the rare one that `taken` has); never 0. It is FNV-1a.
fn id(side: Side, endpoint: SocketAddr, taken: &mut BTreeSet<u32>) -> u32 {
    let value = Value::default().field(&[side as u8]).field(&endpoint.port().to_be_bytes()).address(endpoint.ip());
    let hash =
        value.bytes().iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    let mut id = hash.max(1);
    while !taken.insert(id) {
        id = id.wrapping_add(1).max(1);
    }
    id
}

#[cfg(test)]
mod tests;
