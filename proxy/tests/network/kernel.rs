//! The kernel data plane under real packets.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;

use proxy::kernel;
use state::Protocol::{Tcp, Udp};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cluster::*;
use crate::lab::*;

#[test]
fn cluster_ip_from_everywhere() {
    both("kernel::cluster_ip_from_everywhere", |net| {
        let cluster = web(net);
        let mut plane = plane();
        plane.apply(cluster.snapshot()).expect("apply");
        let all = ["pod0", "pod1", "pod2"];
        spread(&all, || tcp("pod0", &net.service()));
        let mut seen = BTreeMap::<_, usize>::new();
        (0..200).for_each(|_| *seen.entry(tcp("pod0", &net.service()).expect("an answer").0).or_default() += 1);
        assert!(seen.values().all(|count| (30..110).contains(count)), "not even: {seen:?}");
        spread(&all, || udp("pod1", &net.service()));
        spread(&all, || tcp("node", &net.service()));
        spread(&all, || udp("node", &net.service()));
        // From outside by way of the node: the pod's answer has to come back that way.
        assert_eq!(tcp("outside", &net.service()).expect("an answer").1, address(net.node));
        // Pods see each other's addresses, and themselves as the node; so is the node seen.
        for _ in 0..20 {
            let (name, client) = tcp("pod0", &net.service()).expect("an answer");
            assert_eq!(client, address(if name == "pod0" { net.node } else { net.pods[0] }), "{name}");
            assert_eq!(tcp("node", &net.service()).expect("an answer").1, address(net.node));
        }
        plane.remove().expect("remove");
        assert_eq!(run("nft list ruleset"), "");
    });
}

#[test]
fn node_port_from_outside() {
    both("kernel::node_port_from_outside", |net| {
        let cluster = web(net);
        let mut plane = plane();
        plane.apply(cluster.snapshot()).expect("apply");
        let all = ["pod0", "pod1", "pod2"];
        for from in ["outside", "node", "pod0"] {
            spread(&all, || tcp(from, &net.node_port()));
            spread(&all, || udp(from, &net.node_port()));
            // Policy Cluster: the client is hidden behind the node.
            assert_eq!(tcp(from, &net.node_port()).expect("an answer").1, address(net.node));
        }
    });
}

#[test]
fn endpoints_that_are_the_node_itself() {
    both("kernel::endpoints_that_are_the_node_itself", |net| {
        // The API server is such an endpoint.
        serve("node", &at(net.node, 6443));
        let ports: [PortOf; 1] = [(Tcp, 443, Some(30443))];
        let mut cluster = Cluster::new();
        cluster.service("kubernetes", net.web, &ports);
        cluster.endpoints("kubernetes", &ports, 6443, &[net.node]);
        let mut plane = plane();
        plane.apply(cluster.snapshot()).expect("apply");
        for (from, client) in [("node", net.node), ("pod0", net.pods[0])] {
            let answer = tcp(from, &at(net.web, 443)).expect("an answer");
            assert_eq!(answer, ("node".into(), address(client)));
        }
        for from in ["outside", "node", "pod0"] {
            assert_eq!(tcp(from, &at(net.node, 30443)).expect("an answer").0, "node", "{from}");
        }
    });
}

#[test]
fn refused_at_once_without_endpoints() {
    both("kernel::refused_at_once_without_endpoints", |net| {
        let mut cluster = Cluster::new();
        cluster.service("web", net.web, &WEB);
        let mut plane = plane();
        plane.apply(cluster.snapshot()).expect("apply");
        for from in ["pod0", "node"] {
            assert_refused(from, || tcp(from, &net.service()));
            assert_refused(from, || udp(from, &net.service()));
            assert_refused("unknown port", || tcp(from, &at(net.web, 81)));
            assert_refused("unknown address", || udp(from, &at(net.nobody, 80)));
        }
        for from in ["outside", "node", "pod0"] {
            assert_refused(from, || tcp(from, &net.node_port()));
            assert_refused(from, || udp(from, &net.node_port()));
        }
    });
}

