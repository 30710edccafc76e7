//! Packet → packet for the common questions, without parsing them into names or records.

use std::borrow::Cow;
use std::net::IpAddr;

use state::Endpoint;

use crate::question::{META, OPT, Question};
use crate::zone::{Entry, Leads, Origin, Zone, address};

const A: u16 = 1;
const AAAA: u16 = 28;
const SRV: u16 = 33;

/// The header's flags: those of an answer, and those that it takes over from the question.
const ANSWER: u8 = 0x84;
const TRUNCATED: u8 = 0x02;
const RECURSION_DESIRED: u8 = 0x01;
const RECURSION_AVAILABLE: u8 = 0x80;
const CHECKING_DISABLED: u8 = 0x10;
const NXDOMAIN: u8 = 3;

/// The most labels that a name can have (RFC 1035 §3.1).
const LABELS: usize = 128;

/// Where in a message the question's name begins.
const NAME: usize = 12;

/// The size of the SOA record of an answer without others.
const SOA: usize = 54;

/// Writes the answer to a question into `out` and returns its length, or `None` when it is not a
/// common one or not ours. `out` is as large as the transport's largest message; over
/// UDP the client may take less. `turn` rotates the addresses.
pub(crate) fn reply(zone: &Zone, question: &Question, out: &mut [u8], turn: usize) -> Option<usize> {
    if !zone.snapshot.synced || question.kind >= META || matches!(question.kind, OPT | SRV) {
        return None;
    }
    let name = question.name();
    let (mut starts, mut count, mut at) = ([0; LABELS], 0, 0);
    while let Some(length @ 1..) = name.get(at) {
        *starts.get_mut(count)? = at as u8;
        count += 1;
        at += 1 + usize::from(*length);
    }
    let (origin, end) = zone.origin(name, &starts[..count])?;
    let labels = starts[..count].iter().filter(|start| usize::from(**start) < end).count();
    match find(zone, origin, Front { name: &name[..end], starts: &starts[..labels] }, question.kind)? {
        Some(addresses) => write(zone, question, 0, &addresses, end, out, turn),
        None if origin.falls => None,
        None => write(zone, question, NXDOMAIN, &[], end, out, turn),
    }
}

/// True for an answer that says that there is no such name.
pub(crate) fn absent(answer: &[u8]) -> bool {
    answer.get(3).is_some_and(|flags| flags & 0xf == NXDOMAIN)
}

/// The labels of a name in front of its zone.
struct Front<'a> {
    /// As in a packet, in lower case.
    name: &'a [u8],
    starts: &'a [u8],
}

impl Front<'_> {
    /// A label without its length, counted from the right.
    fn label(&self, index: usize) -> &[u8] {
        let start = usize::from(self.starts[self.starts.len() - 1 - index]);
        &self.name[start + 1..][..usize::from(self.name[start])]
    }
}

/// The addresses of the type that is asked for (none of another type); `None` inside when there is
/// no such name, and outside when the slow way has to look.
fn find<'a>(zone: &'a Zone, origin: &Origin, front: Front, kind: u16) -> Option<Option<Cow<'a, [u8]>>> {
    let count = front.starts.len();
    if origin.reverse || count == 0 {
        return None;
    }
    let balancer = match front.label(0) {
        b"svc" => false,
        b"lb" => true,
        b"pod" | b"dns" | b"dns-version" => return None,
        _ => return Some(None),
    };
    if count < 3 {
        let exists = count == 1 || std::str::from_utf8(front.label(1)).is_ok_and(|name| zone.has_namespace(name));
        return Some(exists.then_some(Cow::Borrowed(&[])));
    }
    let [first, last] = [count - 3, count - 1].map(|index| usize::from(front.starts[index]));
    let Some(entry) = zone.entry(&front.name[first..if balancer { front.name.len() } else { last }]) else {
        return Some(None);
    };
    match (count, entry.leads) {
        (3, Leads::Addresses) => Some(Some(Cow::Borrowed(match kind {
            A => entry.v4(),
            AAAA => entry.v6(),
            _ => &[],
        }))),
        (3, Leads::Alias) => None,
        (3, Leads::Nowhere) => Some(None),
        (4, _) if balancer => Some(None),
        (4, _) => Some(endpoint(zone, entry, front.label(3), kind).map(Cow::Owned)),
        _ => None,
    }
}

