//! A DNS server of a small cluster, asked over UDP.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hickory_proto::op::Message;
use serde_json::json;
use state::{Index, Kind, Object, Service, Slice};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

/// A question with this name is always answered: then all before it was taken.
const LAST: &[u8] = b"\x00\x00\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04none\x07example\x00\x00\x63\x00\x01";

/// Plugins that answer without asking anyone else.
const COREFILE: &str = "\
.:53 {
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
    }
    template IN A template.example {
        match ^(?P<name>.*)[.]template[.]example[.]$
        answer \"{{ .Name }} 60 IN A 192.0.2.1\"
        fallthrough
    }
    hosts {
        192.0.2.2 host.example
        fallthrough
    }
    rewrite name suffix .in.example .default.svc.cluster.local answer auto
    transfer {
        to *
    }
    cache 30
    loadbalance
    whoami
}
acl.example:53 {
    acl {
        block type ANY net *
        allow
    }
    header {
        response set aa
    }
    any
    minimal
    whoami
}
";

struct Lab {
    _runtime: Runtime,
    _server: dns::Server,
    socket: UdpSocket,
}

fn objects() -> Vec<Object> {
    let service = |name: &str, spec| json!({"metadata": {"namespace": "default", "name": name}, "spec": spec});
    let ports = json!([{"name": "http", "port": 80, "protocol": "TCP"}]);
    let web =
        service("web", json!({"clusterIP": "10.96.0.20", "clusterIPs": ["10.96.0.20", "fd00::20"], "ports": ports}));
    let db = service("db", json!({"clusterIP": "None", "ports": ports}));
    let away = service("away", json!({"type": "ExternalName", "externalName": "web.default.svc.cluster.local"}));
    let endpoints: Vec<_> = (1..200).map(|last| json!({"addresses": [format!("10.244.0.{last}")]})).collect();
    let slice = json!({
        "metadata": {"namespace": "default", "name": "db-x", "labels": {"kubernetes.io/service-name": "db"}},
        "addressType": "IPv4", "ports": ports, "endpoints": endpoints,
    });
    let service = |value| Object::Service(Service::from(&serde_json::from_value(value).expect("a Service")));
    let slice = Object::Slice(Slice::from(&serde_json::from_value(slice).expect("an EndpointSlice")));
    vec![service(web), service(db), service(away), slice]
}

fn lab() -> &'static Lab {
    static LAB: OnceLock<Lab> = OnceLock::new();
    LAB.get_or_init(|| {
        let mut index = Index::default();
        for kind in Kind::ALL {
            index.reset(kind, vec![]);
        }
        for object in objects() {
            index.apply(object);
        }
        let (_, snapshots) = watch::channel(index.snapshot());
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a time-out");
        let port = UdpSocket::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let dns::Sockets { udp, tcp } = dns::Sockets::host();
        let sockets = dns::Sockets { udp: Arc::new(move |_| udp(address)), tcp: Arc::new(move |_| tcp(address)) };
        let config = dns::Config { corefile: COREFILE.into(), address: Some([10, 96, 0, 10].into()), port };
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let server = dns::Server::bind(config, sockets, Arc::new(move |_| snapshots.clone()));
        let server = runtime.block_on(server).expect("the Corefile is right");
        socket.connect(address).expect("a server");
        Lab { _runtime: runtime, _server: server, socket }
    })
}

/// Sends a packet. What comes back has its id and is no longer than its sender takes; the server
/// lives on.
pub fn ask(packet: &[u8]) {
    if packet.len() > 4096 {
        return;
    }
    // Ids that were not there for long, as an answer to a packet before this one may be late.
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let [id, other] = [(); 2].map(|()| NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    let (socket, mut packet, mut last) = (&lab().socket, packet.to_vec(), LAST.to_vec());
    last[..2].copy_from_slice(&other);
    if let Some(first) = packet.first_chunk_mut() {
        *first = id;
    }
    socket.send(&packet).expect("sent");
    socket.send(&last).expect("sent");
    let asked = Message::from_vec(&packet).ok();
    let takes = asked.as_ref().and_then(|asked| asked.edns.as_ref()).map_or(512, |edns| edns.max_payload().max(512));
    let mut answer = [0; 65535];
    loop {
        let length = socket.recv(&mut answer).expect("an answer to a good question");
        let answer = &answer[..length];
        if answer[..2] == last[..2] {
            return;
        }
        if answer[..2] == id {
            let limit = if asked.is_some() { usize::from(takes) } else { packet.len().max(12) };
            assert!(length <= limit, "{length} bytes for one who takes {limit}");
            assert!(packet[2] & 0x80 == 0, "an answer is answered");
            Message::from_vec(answer).expect("an answer that can be read");
        }
    }
}
