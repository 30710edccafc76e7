//! The user-space data plane between network namespaces.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread::JoinHandle;

use proxy::user::{Config, Relays};
use state::Protocol::{Tcp, Udp};
use state::{Address, Snapshot};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cluster::{Cluster, PortOf};
use crate::lab::*;

const WEB: [PortOf; 2] = [(Tcp, 80, Some(30001)), (Udp, 80, Some(30001))];

/// Listens where it runs, if nothing else is said; connects from the node.
fn across() -> Config {
    let connect = |to: SocketAddr| -> io::Result<_> {
        let stream = within("node", || TcpStream::connect_timeout(&to, DEADLINE))?;
        stream.set_nonblocking(true)?;
        tokio::net::TcpStream::from_std(stream)
    };
    let associate = |to: SocketAddr| -> io::Result<_> {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = within("node", || UdpSocket::bind(any).and_then(|s| s.connect(to).map(|()| s)))?;
        socket.set_nonblocking(true)?;
        tokio::net::UdpSocket::from_std(socket)
    };
    Config {
        connect: Arc::new(move |to| Box::pin(async move { connect(to) })),
        associate: Arc::new(move |to| Box::pin(async move { associate(to) })),
        ..Config::local("node")
    }
}

/// Runs where `namespace` is, and follows what is sent.
fn relays(namespace: &'static str, config: Config, cluster: &Cluster) -> Running {
    let (sender, receiver) = watch::channel(cluster.snapshot());
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let thread = std::thread::spawn(move || {
        enter(namespace);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(Relays::new(config).run(receiver, stop));
    });
    Running { sender, shutdown, thread }
}

struct Running {
    sender: watch::Sender<Arc<Snapshot>>,
    shutdown: CancellationToken,
    thread: JoinHandle<()>,
}

impl Running {
    fn stop(self) {
        self.shutdown.cancel();
        self.thread.join().expect("no panic");
    }
}

fn web() -> Cluster {
    let mut cluster = Cluster::new();
    cluster.service_with("web", V4.web, &WEB, |service| {
        service.address = Address::ClusterIp([V4.web, V6.web].map(|ip| ip.parse().expect("an address")).into());
    });
    cluster.endpoints("web", &WEB, 8080, &[V4.pods, V6.pods].concat());
    cluster
}

fn all_pods_answer(from: &str, at: &str) {
    for ask in [tcp, udp] {
        let mut seen: Vec<String> = (0..3).map(|_| ask(from, at).expect("an answer").0).collect();
        seen.sort();
        assert_eq!(seen, ["pod0", "pod1", "pod2"]);
    }
}

#[test]
fn localhost_reaches_pods_of_another_network_namespace() {
    lab("user::localhost_reaches_pods_of_another_network_namespace", || {
        // "outside" is the host here, and has no way to the pods.
        (0..3).for_each(|pod| serve(&format!("pod{pod}"), "0.0.0.0:8080"));
        assert!(tcp("outside", "10.244.0.2:8080").is_err());
        let mut cluster = web();
        let running = relays("outside", across(), &cluster);
        wait("the port", || tcp("outside", "127.0.0.1:30001").is_ok());
        all_pods_answer("outside", "127.0.0.1:30001");
        cluster.endpoints("web", &WEB, 8080, &[]);
        running.sender.send(cluster.snapshot()).expect("relays");
        wait("the port's end", || tcp("outside", "127.0.0.1:30001").is_err());
        assert_refused("no endpoints", || tcp("outside", "127.0.0.1:30001"));
        assert_refused("no endpoints", || udp("outside", "127.0.0.1:30001"));
        running.stop();
    });
}

#[test]
fn ports_are_opened_in_one_network_namespace_for_pods_of_another() {
    both("user::ports_are_opened_in_one_network_namespace_for_pods_of_another", |net| {
        (0..3).for_each(|pod| serve(&format!("pod{pod}"), &at(net.any, 8080)));
        let listen = |at: SocketAddr| -> io::Result<_> {
            let listener = within("outside", || TcpListener::bind(at))?;
            listener.set_nonblocking(true)?;
            tokio::net::TcpListener::from_std(listener)
        };
        let bind = |at: SocketAddr| -> io::Result<_> {
            let socket = within("outside", || UdpSocket::bind(at))?;
            socket.set_nonblocking(true)?;
            tokio::net::UdpSocket::from_std(socket)
        };
        let config = Config {
            addresses: vec![net.outside.parse().expect("an address")],
            listen: Arc::new(move |at| Box::pin(async move { listen(at) })),
            bind: Arc::new(move |at| Box::pin(async move { bind(at) })),
            ..across()
        };
        // It runs where neither is.
        let running = relays("pod2", config, &web());
        let port = at(net.outside, 30001);
        wait("the port", || tcp("outside", &port).is_ok());
        all_pods_answer("node", &port);
        running.stop();
        assert_refused("the relays' end", || tcp("node", &port));
    });
}
