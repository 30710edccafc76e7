use std::{net::SocketAddr, sync::Arc, time::Duration};

use serde_json::{Value, json};
use state::{Index, Kind, Namespace, Node, Object, Pod as NetPod, Service, Slice};

use super::{
    verdict::{Outcome, Probe},
    *,
};

/// A cluster of one node at 192.0.2.1 whose Services are in the namespace `default`.
struct Cluster {
    index: Index,
    known: Known,
    protocol: Protocol,
    from: Option<&'static str>,
    /// The asker is outside.
    outside: bool,
}

impl Cluster {
    fn new() -> Self {
        let mut index = Index::default();
        for kind in Kind::ALL {
            index.reset(kind, Vec::new());
        }
        for name in ["default", "dev"] {
            index.apply(Object::Namespace(Namespace { key: Key::new("", name), labels: Box::default() }));
        }
        index.apply(Object::Node(Node {
            key: Key::new("", "one"),
            addresses: vec![[192, 0, 2, 1].into()],
            zone: None,
            pod_cidrs: Vec::new(),
            ready: true,
            leaving: false,
            excluded: false,
        }));
        Self { index, known: Known::default(), protocol: Protocol::Tcp, from: None, outside: false }
    }

    /// A Service; those that `known` is asked about have a selector.
    fn service(mut self, name: &str, spec: Value) -> Self {
        let object = json!({"metadata": {"namespace": "default", "name": name}, "spec": spec});
        self.known.object = serde_json::from_value(object).expect("a Service");
        self.index.apply(Object::Service(Service::from(&self.known.object)));
        self
    }

    /// The last Service has load balancers at these addresses.
    fn balanced(mut self, addresses: &[&str]) -> Self {
        let ingress: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
        self.known.object.status =
            serde_json::from_value(json!({"loadBalancer": {"ingress": ingress}})).expect("a status");
        self.index.apply(Object::Service(Service::from(&self.known.object)));
        self
    }

    /// Its endpoints: address, ready, node.
    fn endpoints(mut self, service: &str, port: Value, all: &[(&str, bool, &str)]) -> Self {
        let endpoint = |(number, (address, ready, node)): (usize, &(&str, bool, &str))| {
            json!({"addresses": [address], "conditions": {"ready": ready}, "nodeName": node,
                   "targetRef": {"kind": "Pod", "namespace": "default", "name": format!("web-{number}")}})
        };
        let endpoints: Vec<Value> = (1..).zip(all).map(endpoint).collect();
        let object = json!({"metadata": {"namespace": "default", "name": format!("{service}-x"),
            "labels": {"kubernetes.io/service-name": service}}, "addressType": "IPv4", "ports": [port], "endpoints": endpoints});
        self.index.apply(Object::Slice(Slice::from(&serde_json::from_value(object).expect("a slice"))));
        self
    }

    /// The pod web-N with the label app=web, at 10.244.0.N.
    fn pod(mut self, number: u8, ready: bool) -> Self {
        let name = format!("web-{number}");
        let condition = if ready { "True" } else { "False" };
        let ports = json!([{"name": "http", "containerPort": 8080}]);
        let object = json!({"metadata": {"namespace": "default", "name": name, "labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "ports": ports}]},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": condition, "message": "it is sick"}]}});
        self.known.pods.push(serde_json::from_value(object).expect("a pod"));
        self.index.apply(Object::Pod(NetPod {
            key: Key::new("default", name.as_str()),
            ips: vec![[10, 244, 0, number].into()],
            host_network: false,
            hostname: None,
            subdomain: None,
            node: Some("one".into()),
            host_ports: Vec::new(),
            ready,
        }));
        self
    }

    fn listens(mut self, number: u8, sockets: &[&str]) -> Self {
        let sockets = sockets.iter().map(|socket| socket.parse().expect("a socket")).collect();
        self.known.listening.insert(format!("web-{number}"), sockets);
        self
    }

    /// All that is said, and the loss, when the probe meets this; `end` is where the kernel sent it.
    fn trace(&self, address: &str, outcome: Outcome, end: Option<&str>) -> (String, Option<Lost>) {
        let snapshot: Arc<Snapshot> = self.index.snapshot();
        let asker = Asker {
            namespace: "default",
            domain: "cluster.local",
            pod: self.from.map(|name| Key::new("default", name)),
            node: if self.outside { "" } else { "one" },
            protocol: self.protocol,
        };
        let asked: Asked = address.parse().expect("an address");
        let names = match &asked.host {
            Host::Name(name) => {
                let search = ["default.svc.cluster.local", "svc.cluster.local", "cluster.local"];
                let tried = search.map(|domain| format!("{name}.{domain}")).into_iter().chain([name.to_owned()]);
                Some(Names::expected(&snapshot, "cluster.local", tried))
            }
            Host::Address(_) => None,
        };
        let found = find(&snapshot, &asker, &asked, names.as_ref());
        let target = match found {
            Ok(target) => target,
            Err(lost) => return (String::new(), Some(lost)),
        };
        let path = path(&snapshot, &asker, &self.known, &target);
        let mut said: Vec<String> =
            path.hops.iter().map(|hop| format!("{}: {}", hop.name, hop.lines.join("\n"))).collect();
        let Some(to) = target.to else { return (said.join("\n"), path.lost) };
        let end = Ok(end.map(|end| end.parse::<SocketAddr>().expect("a socket")));
        let probe = Probe { to, outcome, end, relayed: to.ip().is_loopback(), took: Duration::from_micros(250) };
        said.extend(told(&path, &probe, asker.protocol, "here"));
        (said.join("\n"), verdict(&path, &target, &probe, &asker))
    }
}

