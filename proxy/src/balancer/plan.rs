//! Which Service has which addresses; pure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use state::{Balancing, Key, Service};

use super::pools::Pools;
use super::problem::{Family, Problem};
use super::taken::{Number, Taken};

/// The Services that shall have addresses, by their keys.
pub(crate) type Services = BTreeMap<Key, Arc<Service>>;

/// What a Service gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Assignment {
    /// At most one of each family, the Service's first family first.
    pub(crate) ips: Vec<IpAddr>,
    /// The ports that it has there, in order.
    pub(crate) ports: Vec<Number>,
    /// Why there are not more.
    pub(crate) problem: Option<Problem>,
}

/// What addresses there are, and what was given before.
pub(crate) struct Means<'a> {
    /// None as long as they are not known.
    pub(crate) pools: Option<&'a Pools>,
    /// The node's own addresses, which are given where no pool is.
    pub(crate) node: &'a [IpAddr],
    pub(crate) taken: &'a Taken,
    /// What came out the last time: who has a port keeps it, whoever else listens there by now.
    pub(crate) before: &'a BTreeMap<Key, Assignment>,
}

/// Gives each Service its addresses. Who has some keeps them as long as they are right; then come those who ask for
/// certain ones, then all others, by name.
pub(crate) fn plan(services: &Services, means: &Means<'_>) -> BTreeMap<Key, Assignment> {
    let Some(pools) = means.pools else {
        return services.iter().map(|(key, service)| (key.clone(), unknown(key, service, means))).collect();
    };
    let mut book = Book { pools, means, used: BTreeMap::new(), shared: BTreeMap::new(), skip: BTreeMap::new() };
    let mut all: Vec<(Wish<'_>, Assignment)> = Vec::new();
    for (key, service) in services {
        let mut wish = Wish::of(service);
        let mut assignment = Assignment { ports: ports(service), ..Assignment::default() };
        for &ip in current(key, service, means) {
            if wish.families.contains(&ip.is_ipv4()) && wish.allows(ip, &book) && book.fits(&wish, ip).is_ok() {
                book.take(&mut wish, &mut assignment, ip);
            }
        }
        all.push((wish, assignment));
    }
    all.sort_by_key(|(wish, _)| wish.asked.as_ref().is_ok_and(Vec::is_empty));
    let mut given = BTreeMap::new();
    for (mut wish, mut assignment) in all {
        assignment.problem = book.give(&mut wish, &mut assignment).err();
        let first = wish.service.cluster_ips().first().is_some_and(IpAddr::is_ipv4);
        assignment.ips.sort_by_key(|ip| ip.is_ipv4() != first);
        given.insert(wish.service.key.clone(), assignment);
    }
    given
}

/// What a Service has now: its status may lag behind.
fn current<'a>(key: &Key, service: &'a Service, means: &'a Means<'_>) -> &'a [IpAddr] {
    means.before.get(key).map_or(&service.load_balancer_ips, |before| &before.ips)
}

/// As long as the pools are not known, Services keep what they have.
fn unknown(key: &Key, service: &Service, means: &Means<'_>) -> Assignment {
    let ips = current(key, service, means).to_vec();
    let problem = ips.is_empty().then_some(Problem::Pools);
    Assignment { ips, ports: ports(service), problem }
}

pub(super) fn ports(service: &Service) -> Vec<Number> {
    service.ports.iter().map(|port| (port.protocol, port.port)).collect()
}

/// What a Service wants.
struct Wish<'a> {
    service: &'a Service,
    balancing: &'a Balancing,
    /// The addresses that it asks for, or why that cannot be.
    asked: Result<Vec<IpAddr>, Problem>,
    /// Of which families it wants addresses that it has not yet.
    families: Vec<bool>,
}

impl<'a> Wish<'a> {
    fn of(service: &'a Service) -> Self {
        static NOTHING: Balancing = Balancing { class: None, pool: None, addresses: None, sharing: None };
        let balancing = service.balancing.as_deref().unwrap_or(&NOTHING);
        let families: Vec<bool> = service.cluster_ips().iter().map(IpAddr::is_ipv4).collect();
        let asked = asked(balancing.addresses.as_deref().unwrap_or_default(), &families).map_err(Problem::Request);
        Self { service, balancing, asked, families }
    }

