//! The path of one connection, for a person who wants to see it: where it may go, and where it went.

use std::cell::Cell;
use std::net::SocketAddr;

use state::{Port, Protocol, Service, Snapshot};

use crate::Error;
use crate::endpoints::{Place, backends};
use crate::netlink::{Attrs, Item, Socket};

/// NFNL_SUBSYS_CTNETLINK with IPCTNL_MSG_CT_GET.
const GET: u16 = 1 << 8 | 1;
/// CTA_TUPLE_ORIG and CTA_TUPLE_REPLY.
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;

/// The endpoints of one family that new connections to a port are spread over, seen from `node`; with `local`, as by a
/// traffic policy of Local. None means that connections are refused or dropped.
pub fn usable(
    snapshot: &Snapshot,
    service: &Service,
    port: &Port,
    node: &str,
    local: bool,
    ipv4: bool,
) -> Vec<SocketAddr> {
    backends(service, port, &Place::new(node, snapshot), local, ipv4).ready().to_vec()
}

/// The connections of this network namespace from a moment on.
pub struct Connections(Socket);

impl Connections {
    /// Begins to listen: of a connection that is refused the kernel tells only then.
    ///
    /// # Errors
    /// [`Error::Denied`] without CAP_NET_ADMIN in the network namespace, and what else the kernel says.
    pub fn open() -> Result<Self, Error> {
        let socket = Socket::open()?;
        // NFNLGRP_CONNTRACK_NEW.
        socket.join(1).map_err(|error| failed(&error))?;
        Ok(Self(socket))
    }

    /// Where the kernel sent a connection from `from` to `to`. An unspecified address in `from` stands for any.
    ///
    /// Connect-time balancing leaves an entry without `to`: then the one with that source is taken. None when there is
    /// no entry: the connection was not tracked.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn destination(
        &mut self,
        protocol: Protocol,
        from: SocketAddr,
        to: SocketAddr,
    ) -> Result<Option<SocketAddr>, Error> {
        let (balanced, direct) = (Cell::new(None), Cell::new(None));
        let number = match protocol {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        };
        // AF_INET and AF_INET6.
        let family = if to.is_ipv4() { 2 } else { 10 };
        let look = |item: Item<'_>| {
            let Some((original, reply)) = tuple(item.attrs, ORIGINAL).zip(tuple(item.attrs, REPLY)) else { return };
            let same = from.ip().is_unspecified() || from.ip() == original.from.ip();
            match original.protocol == number && same && from.port() == original.from.port() {
                true if original.to == to => balanced.set(Some(reply.from)),
                true => direct.set(Some(reply.from)),
                false => {}
            }
        };
        self.0.heard(look).map_err(|error| failed(&error))?;
        if balanced.get().or(direct.get()).is_none() {
            self.0.dump(GET, family, |_| {}, look).map_err(|error| failed(&error))?;
        }
        Ok(balanced.get().or(direct.get()))
    }
}

fn failed(error: &std::io::Error) -> Error {
    Error::from_kernel(error.raw_os_error().unwrap_or_default(), "list the connections of the kernel", true)
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
    let address = |v4, v6| addresses.address(v4).or_else(|| addresses.address(v6));
    Some(Tuple {
        protocol: *protocol.get(1)?.first()?,
        from: SocketAddr::new(address(1, 3)?, protocol.port(2)?),
        to: SocketAddr::new(address(2, 4)?, protocol.port(3)?),
    })
}
