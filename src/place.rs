//! Where a command's own connections start: in this process's network, or in a pod's.

use std::{
    fs::File,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::AsFd as _,
};

use anyhow::Context as _;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::{TcpSocket, UdpSocket};

/// A network namespace.
#[derive(Debug, Default)]
pub(crate) struct Place(Option<File>);

impl Place {
    /// The network of a process.
    pub(crate) fn of(process: u32) -> anyhow::Result<Self> {
        let path = format!("/proc/{process}/ns/net");
        Ok(Self(Some(File::open(&path).with_context(|| format!("open {path}"))?)))
    }

    /// A TCP socket for a connection to an address of this family; it has its port already.
    pub(crate) fn tcp(&self, to: IpAddr) -> io::Result<TcpSocket> {
        self.make(|| {
            let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            socket.bind(any(to))?;
            Ok(socket)
        })
    }

    /// A UDP socket that sends to one place.
    pub(crate) async fn udp(&self, to: SocketAddr) -> io::Result<UdpSocket> {
        let socket = self.make(|| std::net::UdpSocket::bind(any(to.ip())))?;
        socket.set_nonblocking(true)?;
        let socket = UdpSocket::from_std(socket)?;
        socket.connect(to).await?;
        Ok(socket)
    }

    /// Makes a socket, which stays in the namespace that it was made in, whoever uses it.
    fn make<T: Send>(&self, make: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        let Self(Some(namespace)) = self else { return make() };
        let inside = || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            make()
        };
        // The thread ends with it, so that nothing else has moved.
        std::thread::scope(|scope| scope.spawn(inside).join().unwrap_or_else(|_| Err(io::Error::other("panicked"))))
    }
}

/// Any address of the same family, and a free port.
fn any(to: IpAddr) -> SocketAddr {
    match to {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}
