//! A small cluster for the tests.

use std::sync::Arc;

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, Record, RecordType};
use serde_json::{Value, json};
use state::{Index, Key, Kind, Namespace, Object, Pod, Service, Slice, Snapshot};
use tokio::sync::watch::channel;
use tokio_util::sync::CancellationToken;

use crate::Snapshots;
use crate::chain::{self, Chain, Next};
use crate::corefile;
use crate::request::{Body, Context, Failure, Read, Reply, Request, Transport, read};
use crate::server::Environment;
use crate::servers::{Server, Servers};
use crate::zone::{Options, Pods, Zone};

/// The options of `kubernetes cluster.local in-addr.arpa ip6.arpa` with insecure pods, at 10.96.0.10.
pub(crate) fn options() -> Options {
    let zones = ["cluster.local.", "in-addr.arpa.", "ip6.arpa."];
    let mut options = Options::new(zones.map(|zone| Name::from_ascii(zone).unwrap()).to_vec());
    (options.pods, options.addresses) = (Pods::Insecure, vec![[10, 96, 0, 10].into()]);
    options
}

/// A zone that holds `snapshot`.
pub(crate) fn zone(snapshot: Arc<Snapshot>) -> Zone {
    Zone::new(options()).unwrap().next(snapshot, 7)
}

/// The servers of a Corefile of one block, whose directives these are.
pub(crate) fn servers(directives: &str, snapshot: Arc<Snapshot>) -> Servers {
    try_servers(directives, snapshot).unwrap_or_else(|error| panic!("{error}: {directives}"))
}

/// The same, or what is wrong with the directives; the first of them is at line 2.
pub(crate) fn try_servers(directives: &str, snapshot: Arc<Snapshot>) -> Result<Servers, corefile::Error> {
    let [block] = &corefile::parse(&format!(".:53 {{\n{directives}\n}}\n"))?[..] else {
        panic!("one block: {directives}");
    };
    let (chain, ..) = chain::build(block, &environment(snapshot))?;
    Ok(Servers::new(vec![Server::new(Name::root(), chain)], Arc::new(CancellationToken::new().drop_guard())))
}

/// What plugins get from outside.
pub(crate) fn environment(snapshot: Arc<Snapshot>) -> Environment {
    let (_, receiver) = channel(snapshot);
    let snapshots: Snapshots = Arc::new(move |_| receiver.clone());
    Environment { snapshots, address: Some([10, 96, 0, 10].into()), addresses: vec![], metrics: Arc::default() }
}

/// Servers of a chain that is just this.
pub(crate) fn chain(answer: fn(Request) -> Result<Reply, Failure>) -> Servers {
    let service = Next::new(tower::service_fn(move |request| async move { answer(request) }));
    let chain = Chain { service, quick: Arc::default(), tls: None };
    Servers::new(vec![Server::new(Name::root(), chain)], Arc::new(CancellationToken::new().drop_guard()))
}

/// A question for the servers, over UDP.
pub(crate) fn request(name: &str, kind: RecordType, servers: &Arc<Servers>) -> Request {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    let (client, server) = (([10, 244, 0, 5], 4096).into(), ([10, 96, 0, 10], 53).into());
    let context = Context { client, server, transport: Transport::Udp, servers: servers.clone() };
    match read(&message.to_vec().unwrap(), context) {
        Read::Request(request) => *request,
        Read::Reply(_) | Read::Silence => panic!("not a question: {name}"),
    }
}

/// What the servers answer.
pub(crate) async fn message(name: &str, kind: RecordType, servers: &Arc<Servers>) -> Message {
    match servers.clone().handle(request(name, kind, servers)).await {
        Ok(Reply { body: Body::Message(message), .. }) => *message,
        Ok(_) => panic!("{name}: silence"),
        Err(failure) => panic!("{name}: {failure:?}"),
    }
}

/// The answers of the servers as `name ttl class type data`.
pub(crate) async fn answers(name: &str, kind: RecordType, servers: &Arc<Servers>) -> Vec<String> {
    message(name, kind, servers).await.answers.iter().map(Record::to_string).collect()
}

