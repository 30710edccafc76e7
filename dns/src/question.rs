//! Questions of the common shape, read as they lie in the packet.

use std::borrow::Cow;

/// The longest name in a packet (RFC 1035 §3.1).
const NAME: usize = 255;

/// The largest message over UDP that we send and that upstreams are told we take
/// (DNS flag day 2020): it fits into one frame everywhere.
pub(crate) const UDP_SIZE: usize = 1232;

/// The record of EDNS (RFC 6891).
pub(crate) const OPT: u16 = 41;
/// From here on types are questions about the zone or the transaction (RFC 6895 §3.1).
pub(crate) const META: u16 = 128;
const IN: u16 = 1;

/// What we say of EDNS, without and with the client's wish for DNSSEC's records.
const OPTIONS: [[u8; 11]; 2] = {
    let [s0, s1] = (UDP_SIZE as u16).to_be_bytes();
    [[0, 0, 41, s0, s1, 0, 0, 0, 0, 0, 0], [0, 0, 41, s0, s1, 0, 0, 0x80, 0, 0, 0]]
};

/// A question of the common shape: one, of class IN, with at most an OPT record of version 0.
pub(crate) struct Question<'a> {
    packet: &'a [u8],
    /// Its name as in the packet, in lower case; borrowed, since most are that already.
    name: Cow<'a, [u8]>,
    pub(crate) kind: u16,
    /// What the client takes, when it speaks EDNS, and whether it wants DNSSEC's records.
    pub(crate) edns: Option<(usize, bool)>,
}

impl<'a> Question<'a> {
    /// Reads a question of the common shape.
    pub(crate) fn parse(packet: &'a [u8]) -> Option<Self> {
        // One question, no answer, no authority, at most one additional; a plain query (RFC 1035 §4.1.1).
        let (header, body) = packet.split_at_checked(12)?;
        if header[2] & 0xfe != 0 || header[4..11] != [0, 1, 0, 0, 0, 0, 0] || header[11] > 1 {
            return None;
        }
        let mut len = 0;
        loop {
            match *body.get(len)? {
                0 => break,
                label if label < 64 => len += 1 + usize::from(label),
                _ => return None,
            }
        }
        len += 1;
        let mut name = Cow::Borrowed(body.get(..len).filter(|name| name.len() <= NAME)?);
        // The lengths in between are below the letters.
        if name.iter().any(u8::is_ascii_uppercase) {
            name.to_mut().make_ascii_lowercase();
        }
        let [k0, k1, c0, c1, rest @ ..] = body.get(len..)? else {
            return None;
        };
        if u16::from_be_bytes([*c0, *c1]) != IN {
            return None;
        }
        let edns = match (header[11], rest) {
            (0, []) => None,
            (1, rest) => Some(edns(rest)?),
            _ => return None,
        };
        Some(Question { packet, name, kind: u16::from_be_bytes([*k0, *k1]), edns })
    }

    /// Its name as in the packet, in lower case.
    pub(crate) fn name(&self) -> &[u8] {
        &self.name
    }

    /// The header and the question, as asked.
    pub(crate) fn asked(&self) -> &'a [u8] {
        &self.packet[..12 + self.name.len() + 4]
    }

    /// Writes the answer that only says that there is a longer one, which is to be had by TCP.
    pub(crate) fn truncated(&self, out: &mut [u8]) -> Option<usize> {
        let (asked, flags) = (self.asked(), self.packet[2] & 0x01);
        out.get_mut(..asked.len())?.copy_from_slice(asked);
        out[2..12].copy_from_slice(&[0x82 | flags, 0x80, 0, 1, 0, 0, 0, 0, 0, 0]);
        Some(asked.len())
    }

    /// The largest answer that the client takes, when the transport takes `room` bytes: only over
    /// UDP, where that is [`UDP_SIZE`], does it depend on the question.
    pub(crate) fn limit(&self, room: usize) -> usize {
        match self.edns {
            _ if room > UDP_SIZE => room,
            Some((size, _)) => size.clamp(512, UDP_SIZE),
            None => 512,
        }
    }

    /// Whether the client wants DNSSEC's records.
    pub(crate) fn dnssec(&self) -> bool {
        self.edns.is_some_and(|(_, dnssec)| dnssec)
    }

    /// The OPT record of its answer: none for a client without EDNS.
    pub(crate) fn option(&self) -> &'static [u8] {
        self.edns.map_or(&[], |(_, dnssec)| &OPTIONS[usize::from(dnssec)])
    }
}

/// True when a name is in a zone, or is its name; both as in packets, in lower case.
pub(crate) fn within(name: &[u8], zone: &[u8]) -> bool {
    let mut rest = name;
    loop {
        if rest == zone {
            return true;
        }
        match rest {
            [length @ 1..64, labels @ ..] => rest = labels.get(usize::from(*length)..).unwrap_or_default(),
            _ => return false,
        }
    }
}

/// Reads an OPT record of version 0 that is the end of the packet (RFC 6891 §6.1.2).
fn edns(record: &[u8]) -> Option<(usize, bool)> {
    let [0, 0, 41, s0, s1, 0, 0, f0, _, l0, l1, options @ ..] = record else {
        return None;
    };
    if options.len() != usize::from(u16::from_be_bytes([*l0, *l1])) || !options.is_empty() && !whole(options) {
        return None;
    }
    Some((usize::from(u16::from_be_bytes([*s0, *s1])), f0 & 0x80 != 0))
}

/// True when options are code, length and as many bytes, one after the other.
fn whole(mut options: &[u8]) -> bool {
    while let [_, _, l0, l1, rest @ ..] = options {
        match rest.get(usize::from(u16::from_be_bytes([*l0, *l1]))..) {
            Some(rest) => options = rest,
            None => return false,
        }
    }
    options.is_empty()
}
