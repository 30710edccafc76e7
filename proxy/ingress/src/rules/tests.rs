//! Ingresses in, answers out: `HOST/PATH` → the Service and the path that its endpoints see.

mod backends;
mod hosts;
mod oracle;
mod paths;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use serde_json::{Value, from_value, json};
use state::{Index, Object, Service, Slice};

use super::*;

/// Objects, and what was planned of them.
#[derive(Default)]
struct Lab {
    objects: Objects,
    upstreams: Upstreams,
}

impl Lab {
    /// A lab with these Services; each has the port 80, called `http`, and an endpoint.
    fn new(services: &[&str]) -> Self {
        let mut index = Index::default();
        for (number, name) in services.iter().enumerate() {
            index.apply(service(
                name,
                json!({"clusterIP": format!("10.96.0.{number}"), "ports": [{"name": "http", "port": 80}]}),
            ));
            index.apply(slice(name, &format!("10.0.0.{number}")));
        }
        Lab { objects: Objects { snapshot: index.snapshot(), ..Objects::default() }, ..Lab::default() }
    }

    /// Adds an Ingress of the class `nginx`, younger than those before. A rule is `HOST TYPE PATH SERVICE:PORT`, the
    /// host `-` for all.
    fn ingress(&mut self, name: &str, annotations: &[(&str, &str)], rules: &[&str]) -> &mut Self {
        let rules: Vec<Value> = rules.iter().map(|rule| self::rule(rule)).collect();
        self.object(name, annotations, json!({"ingressClassName": "nginx", "rules": rules}))
    }

    fn object(&mut self, name: &str, annotations: &[(&str, &str)], spec: Value) -> &mut Self {
        let full = |(name, value): &(&str, &str)| match name.contains('/') {
            true => ((*name).to_owned(), json!(value)),
            false => (format!("nginx.ingress.kubernetes.io/{name}"), json!(value)),
        };
        let annotations: serde_json::Map<String, Value> = annotations.iter().map(full).collect();
        let made =
            format!("2026-01-01T00:{:02}:{:02}Z", self.objects.ingresses.len() / 60, self.objects.ingresses.len() % 60);
        let meta = json!({"namespace": "default", "name": name, "creationTimestamp": made, "annotations": annotations});
        let ingress = from_value(json!({"metadata": meta, "spec": spec})).unwrap();
        self.objects.ingresses.insert(Key::new("default", name), Arc::new(ingress));
        self
    }

    fn plan(&mut self) -> Plan {
        plan(&self.objects, &mut self.upstreams)
    }

    /// The plan, which has nothing to complain of.
    fn table(&mut self) -> Table {
        let plan = self.plan();
        assert_eq!(plan.remarks, []);
        plan.table
    }

    fn remarks(&mut self) -> Vec<String> {
        let said = |remark: Remark| format!("{} {} {}", remark.ingress.name, remark.reason, remark.message);
        self.plan().remarks.into_iter().map(said).collect()
    }
}

fn rule(text: &str) -> Value {
    let mut words = text.split(' ');
    let mut next = || words.next().unwrap_or_default();
    let (host, kind, path, (service, port)) =
        (next(), next(), next(), next().split_once(':').unwrap_or(("front", "80")));
    let port = port.parse::<u16>().map_or_else(|_| json!({"name": port}), |number| json!({"number": number}));
    let path = json!({"path": path, "pathType": kind, "backend": {"service": {"name": service, "port": port}}});
    match host {
        "-" => json!({"http": {"paths": [path]}}),
        host => json!({"host": host, "http": {"paths": [path]}}),
    }
}

fn service(name: &str, spec: Value) -> Object {
    let object = json!({"metadata": {"namespace": "default", "name": name}, "spec": spec});
    Object::Service(Service::from(&from_value::<core::Service>(object).unwrap()))
}

fn slice(service: &str, address: &str) -> Object {
    let meta = json!({"namespace": "default", "name": service, "labels": {"kubernetes.io/service-name": service}});
    let ports = json!([{"name": "http", "port": 8080, "protocol": "TCP"}]);
    let object =
        json!({"metadata": meta, "addressType": "IPv4", "ports": ports, "endpoints": [{"addresses": [address]}]});
    Object::Slice(Slice::from(&from_value::<discovery::EndpointSlice>(object).unwrap()))
}

/// Where `HOST/PATH` goes: the Service, and the path that it sees if that is another.
fn answer(table: &Table, request: &str) -> String {
    let (host, path) = request.split_at(request.find('/').unwrap());
    let Some(route) = table.find(host, path) else { return "404".to_owned() };
    let Some(backend) = &route.backend else { return "503".to_owned() };
    match route.rewrite(path) {
        Some(rewritten) => format!("{} {rewritten}", backend.service.name),
        None => backend.service.name.to_string(),
    }
}

fn check(table: &Table, cases: &[(&str, &str)]) {
    for (request, expected) in cases {
        assert_eq!(answer(table, request), *expected, "{request}");
    }
}