pub(crate) fn service(namespace: &str, name: &str, spec: Value) -> Object {
    balanced(namespace, name, spec, json!([]))
}

/// A Service with load balancers, as they are in its status.
pub(crate) fn balanced(namespace: &str, name: &str, spec: Value, ingress: Value) -> Object {
    let status = json!({"loadBalancer": {"ingress": ingress}});
    let object = json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec, "status": status});
    Object::Service(Service::from(&serde_json::from_value(object).unwrap()))
}

pub(crate) fn namespace(name: &str, labels: &[(&str, &str)]) -> Object {
    let labels = labels.iter().map(|(label, value)| ((*label).into(), (*value).into())).collect();
    Object::Namespace(Namespace { key: Key::new("", name), labels })
}

/// The slice of a Service, of one family: (address, hostname or nothing, ready).
pub(crate) fn slice(namespace: &str, service: &str, ports: Value, endpoints: &[(&str, &str, bool)]) -> Object {
    let endpoint = |(address, host, ready): &(&str, &str, bool)| json!({"addresses": [address], "hostname": host, "conditions": {"ready": ready}});
    let family = if endpoints.iter().any(|(address, ..)| address.contains(':')) { "IPv6" } else { "IPv4" };
    let endpoints = endpoints.iter().map(endpoint).collect();
    raw_slice(namespace, service, family, ports, endpoints)
}

/// The slice of a Service, with its endpoints as they are in the API.
pub(crate) fn raw_slice(namespace: &str, service: &str, family: &str, ports: Value, endpoints: Value) -> Object {
    let name = if family == "IPv6" { format!("{service}-6") } else { format!("{service}-x") };
    let labels = json!({"kubernetes.io/service-name": service});
    let object = json!({
        "metadata": {"namespace": namespace, "name": name, "labels": labels},
        "addressType": family, "ports": ports, "endpoints": endpoints,
    });
    Object::Slice(Slice::from(&serde_json::from_value(object).unwrap()))
}

pub(crate) fn pod(namespace: &str, name: &str) -> Object {
    pod_at(namespace, name, &[])
}

pub(crate) fn pod_at(namespace: &str, name: &str, ips: &[&str]) -> Object {
    Object::Pod(Pod {
        key: Key::new(namespace, name),
        ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
        host_network: false,
        hostname: None,
        subdomain: None,
        node: None,
        host_ports: Vec::new(),
        ready: true,
    })
}

/// An index of which every kind was listed.
pub(crate) fn listed(objects: Vec<Object>) -> Index {
    let mut index = Index::default();
    for kind in Kind::ALL {
        index.reset(kind, vec![]);
    }
    for object in objects {
        index.apply(object);
    }
    index
}

pub(crate) fn cluster() -> Index {
    let http = json!([{"name": "http", "port": 80}, {"name": "talk", "port": 5353, "protocol": "UDP"}]);
    let pods = json!([{"name": "http", "port": 8080}, {"name": "talk", "port": 5353, "protocol": "UDP"}]);
    let pg = json!([{"name": "pg", "port": 5432}]);
    let headless = json!({"clusterIP": "None", "ports": pg});
    let early = json!({"clusterIP": "None", "publishNotReadyAddresses": true});
    let external = |name: &str| json!({"type": "ExternalName", "externalName": name});
    listed(vec![
        namespace("default", &[]),
        namespace("dev", &[("stage", "dev")]),
        namespace("jobs", &[]),
        service("default", "kubernetes", json!({"clusterIP": "10.96.0.1", "ports": [{"name": "https", "port": 443}]})),
        service("default", "web", json!({"clusterIP": "10.96.0.20", "ports": http})),
        slice("default", "web", pods, &[("10.244.0.5", "", true), ("10.244.0.6", "", false)]),
        service("dev", "web", json!({"clusterIP": "10.96.0.21", "ports": [{"port": 80}]})),
        service("default", "db", headless.clone()),
        slice(
            "default",
            "db",
            pg.clone(),
            &[("10.244.0.7", "db-0", true), ("10.244.0.8", "", true), ("10.244.0.9", "db-2", false)],
        ),
        service("default", "early", early),
        slice("default", "early", json!([]), &[("10.244.0.10", "e", false)]),
        service("default", "none", headless),
        service("default", "ext", external("www.example.org")),
        service("default", "alias", external("web.default.svc.cluster.local")),
        service("default", "circle", external("circle.default.svc.cluster.local")),
        service("default", "number", external("192.0.2.9")),
        pod("jobs", "one"),
    ])
}

