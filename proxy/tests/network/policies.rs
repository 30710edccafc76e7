//! Which endpoints a client gets: traffic policies, hints, and endpoints that leave.

use std::sync::Arc;

use state::{Endpoint, Hints, Key, Node, Object};

use crate::cluster::*;
use crate::lab::*;

const ALL: [&str; 3] = ["pod0", "pod1", "pod2"];

/// The pods' endpoints: the first one is said to be on another node.
fn endpoints(net: &Net) -> Vec<Endpoint> {
    let mut all: Vec<Endpoint> = net.pods.iter().map(|pod| endpoint(pod)).collect();
    all[0].node = Some("other".into());
    all
}

#[test]
fn external_traffic_policy_local() {
    both("policies::external_traffic_policy_local", |net| {
        let mut cluster = web(net);
        cluster.service_with("web", net.web, &WEB, |service| {
            service.external_local = true;
            service.external_ips = vec![address(net.external)];
            service.load_balancer_ips = vec![address(net.balanced)];
        });
        cluster.endpoints_with("web", &WEB, 8080, endpoints(net));
        let mut plane = plane();
        plane.apply(cluster.snapshot()).expect("apply");
        let external = [net.node_port(), at(net.external, 80), at(net.balanced, 80)];
        for (to, ask) in external.iter().flat_map(|to| [(to, tcp as fn(&str, &str) -> Answer), (to, udp)]) {
            spread(&ALL[1..], || ask("outside", to));
            assert_eq!(ask("outside", to).expect("an answer").1, address(net.outside), "the source is kept");
            // The policy is for those outside.
            spread(&ALL, || ask("node", to));
            spread(&ALL, || ask("pod1", to));
        }
        spread(&ALL, || tcp("node", &net.service()));
        // No pod here: another node may have one, so that packets are dropped and not refused.
        cluster.endpoints_with("web", &WEB, 8080, endpoints(net)[..1].to_vec());
        plane.apply(cluster.snapshot()).expect("apply");
        for to in &external {
            assert_dropped("outside", net.outside, to);
            spread(&["pod0"], || tcp("node", to));
            spread(&["pod0"], || udp("pod0", to));
        }
        // No pod anywhere.
        cluster.endpoints("web", &WEB, 8080, &[]);
        plane.apply(cluster.snapshot()).expect("apply");
        for to in &external {
            assert_refused("no pod anywhere", || tcp("outside", to));
        }
    });
}

#[test]
fn internal_traffic_policy_local() {
    both("policies::internal_traffic_policy_local", |net| {
        let mut cluster = web(net);
        cluster.service_with("web", net.web, &WEB, |service| service.internal_local = true);
        cluster.endpoints_with("web", &WEB, 8080, endpoints(net));
        let mut plane = plane();
        plane.apply(cluster.snapshot()).expect("apply");
        for (from, ask) in
            ["node", "pod0"].into_iter().flat_map(|from| [(from, tcp as fn(&str, &str) -> Answer), (from, udp)])
        {
            spread(&ALL[1..], || ask(from, &net.service()));
            spread(&ALL, || ask(from, &net.node_port()));
        }
        cluster.endpoints_with("web", &WEB, 8080, endpoints(net)[..1].to_vec());
        plane.apply(cluster.snapshot()).expect("apply");
        assert_dropped("pod1", net.pods[1], &net.service());
        assert_dropped("node", net.node, &net.service());
        spread(&["pod0"], || tcp("outside", &net.node_port()));
    });
}

/// The zone of the node.
fn zone(cluster: &mut Cluster, zone: &str) {
    cluster.0.apply(Object::Node(Node {
        key: Key::new("", "node"),
        addresses: Vec::new(),
        zone: Some(zone.into()),
        pod_cidrs: Vec::new(),
        ready: true,
        leaving: false,
        excluded: false,
    }));
}

