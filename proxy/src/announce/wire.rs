//! The sockets that hear questions about addresses and send what there is to say; open only while there are addresses.
//!
//! They see all links of the network namespace, below its IP: also a question that was sent to an address that is not the
//! machine's own. A program in the kernel picks the questions about the addresses out, so that nothing else wakes this one.

use std::collections::BTreeSet;
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv6Addr};

use socket2::{Domain, SockAddr, SockAddrStorage, SockFilter, Socket, Type};
use tokio::io::{Interest, unix::AsyncFd};
use tracing::debug;

use super::links::{Link, Mac};
use super::{arp, ndp};

/// The longest frame that is read whole: a question has 72 bytes, or some more with options.
const FRAME: usize = 256;
/// The frames that wait to be read, in bytes of the kernel's count; too many get lost, and are asked again.
const WAITING: usize = 64 * 1024;
/// How many addresses the kernel tells apart; with more, every question is read.
const FILTERED: usize = 256;
/// Instructions of classic BPF: load half a word or a word at a place, compare, and return.
const LOAD_HALF: u16 = 0x28;
const LOAD_WORD: u16 = 0x20;
const EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

/// Somebody wants to know where an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) address: IpAddr,
    /// Who asks, and whom the answer is for; everyone when the asker has no address yet.
    pub(crate) asker: Option<(IpAddr, Mac)>,
}

/// What is sent on a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) protocol: u16,
    pub(crate) to: Mac,
    /// What follows the header of Ethernet.
    pub(crate) bytes: Vec<u8>,
}

impl Frame {
    /// What tells everyone that the address is at this link.
    pub(crate) fn announcement(address: IpAddr, mac: Mac) -> Self {
        match address {
            IpAddr::V4(address) => arp::announcement(address, mac),
            IpAddr::V6(address) => ndp::announcement(address, mac),
        }
    }

    /// What makes the one that has the address tell everyone.
    pub(crate) fn probe(address: IpAddr, mac: Mac) -> Self {
        match address {
            IpAddr::V4(address) => arp::probe(address, mac),
            IpAddr::V6(address) => ndp::probe(address),
        }
    }

    /// What answers a question.
    pub(crate) fn answer(question: Question, mac: Mac) -> Self {
        match (question.address, question.asker) {
            (IpAddr::V4(address), Some((IpAddr::V4(asker), to))) => arp::reply(address, mac, asker, to),
            (IpAddr::V6(address), Some((IpAddr::V6(asker), to))) => ndp::reply(address, mac, asker, to),
            (address, _) => Frame::announcement(address, mac),
        }
    }
}

/// The sockets; none at first.
#[derive(Default)]
pub(crate) struct Wire {
    arp: Option<AsyncFd<Socket>>,
    ndp: Option<AsyncFd<Socket>>,
    /// A member of the groups in which IPv6 asks, by their links.
    member: Option<Socket>,
    joined: BTreeSet<(Ipv6Addr, u32)>,
    heard: BTreeSet<IpAddr>,
}

impl Wire {
    /// Hears questions about these addresses, each on its links, and no others.
    pub(crate) fn hear(&mut self, addresses: &BTreeSet<(IpAddr, u32)>) -> io::Result<()> {
        let heard: BTreeSet<IpAddr> = addresses.iter().map(|(address, _)| *address).collect();
        if heard != self.heard {
            let v4 =
                heard.iter().filter_map(|address| if let IpAddr::V4(it) = address { Some(it.to_bits()) } else { None });
            let v6 = heard
                .iter()
                .filter_map(|address| if let IpAddr::V6(it) = address { Some(it.to_bits() as u32) } else { None });
            follow(&mut self.arp, arp::PROTOCOL, &arp::TELLING, arp::TARGET, v4.collect())?;
            follow(&mut self.ndp, ndp::PROTOCOL, &ndp::TELLING, ndp::TARGET, v6.collect())?;
            self.heard = heard;
        }
        let groups = addresses.iter().filter_map(|(address, link)| match address {
            IpAddr::V6(address) => Some((ndp::group(*address), *link)),
            IpAddr::V4(_) => None,
        });
        self.join(groups.collect())
    }