fn spec(more: Value) -> Value {
    let mut spec = json!({"clusterIP": "10.96.0.80", "selector": {"app": "web"},
        "ports": [{"name": "http", "port": 80, "targetPort": "http", "nodePort": 30001}]});
    spec.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
    spec
}

fn http() -> Value {
    json!({"name": "http", "port": 8080})
}

/// Two ready pods behind default/web.
fn web() -> Cluster {
    let ends = [("10.244.0.1", true, "one"), ("10.244.0.2", true, "one")];
    Cluster::new().service("web", spec(json!({}))).endpoints("web", http(), &ends).pod(1, true).pod(2, true)
}

fn through() -> Outcome {
    Outcome::Through(String::new())
}

#[test]
fn the_whole_path() {
    let (said, lost) = web().trace("web", through(), Some("10.244.0.2:8080"));
    let want = "Service: default/web, ClusterIP 10.96.0.80, port http 80/TCP → targetPort \"http\"
Policy: internalTrafficPolicy Cluster: endpoints of all nodes
Endpoints: 2 of 2 usable
10.244.0.1:8080 Pod web-1 on node one, container c, port http 8080, ready
10.244.0.2:8080 Pod web-2 on node one, container c, port http 8080, ready
TCP from here to 10.96.0.80:80: connected in 0.2 ms
it went to 10.244.0.2:8080: Pod web-2 on node one, container c, port http 8080";
    assert_eq!((said.as_str(), lost), (want, None));
    for address in ["web.default", "web:http", "http://web.default.svc.cluster.local", "10.96.0.80", "192.0.2.1:30001"]
    {
        let (said, lost) = web().trace(address, through(), Some("10.244.0.1:8080"));
        assert_eq!(lost, None, "{address}");
        assert!(said.ends_with("Pod web-1 on node one, container c, port http 8080"), "{address}: {said}");
    }
    let (said, lost) = web().trace("localhost:30001", through(), None);
    assert!(
        lost.is_none() && said.contains("(relayed on localhost)") && said.contains("one of the endpoints above"),
        "{said}"
    );
    let (said, lost) = web().trace("10.244.0.1:8080", through(), Some("10.244.0.1:8080"));
    assert!(lost.is_none() && said.contains("Pod: Pod web-1 on node one"), "{said}");
}

#[test]
fn the_path_through_a_load_balancer() {
    let balanced = || web().balanced(&["192.0.2.1", "203.0.113.7"]);
    for address in ["web.default.lb", "web.default.lb:http", "192.0.2.1:80", "203.0.113.7", "203.0.113.7:80"] {
        let (said, lost) = balanced().trace(address, through(), Some("10.244.0.1:8080"));
        assert!(said.starts_with("Service: default/web, an external address, port http 80/TCP"), "{address}: {said}");
        assert_eq!(lost, None, "{address}");
    }
    let (said, _) = balanced().trace("192.0.2.1:30001", through(), Some("10.244.0.1:8080"));
    assert!(said.contains("NodePort 30001"), "{said}");
    assert_lost(vec![
        (balanced(), "192.0.2.1:81", "Service", "no Service has the NodePort 81"),
        (balanced(), "web.default.lb:81", "Port", "Service default/web has no port 81"),
        (web(), "web.default.lb", "DNS", "the load balancer of Service default/web has no address"),
        (web(), "wbe.default.lb", "DNS", "there is no Service wbe in the namespace default"),
    ]);
}