#[test]
fn affinity_keeps_a_client_with_its_endpoint() {
    both("kernel::affinity_keeps_a_client_with_its_endpoint", |net| {
        let mut cluster = web(net);
        cluster.service_with("web", net.web, &WEB, |service| service.affinity = Some(10_800));
        let mut plane = plane();
        plane.apply(cluster.snapshot()).expect("apply");
        for from in ["pod0", "pod1", "pod2", "node"] {
            let (first, _) = tcp(from, &net.service()).expect("an answer");
            spread(&[&first], || tcp(from, &net.service()));
            // Each port by itself.
            let (first, _) = udp(from, &net.service()).expect("an answer");
            spread(&[&first], || udp(from, &net.service()));
        }
    });
}

#[test]
fn pods_reach_the_world_and_each_other() {
    both("kernel::pods_reach_the_world_and_each_other", |net| {
        serve("outside", &at(net.any, 7));
        serve("pod1", &at(net.any, 7));
        serve("node", &at(net.any, 7));
        let mut plane = plane();
        plane.apply(Cluster::new().snapshot()).expect("apply");
        let sees = |to: &str| tcp("pod0", to).expect("an answer");
        assert_eq!(sees(&at(net.outside, 7)), ("outside".into(), address(net.node)));
        assert_eq!(sees(&at(net.pods[1], 7)), ("pod1".into(), address(net.pods[0])));
        assert_eq!(sees(&at(net.node, 7)), ("node".into(), address(net.pods[0])));
    });
}

#[test]
fn dns_is_not_tracked() {
    both("kernel::dns_is_not_tracked", |net| {
        let table = net.table();
        run(&format!("ip addr add {} dev lo{}", net.dns, net.nodad));
        serve("node", &at(net.dns, 53));
        nft(&format!("add table {table} probe"));
        for (hook, field) in [("input", "daddr"), ("output", "saddr")] {
            nft(&format!("add chain {table} probe {hook} {{ type filter hook {hook} priority 0; }}"));
            for state in ["untracked", "established,new"] {
                nft(&format!("add rule {table} probe {hook} {table} {field} {} ct state {state} counter", net.dns));
            }
        }
        let dns: [PortOf; 2] = [(Udp, 53, None), (Tcp, 53, None)];
        let mut cluster = web(net);
        cluster.service("kube-dns", net.dns, &dns);
        let mut plane = plane();
        plane.apply(cluster.snapshot()).expect("apply");
        for from in ["pod0", "node"] {
            assert_eq!(udp(from, &at(net.dns, 53)).expect("an answer").0, "node");
            assert_eq!(tcp(from, &at(net.dns, 53)).expect("an answer").0, "node");
        }
        let chains = run(&format!("nft list table {table} probe"));
        let packets = |rule: &str| {
            let (_, after) = chains.split_once(&format!("{rule} counter packets ")).expect("a counter");
            after.split(' ').next().and_then(|count| count.parse::<u32>().ok()).expect("a number")
        };
        for field in ["daddr", "saddr"] {
            assert!(packets(&format!("{table} {field} {} ct state untracked", net.dns)) > 0, "{chains}");
            assert_eq!(packets(&format!("{table} {field} {} ct state established,new", net.dns)), 0, "{chains}");
        }
    });
}

#[test]
fn dns_is_asked_at_other_addresses() {
    both("kernel::dns_is_asked_at_other_addresses", |net| {
        run(&format!("ip addr add {} dev lo{}", net.dns, net.nodad));
        serve("node", &at(net.dns, 53));
        let dns: [PortOf; 2] = [(Udp, 53, Some(30053)), (Tcp, 53, Some(30053))];
        let mut cluster = Cluster::new();
        cluster
            .service_with("kube-dns", net.dns, &dns, |service| service.load_balancer_ips = vec![address(net.balanced)]);
        cluster.endpoints("kube-dns", &dns, 53, &[net.dns]);
        let mut plane = plane();
        plane.apply(cluster.snapshot()).expect("apply");
        for from in ["outside", "node", "pod0"] {
            for to in [at(net.balanced, 53), at(net.node, 30053), at(net.dns, 53)] {
                assert_eq!(udp(from, &to).expect("an answer").0, "node", "{from} {to}");
                assert_eq!(tcp(from, &to).expect("an answer").0, "node", "{from} {to}");
            }
        }
    });
}

