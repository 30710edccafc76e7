//! Where the kernel says that a connection went.

use std::io::Read as _;
use std::net::{SocketAddr, UdpSocket};

use proxy::Connections;
use socket2::{Domain, SockAddr, Socket, Type};
use state::Protocol::{Tcp, Udp};

use crate::cluster::{Cluster, PortOf};
use crate::lab::*;

const WEB: [PortOf; 2] = [(Tcp, 80, Some(30001)), (Udp, 80, Some(30001))];

fn socket(text: &str) -> SocketAddr {
    text.parse().expect("an address and port")
}

#[test]
fn connections_are_found_again() {
    lab("path::connections_are_found_again", || {
        let mut cluster = Cluster::new();
        cluster.service("web", "10.96.0.80", &WEB);
        cluster.endpoints("web", &WEB, 8080, &PODS);
        cluster.service("deaf", "10.96.0.81", &[WEB[0]]);
        cluster.endpoints("deaf", &WEB, 8080, &PODS[2..]);
        serve("pod1", "0.0.0.0:8080");
        let mut plane = plane();
        plane.apply(cluster.snapshot()).expect("apply");
        let mut connections = Connections::open().expect("connections");
        let mut find = |protocol, from, to| connections.destination(protocol, from, socket(to)).expect("connections");
        for to in ["10.96.0.80:80", "192.0.2.1:30001"] {
            let mut went = Vec::new();
            for _ in 0..40 {
                // Only one of the pods listens: the others refuse.
                let client = within("pod0", || UdpSocket::bind("10.244.0.2:0")).expect("a port");
                let from = client.local_addr().expect("an address");
                client.send_to(&[], socket(to)).expect("sent");
                let end = find(Udp, from, to).expect("a connection");
                assert_eq!(find(Tcp, from, to), None);
                went.push(end.to_string());
            }
            went.sort();
            went.dedup();
            assert_eq!(went, PODS.map(|pod| format!("{pod}:8080")), "{to}");
        }
        // The kernel forgets a connection that is refused at once, as here by the node's own port.
        let refused = within("pod0", || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            socket.bind(&SockAddr::from(SocketAddr::new([10, 244, 0, 2].into(), 0))).expect("a port");
            let from = socket.local_addr().expect("an address").as_socket().expect("an address");
            assert!(socket.connect(&self::socket("10.96.0.81:80").into()).is_err());
            from
        });
        assert_eq!(find(Tcp, refused, "10.96.0.81:80"), Some(socket("10.244.0.4:8080")));
        // From the node, by connect; the address it leaves from need not be known.
        let mut stream = connect("node", "10.244.0.3:8080").expect("a connection");
        let from = SocketAddr::new([0; 4].into(), stream.local_addr().expect("an address").port());
        let end = find(Tcp, from, "10.96.0.80:80");
        assert_eq!(end, Some(socket("10.244.0.3:8080")), "an entry without the Service's address");
        stream.set_nonblocking(true).expect("a socket");
        assert!(stream.read(&mut [0]).is_err());
    });
}
