//! The links of this machine: which of them carry an address, and when they change.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::net::IpAddr;

use ipnet::IpNet;
use rustix::net::netlink::SocketAddrNetlink;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{Interest, unix::AsyncFd};

/// AF_NETLINK and NETLINK_ROUTE.
const FAMILY: (i32, i32) = (16, 0);
/// RTMGRP_LINK, RTMGRP_IPV4_IFADDR and RTMGRP_IPV6_IFADDR.
const GROUPS: u32 = 0x1 | 0x10 | 0x100;
/// How many changes are one, at most.
const AT_ONCE: usize = 256;
/// ARPHRD_ETHER.
const ETHERNET: u16 = 1;

/// A hardware address of Ethernet.
pub(crate) type Mac = [u8; 6];

/// A link on which neighbours are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) mac: Mac,
    /// The networks of its addresses, but those that are the link's alone.
    pub(crate) networks: Vec<IpNet>,
}

/// What addresses are announced from.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    /// Those that are up, of Ethernet, and have neighbours to broadcast to.
    pub(crate) links: Vec<Link>,
    /// All addresses of the machine.
    pub(crate) own: BTreeSet<IpAddr>,
}

impl Machine {
    /// The links that an address is announced on: those whose network has it, else all that have a network of its family.
    pub(crate) fn carrying(&self, address: IpAddr) -> Vec<&Link> {
        let with = |fits: &dyn Fn(&IpNet) -> bool| -> Vec<&Link> {
            self.links.iter().filter(|link| link.networks.iter().any(fits)).collect()
        };
        match with(&|network| network.contains(&address)) {
            near if !near.is_empty() => near,
            _ => with(&|network| network.addr().is_ipv4() == address.is_ipv4()),
        }
    }

