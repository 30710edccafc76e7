//! A question on its way through the chain, and what comes back; packets in and out, by hickory.

use std::net::SocketAddr;
use std::sync::Arc;

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{DNSClass, Name, Record, RecordType};

use crate::question::UDP_SIZE;
use crate::servers::Servers;

/// The largest message over TCP (RFC 1035 §4.2.2).
pub(crate) const TCP_SIZE: usize = 65535;

/// The answer to what can't be read has a header only, so nothing grows on its way back.
const HEADER: usize = 12;

/// How many additional records a question may have: OPT, TSIG and room for one more.
const ADDITIONALS: u16 = 3;

/// How often one question may lead to another of our own (the target of an alias).
const DEPTH: u8 = 8;

/// The option of EDNS that says why an answer is as it is (RFC 8914).
const EXTENDED_ERROR: EdnsCode = EdnsCode::Unknown(15);

/// How a question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// How a packet came and what it may lead to.
#[derive(Clone)]
pub(crate) struct Context {
    /// Who asks.
    pub(crate) client: SocketAddr,
    /// Our address that was asked.
    pub(crate) server: SocketAddr,
    pub(crate) transport: Transport,
    /// The server blocks of the socket, for names that an answer leads to.
    pub(crate) servers: Arc<Servers>,
}

/// A question that can be answered: a query of class IN.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) query: Query,
    /// The rest of the question: header and EDNS; its list of queries is empty.
    pub(crate) message: Message,
    pub(crate) context: Context,
    /// The largest answer that its sender takes, in bytes.
    pub(crate) limit: usize,
    /// How many questions led to this one.
    depth: u8,
}

/// What comes back through the chain.
pub(crate) struct Reply {
    pub(crate) body: Body,
    /// The name of the plugin that answered.
    pub(crate) plugin: &'static str,
}

/// The messages of a reply.
pub(crate) enum Body {
    /// One, of any size: it is cut down to what the client takes at the very end.
    Message(Box<Message>),
    /// Any number, one after the other: a zone's. Over TCP alone; none has to be cut down.
    Messages(Box<dyn Iterator<Item = Message> + Send>),
    /// None: the client gets nothing.
    Silence,
}

/// What is sent back for a packet.
pub(crate) enum Packets {
    One(Vec<u8>),
    Many(Box<dyn Iterator<Item = Vec<u8>> + Send>),
}

impl Packets {
    /// The packet for a transport that takes no more than one.
    pub(crate) fn one(self) -> Option<Vec<u8>> {
        match self {
            Packets::One(packet) => Some(packet),
            Packets::Many(mut packets) => packets.next(),
        }
    }
}

/// A question that got no answer; the client is told the code.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: ResponseCode,
    /// For the log; empty when it is no error.
    pub(crate) reason: String,
}

impl Failure {
    /// SERVFAIL.
    pub(crate) fn server(reason: impl Into<String>) -> Self {
        Failure { code: ResponseCode::ServFail, reason: reason.into() }
    }
}

/// What a packet turned out to be.
pub(crate) enum Read {
    Request(Box<Request>),
    /// It is answered by this.
    Reply(Vec<u8>),
    /// It is not answered: too short for a header, or an answer itself (two servers would
    /// answer each other for ever).
    Silence,
}

