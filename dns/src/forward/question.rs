//! A question as upstreams get it, and which packets answer it.

use hickory_proto::ProtoError;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};

use crate::question::UDP_SIZE;
use crate::request::Request;

/// An OPT record without options (RFC 6891 §6.1.2).
const OPT: usize = 11;

/// The header of a message (RFC 1035 §4.1.1).
const HEADER: usize = 12;

/// A random number that nobody can guess.
pub(crate) fn random() -> u16 {
    Message::query().metadata.id
}

/// A question without an id: equal ones have equal answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Question(Vec<u8>);

impl Question {
    /// What a request asks of others: its name, letter by letter, and the bits that change an
    /// answer. The options of its EDNS are meant for us alone (RFC 6891 §6.2.6, RFC 7873 §5).
    pub(crate) fn of(request: &Request) -> Result<Self, ProtoError> {
        let (asked, edns) = (&request.message.metadata, request.message.edns.as_ref());
        let mut message = Message::new(0, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = asked.recursion_desired;
        message.metadata.authentic_data = asked.authentic_data;
        message.metadata.checking_disabled = asked.checking_disabled;
        Self::with(message, request.query.clone(), edns.is_some_and(|edns| edns.flags().dnssec_ok))
    }

    /// Whether an upstream lives is seen by this one.
    pub(crate) fn check(query: Query, recursion_desired: bool) -> Result<Self, ProtoError> {
        let mut message = Message::new(0, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = recursion_desired;
        Self::with(message, query, false)
    }

    fn with(mut message: Message, query: Query, dnssec_ok: bool) -> Result<Self, ProtoError> {
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_SIZE as u16).set_dnssec_ok(dnssec_ok);
        message.set_edns(edns).add_query(query);
        message.to_vec().map(Question)
    }

    /// The same for upstreams that know no EDNS.
    pub(crate) fn plain(&self) -> Self {
        let mut packet = self.0.clone();
        packet.truncate(packet.len() - OPT);
        packet[11] = 0;
        Question(packet)
    }

    /// The packet under an id.
    pub(crate) fn under(&self, id: u16) -> Vec<u8> {
        [&id.to_be_bytes(), &self.0[2..]].concat()
    }

    /// True for an answer to this very question under `id`: the same words where the answer
    /// repeats them (RFC 5452 §9.1).
    pub(crate) fn answered_by(&self, id: u16, answer: &[u8]) -> bool {
        let Some(header) = answer.first_chunk::<HEADER>() else {
            return false;
        };
        if header[..2] != id.to_be_bytes() || header[2] & 0xf8 != 0x80 {
            return false;
        }
        let words = &self.0[HEADER..self.end()];
        match header[4..6] {
            // Some refuse with nothing but a header.
            [0, 0] => header[3] & 0x0f != 0,
            [0, 1] => answer[HEADER..].get(..words.len()).is_some_and(|same| same.eq_ignore_ascii_case(words)),
            _ => false,
        }
    }

    /// Where the question section ends.
    fn end(&self) -> usize {
        let mut at = HEADER;
        while let Some(&label @ 1..64) = self.0.get(at) {
            at += 1 + usize::from(label);
        }
        (at + 5).min(self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::{Name, RecordType};

    use super::*;

    #[test]
    fn answers_and_forgeries() {
        let query = Query::query(Name::from_ascii("www.Example.org.").unwrap(), RecordType::A);
        let question = Question::check(query.clone(), true).unwrap();
        assert_eq!(question.0.len() - question.plain().0.len(), OPT);
        assert_eq!(Message::from_vec(&question.plain().0).unwrap().edns, None);
        let mut answer = question.under(0x0102);
        answer[2] |= 0x80;
        let changed = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut packet = answer.clone();
            change(&mut packet);
            question.answered_by(0x0102, &packet)
        };
        let header_only = |packet: &mut Vec<u8>| {
            packet.truncate(HEADER);
            packet[4..].fill(0);
        };
        let table: [(&str, bool, bool); 9] = [
            ("as it is", changed(&|_| {}), true),
            ("in lower case", changed(&|packet| packet.make_ascii_lowercase()), true),
            ("another id", changed(&|packet| packet[0] ^= 1), false),
            ("a question", changed(&|packet| packet[2] &= 0x7f), false),
            ("another operation", changed(&|packet| packet[2] |= 0x28), false),
            ("another name", changed(&|packet| packet[14] ^= 1), false),
            ("cut in its question", changed(&|packet| packet.truncate(20)), false),
            ("a header that says nothing", changed(&header_only), false),
            (
                "a header that refuses",
                changed(&|packet| {
                    header_only(packet);
                    packet[3] |= 5;
                }),
                true,
            ),
        ];
        for (what, is, want) in table {
            assert_eq!(is, want, "{what}");
        }
        let other = Query::query(query.name().clone(), RecordType::AAAA);
        assert!(!Question::check(other, true).unwrap().answered_by(0x0102, &answer), "another type");
    }
}
