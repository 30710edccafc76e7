//! A transaction of nf_tables: messages that the kernel takes all or none.

use crate::Error;
use crate::netlink::{Buffer, Head, IPV4, REQUEST, Socket};

/// NFNL_MSG_BATCH_BEGIN and _END, for the subsystem in their nfgenmsg.
const BEGIN: u16 = 0x10;
const END: u16 = 0x11;
const SUBSYSTEM: u16 = 10;
/// NLM_F_CREATE and NLM_F_APPEND.
pub(crate) const CREATE: u16 = 0x400;
pub(crate) const APPEND: u16 = 0x800;

/// The messages of nf_tables that we send, and ask for.
pub(crate) const NEW_TABLE: u16 = 0;
pub(crate) const GET_TABLE: u16 = 1;
pub(crate) const DELETE_TABLE: u16 = 2;
pub(crate) const NEW_CHAIN: u16 = 3;
pub(crate) const GET_CHAIN: u16 = 4;
pub(crate) const NEW_RULE: u16 = 6;
pub(crate) const GET_RULE: u16 = 7;
pub(crate) const DELETE_RULE: u16 = 8;
pub(crate) const NEW_SET: u16 = 9;
pub(crate) const NEW_ELEMENT: u16 = 12;
pub(crate) const DELETE_ELEMENT: u16 = 14;
pub(crate) const GET_GENERATION: u16 = 16;

/// The full type of a message of nf_tables.
pub(crate) fn kind(message: u16) -> u16 {
    SUBSYSTEM << 8 | message
}

/// A transaction in the making. Message n has the sequence number n + 1; 0 is the beginning.
pub(crate) struct Batch {
    buffer: Buffer,
    steps: Vec<Step>,
    /// Where the last message begins.
    last: usize,
}

/// What a message tries, for the error that names it.
struct Step {
    doing: String,
    makes: bool,
}

impl Batch {
    pub(crate) fn new() -> Self {
        let mut buffer = Buffer::default();
        buffer.message(Self::edge(BEGIN, 0), |_| {});
        Batch {
            buffer,
            steps: Vec::new(),
            last: 0,
        }
    }

    /// Appends a message of the family ip.
    pub(crate) fn push(
        &mut self,
        message: u16,
        flags: u16,
        doing: String,
        fill: impl FnOnce(&mut Buffer),
    ) {
        self.push_for(IPV4, message, flags, doing, fill);
    }

    /// Appends a message; `doing` is what it tries, in the words of an error.
    pub(crate) fn push_for(
        &mut self,
        family: u8,
        message: u16,
        flags: u16,
        doing: String,
        fill: impl FnOnce(&mut Buffer),
    ) {
        let makes = matches!(message, NEW_TABLE | NEW_CHAIN | NEW_RULE | NEW_SET);
        self.steps.push(Step { doing, makes });
        let sequence = self.steps.len() as u32;
        let flags = flags | REQUEST;
        self.last = self.buffer.bytes().len();
        self.buffer.message(
            Head {
                kind: kind(message),
                flags,
                sequence,
                family,
                resource: 0,
            },
            fill,
        );
    }

    /// True when there is nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Has the kernel do all of it, at once.
    pub(crate) fn commit(mut self, socket: &mut Socket) -> Result<(), Error> {
        self.buffer.ask(self.last);
        self.buffer
            .message(Self::edge(END, self.steps.len() as u32 + 1), |_| {});
        self.send(socket)
    }

    /// Has the kernel say whether it could do all of it; a batch without an end is undone.
    pub(crate) fn check(mut self, socket: &mut Socket) -> Result<(), Error> {
        self.buffer.ask(self.last);
        self.send(socket)
    }

    fn send(self, socket: &mut Socket) -> Result<(), Error> {
        let answers = socket.exchange(self.buffer.bytes());
        let answers =
            answers.map_err(|error| self.failed(0, error.raw_os_error().unwrap_or_default()))?;
        if let Some((sequence, code)) = answers.iter().find(|(_, code)| *code != 0) {
            return Err(self.failed(*sequence, *code));
        }
        if answers.is_empty() && !self.is_empty() {
            return Err(self.failed(0, rustix::io::Errno::PROTO.raw_os_error()));
        }
        Ok(())
    }

    fn failed(&self, sequence: u32, code: i32) -> Error {
        let step = (sequence as usize)
            .checked_sub(1)
            .and_then(|at| self.steps.get(at));
        let doing = step.map_or("change the rules of the kernel", |step| step.doing.as_str());
        Error::from_kernel(code, doing, step.is_some_and(|step| step.makes))
    }

    fn edge(kind: u16, sequence: u32) -> Head {
        Head {
            kind,
            flags: REQUEST,
            sequence,
            family: 0,
            resource: SUBSYSTEM,
        }
    }
}
