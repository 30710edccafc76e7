//! Which pod has which address of the node's range.

use ipnet::Ipv4Net;
use std::{collections::BTreeSet, net::Ipv4Addr};

/// The node's pod addresses. An address that is given back is taken again only after all others,
/// so that nothing that still knows it reaches another pod.
#[derive(Debug)]
pub(crate) struct Addresses {
    range: Ipv4Net,
    taken: BTreeSet<Ipv4Addr>,
    last: Ipv4Addr,
}

impl Addresses {
    pub(crate) fn new(range: Ipv4Net) -> Self {
        // The first host address is left to the node, as other networks do it.
        let last = Ipv4Addr::from(u32::from(range.network()).saturating_add(1));
        Self { range, taken: BTreeSet::new(), last }
    }

    /// Takes a certain address: that of a pod that is adopted. False when another pod has it.
    pub(crate) fn keep(&mut self, address: Ipv4Addr) -> bool {
        self.last = self.last.max(address);
        self.taken.insert(address)
    }

    /// Takes the next free address.
    pub(crate) fn take(&mut self) -> Option<Ipv4Addr> {
        let first = u32::from(self.range.network()) + 2;
        let end = u32::from(self.range.broadcast());
        let count = end.checked_sub(first).filter(|count| *count > 0)?;
        let next = (u32::from(self.last) + 1).clamp(first, end) - first;
        let free = (0..count)
            .map(|step| Ipv4Addr::from(first + (next + step) % count))
            .find(|address| !self.taken.contains(address))?;
        self.taken.insert(free);
        self.last = free;
        Some(free)
    }

    /// Gives an address back.
    pub(crate) fn free(&mut self, address: Ipv4Addr) {
        self.taken.remove(&address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_in_turn_and_reused_last() {
        let mut addresses = Addresses::new("10.244.3.0/29".parse().unwrap());
        let ip = |n| Ipv4Addr::new(10, 244, 3, n);
        assert_eq!(addresses.take(), Some(ip(2)));
        assert_eq!(addresses.take(), Some(ip(3)));
        addresses.free(ip(2));
        for n in [4, 5, 6, 2] {
            assert_eq!(addresses.take(), Some(ip(n)));
        }
        assert_eq!(addresses.take(), None);
        addresses.free(ip(5));
        assert_eq!(addresses.take(), Some(ip(5)));
    }

    #[test]
    fn adopted_addresses_are_not_given_again() {
        let mut addresses = Addresses::new("10.244.0.0/24".parse().unwrap());
        let ip = |n| Ipv4Addr::new(10, 244, 0, n);
        assert!(addresses.keep(ip(7)));
        assert!(!addresses.keep(ip(7)));
        assert_eq!(addresses.take(), Some(ip(8)));
    }

    #[test]
    fn a_range_without_room_gives_nothing() {
        assert_eq!(Addresses::new("10.0.0.0/31".parse().unwrap()).take(), None);
        assert_eq!(Addresses::new("10.0.0.0/32".parse().unwrap()).take(), None);
    }
}
