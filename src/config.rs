//! How a cluster is set up: the options of `coracle up`, and what follows from them.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4, UdpSocket},
    ops::RangeInclusive,
    path::PathBuf,
};

use anyhow::{Context as _, bail};
use clap::{Args as _, FromArgMatches as _};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::data::Dir;

/// The node's address when it is in namespaces of its own.
pub(crate) const ISOLATED_NODE: Ipv4Addr = Ipv4Addr::new(10, 240, 0, 2);

/// How connections get from a Service to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Plane {
    /// The best of those that work here
    Auto,
    /// By nftables in the kernel
    #[value(alias = "nftables")]
    Kernel,
    /// By relays in this process, which need no privilege
    #[value(alias = "userspace")]
    User,
}

/// Options of a cluster.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Where everything of the cluster is kept
    #[arg(long, value_name = "DIR", default_value_os_t = Dir::default_path())]
    pub data_dir: PathBuf,
    /// Run the node in namespaces of its own: needs no root and touches nothing of this machine
    #[arg(long)]
    pub isolated: bool,
    /// Port of the API server; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 6443)]
    pub api_port: u16,
    /// Further addresses for the API server, besides 127.0.0.1
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Vec<IpAddr>,
    /// Name of the node
    #[arg(long, value_name = "NAME", default_value = "coracle")]
    pub node_name: String,
    /// Address of the node; the one of the default route unless given
    #[arg(long, value_name = "ADDRESS")]
    pub node_ip: Option<Ipv4Addr>,
    /// Addresses of pods
    #[arg(long, value_name = "CIDR", default_value = "10.244.0.0/16")]
    pub pod_cidr: Ipv4Net,
    /// Addresses of Services; the first one is `kubernetes`, the tenth is DNS. An IPv6 range may follow the IPv4 one
    #[arg(long, value_name = "CIDR[,CIDR]", value_delimiter = ',', default_value = "10.96.0.0/12")]
    pub service_cidr: Vec<IpNet>,
    /// Ports of NodePort Services
    #[arg(long, value_name = "FIRST-LAST", default_value = "30000-32767", value_parser = node_ports)]
    pub node_ports: RangeInclusive<u16>,
    /// DNS domain of the cluster
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,
    /// How connections get from Services to pods: "kernel" leaves BPF programs out
    #[arg(long, value_enum, default_value_t = Plane::Auto)]
    pub plane: Plane,
    /// The program that an isolated node's processes run: `coracle`, of this version. This program unless given.
    #[arg(skip = PathBuf::from("/proc/self/exe"))]
    pub binary: PathBuf,
}

impl Options {
    /// Those of a cluster with an isolated node, on a free port: as `coracle up --isolated --api-port=0` with this data
    /// directory. Its processes run the `coracle` of that path.
    ///
    /// # Panics
    /// Never: the defaults are well-formed, which a test checks.
    #[must_use]
    pub fn isolated(data_dir: impl Into<PathBuf>, coracle: impl Into<PathBuf>) -> Self {
        let parsed = Self::augment_args(clap::Command::new("up")).get_matches_from([""]);
        let defaults = Self::from_arg_matches(&parsed).expect("defaults");
        Self { data_dir: data_dir.into(), isolated: true, api_port: 0, binary: coracle.into(), ..defaults }
    }

    /// Checks what clap cannot.
    ///
    /// # Errors
    /// For ranges that are too small or overlap, and names that are no DNS names.
    pub fn check(&self) -> anyhow::Result<()> {
        if self.plane == Plane::User {
            bail!("--plane user serves no pods: it is for `coracle proxy`");
        }
        let services = match self.service_cidr[..] {
            [IpNet::V4(range)] | [IpNet::V4(range), IpNet::V6(_)] => range,
            _ => bail!("--service-cidr takes an IPv4 range, and after it at most one of IPv6"),
        };
        if let Some(range) = self.service_cidr.iter().find(|range| range.max_prefix_len() - range.prefix_len() < 8) {
            bail!("--service-cidr {range} is too small: 256 addresses or more are needed");
        }
        if self.pod_cidr.prefix_len() > 24 {
            bail!("--pod-cidr {} is too small: each node takes a /24 of it", self.pod_cidr);
        }
        if self.pod_cidr.contains(&services) || services.contains(&self.pod_cidr) {
            bail!("--pod-cidr {} and --service-cidr {services} overlap", self.pod_cidr);
        }
        let label = |text: &str| {
            let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
            (1..=63).contains(&text.len())
                && text.chars().all(|c| edge(c) || c == '-')
                && text.starts_with(edge)
                && text.ends_with(edge)
        };
        for (option, name) in [("--node-name", &self.node_name), ("--cluster-domain", &self.cluster_domain)] {
            if !name.split('.').all(label) {
                bail!("{option} {name:?} is no DNS name: lower-case letters, digits, '-' and '.' only");
            }
        }
        Ok(())
    }

