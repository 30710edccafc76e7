//! Netlink messages to and from the kernel's netfilter: what all of nfnetlink shares.

use std::io::{self, Read};
use std::net::IpAddr;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{set_socket_recv_buffer_size_force, set_socket_send_buffer_size_force};
use socket2::{Domain, Protocol, Socket as RawSocket, Type};

use crate::Error;

/// AF_NETLINK and NETLINK_NETFILTER.
const FAMILY: (i32, i32) = (16, 12);
/// NLMSG_ERROR and NLMSG_DONE.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP and NLM_F_DUMP_INTR.
pub(crate) const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const DUMP: u16 = 0x300;
const INTERRUPTED: u16 = 0x10;
/// NLA_F_NESTED, and the bits of an attribute's type that are not flags.
const NESTED: u16 = 0x8000;
const TYPE: u16 = 0x3fff;
/// nlmsghdr and nfgenmsg.
const HEADER: usize = 16;
const PREFIX: usize = 20;
/// One read: the kernel sends at most 32 KiB of a dump at once, but echoes whole failed messages.
const READ: usize = 128 * 1024;
/// How much one transaction may be; a Service with two endpoints takes about 200 bytes.
const MAX_SEND: usize = 512 * 1024 * 1024;
/// What the kernel takes off the size of a send buffer.
const OVERHEAD: usize = 32;
/// How often a dump that was disturbed by a change is begun again.
const DUMP_TRIES: usize = 10;

/// Bytes of messages in the making.
#[derive(Default)]
pub(crate) struct Buffer(Vec<u8>);

impl Buffer {
    /// Appends a message; `kind` holds the subsystem in its upper byte.
    pub(crate) fn message(&mut self, head: Head, fill: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        self.0.extend(0u32.to_ne_bytes());
        self.0.extend(head.kind.to_ne_bytes());
        self.0.extend(head.flags.to_ne_bytes());
        self.0.extend(head.sequence.to_ne_bytes());
        self.0.extend(0u32.to_ne_bytes());
        self.0.extend([head.family, 0]);
        self.0.extend(head.resource.to_be_bytes());
        fill(self);
        let length = (self.0.len() - start) as u32;
        self.0[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Appends an attribute.
    pub(crate) fn attr(&mut self, kind: u16, data: &[u8]) {
        self.0.extend((data.len() as u16 + 4).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// Appends attributes that were made before.
    pub(crate) fn raw(&mut self, attrs: &[u8]) {
        self.0.extend(attrs);
    }

    /// Appends a number in network order, as nfnetlink wants nearly all of them.
    pub(crate) fn number(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_be_bytes());
    }

    /// Appends a zero-terminated string.
    pub(crate) fn text(&mut self, kind: u16, value: &str) {
        let mut data = value.as_bytes().to_vec();
        data.push(0);
        self.attr(kind, &data);
    }

    /// Appends an attribute made of attributes.
    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        self.0.extend(0u16.to_ne_bytes());
        self.0.extend((kind | NESTED).to_ne_bytes());
        fill(self);
        let length = self.0.len() - start;
        debug_assert!(length <= usize::from(u16::MAX), "attribute {kind} of {length} bytes");
        self.0[start..start + 2].copy_from_slice(&(length as u16).to_ne_bytes());
    }

    /// Wants an answer to the message that begins at `at`, not only if it fails.
    pub(crate) fn ask(&mut self, at: usize) {
        let flags = u16::from_ne_bytes([self.0[at + 6], self.0[at + 7]]) | ACK;
        self.0[at + 6..at + 8].copy_from_slice(&flags.to_ne_bytes());
    }

    /// What was made.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The fixed part of a message.
#[derive(Clone, Copy)]
pub(crate) struct Head {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) family: u8,
    pub(crate) resource: u16,
}

impl Head {
    /// A request of a family that is not part of a batch.
    pub(crate) fn request(kind: u16, family: u8) -> Self {
        Head { kind, flags: REQUEST, sequence: 0, family, resource: 0 }
    }
}

/// The attributes of a message or of a nested attribute.
#[derive(Clone, Copy, Default)]
pub(crate) struct Attrs<'a>(pub(crate) &'a [u8]);

impl<'a> Attrs<'a> {
    /// The payload of the first attribute of this type.
    pub(crate) fn get(self, kind: u16) -> Option<&'a [u8]> {
        self.each().find(|(found, ..)| *found == kind).map(|(_, _, data)| data)
    }

