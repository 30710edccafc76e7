//! The user-space data plane between network namespaces.

use std::io;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;

use proxy::user::{Config, Relays};
use state::Protocol::{Tcp, Udp};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cluster::{Cluster, PortOf};
use crate::lab::*;

const WEB: [PortOf; 2] = [(Tcp, 80, Some(30001)), (Udp, 80, Some(30001))];

/// Listens where it runs; connects from the node.
fn across() -> Config {
    let connect = |to: SocketAddr| -> io::Result<_> {
        let stream = within("node", || TcpStream::connect_timeout(&to, DEADLINE))?;
        stream.set_nonblocking(true)?;
        tokio::net::TcpStream::from_std(stream)
    };
    let associate = |to: SocketAddr| -> io::Result<_> {
        let socket = within("node", || UdpSocket::bind("0.0.0.0:0").and_then(|s| s.connect(to).map(|()| s)))?;
        socket.set_nonblocking(true)?;
        tokio::net::UdpSocket::from_std(socket)
    };
    Config {
        connect: Arc::new(move |to| Box::pin(async move { connect(to) })),
        associate: Arc::new(move |to| Box::pin(async move { associate(to) })),
        ..Config::local("node")
    }
}

#[test]
fn localhost_reaches_pods_of_another_network_namespace() {
    lab("user::localhost_reaches_pods_of_another_network_namespace", || {
        // "outside" is the host here, and has no way to the pods.
        (0..3).for_each(|pod| serve(&format!("pod{pod}"), "0.0.0.0:8080"));
        assert!(tcp("outside", "10.244.0.2:8080").is_err());
        let mut cluster = Cluster::new();
        cluster.service("web", "10.96.0.80", &WEB);
        cluster.endpoints("web", &WEB, 8080, &PODS);
        let (sender, receiver) = watch::channel(cluster.snapshot());
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let running = std::thread::spawn(move || {
            enter("outside");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(Relays::new(across()).run(receiver, stop));
        });
        wait("the port", || tcp("outside", "127.0.0.1:30001").is_ok());
        for ask in [tcp, udp] {
            let mut seen: Vec<String> =
                (0..3).map(|_| ask("outside", "127.0.0.1:30001").expect("an answer").0).collect();
            seen.sort();
            assert_eq!(seen, ["pod0", "pod1", "pod2"]);
        }
        cluster.endpoints("web", &WEB, 8080, &[]);
        sender.send(cluster.snapshot()).expect("relays");
        wait("the port's end", || tcp("outside", "127.0.0.1:30001").is_err());
        assert_refused("no endpoints", || tcp("outside", "127.0.0.1:30001"));
        assert_refused("no endpoints", || udp("outside", "127.0.0.1:30001"));
        shutdown.cancel();
        running.join().expect("no panic");
    });
}
