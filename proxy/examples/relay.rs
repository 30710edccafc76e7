//! The user-space plane alone, as a program to measure: relays from a port of 127.0.0.1 to endpoints.
//!
//! `relay [--threads N] PORT ENDPOINT...`; all endpoints have one port. SIGINT closes the relays'
//! port, and then their connections.

#[path = "../tests/network/cluster.rs"]
mod cluster;

use std::net::SocketAddr;

use proxy::user::{Config, Relays};
use state::Protocol::{Tcp, Udp};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use cluster::{Cluster, PortOf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut threads = 1;
    if arguments.first().is_some_and(|argument| argument == "--threads") && arguments.len() > 1 {
        threads = arguments.drain(..2).nth(1).unwrap_or_default().parse()?;
    }
    let [port, endpoints @ ..] = arguments.as_slice() else {
        return Err("relay [--threads N] PORT ENDPOINT...".into());
    };
    let endpoints: Vec<SocketAddr> = endpoints.iter().map(|e| e.parse()).collect::<Result<_, _>>()?;
    let Some(target) = endpoints.first().map(SocketAddr::port) else {
        return Err("it takes an endpoint".into());
    };
    let port: u16 = port.parse()?;
    let ports: [PortOf; 2] = [(Tcp, 80, Some(port)), (Udp, 80, Some(port))];
    let addresses: Vec<String> = endpoints.iter().map(|endpoint| endpoint.ip().to_string()).collect();
    let mut cluster = Cluster::new();
    cluster.service("web", "10.96.0.1", &ports);
    cluster.endpoints("web", &ports, target, &addresses.iter().map(String::as_str).collect::<Vec<_>>());
    let (sender, snapshots) = watch::channel(cluster.snapshot());
    let shutdown = CancellationToken::new();
    let relays = Relays::new(Config::local("node").reuse_port());
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let relays = tokio::spawn(relays.run_on(threads, snapshots, shutdown.clone()));
        tokio::signal::ctrl_c().await?;
        cluster.remove("web");
        sender.send_replace(cluster.snapshot());
        shutdown.cancel();
        Ok(relays.await??)
    })
}