    /// All attributes: type, whether its sender marked it as made of attributes, and payload.
    pub(crate) fn each(self) -> impl Iterator<Item = (u16, bool, &'a [u8])> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (kind, data, next) = attribute(rest)?;
            rest = next;
            Some((kind & TYPE, kind & NESTED != 0, data))
        })
    }

    /// The attributes inside the attribute of this type; none when it is absent.
    pub(crate) fn inner(self, kind: u16) -> Attrs<'a> {
        Attrs(self.get(kind).unwrap_or_default())
    }

    /// A number in network order.
    pub(crate) fn number(self, kind: u16) -> Option<u32> {
        Some(u32::from_be_bytes(self.get(kind)?.try_into().ok()?))
    }

    /// A port in network order.
    pub(crate) fn port(self, kind: u16) -> Option<u16> {
        Some(u16::from_be_bytes(self.get(kind)?.try_into().ok()?))
    }

    /// An address of either family.
    pub(crate) fn address(self, kind: u16) -> Option<IpAddr> {
        let bytes = self.get(kind)?;
        let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
        v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
    }

    /// A string, without the zero at its end.
    pub(crate) fn text(self, kind: u16) -> Option<&'a str> {
        let data = self.get(kind)?;
        std::str::from_utf8(data.strip_suffix(&[0]).unwrap_or(data)).ok()
    }
}

