use std::net::SocketAddr;

use super::batch::{Batch, NEW_TABLE};
use super::conntrack::{Flow, is_stale};
use super::*;

/// A node of a cluster with the default addresses.
pub(super) fn config() -> Config {
    Config {
        cluster_id: "c0ffee".into(),
        node_name: "node".into(),
        node_addresses: vec![[192, 0, 2, 1].into()],
        pod_cidrs: vec!["10.244.0.0/16".parse().expect("a network")],
        service_cidrs: vec!["10.96.0.0/12".parse().expect("a network")],
        dns: vec![[10, 96, 0, 10].into()],
        local: vec![[10, 96, 0, 11].into()],
        own_network: true,
        keep: false,
    }
}

#[test]
fn a_node_needs_an_address_that_others_can_reach() {
    let mut config = config();
    assert!(config.validate().is_ok());
    config.node_addresses = vec![[127, 0, 0, 1].into()];
    assert!(config.validate().is_err());
    config.node_addresses.clear();
    assert!(config.validate().is_err());
}

#[test]
fn which_udp_connections_are_stale() {
    let flow = |to: &str, endpoint: &str| {
        let parse = |text: &str| text.parse::<SocketAddr>().expect("an address and port");
        Flow { to: parse(to), endpoint: parse(endpoint), translated: to != endpoint }
    };
    let rules = Rules::default();
    let table = [
        ("10.96.0.1:53", "10.244.0.2:53", true),
        ("10.96.0.1:53", "172.17.0.2:53", true),
        ("192.0.2.1:30053", "10.244.0.2:53", true),
        ("192.0.2.1:8053", "172.17.0.2:53", false),
        ("10.96.0.1:53", "10.96.0.1:53", false),
    ];
    for (to, endpoint, stale) in table {
        assert_eq!(is_stale(flow(to, endpoint), &rules, &config()), stale, "{to} → {endpoint}");
    }
    // Another program's ports of the node lead to pods, too.
    let beside = Config { own_network: false, ..config() };
    assert!(!is_stale(flow("192.0.2.1:30053", "10.244.0.2:53"), &rules, &beside));
    assert!(is_stale(flow("10.96.0.1:53", "10.244.0.2:53"), &rules, &beside));
}

#[test]
fn the_kernels_answers_in_words() {
    let say = |code: i32, makes| Error::from_kernel(code, "add a rule to the chain n3 (numgen)", makes).to_string();
    assert!(say(1, true).contains("CAP_NET_ADMIN"));
    assert!(say(2, true).contains("(numgen): the kernel lacks"));
    assert!(say(95, true).contains("the kernel lacks"));
    assert!(say(2, false).contains("another program"));
    assert!(say(22, true).contains("Invalid argument"));
}

#[test]
fn a_batch_is_split_only_between_messages() {
    let mut batch = Batch::default();
    for _ in 0..10 {
        batch.push(Family::V4, NEW_TABLE, 0, String::new(), |out| out.attr(1, &[0; 76]));
    }
    let sizes = |limit| batch.parts(limit).into_iter().map(|part| part.len()).collect::<Vec<_>>();
    assert_eq!(sizes(10_000), [10]);
    assert_eq!(sizes(350), [3, 3, 3, 1]);
    assert_eq!(sizes(1), [1; 10]);
}
