//! Packet → packet for the common questions, without parsing them into names or records.

use std::net::Ipv4Addr;

use crate::zone::{RECORD, Ready, Zone};

/// The largest message over UDP that we send and that upstreams are told we take
/// (DNS flag day 2020): it fits into one frame everywhere.
pub(crate) const UDP_SIZE: usize = 1232;

const A: u16 = 1;
const AAAA: u16 = 28;
const OPT: u16 = 41;
/// From here on types are questions about the zone or the transaction (RFC 6895 §3.1).
const META: u16 = 128;
const IN: u16 = 1;

/// The header's flags: those of an answer, and those that it takes over from the question.
const ANSWER: u8 = 0x84;
const TRUNCATED: u8 = 0x02;
const RECURSION_DESIRED: u8 = 0x01;
const RECURSION_AVAILABLE: u8 = 0x80;
const CHECKING_DISABLED: u8 = 0x10;
const NXDOMAIN: u8 = 3;

/// A question of the common shape: one, of class IN, with at most an OPT record of version 0.
struct Question {
    /// Its name as in the packet, in lower case.
    name: [u8; 255],
    /// The length of `name`.
    len: usize,
    kind: u16,
    /// What the client takes, when it speaks EDNS, and whether it wants DNSSEC's records.
    edns: Option<(usize, bool)>,
}

/// Writes the answer to `packet` into `out` and returns its length, or `None` when the question
/// is not a common one or not ours. `out` is as large as the transport's largest message; over
/// UDP the client may take less. `turn` rotates the addresses.
pub(crate) fn reply(zone: &Zone, packet: &[u8], out: &mut [u8], turn: usize) -> Option<usize> {
    if !zone.snapshot.synced {
        return None;
    }
    let question = parse(packet)?;
    let name = &question.name[..question.len];
    let (code, records) = match zone.names.get(name) {
        Some(Ready::Alias) => return None,
        Some(Ready::Addresses(records)) => match question.kind {
            A => (0, &records[..]),
            AAAA => (0, &[][..]),
            _ => return None,
        },
        None if question.kind < META && question.kind != OPT && absent(zone, name) => (NXDOMAIN, &[][..]),
        None => return None,
    };
    write(zone, packet, &question, code, records, out, turn)
}

/// Reads a question of the common shape.
fn parse(packet: &[u8]) -> Option<Question> {
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
    let mut name = [0; 255];
    let lower = name.get_mut(..len)?;
    lower.copy_from_slice(body.get(..len)?);
    // The lengths in between are below the letters.
    lower.make_ascii_lowercase();
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
    Some(Question { name, len, kind: u16::from_be_bytes([*k0, *k1]), edns })
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

/// True for a name under the domain that nothing can make exist: not one of a pod, whose
/// address is in its name.
fn absent(zone: &Zone, name: &[u8]) -> bool {
    let Some(front) = name.len().checked_sub(zone.suffix.len()) else {
        return false;
    };
    if name[front..] != *zone.suffix {
        return false;
    }
    let (mut at, mut last) = (0, 0);
    while at < front {
        last = at;
        at += 1 + usize::from(name[at]);
    }
    at == front && &name[last..front] != b"\x03pod"
}

fn write(
    zone: &Zone,
    packet: &[u8],
    question: &Question,
    code: u8,
    records: &[u8],
    out: &mut [u8],
    turn: usize,
) -> Option<usize> {
    let asked = 12 + question.len + 4;
    let option = if question.edns.is_some() { 11 } else { 0 };
    let size = match question.edns {
        _ if out.len() > UDP_SIZE => out.len(),
        Some((size, _)) => size.clamp(512, UDP_SIZE),
        None => 512,
    };
    let negative = if records.is_empty() { &zone.negative[..] } else { &[] };
    if asked + negative.len() + option > size {
        return None;
    }
    let room = (size - asked - option) / RECORD;
    let total = records.len() / RECORD;
    let count = total.min(room);
    let truncated = if count < total { TRUNCATED } else { 0 };

    out[..asked].copy_from_slice(&packet[..asked]);
    out[2] = ANSWER | truncated | packet[2] & RECURSION_DESIRED;
    out[3] = RECURSION_AVAILABLE | packet[3] & CHECKING_DISABLED | code;
    out[6..8].copy_from_slice(&(count as u16).to_be_bytes());
    out[8..12].copy_from_slice(&[0, u8::from(!negative.is_empty()), 0, u8::from(option > 0)]);
    let mut end = asked;
    let mut put = |bytes: &[u8]| {
        out[end..end + bytes.len()].copy_from_slice(bytes);
        end += bytes.len();
    };
    let (before, after) = records.split_at(if total > 0 { turn % total * RECORD } else { 0 });
    let first = after.len().min(count * RECORD);
    put(&after[..first]);
    put(&before[..count * RECORD - first]);
    put(negative);
    if let Some((_, dnssec)) = question.edns {
        let [s0, s1] = (UDP_SIZE as u16).to_be_bytes();
        put(&[0, 0, 41, s0, s1, 0, 0, if dnssec { 0x80 } else { 0 }, 0, 0, 0]);
    }
    Some(end)
}

/// The address in a name such as `10-244-0-7`.
pub(crate) fn dashed(label: &str) -> Option<Ipv4Addr> {
    if label.contains('.') {
        return None;
    }
    label.replace('-', ".").parse().ok()
}

#[cfg(test)]
mod tests;
