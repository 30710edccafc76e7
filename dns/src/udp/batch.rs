//! Many datagrams in one system call: recvmmsg(2) and sendmmsg(2).

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::ptr;

use super::envelope::Envelope;
use crate::question::UDP_SIZE;

/// How many datagrams are taken at once.
pub(super) const BATCH: usize = 64;

/// Questions, answers, and the kernel's headers that point at them. The boxes never move, so
/// the pointers stay good for as long as this lives.
pub(super) struct Batch {
    questions: Box<[[u8; UDP_SIZE]]>,
    answers: Box<[[u8; UDP_SIZE]]>,
    envelopes: Box<[Envelope]>,
    /// Where each question goes: held only because `incoming` points at them.
    _into: Box<[libc::iovec]>,
    out: Box<[libc::iovec]>,
    incoming: Box<[libc::mmsghdr]>,
    outgoing: Box<[libc::mmsghdr]>,
    /// How many of `outgoing` are filled.
    answered: usize,
    /// Whether the kernel says to which address of ours a datagram was sent.
    informed: bool,
}

impl Batch {
    /// For a socket of which [`super::envelope::informed`] said this.
    pub(super) fn new(informed: bool) -> Self {
        let mut questions = vec![[0; UDP_SIZE]; BATCH].into_boxed_slice();
        let mut answers = vec![[0; UDP_SIZE]; BATCH].into_boxed_slice();
        let vector =
            |buffer: &mut [u8; UDP_SIZE]| libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: UDP_SIZE };
        let mut into: Box<[libc::iovec]> = questions.iter_mut().map(vector).collect();
        let mut out: Box<[libc::iovec]> = answers.iter_mut().map(vector).collect();
        let incoming = into.iter_mut().map(|vector| header(vector)).collect();
        let outgoing = out.iter_mut().map(|vector| header(vector)).collect();
        let envelopes = vec![Envelope::default(); BATCH].into_boxed_slice();
        Batch { questions, answers, envelopes, _into: into, out, incoming, outgoing, answered: 0, informed }
    }

    /// Takes the datagrams that are there and returns how many; waits for the first one if it
    /// shall `wait`.
    pub(super) fn receive(&mut self, socket: &UdpSocket, wait: bool) -> io::Result<usize> {
        self.answered = 0;
        for (header, envelope) in self.incoming.iter_mut().zip(&mut self.envelopes) {
            envelope.receive(&mut header.msg_hdr, self.informed);
        }
        // SAFETY: `incoming` has BATCH headers, whose names and control buffers are in elements of
        // `envelopes` and whose vectors are elements of `into`, whose buffers are in `questions`:
        // all of the stated size, owned by `self`, and not referred to elsewhere during the call.
        // The timeout may be null.
        let count = unsafe {
            let flags = if wait { libc::MSG_WAITFORONE } else { libc::MSG_DONTWAIT } as _;
            libc::recvmmsg(socket.as_raw_fd(), self.incoming.as_mut_ptr(), BATCH as u32, flags, ptr::null_mut())
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for (header, envelope) in self.incoming[..count].iter().zip(&mut self.envelopes) {
            envelope.received(&header.msg_hdr);
        }
        Ok(count)
    }

    /// A question that was received, and who asked.
    pub(super) fn question(&self, index: usize) -> (&[u8], &Envelope) {
        let length = (self.incoming[index].msg_len as usize).min(UDP_SIZE);
        (&self.questions[index][..length], &self.envelopes[index])
    }

    /// Lets `write` answer a question; what it returns beside the length, when it did, and then
    /// `send` sends the answer.
    pub(super) fn answer<T>(
        &mut self,
        index: usize,
        write: impl FnOnce(&[u8], &Envelope, &mut [u8; UDP_SIZE]) -> Option<(usize, T)>,
    ) -> Option<T> {
        let length = (self.incoming[index].msg_len as usize).min(UDP_SIZE);
        let (to, envelope) = (self.answered, &mut self.envelopes[index]);
        let (size, told) = write(&self.questions[index][..length], envelope, &mut self.answers[to])?;
        self.out[to].iov_len = size.min(UDP_SIZE);
        envelope.send(&mut self.outgoing[to].msg_hdr);
        self.answered += 1;
        Some(told)
    }

    /// Sends the answers. One that can't be sent is skipped: its client asks again.
    pub(super) fn send(&mut self, socket: &UdpSocket) {
        let mut sent = 0;
        while sent < self.answered {
            let rest = &mut self.outgoing[sent..self.answered];
            // SAFETY: `rest` are headers whose names and control buffers are in elements of
            // `envelopes` and whose vectors are elements of `out`, which point into `answers` and
            // are no longer than its elements: all owned by `self` and not changed during the call.
            let count = unsafe { libc::sendmmsg(socket.as_raw_fd(), rest.as_mut_ptr(), rest.len() as u32, 0) };
            sent += usize::try_from(count).unwrap_or(0).max(1);
        }
    }
}

/// A header of one buffer.
fn header(vector: *mut libc::iovec) -> libc::mmsghdr {
    // SAFETY: it is plain integers and pointers, for which zero is a value.
    let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
    header.msg_hdr.msg_iov = vector;
    header.msg_hdr.msg_iovlen = 1;
    header
}
