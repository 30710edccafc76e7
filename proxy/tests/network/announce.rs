//! An address of a load balancer on a wire: two nodes with a pod each, and a client.

use std::fs;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use proxy::announce::{self, Announcer};
use proxy::kernel::Config;
use proxy::{Metrics, health};
use state::{Endpoint, Key, Node, Object, Snapshot};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::cluster::*;
use crate::lab::*;

/// How long an address may answer no one while it moves.
const MOVED: Duration = Duration::from_secs(2);
const NODES: [&str; 2] = ["one", "two"];
/// The host parts of the client's address, and of the one that is announced.
const CLIENT: u8 = 9;
const ANNOUNCED: u8 = 240;

fn wire(net: &Net, host: u8) -> String {
    if net.family == "4" { format!("203.0.113.{host}") } else { format!("2001:db8:77::{host}") }
}

fn pod(net: &Net, node: usize) -> String {
    if net.family == "4" { format!("10.244.{}.2", node + 1) } else { format!("fd00:244:0:{}::2", node + 1) }
}

fn mac(host: u8) -> String {
    format!("02:00:00:00:00:{host:02x}")
}

/// A bridge with the nodes, each with a pod behind it, and the client; strict about where packets come from.
fn build(net: &Net) {
    let Net { nodad, .. } = net;
    let (length, all) = if net.family == "4" { (24, 32) } else { (64, 128) };
    let mut bridge = String::from("link add wire type bridge\nlink set wire up\n");
    for (name, host) in [(NODES[0], 1), (NODES[1], 2), ("client", CLIENT)] {
        bridge.push_str(&format!(
            "netns add {name}\nlink add {name} type veth peer name eth0 netns {name}\n\
             link set {name} master wire\nlink set {name} up\n"
        ));
        ip("node", &std::mem::take(&mut bridge));
        let address = wire(net, host);
        ip(
            name,
            &format!(
                "link set lo up\nlink set eth0 address {} up\naddr add {address}/{length} dev eth0{nodad}\n",
                mac(host)
            ),
        );
    }
    for (node, name) in NODES.into_iter().enumerate() {
        let (here, via, other) = (pod(net, node), wire(net, 1 + node as u8), 1 - node);
        within(name, || {
            for setting in ["4/ip_forward", "6/conf/all/forwarding", "4/conf/all/rp_filter", "4/conf/eth0/rp_filter"] {
                fs::write(format!("/proc/sys/net/ipv{setting}"), "1").expect("a setting");
            }
        });
        ip("node", &format!("netns add in-{name}\n"));
        let (gateway, scope) = if net.family == "4" { ("169.254.1.1/32", "") } else { ("fe80::1/64", " nodad") };
        ip(
            name,
            &format!(
                "link add veth0 type veth peer name eth0 netns in-{name}\nlink set veth0 up\n\
                 addr add {gateway} dev veth0 scope link{scope}\nroute add {here}/{all} dev veth0 src {via}\n\
                 route add {}/{all} via {}\n",
                pod(net, other),
                wire(net, 1 + other as u8),
            ),
        );
        let gateway = gateway.split('/').next().expect("an address");
        let scope =
            if net.family == "4" { format!("route add {gateway} dev eth0 scope link\n") } else { String::new() };
        ip(
            &format!("in-{name}"),
            &format!(
                "link set lo up\nlink set eth0 up\naddr add {here}/{all} dev eth0{nodad}\n{scope}\
                 route add default via {gateway} dev eth0\n"
            ),
        );
        serve(&format!("in-{name}"), &at(&here, 8080));
    }
}

const PORT: [PortOf; 1] = [(state::Protocol::Tcp, 80, Some(30001))];

/// The cluster, whose Service has the address.
fn cluster(net: &Net, local: bool) -> Cluster {
    let mut cluster = Cluster::new();
    for (number, name) in NODES.into_iter().enumerate() {
        cluster.0.apply(Object::Node(Node {
            key: Key::new("", name),
            addresses: vec![address(&wire(net, 1 + number as u8))],
            zone: None,
            pod_cidrs: Vec::new(),
            ready: true,
            leaving: false,
            excluded: false,
        }));
    }
    cluster.service_with("web", net.web, &PORT, |service| {
        service.balancing = Some(Arc::default());
        service.load_balancer_ips = vec![address(&wire(net, ANNOUNCED))];
        service.external_local = local;
        service.health_check_node_port = local.then_some(30009);
    });
    cluster.endpoints_with("web", &PORT, 8080, vec![on(net, 0), on(net, 1)]);
    cluster
}

/// The endpoint on a node.
fn on(net: &Net, node: usize) -> Endpoint {
    Endpoint { node: Some(NODES[node].into()), ..endpoint(&pod(net, node)) }
}

/// Runs a node; what was made in the kernel stays when it dies, as the rules of a process that is killed do.
fn node(net: &Net, number: usize, snapshots: watch::Receiver<Arc<Snapshot>>) -> DropGuard {
    let (name, own) = (NODES[number], address(&wire(net, 1 + number as u8)));
    let config = Config { node_name: name.into(), node_addresses: vec![own], keep: true, ..config() };
    let config = Config { dns: Vec::new(), ..config };
    let dies = CancellationToken::new();
    let death = dies.clone();
    let (ready, started) = mpsc::channel();
    std::thread::spawn(move || {
        enter(name);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let health = health::Config {
                node_name: name.into(),
                healthz: vec![(own, health::PORT).into()],
                for_nodes: true,
                metrics: None,
                addresses: vec![own],
                mode: "nftables",
                eligible: Arc::new(true.into()),
            };
            let metrics = Arc::<Metrics>::default();
            let health = health::Server::new(health, metrics.clone(), snapshots.clone());
            let plane = proxy::kernel::Plane::open(config).expect("a data plane").counting(metrics);
            let announcer = Announcer::new(announce::Config { node_name: name.into(), skip_links: "veth".into() });
            ready.send(()).expect("someone waits");
            let (health, announced) = (health.run(dies.clone()), announcer.run(plane.applied(), dies.clone()));
            let (_, _, ran) = tokio::join!(health, announced, plane.run(snapshots, dies.clone()));
            ran.expect("a data plane");
        });
    });
    started.recv().expect("a node");
    death.drop_guard()
}

