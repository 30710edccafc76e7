use std::sync::Mutex;

use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::Value;
use tokio::sync::watch;

use super::*;
use crate::cluster::{Cluster, PortOf};
use state::{Balancing, Protocol, Type};

/// What was written, and how many writes of a status are yet to fail.
#[derive(Default)]
struct Server {
    written: Vec<Value>,
    failures: usize,
}

/// A client of an API server without pools, which keeps what is written.
fn client(server: Arc<Mutex<Server>>) -> Client {
    let answer = move |request: Request<Body>| {
        let server = server.clone();
        async move {
            let (parts, body) = request.into_parts();
            if parts.uri.query().is_some_and(|query| query.contains("watch=true")) {
                pending::<()>().await;
            }
            let body = body.collect().await?.to_bytes();
            let service = || json!({"metadata": {"namespace": "default", "name": "web", "uid": "1"}});
            let (code, said) = match parts.method {
                Method::GET if parts.uri.path().ends_with("configmaps") => (
                    200,
                    json!({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": []}),
                ),
                Method::GET => (200, service()),
                _ => {
                    let mut server = server.lock().unwrap();
                    let failed = server.failures > 0 && parts.method == Method::PATCH;
                    server.failures -= usize::from(failed);
                    let written: Value = serde_json::from_slice(&body).unwrap();
                    server.written.extend((!failed).then_some(written.clone()));
                    let failure =
                        || json!({"kind": "Status", "code": 500, "status": "Failure", "message": "no", "reason": "x"});
                    match parts.method {
                        _ if failed => (500, failure()),
                        Method::PATCH => (200, service()),
                        _ => (201, written),
                    }
                }
            };
            Ok::<_, kube::Error>(
                Response::builder().status(code).body(Body::from(said.to_string().into_bytes())).unwrap(),
            )
        }
    };
    Client::new(tower::service_fn(answer), "default")
}

fn snapshot(ports: &[PortOf], ips: &[&str]) -> Arc<Snapshot> {
    let mut cluster = Cluster::new();
    cluster.service_with("web", "10.96.0.80", ports, |service| {
        service.kind = Type::LoadBalancer;
        service.balancing = Some(Arc::<Balancing>::default());
        service.load_balancer_ips = ips.iter().map(|ip| ip.parse().unwrap()).collect();
    });
    cluster.snapshot()
}

/// Waits until so much was written, and returns in short what.
async fn written(server: &Mutex<Server>, count: usize) -> Vec<String> {
    while server.lock().unwrap().written.len() < count {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Nothing more comes.
    tokio::time::sleep(RETRY * 3).await;
    let short = |written: &Value| match (&written["note"], &written["status"]["loadBalancer"]["ingress"]) {
        (Value::String(note), _) => format!("{}: {note}", written["reason"].as_str().unwrap()),
        (_, ingress) => ingress.to_string(),
    };
    server.lock().unwrap().written.drain(..).map(|written| short(&written)).collect()
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_tried_again_and_nothing_is_said_twice() {
    let server = Arc::new(Mutex::new(Server { failures: 2, ..Server::default() }));
    let config = Config {
        node_name: "node".into(),
        node_addresses: vec![[192, 0, 2, 1].into()],
        reserved: Vec::new(),
        network: "/nowhere".into(),
    };
    let (web, both) = ([(Protocol::Tcp, 80, None)], [(Protocol::Tcp, 80, None), (Protocol::Tcp, 81, None)]);
    let (sender, snapshots) = watch::channel(snapshot(&web, &[]));
    let stop = CancellationToken::new();
    let running = tokio::spawn(run(config, client(server.clone()), snapshots, stop.clone()));
    let address = "[{\"ip\":\"192.0.2.1\",\"ipMode\":\"VIP\"}]";
    let said = ["IPAllocated: Assigned 192.0.2.1, the node's own address"];
    assert_eq!(written(&server, 2).await, [address, said[0]]);

    // The status lags behind, then it is there.
    sender.send(snapshot(&both, &[])).unwrap();
    assert_eq!(written(&server, 1).await, [address]);
    sender.send(snapshot(&both, &["192.0.2.1"])).unwrap();
    assert!(written(&server, 0).await.is_empty());
    // Somebody else writes.
    sender.send(snapshot(&both, &["192.0.2.9"])).unwrap();
    assert_eq!(written(&server, 1).await, [address]);
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn many_changes_are_one_plan() {
    const MANY: u16 = 1000;
    let server = Arc::<Mutex<Server>>::default();
    let config = Config {
        node_name: "node".into(),
        node_addresses: vec![[192, 0, 2, 1].into()],
        reserved: Vec::new(),
        network: "/nowhere".into(),
    };
    // So many have an address, and others do not yet.
    let snapshot = |others: u16| {
        let mut cluster = Cluster::new();
        for number in 0..MANY + others {
            cluster.service_with(
                &format!("web-{number}"),
                "10.96.0.80",
                &[(Protocol::Tcp, 1 + number, None)],
                |service| {
                    service.kind = Type::LoadBalancer;
                    service.balancing = Some(Arc::<Balancing>::default());
                    service.load_balancer_ips.extend((number < MANY).then_some(IpAddr::from([192, 0, 2, 1])));
                },
            );
        }
        cluster.snapshot()
    };
    let (sender, snapshots) = watch::channel(snapshot(0));
    let stop = CancellationToken::new();
    let running = tokio::spawn(run(config, client(server.clone()), snapshots, stop.clone()));
    assert!(written(&server, 0).await.is_empty());
    // Each gets its status and an event; how long does that take?
    let took = async |others: u16, total: usize| {
        let start = Instant::now();
        sender.send(snapshot(others)).unwrap();
        while server.lock().unwrap().written.len() < total {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        start.elapsed()
    };
    let rest = REST * u32::from(MANY);
    assert!(took(1, 2).await < rest / 2, "after a rest, at once");
    let second = took(2, 4).await;
    assert!((rest / 2..rest * 2).contains(&second), "{second:?}");
    stop.cancel();
    running.await.unwrap();
}