#[test]
fn hints_of_zones_and_nodes() {
    both("policies::hints_of_zones_and_nodes", |net| {
        let mut cluster = web(net);
        let mut all = endpoints(net);
        let mut hint = |cluster: &mut Cluster, hints: [(&str, &str); 3]| {
            for (endpoint, (zone, node)) in all.iter_mut().zip(hints) {
                let name = |name: &str| if name.is_empty() { Vec::new() } else { vec![name.into()] };
                endpoint.hints = Some(Arc::new(Hints { zones: name(zone), nodes: name(node) }));
            }
            cluster.endpoints_with("web", &WEB, 8080, all.clone());
        };
        let mut plane = plane();
        zone(&mut cluster, "here");
        let zones = [("here", ""), ("here", ""), ("there", "")];
        hint(&mut cluster, zones);
        plane.apply(cluster.snapshot()).expect("apply");
        for from in ["pod2", "node", "outside"] {
            spread(&["pod0", "pod1"], || tcp(from, &net.service()));
            spread(&["pod0", "pod1"], || udp(from, &net.node_port()));
        }
        hint(&mut cluster, [("here", "other"), ("here", "node"), ("there", "there")]);
        plane.apply(cluster.snapshot()).expect("apply");
        spread(&["pod1"], || tcp("pod0", &net.service()));
        // One without a hint: none counts.
        hint(&mut cluster, [("here", ""), ("here", ""), ("", "")]);
        plane.apply(cluster.snapshot()).expect("apply");
        spread(&ALL, || tcp("pod0", &net.service()));
        // The node moves.
        hint(&mut cluster, zones);
        zone(&mut cluster, "there");
        plane.apply(cluster.snapshot()).expect("apply");
        spread(&["pod2"], || tcp("pod0", &net.service()));
    });
}

#[test]
fn endpoints_serve_until_the_last_one_is_gone() {
    both("policies::endpoints_serve_until_the_last_one_is_gone", |net| {
        let mut cluster = web(net);
        let mut plane = plane();
        let [mut first, mut second] = [net.pods[0], net.pods[1]].map(endpoint);
        let mut apply = |cluster: &mut Cluster, endpoints: &[&Endpoint]| {
            cluster.endpoints_with("web", &WEB, 8080, endpoints.iter().map(|one| (*one).clone()).collect());
            plane.apply(cluster.snapshot()).expect("apply");
        };
        (first.ready, first.terminating) = (false, true);
        apply(&mut cluster, &[&first, &second]);
        spread(&["pod1"], || tcp("pod2", &net.service()));
        (second.ready, second.terminating) = (false, true);
        apply(&mut cluster, &[&first, &second]);
        for from in ["pod2", "node", "outside"] {
            spread(&["pod0", "pod1"], || tcp(from, &net.service()));
            spread(&["pod0", "pod1"], || udp(from, &net.node_port()));
        }
        first.serving = false;
        apply(&mut cluster, &[&first, &second]);
        spread(&["pod1"], || tcp("pod2", &net.service()));
        second.serving = false;
        apply(&mut cluster, &[&first, &second]);
        for from in ["pod2", "node", "outside"] {
            assert_refused(from, || tcp(from, &net.service()));
            assert_refused(from, || udp(from, &net.node_port()));
        }
        // With a policy of Local, too: one that leaves here is better than one that is ready elsewhere.
        cluster.service_with("web", net.web, &WEB, |service| service.external_local = true);
        let mut far = endpoint(net.pods[2]);
        far.node = Some("other".into());
        second.serving = true;
        apply(&mut cluster, &[&second, &far]);
        spread(&["pod1"], || tcp("outside", &net.node_port()));
        spread(&["pod2"], || tcp("node", &net.node_port()));
    });
}

#[test]
fn udp_clients_stay_while_their_endpoint_serves() {
    both("policies::udp_clients_stay_while_their_endpoint_serves", |net| {
        let mut cluster = web(net);
        let mut plane = plane();
        let [mut first, second] = [net.pods[0], net.pods[1]].map(endpoint);
        let mut apply = |cluster: &mut Cluster, endpoints: &[&Endpoint]| {
            cluster.endpoints_with("web", &WEB, 8080, endpoints.iter().map(|one| (*one).clone()).collect());
            plane.apply(cluster.snapshot()).expect("apply");
        };
        apply(&mut cluster, &[&first]);
        let sockets = [udp_socket("node", &net.service()), udp_socket("outside", &net.node_port())];
        let who = || sockets.each_ref().map(|socket| say_udp(socket).expect("an answer").0);
        assert_eq!(who(), ["pod0", "pod0"]);
        (first.ready, first.terminating) = (false, true);
        apply(&mut cluster, &[&first, &second]);
        assert_eq!(who(), ["pod0", "pod0"], "as a connection of TCP would");
        spread(&["pod1"], || udp("node", &net.service()));
        first.serving = false;
        apply(&mut cluster, &[&first, &second]);
        assert_eq!(who(), ["pod1", "pod1"]);
    });
}
