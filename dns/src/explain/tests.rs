use std::sync::Arc;

use hickory_proto::op::Query;
use hickory_proto::rr::RecordType::{A, AAAA, CNAME, PTR, SRV, TXT};
use hickory_proto::rr::rdata;
use serde_json::{Value, json};
use state::{Index, Namespace, Object, Slice};

use super::*;
use crate::fixture;
use crate::request::{Context, Transport};

/// A slice whose endpoints are Pods on a node: (address, pod, ready).
fn slice(service: &str, endpoints: &[(&str, &str, bool)]) -> Object {
    let endpoint = |(address, pod, ready): &(&str, &str, bool)| {
        json!({
            "addresses": [address], "conditions": {"ready": ready}, "nodeName": "n1", "hostname": pod,
            "targetRef": {"kind": "Pod", "namespace": "default", "name": pod},
        })
    };
    let slice = json!({
        "metadata": {"namespace": "default", "name": service, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "ports": [{"name": "http", "port": 8080}],
        "endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>(),
    });
    Object::Slice(Slice::from(&serde_json::from_value(slice).unwrap()))
}

fn cluster() -> Index {
    let namespace = |name: &str| Object::Namespace(Namespace { key: Key::new("", name), labels: Box::default() });
    let service = |name: &str, spec: Value| fixture::service("default", name, spec);
    let http = json!([{"name": "http", "port": 80}]);
    let headless = json!({"clusterIP": "None", "ports": http});
    fixture::listed(vec![
        namespace("default"),
        namespace("dev"),
        service("web", json!({"clusterIP": "10.96.0.20", "type": "NodePort", "ports": http})),
        slice("web", &[("10.244.0.5", "web-0", true), ("10.244.0.6", "web-1", false)]),
        service("db", headless.clone()),
        slice("db", &[("10.244.0.7", "db-0", true), ("10.244.0.8", "db-1", false)]),
        service("slow", headless.clone()),
        slice("slow", &[("10.244.0.9", "slow-0", false), ("10.244.0.10", "slow-1", false)]),
        service("empty", headless),
        service("ext", json!({"type": "ExternalName", "externalName": "www.example.org"})),
        service("number", json!({"type": "ExternalName", "externalName": "192.0.2.9"})),
        fixture::balanced(
            "default",
            "shop",
            json!({"type": "LoadBalancer", "clusterIP": "10.96.0.40", "ports": http}),
            json!([{"ip": "192.0.2.10"}]),
        ),
        fixture::balanced(
            "default",
            "cloud",
            json!({"type": "LoadBalancer", "clusterIP": "10.96.0.41"}),
            json!([{"hostname": "www.example.org"}]),
        ),
        service("pending", json!({"type": "LoadBalancer", "clusterIP": "10.96.0.42"})),
        fixture::pod("default", "alone"),
    ])
}

/// What the server says.
async fn ask(snapshot: &Arc<Snapshot>, name: &str, kind: RecordType) -> Message {
    let servers = Arc::new(fixture::servers("kubernetes cluster.local in-addr.arpa", snapshot.clone()));
    let mut question = Message::query();
    question.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    let (client, server) = (([10, 244, 0, 5], 4096).into(), ([10, 96, 0, 10], 53).into());
    let context = Context { client, server, transport: Transport::Tcp, servers: servers.clone() };
    let answer = servers.resolve(&question.to_vec().unwrap(), context).await.expect("an answer");
    Message::from_vec(&answer).unwrap()
}

fn domain() -> Name {
    Name::from_ascii("cluster.local.").unwrap()
}

#[tokio::test]
async fn where_records_come_from() {
    let snapshot = cluster().snapshot();
    let table = [
        ("web.default", A, "the cluster IP of Service default/web (NodePort; 1 of 2 endpoints ready)"),
        ("WEB.Default", A, "the cluster IP of Service default/web (NodePort; 1 of 2 endpoints ready)"),
        ("db.default", A, "endpoint Pod default/db-0 on node n1 (ready) of Service default/db"),
        ("db-0.db.default", A, "endpoint Pod default/db-0 on node n1 (ready) of Service default/db"),
        ("_http._tcp.db.default", SRV, "port http (tcp) of Service default/db, at 8080"),
    ];
    for (name, kind, want) in table {
        let answer = ask(&snapshot, &format!("{name}.svc.cluster.local"), kind).await;
        assert_eq!(origin(&snapshot, &domain(), &answer, &answer.answers[0]), want, "{name}");
    }
    let table = [
        ("dns-version.cluster.local.", TXT, "the cluster's zone itself"),
        ("20.0.96.10.in-addr.arpa.", PTR, "10.96.0.20 is the cluster IP of Service default/web"),
        ("7.0.244.10.in-addr.arpa.", PTR, "endpoint Pod default/db-0 on node n1 (ready) of Service default/db"),
        ("10.2.0.192.in-addr.arpa.", PTR, "192.0.2.10 is the address of the load balancer of Service default/shop"),
        (
            "shop.default.lb.cluster.local.",
            A,
            "the address of the load balancer of Service default/shop (no endpoints: connections are refused)",
        ),
        ("_http._tcp.shop.default.lb.cluster.local.", SRV, "port http (tcp) of Service default/shop, at 80"),
        (
            "cloud.default.lb.cluster.local.",
            CNAME,
            "the load balancer of Service default/cloud has a name, but no address",
        ),
    ];
    for (name, kind, want) in table {
        let answer = ask(&snapshot, name, kind).await;
        assert_eq!(origin(&snapshot, &domain(), &answer, &answer.answers[0]), want, "{name}");
    }
}

/// An answer of others.
fn foreign(name: &str, code: ResponseCode, authoritative: bool) -> Message {
    let mut answer = Message::query();
    answer.metadata.response_code = code;
    answer.metadata.authoritative = authoritative;
    answer.add_query(Query::query(Name::from_ascii(name).unwrap(), A));
    answer
}

#[test]
fn where_other_records_come_from() {
    let snapshot = cluster().snapshot();
    let name = Name::from_ascii("www.example.org.").unwrap();
    let record = Record::from_rdata(name, 5, RData::A(rdata::A::new(192, 0, 2, 1)));
    let alias = rdata::CNAME(record.name.clone());
    let alias = Record::from_rdata(Name::from_ascii("ext.default.svc.cluster.local.").unwrap(), 5, RData::CNAME(alias));
    let table = [
        (&record, true, "written in the Corefile (hosts or template)"),
        (&record, false, "not of the cluster: from a resolver that the Corefile forwards to"),
        (&alias, true, "Service default/ext is of type ExternalName"),
    ];
    for (record, authoritative, want) in table {
        let answer = foreign("www.example.org.", ResponseCode::NoError, authoritative);
        assert_eq!(origin(&snapshot, &domain(), &answer, record), want);
    }
}

#[tokio::test]
async fn why_there_is_nothing() {
    let snapshot = cluster().snapshot();
    let table = [
        ("web.dev.svc", A, "there is no Service web in the namespace dev; there is a Service web in default"),
        ("nope.default.svc", A, "there is no Service nope in the namespace default"),
        (
            "alone.default.svc",
            A,
            "there is no Service alone in the namespace default; there is a Pod of that name, but Pods have no names \
             in DNS without a Service",
        ),
        ("web.prod.svc", A, "there is no namespace prod; there is a Service web in default"),
        ("x.prod.svc", A, "there is no namespace prod"),
        (
            "slow.default.svc",
            A,
            "Service default/slow is headless and none of its endpoints is ready: Pod slow-0, Pod slow-1",
        ),
        (
            "empty.default.svc",
            A,
            "Service default/empty is headless and has no endpoints: no running Pod matches its selector",
        ),
        ("db-1.db.default.svc", A, "Service default/db leaves out endpoint Pod default/db-1 on node n1 (not ready)"),
        ("db-9.db.default.svc", A, "Service default/db has no ready endpoint that is called db-9"),
        (
            "web.default.svc",
            AAAA,
            "Service default/web exists, but has no AAAA records: its addresses are of the other family: 10.96.0.20",
        ),
        ("web.default.svc", TXT, "Service default/web exists, but has no TXT records: its addresses are: 10.96.0.20"),
        ("_x._tcp.web.default.svc", SRV, "Service default/web publishes no port x.tcp now; its ports are: http (TCP)"),
        ("a.b.web.default.svc", A, "the name has too many labels in front of Service default/web"),
        (
            "number.default.svc",
            A,
            "Service default/number is of type ExternalName, but \"192.0.2.9\" is no name that an alias can lead to",
        ),
        ("a.ext.default.svc", A, "Service default/ext is of type ExternalName: nothing has a name below it"),
        ("web.default", A, "`svc` is missing: the Service is called web.default.svc.cluster.local"),
        ("web.default.lb", A, "Service default/web is of type NodePort: names under `lb` are those of LoadBalancers"),
        (
            "pending.default.lb",
            A,
            "the load balancer of Service default/pending has no address; for why, see: kubectl describe service \
             pending -n default",
        ),
        ("nope.default.lb", A, "there is no Service nope in the namespace default"),
        ("shop.prod.lb", A, "there is no namespace prod; there is a Service shop in default"),
        ("shop.default.lb", AAAA, "the load balancer of Service default/shop has no AAAA records: it is at 192.0.2.10"),
        ("_x._tcp.shop.default.lb", SRV, "Service default/shop publishes no port x.tcp now; its ports are: http (TCP)"),
        (
            "x.shop.default.lb",
            A,
            "nothing has a name below the load balancer of Service default/shop but its ports: _PORT._PROTOCOL",
        ),
        (
            "default.lb",
            A,
            "the name exists, but it is no load balancer's: those are called SERVICE.NAMESPACE.lb.cluster.local",
        ),
        ("nope.default", A, "under cluster.local there are `svc`, `lb` and `pod`, but no `default`"),
        (
            "default.svc",
            A,
            "the name exists, but it is no Service's: those are called SERVICE.NAMESPACE.svc.cluster.local",
        ),
        ("a.b.default.pod", A, "the name has too many labels: those of Pods are ADDRESS.NAMESPACE.pod"),
        (
            "alone.default.pod",
            A,
            "names of Pods are addresses with dashes, and no Pod of the namespace default has this one",
        ),
    ];
    for (name, kind, want) in table {
        let answer = ask(&snapshot, &format!("{name}.cluster.local"), kind).await;
        assert!(answer.answers.is_empty(), "{name}: {answer}");
        assert_eq!(absence(&snapshot, &domain(), &answer), want, "{name}");
    }
}

#[test]
fn why_others_have_nothing() {
    use ResponseCode::{NXDomain, NoError, NotImp, Refused, ServFail};
    let snapshot = cluster().snapshot();
    let table = [
        (
            "web.default.svc.cluster.local.",
            ServFail,
            "the DNS server does not know the cluster's Services: it has not reached the API server yet",
        ),
        (
            "example.org.",
            ServFail,
            "example.org is not of the cluster, and no resolver that the Corefile forwards to answered",
        ),
        ("example.org.", Refused, "the Corefile has no server block for this name, or refuses who asks"),
        ("example.org.", NoError, "example.org exists, but has no A records"),
        ("example.org.", NotImp, "the server says Not Implemented"),
        (
            "example.org.",
            NXDomain,
            "example.org is not of the cluster, and the resolvers that the Corefile forwards to know no such name",
        ),
        ("web.default.", NXDomain, "the name is not complete: the Service is called web.default.svc.cluster.local"),
        ("web.default.svc.", NXDomain, "the name is not complete: the Service is called web.default.svc.cluster.local"),
        (
            "shop.default.lb.",
            NXDomain,
            "the name is not complete: the load balancer is called shop.default.lb.cluster.local",
        ),
        ("web.", NXDomain, "the world has no web; there is a Service web in default"),
        ("9.9.244.10.in-addr.arpa.", NXDomain, "neither a Service nor a ready endpoint has the address 10.244.9.9"),
    ];
    for (name, code, want) in table {
        assert_eq!(absence(&snapshot, &domain(), &foreign(name, code, false)), want, "{name}");
    }
}