/// Reads a packet.
pub(crate) fn read(packet: &[u8], context: Context) -> Read {
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
    // A question for what changed in a zone says from where on (RFC 1995 §3).
    if count(4) != 1 || count(6) != 0 || count(8) > 1 || count(10) > ADDITIONALS {
        return Read::Reply(bare(header, ResponseCode::FormErr));
    }
    let Ok(mut message) = Message::from_vec(packet) else {
        return Read::Reply(bare(header, ResponseCode::FormErr));
    };
    let Some(query) = message.queries.pop() else {
        return Read::Reply(bare(header, ResponseCode::FormErr));
    };
    let limit = match (context.transport, &message.edns) {
        (Transport::Tcp, _) => TCP_SIZE,
        (Transport::Udp, Some(edns)) => usize::from(edns.max_payload()).clamp(512, UDP_SIZE),
        (Transport::Udp, None) => 512,
    };
    let request = Request { query, message, context, limit, depth: 0 };
    if request.message.edns.as_ref().is_some_and(|edns| edns.version() != 0) {
        return Read::Reply(request.fail(ResponseCode::BADVERS));
    }
    if request.query.query_class() != DNSClass::IN {
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
    /// The name that is asked for.
    pub(crate) fn name(&self) -> &Name {
        self.query.name()
    }

    /// The type that is asked for.
    pub(crate) fn kind(&self) -> RecordType {
        self.query.query_type()
    }

    /// The whole question.
    pub(crate) fn question(&self) -> Message {
        let mut message = self.message.clone();
        message.queries = vec![self.query.clone()];
        message
    }

    /// Asks our own servers for another name on behalf of this question, as the client would:
    /// what an alias leads to. An error after too many steps.
    pub(crate) async fn look_up(&self, name: Name, kind: RecordType) -> Result<Reply, Failure> {
        let depth = self.depth + 1;
        if depth > DEPTH {
            return Err(Failure::server(format!("{name}: more than {DEPTH} aliases, or a circle of them")));
        }
        let request = Request { query: Query::query(name, kind), depth, ..self.clone() };
        self.context.servers.clone().handle(request).await
    }

    /// An answer to this question.
    pub(crate) fn reply(&self, code: ResponseCode, authoritative: bool, sections: Sections) -> Message {
        let asked = &self.message;
        let mut reply = Message::new(asked.metadata.id, MessageType::Response, OpCode::Query);
        reply.metadata = Metadata::response_from_request(&asked.metadata);
        reply.metadata.recursion_available = true;
        reply.metadata.response_code = code;
        reply.metadata.authoritative = authoritative;
        reply.queries = vec![self.query.clone()];
        reply.answers = sections.answers;
        reply.authorities = sections.authorities;
        reply.additionals = sections.additionals;
        reply
    }

    /// The packet of an answer without records.
    pub(crate) fn fail(&self, code: ResponseCode) -> Vec<u8> {
        self.encode(self.reply(code, false, Sections::default()))
    }

    /// The packet of an answer, cut down to what its client takes: what does not fit is left out
    /// and the answer marked, so that the client asks again by TCP.
    pub(crate) fn encode(&self, mut reply: Message) -> Vec<u8> {
        reply.metadata.id = self.message.metadata.id;
        reply.queries = vec![self.query.clone()];
        reply.edns = self.message.edns.as_ref().map(|asked| {
            let mut edns = Edns::new();
            edns.set_max_payload(UDP_SIZE as u16).set_dnssec_ok(asked.flags().dnssec_ok);
            let said = reply.edns.as_ref().and_then(|said| said.option(EXTENDED_ERROR));
            said.into_iter().for_each(|error| edns.options_mut().insert(error.clone()));
            edns
        });
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

    fn bytes(&self, reply: &Message) -> Vec<u8> {
        reply.to_vec().unwrap_or_else(|_| {
            let mut header = [0; HEADER];
            header[..2].copy_from_slice(&reply.metadata.id.to_be_bytes());
            bare(&header, ResponseCode::ServFail)
        })
    }
}

/// Adds to an answer why it is as it is: an extended error (RFC 8914 §4), for clients that speak EDNS.
pub(crate) fn extended_error(reply: &mut Message, code: u16, text: &str) {
    let data = [&code.to_be_bytes()[..], text.as_bytes()].concat();
    let options = reply.edns.get_or_insert_with(Edns::new).options_mut();
    options.insert(EdnsOption::Unknown(EXTENDED_ERROR.into(), data));
}

impl Reply {
    /// A message, by the plugin of this name.
    pub(crate) fn message(plugin: &'static str, message: Message) -> Self {
        Reply { body: Body::Message(Box::new(message)), plugin }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

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
        let servers = Arc::new(fixture::servers("", fixture::cluster().snapshot()));
        let context = fixture::request("a.", RecordType::A, &servers).context;
        for (packet, want) in table {
            let code = match read(&packet, context.clone()) {
                Read::Silence => None,
                Read::Reply(reply) => {
                    assert_eq!((reply.len(), &reply[..2]), (HEADER, &[1, 2][..]));
                    Some(Message::from_vec(&reply).unwrap().metadata.response_code)
                }
                Read::Request(_) => panic!("a request"),
            };
            assert_eq!(code, want, "{packet:?}");
        }
    }
}
