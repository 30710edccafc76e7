//! The kernel data plane under real packets.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;

use proxy::kernel;
use state::Protocol::{Tcp, Udp};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cluster::{Cluster, PortOf, endpoint};
use crate::lab::*;

const WEB: [PortOf; 2] = [(Tcp, 80, Some(30001)), (Udp, 80, Some(30001))];

/// Three pods that serve the Service "web" on 10.96.0.80:80 and the nodePort 30001.
fn web() -> Cluster {
    for pod in 0..3 {
        serve(&format!("pod{pod}"), "0.0.0.0:8080");
    }
    let mut cluster = Cluster::new();
    cluster.service("web", "10.96.0.80", &WEB);
    cluster.endpoints("web", &WEB, 8080, &PODS);
    cluster
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Who answers, how often, until everyone in `who` has.
fn spread(who: &[&str], ask: impl Fn() -> Answer) -> BTreeMap<String, usize> {
    let mut seen = BTreeMap::new();
    for _ in 0..200 {
        *seen.entry(ask().expect("an answer").0).or_default() += 1;
    }
    let names: Vec<&str> = seen.keys().map(String::as_str).collect();
    assert_eq!(names, who, "{seen:?}");
    seen
}

#[test]
fn cluster_ip_from_everywhere() {
    lab("kernel::cluster_ip_from_everywhere", || {
        let cluster = web();
        let mut plane = plane();
        plane.apply(cluster.snapshot()).expect("apply");
        let all = ["pod0", "pod1", "pod2"];
        let seen = spread(&all, || tcp("pod0", "10.96.0.80:80"));
        assert!(seen.values().all(|count| (30..110).contains(count)), "not even: {seen:?}");
        spread(&all, || udp("pod1", "10.96.0.80:80"));
        spread(&all, || tcp("node", "10.96.0.80:80"));
        spread(&all, || udp("node", "10.96.0.80:80"));
        // From outside by way of the node: the pod's answer has to come back that way.
        run("ip -n outside route add 10.96.0.0/12 via 192.0.2.1");
        assert_eq!(tcp("outside", "10.96.0.80:80").expect("an answer").1, address(NODE));
        // Pods see each other's addresses, and themselves as the node; so is the node seen.
        for _ in 0..20 {
            let (name, client) = tcp("pod0", "10.96.0.80:80").expect("an answer");
            assert_eq!(client, address(if name == "pod0" { NODE } else { PODS[0] }), "{name}");
            assert_eq!(tcp("node", "10.96.0.80:80").expect("an answer").1, address(NODE));
        }
        plane.remove().expect("remove");
        assert_eq!(run("nft list ruleset"), "");
    });
}

#[test]
fn node_port_from_outside() {
    lab("kernel::node_port_from_outside", || {
        let cluster = web();
        let mut plane = plane();
        plane.apply(cluster.snapshot()).expect("apply");
        let all = ["pod0", "pod1", "pod2"];
        for from in ["outside", "node", "pod0"] {
            spread(&all, || tcp(from, "192.0.2.1:30001"));
            spread(&all, || udp(from, "192.0.2.1:30001"));
            // Policy Cluster: the client is hidden behind the node.
            assert_eq!(tcp(from, "192.0.2.1:30001").expect("an answer").1, address(NODE));
        }
    });
}

#[test]
fn endpoints_that_are_the_node_itself() {
    lab("kernel::endpoints_that_are_the_node_itself", || {
        // The API server is such an endpoint.
        serve("node", "192.0.2.1:6443");
        let ports: [PortOf; 1] = [(Tcp, 443, Some(30443))];
        let mut cluster = Cluster::new();
        cluster.service("kubernetes", "10.96.0.1", &ports);
        cluster.endpoints("kubernetes", &ports, 6443, &[NODE]);
        let mut plane = plane();
        plane.apply(cluster.snapshot()).expect("apply");
        for (from, client) in [("node", NODE), ("pod0", PODS[0])] {
            let answer = tcp(from, "10.96.0.1:443").expect("an answer");
            assert_eq!(answer, ("node".into(), address(client)));
        }
        for from in ["outside", "node", "pod0"] {
            assert_eq!(tcp(from, "192.0.2.1:30443").expect("an answer").0, "node", "{from}");
        }
    });
}

#[test]
fn traffic_policy_local() {
    lab("kernel::traffic_policy_local", || {
        let mut cluster = web();
        cluster.service_with("web", "10.96.0.80", &WEB, |service| service.external_local = true);
        let mut far = endpoint(PODS[0]);
        far.node = Some("other".into());
        cluster.endpoints_with("web", &WEB, 8080, vec![far.clone(), endpoint(PODS[1])]);
        let mut plane = plane();
        plane.apply(cluster.snapshot()).expect("apply");
        spread(&["pod1"], || tcp("outside", "192.0.2.1:30001"));
        assert_eq!(tcp("outside", "192.0.2.1:30001").expect("an answer").1, address(OUTSIDE));
        spread(&["pod0", "pod1"], || tcp("node", "10.96.0.80:80"));
        cluster.endpoints_with("web", &WEB, 8080, vec![far]);
        plane.apply(cluster.snapshot()).expect("apply");
        let rules = run("nft list map ip coracle-c0ffee services");
        assert!(rules.contains("192.0.2.1 . tcp . 30001 : drop"), "{rules}");
    });
}

#[test]
fn refused_at_once_without_endpoints() {
    lab("kernel::refused_at_once_without_endpoints", || {
        let mut cluster = Cluster::new();
        cluster.service("web", "10.96.0.80", &WEB);
        let mut plane = plane();
        plane.apply(cluster.snapshot()).expect("apply");
        for from in ["pod0", "node"] {
            assert_refused(from, || tcp(from, "10.96.0.80:80"));
            assert_refused(from, || udp(from, "10.96.0.80:80"));
            assert_refused("unknown port", || tcp(from, "10.96.0.80:81"));
            assert_refused("unknown address", || udp(from, "10.96.7.7:80"));
        }
        for from in ["outside", "node", "pod0"] {
            assert_refused(from, || tcp(from, "192.0.2.1:30001"));
            assert_refused(from, || udp(from, "192.0.2.1:30001"));
        }
    });
}

#[test]
fn affinity_keeps_a_client_with_its_endpoint() {
    lab("kernel::affinity_keeps_a_client_with_its_endpoint", || {
        let mut cluster = web();
        cluster.service_with("web", "10.96.0.80", &WEB, |service| service.affinity = Some(10_800));
        let mut plane = plane();
        plane.apply(cluster.snapshot()).expect("apply");
        for from in ["pod0", "pod1", "pod2", "node"] {
            let (first, _) = tcp(from, "10.96.0.80:80").expect("an answer");
            spread(&[&first], || tcp(from, "10.96.0.80:80"));
            // Each port by itself.
            let (first, _) = udp(from, "10.96.0.80:80").expect("an answer");
            spread(&[&first], || udp(from, "10.96.0.80:80"));
        }
    });
}

#[test]
fn pods_reach_the_world_and_each_other() {
    lab("kernel::pods_reach_the_world_and_each_other", || {
        serve("outside", "0.0.0.0:7");
        serve("pod1", "0.0.0.0:7");
        serve("node", "0.0.0.0:7");
        let mut plane = plane();
        plane.apply(Cluster::new().snapshot()).expect("apply");
        let sees = |to: &str| tcp("pod0", to).expect("an answer");
        assert_eq!(sees("192.0.2.2:7"), ("outside".into(), address(NODE)));
        assert_eq!(sees("10.244.0.3:7"), ("pod1".into(), address(PODS[0])));
        assert_eq!(sees("192.0.2.1:7"), ("node".into(), address(PODS[0])));
    });
}

#[test]
fn dns_is_not_tracked() {
    lab("kernel::dns_is_not_tracked", || {
        run("ip addr add 10.96.0.10/32 dev lo");
        serve("node", "10.96.0.10:53");
        nft("add table ip probe");
        for (hook, field) in [("input", "daddr"), ("output", "saddr")] {
            nft(&format!("add chain ip probe {hook} {{ type filter hook {hook} priority 0; }}"));
            for state in ["untracked", "established,new"] {
                nft(&format!("add rule ip probe {hook} ip {field} 10.96.0.10 ct state {state} counter"));
            }
        }
        let dns: [PortOf; 2] = [(Udp, 53, None), (Tcp, 53, None)];
        let mut cluster = web();
        cluster.service("kube-dns", "10.96.0.10", &dns);
        let mut plane = plane();
        plane.apply(cluster.snapshot()).expect("apply");
        for from in ["pod0", "node"] {
            assert_eq!(udp(from, "10.96.0.10:53").expect("an answer").0, "node");
            assert_eq!(tcp(from, "10.96.0.10:53").expect("an answer").0, "node");
        }
        let chains = run("nft list table ip probe");
        let packets = |rule: &str| {
            let (_, after) = chains.split_once(&format!("{rule} counter packets ")).expect("a counter");
            after.split(' ').next().and_then(|count| count.parse::<u32>().ok()).expect("a number")
        };
        for field in ["daddr", "saddr"] {
            assert!(packets(&format!("ip {field} 10.96.0.10 ct state untracked")) > 0, "{chains}");
            assert_eq!(packets(&format!("ip {field} 10.96.0.10 ct state established,new")), 0, "{chains}");
        }
    });
}

#[test]
fn endpoints_change_under_traffic() {
    lab("kernel::endpoints_change_under_traffic", || {
        let mut cluster = web();
        let mut plane = plane();
        plane.apply(cluster.snapshot()).expect("apply");
        let mut stream = connect("pod0", "10.96.0.80:80").expect("a connection");
        let (first, _) = say(&mut stream).expect("an answer");
        std::thread::scope(|scope| {
            let client = scope.spawn(|| {
                for i in 0..300 {
                    tcp("outside", "192.0.2.1:30001").unwrap_or_else(|error| panic!("request {i}: {error}"));
                }
            });
            for round in 0.. {
                if client.is_finished() {
                    client.join().expect("no request failed");
                    break;
                }
                if round % 5 == 4 {
                    // As after a crash: the whole table is replaced.
                    plane = crate::lab::plane();
                }
                let count = round % 3 + 1;
                cluster.endpoints("web", &WEB, 8080, &PODS[..count]);
                plane.apply(cluster.snapshot()).expect("apply");
            }
        });
        assert_eq!(say(&mut stream).expect("the old connection goes on").0, first);
    });
}

#[test]
fn udp_clients_leave_an_endpoint_that_left() {
    lab("kernel::udp_clients_leave_an_endpoint_that_left", || {
        let mut cluster = web();
        let mut plane = plane();
        plane.apply(cluster.snapshot()).expect("apply");
        let sockets = ["10.96.0.80:80", "192.0.2.1:30001"].map(|to| (to, udp_socket("node", to)));
        for (to, socket) in &sockets {
            let (first, _) = say_udp(socket).expect("an answer");
            let rest: Vec<&str> = (0..3).filter(|pod| first != format!("pod{pod}")).map(|pod| PODS[pod]).collect();
            cluster.endpoints("web", &WEB, 8080, &rest);
            plane.apply(cluster.snapshot()).expect("apply");
            let (second, _) = say_udp(socket).expect("an answer");
            assert_ne!(second, first, "{to}");
            // And after a crash, too: what the new process did not see leave is not where it leads.
            cluster.endpoints("web", &WEB, 8080, &PODS);
            plane.apply(cluster.snapshot()).expect("apply");
            assert_eq!(say_udp(socket).expect("an answer").0, second, "a client stays while its endpoint does");
            let rest: Vec<&str> = (0..3).filter(|pod| second != format!("pod{pod}")).map(|pod| PODS[pod]).collect();
            cluster.endpoints("web", &WEB, 8080, &rest);
            plane = crate::lab::plane();
            plane.apply(cluster.snapshot()).expect("apply");
            assert_ne!(say_udp(socket).expect("an answer").0, second, "{to} after a crash");
        }
    });
}

#[test]
fn a_crash_leaves_the_rules_until_they_are_replaced() {
    lab("kernel::a_crash_leaves_the_rules_until_they_are_replaced", || {
        let mut cluster = web();
        let mut first = plane();
        first.apply(cluster.snapshot()).expect("apply");
        drop(first);
        let mut second = plane();
        tcp("pod0", "10.96.0.80:80").expect("the old rules are at work");
        cluster.endpoints("web", &WEB, 8080, &PODS[..1]);
        second.apply(cluster.snapshot()).expect("apply");
        spread(&["pod0"], || tcp("pod1", "10.96.0.80:80"));
        run("nft add table ip other");
        kernel::cleanup(ID).expect("cleanup");
        kernel::cleanup(ID).expect("cleanup of nothing");
        assert_eq!(run("nft list ruleset").trim(), "table ip other {\n}");
    });
}

#[test]
fn a_firewall_that_drops_lets_pods_through() {
    lab("kernel::a_firewall_that_drops_lets_pods_through", || {
        let cluster = web();
        run("nft add table ip filter");
        for family in ["ip", "inet"] {
            run(&format!("nft add table {family} filter"));
            nft(&format!("add chain {family} filter FORWARD {{ type filter hook forward priority 0; policy drop; }}"));
        }
        nft("add chain ip filter INPUT { type filter hook input priority 0; policy drop; }");
        nft("add rule ip filter FORWARD ip saddr 172.17.0.0/16 counter accept");
        let before = run("nft list ruleset");
        for _ in 0..2 {
            let mut plane = plane();
            assert_eq!(plane.warnings().len(), 1, "{:?}", plane.warnings());
            plane.apply(cluster.snapshot()).expect("apply");
            tcp("pod0", "10.244.0.3:8080").expect("pod to pod");
            tcp("outside", "192.0.2.1:30001").expect("from outside");
        }
        // Without counters: the last packets of the connections above may still come.
        let list = "nft --stateless list chain ip filter FORWARD";
        let rules = run(list);
        assert_eq!(rules.matches("comment \"coracle-c0ffee: pods 10.244.0.0/16\"").count(), 2, "{rules}");
        // Another cluster's rules are its own.
        kernel::cleanup("c0ffe").expect("cleanup");
        kernel::cleanup("beef00").expect("cleanup");
        assert_eq!(run(list), rules);
        kernel::cleanup(ID).expect("cleanup");
        assert_eq!(run("nft list ruleset"), before);
    });
}

#[test]
fn more_services_than_one_send_of_a_user_may_hold() {
    lab("kernel::more_services_than_one_send_of_a_user_may_hold", || {
        let mut cluster = web();
        for i in 0..5000 {
            let name = format!("service-{i}");
            cluster.service(&name, &format!("10.97.{}.{}", i / 250, i % 250), &WEB[..1]);
            cluster.endpoints(&name, &WEB[..1], 8080, &PODS);
        }
        let mut plane = plane();
        for _ in 0..2 {
            plane.apply(cluster.snapshot()).expect("apply");
            let services = run("nft list map ip coracle-c0ffee services");
            // Those of "web": two protocols at two addresses; one nodePort for all of the others.
            assert_eq!(services.matches("goto n3").count(), 5000 + 4);
            assert!(tcp("pod0", "10.97.19.249:80").is_ok());
            plane = crate::lab::plane();
        }
    });
}

#[test]
fn run_follows_snapshots_and_cleans_up() {
    lab("kernel::run_follows_snapshots_and_cleans_up", || {
        let mut cluster = web();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let shutdown = CancellationToken::new();
        let (sender, receiver) = watch::channel(Arc::default());
        let running = plane().run(receiver, shutdown.clone());
        let thread = std::thread::spawn(move || runtime.block_on(running));
        sender.send(cluster.snapshot()).expect("a receiver");
        wait("the Service", || tcp("pod0", "10.96.0.80:80").is_ok());
        cluster.remove("web");
        sender.send(cluster.snapshot()).expect("a receiver");
        wait("its end", || tcp("pod0", "10.96.0.80:80").is_err());
        // Another program sweeps everything away: found out and put right.
        run("nft flush ruleset");
        wait("the table", || run("nft list ruleset").contains("coracle-c0ffee"));
        shutdown.cancel();
        thread.join().expect("no panic").expect("a clean end");
        assert_eq!(run("nft list ruleset"), "");
    });
}

#[test]
fn without_the_right_to_it_says_so() {
    // Not in a lab: as an ordinary user this process may not change its network namespace, and as
    // root it gives that right up in a user namespace that does not own the network.
    if std::env::var_os("CORACLE_UNPRIVILEGED").is_some() {
        let error = kernel::Plane::open(config()).err().expect("an error").to_string();
        assert!(error.contains("CAP_NET_ADMIN"), "{error}");
        return;
    }
    let exe = std::env::current_exe().expect("the test's own path");
    let name = "kernel::without_the_right_to_it_says_so";
    let mut command = Command::new("unshare");
    command.arg("-Ur").arg(exe).args(["--exact", name, "--nocapture"]).env("CORACLE_UNPRIVILEGED", "1");
    assert!(command.status().expect("unshare (apt install util-linux)").success());
}
