//! Which answers are kept, and for how long (RFC 2308, and CoreDNS's classes).

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// What a cache is divided into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Success,
    Denial,
    /// Kept among the denials, and only told when there is no success.
    Failure,
}

/// Bounds of the time that answers of a kind are kept, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) least: u32,
    pub(crate) most: u32,
}

impl Bounds {
    fn clamp(self, ttl: u32) -> u32 {
        ttl.max(self.least).min(self.most)
    }
}

/// The TTL of answers that do not say any.
const UNSAID: u32 = 5;

/// The kind of an answer, or `None` when it is not to be kept. `unix` is the time in seconds since
/// 1970, of which signatures need the lower 32 bits.
pub(crate) fn kind(message: &Message, unix: u32) -> Option<Kind> {
    let soa = message.authorities.iter().any(|record| record.record_type() == RecordType::SOA);
    let signed = message.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);
    if message.metadata.truncation || signed && message.all_sections().any(|record| expired(record, unix)) {
        return None;
    }
    match message.metadata.response_code {
        ResponseCode::NoError if message.answers.is_empty() && !soa => Some(Kind::Success),
        ResponseCode::NoError if resolves(message) => Some(Kind::Success),
        ResponseCode::NoError | ResponseCode::NXDomain if !soa => None,
        ResponseCode::NoError => Some(Kind::Denial),
        ResponseCode::NXDomain if message.answers.is_empty() => Some(Kind::Denial),
        ResponseCode::ServFail | ResponseCode::NotImp => Some(Kind::Failure),
        _ => None,
    }
}

/// The TTL of an answer of a kind: its lowest one, in the bounds. That of a denial is also no
/// higher than its SOA says (RFC 2308 §5), and a delegation has the one of answers without any.
pub(crate) fn ttl(message: &Message, kind: Kind, bounds: Bounds) -> u32 {
    let delegates = || message.authorities.iter().any(|record| record.record_type() == RecordType::NS);
    let lowest = match kind {
        Kind::Success if message.answers.is_empty() && delegates() => None,
        Kind::Success => message.all_sections().map(|record| record.ttl).min(),
        Kind::Denial => message.all_sections().map(negative).min(),
        Kind::Failure => None,
    };
    bounds.clamp(lowest.unwrap_or(UNSAID))
}

fn negative(record: &Record) -> u32 {
    match &record.data {
        RData::SOA(soa) => record.ttl.min(soa.minimum),
        _ => record.ttl,
    }
}

/// True when the answers hold what is asked for, at the end of the aliases that begin at its name.
/// Aliases that go in a circle or to two places lead nowhere.
pub(crate) fn resolves(message: &Message) -> bool {
    let Some(query) = message.queries.first() else {
        return false;
    };
    let (mut name, kind) = (query.name(), query.query_type());
    let at = |name: &Name, kind: RecordType| {
        let wanted = move |record: &Record| kind == RecordType::ANY || record.record_type() == kind;
        message
            .answers
            .iter()
            .any(|record| record.dns_class == query.query_class() && record.name == *name && wanted(record))
    };
    if kind != RecordType::CNAME && kind != RecordType::ANY {
        // No chain without a circle is longer than there are records.
        for _ in 0..=message.answers.len() {
            match alias(message, name) {
                Some(target) => name = target,
                None => return at(name, kind),
            }
        }
        return false;
    }
    at(name, kind)
}

/// Where a name leads: to itself when there are several targets.
fn alias<'a>(message: &'a Message, name: &'a Name) -> Option<&'a Name> {
    let mut targets =
        message.answers.iter().filter(|record| record.name == *name).filter_map(|record| match &record.data {
            RData::CNAME(target) => Some(&target.0),
            _ => None,
        });
    let first = targets.next()?;
    Some(if targets.all(|other| other == first) { first } else { name })
}

/// True for a signature that is not valid now (RFC 4034 §3.1.5).
fn expired(record: &Record, unix: u32) -> bool {
    let RData::Unknown { code: RecordType::RRSIG, rdata } = &record.data else {
        return false;
    };
    let [_, _, _, _, _, _, _, _, e0, e1, e2, e3, i0, i1, i2, i3, ..] = rdata.anything[..] else {
        return true;
    };
    let before = |a: u32, b: u32| a.wrapping_sub(b) > u32::MAX / 2;
    before(u32::from_be_bytes([e0, e1, e2, e3]), unix) || before(unix, u32::from_be_bytes([i0, i1, i2, i3]))
}

#[cfg(test)]
mod tests;
