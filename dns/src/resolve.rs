//! The slow way: any question, from packet to packet.

use std::sync::RwLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, Record, RecordType};
use tokio::sync::Semaphore;

use crate::answer::{Answer, answer};
use crate::fast;
use crate::forward::Upstreams;
use crate::message::{Read, Request, Sections, TCP_SIZE, Transport, read};
use crate::zone::Zone;

/// How many questions may be waiting for other resolvers; more get SERVFAIL at once. Each has a
/// socket, and a process may often have no more than 1024 files open.
const WAITING: usize = 256;

/// What every socket shares.
pub(crate) struct Resolver {
    /// Locked for writing only while what changed is put in.
    pub(crate) zone: RwLock<Zone>,
    upstreams: Upstreams,
    waiting: Semaphore,
    turn: AtomicUsize,
}

impl Resolver {
    pub(crate) fn new(zone: Zone, upstreams: Upstreams) -> Self {
        Resolver { zone: RwLock::new(zone), upstreams, waiting: Semaphore::new(WAITING), turn: AtomicUsize::new(0) }
    }

    /// The zone, to read from; a writer that panicked has left it usable.
    pub(crate) fn zone(&self) -> std::sync::RwLockReadGuard<'_, Zone> {
        self.zone.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The answer to a packet, or `None` when it deserves none.
    pub(crate) async fn resolve(&self, packet: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        // Over UDP this was tried already.
        if transport == Transport::Tcp {
            let mut out = vec![0; TCP_SIZE];
            if let Some(length) = fast::reply(&self.zone(), packet, &mut out, turn) {
                out.truncate(length);
                return Some(out);
            }
        }
        let request = match read(packet, transport) {
            Read::Request(request) => request,
            Read::Reply(reply) => return Some(reply),
            Read::Silence => return None,
        };
        let query = request.message.queries.first()?;
        let answer = answer(&self.zone(), query.name(), query.query_type(), turn);
        Some(match answer {
            Answer::Records { answers, additionals } => self.found(&request, answers, additionals),
            Answer::NxDomain => self.negative(&request, ResponseCode::NXDomain),
            Answer::Refused => request.fail(ResponseCode::Refused),
            Answer::ServFail => request.fail(ResponseCode::ServFail),
            Answer::Forward => self.forward(&request, packet, transport).await,
            Answer::Follow { answers, target } => {
                self.follow(&request, answers, target, query.query_type(), transport).await
            }
        })
    }

    fn found(&self, request: &Request, answers: Vec<Record>, additionals: Vec<Record>) -> Vec<u8> {
        if answers.is_empty() {
            return self.negative(request, ResponseCode::NoError);
        }
        request.reply(ResponseCode::NoError, true, Sections { answers, additionals, ..Default::default() })
    }

    fn negative(&self, request: &Request, code: ResponseCode) -> Vec<u8> {
        let authorities = vec![self.zone().soa()];
        request.reply(code, true, Sections { authorities, ..Default::default() })
    }

    async fn forward(&self, request: &Request, packet: &[u8], transport: Transport) -> Vec<u8> {
        match self.ask(packet, transport).await {
            Some(answer) if answer.len() <= request.limit => answer,
            // It gave more than was asked for: what is beyond the limit is to be had by TCP.
            Some(answer) => match Message::from_vec(&answer) {
                Ok(answer) => {
                    let sections = Sections { answers: answer.answers, ..Default::default() };
                    request.reply(answer.metadata.response_code, false, sections)
                }
                Err(_) => request.fail(ResponseCode::ServFail),
            },
            None => request.fail(ResponseCode::ServFail),
        }
    }

    /// The alias, and what others know of its target.
    async fn follow(
        &self,
        request: &Request,
        mut answers: Vec<Record>,
        target: Name,
        kind: RecordType,
        transport: Transport,
    ) -> Vec<u8> {
        let mut question = Message::new(0, MessageType::Query, OpCode::Query);
        question.metadata.recursion_desired = true;
        question.add_query(Query::query(target, kind));
        question.edns = request.message.edns.clone();
        let packet = question.to_vec().unwrap_or_default();
        let parse = |bytes: Vec<u8>| Message::from_vec(&bytes).ok();
        let mut known = self.ask(&packet, transport).await.and_then(parse);
        if known.as_ref().is_some_and(|known| known.metadata.truncation) {
            known = self.ask(&packet, Transport::Tcp).await.and_then(parse);
        }
        let Some(known) = known else {
            return request.fail(ResponseCode::ServFail);
        };
        answers.extend(known.answers);
        request.reply(known.metadata.response_code, true, Sections { answers, ..Default::default() })
    }

    async fn ask(&self, packet: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let _permit = self.waiting.try_acquire().ok()?;
        self.upstreams.ask(packet, transport).await
    }
}