    /// Is a member of these groups, and of no others.
    fn join(&mut self, groups: BTreeSet<(Ipv6Addr, u32)>) -> io::Result<()> {
        if groups.is_empty() {
            (self.member, self.joined) = (None, groups);
            return Ok(());
        }
        if self.member.is_none() {
            self.member = Some(Socket::new(Domain::IPV6, Type::DGRAM, None)?);
        }
        let Some(member) = &self.member else { return Ok(()) };
        for (group, link) in self.joined.difference(&groups) {
            // The link may be gone, and the membership with it.
            let _ = member.leave_multicast_v6(group, *link);
        }
        self.joined.retain(|group| groups.contains(group));
        for (group, link) in groups {
            if self.joined.insert((group, link))
                && let Err(error) = member.join_multicast_v6(&group, link)
            {
                // Gone already, most likely; it is tried again with the next change.
                debug!("failed to join {group} on link {link}: {error}");
                self.joined.remove(&(group, link));
            }
        }
        Ok(())
    }

    /// The next question, and the number of the link that it was asked on.
    pub(crate) async fn question(&self) -> io::Result<(Question, u32)> {
        tokio::select! {
            heard = receive(&self.arp, |frame, _| arp::read(frame)) => heard,
            heard = receive(&self.ndp, ndp::read) => heard,
        }
    }

    /// Sends a frame, if there is room for it: who does not hear it asks again.
    pub(crate) fn send(&self, frame: &Frame, link: &Link) -> io::Result<()> {
        let socket = if frame.protocol == arp::PROTOCOL { &self.arp } else { &self.ndp };
        let Some(socket) = socket else { return Ok(()) };
        socket.get_ref().send_to(&frame.bytes, &place(frame.protocol, link.index, frame.to)).map(drop)
    }
}

/// Opens a socket of this protocol, or closes it when there is nothing to hear; and has it hear this.
fn follow(
    socket: &mut Option<AsyncFd<Socket>>,
    protocol: u16,
    telling: &[(u32, u16)],
    at: u32,
    words: BTreeSet<u32>,
) -> io::Result<()> {
    if words.is_empty() {
        *socket = None;
        return Ok(());
    }
    let filter = filter(telling, at, &words);
    let filter: Vec<_> = filter.into_iter().map(|step| SockFilter::new(step.code, step.jt, step.jf, step.k)).collect();
    if let Some(socket) = socket {
        return socket.get_ref().attach_filter(&filter);
    }
    // Without a protocol it hears nothing until it is bound.
    let opened = Socket::new(Domain::PACKET, Type::DGRAM.nonblocking(), None)?;
    opened.set_recv_buffer_size(WAITING)?;
    opened.attach_filter(&filter)?;
    opened.bind(&place(protocol, 0, Mac::default()))?;
    // SAFETY: a socket keeps its descriptor until it is dropped.
    *socket = Some(unsafe { AsyncFd::register_with_interest(opened, Interest::READABLE) }?);
    Ok(())
}

/// A program that lets frames pass that have these halves of words, and one of these words at `at`.
fn filter(telling: &[(u32, u16)], at: u32, words: &BTreeSet<u32>) -> Vec<libc::sock_filter> {
    let step = |code, k| libc::sock_filter { code, jt: 0, jf: 0, k };
    let equal = |k, jt, jf| libc::sock_filter { code: EQUAL, jt, jf, k };
    let (pass, drop) = (step(RETURN, FRAME as u32), step(RETURN, 0));
    // Equal: over the next instruction.
    let tell = |(at, half): &(u32, u16)| [step(LOAD_HALF, *at), equal((*half).into(), 1, 0), drop];
    let mut program: Vec<_> = telling.iter().flat_map(tell).collect();
    if words.len() > FILTERED {
        program.push(pass);
        return program;
    }
    program.push(step(LOAD_WORD, at));
    program.extend(words.iter().flat_map(|word| [equal(*word, 0, 1), pass]));
    program.push(drop);
    program
}

/// Waits for a frame that `read` makes something of.
async fn receive(
    socket: &Option<AsyncFd<Socket>>,
    read: impl Fn(&[u8], Mac) -> Option<Question>,
) -> io::Result<(Question, u32)> {
    let Some(socket) = socket else { return std::future::pending().await };
    let mut buffer = [MaybeUninit::uninit(); FRAME];
    loop {
        let mut ready = socket.readable().await?;
        let Ok(received) = ready.try_io(|socket| socket.get_ref().recv_from(&mut buffer)) else { continue };
        let (length, from) = received?;
        // SAFETY: the kernel wrote so many bytes.
        let frame = unsafe { std::slice::from_raw_parts(buffer.as_ptr().cast::<u8>(), length) };
        // SAFETY: the kernel wrote an address of this kind, as for every socket of its family.
        let from = unsafe { *from.as_ptr().cast::<libc::sockaddr_ll>() };
        // What goes to another machine is not for this one.
        let mine = from.sll_pkttype <= libc::PACKET_MULTICAST;
        let mac =
            from.sll_addr.first_chunk().copied().filter(|_| mine && usize::from(from.sll_halen) == size_of::<Mac>());
        if let Some(question) = mac.and_then(|mac| read(frame, mac)) {
            return Ok((question, from.sll_ifindex as u32));
        }
    }
}

