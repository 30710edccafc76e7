//! Network namespaces of a test's own: a node, three pods behind it, and a host outside.
//!
//! Each test runs itself again in fresh user, network and mount namespaces, so it needs no root
//! and leaves nothing behind.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use proxy::kernel::{Config, Plane};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

pub(crate) use crate::ask::*;

/// The lab's addresses of one family.
pub(crate) struct Net {
    /// "4" or "6".
    pub(crate) family: &'static str,
    /// What keeps `ip addr add` from asking the neighbours first.
    pub(crate) nodad: &'static str,
    /// All addresses of a machine.
    pub(crate) any: &'static str,
    /// The node's addresses towards the outside: NodePorts are at the first one.
    pub(crate) node: &'static str,
    pub(crate) second: &'static str,
    /// The addresses of the host there.
    pub(crate) outside: &'static str,
    pub(crate) stranger: &'static str,
    pub(crate) pods: [&'static str; 3],
    /// Cluster IPs: that of the Service "web", that of DNS, and one of no Service.
    pub(crate) web: &'static str,
    pub(crate) dns: &'static str,
    pub(crate) nobody: &'static str,
    /// Addresses that lead to the node from outside.
    pub(crate) external: &'static str,
    pub(crate) balanced: &'static str,
    pub(crate) pod_range: &'static str,
    pub(crate) service_range: &'static str,
    external_range: &'static str,
}

pub(crate) const V4: Net = Net {
    family: "4",
    nodad: "",
    any: "0.0.0.0",
    node: "192.0.2.1",
    second: "192.0.2.11",
    outside: "192.0.2.2",
    stranger: "192.0.2.3",
    pods: PODS,
    web: "10.96.0.80",
    dns: "10.96.0.10",
    nobody: "10.96.7.7",
    external: "198.51.100.1",
    balanced: "198.51.100.2",
    pod_range: "10.244.0.0/16",
    service_range: "10.96.0.0/12",
    external_range: "198.51.100.0/24",
};

pub(crate) const V6: Net = Net {
    family: "6",
    nodad: " nodad",
    any: "::",
    node: "2001:db8::1",
    second: "2001:db8::11",
    outside: "2001:db8::2",
    stranger: "2001:db8::3",
    pods: ["fd00:244::2", "fd00:244::3", "fd00:244::4"],
    web: "fd00:96::80",
    dns: "fd00:96::10",
    nobody: "fd00:96::7:7",
    external: "2001:db8:51::1",
    balanced: "2001:db8:51::2",
    pod_range: "fd00:244::/56",
    service_range: "fd00:96::/108",
    external_range: "2001:db8:51::/64",
};

impl Net {
    /// The word of the program nft for the family.
    pub(crate) fn table(&self) -> &str {
        if self.family == "4" { "ip" } else { "ip6" }
    }

    /// Port 80 of the Service "web", and its nodePort.
    pub(crate) fn service(&self) -> String {
        at(self.web, 80)
    }