    /// True for an address that it may keep.
    fn allows(&self, ip: IpAddr, book: &Book<'_>) -> bool {
        let home = book.pools.home(ip);
        let asked = self.asked.as_ref().is_ok_and(|asked| asked.is_empty() || asked.contains(&ip));
        asked && self.balancing.pool.as_ref().is_none_or(|pool| home == Some(pool)) && (home.is_some() || book.own(ip))
    }
}

/// The addresses in a text with commas.
fn asked(text: &str, families: &[bool]) -> Result<Vec<IpAddr>, String> {
    let mut all: Vec<IpAddr> = Vec::new();
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let ip: IpAddr = word.parse().map_err(|_| format!("{word:?} was asked for, and is no IP address"))?;
        let family = Family(ip.is_ipv4());
        if !families.contains(&ip.is_ipv4()) {
            return Err(format!("{ip} was asked for, and the Service has no {family}: see its ipFamilies"));
        }
        if all.iter().any(|other| other.is_ipv4() == ip.is_ipv4()) {
            return Err(format!("Two {family} addresses were asked for, {text}: a Service has one of each family"));
        }
        all.push(ip);
    }
    Ok(all)
}

/// What is given so far.
struct Book<'a> {
    pools: &'a Pools,
    means: &'a Means<'a>,
    used: BTreeMap<IpAddr, Use<'a>>,
    /// The addresses of those who share.
    shared: BTreeMap<&'a str, Vec<IpAddr>>,
    /// How many addresses at the beginning of a range of a pool are used.
    skip: BTreeMap<(&'a str, usize), u128>,
}

/// Who uses an address.
struct Use<'a> {
    /// What they have in common, unless it is for one only.
    sharing: Option<&'a str>,
    owner: &'a Key,
    ports: BTreeMap<Number, &'a Key>,
}

impl<'a> Book<'a> {
    /// True for the node's own addresses, where no pool gives others.
    fn own(&self, ip: IpAddr) -> bool {
        self.means.node.contains(&ip) && self.pools.auto().next().is_none()
    }