    /// The address that stands for all addresses, when the API server is to listen there.
    pub(crate) fn listens_everywhere(&self) -> Option<IpAddr> {
        self.listen.iter().copied().find(IpAddr::is_unspecified)
    }

    /// The IPv4 range of Services: what this cluster's nodes and its own Services have addresses of.
    ///
    /// # Panics
    /// Where [`check`](Self::check) refuses them.
    pub(crate) fn services(&self) -> Ipv4Net {
        let four = |range: &IpNet| if let IpNet::V4(range) = range { Some(*range) } else { None };
        self.service_cidr.iter().find_map(four).expect("an IPv4 range, which was checked")
    }

    /// The first address of the first node's pods: the node answers there itself.
    pub(crate) fn gateway(&self) -> Ipv4Addr {
        nth(self.pod_cidr, 1)
    }

    /// The address of the `kubernetes` Service.
    pub(crate) fn kubernetes(&self) -> Ipv4Addr {
        nth(self.services(), 1)
    }

    /// The address of the cluster's DNS.
    pub(crate) fn dns(&self) -> Ipv4Addr {
        nth(self.services(), 10)
    }

    /// Where pods reach the API server.
    pub(crate) fn api(&self, port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(self.gateway(), port)
    }

    /// The names and addresses in the API server's certificate.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names = apiserver::server_names(&self.cluster_domain, self.kubernetes().into());
        names.push(self.node_name.clone());
        names.push(self.gateway().to_string());
        names.extend(self.listen.iter().map(ToString::to_string));
        names.extend(self.node_ip.iter().map(ToString::to_string));
        if self.listens_everywhere().is_some() {
            names.extend(own_address(WORLD.0.into()).map(|address| address.to_string()));
        }
        names
    }

    /// What the node is told.
    pub(crate) fn node(&self, dir: &Dir, cluster_id: String) -> NodeConfig {
        NodeConfig {
            data_dir: dir.path().to_owned(),
            cluster_id,
            node_name: self.node_name.clone(),
            node_ip: self.node_ip.or(self.isolated.then_some(ISOLATED_NODE)),
            cluster_cidr: self.pod_cidr,
            service_cidr: self.services(),
            service_cidr_v6: self
                .service_cidr
                .iter()
                .find_map(|range| if let IpNet::V6(range) = range { Some(*range) } else { None }),
            gateway: self.gateway(),
            dns: self.dns(),
            cluster_domain: self.cluster_domain.clone(),
            bpf: self.plane == Plane::Auto,
            single_uid: false,
        }
    }
}

/// Addresses of ranges for documents, which are nobody's.
const WORLD: (Ipv4Addr, Ipv6Addr) = (Ipv4Addr::new(192, 0, 2, 1), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

/// The address that others reach this machine by: the one that packets to the world leave from, as to this address.
fn own_address(world: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = if world.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    // Connecting only asks for the route.
    socket.connect((world, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// The address `n` places into a range.
fn nth(range: Ipv4Net, n: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(range.network()) + n)
}

fn node_ports(text: &str) -> anyhow::Result<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').context("expected FIRST-LAST, like 30000-32767")?;
    let (first, last) = (first.parse::<u16>()?, last.parse::<u16>()?);
    if first == 0 || first > last {
        bail!("{first} to {last} is no range of ports");
    }
    Ok(first..=last)
}

/// What the node's half of a cluster is told; it crosses to another process when isolated.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct NodeConfig {
    /// The cluster's directory.
    pub data_dir: PathBuf,
    /// Six hex digits.
    pub cluster_id: String,
    /// Its name.
    pub node_name: String,
    /// Its address, unless it is to be found out.
    pub node_ip: Option<Ipv4Addr>,
    /// Addresses of all pods.
    pub cluster_cidr: Ipv4Net,
    /// Addresses of all Services.
    pub service_cidr: Ipv4Net,
    /// Their addresses of IPv6, where they have some.
    pub service_cidr_v6: Option<Ipv6Net>,
    /// The node's address towards its pods.
    pub gateway: Ipv4Addr,
    /// The cluster's DNS.
    pub dns: Ipv4Addr,
    /// `cluster.local`
    pub cluster_domain: String,
    /// Pods may reach Services by BPF programs at their sockets, where the kernel allows it.
    pub bpf: bool,
    /// The user namespace has only one user.
    pub single_uid: bool,
}

impl NodeConfig {
    /// The machine's address of IPv6, where Services have some and it has a way to the world.
    pub(crate) fn node_ip_v6(&self) -> Option<IpAddr> {
        let usable = |own: &IpAddr| matches!(own, IpAddr::V6(own) if !own.is_unicast_link_local());
        self.service_cidr_v6.and_then(|_| own_address(WORLD.1.into())).filter(usable)
    }

    /// Addresses of this node's pods.
    pub(crate) fn pod_cidr(&self) -> Ipv4Net {
        Ipv4Net::new(self.cluster_cidr.network(), 24).unwrap_or(self.cluster_cidr)
    }
}
