//! What the machine needs before anything binds to the cluster's addresses: a link of ours that
//! carries them, the route of the service range, and forwarding.

mod address;
mod netlink;
mod overlap;
mod pod;

pub(crate) use address::Addresses;
pub use netlink::machine_addresses;
pub(crate) use pod::{Links, dial, said};

use crate::Error;
use ipnet::Ipv4Net;
use netlink::Link;
use rtnetlink::{Handle, LinkMessageBuilder, LinkVeth};
use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

/// Where the machine's global forwarding is switched.
const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
/// The file in the data directory that remembers that forwarding was off.
const MEMORY: &str = "ip_forward.was";

/// What [`Network::setup`] has to know.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// Six lower-case hex digits; part of the name of every link.
    pub cluster_id: String,
    /// The range of Service addresses.
    pub service_cidr: Ipv4Net,
    /// The range of all pods of the cluster.
    pub pod_cidr: Ipv4Net,
    /// The cluster's DNS address, made a local one.
    pub dns_address: Ipv4Addr,
    /// The node's address towards its pods, the first of its own part of the range: programs of
    /// the cluster that pods have to reach listen there.
    pub gateway: Ipv4Addr,
    /// The node's address. One that no link has is put on ours (the isolated shape); `None` takes
    /// the address that the default route leaves from.
    pub node_address: Option<Ipv4Addr>,
    /// Where the machine's former forwarding is remembered; made when it is missing.
    pub data_dir: PathBuf,
}

/// The machine's part of the cluster network, from [`Network::setup`] to [`Network::teardown`].
#[derive(Debug)]
pub struct Network {
    handle: Handle,
    config: NetworkConfig,
    node_address: Ipv4Addr,
}

impl Network {
    /// Checks that the ranges are free, then makes links, addresses and routes in the current
    /// network namespace. What a former run left behind is replaced.
    ///
    /// # Errors
    /// [`Error::Overlap`] when a range is in use, [`Error::NoAddress`] when no address can be the
    /// node's, [`Error::Link`] and [`Error::Io`] when the kernel refuses (no privilege).
    pub async fn setup(config: NetworkConfig) -> Result<Self, Error> {
        let handle = netlink::open()?;
        let name = name(&config.cluster_id);
        let used = netlink::used(&handle, &name).await?;
        overlap::check(config.service_cidr, config.pod_cidr, &used)?;
        netlink::up(&handle, 1).await?;
        let node_address = match config.node_address {
            Some(address) => address,
            None => detect(&handle, &name).await?.ok_or(Error::NoAddress)?,
        };
        let network = Self { handle, config, node_address };
        if let Err(error) = network.make(&name).await {
            let _ = network.teardown().await;
            return Err(error);
        }
        Ok(network)
    }

    /// The address by which pods and clients reach this node.
    pub fn node_address(&self) -> Ipv4Addr {
        self.node_address
    }

    async fn make(&self, name: &str) -> Result<(), Error> {
        let (handle, config) = (&self.handle, &self.config);
        netlink::remove(handle, name).await?;
        // Some kernels lack dummy links; a veth pair with both ends here does the same.
        let peer = format!("{name}p");
        let pair = LinkMessageBuilder::<LinkVeth>::new(name, &peer).up().build();
        let added = handle.link().add(pair).execute().await;
        added.map_err(Error::link(format!("add link {name}")))?;
        without_ipv6(name);
        without_ipv6(&peer);
        let link = netlink::link(handle, name).await?;
        let index = link.map_or(0, |link| link.index);
        if let Some(peer) = netlink::link(handle, &peer).await? {
            netlink::up(handle, peer.index).await?;
        }
        let known = netlink::addresses(handle).await?;
        if !known.iter().any(|known| known.address == self.node_address) {
            netlink::add_address(handle, index, self.node_address).await?;
        }
        netlink::add_address(handle, index, config.dns_address).await?;
        netlink::add_address(handle, index, config.gateway).await?;
        netlink::add_route(handle, index, config.service_cidr, self.node_address).await?;
        self.forward()
    }

    /// Switches forwarding on; remembers first that it was off.
    fn forward(&self) -> Result<(), Error> {
        let now = fs::read_to_string(FORWARD).map_err(Error::io("read", FORWARD))?;
        if now.trim() != "0" {
            return Ok(());
        }
        let dir = &self.config.data_dir;
        fs::create_dir_all(dir).map_err(Error::io("make", dir))?;
        let memory = dir.join(MEMORY);
        fs::write(&memory, "0").map_err(Error::io("write", memory))?;
        fs::write(FORWARD, "1").map_err(Error::io("write", FORWARD))
    }

    /// Removes all links of the cluster with their addresses and routes, and restores forwarding.
    /// Goes on after an error and returns the first.
    ///
    /// # Errors
    /// [`Error::Link`] and [`Error::Io`] when the kernel refuses.
    pub async fn teardown(&self) -> Result<(), Error> {
        remove(&self.handle, &self.config.cluster_id, &self.config.data_dir).await
    }
}

/// Removes what a killed process left of a cluster's network; see [`Network::teardown`].
pub(crate) async fn remove_remains(cluster_id: &str, data_dir: &Path) -> Result<(), Error> {
    remove(&netlink::open()?, cluster_id, data_dir).await
}

async fn remove(handle: &Handle, cluster_id: &str, data_dir: &Path) -> Result<(), Error> {
    let prefix = name(cluster_id);
    let mut done = Ok(());
    for link in netlink::links(handle).await? {
        // The second end of a pair goes with the first.
        if link.name.starts_with(&prefix) {
            done = done.and(netlink::remove(handle, &link.name).await);
        }
    }
    let memory = data_dir.join(MEMORY);
    if let Ok(was) = fs::read_to_string(&memory) {
        done = done.and(fs::write(FORWARD, was).map_err(Error::io("write", FORWARD)));
        done = done.and(fs::remove_file(&memory).map_err(Error::io("remove", memory)));
    }
    done
}

/// The name of the cluster's own link; those of its pods begin with it.
fn name(cluster_id: &str) -> String {
    format!("cor{cluster_id}")
}

/// The link of the default route.
async fn uplink(handle: &Handle) -> Result<Option<Link>, Error> {
    let routes = netlink::routes(handle).await?;
    let Some(default) = routes.iter().find(|route| route.range.prefix_len() == 0) else {
        return Ok(None);
    };
    let links = netlink::links(handle).await?;
    Ok(links.into_iter().find(|link| link.index == default.link))
}

/// The address that the default route leaves from; without one, the first that is not local.
async fn detect(handle: &Handle, ours: &str) -> Result<Option<Ipv4Addr>, Error> {
    let routes = netlink::routes(handle).await?;
    let default = routes.iter().find(|route| route.range.prefix_len() == 0);
    if let Some(source) = default.and_then(|route| route.source) {
        return Ok(Some(source));
    }
    let links = netlink::links(handle).await?;
    let usable: Vec<_> = netlink::addresses(handle)
        .await?
        .into_iter()
        .filter(|a| !a.address.is_loopback() && !a.address.is_link_local())
        .filter(|a| {
            let mine = |link: &&Link| link.index == a.link && link.name.starts_with(ours);
            links.iter().find(mine).is_none()
        })
        .collect();
    let up = default.and_then(|route| usable.iter().find(|a| a.link == route.link));
    Ok(up.or(usable.first()).map(|found| found.address))
}

/// Keeps IPv6 chatter off a link. Machines without IPv6 have nothing to switch off.
fn without_ipv6(link: &str) {
    let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{link}/disable_ipv6"), "1");
}
