//! ARP (RFC 826): who has an IPv4 address on a link; and how it is announced and probed for (RFC 5227).

use std::net::Ipv4Addr;

use super::links::Mac;
use super::wire::{Frame, Question};

/// The protocol of the frames.
pub(crate) const PROTOCOL: u16 = 0x0806;
/// Ethernet, IPv4, and the lengths of their addresses.
const KIND: [u8; 6] = [0, 1, 8, 0, 6, 4];
/// The operations.
const REQUEST: u16 = 1;
const REPLY: u16 = 2;
const EVERYONE: Mac = [0xff; 6];

/// What a filter has to see: 16-bit words, by their place; and where the target's address is.
pub(crate) const TELLING: [(u32, u16); 2] = [(2, 0x0800), (6, REQUEST)];
pub(crate) const TARGET: u32 = 24;

/// What a frame asks; none if it is broken, no request, or an announcement.
pub(crate) fn read(frame: &[u8]) -> Option<Question> {
    let frame: &[u8; 28] = frame.first_chunk()?;
    let (head, rest) = frame.split_at(KIND.len());
    let (operation, rest) = rest.split_at(2);
    let (mac, rest): (&Mac, _) = rest.split_first_chunk()?;
    let (sender, rest): (&[u8; 4], _) = rest.split_first_chunk()?;
    let target: &[u8; 4] = rest.last_chunk()?;
    let (sender, target) = (Ipv4Addr::from(*sender), Ipv4Addr::from(*target));
    // The sender is one machine, and does not speak of itself.
    let group = mac[0] & 1 != 0 || sender.is_broadcast() || sender.is_multicast();
    if head != KIND || operation != REQUEST.to_be_bytes() || group || sender == target {
        return None;
    }
    // Who probes for the address has none yet (RFC 5227, 1.1).
    let asker = (!sender.is_unspecified()).then_some((sender.into(), *mac));
    Some(Question { address: target.into(), asker })
}

/// "It is at my place", to one who asked.
pub(crate) fn reply(address: Ipv4Addr, mac: Mac, asker: Ipv4Addr, to: Mac) -> Frame {
    frame(REPLY, (mac, address), (to, asker), to)
}

/// "It is at my place", to everyone (RFC 5227, 2.3).
pub(crate) fn announcement(address: Ipv4Addr, mac: Mac) -> Frame {
    frame(REQUEST, (mac, address), (Mac::default(), address), EVERYONE)
}

/// "Does anyone have it?", which changes nobody's memory (RFC 5227, 2.1.1).
pub(crate) fn probe(address: Ipv4Addr, mac: Mac) -> Frame {
    frame(REQUEST, (mac, Ipv4Addr::UNSPECIFIED), (Mac::default(), address), EVERYONE)
}

fn frame(operation: u16, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr), to: Mac) -> Frame {
    let mut bytes = KIND.to_vec();
    bytes.extend(operation.to_be_bytes());
    for (mac, address) in [sender, target] {
        bytes.extend(mac);
        bytes.extend(address.octets());
    }
    Frame { protocol: PROTOCOL, to, bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINE: Mac = [2, 0, 0, 0, 0, 1];
    const THEIRS: Mac = [2, 0, 0, 0, 0, 2];
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 240);
    const ASKER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);

    fn request(sender: Ipv4Addr, mac: Mac) -> Vec<u8> {
        frame(REQUEST, (mac, sender), (Mac::default(), ADDRESS), EVERYONE).bytes
    }

    #[test]
    fn questions() {
        let asked = |asker| Some(Question { address: ADDRESS.into(), asker });
        let good = request(ASKER, THEIRS);
        let mut padded = good.clone();
        padded.resize(46, 0);
        for (what, bytes, want) in [
            ("a request", good.clone(), asked(Some((ASKER.into(), THEIRS)))),
            ("padded by Ethernet", padded, asked(Some((ASKER.into(), THEIRS)))),
            ("a probe", probe(ADDRESS, THEIRS).bytes, asked(None)),
            ("an announcement", announcement(ADDRESS, THEIRS).bytes, None),
            ("a reply", reply(ASKER, MINE, ADDRESS, THEIRS).bytes, None),
            ("from a group", request(ASKER, [1, 0, 0x5e, 0, 0, 1]), None),
            ("from everyone", request(Ipv4Addr::BROADCAST, THEIRS), None),
            ("cut", good[..27].to_vec(), None),
            ("nothing", Vec::new(), None),
        ] {
            assert_eq!(read(&bytes), want, "{what}");
        }
        // No other network, protocol, length of addresses or operation.
        for at in 0..8 {
            let mut other = good.clone();
            other[at] ^= 2;
            assert_eq!(read(&other), None, "{at}");
        }
    }

    #[test]
    fn answers() {
        let Frame { protocol, to, bytes } = reply(ADDRESS, MINE, ASKER, THEIRS);
        assert_eq!((protocol, to), (0x0806, THEIRS));
        let want = [0, 1, 8, 0, 6, 4, 0, 2, 2, 0, 0, 0, 0, 1, 10, 0, 0, 240, 2, 0, 0, 0, 0, 2, 10, 0, 0, 7];
        assert_eq!(bytes, want);
        let told = announcement(ADDRESS, MINE);
        assert_eq!((told.to, told.bytes[14..18].to_vec()), (EVERYONE, told.bytes[24..].to_vec()));
    }
}