/// The first attribute of `data`: type with its flags, payload and what follows.
fn attribute(data: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::from(u16::from_ne_bytes(data.get(..2)?.try_into().ok()?));
    let kind = u16::from_ne_bytes(data.get(2..4)?.try_into().ok()?);
    let payload = data.get(4..length)?;
    Some((kind, payload, data.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// A message from the kernel.
struct Reply<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    /// What follows the nlmsghdr.
    body: &'a [u8],
}

/// The first message of `data` and what follows it.
fn reply(data: &[u8]) -> Option<(Reply<'_>, &[u8])> {
    let word = |at: usize| Some(u32::from_ne_bytes(data.get(at..at + 4)?.try_into().ok()?));
    let half = |at: usize| Some(u16::from_ne_bytes(data.get(at..at + 2)?.try_into().ok()?));
    let length = word(0)? as usize;
    let body = data.get(HEADER..length)?;
    let next = data.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((Reply { kind: half(4)?, flags: half(6)?, sequence: word(8)?, body }, next))
}

/// A message of a dump, or of those in the making.
pub(crate) struct Item<'a> {
    /// Its type, with the subsystem.
    pub(crate) kind: u16,
    /// The family in its nfgenmsg.
    pub(crate) family: u8,
    /// Its attributes.
    pub(crate) attrs: Attrs<'a>,
}

/// A conversation with netfilter in the network namespace that it was opened in.
pub(crate) struct Socket {
    socket: RawSocket,
    buffer: Vec<u8>,
    /// How much one send may be.
    room: usize,
}

impl Socket {
    pub(crate) fn open() -> Result<Self, Error> {
        let socket = RawSocket::new(Domain::from(FAMILY.0), Type::RAW, Some(Protocol::from(FAMILY.1)));
        let socket = socket.map_err(Error::Socket)?;
        Ok(Socket { socket, buffer: vec![0; READ], room: 0 })
    }

    /// Also hears what the kernel tells everyone in these groups: bit 0 is NFNLGRP_CONNTRACK_NEW.
    pub(crate) fn join(&self, groups: u32) -> io::Result<()> {
        Ok(rustix::net::bind(&self.socket, &SocketAddrNetlink::new(0, groups))?)
    }

    /// Hands what was told in the groups since the last call to `each`; some may be missing when it was very much.
    pub(crate) fn heard(&mut self, mut each: impl FnMut(Item<'_>)) -> io::Result<()> {
        self.socket.set_nonblocking(true)?;
        match self.items(&mut each) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NOBUFS) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Sends messages that are answered at once, and returns the kernel's answers in order:
    /// (sequence, error code or 0). The kernel handles them before the send returns.
    pub(crate) fn exchange(&mut self, messages: &[u8]) -> io::Result<Vec<(u32, i32)>> {
        self.send(messages)?;
        self.socket.set_nonblocking(true)?;
        let mut answers = Vec::new();
        loop {
            let length = match self.socket.read(&mut self.buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(answers),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let mut rest = &self.buffer[..length];
            while let Some((reply, next)) = reply(rest) {
                rest = next;
                if reply.kind == ERROR {
                    answers.push((reply.sequence, code(reply.body)));
                }
            }
        }
    }

    /// Asks for all objects of a kind, those that `fill` names, and hands each to `each`. A dump that a change
    /// disturbs may name an object twice.
    pub(crate) fn dump(
        &mut self,
        kind: u16,
        family: u8,
        fill: impl Fn(&mut Buffer),
        mut each: impl FnMut(Item<'_>),
    ) -> io::Result<()> {
        for _ in 0..DUMP_TRIES {
            let mut request = Buffer::default();
            let mut head = Head::request(kind, family);
            head.flags |= DUMP;
            request.message(head, &fill);
            self.send(request.bytes())?;
            if !self.items(&mut each)? {
                return Ok(());
            }
        }
        Err(Errno::INTR.into())
    }

    /// Asks for one object; None when it does not exist.
    pub(crate) fn get<T>(
        &mut self,
        kind: u16,
        family: u8,
        fill: impl FnOnce(&mut Buffer),
        read: impl FnOnce(Item<'_>) -> T,
    ) -> io::Result<Option<T>> {
        let mut request = Buffer::default();
        request.message(Head::request(kind, family), fill);
        self.send(request.bytes())?;
        let length = self.socket.read(&mut self.buffer)?;
        match reply(&self.buffer[..length]) {
            Some((reply, _)) if reply.kind == ERROR => match Errno::from_raw_os_error(code(reply.body)) {
                Errno::NOENT => Ok(None),
                error => Err(error.into()),
            },
            Some((reply, _)) => Ok(item(&reply).map(read)),
            None => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Reads a dump to its end; true when it was disturbed.
    fn items(&mut self, each: &mut impl FnMut(Item<'_>)) -> io::Result<bool> {
        let mut disturbed = false;
        loop {
            let length = self.socket.read(&mut self.buffer)?;
            let mut rest = &self.buffer[..length];
            while let Some((reply, next)) = reply(rest) {
                rest = next;
                disturbed |= reply.flags & INTERRUPTED != 0;
                match reply.kind {
                    DONE => return Ok(disturbed),
                    ERROR => return Err(io::Error::from_raw_os_error(code(reply.body))),
                    _ => item(&reply).into_iter().for_each(&mut *each),
                }
            }
        }
    }

    /// Everything in one send: what is in it is one transaction.
    fn send(&mut self, messages: &[u8]) -> io::Result<()> {
        self.socket.set_nonblocking(false)?;
        let sent = self.socket.send(messages)?;
        if sent == messages.len() { Ok(()) } else { Err(Errno::MSGSIZE.into()) }
    }

    /// Makes room for a send of so many bytes, and returns how many there may be: fewer only where
    /// the caller is not root of the whole system.
    pub(crate) fn room(&mut self, wanted: usize) -> io::Result<usize> {
        if wanted > MAX_SEND {
            return Err(Errno::MSGSIZE.into());
        }
        if wanted > self.room {
            // The kernel doubles these, and counts its own overhead in them.
            let wanted = wanted.max(READ);
            if set_socket_send_buffer_size_force(&self.socket, wanted).is_err() {
                self.socket.set_send_buffer_size(wanted)?;
            }
            if set_socket_recv_buffer_size_force(&self.socket, 8 * READ).is_err() {
                self.socket.set_recv_buffer_size(8 * READ)?;
            }
            self.room = self.socket.send_buffer_size()?.saturating_sub(OVERHEAD);
        }
        Ok(self.room)
    }
}

/// The code in the body of an NLMSG_ERROR: positive, 0 for an acknowledgement.
fn code(body: &[u8]) -> i32 {
    let code = body.get(..4).and_then(|code| code.try_into().ok()).map(i32::from_ne_bytes);
    code.map_or(Errno::PROTO.raw_os_error(), |code| -code)
}

fn item<'a>(reply: &Reply<'a>) -> Option<Item<'a>> {
    let attrs = Attrs(reply.body.get(PREFIX - HEADER..)?);
    Some(Item { kind: reply.kind, family: *reply.body.first()?, attrs })
}

/// All messages of nfnetlink in a row.
pub(crate) fn messages(mut data: &[u8]) -> impl Iterator<Item = Item<'_>> {
    std::iter::from_fn(move || {
        let (found, next) = reply(data)?;
        data = next;
        item(&found)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_read_back() {
        let mut out = Buffer::default();
        out.message(Head::request(0x0a03, 2), |out| {
            out.text(1, "filter");
            out.nest(4, |out| out.number(2, 0xffff_fff6));
            out.attr(9, &[192, 0, 2, 1]);
        });
        out.ask(0);
        let (reply, rest) = reply(out.bytes()).expect("a message");
        assert_eq!((reply.kind, reply.flags, rest.len()), (0x0a03, REQUEST | ACK, 0));
        let item = item(&reply).expect("a body");
        assert_eq!((item.kind, item.family), (0x0a03, 2));
        let each: Vec<_> = item.attrs.each().map(|(kind, nested, data)| (kind, nested, data.len())).collect();
        assert_eq!(each, [(1, false, 7), (4, true, 8), (9, false, 4)]);
        assert_eq!(item.attrs.text(1), Some("filter"));
        assert_eq!(item.attrs.inner(4).number(2), Some(0xffff_fff6));
        assert_eq!(item.attrs.address(9), Some(IpAddr::from([192, 0, 2, 1])));
        assert_eq!((item.attrs.number(1), item.attrs.get(5)), (None, None));
    }

    #[test]
    fn broken_messages_end_the_reading() {
        let bytes: &[u8] = &[1, 0, 0, 0, 0, 0, 0, 0];
        assert!(
            reply(bytes).is_none() && messages(&[17, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]).next().is_none()
        );
        for length in [0u8, 3, 9, 255] {
            assert_eq!(Attrs(&[length, 0, 1, 0, 7, 7, 7, 7]).get(1), None, "{length}");
        }
        assert_eq!(code(&[]), Errno::PROTO.raw_os_error());
    }
}
