//! An agent's connection: what it sent, what is still to be sent to it.

use crate::wire::{self, Answer, FDS_MAX, Request};
use rustix::{
    event::PollFlags,
    fd::{AsFd, BorrowedFd, OwnedFd},
    io::Errno,
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
    process::Pid,
};
use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    mem::MaybeUninit,
};

/// How many answers may wait for a peer that does not read; then it is dropped.
const WAITING_MAX: usize = 1024;
/// How much is read at once.
const CHUNK: usize = 8 << 10;

/// What a connection turned out to be for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Role {
    /// One question, one answer.
    Call,
    /// Hears of every container that ends.
    Watch,
    /// Waits for the process of an exec.
    Exec(Pid),
}

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) socket: OwnedFd,
    pub(super) role: Role,
    input: Vec<u8>,
    waiting: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
    /// How much of the first waiting message was sent.
    sent: usize,
}

impl Peer {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self { socket, role: Role::Call, input: Vec::new(), waiting: VecDeque::new(), sent: 0 }
    }

    /// What to poll for.
    pub(super) fn interest(&self) -> PollFlags {
        if self.waiting.is_empty() { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT }
    }

    /// Reads what there is; an error when the peer left.
    pub(super) fn fill(&mut self) -> io::Result<()> {
        let mut chunk = [0; CHUNK];
        loop {
            match rustix::io::read(&self.socket, &mut chunk) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.input.extend_from_slice(&chunk[..length]),
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if self.input.len() > wire::MESSAGE_MAX + CHUNK {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
    }

    /// The request, when it is all there.
    pub(super) fn request(&mut self) -> Option<Result<Request, String>> {
        let request = wire::decode(&mut self.input).transpose();
        if request.is_some() {
            self.input = Vec::new();
        }
        request
    }

    /// Sends an answer, now or when the peer can take it.
    pub(super) fn say(&mut self, answer: &Answer, fds: Vec<OwnedFd>) -> io::Result<()> {
        if self.waiting.len() >= WAITING_MAX {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let bytes = wire::encode(answer).map_err(io::Error::other)?;
        self.waiting.push_back((bytes, fds));
        self.flush()
    }

    /// Sends what the peer can take.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while let Some((bytes, fds)) = self.waiting.front() {
            let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if self.sent == 0 && !fds.is_empty() {
                control.push(SendAncillaryMessage::ScmRights(&fds));
            }
            let rest = [IoSlice::new(&bytes[self.sent..])];
            match sendmsg(&self.socket, &rest, &mut control, SendFlags::NOSIGNAL) {
                Ok(length) if self.sent + length == bytes.len() => {
                    self.sent = 0;
                    self.waiting.pop_front();
                }
                Ok(length) => self.sent += length,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
