//! Packet → packet for the common questions, without parsing them into names or records.

use std::net::Ipv4Addr;

use crate::question::{META, OPT, Question};
use crate::zone::{RECORD, Ready, Zone};

const A: u16 = 1;
const AAAA: u16 = 28;

/// The header's flags: those of an answer, and those that it takes over from the question.
const ANSWER: u8 = 0x84;
const TRUNCATED: u8 = 0x02;
const RECURSION_DESIRED: u8 = 0x01;
const RECURSION_AVAILABLE: u8 = 0x80;
const CHECKING_DISABLED: u8 = 0x10;
const NXDOMAIN: u8 = 3;

/// Writes the answer to a question into `out` and returns its length, or `None` when it is not a
/// common one or not ours. `out` is as large as the transport's largest message; over
/// UDP the client may take less. `turn` rotates the addresses.
pub(crate) fn reply(zone: &Zone, question: &Question, out: &mut [u8], turn: usize) -> Option<usize> {
    if !zone.snapshot.synced {
        return None;
    }
    let name = question.name();
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
    write(zone, question, code, records, out, turn)
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

fn write(zone: &Zone, question: &Question, code: u8, records: &[u8], out: &mut [u8], turn: usize) -> Option<usize> {
    let (packet, option) = (question.asked(), question.option());
    let (asked, size) = (packet.len(), question.limit(out.len()));
    let negative = if records.is_empty() { &zone.negative[..] } else { &[] };
    if asked + negative.len() + option.len() > size {
        return None;
    }
    let room = (size - asked - option.len()) / RECORD;
    let total = records.len() / RECORD;
    let count = total.min(room);
    let truncated = if count < total { TRUNCATED } else { 0 };

    out[..asked].copy_from_slice(packet);
    out[2] = ANSWER | truncated | packet[2] & RECURSION_DESIRED;
    out[3] = RECURSION_AVAILABLE | packet[3] & CHECKING_DISABLED | code;
    out[6..8].copy_from_slice(&(count as u16).to_be_bytes());
    out[8..12].copy_from_slice(&[0, u8::from(!negative.is_empty()), 0, u8::from(!option.is_empty())]);
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
    put(option);
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