    /// What Services have to have in common to share an address; all share one of the node's that is in no pool.
    fn sharing(&self, wish: &Wish<'a>, ip: IpAddr) -> Option<&'a str> {
        if self.pools.home(ip).is_none() { Some("") } else { wish.balancing.sharing.as_deref() }
    }

    /// Whether a Service can have an address.
    fn fits(&self, wish: &Wish<'a>, ip: IpAddr) -> Result<(), Problem> {
        let key = &wish.service.key;
        let ports = ports(wish.service);
        let taken = |number: Number, by| Problem::Port(ip, number.0, number.1, by);
        if let Some(using) = self.used.get(&ip) {
            if using.sharing.is_none() || using.sharing != self.sharing(wish, ip) {
                return Err(Problem::Used(ip, using.owner.clone()));
            }
            if let Some((number, by)) = ports.iter().find_map(|number| Some((*number, *using.ports.get(number)?))) {
                return Err(taken(number, super::taken::Holder::Service(by.clone())));
            }
        }
        if self.means.before.get(key).is_some_and(|before| before.ips.contains(&ip) && before.ports == ports) {
            return Ok(());
        }
        let of_node = self.means.node.contains(&ip);
        let holder = |number: &Number| Some((*number, self.means.taken.holder(key, ip, of_node, *number)?));
        ports.iter().find_map(holder).map_or(Ok(()), |(number, by)| Err(taken(number, by.clone())))
    }

    /// Gives an address that fits.
    fn take(&mut self, wish: &mut Wish<'a>, assignment: &mut Assignment, ip: IpAddr) {
        let (sharing, key) = (self.sharing(wish, ip), &wish.service.key);
        let using = self.used.entry(ip).or_insert_with(|| Use { sharing, owner: key, ports: BTreeMap::new() });
        if using.ports.is_empty() {
            sharing.into_iter().for_each(|sharing| self.shared.entry(sharing).or_default().push(ip));
        }
        using.ports.extend(assignment.ports.iter().map(|number| (*number, key)));
        wish.families.retain(|family| *family != ip.is_ipv4());
        assignment.ips.push(ip);
    }

    /// Gives what is missing, as far as that can be had.
    fn give(&mut self, wish: &mut Wish<'a>, assignment: &mut Assignment) -> Result<(), Problem> {
        let asked = wish.asked.clone()?;
        if !asked.is_empty() {
            return self.give_asked(asked, wish, assignment);
        }
        if wish.families.is_empty() {
            return Ok(());
        }
        let mut pools: Vec<&Arc<str>> = match &wish.balancing.pool {
            Some(pool) if !self.pools.0.contains_key(pool) => return Err(Problem::Unknown(pool.clone())),
            Some(pool) => vec![pool],
            None => self.pools.auto().collect(),
        };
        if pools.is_empty() {
            return self.give_own(wish, assignment);
        }
        // The addresses of a Service are of one pool where they can be.
        let home = assignment.ips.first().and_then(|ip| self.pools.home(*ip));
        pools.sort_by_key(|pool| Some(*pool) != home);
        let mut best = Vec::new();
        for pool in &pools {
            let found: Vec<IpAddr> = wish.families.iter().filter_map(|ipv4| self.find(wish, pool, *ipv4)).collect();
            if found.len() > best.len() {
                best = found;
            }
            if best.len() == wish.families.len() {
                break;
            }
        }
        best.into_iter().for_each(|ip| self.take(wish, assignment, ip));
        match wish.families.first() {
            Some(ipv4) => Err(Problem::Exhausted(pools.into_iter().cloned().collect(), *ipv4)),
            None => Ok(()),
        }
    }

    /// Gives the addresses that were asked for.
    fn give_asked(
        &mut self,
        asked: Vec<IpAddr>,
        wish: &mut Wish<'a>,
        assignment: &mut Assignment,
    ) -> Result<(), Problem> {
        for ip in asked.into_iter().filter(|ip| !assignment.ips.contains(ip)).collect::<Vec<_>>() {
            match (self.pools.home(ip), &wish.balancing.pool) {
                (home, Some(pool)) if home != Some(pool) => return Err(Problem::Outside(ip, Some(pool.clone()))),
                (None, _) if !self.own(ip) => return Err(Problem::Outside(ip, None)),
                _ => self.fits(wish, ip)?,
            }
            self.take(wish, assignment, ip);
        }
        Ok(())
    }

    /// Gives the node's own addresses.
    fn give_own(&mut self, wish: &mut Wish<'a>, assignment: &mut Assignment) -> Result<(), Problem> {
        let mut problem = None;
        for ipv4 in wish.families.clone() {
            let mut own = self.means.node.iter().filter(|ip| ip.is_ipv4() == ipv4).peekable();
            if own.peek().is_none() {
                problem.get_or_insert(Problem::NoAddress(ipv4));
            }
            for ip in own {
                match self.fits(wish, *ip) {
                    Ok(()) => {
                        self.take(wish, assignment, *ip);
                        break;
                    }
                    Err(why) => _ = problem.get_or_insert(why),
                }
            }
        }
        // A node that lacks a family, or has a port in one only, is no fault.
        problem.filter(|_| assignment.ips.is_empty()).map_or(Ok(()), Err)
    }

    /// An address of a pool that a Service can have: one that it may share, or the first free one.
    fn find(&mut self, wish: &Wish<'a>, pool: &'a str, ipv4: bool) -> Option<IpAddr> {
        let pools = self.pools;
        let shared = wish.balancing.sharing.as_deref().and_then(|key| self.shared.get(key)).into_iter().flatten();
        let own = |ip: &&IpAddr| ip.is_ipv4() == ipv4 && pools.home(**ip).is_some_and(|home| **home == *pool);
        if let Some(ip) = shared.filter(own).find(|ip| self.fits(wish, **ip).is_ok()) {
            return Some(*ip);
        }
        for (at, range) in pools.0.get(pool)?.ranges.iter().enumerate().filter(|(_, range)| range.ipv4 == ipv4) {
            let mut skip = self.skip.get(&(pool, at)).copied().unwrap_or_default();
            let used = range.addresses(skip).take_while(|ip| self.used.contains_key(ip)).count();
            skip += used as u128;
            self.skip.insert((pool, at), skip);
            let mut free = range.addresses(skip).filter(|ip| !self.used.contains_key(ip));
            if let Some(ip) = free.find(|ip| self.fits(wish, *ip).is_ok()) {
                return Some(ip);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
