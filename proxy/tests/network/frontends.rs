//! All the addresses that lead to a Service or a pod, and those that do not.

use proxy::kernel::{self, Config, Plane};
use state::Protocol::{Tcp, Udp};
use state::{Address, HostPort, Key, Object, Pod};

use crate::cluster::*;
use crate::lab::*;

const ALL: [&str; 3] = ["pod0", "pod1", "pod2"];

fn open(config: Config) -> Plane {
    Plane::open(config).expect("a data plane")
}

#[test]
fn external_addresses() {
    both("frontends::external_addresses", |net| {
        let mut cluster = web(net);
        cluster.service_with("web", net.web, &WEB, |service| {
            service.external_ips = vec![address(net.external)];
            service.load_balancer_ips = vec![address(net.balanced)];
        });
        let mut plane = plane();
        plane.apply(cluster.snapshot()).expect("apply");
        for to in [at(net.external, 80), at(net.balanced, 80)] {
            for from in ["outside", "node", "pod0"] {
                spread(&ALL, || tcp(from, &to));
                spread(&ALL, || udp(from, &to));
                assert_eq!(tcp(from, &to).expect("an answer").1, address(net.node), "{from}");
            }
        }
        cluster.endpoints("web", &WEB, 8080, &[]);
        plane.apply(cluster.snapshot()).expect("apply");
        for from in ["outside", "node", "pod0"] {
            assert_refused(from, || tcp(from, &at(net.external, 80)));
            assert_refused(from, || udp(from, &at(net.balanced, 80)));
        }
    });
}

#[test]
fn load_balancers_have_source_ranges() {
    both("frontends::load_balancers_have_source_ranges", |net| {
        let all = if net.family == "4" { 32 } else { 128 };
        let [outside, node, pod] = [net.outside, net.node, net.pods[0]].map(|one| format!("{one}/{all}"));
        // The first two pods, and the first of them again.
        let pods = format!("{}/{}", net.pods[0], all - 1);
        let other = if net.family == "4" { V6.pod_range } else { V4.pod_range };
        let mut cluster = web(net);
        let mut plane = plane();
        let mut limit = |ranges: &[&str]| {
            cluster.service_with("web", net.web, &WEB, |service| {
                service.load_balancer_ips = vec![address(net.balanced)];
                service.source_ranges = ranges.iter().map(|text| range(text)).collect();
            });
            plane.apply(cluster.snapshot()).expect("apply");
        };
        let balanced = at(net.balanced, 80);
        limit(&[&outside, &pod, &pods]);
        for from in ["outside", "pod0", "pod1"] {
            spread(&ALL, || tcp(from, &balanced));
            spread(&ALL, || udp(from, &balanced));
        }
        for (from, source) in [("outside", net.stranger), ("pod2", net.pods[2]), ("node", net.node)] {
            assert_dropped(from, source, &balanced);
            // The ranges are the load balancer's alone.
            connect_from(from, source, &net.node_port(), DEADLINE).expect("the nodePort");
            connect_from(from, source, &net.service(), DEADLINE).expect("the cluster IP");
        }
        limit(&[&node]);
        spread(&ALL, || tcp("node", &balanced));
        assert_dropped("outside", net.outside, &balanced);
        // A node that has the load balancer's address sends from it.
        run(&format!("ip addr add {}/{all} dev lo{}", net.balanced, net.nodad));
        connect_from("node", net.balanced, &balanced, DEADLINE).expect("the node itself");
        // Ranges of the other family are no ranges.
        limit(&[other]);
        connect_from("outside", net.stranger, &balanced, DEADLINE).expect("everyone");
    });
}

#[test]
fn node_ports_are_on_the_addresses_that_are_asked_for() {
    both("frontends::node_ports_are_on_the_addresses_that_are_asked_for", |net| {
        let cluster = web(net);
        let mut plane = plane();
        plane.apply(cluster.snapshot()).expect("apply");
        let second = at(net.second, 30001);
        for from in ["outside", "node", "pod0"] {
            assert_refused(from, || tcp(from, &second));
            assert_refused(from, || udp(from, &second));
        }
        drop(plane);
        let mut plane = open(Config { node_addresses: [net.node, net.second].map(address).into(), ..config() });
        plane.apply(cluster.snapshot()).expect("apply");
        for from in ["outside", "node", "pod0"] {
            for to in [&second, &net.node_port()] {
                spread(&ALL, || tcp(from, to));
                spread(&ALL, || udp(from, to));
            }
        }
    });
}

