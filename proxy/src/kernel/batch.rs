//! A transaction of nf_tables: messages that the kernel takes all or none.

use std::io;
use std::ops::Range;

use rustix::io::Errno;

use super::family::Family;
use crate::Error;
use crate::netlink::{Buffer, Head, Item, REQUEST, Socket, messages};

/// NFNL_MSG_BATCH_BEGIN and _END, for the subsystem in their nfgenmsg.
const BEGIN: u16 = 0x10;
const END: u16 = 0x11;
const SUBSYSTEM: u16 = 10;
/// How much both take.
const EDGES: usize = 40;
/// NLM_F_CREATE and NLM_F_APPEND.
pub(crate) const CREATE: u16 = 0x400;
pub(crate) const APPEND: u16 = 0x800;

/// The messages of nf_tables that we send, and ask for.
pub(crate) const NEW_TABLE: u16 = 0;
pub(crate) const GET_TABLE: u16 = 1;
pub(crate) const DELETE_TABLE: u16 = 2;
pub(crate) const NEW_CHAIN: u16 = 3;
pub(crate) const GET_CHAIN: u16 = 4;
pub(crate) const DELETE_CHAIN: u16 = 5;
pub(crate) const NEW_RULE: u16 = 6;
pub(crate) const GET_RULE: u16 = 7;
pub(crate) const DELETE_RULE: u16 = 8;
pub(crate) const NEW_SET: u16 = 9;
pub(crate) const GET_SET: u16 = 10;
pub(crate) const NEW_ELEMENT: u16 = 12;
pub(crate) const GET_ELEMENT: u16 = 13;
pub(crate) const DELETE_ELEMENT: u16 = 14;
pub(crate) const GET_GENERATION: u16 = 16;

/// The full type of a message of nf_tables.
pub(crate) fn kind(message: u16) -> u16 {
    SUBSYSTEM << 8 | message
}

/// A transaction in the making. Message n has the sequence number n + 1; 0 is the beginning.
#[derive(Default)]
pub(crate) struct Batch {
    buffer: Buffer,
    steps: Vec<Step>,
}

/// Where a message begins, and what it tries, for the error that names it.
struct Step {
    at: usize,
    doing: String,
    makes: bool,
}

impl Batch {
    /// Appends a message for the tables of a family; `doing` is what it tries, in the words of an error.
    pub(crate) fn push(
        &mut self,
        family: Family,
        message: u16,
        flags: u16,
        doing: String,
        fill: impl FnOnce(&mut Buffer),
    ) {
        self.push_for(family.number(), message, flags, doing, fill);
    }

    /// Appends a message for the tables of an NFPROTO.
    pub(crate) fn push_for(
        &mut self,
        family: u8,
        message: u16,
        flags: u16,
        doing: String,
        fill: impl FnOnce(&mut Buffer),
    ) {
        let makes = matches!(message, NEW_TABLE | NEW_CHAIN | NEW_RULE | NEW_SET);
        self.steps.push(Step { at: self.buffer.bytes().len(), doing, makes });
        let sequence = self.steps.len() as u32;
        let flags = flags | REQUEST;
        self.buffer.message(Head { kind: kind(message), flags, sequence, family, resource: 0 }, fill);
    }

    /// True when there is nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Its messages.
    pub(crate) fn messages(&self) -> impl Iterator<Item = Item<'_>> {
        messages(self.buffer.bytes())
    }

    /// Has the kernel do all of it, at once; returns in how many transactions it was done. In a user namespace the system limits what may be sent
    /// at once (net.core.wmem_max); what exceeds it is done in several transactions, in order.
    pub(crate) fn commit(self, socket: &mut Socket) -> Result<u32, Error> {
        let limit = socket.room(self.buffer.bytes().len() + EDGES).map_err(|error| self.unsent(&error))?;
        let parts = self.parts(limit.saturating_sub(EDGES));
        parts.iter().try_for_each(|steps| self.send(socket, steps.clone(), true))?;
        Ok(parts.len() as u32)
    }

    /// Has the kernel say whether it could do all of it; a transaction without an end is undone.
    pub(crate) fn check(self, socket: &mut Socket) -> Result<(), Error> {
        socket.room(self.buffer.bytes().len() + EDGES).map_err(|error| self.unsent(&error))?;
        self.send(socket, 0..self.steps.len(), false)
    }

    /// The steps in as few ranges as fit into so many bytes each.
    pub(super) fn parts(&self, limit: usize) -> Vec<Range<usize>> {
        let mut parts = Vec::new();
        let mut first = 0;
        for next in 1..self.steps.len() {
            if self.end(next) - self.steps[first].at > limit {
                parts.push(first..next);
                first = next;
            }
        }
        parts.push(first..self.steps.len());
        parts
    }

    /// Where a step's message ends.
    fn end(&self, step: usize) -> usize {
        self.steps.get(step + 1).map_or(self.buffer.bytes().len(), |next| next.at)
    }

    fn send(&self, socket: &mut Socket, steps: Range<usize>, end: bool) -> Result<(), Error> {
        let Some(last) = steps.clone().last() else {
            return Ok(());
        };
        let start = self.steps[steps.start].at;
        let mut out = Buffer::default();
        out.message(Self::edge(BEGIN), |_| {});
        let first = out.bytes().len();
        out.raw(&self.buffer.bytes()[start..self.end(last)]);
        out.ask(first + self.steps[last].at - start);
        if end {
            out.message(Self::edge(END), |_| {});
        }
        let answers = socket.exchange(out.bytes()).map_err(|error| self.unsent(&error))?;
        match answers.iter().find(|(_, code)| *code != 0) {
            Some((sequence, code)) => Err(self.failed(*sequence, *code)),
            None if answers.is_empty() => Err(self.failed(0, Errno::PROTO.raw_os_error())),
            None => Ok(()),
        }
    }

    fn unsent(&self, error: &io::Error) -> Error {
        self.failed(0, error.raw_os_error().unwrap_or_default())
    }

    fn failed(&self, sequence: u32, code: i32) -> Error {
        let step = (sequence as usize).checked_sub(1).and_then(|at| self.steps.get(at));
        let doing = step.map_or("change the rules of the kernel", |step| step.doing.as_str());
        Error::from_kernel(code, doing, step.is_some_and(|step| step.makes))
    }

    fn edge(kind: u16) -> Head {
        Head { kind, flags: REQUEST, sequence: 0, family: 0, resource: SUBSYSTEM }
    }
}
