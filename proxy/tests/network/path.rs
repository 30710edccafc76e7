//! Where the kernel says that a connection went.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use proxy::Connections;
use socket2::{Domain, Socket, Type};
use state::Protocol::{Tcp, Udp};

use crate::cluster::Cluster;
use crate::lab::*;

#[test]
fn connections_are_found_again() {
    both("path::connections_are_found_again", |net| {
        let socket = |text: &str| text.parse::<SocketAddr>().expect("an address and port");
        let mut cluster = Cluster::new();
        cluster.service("web", net.web, &WEB);
        cluster.endpoints("web", &WEB, 8080, &net.pods);
        cluster.service("deaf", net.nobody, &WEB[..1]);
        cluster.endpoints("deaf", &WEB, 8080, &net.pods[2..]);
        serve("pod1", &at(net.any, 8080));
        let mut plane = plane();
        plane.apply(cluster.snapshot()).expect("apply");
        let mut connections = Connections::open().expect("connections");
        let mut find = |protocol, from, to: &str| connections.destination(protocol, from, socket(to)).expect("list");
        for to in [net.service(), net.node_port()] {
            let mut went = Vec::new();
            for _ in 0..40 {
                // Two of the pods refuse.
                let client = within("pod0", || UdpSocket::bind(at(net.pods[0], 0))).expect("a port");
                let from = client.local_addr().expect("an address");
                client.send_to(&[], socket(&to)).expect("sent");
                went.push(find(Udp, from, &to).expect("a connection").to_string());
            }
            went.sort();
            went.dedup();
            assert_eq!(went, net.pods.map(|pod| at(pod, 8080)), "{to}");
        }
        assert_eq!(find(Tcp, socket(&at(net.pods[0], 9)), &net.service()), None);
        // A TCP connection that is refused is forgotten at once.
        let deaf = at(net.nobody, 80);
        let refused = within("pod0", || {
            let client = Socket::new(Domain::for_address(socket(&deaf)), Type::STREAM, None).expect("a socket");
            client.bind(&socket(&at(net.pods[0], 0)).into()).expect("a port");
            let from = client.local_addr().expect("an address").as_socket().expect("an address");
            assert!(client.connect(&socket(&deaf).into()).is_err());
            from
        });
        assert_eq!(find(Tcp, refused, &deaf), Some(socket(&at(net.pods[2], 8080))));
        // One that was balanced before it began has no entry for the Service's address; where it comes from need not be
        // known.
        let stream = connect("node", &at(net.pods[1], 8080)).expect("a connection");
        let any: IpAddr = net.any.parse().expect("an address");
        let from = SocketAddr::new(any, stream.local_addr().expect("an address").port());
        assert_eq!(find(Tcp, from, &net.service()), Some(socket(&at(net.pods[1], 8080))));
    });
}