    /// Lists what is there; links whose names begin with `skip` have no neighbours.
    pub(crate) fn list(skip: &str) -> io::Result<Self> {
        let mut first = std::ptr::null_mut();
        // SAFETY: on success the list is ours until freeifaddrs.
        if unsafe { libc::getifaddrs(&mut first) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let (mut links, mut own) = (BTreeMap::<String, Link>::new(), BTreeSet::new());
        let mut next = first;
        // SAFETY: the entries of the list, of which the last one leads to null.
        while let Some(entry) = unsafe { next.as_ref() } {
            next = entry.ifa_next;
            // SAFETY: the entry is one of getifaddrs.
            let (index, address) = unsafe { read(entry) };
            own.extend(address.map(|network| network.addr()));
            let wanted = libc::IFF_UP | libc::IFF_RUNNING | libc::IFF_BROADCAST | libc::IFF_MULTICAST;
            let flags = entry.ifa_flags as i32;
            // SAFETY: names end with a null.
            let name = unsafe { CStr::from_ptr(entry.ifa_name) }.to_string_lossy();
            // An address may have a label of its own: eth0:1.
            let name = name.split(':').next().unwrap_or_default();
            let unwanted = libc::IFF_LOOPBACK | libc::IFF_NOARP;
            if flags & wanted != wanted || flags & unwanted != 0 || !skip.is_empty() && name.starts_with(skip) {
                continue;
            }
            let link =
                links.entry(name.to_owned()).or_insert_with(|| Link { name: name.to_owned(), ..Link::default() });
            if let Some((index, mac)) = index {
                (link.index, link.mac) = (index, mac);
            }
            link.networks
                .extend(address.filter(|network| !is_of_the_link(network.addr())).map(|network| network.trunc()));
        }
        // SAFETY: the list of above, that nothing points into any longer.
        unsafe { libc::freeifaddrs(first) };
        Ok(Machine { links: links.into_values().filter(|link| link.index != 0).collect(), own })
    }
}

fn is_of_the_link(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// Index and hardware address, or address and network, whichever the entry has.
///
/// # Safety
/// The entry is one of getifaddrs.
unsafe fn read(entry: &libc::ifaddrs) -> (Option<(u32, Mac)>, Option<IpNet>) {
    // SAFETY: null, or an address whose family says how long it is.
    let ip = |at: *const libc::sockaddr| unsafe {
        match i32::from(at.as_ref()?.sa_family) {
            libc::AF_INET => Some(IpAddr::from((*at.cast::<libc::sockaddr_in>()).sin_addr.s_addr.to_ne_bytes())),
            libc::AF_INET6 => Some(IpAddr::from((*at.cast::<libc::sockaddr_in6>()).sin6_addr.s6_addr)),
            _ => None,
        }
    };
    let network = ip(entry.ifa_addr).zip(ip(entry.ifa_netmask));
    let network = network.and_then(|(address, mask)| IpNet::with_netmask(address, mask).ok());
    // SAFETY: as above.
    let link = unsafe { entry.ifa_addr.as_ref() }.filter(|at| i32::from(at.sa_family) == libc::AF_PACKET);
    let link = link.map(|at| {
        // SAFETY: this family has the addresses of links.
        unsafe { *std::ptr::from_ref(at).cast::<libc::sockaddr_ll>() }
    });
    let link = link.filter(|link| link.sll_hatype == ETHERNET && usize::from(link.sll_halen) == size_of::<Mac>());
    (link.and_then(|link| Some((link.sll_ifindex as u32, *link.sll_addr.first_chunk()?))), network)
}

/// Hears of every change of links and addresses.
pub(crate) struct Watch(AsyncFd<Socket>);

impl Watch {
    pub(crate) fn open() -> io::Result<Self> {
        let socket = Socket::new(Domain::from(FAMILY.0), Type::RAW.nonblocking(), Some(Protocol::from(FAMILY.1)))?;
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
        // SAFETY: a socket keeps its descriptor until it is dropped.
        Ok(Watch(unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?))
    }

    /// Waits for a change; several at once are one.
    pub(crate) async fn changed(&self) -> io::Result<()> {
        let mut ready = self.0.readable().await?;
        let mut buffer = [MaybeUninit::uninit(); 64];
        // What is too much for the buffers of the kernel, or for this one, is a change, too.
        for _ in 0..AT_ONCE {
            if ready.try_io(|socket| socket.get_ref().recv(&mut buffer)).is_err() {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_carry_an_address() {
        let link = |name: &str, networks: &str| Link {
            name: name.into(),
            networks: networks.split_whitespace().map(|network| network.parse().unwrap()).collect(),
            ..Link::default()
        };
        let links = vec![
            link("eth0", "10.0.0.0/24 2001:db8::/64"),
            link("eth1", "10.0.0.0/16"),
            link("eth2", "192.0.2.0/24"),
            link("eth3", ""),
        ];
        let machine = Machine { links, own: BTreeSet::new() };
        for (address, want) in [
            ("10.0.0.240", "eth0 eth1"),
            ("10.0.7.240", "eth1"),
            ("192.0.2.9", "eth2"),
            ("198.51.100.1", "eth0 eth1 eth2"),
            ("2001:db8::240", "eth0"),
            ("2001:db8:1::240", "eth0"),
        ] {
            let names: Vec<&str> =
                machine.carrying(address.parse().unwrap()).iter().map(|link| link.name.as_str()).collect();
            assert_eq!(names.join(" "), want, "{address}");
        }
        assert!(Machine::default().carrying([10, 0, 0, 1].into()).is_empty());
    }

    #[test]
    fn the_machine_has_its_addresses() {
        let machine = Machine::list("").expect("a list");
        assert!(machine.own.contains(&IpAddr::from([127, 0, 0, 1])), "{machine:?}");
        assert!(machine.links.iter().all(|link| link.name != "lo"), "{machine:?}");
        assert!(Machine::list("e").expect("a list").links.iter().all(|link| !link.name.starts_with('e')));
    }
}
