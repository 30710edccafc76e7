//! Every endpoint of a Service gets as many connections as any other.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};

use state::Protocol::Udp;

use crate::cluster::{Cluster, PortOf};
use crate::lab::*;

const PORT: [PortOf; 1] = [(Udp, 80, None)];
const CONNECTIONS: u64 = 100_000;
/// How many standard deviations off is too many: one test in a million.
const LIMIT: f64 = 4.75;

/// How many packets came for whom: none goes on, so that for connection tracking each is the first one.
const COUNT: [&str; 4] = [
    "add table ip count",
    "add set ip count hits { type ipv4_addr; flags dynamic; size 4096; }",
    "add chain ip count forward { type filter hook forward priority 10; }",
    "add rule ip count forward ip saddr 10.244.0.2 update @hits { ip daddr counter } drop",
];

fn hits() -> BTreeMap<String, u64> {
    let set = run("nft list set ip count hits");
    let elements = set.split_once("elements = {").map_or("", |(_, elements)| elements);
    let hit = |element: &str| {
        let mut words = element.split_whitespace();
        let address = words.next()?.to_owned();
        Some((address, words.nth(2)?.parse().ok()?))
    };
    elements.split(',').filter_map(hit).collect()
}

#[test]
fn connections_are_spread_evenly() {
    lab("spread::connections_are_spread_evenly", || {
        run("ip route add 10.244.0.0/16 dev out");
        COUNT.iter().for_each(|command| nft(command));
        let mut cluster = Cluster::new();
        let mut plane = plane();
        let to: SocketAddr = "10.96.0.80:80".parse().expect("an address");
        let socket = within("pod0", || UdpSocket::bind("0.0.0.0:0").expect("a UDP port"));
        for count in [1, 7, 100, 1000] {
            let endpoints: Vec<String> = (0..count).map(|i| format!("10.244.{}.{}", 1 + i / 250, i % 250)).collect();
            let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
            cluster.service("web", "10.96.0.80", &PORT);
            cluster.endpoints("web", &PORT, 8080, &endpoints);
            plane.apply(cluster.snapshot()).expect("apply");
            nft("flush set ip count hits");
            let mut seen = BTreeMap::new();
            // Where the machine is busy, some are lost on their way.
            wait("the connections", || {
                (0..CONNECTIONS / 5).for_each(|_| _ = socket.send_to(b"?", to).expect("a packet"));
                seen = hits();
                seen.values().sum::<u64>() >= CONNECTIONS
            });
            assert_eq!(seen.len(), count, "{seen:?}");
            let expected = seen.values().sum::<u64>() as f64 / count as f64;
            let square: f64 = seen.values().map(|hits| (*hits as f64 - expected).powi(2) / expected).sum();
            // The cube root of chi-square is nearly normal (Wilson and Hilferty).
            let freedom = (count - 1).max(1) as f64;
            let spread = 2.0 / (9.0 * freedom);
            let deviation = ((square / freedom).cbrt() - (1.0 - spread)) / spread.sqrt();
            assert!(deviation < LIMIT, "{count} endpoints: {deviation} in {seen:?}");
        }
    });
}
