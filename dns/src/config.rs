//! What a server is made from.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

/// The settings of a server.
#[derive(Debug, Clone)]
pub struct Config {
    /// The Corefile; [`standard`](crate::standard) is one to begin with.
    pub corefile: String,
    /// The address that pods ask; what `ns.dns.<domain>` leads to.
    pub address: Option<IpAddr>,
}

/// Where a server listens: bound sockets, of whatever network namespace. Bind addresses rather
/// than `0.0.0.0`: an answer leaves from the address that the route out has.
#[derive(Debug, Default)]
pub struct Sockets {
    /// IPv4 UDP sockets; each gets a thread. Several can share a port by SO_REUSEPORT.
    pub udp: Vec<UdpSocket>,
    /// TCP listeners.
    pub tcp: Vec<TcpListener>,
}

impl Sockets {
    /// The addresses that are listened on.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        let udp = self.udp.iter().filter_map(|socket| socket.local_addr().ok());
        udp.chain(self.tcp.iter().filter_map(|listener| listener.local_addr().ok())).collect()
    }
}

/// Why a server can't be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cluster's domain is not a domain name.
    #[error("cluster domain {0:?} is not a domain name")]
    Domain(String),
    /// The Corefile is wrong.
    #[error(transparent)]
    Corefile(#[from] crate::corefile::Error),
    /// A UDP socket of another family than IPv4.
    #[error("dns socket {0} is not of IPv4")]
    Family(SocketAddr),
    /// The kernel refused something.
    #[error("dns socket: {0}")]
    Socket(#[from] std::io::Error),
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
