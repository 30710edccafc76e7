//! The few things asked of rtnetlink, each as one call that names itself when it fails.

use super::overlap::Used;
use crate::Error;
use futures::TryStreamExt;
use ipnet::Ipv4Net;
use netlink_packet_route::{
    AddressFamily,
    address::{AddressAttribute, AddressScope},
    link::{LinkAttribute, LinkMessage},
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteScope, RouteType},
};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

/// A link of the machine.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) mtu: u32,
}

/// An IPv4 address of the machine.
#[derive(Clone, Debug)]
pub(super) struct Address {
    pub(super) link: u32,
    pub(super) address: Ipv4Addr,
    pub(super) prefix: u8,
}

/// An IPv4 route of the main table.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) link: u32,
    pub(super) range: Ipv4Net,
    pub(super) source: Option<Ipv4Addr>,
}

/// A netlink socket in the calling thread's network namespace, served on the current runtime.
pub(super) fn open() -> Result<Handle, Error> {
    let (connection, handle, _) = rtnetlink::new_connection()
        .map_err(|error| Error::Link { what: "open a netlink socket".into(), reason: error.to_string() })?;
    tokio::spawn(connection);
    Ok(handle)
}

pub(super) async fn links(handle: &Handle) -> Result<Vec<Link>, Error> {
    let all = handle.link().get().execute();
    let all: Vec<LinkMessage> = all.try_collect().await.map_err(Error::link("list links"))?;
    Ok(all.into_iter().map(link_of).collect())
}

/// The link of that name; `None` when there is none.
pub(super) async fn link(handle: &Handle, name: &str) -> Result<Option<Link>, Error> {
    let mut found = handle.link().get().match_name(name).execute();
    match found.try_next().await {
        Ok(message) => Ok(message.map(link_of)),
        Err(rtnetlink::Error::NetlinkError(error))
            if error.to_io().raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) =>
        {
            Ok(None)
        }
        Err(error) => Err(Error::link(format!("find link {name}"))(error)),
    }
}

fn link_of(message: LinkMessage) -> Link {
    let mut link = Link { index: message.header.index, name: String::new(), mtu: 0 };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            _ => {}
        }
    }
    link
}

pub(super) async fn addresses(handle: &Handle) -> Result<Vec<Address>, Error> {
    let all = handle.address().get().execute();
    let all: Vec<_> = all.try_collect().await.map_err(Error::link("list addresses"))?;
    Ok(all
        .into_iter()
        .filter_map(|message| {
            let of = |attribute: &AddressAttribute| match attribute {
                AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
                _ => None,
            };
            Some(Address {
                link: message.header.index,
                address: message.attributes.iter().find_map(of)?,
                prefix: message.header.prefix_len,
            })
        })
        .collect())
}

/// All addresses of this machine, of both families, but for those that only a link knows.
///
/// # Errors
/// When the kernel cannot be asked.
pub async fn machine_addresses() -> Result<Vec<IpAddr>, Error> {
    let all = open()?.address().get().execute();
    let all: Vec<_> = all.try_collect().await.map_err(Error::link("list addresses"))?;
    let global = all.into_iter().filter(|message| message.header.scope == AddressScope::Universe);
    Ok(global
        .filter_map(|message| {
            let of = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| message.attributes.iter().find_map(wanted);
            // On a link between two, the other side's address is in the second one.
            of(|attribute| match attribute {
                AddressAttribute::Local(address) => Some(*address),
                _ => None,
            })
            .or_else(|| {
                of(|attribute| match attribute {
                    AddressAttribute::Address(address) => Some(*address),
                    _ => None,
                })
            })
        })
        .collect())
}