/// A hardware address on a link; link 0 stands for all.
fn place(protocol: u16, link: u32, mac: Mac) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: this family has the addresses of links, and all zeros is one.
    let place = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    place.sll_family = libc::AF_PACKET as u16;
    place.sll_protocol = protocol.to_be();
    place.sll_ifindex = link as i32;
    place.sll_halen = size_of::<Mac>() as u8;
    place.sll_addr[..size_of::<Mac>()].copy_from_slice(&mac);
    // SAFETY: it was written above.
    unsafe { SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as u32) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_frames_are_no_questions_about_others() {
        let mut seed = 7u64;
        let mut roll = |sides: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize % sides
        };
        let mac = [2, 0, 0, 0, 0, 1];
        let good = ["10.0.0.240", "2001:db8::12:3456"].map(|address| Frame::probe(address.parse().unwrap(), mac).bytes);
        let read = |frame: &[u8]| arp::read(frame).or_else(|| ndp::read(frame, mac));
        assert!(good.iter().all(|frame| read(frame).is_some()));
        for _ in 0..200_000 {
            let mut frame = good[roll(2)].clone();
            for _ in 0..1 + roll(4) {
                let at = roll(frame.len());
                match roll(3) {
                    0 => frame[at] = roll(256) as u8,
                    1 => frame.truncate(at.max(1)),
                    _ => frame.insert(at, roll(256) as u8),
                }
            }
            // What can be read can be answered.
            if let Some(question) = read(&frame) {
                assert_ne!(Frame::answer(question, mac).bytes, frame);
            }
        }
    }

    /// What the kernel makes of a frame; what is not in the frame ends the program.
    fn passes(program: &[libc::sock_filter], frame: &[u8]) -> bool {
        let (mut next, mut loaded) = (0, 0);
        loop {
            let libc::sock_filter { code, jt, jf, k } = program[next];
            let load = |length: usize| {
                let bytes = frame.get(k as usize..k as usize + length)?;
                Some(bytes.iter().fold(0, |word, byte| word << 8 | u32::from(*byte)))
            };
            next += 1;
            match (code, load(if code == LOAD_HALF { 2 } else { 4 })) {
                (LOAD_HALF | LOAD_WORD, Some(word)) => loaded = word,
                (EQUAL, _) => next += usize::from(if loaded == k { jt } else { jf }),
                (RETURN, _) => return k > 0,
                _ => return false,
            }
        }
    }

    #[test]
    fn the_kernel_passes_questions_only() {
        let mac = [2, 0, 0, 0, 0, 1];
        let v4 = |hosts: std::ops::Range<u32>| hosts.map(|host| 0x0a00_0000 + host).collect();
        let v6 = |hosts: std::ops::Range<u32>| hosts.collect();
        let arp = |words: &BTreeSet<u32>| filter(&arp::TELLING, arp::TARGET, words);
        let ndp = |words: &BTreeSet<u32>| filter(&ndp::TELLING, ndp::TARGET, words);
        let many = FILTERED as u32;
        for (few, all, mine, other) in [
            (arp(&v4(0..many)), arp(&v4(0..many + 1)), "10.0.0.240", "10.0.9.9"),
            (ndp(&v6(0..many)), ndp(&v6(0..many + 1)), "fd00::f0", "fd00::909"),
        ] {
            let (mine, other): (IpAddr, IpAddr) = (mine.parse().unwrap(), other.parse().unwrap());
            let answer = Frame::answer(Question { address: mine, asker: Some((other, mac)) }, mac).bytes;
            for (frame, want) in [
                (Frame::probe(mine, mac).bytes, [true, true]),
                (Frame::probe(other, mac).bytes, [false, true]),
                (answer, [false, false]),
                (Vec::new(), [false, false]),
            ] {
                assert_eq!([&few, &all].map(|program| passes(program, &frame)), want, "{frame:?}");
            }
        }
    }
}
