//! Many datagrams in one system call: recvmmsg(2) and sendmmsg(2).

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr;

use crate::question::UDP_SIZE;

/// How many datagrams are taken at once.
const BATCH: usize = 64;

/// Questions, answers, and the kernel's headers that point at them. The boxes never move, so
/// the pointers stay good for as long as this lives.
pub(super) struct Batch {
    questions: Box<[[u8; UDP_SIZE]]>,
    answers: Box<[[u8; UDP_SIZE]]>,
    from: Box<[libc::sockaddr_in]>,
    /// Where each question goes: held only because `incoming` points at them.
    _into: Box<[libc::iovec]>,
    out: Box<[libc::iovec]>,
    incoming: Box<[libc::mmsghdr]>,
    outgoing: Box<[libc::mmsghdr]>,
    /// How many of `outgoing` are filled.
    answered: usize,
}

impl Batch {
    pub(super) fn new() -> Self {
        let mut questions = vec![[0; UDP_SIZE]; BATCH].into_boxed_slice();
        let mut answers = vec![[0; UDP_SIZE]; BATCH].into_boxed_slice();
        let no_one =
            libc::sockaddr_in { sin_family: 0, sin_port: 0, sin_addr: libc::in_addr { s_addr: 0 }, sin_zero: [0; 8] };
        let mut from = vec![no_one; BATCH].into_boxed_slice();
        let vector =
            |buffer: &mut [u8; UDP_SIZE]| libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: UDP_SIZE };
        let mut into: Box<[libc::iovec]> = questions.iter_mut().map(vector).collect();
        let mut out: Box<[libc::iovec]> = answers.iter_mut().map(vector).collect();
        let incoming = into.iter_mut().zip(from.iter_mut()).map(|(vector, from)| header(vector, from)).collect();
        let outgoing = out.iter_mut().map(|vector| header(vector, ptr::null_mut())).collect();
        Batch { questions, answers, from, _into: into, out, incoming, outgoing, answered: 0 }
    }

    /// Waits for a datagram, then takes those that are there; returns how many.
    pub(super) fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        self.answered = 0;
        for header in &mut self.incoming {
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
        }
        // SAFETY: `incoming` has BATCH headers, whose names and vectors are elements of `from` and
        // `into`, whose buffers are in `questions`: all of the stated size, owned by `self`, and
        // not referred to elsewhere during the call. The timeout may be null.
        let count = unsafe {
            let flags = libc::MSG_WAITFORONE as _;
            libc::recvmmsg(socket.as_raw_fd(), self.incoming.as_mut_ptr(), BATCH as u32, flags, ptr::null_mut())
        };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    }

    /// A question that was received, and who asked.
    pub(super) fn question(&self, index: usize) -> (&[u8], SocketAddrV4) {
        let length = (self.incoming[index].msg_len as usize).min(UDP_SIZE);
        let from = &self.from[index];
        let address = Ipv4Addr::from(u32::from_be(from.sin_addr.s_addr));
        (&self.questions[index][..length], SocketAddrV4::new(address, u16::from_be(from.sin_port)))
    }

    /// Lets `write` answer a question; true when it did, and then `send` sends it.
    pub(super) fn answer(
        &mut self,
        index: usize,
        write: impl FnOnce(&[u8], &mut [u8; UDP_SIZE]) -> Option<usize>,
    ) -> bool {
        let length = (self.incoming[index].msg_len as usize).min(UDP_SIZE);
        let to = self.answered;
        let Some(size) = write(&self.questions[index][..length], &mut self.answers[to]) else {
            return false;
        };
        self.out[to].iov_len = size.min(UDP_SIZE);
        self.outgoing[to].msg_hdr.msg_name = ptr::from_mut(&mut self.from[index]).cast();
        self.answered += 1;
        true
    }

    /// Sends the answers. One that can't be sent is skipped: its client asks again.
    pub(super) fn send(&mut self, socket: &UdpSocket) {
        let mut sent = 0;
        while sent < self.answered {
            let rest = &mut self.outgoing[sent..self.answered];
            // SAFETY: `rest` are headers whose names are elements of `from` and whose vectors are
            // elements of `out`, which point into `answers` and are no longer than its elements:
            // all owned by `self` and not changed during the call.
            let count = unsafe { libc::sendmmsg(socket.as_raw_fd(), rest.as_mut_ptr(), rest.len() as u32, 0) };
            sent += usize::try_from(count).unwrap_or(0).max(1);
        }
    }
}

/// A header of one buffer and one IPv4 address.
fn header(vector: *mut libc::iovec, name: *mut libc::sockaddr_in) -> libc::mmsghdr {
    // SAFETY: it is plain integers and pointers, for which zero is a value.
    let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
    header.msg_hdr.msg_iov = vector;
    header.msg_hdr.msg_iovlen = 1;
    header.msg_hdr.msg_name = name.cast();
    header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
    header
}
