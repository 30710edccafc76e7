//! Corefile → what is to be open, and the chains behind it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::Name;
use rustls::ServerConfig;
use sha2::{Digest, Sha512};

use super::{Environment, Server};
use crate::Error;
use crate::chain;
use crate::corefile::{self, Block, Key, Transport};
use crate::endpoint::{Endpoint, threads};
use crate::metrics::DROPPED;
use crate::pages::Site;
use crate::plugin::bind;
use crate::servers::{self, Servers};

/// A Corefile, built. What runs beside its chains ends when the last question that entered them is
/// answered.
pub(super) struct Configuration {
    pub(super) endpoints: BTreeMap<Endpoint, Arc<Servers>>,
    /// Where there are pages, and a directive that wants them.
    pub(super) pages: BTreeMap<SocketAddr, &'static str>,
    pub(super) site: Site,
    pub(super) lameduck: Duration,
    /// What the log says of it.
    pub(super) keys: Vec<String>,
}

impl Server {
    /// Builds a Corefile; nothing is opened yet.
    pub(super) fn build(&self, mut blocks: Vec<Block>) -> Result<Configuration, Error> {
        let version = checksum(&blocks);
        for key in blocks.iter_mut().flat_map(|block| &mut block.keys).filter(|key| key.port == 53) {
            key.port = self.port;
        }
        let environment = self.environment(&blocks)?;
        let (metrics, leaving) = (self.metrics.clone(), self.leaving.clone());
        let mut site = Site { version, metrics, leaving, ..Default::default() };
        let (mut servers, mut background) = (BTreeMap::<Endpoint, (Vec<_>, bool)>::new(), Vec::new());
        let mut lameduck = Duration::ZERO;
        for block in &blocks {
            let (chain, mut tasks, mut beside) = chain::build(block, &environment)?;
            background.append(&mut tasks);
            site.pages.append(&mut beside.pages);
            site.checks.append(&mut beside.checks);
            lameduck = lameduck.max(beside.lameduck);
            for (index, (endpoint, zone)) in endpoints(block)?.into_iter().enumerate() {
                let (label, name) = (endpoint.to_string(), zone.to_string());
                let mut server = servers::Server::new(zone, chain.clone());
                let (all, metered) = servers.entry(endpoint).or_default();
                if beside.metered {
                    server.meter = Some(self.metrics.meter(&label, &name, threads()));
                    *metered = true;
                    if index == 0 {
                        let collectors = beside.collectors.drain(..);
                        site.collectors.extend(collectors.map(|collector| (label.clone(), collector)));
                    }
                    site.enabled.push((label, name, plugins(block)));
                }
                all.push(server);
            }
        }
        let token = self.stop.child_token();
        for task in background {
            self.tasks.spawn(token.clone().run_until_cancelled_owned(task));
        }
        let held = Arc::new(token.drop_guard());
        let servers = servers.into_iter().map(|(endpoint, (servers, metered))| {
            let mut servers = Servers::new(servers, held.clone());
            servers.dropped = metered.then(|| self.metrics.meter(&endpoint.to_string(), DROPPED, threads()));
            servers.tls = servers.tls.map(|tls| protocol(endpoint.transport, &tls));
            (endpoint, Arc::new(servers))
        });
        let pages = site.pages.iter().map(|page| (page.address, page.directive)).collect();
        let keys = blocks.iter().flat_map(|block| &block.keys).map(Key::to_string).collect();
        Ok(Configuration { endpoints: servers.collect(), pages, site, lameduck, keys })
    }

    fn environment(&self, blocks: &[Block]) -> Result<Environment, Error> {
        let mut addresses = Vec::new();
        for block in blocks {
            for (endpoint, _) in endpoints(block)? {
                // Where no address is named, ours is among those that are listened on.
                let named = self.address.filter(|_| endpoint.address.ip().is_unspecified());
                addresses.extend(named.map(|ip| SocketAddr::new(ip, endpoint.address.port())));
                addresses.push(endpoint.address);
            }
        }
        let (snapshots, metrics) = (self.snapshots.clone(), self.metrics.clone());
        Ok(Environment { snapshots, address: self.address, addresses, metrics })
    }
}

/// Where a block listens, and for which zone.
fn endpoints(block: &Block) -> Result<Vec<(Endpoint, Name)>, corefile::Error> {
    let mut addresses = bind::addresses(block)?;
    if addresses.is_empty() {
        addresses.push(Ipv6Addr::UNSPECIFIED.into());
    }
    let endpoint = |key: &Key, ip| Endpoint { transport: key.transport, address: SocketAddr::new(ip, key.port) };
    let of = |key| addresses.iter().map(move |ip| (endpoint(key, *ip), key.zone.clone()));
    Ok(block.keys.iter().flat_map(of).collect())
}

/// Certificates for what is spoken over TLS (RFC 7858 §3.2 and RFC 8484 §5.2; ALPN).
fn protocol(transport: Transport, tls: &ServerConfig) -> Arc<ServerConfig> {
    let names: &[&[u8]] = match transport {
        Transport::Https => &[b"h2", b"http/1.1"],
        Transport::Dns | Transport::Tls => &[b"dot"],
    };
    let mut tls = tls.clone();
    tls.alpn_protocols = names.iter().map(|name| name.to_vec()).collect();
    Arc::new(tls)
}

/// The plugins of a block that questions pass, in the order in which they do.
fn plugins(block: &Block) -> Vec<&'static str> {
    let used = |name: &str| block.directives.iter().any(|directive| directive.name.text == name);
    // As with CoreDNS, those that only set something do not count.
    let passed = |name: &&str| !["bind", "health", "ready", "reload", "tls", "trace"].contains(name);
    chain::PLUGINS.iter().map(|row| row.name).filter(passed).filter(|name| used(name)).collect()
}

/// Of what was read, as with CoreDNS, so that imported files count.
fn checksum(blocks: &[Block]) -> String {
    Sha512::digest(format!("{blocks:?}")).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
