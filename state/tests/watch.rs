//! The watch against an API server made of canned answers.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use http::{Request, Response, StatusCode};
use http_body_util::StreamBody;
use http_body_util::combinators::BoxBody;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use state::{Key, Kind, Protocol, Scope, Snapshot};
use tokio::sync::watch::Receiver;
use tokio_util::sync::CancellationToken;

const DEADLINE: Duration = Duration::from_secs(20);

/// Lists by plural; a kind that has none yet is refused. Open watches by plural.
#[derive(Default)]
struct Api {
    lists: BTreeMap<&'static str, Vec<Value>>,
    watches: BTreeMap<String, UnboundedSender<Bytes>>,
    /// The plurals that were asked for, and whether by the label app=x.
    asked: Vec<(String, bool)>,
}

type Shared = Arc<Mutex<Api>>;

fn stream(lines: UnboundedReceiver<Bytes>) -> BoxBody<Bytes, Infallible> {
    let frames = lines.map(|line| Ok(http_body::Frame::data(line)));
    BoxBody::new(StreamBody::new(frames))
}

fn serve(api: &Shared, request: &Request<Body>) -> Response<BoxBody<Bytes, Infallible>> {
    let kind = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
    let (sender, lines) = unbounded();
    let mut api = api.lock().unwrap();
    let labelled = request.uri().query().is_some_and(|query| query.contains("labelSelector=app%3Dx"));
    api.asked.push((kind.clone(), labelled));
    let mut response = Response::new(stream(lines));
    if request.uri().query().is_some_and(|query| query.contains("watch=true")) {
        api.watches.insert(kind, sender);
        return response;
    }
    let document = match api.lists.get(kind.as_str()) {
        Some(items) => json!({"metadata": {"resourceVersion": "10"}, "items": items}),
        None => {
            *response.status_mut() = StatusCode::FORBIDDEN;
            json!({"kind": "Status", "status": "Failure", "reason": "Forbidden", "code": 403, "message": "no"})
        }
    };
    sender.unbounded_send(document.to_string().into()).unwrap();
    response
}

fn client(api: &Shared) -> Client {
    let api = api.clone();
    let service = tower::service_fn(move |request| {
        let response = serve(&api, &request);
        async move { Ok::<_, Infallible>(response) }
    });
    Client::new(service, "default")
}