/// The name in the answer to a client that does not wait long, and the address that the pod saw.
fn ask(net: &Net) -> Answer {
    let to = at(&wire(net, ANNOUNCED), 80);
    let mut stream = connect_from("client", &wire(net, CLIENT), &to, Duration::from_millis(100))?;
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    say(&mut stream)
}

/// The node where the client believes the address to be.
fn neighbour(net: &Net) -> Option<usize> {
    let told = run(&format!("ip -n client neigh show {} dev eth0", wire(net, ANNOUNCED)));
    (0..NODES.len()).find(|node| told.contains(&mac(1 + *node as u8)))
}

/// Asks until the answers come by way of `node`, and returns how long that took. Asserts that this is soon.
fn moves(net: &Net, what: &str, node: usize) -> Duration {
    let start = Instant::now();
    while ask(net).is_err() || neighbour(net) != Some(node) {
        assert!(start.elapsed() < MOVED, "{what}: not at {} after {:?}", NODES[node], start.elapsed());
    }
    let took = start.elapsed();
    println!("IPv{}: {what}: {took:?}", net.family);
    took
}

/// The cable of a node, drawn at the other end, so that the node does not see it.
fn cable(node: usize, plugged: bool) {
    run(&format!("ip link set {} {}", NODES[node], if plugged { "master wire" } else { "nomaster" }));
}

/// How many sockets a node has that see frames.
fn sockets(node: usize) -> usize {
    within(NODES[node], || fs::read_to_string("/proc/thread-self/net/packet").expect("a list").lines().count() - 1)
}

#[test]
fn an_address_moves_when_its_node_dies() {
    both("announce::an_address_moves_when_its_node_dies", |net| {
        build(net);
        let mut cluster = cluster(net, false);
        let (sender, snapshots) = watch::channel(cluster.snapshot());
        let mut nodes = [0, 1].map(|number| Some(node(net, number, snapshots.clone())));
        wait("an answer", || ask(net).is_ok());
        // By whichever pod; and as each node had to send some to the other's, it is the one that they see.
        let first = neighbour(net).expect("a neighbour");
        let other = 1 - first;
        spread(&["in-one", "in-two"], || ask(net));
        assert_eq!(ask(net).expect("an answer").1, address(&wire(net, 1 + first as u8)));
        wait("one socket", || sockets(first) == 1 && sockets(other) == 0);
        // A question to the one node alone, as those ask who heard of it before.
        let at = wire(net, ANNOUNCED);
        run(&format!("ip -n client neigh change {at} lladdr {} dev eth0 nud probe", mac(1 + first as u8)));
        wait("an answer to a question", || run(&format!("ip -n client neigh show {at}")).contains("REACHABLE"));
        // From now on by the pod that stays.
        cluster.endpoints_with("web", &PORT, 8080, vec![on(net, other)]);
        sender.send_replace(cluster.snapshot());
        wait("one pod", || (0..20).all(|_| ask(net).is_ok_and(|(pod, _)| pod == format!("in-{}", NODES[other]))));
        cable(first, false);
        moves(net, "a node without a cable", other);
        wait("one socket each", || sockets(other) == 1);
        cable(first, true);
        moves(net, "its return", first);
        wait("no socket", || sockets(other) == 0);
        // Now it sees the loss.
        run(&format!("ip link set {} down", NODES[first]));
        moves(net, "a node without a carrier", other);
        run(&format!("ip link set {} up", NODES[first]));
        moves(net, "its return", first);
        // The program dies, and the machine goes on.
        nodes[first] = None;
        moves(net, "a node without its program", other);
        nodes[first] = Some(node(net, first, snapshots));
        moves(net, "its return", first);
        // Nothing is left behind.
        cluster.remove("web");
        sender.send_replace(cluster.snapshot());
        wait("no sockets", || sockets(first) + sockets(other) == 0);
    });
}

#[test]
fn only_nodes_with_endpoints_announce_what_is_local() {
    both("announce::only_nodes_with_endpoints_announce_what_is_local", |net| {
        build(net);
        let mut cluster = cluster(net, true);
        let (sender, snapshots) = watch::channel(cluster.snapshot());
        let mut nodes = [0, 1].map(|number| Some(node(net, number, snapshots.clone())));
        wait("an answer", || ask(net).is_ok());
        let first = neighbour(net).expect("a neighbour");
        let other = 1 - first;
        let here = |node: usize| (format!("in-{}", NODES[node]), address(&wire(net, CLIENT)));
        assert_eq!(ask(net).expect("an answer"), here(first), "the source is kept");
        // The program dies, and the machine goes on.
        nodes[first] = None;
        moves(net, "a node without its program", other);
        assert_eq!(ask(net).expect("an answer"), here(other));
        nodes[first] = Some(node(net, first, snapshots));
        moves(net, "its return", first);
        // Its endpoint goes elsewhere.
        cluster.endpoints_with("web", &PORT, 8080, vec![on(net, other)]);
        sender.send_replace(cluster.snapshot());
        moves(net, "its endpoint's end", other);
        assert_eq!(ask(net).expect("an answer"), here(other));
    });
}
