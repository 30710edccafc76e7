//! What a server is made from.

use std::future::ready;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use socket2::{Domain, Socket, Type};
use state::{Scope, Snapshot};
use tokio::sync::watch::Receiver;

/// How many connections wait to be accepted; the system's limit counts if it is lower.
const BACKLOG: i32 = 1024;

/// The settings of a server.
#[derive(Debug, Clone)]
pub struct Config {
    /// The Corefile; [`standard`](crate::standard) is one to begin with.
    pub corefile: String,
    /// The address that pods ask; what `ns.dns.<domain>` leads to.
    pub address: Option<IpAddr>,
    /// What is listened on where the Corefile says port 53: that, or another for who may not have it.
    pub port: u16,
}

/// Where sockets come from: the network namespace and the addresses are the caller's choice.
///
/// A server asks for what the blocks of its Corefile need; `[::]` is asked for where a block names
/// no address, and means every address of both families.
#[derive(Clone)]
pub struct Sockets {
    /// Makes a UDP socket at an address. It is called several times for the same address: the
    /// sockets share it by SO_REUSEPORT.
    pub udp: Arc<dyn Fn(SocketAddr) -> BoxFuture<'static, io::Result<UdpSocket>> + Send + Sync>,
    /// Makes a TCP listener at an address.
    pub tcp: Arc<dyn Fn(SocketAddr) -> BoxFuture<'static, io::Result<TcpListener>> + Send + Sync>,
}

impl Sockets {
    /// Sockets of this process's network namespace.
    pub fn host() -> Self {
        Sockets {
            udp: Arc::new(|address| ready(datagrams(address)).boxed()),
            tcp: Arc::new(|address| ready(listener(address)).boxed()),
        }
    }
}

fn datagrams(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = bound(address, Type::DGRAM, |socket| socket.set_reuse_port(true))?;
    Ok(socket.into())
}

fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = bound(address, Type::STREAM, |socket| socket.set_reuse_address(true))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A bound socket; `[::]` is of both families, or of IPv4 on a machine that has nothing else.
fn bound(address: SocketAddr, kind: Type, share: fn(&Socket) -> io::Result<()>) -> io::Result<Socket> {
    let bind = |address: SocketAddr| -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(address), kind, None)?;
        if address.is_ipv6() {
            socket.set_only_v6(!address.ip().is_unspecified())?;
        }
        share(&socket)?;
        socket.bind(&address.into())?;
        Ok(socket)
    };
    match bind(address) {
        Err(error)
            if address.ip() == IpAddr::from(Ipv6Addr::UNSPECIFIED)
                && matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)) =>
        {
            bind((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        bound => bound,
    }
}

/// Gives the Snapshots of what is in a scope. It is called for each `kubernetes` of a Corefile,
/// again at each reload; a watch can end when its receivers are gone.
pub type Snapshots = Arc<dyn Fn(Scope) -> Receiver<Arc<Snapshot>> + Send + Sync>;

/// Why a server can't be made, or not be made another.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Corefile is wrong.
    #[error(transparent)]
    Corefile(#[from] crate::corefile::Error),
    /// An address can't be listened on.
    #[error("listen on {server}: {error}")]
    Listen {
        /// What it is for, such as `dns://:53`, or `health` and an address.
        server: String,
        /// The kernel's word.
        error: io::Error,
    },
}

/// The `nameserver` lines of a resolv.conf(5), each at port 53. Addresses with a scope are left out.
pub(crate) fn resolvers(text: &str) -> Vec<SocketAddr> {
    let address = |line: &str| {
        let mut words = line.split_whitespace();
        let ip: IpAddr = words.next().filter(|word| *word == "nameserver").and(words.next())?.parse().ok()?;
        Some(SocketAddr::new(ip, 53))
    };
    text.lines().filter_map(address).collect()
}

/// The upstreams without our own addresses: a question sent there would come back for ever.
pub(crate) fn without_loops(upstreams: &[SocketAddr], own: &[SocketAddr]) -> Vec<SocketAddr> {
    let ours = |upstream: &SocketAddr| {
        own.iter().any(|own| {
            let any = own.ip().is_unspecified() && (upstream.ip().is_loopback() || upstream.ip().is_unspecified());
            own.port() == upstream.port() && (own.ip() == upstream.ip() || any)
        })
    };
    let (loops, kept): (Vec<_>, Vec<_>) = upstreams.iter().copied().partition(ours);
    for upstream in loops {
        tracing::warn!("dns does not forward to {upstream}: it is its own address");
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf() {
        let text = "# x\nsearch a.example\nnameserver 192.0.2.1\n nameserver 2001:db8::1 # two\nnameserver fe80::1%eth0\nnameserver\noptions ndots:1\n";
        let want: Vec<SocketAddr> = vec!["192.0.2.1:53".parse().unwrap(), "[2001:db8::1]:53".parse().unwrap()];
        assert_eq!(resolvers(text), want);
    }

    #[test]
    fn loops_are_refused() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let upstreams = [at("127.0.0.1:53"), at("127.0.0.53:53"), at("192.0.2.1:53")];
        assert_eq!(without_loops(&upstreams, &[at("127.0.0.1:53")]), upstreams[1..]);
        assert_eq!(without_loops(&upstreams, &[at("0.0.0.0:53")]), upstreams[2..]);
        assert_eq!(without_loops(&upstreams, &[at("127.0.0.1:5353")]), upstreams);
    }
}