    pub(crate) fn node_port(&self) -> String {
        at(self.node, 30001)
    }
}

/// The pods' addresses of IPv4.
pub(crate) const PODS: [&str; 3] = ["10.244.0.2", "10.244.0.3", "10.244.0.4"];
/// The cluster's id.
pub(crate) const ID: &str = "c0ffee";
/// How long a test waits for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// Set where the test is in its lab already, to the family that it is about.
const INSIDE: &str = "CORACLE_LAB";

/// Runs a test, which is called `name`, in a lab.
pub(crate) fn lab(name: &str, test: impl FnOnce()) {
    lab_in("-Urnm", name, test);
}

/// As [`lab`], in those namespaces that unshare's `flags` say.
pub(crate) fn lab_in(flags: &str, name: &str, test: impl FnOnce()) {
    again(flags, name, &[V4], |_| test());
}

/// Runs a test in two labs, about IPv4 and about IPv6.
pub(crate) fn both(name: &str, test: impl FnOnce(&Net)) {
    again("-Urnm", name, &[V4, V6], test);
}

fn again(flags: &str, name: &str, nets: &[Net], test: impl FnOnce(&Net)) {
    if let Some(family) = std::env::var_os(INSIDE) {
        build();
        return nets.iter().find(|net| family == net.family).map(test).expect("a family");
    }
    let exe = std::env::current_exe().expect("the test's own path");
    for net in nets {
        let status = Command::new("unshare")
            .args([flags, "--"])
            .arg(&exe)
            .args(["--exact", name, "--nocapture"])
            .env(INSIDE, net.family)
            .status()
            .expect("these tests need unshare (apt install util-linux)");
        assert!(
            status.success(),
            "{name} failed with IPv{} in its own namespaces; if unshare was not permitted, allow user namespaces \
             (sysctl kernel.apparmor_restrict_unprivileged_userns=0, kernel.unprivileged_userns_clone=1) or be root",
            net.family
        );
    }
}

/// Runs a program that must succeed, and returns what it prints.
pub(crate) fn run(command: &str) -> String {
    let mut words = command.split_whitespace();
    let program = words.next().expect("a program");
    let output = Command::new(program).args(words).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error} (apt install iproute2 nftables)"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Commands in nft's language.
pub(crate) fn nft(command: &str) {
    let status = Command::new("nft").arg(command).status().expect("nft (apt install nftables)");
    assert!(status.success(), "nft {command}");
}

/// Lines for the program ip, in a namespace.
pub(crate) fn ip(namespace: &str, lines: &str) {
    let mut command = Command::new("ip");
    if namespace != "node" {
        command.args(["-n", namespace]);
    }
    let ip = command.args(["-batch", "-"]).stdin(Stdio::piped()).spawn();
    let mut ip = ip.unwrap_or_else(|error| panic!("ip: {error} (apt install iproute2)"));
    ip.stdin.take().expect("a pipe").write_all(lines.as_bytes()).expect("lines");
    assert!(ip.wait().expect("an end").success(), "in {namespace}: {lines}");
}

fn build() {
    run("mount -t tmpfs none /run");
    // Every refusal is told, not only some in a second.
    let settings = [("4/ip_forward", "1"), ("6/conf/all/forwarding", "1")];
    for (path, value) in settings.iter().chain(&[("4/icmp_ratelimit", "0"), ("6/icmp/ratelimit", "0")]) {
        std::fs::write(format!("/proc/sys/net/ipv{path}"), value).expect("a setting");
    }
    let mut node = String::from("netns add outside\nlink add out type veth peer name eth0 netns outside\n");
    let mut outside = String::from("link set lo up\nlink set eth0 up\n");
    node.push_str("link set lo up\nlink set out up\n");
    for (net, length) in [(V4, 24), (V6, 64)] {
        let Net { nodad, node: first, second, outside: host, stranger, service_range, external_range, .. } = net;
        // The second addresses are sources only where that is asked for.
        for (address, life) in [(first, "forever"), (second, "0")] {
            node.push_str(&format!("addr add {address}/{length} dev out{nodad} preferred_lft {life}\n"));
        }
        for (address, life) in [(host, "forever"), (stranger, "0")] {
            outside.push_str(&format!("addr add {address}/{length} dev eth0{nodad} preferred_lft {life}\n"));
        }
        // What goes to a Service has to leave by some device; IPv6 refuses what leaves by lo.
        let device = if net.family == "4" { "lo" } else { "out" };
        node.push_str(&format!("route add {service_range} dev {device} src {first}\n"));
        for range in [service_range, external_range] {
            outside.push_str(&format!("route add {range} via {first}\n"));
        }
        // What the node sends there leaves, if the data plane lets it.
        node.push_str(&format!("route add {external_range} via {host}\n"));
    }
    for pod in 0..3 {
        let [v4, v6] = [V4.pods[pod], V6.pods[pod]];
        node.push_str(&format!(
            "netns add pod{pod}\nlink add veth{pod} type veth peer name eth0 netns pod{pod}\nlink set veth{pod} up\n\
             addr add 169.254.1.1/32 dev veth{pod} scope link\naddr add fe80::1/64 dev veth{pod} nodad\n\
             route add {v4}/32 dev veth{pod} src {}\nroute add {v6}/128 dev veth{pod} src {}\n",
            V4.node, V6.node
        ));
    }
    ip("node", &node);
    ip("outside", &outside);
    for pod in 0..3 {
        let [v4, v6] = [V4.pods[pod], V6.pods[pod]];
        ip(
            &format!("pod{pod}"),
            &format!(
                "link set lo up\nlink set eth0 up\naddr add {v4}/32 dev eth0\naddr add {v6}/128 dev eth0 nodad\n\
                 route add 169.254.1.1 dev eth0 scope link\nroute add default via 169.254.1.1 dev eth0\n\
                 route add default via fe80::1 dev eth0\n"
            ),
        );
    }
}

/// The configuration of the lab's node.
pub(crate) fn config() -> Config {
    Config {
        cluster_id: ID.into(),
        node_name: "node".into(),
        node_addresses: [V4.node, V6.node].map(address).into(),
        pod_cidrs: [V4.pod_range, V6.pod_range].map(range).into(),
        service_cidrs: [V4.service_range, V6.service_range].map(range).into(),
        dns: [V4.dns, V6.dns].map(address).into(),
        local: Vec::new(),
        own_network: true,
        keep: false,
    }
}

/// A network from its text.
pub(crate) fn range<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("a network")
}

/// A data plane in the node's namespace.
pub(crate) fn plane() -> Plane {
    Plane::open(config()).expect("a data plane")
}

/// Does something in a namespace: "node", "outside" or "pod0" to "pod2". Sockets that it makes
/// stay in that namespace.
pub(crate) fn within<T: Send>(namespace: &str, act: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            enter(namespace);
            act()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Moves this thread, and those that it starts, into a namespace for good.
pub(crate) fn enter(namespace: &str) {
    let path = match namespace {
        "node" => "/proc/self/ns/net".to_owned(),
        other => format!("/run/netns/{other}"),
    };
    let file = File::open(path).expect("a namespace");
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("setns");
}

/// Waits for something to become true.
pub(crate) fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < 3 * DEADLINE, "{what} did not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}