/// Sends events to the open watch of a kind, as one piece.
async fn push(api: &Shared, kind: &str, events: &[Value]) {
    let text: String = events.iter().map(|event| format!("{event}\n")).collect();
    tokio::time::timeout(DEADLINE, async {
        while api.lock().unwrap().watches.get(kind).is_none_or(|watch| watch.is_closed()) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("nobody watches {kind}"));
    api.lock().unwrap().watches[kind].unbounded_send(text.into()).unwrap();
}

fn service(name: &str, version: u32) -> Value {
    json!({"metadata": {"namespace": "default", "name": name, "resourceVersion": version.to_string()},
        "spec": {"clusterIP": "10.96.0.9", "ports": [{"port": 80}]}})
}

async fn until(receiver: &mut Receiver<Arc<Snapshot>>, what: &str, met: impl Fn(&Snapshot) -> bool) {
    let wait = tokio::time::timeout(DEADLINE, receiver.wait_for(|snapshot| met(snapshot)));
    wait.await.unwrap_or_else(|_| panic!("not in time: {what}")).unwrap();
}

#[tokio::test]
async fn lists_watches_and_lists_again() {
    let api = Shared::default();
    // More than is read, and less than is common.
    let node = json!({"metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "z"}},
        "spec": {"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24", "fd00:244::/64"],
            "taints": [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]}, "status": {
            "addresses": [{"type": "Hostname", "address": "n1"}, {"type": "InternalIP", "address": "192.0.2.1"}],
            "conditions": [{"type": "Ready", "status": "True"}], "images": [{"names": ["x"], "sizeBytes": 1}]}});
    let namespaces = vec![json!({"metadata": {"name": "default", "labels": {"b": "2", "a": "1"}},
        "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}})];
    let pods = vec![
        json!({"metadata": {"namespace": "default", "name": "a"}, "spec": {"nodeName": "n1",
            "initContainers": [{"ports": [{"containerPort": 1, "hostPort": 1}]}],
            "containers": [{"ports": [{"containerPort": 80, "hostPort": 8080, "hostIP": "0.0.0.0"}, {"containerPort": 81},
                {"containerPort": 53, "hostPort": 53, "hostIP": "192.0.2.1", "protocol": "UDP"}]}]},
            "status": {"phase": "Running", "podIP": "10.244.0.2", "podIPs": [{"ip": "10.244.0.2"}]}}),
        json!({"metadata": {"namespace": "default", "name": "done"}, "spec": {"nodeName": "n1"},
            "status": {"phase": "Succeeded", "podIP": "10.244.0.3"}}),
        json!({"metadata": {"namespace": "default", "name": "bare"}}),
    ];
    api.lock().unwrap().lists = BTreeMap::from([
        ("services", vec![service("a", 1), service("b", 2)]),
        ("namespaces", namespaces),
        ("nodes", vec![node]),
        ("pods", pods),
    ]);
    let shutdown = CancellationToken::new();
    let mut receiver = state::watch(client(&api), Scope::default(), shutdown.clone());

    // EndpointSlices can't be listed yet: nothing is published.
    push(&api, "services", &[json!({"type": "ADDED", "object": service("c", 11)})]).await;
    push(&api, "pods", &[]).await;
    assert!(!receiver.borrow().synced && receiver.borrow().services.is_empty());
    api.lock().unwrap().lists.insert("endpointslices", vec![]);
    until(&mut receiver, "the first Snapshot", |s| s.synced && s.services.len() == 3).await;
    let snapshot = receiver.borrow().clone();
    let node = snapshot.node("n1").unwrap();
    assert_eq!((node.ready, node.addresses.len(), node.zone.as_deref()), (true, 1, Some("z")));
    assert_eq!((node.pod_cidrs[0].to_string(), node.leaving), ("10.244.0.0/24".into(), true));
    assert_eq!(&*snapshot.pod_at(IpAddr::from([10, 244, 0, 2])).unwrap().key.name, "a");
    let host_ports = &snapshot.pod_at(IpAddr::from([10, 244, 0, 2])).unwrap().host_ports;
    let host_ports: Vec<_> = host_ports.iter().map(|p| (p.address.is_some(), p.protocol, p.port, p.target)).collect();
    assert_eq!(host_ports, [(false, Protocol::Tcp, 8080, 80), (true, Protocol::Udp, 53, 53)]);
    assert!(snapshot.pod_at(IpAddr::from([10, 244, 0, 3])).is_none(), "its address may be another's by now");
    assert_eq!(snapshot.pods.len(), 3);
    let labels = &snapshot.namespace("default").unwrap().labels;
    assert_eq!(**labels, [("a".into(), "1".into()), ("b".into(), "2".into())]);

    // A burst.
    let names: Vec<String> = (0..300).map(|i| format!("s{i}")).collect();
    let burst: Vec<Value> = names.iter().map(|name| json!({"type": "ADDED", "object": service(name, 12)})).collect();
    push(&api, "services", &burst).await;
    push(&api, "services", &[json!({"type": "DELETED", "object": service("a", 13)})]).await;
    until(&mut receiver, "the burst", |s| s.services.len() == 302 && s.service("default", "a").is_none()).await;

    // The history is gone: what the new list does not have is gone as well.
    api.lock().unwrap().lists.insert("services", vec![service("b", 2)]);
    let gone = json!({"type": "ERROR", "object":
        {"kind": "Status", "status": "Failure", "reason": "Expired", "message": "too old", "code": 410}});
    let before = receiver.borrow().clone();
    push(&api, "services", &[gone]).await;
    until(&mut receiver, "the new list", |s| s.services.len() == 1).await;
    let after = receiver.borrow().clone();
    let key = Key::new("default", "b");
    assert!(Arc::ptr_eq(&before.services.get(&key).unwrap().clone(), after.services.get(&key).unwrap()));

    shutdown.cancel();
    let closed = tokio::time::timeout(DEADLINE, async { while receiver.changed().await.is_ok() {} });
    closed.await.expect("the watch ends with the shutdown");
}

#[tokio::test]
async fn only_what_is_in_scope_is_watched() {
    let api = Shared::default();
    let mut other = service("c", 3);
    other["metadata"]["namespace"] = "other".into();
    api.lock().unwrap().lists =
        BTreeMap::from([("services", vec![service("a", 1), other]), ("endpointslices", vec![]), ("pods", vec![])]);
    let scope = Scope {
        kinds: vec![Kind::Service, Kind::Slice],
        labels: Some("app=x".into()),
        namespaces: vec!["default".into()],
        ..Scope::default()
    };
    let mut receiver = state::watch(client(&api), scope, CancellationToken::new());
    until(&mut receiver, "the first Snapshot", |s| s.synced && s.services.len() == 1).await;
    let asked: Vec<(String, bool)> = std::mem::take(&mut api.lock().unwrap().asked);
    assert!(asked.iter().all(|(kind, labelled)| *labelled && kind != "pods"), "{asked:?}");
}