/// The cluster, and Services of both families.
pub(crate) fn dual() -> Index {
    let mut index = cluster();
    let dual = json!({"clusterIPs": ["10.96.0.30", "fd00:96::30"], "ports": [{"name": "s", "port": 443}]});
    let six = json!({"clusterIP": "fd00:96::31", "ports": [{"port": 80}]});
    let ports = json!([{"name": "p", "port": 7000}, {"name": "q", "port": 7001, "protocol": "UDP"}]);
    let four = json!([
        {"addresses": ["10.244.0.20"], "hostname": "p-0", "zone": "A1"},
        {"addresses": ["10.244.0.21"], "zone": "b.c",
            "targetRef": {"kind": "Pod", "namespace": "dev", "name": "peer-b"}},
        {"addresses": ["10.244.0.22"], "zone": "b.c", "conditions": {"ready": false}},
    ]);
    let of_six = json!([
        {"addresses": ["fd00:244::20"], "hostname": "p-0", "zone": "A1"},
        {"addresses": ["fd00:244:1::"], "zone": "b.c",
            "targetRef": {"kind": "Pod", "namespace": "dev", "name": "not.a.label"}},
    ]);
    for object in [
        service("dev", "dual", dual),
        service("dev", "six", six),
        service("dev", "peers", json!({"clusterIP": "None", "ports": ports})),
        raw_slice("dev", "peers", "IPv4", ports.clone(), four),
        raw_slice("dev", "peers", "IPv6", ports, of_six),
        service("dev", "bare", json!({"clusterIP": "10.96.0.32"})),
        service("dev", "waits", json!({"ports": [{"port": 80}]})),
        pod_at("dev", "peer-b", &["10.244.0.21", "fd00:244::21"]),
    ] {
        index.apply(object);
    }
    index
}

/// These, and Services with load balancers.
pub(crate) fn outer() -> Index {
    let mut index = dual();
    let spec = |ip: &str| {
        let ports = json!([{"name": "http", "port": 80}, {"name": "talk", "port": 5353, "protocol": "UDP"}]);
        json!({"type": "LoadBalancer", "clusterIP": ip, "ports": ports})
    };
    let shop = json!([
        {"ip": "192.0.2.10", "ipMode": "VIP"}, {"ip": "192.0.2.10"}, {"ip": "192.0.2.9", "ipMode": "Proxy"},
        {"ip": "2001:db8::10"}, {"hostname": "ignored.example.org"},
    ]);
    for object in [
        balanced("dev", "shop", spec("10.96.0.40"), shop),
        slice("dev", "shop", json!([{"name": "http", "port": 8080}]), &[("10.244.0.40", "", true)]),
        balanced("dev", "till", spec("10.96.0.41"), json!([{"ip": "192.0.2.10"}, {"ip": "10.96.0.40"}])),
        balanced("dev", "cloud", spec("10.96.0.42"), json!([{"hostname": "lb.example.org"}])),
        service("dev", "pending", spec("10.96.0.43")),
        // What has this address is behind the load balancer that has it, too: a pod of the node's.
        balanced("dev", "host", spec("10.96.0.44"), json!([{"ip": "192.0.2.44"}])),
        slice("dev", "host", json!([{"name": "http", "port": 80}]), &[("192.0.2.44", "", true)]),
    ] {
        index.apply(object);
    }
    index
}

/// Numbers that are the same in every run (xorshift).
pub(crate) struct Seeded(pub(crate) u64);

impl Seeded {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub(crate) fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}
