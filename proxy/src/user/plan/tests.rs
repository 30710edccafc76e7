use super::*;
use crate::cluster::{Cluster, PortOf, endpoint};
use state::Address;

const PORTS: [PortOf; 2] = [(Protocol::Tcp, 80, Some(30080)), (Protocol::Sctp, 81, Some(30081))];

fn config(service_addresses: bool) -> Config {
    let addresses = ["127.0.0.1", "192.0.2.1", "::1"].map(|address| address.parse().expect("an address"));
    Config { addresses: addresses.into(), service_addresses, ..Config::local("node") }
}

/// What a Service, which is edited, has open: "address → endpoints".
fn ports(service_addresses: bool, edit: impl FnOnce(&mut Service)) -> Vec<String> {
    opened(&config(service_addresses), edit)
}

fn opened(config: &Config, edit: impl FnOnce(&mut Service)) -> Vec<String> {
    let mut cluster = Cluster::new();
    cluster.service_with("web", "10.96.0.80", &PORTS, |service| {
        service.external_ips = vec![[198, 51, 100, 1].into()];
        service.load_balancer_ips = vec![[203, 0, 113, 1].into()];
        service.source_ranges = vec!["192.0.2.0/24".parse().expect("a range")];
        edit(service);
    });
    let mut all = ["10.244.0.2", "10.244.1.2", "fd00::2"].map(endpoint);
    all[1].node = Some("other".into());
    cluster.endpoints_with("web", &PORTS, 8080, all.into());
    let wanted = plan(&cluster.snapshot(), config);
    let lines = wanted.iter().map(|(frontend, backends)| {
        let all = ["10.244.0.2:8080", "10.244.1.2:8080", "[fd00::2]:8080"];
        let led = all.iter().filter(|at| backends.contains(&at.parse().expect("an address")));
        let led = led.map(|at| at.rsplit_once(':').map_or(*at, |(ip, _)| ip)).collect::<Vec<_>>().join(" ");
        let closed = if backends.admits([198, 51, 100, 7].into()) { "" } else { " for few" };
        format!("{} {} → {led}{closed}", frontend.protocol, frontend.at)
    });
    lines.collect()
}

#[test]
fn node_ports_and_service_addresses_lead_where_their_policies_say() {
    let node_ports = ["TCP 127.0.0.1:30080 → 10.244.0.2 10.244.1.2", "TCP 192.0.2.1:30080 → 10.244.0.2 10.244.1.2"];
    assert_eq!(ports(false, |_| {}), node_ports);
    assert_eq!(
        ports(true, |_| {}),
        [
            "TCP 10.96.0.80:80 → 10.244.0.2 10.244.1.2",
            node_ports[0],
            node_ports[1],
            "TCP 198.51.100.1:80 → 10.244.0.2 10.244.1.2",
            "TCP 203.0.113.1:80 → 10.244.0.2 10.244.1.2 for few",
        ]
    );
    let local = ports(true, |service| {
        service.internal_local = true;
        service.address = Address::ClusterIp(vec![[10, 96, 0, 80].into(), "fd96::80".parse().expect("an address")]);
    });
    assert_eq!(
        local,
        [
            "TCP 10.96.0.80:80 → 10.244.0.2",
            node_ports[0],
            node_ports[1],
            "TCP 198.51.100.1:80 → 10.244.0.2 10.244.1.2",
            "TCP 203.0.113.1:80 → 10.244.0.2 10.244.1.2 for few",
            "TCP [::1]:30080 → [fd00::2]",
            "TCP [fd96::80]:80 → [fd00::2]",
        ]
    );
    // Programs of this node are not outside.
    assert_eq!(
        ports(false, |service| service.external_local = true),
        [node_ports[0], "TCP 192.0.2.1:30080 → 10.244.0.2"]
    );
    assert_eq!(ports(true, |service| service.other_proxy = true), [""; 0]);
}

#[test]
fn ports_of_load_balancers_are_opened_where_node_ports_are() {
    let config = Config { load_balancers: true, addresses: vec![[127, 0, 0, 1].into()], ..config(false) };
    let leads = |port: u16| format!("TCP 127.0.0.1:{port} → 10.244.0.2 10.244.1.2");
    assert_eq!(opened(&config, |_| {}), [leads(80), leads(30080)]);
    assert_eq!(opened(&config, |service| service.load_balancer_ips.clear()), [leads(30080)]);
}

#[test]
fn a_port_that_two_services_want_is_the_first_ones() {
    let mut cluster = Cluster::new();
    for (name, address) in [("b", "10.244.0.3"), ("a", "10.244.0.2")] {
        cluster.service(name, "10.96.0.80", &PORTS);
        cluster.endpoints(name, &PORTS, 8080, &[address]);
    }
    let wanted = plan(&cluster.snapshot(), &config(true));
    assert_eq!(wanted.len(), 3);
    assert!(wanted.values().all(|backends| backends.service == Key::new("default", "a")));
}
