//! A pod's link: a routed veth pair with one address at each end's neighbour table, no bridge and
//! no ARP.

use super::netlink;
use crate::Error;
use ipnet::Ipv4Net;
use netlink_packet_route::link::{InfoData, InfoVeth};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth};
use std::{
    fs::{self, File},
    io,
    net::{Ipv4Addr, SocketAddr},
    os::fd::{AsFd, AsRawFd},
    path::Path,
};
use tokio::net::{TcpSocket, TcpStream};

/// The gateway that pods see. It exists only as a neighbour entry in each pod.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The hardware address of every host end; each is alone on its link.
const HOST: [u8; 6] = [0xee; 6];

/// Makes and removes the links of the node's pods. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Links {
    handle: Handle,
    prefix: String,
    node: Ipv4Addr,
    mtu: u32,
}

impl Links {
    /// Links of the cluster `cluster_id` in the current network namespace, as large as the uplink
    /// allows.
    pub(crate) async fn open(cluster_id: &str, node: Ipv4Addr) -> Result<Self, Error> {
        let handle = netlink::open()?;
        let mtu = super::uplink(&handle).await?.map_or(1500, |link| link.mtu);
        Ok(Self { handle, prefix: super::name(cluster_id), node, mtu })
    }

    /// The host end's name: the cluster's, and the last half of the address, which is the pod's
    /// alone on this node.
    fn name(&self, address: Ipv4Addr) -> String {
        let [_, _, c, d] = address.octets();
        format!("{}{c:02x}{d:02x}", self.prefix)
    }

    /// Gives the network namespace of process `pid` its `eth0` with that address, and the node the
    /// way to it.
    pub(crate) async fn add(&self, pid: u32, address: Ipv4Addr) -> Result<(), Error> {
        let path = format!("/proc/{pid}/ns/net");
        let namespace = File::open(&path).map_err(Error::io("open", &path))?;
        let name = self.name(address);
        netlink::remove(&self.handle, &name).await?;
        let [a, b, c, d] = address.octets();
        let hardware = [0x0a, 0x58, a, b, c, d];
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name("eth0")
            .address(hardware.to_vec())
            .mtu(self.mtu)
            .setns_by_fd(namespace.as_raw_fd())
            .build();
        let pair = LinkMessageBuilder::<LinkVeth>::new(&name, "eth0")
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .address(HOST.to_vec())
            .mtu(self.mtu)
            .up()
            .build();
        let added = self.handle.link().add(pair).execute().await;
        added.map_err(Error::link(format!("add link {name}")))?;
        let made = tokio::try_join!(self.outside(&name, address, hardware), async {
            tokio::task::spawn_blocking(move || inside(&namespace, address)).await.unwrap_or_else(|error| {
                Err(Error::Link { what: "enter the pod's network namespace".into(), reason: error.to_string() })
            })
        });
        if made.is_err() {
            let _ = netlink::remove(&self.handle, &name).await;
        }
        made.map(drop)
    }

    async fn outside(&self, name: &str, address: Ipv4Addr, hardware: [u8; 6]) -> Result<(), Error> {
        let conf = Path::new("/proc/sys/net/ipv4/conf").join(name);
        // Strict reverse path: a pod can not send from an address that is not its own.
        for (key, value) in [("forwarding", "1"), ("rp_filter", "1")] {
            let path = conf.join(key);
            fs::write(&path, value).map_err(Error::io("write", path))?;
        }
        super::without_ipv6(name);
        let link = netlink::link(&self.handle, name).await?;
        let index = link.map_or(0, |link| link.index);
        netlink::add_neighbour(&self.handle, index, address, hardware).await?;
        netlink::add_route(&self.handle, index, Ipv4Net::from(address), self.node).await
    }

    /// Removes a pod's link and what hangs on it.
    pub(crate) async fn remove(&self, address: Ipv4Addr) -> Result<(), Error> {
        netlink::remove(&self.handle, &self.name(address)).await
    }

    /// Removes the links of pods that are no more.
    pub(crate) async fn sweep(&self, kept: &[Ipv4Addr]) -> Result<(), Error> {
        let kept: Vec<String> = kept.iter().map(|address| self.name(*address)).collect();
        for link in netlink::links(&self.handle).await? {
            let digits = link.name.strip_prefix(&self.prefix);
            if digits.is_some_and(|digits| digits.len() == 4) && !kept.contains(&link.name) {
                netlink::remove(&self.handle, &link.name).await?;
            }
        }
        Ok(())
    }
}

/// The pod's end.
fn inside(namespace: &File, address: Ipv4Addr) -> Result<(), Error> {
    enter(namespace, || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .map_err(Error::io("start", "a runtime"))?;
        runtime.block_on(async {
            let handle = netlink::open()?;
            netlink::up(&handle, 1).await?;
            let link = netlink::link(&handle, "eth0").await?;
            let index = link.map_or(0, |link| link.index);
            // The kernel refuses a new pair whose second end is to be up (ENOTCONN): it has no peer yet.
            netlink::up(&handle, index).await?;
            netlink::add_address(&handle, index, address).await?;
            netlink::add_neighbour(&handle, index, GATEWAY, HOST).await?;
            netlink::add_default(&handle, index, GATEWAY).await
        })
    })
}

/// Does something on a thread that enters a network namespace and is thrown away.
fn enter<T: Send>(namespace: &File, work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
    let within = || {
        let network = rustix::thread::LinkNameSpaceType::Network;
        rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(network))
            .map_err(Error::io("enter", "the pod's network namespace"))?;
        work()
    };
    std::thread::scope(|scope| {
        let thread = scope.spawn(within);
        thread.join().unwrap_or_else(|_| {
            Err(Error::Link {
                what: "work in the pod's network namespace".into(),
                reason: "the thread panicked".into(),
            })
        })
    })
}

/// Connects from inside the network namespace of process `pid`.
pub(crate) async fn dial(pid: u32, address: SocketAddr) -> io::Result<TcpStream> {
    let made = tokio::task::spawn_blocking(move || {
        let path = format!("/proc/{pid}/ns/net");
        let namespace = File::open(&path).map_err(Error::io("open", &path))?;
        let socket = || if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        enter(&namespace, || socket().map_err(Error::io("make", "a socket")))
    });
    made.await?.map_err(io::Error::other)?.connect(address).await
}

/// An error of a connection in the words that Kubernetes has for it.
pub(crate) fn said(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".into(),
        io::ErrorKind::HostUnreachable => "no route to host".into(),
        io::ErrorKind::NetworkUnreachable => "network is unreachable".into(),
        io::ErrorKind::TimedOut => "i/o timeout".into(),
        _ => error.to_string(),
    }
}
