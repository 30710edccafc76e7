//! Snapshot → what the maps and sets of the kernel hold. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use state::{Key, Port, Protocol, Service, Snapshot};

use super::Config;
use crate::endpoints::{Backends, backends};

/// Where clients send packets for a Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Frontend {
    /// A cluster IP, external address or address of this node.
    pub(crate) address: Ipv4Addr,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
}

/// What happens to a new connection to a frontend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pick {
    /// To one of so many endpoints, at random.
    Random(u32),
    /// To one of so many endpoints, chosen by the client's address.
    Sticky(u32),
    /// Nowhere.
    Drop,
}

/// One element of one of the maps and sets. They are added in this order, and removed in the
/// opposite one, so that nothing leads to what is not there yet where it takes two transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Element {
    /// Map `endpoints`: the endpoint of this number behind a frontend.
    Endpoint(Frontend, u32, SocketAddrV4),
    /// Set `external`: connections that came there go on with the node's address as their source.
    External(Frontend),
    /// Set `hairpin`: an endpoint that may reach itself by way of a Service.
    Hairpin(Ipv4Addr),
    /// Map `services`: what happens at a frontend.
    Service(Frontend, Pick),
    /// Set `refused`: nobody answers there.
    Refused(Frontend),
}

/// A step from one set of elements to another.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) removed: BTreeSet<Element>,
    pub(crate) added: BTreeSet<Element>,
}

impl Change {
    /// True when a UDP endpoint left a frontend: connection tracking still leads clients there.
    pub(crate) fn leaves_udp(&self) -> bool {
        let udp = |element: &Element| match element {
            Element::Endpoint(frontend, ..) => frontend.protocol == Protocol::Udp,
            _ => false,
        };
        self.removed.iter().any(udp)
    }
}

/// What one Service wants at one of its frontends.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Claim {
    service: Key,
    backends: Backends,
    sticky: bool,
    external: bool,
}

/// All frontends and the endpoints behind them, kept from Snapshot to Snapshot so that a change
/// costs as much as the Services that changed, however many there are.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    /// Sorted by Service; the first one has the frontend. More than one only for a moment, when a
    /// Service's address goes to another Service.
    frontends: BTreeMap<Frontend, Vec<Claim>>,
    /// How many frontends lead to an address.
    uses: BTreeMap<Ipv4Addr, u32>,
}

impl Rules {
    /// Follows the step from one Snapshot (an empty one at first) to the next.
    pub(crate) fn update(&mut self, older: &Snapshot, newer: &Snapshot, config: &Config) -> Change {
        let mut before: BTreeMap<Frontend, Option<Claim>> = BTreeMap::new();
        for key in newer.services.changed(&older.services) {
            let old = older.services.get(key).map(|service| claims(service, config)).unwrap_or_default();
            let new = newer.services.get(key).map(|service| claims(service, config)).unwrap_or_default();
            for frontend in old.keys().chain(new.keys()) {
                before.entry(*frontend).or_insert_with(|| self.winner(frontend).cloned());
            }
            for frontend in old.keys() {
                self.withdraw(frontend, key);
            }
            for (frontend, claim) in new {
                self.claim(frontend, claim);
            }
        }
        self.compare(before)
    }

    /// The ready endpoints behind a frontend; None when there is no such frontend.
    pub(crate) fn endpoints(&self, frontend: &Frontend) -> Option<&[SocketAddrV4]> {
        Some(self.winner(frontend)?.endpoints())
    }

    fn winner(&self, frontend: &Frontend) -> Option<&Claim> {
        self.frontends.get(frontend)?.first()
    }

    fn claim(&mut self, frontend: Frontend, claim: Claim) {
        let claims = self.frontends.entry(frontend).or_default();
        let at = claims.partition_point(|other| other.service < claim.service);
        claims.insert(at, claim);
    }

    fn withdraw(&mut self, frontend: &Frontend, service: &Key) {
        if let Some(claims) = self.frontends.get_mut(frontend) {
            claims.retain(|claim| claim.service != *service);
            if claims.is_empty() {
                self.frontends.remove(frontend);
            }
        }
    }

