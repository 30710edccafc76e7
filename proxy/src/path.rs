//! The path of one connection, for a person who wants to see it: where it may go, and where it went.

use std::net::{IpAddr, SocketAddr};

use state::{Port, Protocol, Service};

use crate::Error;
use crate::endpoints::{Backends, backends};
use crate::netlink::{Attrs, Socket};

/// NFNL_SUBSYS_CTNETLINK with IPCTNL_MSG_CT_GET.
const GET: u16 = 1 << 8 | 1;
/// CTA_TUPLE_ORIG and CTA_TUPLE_REPLY.
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
/// AF_INET and AF_INET6.
const FAMILIES: [u8; 2] = [2, 10];

/// The endpoints that new connections to a port are spread over, seen from `node`; with `local`, as by a traffic policy
/// of Local. None means that connections are refused or dropped.
pub fn usable(service: &Service, port: &Port, node: &str, local: bool) -> Vec<SocketAddr> {
    match backends(service, port, node, local) {
        Backends::Ready(endpoints) => endpoints.into_iter().map(SocketAddr::from).collect(),
        Backends::Elsewhere | Backends::None => Vec::new(),
    }
}

/// Where the kernel sent a connection from `from` to `to`, by the connection tracking of this network namespace, which
/// remembers for some seconds also one that was refused. An unspecified address in `from` stands for any.
///
/// Connect-time balancing leaves an entry without `to`: then the one with that source is taken. None when there is no
/// entry: the connection was not tracked.
///
/// # Errors
/// [`Error::Denied`] without CAP_NET_ADMIN in the network namespace, and what else the kernel says.
pub fn destination(protocol: Protocol, from: SocketAddr, to: SocketAddr) -> Result<Option<SocketAddr>, Error> {
    let (mut balanced, mut direct) = (None, None);
    let number = match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    };
    let listed = Socket::open()?.dump(GET, FAMILIES[usize::from(to.is_ipv6())], |item| {
        let Some((original, reply)) = tuple(item.attrs, ORIGINAL).zip(tuple(item.attrs, REPLY)) else { return };
        let same = from.ip().is_unspecified() || from.ip() == original.from.ip();
        match original.protocol == number && same && from.port() == original.from.port() {
            true if original.to == to => balanced = Some(reply.from),
            true => direct = Some(reply.from),
            false => {}
        }
    });
    let failed = |error: std::io::Error| {
        Error::from_kernel(error.raw_os_error().unwrap_or_default(), "list the connections of the kernel", true)
    };
    listed.map_err(failed)?;
    Ok(balanced.or(direct))
}

/// One direction of a connection.
struct Tuple {
    protocol: u8,
    from: SocketAddr,
    to: SocketAddr,
}

/// CTA_TUPLE_IP (source and destination of each family) and CTA_TUPLE_PROTO (number, source and destination port).
fn tuple(entry: Attrs<'_>, kind: u16) -> Option<Tuple> {
    let (addresses, protocol) = (entry.inner(kind).inner(1), entry.inner(kind).inner(2));
    let address = |v4, v6| match addresses.get(v4) {
        Some(bytes) => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        None => <[u8; 16]>::try_from(addresses.get(v6)?).ok().map(IpAddr::from),
    };
    Some(Tuple {
        protocol: *protocol.get(1)?.first()?,
        from: SocketAddr::new(address(1, 3)?, protocol.port(2)?),
        to: SocketAddr::new(address(2, 4)?, protocol.port(3)?),
    })
}
