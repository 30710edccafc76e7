//! Every way in: transports, ports, zones and pages.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use tempfile::TempDir;

use super::*;

/// A server of this Corefile; the ports in it are others of loopback.
struct Edges {
    server: Arc<Server>,
    ports: BTreeMap<u16, SocketAddr>,
    snapshots: Sender<Arc<Snapshot>>,
}

async fn edges(corefile: &str, ports: &[u16], snapshot: Arc<Snapshot>) -> Edges {
    let ports: BTreeMap<u16, SocketAddr> = ports.iter().map(|port| (*port, free())).collect();
    let (snapshots, receiver) = channel(snapshot);
    let (Sockets { udp, tcp }, by_udp, by_tcp) = (Sockets::host(), ports.clone(), ports.clone());
    let sockets = Sockets {
        udp: Arc::new(move |address| udp(by_udp[&address.port()])),
        tcp: Arc::new(move |address| tcp(by_tcp[&address.port()])),
    };
    let config = Config { corefile: corefile.to_owned(), address: None, port: 53 };
    let server = Server::bind(config, sockets, Arc::new(move |_| receiver.clone())).await.unwrap();
    Edges { server: Arc::new(server), ports, snapshots }
}

impl Edges {
    async fn udp(&self, port: u16, name: &str, kind: RecordType) -> Message {
        let (address, packet) = (self.ports[&port], question(name, kind));
        tokio::task::spawn_blocking(move || by_udp(address, &packet)).await.unwrap()
    }

    /// Status and body of a page.
    async fn get(&self, port: u16, path: &str) -> (u16, String) {
        let (address, path) = (self.ports[&port], path.to_owned());
        let get = move || {
            let mut stream = connect(address);
            write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
        };
        tokio::task::spawn_blocking(get).await.unwrap()
    }

    async fn stop(self) {
        let stop = CancellationToken::new();
        stop.cancel();
        tokio::time::timeout(DEADLINE, self.server.run(stop)).await.expect("it stops");
    }
}

