//! The machine's part of the network, set up and torn down.

use crate::fixture::{CLUSTER_ID, links, network_config, node_test};
use node::Network;
use std::{fs, net::UdpSocket, process::Command};

const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

fn ip(args: &str) -> String {
    let output = Command::new("ip").args(args.split(' ')).output();
    let output = output.expect("ip is needed: apt-get install iproute2");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn setup_and_teardown_leave_nothing() {
    node_test(|| async {
        let dir = tempfile::tempdir().unwrap();
        fs::write(FORWARD, "0").unwrap();
        let network = Network::setup(network_config(dir.path())).await.unwrap();
        assert_eq!(fs::read_to_string(FORWARD).unwrap(), "1\n");
        let link = format!("cor{}", *CLUSTER_ID);
        assert_eq!(links(), [link.clone(), format!("{link}p"), "lo".into()]);
        UdpSocket::bind("10.96.0.10:53").unwrap();
        UdpSocket::bind("10.111.0.1:1").unwrap();
        let route = ip("route get 10.100.1.2");
        assert!(route.contains(&format!("dev {link}")) && route.contains("src 10.111.0.1"), "{route}");
        // As after a crash.
        let network = {
            drop(network);
            Network::setup(network_config(dir.path())).await.unwrap()
        };
        network.teardown().await.unwrap();
        assert_eq!(links(), ["lo"]);
        assert_eq!(fs::read_to_string(FORWARD).unwrap(), "0\n");
        assert!(!ip("route").contains("10.96"));
        network.teardown().await.unwrap();
    });
}

#[test]
fn ranges_in_use_are_refused() {
    node_test(|| async {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(ip("link add v0 type veth peer name v1"), "");
        assert_eq!(ip("addr add 10.97.0.1/16 dev v0"), "");
        let error = Network::setup(network_config(dir.path())).await.unwrap_err().to_string();
        assert!(error.starts_with("service range 10.96.0.0/12 overlaps "), "{error}");
        assert!(error.contains("10.97.0.") && error.ends_with("choose another with --service-cidr"), "{error}");
        assert_eq!(links(), ["lo", "v0", "v1"]);
    });
}

#[test]
fn the_node_is_where_the_default_route_leaves() {
    node_test(|| async {
        let dir = tempfile::tempdir().unwrap();
        let mut config = network_config(dir.path());
        config.node_address = None;
        let error = Network::setup(config.clone()).await.unwrap_err().to_string();
        assert!(error.contains("IPv4 address of this machine"), "{error}");
        ip("link add v0 type veth peer name v1");
        ip("addr add 192.0.2.1/24 dev v0");
        ip("addr add 198.51.100.1/24 dev v1");
        ip("link set v0 up");
        ip("link set v1 up");
        ip("route add default via 198.51.100.9 dev v1");
        let network = Network::setup(config).await.unwrap();
        assert_eq!(network.node_address().to_string(), "198.51.100.1");
        network.teardown().await.unwrap();
    });
}
