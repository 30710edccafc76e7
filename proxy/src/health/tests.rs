use std::io::{Read, Write};
use std::net::TcpStream;

use http::StatusCode;
use jiff::Timestamp;
use state::{Node, Object, Protocol};

use super::*;
use crate::cluster::{Cluster, PortOf, endpoint};

const PORTS: &[PortOf] = &[(Protocol::Tcp, 80, Some(30080))];

fn site(cluster: &Cluster) -> (watch::Sender<Arc<Snapshot>>, Site) {
    let (sender, snapshots) = watch::channel(cluster.snapshot());
    let config = Config {
        node_name: "node".into(),
        healthz: Vec::new(),
        for_nodes: false,
        metrics: None,
        addresses: vec![[127, 0, 0, 1].into()],
        mode: "nftables",
        eligible: Arc::new(AtomicBool::new(true)),
    };
    (sender, Site { config, metrics: Arc::default(), snapshots })
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

#[test]
fn the_proxys_health() {
    let (_sender, site) = site(&Cluster::new());
    let ask = |path, now| {
        let answer = Page::Health.answer(path, &site, at(now));
        (answer.status.as_u16(), answer.body)
    };
    let beginning = r#"{"lastUpdated":"1970-01-01T00:00:05Z","currentTime":"1970-01-01T00:00:05Z","healthy":true}"#;
    assert_eq!(ask("/livez", 5), (200, beginning.into()));
    site.metrics.synced(Duration::from_millis(1), true);
    let updated = site.metrics.health(at(0)).updated.expect("it was applied");
    let now = updated.as_second() + 5;
    let family = format!(r#"{{"lastUpdated":"{updated}","healthy":true}}"#);
    let status = format!(r#""healthy":true,"status":{{"IPv4":{family},"IPv6":{family}}}}}"#);
    let time = at(now);
    let well = format!(r#"{{"lastUpdated":"{time}","currentTime":"{time}","nodeEligible":true,{status}"#);
    assert_eq!(ask("/healthz", now), (200, well));
    site.config.eligible.store(false, Ordering::Relaxed);
    let leaving = format!(r#"{{"lastUpdated":"{updated}","currentTime":"{time}","nodeEligible":false,{status}"#);
    assert_eq!(ask("/healthz", now), (503, leaving));
    assert_eq!(ask("/livez", now).0, 200, "it need not be started again");
    site.metrics.queued(&Snapshot::default(), &Snapshot::default());
    let late = now + 3600;
    assert_eq!((ask("/healthz", late).0, ask("/livez", late).0), (503, 503));
    assert_eq!(ask("/", now).0, 404);
    let metrics = |path| Page::Metrics.answer(path, &site, at(now));
    assert_eq!((metrics("/healthz").body, metrics("/proxyMode").body), ("ok".into(), "nftables".into()));
    let text = metrics("/metrics").body;
    assert!(text.contains("kubeproxy_proxy_healthz_total{code=\"503\"} 2\n"), "{text}");
}

#[test]
fn a_services_health_is_its_endpoints_here() {
    let mut cluster = Cluster::new();
    cluster.service("web", "10.96.0.7", PORTS);
    let mut endpoints = ["10.244.0.2", "10.244.0.3", "fd00::2", "10.244.1.2"].map(endpoint);
    endpoints[1].ready = false;
    endpoints[3].node = Some("other".into());
    let table = [(0, 0, 503), (1, 1, 200), (2, 1, 200), (3, 1, 200), (4, 1, 200)];
    for (length, want, status) in table {
        cluster.endpoints_with("web", PORTS, 8080, endpoints[..length].to_vec());
        let (_sender, site) = site(&cluster);
        let answer = Page::Service(Key::new("default", "web")).answer("/any", &site, at(0));
        assert_eq!((answer.weight, answer.status.as_u16()), (Some(want), status), "{length}");
        let body = format!(
            "{{\n\t\"service\": {{\n\t\t\"namespace\": \"default\",\n\t\t\"name\": \"web\"\n\t}},\n\t\"localEndpoints\": {want},\n\t\
             \"serviceProxyHealthy\": true\n}}"
        );
        assert_eq!(answer.body, body);
    }
    let (_sender, site) = site(&cluster);
    site.metrics.queued(&Snapshot::default(), &Snapshot::default());
    let late = Page::Service(Key::new("default", "web")).answer("/", &site, Timestamp::MAX);
    assert_eq!((late.status, late.weight), (StatusCode::SERVICE_UNAVAILABLE, Some(1)), "rules that may be old");
}

#[test]
fn nodes_ask_where_there_are_others() {
    for (for_nodes, nodes, want) in [(true, 0, 0), (true, 1, 0), (true, 2, 1), (false, 1, 1)] {
        let mut cluster = Cluster::new();
        (0..nodes).for_each(|number| _ = cluster.0.apply(Object::Node(node(number))));
        let (_sender, mut site) = site(&cluster);
        (site.config.healthz, site.config.for_nodes) = (vec![([127, 0, 0, 1], PORT).into()], for_nodes);
        let server = Server::new(site.config, site.metrics, site.snapshots);
        assert_eq!(server.plan().len(), want, "{for_nodes} {nodes}");
    }
}

fn node(number: usize) -> Node {
    Node {
        key: Key::new("", number.to_string()),
        addresses: Vec::new(),
        zone: None,
        pod_cidrs: Vec::new(),
        ready: true,
        leaving: false,
        excluded: false,
    }
}

/// A port that nobody has.
fn free() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").port()
}

/// The answer to a GET, or none where nobody listens.
async fn get(port: u16) -> Option<String> {
    let ask = move || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    };
    tokio::task::spawn_blocking(ask).await.expect("it does not panic")
}

async fn wait(what: &str, port: u16, wanted: impl Fn(Option<&str>) -> bool) {
    let looking = async {
        while !wanted(get(port).await.as_deref()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), looking).await.unwrap_or_else(|_| panic!("{what} did not come"));
}

#[tokio::test]
async fn ports_follow_the_services() {
    let mut cluster = Cluster::new();
    let (sender, site) = site(&cluster);
    let (first, second) = (free(), free());
    let taken = std::net::TcpListener::bind(("127.0.0.1", second)).expect("the port");
    let stop = CancellationToken::new();
    let server = Server::new(site.config, site.metrics, site.snapshots);
    let running = tokio::spawn(server.run(stop.clone()));
    let mut put = |port: u16, local: bool| {
        cluster.service_with("web", "10.96.0.7", PORTS, |service| {
            (service.external_local, service.health_check_node_port) = (local, Some(port));
        });
        sender.send_replace(cluster.snapshot());
    };
    put(first, true);
    wait("the first port", first, |answer| {
        answer.is_some_and(|answer| {
            let answer = answer.to_lowercase();
            answer.starts_with("http/1.1 503")
                && answer.contains("\r\nx-load-balancing-endpoint-weight: 0\r\n")
                && answer.contains("\r\nx-content-type-options: nosniff\r\n")
                && answer.contains("\r\ncontent-type: application/json\r\n")
        })
    })
    .await;
    put(second, true);
    wait("the end of the first port", first, |answer| answer.is_none()).await;
    drop(taken);
    wait("the second port", second, |answer| answer.is_some()).await;
    put(second, false);
    wait("the end of the second port", second, |answer| answer.is_none()).await;
    put(second, true);
    wait("the second port", second, |answer| answer.is_some()).await;
    stop.cancel();
    running.await.expect("it ends");
    assert_eq!(get(second).await, None);
}