#[test]
fn endpoints_change_under_traffic() {
    both("kernel::endpoints_change_under_traffic", |net| {
        let mut cluster = web(net);
        let mut plane = plane();
        plane.apply(cluster.snapshot()).expect("apply");
        let mut stream = connect("pod0", &net.service()).expect("a connection");
        let (first, _) = say(&mut stream).expect("an answer");
        std::thread::scope(|scope| {
            let client = scope.spawn(|| {
                for i in 0..300 {
                    tcp("outside", &net.node_port()).unwrap_or_else(|error| panic!("request {i}: {error}"));
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
                cluster.endpoints("web", &WEB, 8080, &net.pods[..count]);
                plane.apply(cluster.snapshot()).expect("apply");
            }
        });
        assert_eq!(say(&mut stream).expect("the old connection goes on").0, first);
    });
}

#[test]
fn udp_clients_leave_an_endpoint_that_left() {
    both("kernel::udp_clients_leave_an_endpoint_that_left", |net| {
        let mut cluster = web(net);
        let mut plane = plane();
        plane.apply(cluster.snapshot()).expect("apply");
        let sockets = [net.service(), net.node_port()].map(|to| (to.clone(), udp_socket("node", &to)));
        for (to, socket) in &sockets {
            let (first, _) = say_udp(socket).expect("an answer");
            let rest: Vec<&str> = (0..3).filter(|pod| first != format!("pod{pod}")).map(|pod| net.pods[pod]).collect();
            cluster.endpoints("web", &WEB, 8080, &rest);
            plane.apply(cluster.snapshot()).expect("apply");
            let (second, _) = say_udp(socket).expect("an answer");
            assert_ne!(second, first, "{to}");
            // And after a crash, too: what the new process did not see leave is not where it leads.
            cluster.endpoints("web", &WEB, 8080, &net.pods);
            plane.apply(cluster.snapshot()).expect("apply");
            assert_eq!(say_udp(socket).expect("an answer").0, second, "a client stays while its endpoint does");
            let rest: Vec<&str> = (0..3).filter(|pod| second != format!("pod{pod}")).map(|pod| net.pods[pod]).collect();
            cluster.endpoints("web", &WEB, 8080, &rest);
            plane = crate::lab::plane();
            plane.apply(cluster.snapshot()).expect("apply");
            assert_ne!(say_udp(socket).expect("an answer").0, second, "{to} after a crash");
        }
    });
}

#[test]
fn udp_clients_find_a_service_that_came_later() {
    both("kernel::udp_clients_find_a_service_that_came_later", |net| {
        // Until then a program of the node has the nodePort, and another host the external address.
        serve("node", &net.node_port());
        run(&format!("ip -n outside addr add {} dev lo{}", net.external, net.nodad));
        serve("outside", &at(net.external, 80));
        let mut cluster = web(net);
        cluster.remove("web");
        let mut plane = plane();
        plane.apply(cluster.snapshot()).expect("apply");
        let places = [("outside", net.node_port()), ("pod0", net.node_port()), ("node", at(net.external, 80))];
        let sockets = places.map(|(from, to)| udp_socket(from, &to));
        let who = || sockets.each_ref().map(|socket| say_udp(socket).expect("an answer").0);
        assert_eq!(who(), ["node", "node", "outside"]);
        cluster.service_with("web", net.web, &WEB, |service| service.external_ips = vec![address(net.external)]);
        cluster.endpoints("web", &WEB, 8080, &net.pods[1..2]);
        plane.apply(cluster.snapshot()).expect("apply");
        assert_eq!(who(), ["pod1"; 3]);
        // Gone again, it has no more to do with them.
        cluster.remove("web");
        plane.apply(cluster.snapshot()).expect("apply");
        assert_eq!(who(), ["node", "node", "outside"]);
    });
}

#[test]
fn a_crash_leaves_the_rules_until_they_are_replaced() {
    both("kernel::a_crash_leaves_the_rules_until_they_are_replaced", |net| {
        let mut cluster = web(net);
        let mut first = plane();
        first.apply(cluster.snapshot()).expect("apply");
        drop(first);
        let mut second = plane();
        tcp("pod0", &net.service()).expect("the old rules are at work");
        cluster.endpoints("web", &WEB, 8080, &net.pods[..1]);
        second.apply(cluster.snapshot()).expect("apply");
        spread(&["pod0"], || tcp("pod1", &net.service()));
        run("nft add table ip other");
        kernel::cleanup(ID).expect("cleanup");
        kernel::cleanup(ID).expect("cleanup of nothing");
        assert_eq!(run("nft list ruleset").trim(), "table ip other {\n}");
    });
}

#[test]
fn a_firewall_that_drops_lets_pods_through() {
    both("kernel::a_firewall_that_drops_lets_pods_through", |net| {
        let cluster = web(net);
        let table = net.table();
        for family in [table, "inet"] {
            run(&format!("nft add table {family} filter"));
            nft(&format!("add chain {family} filter FORWARD {{ type filter hook forward priority 0; policy drop; }}"));
        }
        nft(&format!("add chain {table} filter INPUT {{ type filter hook input priority 0; policy drop; }}"));
        // As everyone lets neighbours find each other.
        nft(&format!("add rule {table} filter INPUT meta l4proto ipv6-icmp accept"));
        nft(&format!("add rule {table} filter FORWARD {table} saddr {} counter accept", net.external));
        let before = run("nft list ruleset");
        for _ in 0..2 {
            let mut plane = plane();
            assert_eq!(plane.warnings().len(), 1, "{:?}", plane.warnings());
            plane.apply(cluster.snapshot()).expect("apply");
            tcp("pod0", &at(net.pods[1], 8080)).expect("pod to pod");
            tcp("outside", &net.node_port()).expect("from outside");
        }
        // Without counters: the last packets of the connections above may still come.
        let list = &format!("nft --stateless list chain {table} filter FORWARD");
        let rules = run(list);
        assert_eq!(rules.matches(&format!("comment \"coracle-c0ffee: pods {}\"", net.pod_range)).count(), 2, "{rules}");
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
        let net = &V4;
        let mut cluster = web(net);
        for i in 0..5000 {
            let name = format!("service-{i}");
            cluster.service(&name, &format!("10.97.{}.{}", i / 250, i % 250), &WEB[..1]);
            cluster.endpoints(&name, &WEB[..1], 8080, &net.pods);
        }
        let mut plane = plane();
        for _ in 0..2 {
            plane.apply(cluster.snapshot()).expect("apply");
            let services = run(&format!("nft list map {} coracle-c0ffee services", net.table()));
            // Those of "web": two protocols at two addresses; one nodePort for all of the others.
            assert_eq!(services.matches("goto n3").count(), 5000 + 4);
            assert!(tcp("pod0", "10.97.19.249:80").is_ok());
            plane = crate::lab::plane();
        }
    });
}

#[test]
fn run_follows_snapshots_and_cleans_up() {
    both("kernel::run_follows_snapshots_and_cleans_up", |net| {
        let mut cluster = web(net);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let shutdown = CancellationToken::new();
        let (sender, receiver) = watch::channel(Arc::default());
        let running = plane().run(receiver, shutdown.clone());
        let thread = std::thread::spawn(move || runtime.block_on(running));
        sender.send(cluster.snapshot()).expect("a receiver");
        wait("the Service", || tcp("pod0", &net.service()).is_ok());
        cluster.remove("web");
        sender.send(cluster.snapshot()).expect("a receiver");
        wait("its end", || tcp("pod0", &net.service()).is_err());
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
