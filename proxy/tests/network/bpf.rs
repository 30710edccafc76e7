//! The connect-time data plane under real sockets, in a cgroup of the test's own.
//!
//! In a user namespace the kernel refuses BPF, so these tests take root.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use proxy::bpf::{Config, Plane, cleanup};
use state::Protocol::{Tcp, Udp};

use crate::cluster::{Cluster, PortOf, endpoint};
use crate::lab::*;

const WEB: [PortOf; 2] = [(Tcp, 80, None), (Udp, 80, None)];
const VIP: &str = "10.96.0.80:80";
const ROUNDS: usize = 3000;

/// Runs a test as root, with three endpoints for everyone on this machine, in the cgroup of a pod.
fn pod(name: &str, test: impl FnOnce(&Pods, &mut Plane, &mut Cluster)) {
    // Cgroups are the machine's, so each test has a cluster of its own.
    lab_in("-nm", name, || {
        let pods = Pods { id: format!("{:06x}", std::process::id() & 0xff_ffff) };
        let mut plane = pods.plane();
        pods.enter(true);
        // Without translation nothing leads to a Service's address.
        run("ip route del 10.96.0.0/12");
        for (pod, address) in PODS.iter().enumerate() {
            serve(&format!("pod{pod}"), &format!("{address}:8080"));
        }
        let mut cluster = Cluster::new();
        cluster.service("web", "10.96.0.80", &WEB);
        cluster.endpoints("web", &WEB, 8080, &PODS);
        plane.apply(&cluster.snapshot()).expect("apply");
        test(&pods, &mut plane, &mut cluster);
    });
}

/// The cgroup of a cluster's pods, gone when this is dropped.
struct Pods {
    id: String,
}

impl Pods {
    fn plane(&self) -> Plane {
        let config =
            Config { cluster_id: self.id.clone(), node_name: "node".into(), local: vec![[10, 96, 0, 11].into()] };
        Plane::open(config).expect("BPF; these tests need root, cgroup v2 mounted and a kernel of 5.8 or newer")
    }

    fn root(&self) -> PathBuf {
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        let line = mounts.lines().find(|line| line.contains(" - cgroup2 ")).expect("cgroup v2");
        line.split(' ').nth(4).expect("a mount point").into()
    }

    fn path(&self) -> PathBuf {
        self.root().join(format!("coracle-{}", self.id))
    }

    /// Moves this process into a pod's cgroup, or out of it. A socket keeps the cgroup that it was
    /// made in.
    fn enter(&self, pod: bool) {
        let dir = if pod { self.path().join("pod") } else { self.root() };
        fs::create_dir_all(&dir).expect("a cgroup");
        fs::write(dir.join("cgroup.procs"), "0").expect("moving to a cgroup");
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        self.enter(false);
        let _ = fs::remove_dir(self.path().join("pod"));
        cleanup(&self.id).expect("cleanup");
        assert!(!self.path().exists() || std::thread::panicking(), "a cgroup is left");
    }
}

/// Asserts that `ROUNDS` answers are spread over all three pods as chance would: chi-square with 2
/// degrees of freedom, exceeded once in a million tests.
fn assert_even(mut ask: impl FnMut() -> String) {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..ROUNDS {
        *seen.entry(ask()).or_default() += 1;
    }
    let expected = ROUNDS as f64 / 3.0;
    let square: f64 = seen.values().map(|count| (*count as f64 - expected).powi(2) / expected).sum();
    assert!(seen.len() == 3 && square < 27.6, "not even: {seen:?}");
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address and port")
}

/// A socket for datagrams that is not connected.
fn datagrams(at: &str) -> UdpSocket {
    let socket = UdpSocket::bind(at).expect("a UDP port");
    socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    socket
}

/// Who answers a datagram, and from which address.
fn exchange(socket: &UdpSocket, to: &str) -> io::Result<(String, SocketAddr)> {
    let mut buffer = [0; 100];
    socket.send_to(b"who?\n", to)?;
    let (length, from) = socket.recv_from(&mut buffer)?;
    let text = String::from_utf8_lossy(&buffer[..length]);
    Ok((text.split(' ').next().unwrap_or_default().to_owned(), from))
}

/// Asserts that both protocols go on to the Service's own address, where nobody is.
fn assert_left_alone(to: &str) {
    let unreachable = Some(ErrorKind::NetworkUnreachable);
    assert_eq!(TcpStream::connect(to).err().map(|error| error.kind()), unreachable, "TCP {to}");
    assert_eq!(exchange(&datagrams("0.0.0.0:0"), to).err().map(|error| error.kind()), unreachable, "UDP {to}");
}

