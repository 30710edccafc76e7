//! Packets in and out of the slow way, by hickory.

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, Record};

use crate::fast::UDP_SIZE;

/// The largest message over TCP (RFC 1035 §4.2.2).
pub(crate) const TCP_SIZE: usize = 65535;

/// The answer to what can't be read has a header only, so nothing grows on its way back.
const HEADER: usize = 12;

/// How many additional records a question may have: OPT, TSIG and room for one more.
const ADDITIONALS: u16 = 3;

/// How a question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// A question that can be answered.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) message: Message,
    /// The largest answer that its sender takes.
    pub(crate) limit: usize,
}

/// What a packet turned out to be.
#[derive(Debug)]
pub(crate) enum Read {
    Request(Box<Request>),
    /// It is answered by this.
    Reply(Vec<u8>),
    /// It is not answered: too short for a header, or an answer itself (two servers would
    /// answer each other for ever).
    Silence,
}

/// Reads a packet.
pub(crate) fn read(packet: &[u8], transport: Transport) -> Read {
    let Some(header) = packet.first_chunk::<HEADER>() else {
        return Read::Silence;
    };
    let count = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    if header[2] & 0x80 != 0 {
        return Read::Silence;
    }
    if header[2] & 0x78 != 0 {
        return Read::Reply(bare(header, ResponseCode::NotImp));
    }
    if count(4) != 1 || count(6) != 0 || count(8) != 0 || count(10) > ADDITIONALS {
        return Read::Reply(bare(header, ResponseCode::FormErr));
    }
    let Ok(message) = Message::from_vec(packet) else {
        return Read::Reply(bare(header, ResponseCode::FormErr));
    };
    let [query] = &message.queries[..] else {
        return Read::Reply(bare(header, ResponseCode::FormErr));
    };
    let class = query.query_class();
    let limit = match (transport, &message.edns) {
        (Transport::Tcp, _) => TCP_SIZE,
        (Transport::Udp, Some(edns)) => usize::from(edns.max_payload()).clamp(512, UDP_SIZE),
        (Transport::Udp, None) => 512,
    };
    let request = Request { message, limit };
    if request.message.edns.as_ref().is_some_and(|edns| edns.version() != 0) {
        return Read::Reply(request.fail(ResponseCode::BADVERS));
    }
    if class != DNSClass::IN {
        return Read::Reply(request.fail(ResponseCode::Refused));
    }
    Read::Request(Box::new(request))
}

/// A header with a code.
fn bare(header: &[u8; HEADER], code: ResponseCode) -> Vec<u8> {
    let mut reply = vec![0; HEADER];
    reply[..2].copy_from_slice(&header[..2]);
    reply[2] = 0x80 | header[2] & 0x79;
    reply[3] = 0x80 | code.low();
    reply
}

/// The sections of an answer.
#[derive(Debug, Default)]
pub(crate) struct Sections {
    pub(crate) answers: Vec<Record>,
    pub(crate) authorities: Vec<Record>,
    pub(crate) additionals: Vec<Record>,
}

impl Request {
    /// The answer to this question, cut down to what its sender takes: what does not fit is left
    /// out and the answer marked, so that the sender asks again by TCP.
    pub(crate) fn reply(&self, code: ResponseCode, authoritative: bool, sections: Sections) -> Vec<u8> {
        let mut reply = self.message(code);
        reply.metadata.authoritative = authoritative;
        reply.answers = sections.answers;
        reply.authorities = sections.authorities;
        reply.additionals = sections.additionals;
        let mut bytes = self.bytes(&reply);
        if bytes.len() > self.limit && !reply.additionals.is_empty() {
            // Addresses that come along are a courtesy (RFC 2181 §9).
            reply.additionals.clear();
            bytes = self.bytes(&reply);
        }
        if bytes.len() > self.limit {
            reply.metadata.truncation = true;
            reply.authorities.clear();
            // Records of one kind are about as long as each other: this leaves a few too many.
            reply.answers.truncate(reply.answers.len() * self.limit / bytes.len());
            bytes = self.bytes(&reply);
            while bytes.len() > self.limit && reply.answers.pop().is_some() {
                bytes = self.bytes(&reply);
            }
        }
        bytes
    }

    /// An answer without records.
    pub(crate) fn fail(&self, code: ResponseCode) -> Vec<u8> {
        self.bytes(&self.message(code))
    }

    fn message(&self, code: ResponseCode) -> Message {
        let asked = &self.message;
        let mut reply = Message::new(asked.metadata.id, MessageType::Response, OpCode::Query);
        reply.metadata = Metadata::response_from_request(&asked.metadata);
        reply.metadata.recursion_available = true;
        reply.metadata.response_code = code;
        reply.queries = asked.queries.clone();
        reply.edns = asked.edns.as_ref().map(|asked| {
            let mut edns = Edns::new();
            edns.set_max_payload(UDP_SIZE as u16).set_dnssec_ok(asked.flags().dnssec_ok);
            edns
        });
        reply
    }

    fn bytes(&self, reply: &Message) -> Vec<u8> {
        reply.to_vec().unwrap_or_else(|_| {
            let mut header = [0; HEADER];
            header[..2].copy_from_slice(&reply.metadata.id.to_be_bytes());
            bare(&header, ResponseCode::ServFail)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_question() {
        let header = |flags: u8, counts: [u8; 4]| {
            let [questions, answers, authorities, additionals] = counts;
            vec![1, 2, flags, 0, 0, questions, 0, answers, 0, authorities, 0, additionals]
        };
        let table = [
            (vec![], None),
            (vec![0; 11], None),
            (header(0x80, [1, 0, 0, 0]), None),
            (header(0x10, [0, 0, 0, 0]), Some(ResponseCode::NotImp)),
            (header(0x21, [0, 0, 0, 0]), Some(ResponseCode::NotImp)),
            (header(0, [0, 0, 0, 0]), Some(ResponseCode::FormErr)),
            (header(0, [2, 0, 0, 0]), Some(ResponseCode::FormErr)),
            (header(0, [1, 1, 0, 0]), Some(ResponseCode::FormErr)),
            (header(0, [1, 0, 1, 0]), Some(ResponseCode::FormErr)),
            (header(0, [1, 0, 0, 9]), Some(ResponseCode::FormErr)),
            (header(0, [1, 0, 0, 0]), Some(ResponseCode::FormErr)),
        ];
        for (packet, want) in table {
            let code = match read(&packet, Transport::Udp) {
                Read::Silence => None,
                Read::Reply(reply) => {
                    assert_eq!((reply.len(), &reply[..2]), (HEADER, &[1, 2][..]));
                    Some(Message::from_vec(&reply).unwrap().metadata.response_code)
                }
                Read::Request(request) => panic!("{request:?}"),
            };
            assert_eq!(code, want, "{packet:?}");
        }
    }
}