#[test]
fn a_service_of_both_families() {
    lab("frontends::a_service_of_both_families", || {
        for (pod, net) in (0..3).flat_map(|pod| [(pod, V4), (pod, V6)]) {
            serve(ALL[pod], &at(net.pods[pod], 8080));
        }
        let mut cluster = Cluster::new();
        cluster.service_with("web", V4.web, &WEB, |service| {
            service.address = Address::ClusterIp([V4.web, V6.web].map(address).into());
        });
        cluster.endpoints("web", &WEB, 8080, &[V4.pods[0], V4.pods[1], V6.pods[1], V6.pods[2]]);
        let mut plane = plane();
        plane.apply(cluster.snapshot()).expect("apply");
        for (net, pods) in [(V4, ["pod0", "pod1"]), (V6, ["pod1", "pod2"])] {
            for from in ["pod0", "node", "outside"] {
                spread(&pods, || tcp(from, &net.service()));
                spread(&pods, || udp(from, &net.node_port()));
            }
        }
        // It loses one of them.
        cluster.service("web", V6.web, &WEB);
        plane.apply(cluster.snapshot()).expect("apply");
        spread(&["pod1", "pod2"], || tcp("outside", &V6.node_port()));
        assert_refused("the other family", || tcp("pod0", &V4.service()));
        assert_refused("the other family", || tcp("outside", &V4.node_port()));
    });
}

/// A Pod on the node with ports of it.
fn pod(cluster: &mut Cluster, name: &str, ip: &str, host_ports: Vec<HostPort>) {
    cluster.0.apply(Object::Pod(Pod {
        key: Key::new("default", name),
        ips: vec![address(ip)],
        host_network: false,
        hostname: None,
        subdomain: None,
        node: Some("node".into()),
        host_ports,
        ready: true,
    }));
}

#[test]
fn host_ports() {
    both("frontends::host_ports", |net| {
        (0..3).for_each(|pod| serve(ALL[pod], &at(net.any, 8080)));
        let port = |protocol, address, port| HostPort { address, protocol, port, target: 8080 };
        let mut cluster = Cluster::new();
        pod(&mut cluster, "a", net.pods[0], vec![port(Tcp, None, 81), port(Udp, None, 81)]);
        let second = Some(address(net.second));
        pod(&mut cluster, "b", net.pods[1], vec![port(Tcp, second, 82), port(Udp, second, 82)]);
        let config = Config { node_addresses: [net.node, net.second].map(address).into(), ..config() };
        let mut plane = open(config.clone());
        plane.apply(cluster.snapshot()).expect("apply");
        let [first, second, asked] = [at(net.node, 81), at(net.second, 81), at(net.second, 82)];
        // Also a pod that asks for itself.
        for from in ["outside", "node", "pod0", "pod1"] {
            for (pod, to) in [("pod0", &first), ("pod0", &second), ("pod1", &asked)] {
                spread(&[pod], || tcp(from, to));
                spread(&[pod], || udp(from, to));
            }
            assert_refused(from, || tcp(from, &at(net.node, 82)));
        }
        // The pod sees who asks.
        assert_eq!(tcp("outside", &first).expect("an answer").1, address(net.outside));
        // A pod in its place, without a moment between; and then none.
        pod(&mut cluster, "a", net.pods[2], vec![port(Tcp, None, 81), port(Udp, None, 81)]);
        let socket = udp_socket("outside", &first);
        assert_eq!(say_udp(&socket).expect("an answer").0, "pod0");
        plane.apply(cluster.snapshot()).expect("apply");
        assert_eq!(say_udp(&socket).expect("an answer").0, "pod2", "a UDP client follows");
        spread(&["pod2"], || tcp("outside", &first));
        pod(&mut cluster, "a", net.pods[2], Vec::new());
        plane.apply(cluster.snapshot()).expect("apply");
        assert_refused("the port's end", || tcp("outside", &first));
        plane.remove().expect("remove");
        // They are the business of the program that makes the pods' network.
        let mut plane = open(Config { own_network: false, ..config });
        plane.apply(cluster.snapshot()).expect("apply");
        assert_refused("another's business", || tcp("outside", &asked));
    });
}