pub(super) async fn routes(handle: &Handle) -> Result<Vec<Route>, Error> {
    let any = RouteMessageBuilder::<Ipv4Addr>::new().build();
    let all = handle.route().get(any).execute();
    let all: Vec<_> = all.try_collect().await.map_err(Error::link("list routes"))?;
    let mut routes = Vec::new();
    for message in all {
        if message.header.table != RouteHeader::RT_TABLE_MAIN
            || message.header.address_family != AddressFamily::Inet
            || message.header.kind != RouteType::Unicast
        {
            continue;
        }
        let (mut link, mut to, mut source) = (0, Ipv4Addr::UNSPECIFIED, None);
        for attribute in message.attributes {
            match attribute {
                RouteAttribute::Oif(index) => link = index,
                RouteAttribute::Destination(RouteAddress::Inet(address)) => to = address,
                RouteAttribute::PrefSource(RouteAddress::Inet(address)) => source = Some(address),
                _ => {}
            }
        }
        if let Ok(range) = Ipv4Net::new(to, message.header.destination_prefix_length) {
            routes.push(Route { link, range, source });
        }
    }
    Ok(routes)
}

/// Everything on the machine that has a range of addresses, but for links that begin with `ours`.
pub(super) async fn used(handle: &Handle, ours: &str) -> Result<Vec<Used>, Error> {
    let names: BTreeMap<u32, String> = links(handle).await?.into_iter().map(|link| (link.index, link.name)).collect();
    let name = |index: u32| names.get(&index).map_or("?", String::as_str);
    let mut used = Vec::new();
    for route in routes(handle).await? {
        if !name(route.link).starts_with(ours) {
            used.push(Used { range: route.range, what: format!("route {} dev {}", route.range, name(route.link)) });
        }
    }
    for address in addresses(handle).await? {
        let range = Ipv4Net::new(address.address, address.prefix).map(|net| net.trunc());
        if let (Ok(range), false) = (range, name(address.link).starts_with(ours)) {
            let what = format!("address {}/{} of {}", address.address, address.prefix, name(address.link));
            used.push(Used { range, what });
        }
    }
    Ok(used)
}

pub(super) async fn up(handle: &Handle, index: u32) -> Result<(), Error> {
    let message = LinkUnspec::new_with_index(index).up().build();
    let done = handle.link().set(message).execute().await;
    done.map_err(Error::link("set a link up"))
}

/// Removes a link; that it is gone is no error.
pub(super) async fn remove(handle: &Handle, name: &str) -> Result<(), Error> {
    let Some(link) = link(handle, name).await? else {
        return Ok(());
    };
    match handle.link().del(link.index).execute().await {
        Err(rtnetlink::Error::NetlinkError(error))
            if error.to_io().raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) =>
        {
            Ok(())
        }
        done => done.map_err(Error::link(format!("remove link {name}"))),
    }
}

pub(super) async fn add_address(handle: &Handle, index: u32, address: Ipv4Addr) -> Result<(), Error> {
    let add = handle.address().add(index, address.into(), 32).replace();
    let done = add.execute().await;
    done.map_err(Error::link(format!("add address {address}")))
}

/// A permanent neighbour: no question who has the address is ever asked.
pub(super) async fn add_neighbour(
    handle: &Handle,
    index: u32,
    address: Ipv4Addr,
    hardware: [u8; 6],
) -> Result<(), Error> {
    let add = handle.neighbours().add(index, address.into());
    let done = add.link_layer_address(&hardware).replace().execute().await;
    done.map_err(Error::link(format!("add neighbour {address}")))
}

/// A route straight out of a link, with `source` for what the node itself sends.
pub(super) async fn add_route(handle: &Handle, index: u32, to: Ipv4Net, source: Ipv4Addr) -> Result<(), Error> {
    let route = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(to.network(), to.prefix_len())
        .output_interface(index)
        .scope(RouteScope::Link)
        .pref_source(source)
        .build();
    let done = handle.route().add(route).replace().execute().await;
    done.map_err(Error::link(format!("add route {to}")))
}

/// The default route through a gateway that is on the link without an address of its range.
pub(super) async fn add_default(handle: &Handle, index: u32, gateway: Ipv4Addr) -> Result<(), Error> {
    let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).output_interface(index).onlink().build();
    let done = handle.route().add(route).replace().execute().await;
    done.map_err(Error::link("add the default route"))
}
