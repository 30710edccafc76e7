//! The ConfigMap with the pools: its text → ranges of addresses; pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;

/// How many ranges there may be, over all pools.
const RANGES: usize = 256;

/// The line that keeps a pool for the Services that ask for it, in MetalLB's words.
const AUTO: &str = "autoAssign";

/// What no Service can have, and what it is.
const OTHERS: [(&str, &str); 6] = [
    ("0.0.0.0/8", "no address of anyone"),
    ("127.0.0.0/8", "each machine's own"),
    ("224.0.0.0/3", "for groups of machines"),
    ("::/127", "each machine's own"),
    ("fe80::/10", "for one link only"),
    ("ff00::/8", "for groups of machines"),
];

/// Addresses that follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) ipv4: bool,
    first: u128,
    last: u128,
    /// Those at the ends that are given only to who asks for them: of a network, its own and the broadcast address.
    edges: [u128; 2],
}

/// The addresses under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pool {
    pub(crate) ranges: Vec<Range>,
    /// Its addresses are given to Services that ask for no pool.
    pub(crate) auto: bool,
}

/// All pools by their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pools(pub(crate) BTreeMap<Arc<str>, Pool>);

impl Pools {
    /// Reads the data of the ConfigMap. `reserved` is what the cluster has for pods and Services.
    ///
    /// # Errors
    /// What is wrong, and in which pool.
    pub(crate) fn parse(data: &BTreeMap<String, String>, reserved: &[IpNet]) -> Result<Self, String> {
        let mut pools = BTreeMap::new();
        for (name, text) in data {
            let pool = Pool::parse(text, reserved).map_err(|why| format!("pool {name:?}: {why}"))?;
            pools.insert(Arc::from(name.as_str()), pool);
        }
        let mut all: Vec<(&Range, &Arc<str>)> =
            pools.iter().flat_map(|(name, pool)| pool.ranges.iter().map(move |range| (range, name))).collect();
        if all.len() > RANGES {
            return Err(format!("{} ranges are more than {RANGES}, the most there may be", all.len()));
        }
        all.sort_by_key(|(range, _)| (range.ipv4, range.first));
        for at in 1..all.len() {
            let (range, pool) = all[at];
            if let Some((_, other)) = all[..at].iter().find(|(other, name)| *name != pool && other.overlaps(range)) {
                let address = address(range.ipv4, range.first);
                return Err(format!("{address} is in the pools {other:?} and {pool:?}: an address can be of one only"));
            }
        }
        Ok(Self(pools))
    }

    /// The pool that has this address.
    pub(crate) fn home(&self, ip: IpAddr) -> Option<&Arc<str>> {
        self.0.iter().find(|(_, pool)| pool.ranges.iter().any(|range| range.contains(ip))).map(|(name, _)| name)
    }

    /// Those whose addresses are given unasked; with none, nodes give their own.
    pub(crate) fn auto(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.iter().filter(|(_, pool)| pool.auto).map(|(name, _)| name)
    }
}

impl Pool {
    fn parse(text: &str, reserved: &[IpNet]) -> Result<Self, String> {
        let mut pool = Self { ranges: Vec::new(), auto: true };
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
        // A list of YAML is understood, too.
        let words = lines.flat_map(|line| line.split(',')).map(|word| word.trim().trim_start_matches("- ").trim());
        for word in words.filter(|word| !word.is_empty()) {
            match word.split_once(':').filter(|(key, _)| *key == AUTO).map(|(_, value)| value.trim()) {
                Some("true") => pool.auto = true,
                Some("false") => pool.auto = false,
                Some(other) => return Err(format!("{AUTO} is {other:?}, and may be true or false")),
                None => pool.ranges.push(Range::parse(word, reserved)?),
            }
        }
        if pool.ranges.is_empty() { Err("no address is in it".into()) } else { Ok(pool) }
    }
}

impl Range {
    /// `192.0.2.0/24`, `192.0.2.10-192.0.2.20`, `192.0.2.7`, and the same of IPv6.
    fn parse(text: &str, reserved: &[IpNet]) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is no range of addresses, as 192.0.2.0/28, 192.0.2.10-192.0.2.20 or 192.0.2.7");
        let range = if let Ok(net) = text.parse::<IpNet>() {
            Self::net(net)
        } else {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let (Ok(first), Ok(last)) = (first.trim().parse::<IpAddr>(), last.trim().parse::<IpAddr>()) else {
                return Err(wrong());
            };
            let (ipv4, first, last) = (first.is_ipv4(), number(first), (last.is_ipv4(), number(last)));
            if last.0 != ipv4 || first > last.1 {
                return Err(wrong());
            }
            Self { ipv4, first, last: last.1, edges: [0; 2] }
        };
        let others = OTHERS.iter().filter_map(|(net, what)| Some((net.parse().ok()?, *what)));
        let own = reserved.iter().map(|net| (*net, "the cluster's own, for pods or Services"));
        match own.chain(others).find(|(net, _)| Self::net(*net).overlaps(&range)) {
            Some((net, what)) => Err(format!("{text} overlaps with {net}, which is {what}")),
            None => Ok(range),
        }
    }

    /// In networks of one or two addresses each is a machine's (RFC 3021, RFC 6164); IPv6 has no broadcast (RFC 4291).
    fn net(net: IpNet) -> Self {
        let (first, last) = (number(net.network()), number(net.broadcast()));
        let ipv4 = net.addr().is_ipv4();
        let edges = if last - first < 2 { [0; 2] } else { [1, u128::from(ipv4)] };
        Self { ipv4, first, last, edges }
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.ipv4 == other.ipv4 && self.first <= other.last && other.first <= self.last
    }

    fn contains(&self, ip: IpAddr) -> bool {
        self.ipv4 == ip.is_ipv4() && (self.first..=self.last).contains(&number(ip))
    }

    /// Those that are given unasked, from the `skip`th on.
    pub(crate) fn addresses(self, skip: u128) -> impl Iterator<Item = IpAddr> {
        let [before, after] = self.edges;
        let first = self.first.saturating_add(before).saturating_add(skip);
        (first..=self.last - after).map(move |n| address(self.ipv4, n))
    }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => ip.into(),
    }
}

/// The address with this number, which is of that family.
fn address(ipv4: bool, number: u128) -> IpAddr {
    match u32::try_from(number) {
        Ok(number) if ipv4 => Ipv4Addr::from(number).into(),
        _ => Ipv6Addr::from(number).into(),
    }
}

#[cfg(test)]
mod tests;