    /// The elements that the frontends in `before` lost and won since.
    fn compare(&mut self, before: BTreeMap<Frontend, Option<Claim>>) -> Change {
        let mut change = Change::default();
        let mut touched: BTreeMap<Ipv4Addr, u32> = BTreeMap::new();
        for (frontend, old) in &before {
            let new = self.frontends.get(frontend).and_then(|claims| claims.first());
            if old.as_ref() == new {
                continue;
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
    fn endpoints(&self) -> &[SocketAddrV4] {
        match &self.backends {
            Backends::Ready(endpoints) => endpoints,
            Backends::Elsewhere | Backends::None => &[],
        }
    }

    /// The addresses of its endpoints, each once.
    fn addresses(&self) -> BTreeSet<Ipv4Addr> {
        self.endpoints().iter().map(|endpoint| *endpoint.ip()).collect()
    }

    /// The elements that make a frontend lead where this claim wants it.
    fn elements(&self, frontend: &Frontend) -> BTreeSet<Element> {
        let frontend = *frontend;
        let pick = match &self.backends {
            Backends::None => return [Element::Refused(frontend)].into(),
            Backends::Elsewhere => return [Element::Service(frontend, Pick::Drop)].into(),
            Backends::Ready(endpoints) if self.sticky => Pick::Sticky(endpoints.len() as u32),
            Backends::Ready(endpoints) => Pick::Random(endpoints.len() as u32),
        };
        let numbered = (0..).zip(self.endpoints());
        let endpoints = numbered.map(|(index, endpoint)| Element::Endpoint(frontend, index, *endpoint));
        let external = self.external.then_some(Element::External(frontend));
        endpoints.chain(external).chain([Element::Service(frontend, pick)]).collect()
    }
}

/// What a Service wants, at all of its frontends.
fn claims(service: &Service, config: &Config) -> BTreeMap<Frontend, Claim> {
    let mut claims = BTreeMap::new();
    for port in &service.ports {
        let inside = v4(service.cluster_ips()).map(|address| (address, port.port));
        let inside = inside.filter(|(address, _)| !config.answers(*address));
        insert(&mut claims, service, port, inside, false, config);
        insert(&mut claims, service, port, outside(service, port, config), true, config);
    }
    claims
}

/// The addresses and ports by which a port is reached from outside the cluster. The addresses of
/// a load balancer with source ranges are left to the load balancer.
fn outside(service: &Service, port: &Port, config: &Config) -> Vec<(Ipv4Addr, u16)> {
    if v4(service.cluster_ips()).next().is_none() {
        return Vec::new();
    }
    let nodes = port.node_port.into_iter().flat_map(|number| config.node_addresses.iter().map(move |a| (*a, number)));
    let balanced = v4(&service.load_balancer_ips).filter(|_| service.source_ranges.is_empty());
    let others = v4(&service.external_ips).chain(balanced).map(|address| (address, port.port));
    nodes.chain(others).collect()
}

/// Those addresses that the rules can speak of.
fn v4(addresses: &[IpAddr]) -> impl Iterator<Item = Ipv4Addr> {
    addresses.iter().filter_map(|address| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    })
}

fn insert(
    claims: &mut BTreeMap<Frontend, Claim>,
    service: &Service,
    port: &Port,
    at: impl IntoIterator<Item = (Ipv4Addr, u16)>,
    external: bool,
    config: &Config,
) {
    let local = if external { service.external_local } else { service.internal_local };
    let mut at = at.into_iter().peekable();
    if at.peek().is_none() {
        return;
    }
    let claim = Claim {
        service: service.key.clone(),
        backends: backends(service, port, &config.node_name, local),
        sticky: service.affinity.is_some(),
        external: external && !local,
    };
    for (address, number) in at {
        let frontend = Frontend { address, protocol: port.protocol, port: number };
        claims.entry(frontend).or_insert_with(|| claim.clone());
    }
}

#[cfg(test)]
mod tests;
