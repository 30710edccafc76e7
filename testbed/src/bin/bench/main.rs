//! Benchmarks of Coracle: `cargo run --release -p coracle-testbed --bin bench -- lab`.
//!
//! They run in namespaces of their own and print ratios against something in the same run, since
//! a figure alone says more about the machine than about the program.

mod api;
mod cluster;
mod dns;
mod ingress;
mod lab;
mod meter;
mod process;
mod proxy;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Parser;

/// Benchmarks of Coracle
#[derive(Debug, Parser)]
#[command(name = "bench")]
enum Command {
    /// Start-up, deployment, idle memory and CPU, size of the binary
    Lab {
        /// How long the idle cluster is looked at
        #[arg(long, value_name = "SECONDS", default_value_t = 60)]
        idle: u64,
    },
    #[command(hide = true)]
    LabInside { coracle: PathBuf, idle: u64 },
    /// Starts, writes, gets, lists, watches and memory of an API server
    Api(api::Options),
    #[command(hide = true)]
    ApiServer { dir: PathBuf },
    #[command(hide = true)]
    FixedServer { dir: PathBuf },
    /// Questions for each CPU second, times, memory and updates of the cluster's DNS, beside other servers
    Dns(dns::Options),
    #[command(hide = true)]
    DnsInside(dns::Options),
    #[command(hide = true)]
    DnsServer { name: String, address: SocketAddr, upstream: SocketAddr, services: usize },
    /// Requests, connections and bytes for each CPU second by Services, beside the direct path and other proxies
    Proxy(proxy::Options),
    #[command(hide = true)]
    ProxyInside(proxy::Options),
    #[command(hide = true)]
    ProxyServer { topology: String },
    #[command(hide = true)]
    ProxyRelay,
    #[command(hide = true)]
    ProxyChanges { services: usize },
    /// Requests, TLS handshakes and bytes for each CPU second of the Ingress, beside nginx and haproxy
    Ingress(ingress::Options),
    #[command(hide = true)]
    IngressInside(ingress::Options),
    #[command(hide = true)]
    IngressRelay {
        address: Ipv4Addr,
        hosts: usize,
        dir: PathBuf,
        #[arg(long)]
        log: Option<PathBuf>,
    },
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Lab { idle } => {
            let built = std::env::current_exe().context("find the own binary")?.with_file_name("coracle");
            lab::outside(&binary(built)?, idle)
        }
        Command::LabInside { coracle, idle } => lab::inside(&coracle, idle),
        Command::Api(options) => api::run(&options),
        Command::ApiServer { dir } => api::server::api(&dir),
        Command::FixedServer { dir } => api::server::fixed(&dir),
        Command::Dns(_) => dns::outside(),
        Command::DnsInside(options) => dns::inside(&options),
        Command::DnsServer { name, address, upstream, services } => {
            dns::server::run(&name, address, upstream, services)
        }
        Command::Proxy(_) => proxy::outside(),
        Command::ProxyInside(options) => proxy::inside(&options),
        Command::ProxyServer { topology } => proxy::server(&topology),
        Command::ProxyRelay => proxy::relay(),
        Command::ProxyChanges { services } => proxy::changes(services),
        Command::Ingress(_) => ingress::outside(),
        Command::IngressInside(options) => ingress::inside(&options),
        Command::IngressRelay { address, hosts, dir, log } => ingress::relay(address, hosts, &dir, log.as_deref()),
    }
}

fn binary(path: PathBuf) -> anyhow::Result<PathBuf> {
    if !path.exists() {
        bail!("{} is missing: cargo build --release", path.display());
    }
    Ok(path)
}