#[test]
fn policies_are_told() {
    let table = [
        (json!({"sessionAffinity": "ClientIP"}), "web", "sessionAffinity ClientIP: the same endpoint for 10800 s"),
        (json!({"internalTrafficPolicy": "Local"}), "web", "internalTrafficPolicy Local: only endpoints of this node"),
        (json!({"trafficDistribution": "PreferClose"}), "web", "; trafficDistribution PreferClose"),
        (
            json!({"externalTrafficPolicy": "Local"}),
            "192.0.2.1:30001",
            "externalTrafficPolicy Local, of which clients in the cluster are exempt",
        ),
    ];
    for (more, address, want) in table {
        let ends = [("10.244.0.1", true, "one")];
        let cluster = Cluster::new().service("web", spec(more)).endpoints("web", http(), &ends).pod(1, true);
        let (said, lost) = cluster.trace(address, through(), Some("10.244.0.1:8080"));
        assert!(said.contains(want) && lost.is_none(), "{want}: {said} {lost:?}");
    }
}

/// A cluster, what is asked for, where a probe that is refused is lost and a part of the reason.
type Row = (Cluster, &'static str, &'static str, &'static str);

fn assert_lost(table: Vec<Row>) {
    for (cluster, address, hop, why) in table {
        let (said, lost) = cluster.trace(address, Outcome::Refused, None);
        let lost = lost.unwrap_or_else(|| panic!("{address} ({why}) is not lost: {said}"));
        assert!(lost.hop == hop && lost.why.contains(why), "{address}: want {hop}: {why}\n{lost:?}\n{said}");
    }
}

/// default/web with these endpoints.
fn ends(all: &[(&str, bool, &str)], more: Value) -> Cluster {
    empty(more).endpoints("web", http(), all)
}

fn empty(more: Value) -> Cluster {
    Cluster::new().service("web", spec(more))
}

#[test]
fn losses_on_the_way_to_a_service() {
    let mut udp = web();
    udp.protocol = Protocol::Udp;
    let mut inside = web();
    inside.from = Some("web-1");
    let external = json!({"type": "ExternalName", "externalName": "example.com", "clusterIP": null});
    let labelled = json!({"metadata": {"namespace": "default", "name": "web",
        "labels": {"service.kubernetes.io/service-proxy-name": "mine"}}, "spec": spec(json!({}))});
    let mut other = web();
    let object: k8s_openapi::api::core::v1::Service = serde_json::from_value(labelled).expect("a Service");
    other.index.apply(Object::Service(Service::from(&object)));
    assert_lost(vec![
        (web(), "wbe", "DNS", "there is no Service wbe in the namespace default"),
        (web(), "web.dev", "DNS", "there is no Service web in the namespace dev"),
        (
            web(),
            "web.nowhere",
            "DNS",
            "there is no namespace nowhere with a Service web; the cluster has no address for it",
        ),
        (web().pod(3, true), "web-3", "DNS", "there is a Pod of that name, but Pods have no names in DNS"),
        (
            ends(&[("10.244.0.1", true, "one")], external),
            "web:80",
            "DNS",
            "Service default/web is an alias of example.com: the cluster has no address for it",
        ),
        (
            empty(json!({"clusterIP": ""})),
            "web",
            "DNS",
            "Service default/web exists, but the cluster has no address for it",
        ),
        (
            web(),
            "web:8080",
            "Port",
            "8080 is targetPort, the pods' port; clients ask Service default/web for its `port`, 80",
        ),
        (web(), "web:30001", "Port", "30001 is the port of Service default/web on nodes; at its own address it is 80"),
        (web(), "web:443", "Port", "Service default/web has no port 443; it has http 80/TCP"),
        (web(), "web:https", "Port", "has no port https"),
        (udp, "web", "Port", "has port 80 with TCP, not UDP"),
        (
            web(),
            "192.0.2.1:80",
            "Port",
            "80 is the port of Service default/web at its own address; on nodes it is 30001",
        ),
        (
            web(),
            "192.0.2.1:31000",
            "Service",
            "no Service has the NodePort 31000; the NodePorts are 30001 of default/web",
        ),
        (web(), "192.0.2.1", "Port", "no port was given: the NodePorts are 30001 of default/web"),
        (web(), "10.244.0.1", "Port", "no port was given"),
        (web(), "203.0.113.5:80", "Address", "203.0.113.5:80 is no address of a Service, Node or Pod"),
        (inside, "localhost:80", "Pod", "refused the connection"),
        (other, "web", "Service", "service-proxy-name: another program is to serve it"),
    ]);
}

#[test]
fn losses_behind_a_service() {
    let far = [("10.244.9.1", true, "two")];
    let sick = [("10.244.0.1", false, "one")];
    let headless = || ends(&[("10.244.0.1", true, "one")], json!({"clusterIP": "None"})).pod(1, true);
    let mut elsewhere = empty(json!({}));
    elsewhere.known.elsewhere = vec![Key::new("dev", "web-9")];
    let mut outside = ends(&far, json!({"externalTrafficPolicy": "Local"}));
    outside.outside = true;
    assert_lost(vec![
        (empty(json!({"selector": null})), "web", "Service", "has no selector, and no EndpointSlice is made"),
        (ends(&sick, json!({"selector": null})), "web", "Service", "none of the endpoints made by hand is ready"),
        (empty(json!({})), "web", "Selector", "app=web, takes no pod: there are no pods in the namespace"),
        (empty(json!({"selector": {"app": "wbe"}})).pod(1, true), "web", "Selector", "pods have app=web (web-1)"),
        (elsewhere, "web", "Selector", "there are such pods in another namespace: dev/web-9"),
        (
            ends(&sick, json!({})).pod(1, false),
            "web",
            "Endpoints",
            "no pod of Service default/web is ready: Pod web-1: it is sick",
        ),
        (ends(&sick, json!({})).pod(1, false), "192.0.2.1:30001", "Endpoints", "it is sick"),
        (ends(&sick, json!({"clusterIP": "None"})).pod(1, false), "web", "Endpoints", "it is sick"),
        (empty(json!({})).pod(1, true), "web", "Endpoints", "its EndpointSlices have none of them yet"),
        (
            empty(json!({"ports": [{"port": 80, "targetPort": "htpp"}]})).pod(1, true),
            "web",
            "Port",
            "targetPort \"htpp\" of Service default/web is no TCP port of its pods; they have http (8080)",
        ),
        (
            ends(&far, json!({"internalTrafficPolicy": "Local"})),
            "web",
            "Policy",
            "no ready endpoint is on this node, only on two",
        ),
        (outside, "192.0.2.1:30001", "Policy", "only on two"),
        (
            headless(),
            "web:80",
            "Port",
            "the Service is headless, so nothing translates its port; its pods have port 8080",
        ),
        (headless(), "web", "Pod", "Pod web-1 on node one, container c, port http 8080 refused the connection"),
        (headless().listens(1, &["[::]:90"]), "web", "Pod", "nothing in it listens on TCP port 8080, only on 90"),
    ]);
}

#[test]
fn suggestions() {
    for (address, want) in [
        ("wbe", "Did you mean web? "),
        ("web.dve", "Did you mean web.default? "),
        ("api.dve", "Did you mean api.dev? "),
    ] {
        let lost = web().trace(address, through(), None).1.expect("lost");
        assert!(lost.help.starts_with(want), "{address}: {lost:?}");
    }
}

#[test]
fn what_a_probe_meets() {
    let deaf = || web().listens(1, &["127.0.0.1:8080"]).listens(2, &["[::]:8080"]);
    let both = || web().listens(1, &["127.0.0.1:8080"]).listens(2, &["10.0.0.1:9"]);
    let at = |number| Some(["", "10.244.0.1:8080", "10.244.0.2:8080"][number]);
    let table = [
        (deaf(), Outcome::Refused, at(1), Some(("Pod", "listens on 127.0.0.1:8080 only"))),
        (deaf(), Outcome::Refused, at(2), Some(("Pod", "Pod web-2 on node one, container c, port http 8080 refused"))),
        (deaf(), Outcome::Refused, None, Some(("Service", "although there are endpoints"))),
        (both(), Outcome::Broken, None, Some(("Pod", "listens on 127.0.0.1:8080 only"))),
        (deaf(), through(), at(2), None),
        (deaf(), Outcome::Silence(Duration::from_secs(4)), at(2), Some(("Network", "Pod web-2"))),
        (deaf(), Outcome::NoWay("network is unreachable".into()), None, Some(("Address", "network is unreachable"))),
        (deaf(), Outcome::Unanswered, at(2), None),
        (deaf(), Outcome::Unanswered, at(1), Some(("Pod", "listens on 127.0.0.1:8080 only"))),
    ];
    for (cluster, outcome, end, want) in table {
        let (said, lost) = cluster.trace("web", outcome, end);
        let is = lost.as_ref().map(|lost| (lost.hop, lost.why.as_str()));
        assert!(
            is.zip(want).is_some_and(|(is, want)| is.0 == want.0 && is.1.contains(want.1))
                || (is, want) == (None, None),
            "{want:?}: {lost:?}\n{said}"
        );
    }
}