#[test]
fn beside_another_programs_network() {
    both("frontends::beside_another_programs_network", |net| {
        let table = net.table();
        nft(&format!("add table {table} filter"));
        nft(&format!("add chain {table} filter FORWARD {{ type filter hook forward priority 0; policy drop; }}"));
        nft(&format!("add rule {table} filter FORWARD {table} saddr {} accept", net.pod_range));
        nft(&format!("add rule {table} filter FORWARD {table} daddr {} accept", net.pod_range));
        let before = run("nft list ruleset");
        let mut cluster = web(net);
        cluster.service_with("web", net.web, &WEB, |service| service.external_ips = vec![address(net.external)]);
        let mut plane = open(Config { own_network: false, dns: Vec::new(), ..config() });
        plane.apply(cluster.snapshot()).expect("apply");
        assert!(run("nft list ruleset").starts_with(&before), "its rules are as they were");
        for from in ["outside", "node", "pod0"] {
            for to in [net.service(), net.node_port(), at(net.external, 80)] {
                spread(&ALL, || tcp(from, &to));
                spread(&ALL, || udp(from, &to));
            }
        }
        // Only what has to come back is masqueraded: what pods send to the world is not.
        assert_eq!(tcp("outside", &net.node_port()).expect("an answer").1, address(net.node));
        run(&format!("ip -n outside route add {} via {}", net.pod_range, net.node));
        serve("outside", &at(net.any, 7));
        assert_eq!(tcp("pod0", &at(net.outside, 7)).expect("an answer").1, address(net.pods[0]));
        plane.remove().expect("remove");
        assert_eq!(run("nft list ruleset"), before);
    });
}

#[test]
fn two_clusters_on_one_node() {
    both("frontends::two_clusters_on_one_node", |net| {
        // The second one has the third pod.
        let v4 = net.family == "4";
        let (pod, service) = if v4 { ("10.245.0.9", "10.112.0.80") } else { ("fd00:245::9", "fd00:112::80") };
        let (pods, services) =
            if v4 { ("10.245.0.0/16", "10.112.0.0/12") } else { ("fd00:245::/56", "fd00:112::/108") };
        run(&format!("ip -n pod2 addr add {pod} dev eth0{}", net.nodad));
        run(&format!("ip -n pod2 addr del {}/{} dev eth0", net.pods[2], if v4 { 32 } else { 128 }));
        run(&format!("ip route add {pod} dev veth2 src {}", net.node));
        run(&format!("ip route add {services} dev out src {}", net.node));
        let mut cluster = web(net);
        cluster.endpoints("web", &WEB, 8080, &net.pods[..2]);
        let mut first = plane();
        first.apply(cluster.snapshot()).expect("apply");
        let alone = run("nft list ruleset");
        let ports = [(Tcp, 80, Some(30002)), (Udp, 80, Some(30002))];
        let mut other = Cluster::new();
        other.service("web", service, &ports);
        other.endpoints("web", &ports, 8080, &[pod]);
        let mut second = open(Config {
            cluster_id: "beef00".into(),
            pod_cidrs: vec![range(pods)],
            service_cidrs: vec![range(services)],
            dns: Vec::new(),
            ..config()
        });
        second.apply(other.snapshot()).expect("apply");
        for ask in [tcp, udp] {
            for from in ["node", "pod0", "outside"] {
                spread(&["pod0", "pod1"], || ask(from, &net.service()));
                spread(&["pod0", "pod1"], || ask(from, &net.node_port()));
                spread(&["pod2"], || ask(from, &at(net.node, 30002)));
            }
            for from in ["node", "pod0", "pod2"] {
                spread(&["pod2"], || ask(from, &at(service, 80)));
            }
        }
        kernel::cleanup("beef00").expect("cleanup");
        assert_eq!(run("nft list ruleset"), alone);
        spread(&["pod0", "pod1"], || tcp("outside", &net.node_port()));
    });
}
