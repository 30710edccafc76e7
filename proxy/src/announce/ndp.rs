//! Neighbour Discovery (RFC 4861): who has an IPv6 address on a link, told and asked in whole IPv6 packets.

use std::net::Ipv6Addr;

use super::links::Mac;
use super::wire::{Frame, Question};

/// The protocol of the frames.
pub(crate) const PROTOCOL: u16 = 0x86dd;
/// ICMPv6, its messages, and the hop limit of what never passed a router.
const ICMP: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const HOPS: u8 = 255;
/// Options with the hardware address of the sender, and of the address that is asked for.
const SOURCE: u8 = 1;
const TARGET_MAC: u8 = 2;
/// The flags "solicited" and "override" of an advertisement.
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;
/// The IPv6 header, and a message without options.
const HEADER: usize = 40;
const MESSAGE: usize = 24;
/// All nodes of a link.
const EVERYONE: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// What a filter has to see: 16-bit words, by their place (next header and hop limit; type and code); and where the last
/// four bytes of the target's address are.
pub(crate) const TELLING: [(u32, u16); 2] =
    [(6, u16::from_be_bytes([ICMP, HOPS])), (HEADER as u32, u16::from_be_bytes([SOLICITATION, 0]))];
pub(crate) const TARGET: u32 = HEADER as u32 + 20;

/// The group in which questions about an address are asked (RFC 4291, 2.7.1).
pub(crate) fn group(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]))
}

/// What a packet asks, that came from the hardware address `from`; none if it is broken or no question (RFC 4861, 7.1.1).
pub(crate) fn read(packet: &[u8], from: Mac) -> Option<Question> {
    let (header, rest): (&[u8; HEADER], _) = packet.split_first_chunk()?;
    let message = rest.get(..usize::from(u16::from_be_bytes([header[4], header[5]])))?;
    let address = |at: usize, bytes: &[u8]| Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.get(at..at + 16)?).ok()?));
    let (source, to, target) = (address(8, header)?, address(24, header)?, address(8, message)?);
    let telling = header[0] >> 4 == 6 && (header[6], header[7]) == (ICMP, HOPS) && message[..2] == [SOLICITATION, 0];
    if !telling || checksum(source, to, message) != 0 || source.is_multicast() || target.is_multicast() {
        return None;
    }
    let mut options = message.get(MESSAGE..)?;
    let mut named = false;
    while !options.is_empty() {
        let length = 8 * usize::from(*options.get(1)?);
        named |= options[0] == SOURCE;
        options = options.get(length.max(1)..).filter(|_| length > 0)?;
    }
    // Who looks for duplicates has no address yet, and names no hardware address.
    if source.is_unspecified() {
        return (to == group(target) && !named).then_some(Question { address: target.into(), asker: None });
    }
    Some(Question { address: target.into(), asker: Some((source.into(), from)) })
}

/// "It is at my place", to one who asked.
pub(crate) fn reply(address: Ipv6Addr, mac: Mac, asker: Ipv6Addr, to: Mac) -> Frame {
    advertisement(address, mac, SOLICITED | OVERRIDE, (asker, to))
}

/// "It is at my place", to everyone (RFC 4861, 7.2.6).
pub(crate) fn announcement(address: Ipv6Addr, mac: Mac) -> Frame {
    advertisement(address, mac, OVERRIDE, (EVERYONE, group_mac(EVERYONE)))
}

/// "Does anyone have it?", which changes nobody's memory (RFC 4862, 5.4.2).
pub(crate) fn probe(address: Ipv6Addr) -> Frame {
    let group = group(address);
    frame(SOLICITATION, 0, address, None, Ipv6Addr::UNSPECIFIED, (group, group_mac(group)))
}

fn advertisement(address: Ipv6Addr, mac: Mac, flags: u8, to: (Ipv6Addr, Mac)) -> Frame {
    frame(ADVERTISEMENT, flags, address, Some((TARGET_MAC, mac)), address, to)
}

/// The hardware address of a group (RFC 2464, 7).
fn group_mac(group: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

fn frame(
    kind: u8,
    flags: u8,
    target: Ipv6Addr,
    option: Option<(u8, Mac)>,
    source: Ipv6Addr,
    (to, mac): (Ipv6Addr, Mac),
) -> Frame {
    let mut message = vec![kind, 0, 0, 0, flags, 0, 0, 0];
    message.extend(target.octets());
    if let Some((option, mac)) = option {
        message.extend([option, 1]);
        message.extend(mac);
    }
    let sum = checksum(source, to, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut bytes = vec![0x60, 0, 0, 0, 0, message.len() as u8, ICMP, HOPS];
    bytes.extend(source.octets());
    bytes.extend(to.octets());
    bytes.extend(message);
    Frame { protocol: PROTOCOL, to: mac, bytes }
}

/// The checksum of a message whose own one is 0; 0 for one with a right checksum (RFC 4443, 2.3).
fn checksum(source: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> u16 {
    let words = message.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    let addresses = source.segments().into_iter().chain(to.segments());
    let sum: u32 = addresses.chain(words).map(u32::from).sum();
    let sum = sum + message.len() as u32 + u32::from(ICMP);
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

#[cfg(test)]
mod tests;