#[test]
fn connections_spread_over_endpoints() {
    pod("bpf::connections_spread_over_endpoints", |_, _, _| {
        assert_even(|| tcp("node", VIP).expect("an answer").0);
        // A pod reaches others and itself.
        assert_even(|| tcp("pod0", VIP).expect("an answer").0);
        // A socket of IPv6 that speaks to an address of IPv4.
        assert_even(|| tcp("node", "[::ffff:10.96.0.80]:80").expect("an answer").0);
    });
}

#[test]
fn the_peer_is_the_service() {
    pod("bpf::the_peer_is_the_service", |_, _, _| {
        for to in [VIP, "[::ffff:10.96.0.80]:80"] {
            assert_eq!(connect("node", to).expect("a connection").peer_addr().expect("a peer"), address(to));
        }
        // Who goes to an endpoint itself keeps it; so do servers.
        let direct = format!("{}:8080", PODS[0]);
        assert_eq!(connect("node", &direct).expect("a connection").peer_addr().expect("a peer"), address(&direct));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("its address")).expect("a connection");
        let (_, from) = listener.accept().expect("a client");
        assert_eq!(from, client.local_addr().expect("its address"));
    });
}

#[test]
fn datagrams_keep_their_endpoint_while_it_lives() {
    pod("bpf::datagrams_keep_their_endpoint_while_it_lives", |_, plane, cluster| {
        for (own, to) in [("0.0.0.0:0", VIP), ("[::]:0", "[::ffff:10.96.0.80]:80")] {
            assert_even(|| {
                let (name, from) = exchange(&datagrams(own), to).expect("an answer");
                assert_eq!(from, address(to));
                name
            });
        }
        let socket = datagrams("0.0.0.0:0");
        let (first, _) = exchange(&socket, VIP).expect("an answer");
        let stays = |why: &str| {
            for _ in 0..20 {
                assert_eq!(exchange(&socket, VIP).expect("an answer"), (first.clone(), address(VIP)), "{why}");
            }
        };
        stays("nothing changed");
        let own: Vec<&str> = (0..3).filter(|pod| format!("pod{pod}") == first).map(|pod| PODS[pod]).collect();
        let others: Vec<&str> = PODS.into_iter().filter(|pod| !own.contains(pod)).collect();
        cluster.endpoints("web", &WEB, 8080, &[own[0], others[0]]);
        plane.apply(&cluster.snapshot()).expect("apply");
        stays("another endpoint went");
        cluster.endpoints("web", &WEB, 8080, &others);
        plane.apply(&cluster.snapshot()).expect("apply");
        let (second, _) = exchange(&socket, VIP).expect("an answer");
        assert_ne!(second, first, "its endpoint went");
    });
}

#[test]
fn what_only_nftables_can_do_is_left_to_it() {
    pod("bpf::what_only_nftables_can_do_is_left_to_it", |pods, plane, cluster| {
        let service = |cluster: &mut Cluster, edit: fn(&mut state::Service)| {
            cluster.service_with("web", "10.96.0.80", &WEB, edit);
        };
        let mut check = |cluster: &Cluster| {
            plane.apply(&cluster.snapshot()).expect("apply");
            assert_left_alone(VIP);
        };
        service(cluster, |service| service.affinity = Some(10_800));
        check(cluster);
        service(cluster, |service| service.other_proxy = true);
        check(cluster);
        service(cluster, |service| service.internal_local = true);
        let mut far = endpoint(PODS[0]);
        far.node = Some("other".into());
        cluster.endpoints_with("web", &WEB, 8080, vec![far]);
        check(cluster);
        cluster.endpoints("web", &WEB, 8080, &[]);
        check(cluster);
        cluster.service("web", "10.96.0.11", &WEB);
        cluster.endpoints("web", &WEB, 8080, &PODS);
        plane.apply(&cluster.snapshot()).expect("apply");
        // The node's own address.
        assert_left_alone("10.96.0.11:80");
        cluster.service("web", "10.96.0.80", &WEB);
        plane.apply(&cluster.snapshot()).expect("apply");
        // A connected socket of UDP would stick to an endpoint that goes away.
        let socket = datagrams("0.0.0.0:0");
        assert_eq!(socket.connect(VIP).map_err(|error| error.kind()), Err(ErrorKind::NetworkUnreachable));
        // Another port, and processes that are no pod's.
        assert_left_alone("10.96.0.80:81");
        pods.enter(false);
        assert_left_alone(VIP);
        pods.enter(true);
        assert!(tcp("node", VIP).is_ok());
    });
}