/// The addresses of the endpoints of this label; `None` when there is none.
fn endpoint(zone: &Zone, entry: &Entry, label: &[u8], kind: u16) -> Option<Vec<u8>> {
    let label = std::str::from_utf8(label).ok()?;
    let address = address(label);
    // Most have no name but their address, which need not be spelt to be compared.
    let called = |own: &&Endpoint| {
        let (named, same) = (own.hostname.is_some() || zone.options.pod_names, Some(own.address) == address);
        let spelt = || zone.options.label(own).eq_ignore_ascii_case(label);
        if named || same && own.address.is_ipv6() { spelt() } else { same }
    };
    let mut found = zone.published(&entry.service).filter(called).map(|endpoint| endpoint.address).peekable();
    found.peek()?;
    let (mut bytes, mut last) = (Vec::new(), None);
    for address in found {
        match address {
            _ if last == Some(address) => {}
            IpAddr::V4(address) if kind == A => bytes.extend_from_slice(&address.octets()),
            IpAddr::V6(address) if kind == AAAA => bytes.extend_from_slice(&address.octets()),
            _ => {}
        }
        last = Some(address);
    }
    Some(bytes)
}

/// Writes header, question, records of these addresses (or else the SOA record) and OPT record;
/// `origin` is where in the name its zone begins.
fn write(
    zone: &Zone,
    question: &Question,
    code: u8,
    addresses: &[u8],
    origin: usize,
    out: &mut [u8],
    turn: usize,
) -> Option<usize> {
    let (packet, option) = (question.asked(), question.option());
    let (asked, size) = (packet.len(), question.limit(out.len()));
    let [t0, t1, t2, t3] = zone.options.ttl.to_be_bytes();
    let octets = if question.kind == AAAA { 16 } else { 4 };
    // A pointer to the question's name, type, class, ttl, length.
    let head = [0xc0, NAME as u8, 0, question.kind as u8, 0, 1, t0, t1, t2, t3, 0, octets as u8];
    let negative = addresses.is_empty();
    if asked + if negative { SOA } else { 0 } + option.len() > size {
        return None;
    }
    let total = addresses.len() / octets;
    let count = total.min((size - asked - option.len()) / (head.len() + octets));
    let truncated = if count < total { TRUNCATED } else { 0 };

    out[..asked].copy_from_slice(packet);
    out[2] = ANSWER | truncated | packet[2] & RECURSION_DESIRED;
    out[3] = RECURSION_AVAILABLE | packet[3] & CHECKING_DISABLED | code;
    out[6..8].copy_from_slice(&(count as u16).to_be_bytes());
    out[8..12].copy_from_slice(&[0, u8::from(negative), 0, u8::from(!option.is_empty())]);
    let mut end = asked;
    let mut put = |bytes: &[u8]| {
        out[end..end + bytes.len()].copy_from_slice(bytes);
        end += bytes.len();
    };
    let (before, after) = addresses.split_at(if total > 0 { turn % total * octets } else { 0 });
    for address in after.chunks_exact(octets).chain(before.chunks_exact(octets)).take(count) {
        put(&head);
        put(address);
    }
    if negative {
        put(&soa(zone, origin));
    }
    put(option);
    Some(end)
}

/// The SOA record, its names being pointers to the zone's in the question.
fn soa(zone: &Zone, origin: usize) -> [u8; SOA] {
    let [p0, p1] = (0xc000 | (NAME + origin) as u16).to_be_bytes();
    let [t0, t1, t2, t3] = zone.soa_ttl().to_be_bytes();
    let mut record = [0; SOA];
    // Type, class, ttl, length; `ns.dns`; `hostmaster`.
    record[..12].copy_from_slice(&[p0, p1, 0, 6, 0, 1, t0, t1, t2, t3, 0, SOA as u8 - 12]);
    record[12..19].copy_from_slice(b"\x02ns\x03dns");
    record[19..21].copy_from_slice(&[p0, p1]);
    record[21..32].copy_from_slice(b"\x0ahostmaster");
    record[32..34].copy_from_slice(&[p0, p1]);
    record[34..].copy_from_slice(&zone.soa_numbers());
    record
}

#[cfg(test)]
mod tests;
