//! UDP connections that lead to an endpoint that left.
//!
//! TCP notices by itself; a UDP client that keeps its port would go on sending into the void for
//! as long as it sends, because each packet renews the entry of connection tracking.

use std::net::{IpAddr, SocketAddr};

use rustix::io::Errno;
use state::Protocol;

use super::Config;
use super::family::Family;
use super::frontends::Frontend;
use super::rules::Rules;
use crate::Error;
use crate::netlink::{Attrs, Buffer, Head, Item, Socket};

/// NFNL_SUBSYS_CTNETLINK with IPCTNL_MSG_CT_GET and _DELETE.
const GET: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;
/// CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_STATUS, CTA_ZONE.
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const STATUS: u16 = 3;
const ZONE: u16 = 18;
/// IPS_DST_NAT.
const TRANSLATED: u32 = 0x20;
const UDP: u8 = 17;
/// NLA_F_NESTED is part of the type where a tuple is sent back.
const TUPLE: u16 = 0x8000 | ORIGINAL;

/// A UDP connection: where its first packet went, and who is to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flow {
    pub(crate) to: SocketAddr,
    pub(crate) endpoint: SocketAddr,
    /// The destination was translated.
    pub(crate) translated: bool,
}

/// Forgets the UDP connections that the rules would not make any more; returns how many.
pub(crate) fn forget(socket: &mut Socket, rules: &Rules, config: &Config) -> Result<usize, Error> {
    let doing = "list the connections of the kernel";
    let mut stale: Vec<(u8, Vec<u8>)> = Vec::new();
    for family in config.families() {
        let listed = socket.dump(
            GET,
            family.number(),
            |_| {},
            |item| {
                if flow(family, item.attrs).is_some_and(|flow| is_stale(flow, rules, config)) {
                    stale.push((family.number(), tuple(&item)));
                }
            },
        );
        listed.map_err(|error| Error::from_kernel(error.raw_os_error().unwrap_or_default(), doing, true))?;
    }
    for (family, tuple) in &stale {
        let mut request = Buffer::default();
        let sequence = 1;
        request.message(Head { sequence, ..Head::request(DELETE, *family) }, |out| out.raw(tuple));
        let answers = socket.exchange(request.bytes()).unwrap_or_default();
        let gone = Errno::NOENT.raw_os_error();
        if let Some((_, code)) = answers.iter().find(|(_, code)| *code != 0 && *code != gone) {
            return Err(Error::from_kernel(*code, "forget a connection", false));
        }
    }
    Ok(stale.len())
}

/// True for a connection of ours to a place that does not serve its frontend any more; as with TCP, new policies and
/// endpoints that leave change nothing for clients that are there. Ours are those to a frontend that leads somewhere
/// (translated or not: there may have been no frontend when it began), those to a Service's address, and those from
/// elsewhere that were sent to a pod, unless another program makes the pods' network and leads its own ports to them.
pub(crate) fn is_stale(flow: Flow, rules: &Rules, config: &Config) -> bool {
    let frontend = Frontend { address: flow.to.ip(), protocol: Protocol::Udp, port: flow.to.port() };
    let within = |networks: &[ipnet::IpNet], address: IpAddr| networks.iter().any(|network| network.contains(&address));
    match rules.winner(&frontend) {
        Some(claim) if flow.translated => !claim.flows().any(|endpoint| endpoint == flow.endpoint),
        Some(claim) => claim.flows().next().is_some(),
        None if flow.translated => {
            within(&config.service_cidrs, flow.to.ip())
                || config.own_network && within(&config.pod_cidrs, flow.endpoint.ip())
        }
        None => false,
    }
}

/// The connection in an entry, if it is of UDP.
fn flow(family: Family, entry: Attrs<'_>) -> Option<Flow> {
    let translated = entry.number(STATUS)? & TRANSLATED != 0;
    let original = entry.inner(ORIGINAL);
    let reply = entry.inner(REPLY);
    let udp = original.inner(2).get(1) == Some(&[UDP]);
    // CTA_TUPLE_IP has source and destination of IPv4, then those of IPv6.
    let base = if family == Family::V4 { 0 } else { 2 };
    let at = |ip: Option<IpAddr>, port: Option<u16>| Some(SocketAddr::new(ip?, port?));
    // A tuple is CTA_TUPLE_IP (source, destination) and CTA_TUPLE_PROTO (number, ports).
    let to = at(original.inner(1).address(base + 2), original.inner(2).port(3))?;
    let endpoint = at(reply.inner(1).address(base + 1), reply.inner(2).port(2))?;
    udp.then_some(Flow { to, endpoint, translated })
}

/// The attributes that name an entry.
fn tuple(item: &Item<'_>) -> Vec<u8> {
    let mut out = Buffer::default();
    out.attr(TUPLE, item.attrs.get(ORIGINAL).unwrap_or_default());
    if let Some(zone) = item.attrs.get(ZONE) {
        out.attr(ZONE, zone);
    }
    out.bytes().to_vec()
}