#[test]
fn services_of_ipv6() {
    pod("bpf::services_of_ipv6", |_, plane, cluster| {
        const ENDPOINTS: [&str; 3] = ["fd00:0::2", "fd00:1::2", "fd00:2::2"];
        for (pod, address) in ENDPOINTS.iter().enumerate() {
            run(&format!("ip addr add fd00:{pod}::1/64 dev veth{pod} nodad"));
            run(&format!("ip -n pod{pod} addr add {address}/64 dev eth0 nodad"));
            serve(&format!("pod{pod}"), &format!("[{address}]:8080"));
        }
        cluster.service("six", "fd00:96::80", &WEB);
        cluster.endpoints("six", &WEB, 8080, &ENDPOINTS);
        plane.apply(&cluster.snapshot()).expect("apply");
        let to = "[fd00:96::80]:80";
        assert_even(|| tcp("node", to).expect("an answer").0);
        assert_eq!(connect("node", to).expect("a connection").peer_addr().expect("a peer"), address(to));
        let socket = datagrams("[::]:0");
        let first = exchange(&socket, to).expect("an answer");
        assert_eq!(first.1, address(to));
        assert_eq!(exchange(&socket, to).expect("an answer"), first);
        cluster.endpoints("six", &WEB, 8080, &[]);
        plane.apply(&cluster.snapshot()).expect("apply");
        assert!(tcp("node", to).is_err());
    });
}

#[test]
fn changes_under_load_lose_nothing() {
    pod("bpf::changes_under_load_lose_nothing", |_, plane, cluster| {
        // A process that loses the processor between two look-ups may find its endpoint gone; then nftables leads it.
        run("ip route add 10.96.0.0/12 dev lo src 192.0.2.1");
        crate::lab::plane().apply(cluster.snapshot()).expect("apply");
        let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !stop.load(Relaxed) {
                        TcpStream::connect(VIP).expect("a connection");
                        exchange(&datagrams("0.0.0.0:0"), VIP).expect("an answer");
                        asked.fetch_add(1, Relaxed);
                    }
                });
            }
            // 3,000 more Services do not fit into the first maps.
            for change in 0..3000_usize {
                let name = format!("service-{change}");
                cluster.service(&name, &format!("10.97.{}.{}", change / 250, change % 250), &WEB[..1]);
                cluster.endpoints(&name, &WEB[..1], 8080, &PODS[..1]);
                cluster.endpoints("web", &WEB, 8080, &[PODS[change % 3], PODS[(change + 1) % 3]]);
                plane.apply(&cluster.snapshot()).expect("apply");
            }
            wait("some connections", || asked.load(Relaxed) > 1000);
            stop.store(true, Relaxed);
        });
        for change in [0, 1500, 2999] {
            let to = format!("10.97.{}.{}:80", change / 250, change % 250);
            assert_eq!(tcp("node", &to).expect("an answer").0, "pod0");
        }
    });
}

#[test]
fn a_crash_interrupts_nobody() {
    pod("bpf::a_crash_interrupts_nobody", |pods, plane, cluster| {
        let (before, socket) = (connect("node", VIP).expect("a connection"), datagrams("0.0.0.0:0"));
        let (first, _) = exchange(&socket, VIP).expect("an answer");
        // A process that ends closes the same files as one that drops this.
        let mut second = std::mem::replace(plane, pods.plane());
        drop(std::mem::replace(&mut second, pods.plane()));
        assert!(tcp("node", VIP).is_ok());
        second.apply(&cluster.snapshot()).expect("apply");
        // What sockets did is still known.
        assert_eq!(before.peer_addr().expect("a peer"), address(VIP));
        assert_eq!(exchange(&socket, VIP).expect("an answer").0, first);
        cluster.endpoints("web", &WEB, 8080, &PODS[1..2]);
        second.apply(&cluster.snapshot()).expect("apply");
        for _ in 0..20 {
            assert_eq!(tcp("node", VIP).expect("an answer").0, "pod1", "the programs before still run");
        }
        // Nothing is done any more, although there still are pods.
        cleanup(&pods.id).expect("cleanup");
        assert_left_alone(VIP);
    });
}

#[test]
fn without_the_right_to_it_says_so() {
    // Not in a lab: a user namespace has no right to BPF, whoever made it.
    if std::env::var_os("CORACLE_UNPRIVILEGED").is_some() {
        let config = Config { cluster_id: "c0ffee".into(), node_name: "node".into(), local: Vec::new() };
        let error = Plane::open(config).expect_err("an error").to_string();
        assert!(error.contains("CAP_BPF"), "{error}");
        return;
    }
    let exe = std::env::current_exe().expect("the test's own path");
    let mut command = Command::new("unshare");
    command.arg("-Ur").arg(exe).args(["--exact", "bpf::without_the_right_to_it_says_so", "--nocapture"]);
    let status = command.env("CORACLE_UNPRIVILEGED", "1").status();
    assert!(status.expect("unshare (apt install util-linux)").success());
}
