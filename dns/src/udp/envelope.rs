//! From where a datagram came, and to which address of ours: an answer leaves from there.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr;

/// Words that hold the control message of one `in6_pktinfo`, the larger one.
const CONTROL: usize = 5;

/// The names on a datagram, as the kernel has them.
#[derive(Clone, Copy)]
pub(super) struct Envelope {
    /// A `sockaddr_in` when its family says so.
    client: libc::sockaddr_in6,
    /// A control message (cmsg(3)) with an `in_pktinfo` or an `in6_pktinfo`, as long as it says.
    control: [u64; CONTROL],
    length: usize,
}

impl Default for Envelope {
    fn default() -> Self {
        // SAFETY: it is plain integers, for which zero is a value.
        Envelope { client: unsafe { std::mem::zeroed() }, control: [0; CONTROL], length: 0 }
    }
}

/// Lets the kernel say to which address of ours each datagram was sent, if the socket has not just
/// one; true when it will.
pub(super) fn informed(socket: &UdpSocket) -> io::Result<bool> {
    let address = socket.local_addr()?;
    if !address.ip().is_unspecified() {
        return Ok(false);
    }
    let (level, option) = match address {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO),
        // On a socket of both families it is so for IPv4, too.
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    };
    let on: libc::c_int = 1;
    // SAFETY: the value is an int of the stated size that outlives the call.
    let done = unsafe {
        let size = size_of::<libc::c_int>() as libc::socklen_t;
        libc::setsockopt(socket.as_raw_fd(), level, option, ptr::from_ref(&on).cast(), size)
    };
    match done {
        0 => Ok(true),
        _ => Err(io::Error::last_os_error()),
    }
}

impl Envelope {
    /// Lets a header receive into this.
    pub(super) fn receive(&mut self, header: &mut libc::msghdr, informed: bool) {
        header.msg_name = ptr::from_mut(&mut self.client).cast();
        header.msg_namelen = size_of::<libc::sockaddr_in6>() as u32;
        if informed {
            header.msg_control = self.control.as_mut_ptr().cast();
            header.msg_controllen = size_of_val(&self.control);
        }
    }

    /// Takes what a header has received, and makes it what an answer needs: its interface is the
    /// one that the route has.
    pub(super) fn received(&mut self, header: &libc::msghdr) {
        self.length = header.msg_controllen;
        match self.info() {
            Some(Info::V4(info)) => info.ipi_ifindex = 0,
            Some(Info::V6(info)) => info.ipi6_ifindex = 0,
            None => self.length = 0,
        }
    }

    /// Lets a header send back to where this came from.
    pub(super) fn send(&mut self, header: &mut libc::msghdr) {
        header.msg_name = ptr::from_mut(&mut self.client).cast();
        header.msg_namelen = match i32::from(self.client.sin6_family) {
            libc::AF_INET => size_of::<libc::sockaddr_in>() as u32,
            _ => size_of::<libc::sockaddr_in6>() as u32,
        };
        header.msg_control = if self.length == 0 { ptr::null_mut() } else { self.control.as_mut_ptr().cast() };
        header.msg_controllen = self.length;
    }

    /// Who asks.
    pub(super) fn client(&self) -> SocketAddr {
        let client = &self.client;
        if i32::from(client.sin6_family) == libc::AF_INET {
            // SAFETY: the family says that it is a sockaddr_in, which is smaller and no stricter in
            // its alignment.
            let client = unsafe { &*ptr::from_ref(client).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(client.sin_addr.s_addr));
            return SocketAddr::from((ip, u16::from_be(client.sin_port)));
        }
        let ip = Ipv6Addr::from(client.sin6_addr.s6_addr);
        SocketAddr::new(ip.to_canonical(), u16::from_be(client.sin6_port))
    }

    /// The address of ours that was asked, if the kernel was to say it.
    pub(super) fn server(&self) -> Option<IpAddr> {
        match { *self }.info()? {
            Info::V4(info) => Some(Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr)).into()),
            Info::V6(info) => Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).to_canonical()),
        }
    }

    fn info(&mut self) -> Option<Info<'_>> {
        if self.length == 0 {
            return None;
        }
        // SAFETY: zero is a value of plain integers and pointers.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_control = self.control.as_mut_ptr().cast();
        header.msg_controllen = self.length.min(size_of_val(&self.control));
        // SAFETY: the header's control buffer is valid for its length, and aligned as a cmsghdr. The
        // data is as long as its kind, which the kernel wrote, has it; it lies in `self`, which is
        // borrowed for as long as the result; its alignment is that of a cmsghdr, so enough.
        unsafe {
            let message = libc::CMSG_FIRSTHDR(&header);
            let kind = message.as_ref().map(|message| (message.cmsg_level, message.cmsg_type))?;
            match kind {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    libc::CMSG_DATA(message).cast::<libc::in_pktinfo>().as_mut().map(Info::V4)
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    libc::CMSG_DATA(message).cast::<libc::in6_pktinfo>().as_mut().map(Info::V6)
                }
                _ => None,
            }
        }
    }
}

/// What the kernel says about a datagram.
enum Info<'a> {
    V4(&'a mut libc::in_pktinfo),
    V6(&'a mut libc::in6_pktinfo),
}

/// Sends one datagram back, or not: a client whose answer is lost asks again.
pub(super) fn send(socket: &UdpSocket, reply: &[u8], envelope: &Envelope) {
    let mut envelope = *envelope;
    let mut vector = libc::iovec { iov_base: reply.as_ptr().cast_mut().cast(), iov_len: reply.len() };
    // SAFETY: zero is a value of plain integers and pointers.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &mut vector;
    header.msg_iovlen = 1;
    envelope.send(&mut header);
    // SAFETY: the header points at `vector`, which points at `reply`, and into `envelope`; all of
    // them outlive the call, which only reads them.
    if unsafe { libc::sendmsg(socket.as_raw_fd(), &header, libc::MSG_DONTWAIT) } < 0 {
        tracing::debug!("dns answer to {}: {}", envelope.client(), io::Error::last_os_error());
    }
}
