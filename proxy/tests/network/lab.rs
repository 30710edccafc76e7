//! Network namespaces of a test's own: a node, three pods behind it, and a host outside.
//!
//! Each test runs itself again in fresh user, network and mount namespaces, so it needs no root
//! and leaves nothing behind.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;
use std::time::{Duration, Instant};

use proxy::kernel::{Config, Plane};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The node's address towards the outside, the host there, and the pods.
pub(crate) const NODE: &str = "192.0.2.1";
pub(crate) const OUTSIDE: &str = "192.0.2.2";
pub(crate) const PODS: [&str; 3] = ["10.244.0.2", "10.244.0.3", "10.244.0.4"];
/// The cluster's id.
pub(crate) const ID: &str = "c0ffee";
/// How long a test waits for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

const INSIDE: &str = "CORACLE_LAB";

/// Runs a test, which is called `name`, in a lab.
pub(crate) fn lab(name: &str, test: impl FnOnce()) {
    lab_in("-Urnm", name, test);
}

/// As [`lab`], in those namespaces that unshare's `flags` say.
pub(crate) fn lab_in(flags: &str, name: &str, test: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        build();
        return test();
    }
    let exe = std::env::current_exe().expect("the test's own path");
    let status = Command::new("unshare")
        .args([flags, "--"])
        .arg(exe)
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .expect("these tests need unshare (apt install util-linux)");
    assert!(
        status.success(),
        "{name} failed in its own namespaces; if unshare was not permitted, allow user namespaces \
         (sysctl kernel.apparmor_restrict_unprivileged_userns=0, kernel.unprivileged_userns_clone=1) or be root"
    );
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

fn build() {
    run("mount -t tmpfs none /run");
    run("ip link set lo up");
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("forwarding");
    run("ip netns add outside");
    run("ip link add out type veth peer name eth0 netns outside");
    run(&format!("ip addr add {NODE}/24 dev out"));
    run("ip link set out up");
    run("ip -n outside link set lo up");
    run(&format!("ip -n outside addr add {OUTSIDE}/24 dev eth0"));
    run("ip -n outside link set eth0 up");
    run(&format!("ip route add 10.96.0.0/12 dev lo src {NODE}"));
    for (pod, address) in PODS.iter().enumerate() {
        run(&format!("ip netns add pod{pod}"));
        run(&format!("ip link add veth{pod} type veth peer name eth0 netns pod{pod}"));
        run(&format!("ip addr add 169.254.1.1/32 dev veth{pod} scope link"));
        run(&format!("ip link set veth{pod} up"));
        run(&format!("ip route add {address}/32 dev veth{pod} src {NODE}"));
        run(&format!("ip -n pod{pod} link set lo up"));
        run(&format!("ip -n pod{pod} addr add {address}/32 dev eth0"));
        run(&format!("ip -n pod{pod} link set eth0 up"));
        run(&format!("ip -n pod{pod} route add 169.254.1.1 dev eth0 scope link"));
        run(&format!("ip -n pod{pod} route add default via 169.254.1.1 dev eth0"));
    }
}

/// The configuration of the lab's node.
pub(crate) fn config() -> Config {
    let net = |text: &str| text.parse().expect("a network");
    Config {
        cluster_id: ID.into(),
        node_name: "node".into(),
        node_addresses: vec![NODE.parse().expect("an address")],
        pod_cidrs: vec![net("10.244.0.0/16")],
        service_cidrs: vec![net("10.96.0.0/12")],
        dns: vec![[10, 96, 0, 10].into()],
        local: Vec::new(),
        own_network: true,
        keep: false,
    }
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

/// A server that tells every client over TCP and UDP its namespace's name and the client's address.
pub(crate) fn serve(namespace: &str, at: &str) {
    let name = namespace.to_owned();
    let (tcp, udp) = within(namespace, || {
        let tcp = TcpListener::bind(at).expect("a TCP port");
        (tcp, UdpSocket::bind(at).expect("a UDP port"))
    });
    let answer = move |client: IpAddr| format!("{name} {client}\n");
    let answer_udp = answer.clone();
    std::thread::spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            let answer = answer.clone();
            std::thread::spawn(move || {
                let client = stream.peer_addr().expect("a peer").ip();
                let mut lines = BufReader::new(stream.try_clone().expect("a handle"));
                let mut line = String::new();
                while lines.read_line(&mut line).is_ok_and(|length| length > 0) {
                    if stream.write_all(answer(client).as_bytes()).is_err() {
                        break;
                    }
                }
            });
        }
    });
    std::thread::spawn(move || {
        let mut buffer = [0; 100];
        while let Ok((_, client)) = udp.recv_from(&mut buffer) {
            udp.send_to(answer_udp(client.ip()).as_bytes(), client).ok();
        }
    });
}

/// Who answered, and which address it saw.
pub(crate) type Answer = io::Result<(String, IpAddr)>;

/// A connection from a namespace.
pub(crate) fn connect(namespace: &str, to: &str) -> io::Result<TcpStream> {
    let to: SocketAddr = to.parse().expect("an address and port");
    let stream = within(namespace, || TcpStream::connect_timeout(&to, DEADLINE))?;
    stream.set_read_timeout(Some(DEADLINE))?;
    Ok(stream)
}

/// Asks over a connection that is there.
pub(crate) fn say(stream: &mut TcpStream) -> Answer {
    stream.write_all(b"who?\n")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    parse(&line)
}

/// Asks over a new connection.
pub(crate) fn tcp(namespace: &str, to: &str) -> Answer {
    say(&mut connect(namespace, to)?)
}

/// A UDP socket in a namespace that sends to one place.
pub(crate) fn udp_socket(namespace: &str, to: &str) -> UdpSocket {
    within(namespace, || {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a UDP port");
        socket.connect(to).expect("a route");
        socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        socket
    })
}

/// Asks over a UDP socket.
pub(crate) fn say_udp(socket: &UdpSocket) -> Answer {
    socket.send(b"who?\n")?;
    let mut buffer = [0; 100];
    let length = socket.recv(&mut buffer)?;
    parse(&String::from_utf8_lossy(&buffer[..length]))
}

/// Asks over a new UDP socket.
pub(crate) fn udp(namespace: &str, to: &str) -> Answer {
    say_udp(&udp_socket(namespace, to))
}

fn parse(line: &str) -> Answer {
    let (name, client) = line.trim().split_once(' ').ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok((name.to_owned(), client.parse().map_err(|_| io::ErrorKind::InvalidData)?))
}

/// Asserts that a client was refused, and at once. (Linux answers the sender of a UDP datagram that
/// is rejected on its own machine with EPERM.)
pub(crate) fn assert_refused(what: &str, ask: impl FnOnce() -> Answer) {
    let start = Instant::now();
    let answer = ask();
    let refused = [io::ErrorKind::ConnectionRefused, io::ErrorKind::PermissionDenied];
    let refused = answer.as_ref().is_err_and(|error| refused.contains(&error.kind()));
    assert!(refused, "{what}: {answer:?}");
    assert!(start.elapsed() < DEADLINE / 2, "{what}: refused only after {:?}", start.elapsed());
}

/// Waits for something to become true.
pub(crate) fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < 3 * DEADLINE, "{what} did not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}