/// What a program prints.
async fn run(program: &'static str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
    let output = output.unwrap_or_else(|error| panic!("install {program}: {error}"));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// `tls CERT KEY` with files in a folder.
fn tls(folder: &Path) -> String {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let file = |name: &str, text: String| {
        std::fs::write(folder.join(name), text).unwrap();
        folder.join(name).display().to_string()
    };
    format!("tls {} {}", file("cert", own.cert.pem()), file("key", own.signing_key.serialize_pem()))
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_and_https() {
    let folder = TempDir::new().unwrap();
    let tls = tls(folder.path());
    let corefile = format!(
        "tls://. https://. {{\n {tls}\n kubernetes cluster.local\n}}\nhttps://.:80 {{\n kubernetes cluster.local\n}}\n"
    );
    let edges = edges(&corefile, &[853, 443, 80], fixture::cluster().snapshot()).await;
    for (port, way) in [(853, "+tls"), (443, "+https"), (443, "+https-get"), (80, "+http-plain")] {
        let port = edges.ports[&port].port().to_string();
        for (name, want) in [("web.default", "10.96.0.20"), ("kubernetes.default", "10.96.0.1")] {
            let name = format!("{name}.svc.cluster.local");
            let text = run("dig", &["@127.0.0.1", "-p", &port, "+tries=1", "+short", way, &name]).await;
            assert_eq!(text.trim(), want, "{way}");
        }
    }
    let url = |path: &str| format!("https://{}{path}", edges.ports[&443]);
    let (question, file) = (question("web.default.svc.cluster.local.", RecordType::A), folder.path().join("question"));
    std::fs::write(&file, &question).unwrap();
    let (post, body) = (url("/dns-query"), format!("@{}", file.display()));
    let message = "Content-Type: application/dns-message";
    for version in ["--http1.1", "--http2"] {
        let show = "%{http_code} %{content_type} %header{cache-control} %{size_download}";
        let curl = ["-sk", version, "-o", "/dev/null", "-w", show, "-H", message, "--data-binary", &body, &post];
        let answered = question.len() + 16;
        assert_eq!(run("curl", &curl).await, format!("200 application/dns-message max-age=5 {answered}"));
    }
    // Another certificate, by a reload.
    let other = TempDir::new().unwrap();
    let corefile = corefile.replace(&tls, &self::tls(other.path()));
    for (folder, want) in [(&other, "000"), (&folder, "200"), (&other, "200"), (&folder, "000")] {
        if want == "200" && std::ptr::eq(folder, &other) {
            edges.server.reload(&corefile).await.unwrap();
        }
        let (authority, port) = (folder.path().join("cert").display().to_string(), edges.ports[&443].port());
        let question = format!("https://localhost:{port}/dns-query?dns=AAABAAABAAAAAAAAAAABAAE");
        let curl = ["-s4", "--cacert", &authority, "-o", "/dev/null", "-w", "%{http_code}", &question];
        assert_eq!(run("curl", &curl).await, want);
    }
    for (want, arguments) in [
        ("404", vec![url("/")]),
        ("400", vec![url("/dns-query")]),
        ("400", vec![url("/dns-query?dns=%")]),
        ("400", vec![url("/dns-query?dns=AAAA")]),
        ("415", vec!["--data-binary".into(), body.clone(), post.clone()]),
        ("405", vec!["-X".into(), "PUT".into(), post.clone()]),
    ] {
        let curl = ["-sk", "-o", "/dev/null", "-w", "%{http_code}"].into_iter();
        let all: Vec<&str> = curl.chain(arguments.iter().map(String::as_str)).collect();
        assert_eq!(run("curl", &all).await, want, "{arguments:?}");
    }
    edges.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_and_zones() {
    let corefile = ".:53 {\n kubernetes cluster.local\n}\nb.example:53 c.example:53 {\n kubernetes b.example\n}\n\
                    x.b.example {\n whoami\n}\n.:54 {\n kubernetes d.example\n}\n";
    let edges = edges(corefile, &[53, 54], fixture::cluster().snapshot()).await;
    for (port, name, want) in [
        (53, "web.default.svc.cluster.local.", ResponseCode::NoError),
        (53, "WEB.default.svc.B.example.", ResponseCode::NoError),
        (53, "none.default.svc.B.example.", ResponseCode::NXDomain),
        // Of the zone, but not of its plugins.
        (53, "web.c.example.", ResponseCode::ServFail),
        (53, "web.default.svc.d.example.", ResponseCode::ServFail),
        (54, "web.default.svc.d.example.", ResponseCode::NoError),
        (54, "web.default.svc.cluster.local.", ResponseCode::ServFail),
    ] {
        assert_eq!(edges.udp(port, name, RecordType::A).await.metadata.response_code, want, "{port} {name}");
    }
    // The block of the longer zone has another plugin.
    assert_eq!(edges.udp(53, "web.x.b.example.", RecordType::A).await.additionals.len(), 2);
    edges.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_are_counted() {
    let corefile = ".:53 {\n kubernetes cluster.local\n prometheus\n}\nquiet.example:53 {\n whoami\n}\n";
    let edges = edges(corefile, &[53, 9153], fixture::cluster().snapshot()).await;
    for _ in 0..30 {
        edges.udp(53, "web.default.svc.cluster.local.", RecordType::A).await;
    }
    for _ in 0..7 {
        edges.udp(53, "nope.cluster.local.", RecordType::AAAA).await;
        edges.udp(53, "cluster.local.", RecordType::SOA).await;
        edges.udp(53, "a.quiet.example.", RecordType::A).await;
    }
    let (address, packet) = (edges.ports[&53], question("web.default.svc.cluster.local.", RecordType::A));
    let by_tcp = move || {
        let mut stream = connect(address);
        for _ in 0..5 {
            send(&mut stream, &packet);
            receive(&mut stream);
        }
        let mut class = packet.clone();
        // Of class CHAOS.
        *class.last_mut().unwrap() = 3;
        send(&mut stream, &class);
        receive(&mut stream);
    };
    tokio::task::spawn_blocking(by_tcp).await.unwrap();
    // A socket's thread counts when its answers are sent.
    let deadline = std::time::Instant::now() + DEADLINE;
    let (server, zone) = ("server=\"dns://:53\"", "server=\"dns://:53\",zone=\".\",view=\"\"");
    let lines = [
        format!("coredns_dns_requests_total{{{zone},proto=\"udp\",family=\"1\",type=\"A\"}} 30"),
        format!("coredns_dns_requests_total{{{zone},proto=\"udp\",family=\"1\",type=\"AAAA\"}} 7"),
        format!("coredns_dns_requests_total{{{zone},proto=\"udp\",family=\"1\",type=\"SOA\"}} 7"),
        format!("coredns_dns_requests_total{{{zone},proto=\"tcp\",family=\"1\",type=\"A\"}} 5"),
        format!("coredns_dns_responses_total{{{zone},rcode=\"NOERROR\",plugin=\"kubernetes\"}} 42"),
        format!("coredns_dns_responses_total{{{zone},rcode=\"NXDOMAIN\",plugin=\"kubernetes\"}} 7"),
        format!("coredns_dns_responses_total{{{server},zone=\"dropped\",view=\"\",rcode=\"REFUSED\",plugin=\"\"}} 1"),
        format!("coredns_dns_request_duration_seconds_count{{{zone}}} 49"),
        format!("coredns_plugin_enabled{{{zone},name=\"kubernetes\"}} 1"),
        "coredns_reload_failed_total 0".to_owned(),
    ];
    let whole = |text: &str| lines.iter().all(|line| text.lines().any(|other| other == line));
    loop {
        let (status, text) = edges.get(9153, "/metrics").await;
        assert_eq!(status, 200);
        assert!(!text.contains("quiet"), "a block without the plugin is not counted");
        if whole(&text) {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{text}");
    }
    edges.server.reload(". {\n nonsense\n}\n").await.unwrap_err();
    edges.server.reload(&corefile.replace("whoami", "kubernetes cluster.local")).await.unwrap();
    let (_, text) = edges.get(9153, "/metrics").await;
    assert!(text.contains("coredns_reload_failed_total 1\n") && text.contains(&lines[0]), "counts go on: {text}");
    edges.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_readiness() {
    let edges =
        edges(".:53 {\n kubernetes cluster.local\n health\n ready\n}\n", &[53, 8080, 8181], Arc::default()).await;
    assert_eq!(edges.get(8080, "/health").await, (200, "OK".into()));
    assert_eq!(edges.get(8181, "/ready").await, (503, "kubernetes".into()));
    edges.snapshots.send(fixture::cluster().snapshot()).unwrap();
    let deadline = std::time::Instant::now() + DEADLINE;
    while edges.get(8181, "/ready").await.0 != 200 {
        assert!(std::time::Instant::now() < deadline, "it is not ready");
    }
    // A page that nobody wants any longer is closed, and one whose port is taken changes nothing.
    edges.server.reload(".:53 {\n kubernetes cluster.local\n ready\n}\n").await.unwrap();
    let taken = loop {
        match TcpListener::bind(edges.ports[&8080]) {
            Ok(taken) => break taken,
            Err(error) => assert!(std::time::Instant::now() < deadline, "it is not closed: {error}"),
        }
    };
    let error = edges.server.reload(".:53 {\n kubernetes cluster.local\n health\n}\n").await.unwrap_err().to_string();
    assert!(error.starts_with("listen on health [::]:8080: Address already in use"), "{error}");
    assert_eq!(edges.get(8181, "/ready").await.0, 200);
    drop(taken);
    edges.server.reload(".:53 {\n kubernetes cluster.local\n health\n}\n").await.unwrap();
    assert_eq!(edges.get(8080, "/health").await.0, 200);
    edges.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_pairs_from_one_socket() {
    let edges = edges(".:53 {\n kubernetes cluster.local\n}\n", &[53], fixture::cluster().snapshot()).await;
    let address = edges.ports[&53];
    let pairs = move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.connect(address).unwrap();
        for _ in 0..40 {
            let mut waiting = BTreeSet::new();
            for kind in [RecordType::A, RecordType::AAAA].repeat(16) {
                let packet = question("web.default.svc.cluster.local.", kind);
                socket.send(&packet).unwrap();
                waiting.insert(packet[..2].to_vec());
            }
            let mut answer = [0; 512];
            while !waiting.is_empty() {
                let length = socket.recv(&mut answer).expect("every question has its answer");
                assert!(length > 12);
                waiting.remove(&answer[..2]);
            }
        }
    };
    tokio::task::spawn_blocking(pairs).await.unwrap();
    edges.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_too_much_is_sent_to_tcp() {
    let corefile = ".:53 {\n kubernetes cluster.local\n ratelimit 1 4\n}\n";
    let edges = edges(corefile, &[53], fixture::cluster().snapshot()).await;
    let address = edges.ports[&53];
    let asked = move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.connect(address).unwrap();
        // Ready answers, and those of the chain.
        let packets = [RecordType::A, RecordType::SOA].map(|kind| question("web.default.svc.cluster.local.", kind));
        for packet in packets.iter().cycle().take(24) {
            socket.send(packet).unwrap();
        }
        let (mut whole, mut answer) = (0, [0; 512]);
        loop {
            let length = socket.recv(&mut answer).unwrap();
            let message = Message::from_vec(&answer[..length]).unwrap();
            if message.metadata.truncation {
                assert!(length <= packets[0].len() && message.answers.is_empty());
                break;
            }
            whole += 1;
        }
        assert!(whole < 20, "{whole}");
        let mut stream = connect(address);
        for _ in 0..20 {
            send(&mut stream, &packets[0]);
            assert_eq!(receive(&mut stream).answers.len(), 1);
        }
    };
    tokio::task::spawn_blocking(asked).await.unwrap();
    edges.stop().await;
}
