//! Why an answer is as it is, in words for people: Snapshot × answer → sentences; pure.

use std::net::IpAddr;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use state::{Address, Endpoint, Key, Service, Snapshot, Type};

/// How many names a sentence lists before it only counts.
const LISTED: usize = 3;

/// Where a record of `answer` comes from, when `domain` is the cluster's: the Service, the endpoint with its Pod and
/// node, or who else.
pub fn origin(snapshot: &Snapshot, domain: &Name, answer: &Message, record: &Record) -> String {
    let address = record.data.ip_addr();
    if let Ok(net) = record.name.parse_arpa_name() {
        let to = if let RData::PTR(name) = &record.data { labels(domain, name) } else { None };
        if let Some([branch, namespace, name]) = to.as_deref()
            && branch == "lb"
        {
            return format!("{} is the address of the load balancer of Service {namespace}/{name}", net.addr());
        }
        return match (snapshot.service_at(net.addr()), endpoint_at(snapshot, net.addr())) {
            (Some(service), _) => format!("{} is the cluster IP of Service {}", net.addr(), service.key),
            (None, Some((service, endpoint))) => format!("{} of Service {}", of(snapshot, endpoint), service.key),
            (None, None) => elsewhere(answer),
        };
    }
    let Some(labels) = labels(domain, &record.name) else {
        return elsewhere(answer);
    };
    match (&labels.iter().map(String::as_str).collect::<Vec<_>>()[..], address) {
        ([branch @ ("svc" | "lb"), namespace, name, rest @ ..], _) => match snapshot.service(namespace, name) {
            Some(service) => of_service(snapshot, service, *branch == "lb", rest, record),
            None => elsewhere(answer),
        },
        (["pod", ..], Some(address)) => match snapshot.pod_at(address) {
            Some(pod) => format!("the address of Pod {}{}", pod.key, on(pod.node.as_deref())),
            None => "the address is in the name, and no Pod has it".into(),
        },
        _ => "the cluster's zone itself".into(),
    }
}

/// Why there is no record of the type that was asked for.
pub fn absence(snapshot: &Snapshot, domain: &Name, answer: &Message) -> String {
    let Some(query) = answer.queries.first() else {
        return "the answer repeats no question".into();
    };
    let mut name = query.name();
    // Aliases come in the order in which they lead on.
    for record in &answer.answers {
        match &record.data {
            RData::CNAME(target) if record.name == *name => name = &target.0,
            _ => {}
        }
    }
    let ours = labels(domain, name);
    match (answer.metadata.response_code, &ours) {
        (ResponseCode::ServFail, Some(_)) => {
            "the DNS server does not know the cluster's Services: it has not reached the API server yet".into()
        }
        (ResponseCode::ServFail, None) => {
            format!("{} is not of the cluster, and no resolver that the Corefile forwards to answered", bare(name))
        }
        (ResponseCode::Refused, _) => "the Corefile has no server block for this name, or refuses who asks".into(),
        (ResponseCode::NoError | ResponseCode::NXDomain, Some(labels)) => {
            let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
            missing(snapshot, domain, &labels, query.query_type())
        }
        (ResponseCode::NXDomain, None) => outside(snapshot, domain, name),
        (ResponseCode::NoError, None) => format!("{} exists, but has no {} records", bare(name), query.query_type()),
        (code, _) => format!("the server says {}", code.to_str()),
    }
}

/// The labels of a name under the domain from right to left, in lower case.
fn labels(domain: &Name, name: &Name) -> Option<Vec<String>> {
    let lower = |label: &[u8]| String::from_utf8_lossy(label).to_ascii_lowercase();
    let skip = domain.iter().count();
    domain.zone_of(name).then(|| name.iter().rev().skip(skip).map(lower).collect())
}

/// Where records come from that are not the cluster's.
fn elsewhere(answer: &Message) -> String {
    match answer.metadata.authoritative {
        true => "written in the Corefile (hosts or template)".into(),
        false => "not of the cluster: from a resolver that the Corefile forwards to".into(),
    }
}

fn of_service(snapshot: &Snapshot, service: &Service, balancer: bool, rest: &[&str], record: &Record) -> String {
    let key = &service.key;
    match (&record.data, &service.address) {
        (RData::CNAME(_), _) if balancer => format!("the load balancer of Service {key} has a name, but no address"),
        (RData::CNAME(_), Address::ExternalName(_)) => format!("Service {key} is of type ExternalName"),
        (RData::SRV(srv), _) => {
            let port = match rest {
                [protocol, port] => format!("port {} ({})", port.trim_start_matches('_'), &protocol[1..]),
                _ => "the port".into(),
            };
            format!("{port} of Service {key}, at {}", srv.port)
        }
        (RData::A(_) | RData::AAAA(_), _) if balancer => {
            format!("the address of the load balancer of Service {key} ({})", readiness(service))
        }
        (data, address) => match (data.ip_addr(), address) {
            (Some(ip), Address::ClusterIp(own)) if own.contains(&ip) => {
                format!("the cluster IP of Service {key} ({}; {})", kind(service.kind), readiness(service))
            }
            (Some(ip), _) => match service.endpoints.iter().find(|endpoint| endpoint.address == ip) {
                Some(endpoint) => format!("{} of Service {key}", of(snapshot, endpoint)),
                None => format!("Service {key}, an endpoint that has gone since"),
            },
            (None, _) => format!("Service {key}"),
        },
    }
}

fn kind(kind: Type) -> &'static str {
    match kind {
        Type::ClusterIp => "ClusterIP",
        Type::NodePort => "NodePort",
        Type::LoadBalancer => "LoadBalancer",
        Type::ExternalName => "ExternalName",
    }
}

fn readiness(service: &Service) -> String {
    let ready = service.endpoints.iter().filter(|endpoint| endpoint.ready).count();
    match service.endpoints.len() {
        0 => "no endpoints: connections are refused".into(),
        all => format!("{ready} of {all} endpoints ready"),
    }
}

fn on(node: Option<&str>) -> String {
    node.map(|node| format!(" on node {node}")).unwrap_or_default()
}

/// An endpoint with its Pod, node and condition.
fn of(snapshot: &Snapshot, endpoint: &Endpoint) -> String {
    let pod = endpoint.pod.as_ref();
    let what = pod.map_or_else(|| endpoint.address.to_string(), |pod| format!("Pod {pod}"));
    let node = endpoint.node.as_deref().or_else(|| snapshot.pods.get(pod?)?.node.as_deref());
    let condition = match (endpoint.ready, endpoint.terminating) {
        (true, _) => "ready",
        (false, true) => "terminating",
        (false, false) => "not ready",
    };
    format!("endpoint {what}{} ({condition})", on(node))
}

/// A Service that has this address as an endpoint's; the first one by name.
fn endpoint_at(snapshot: &Snapshot, address: IpAddr) -> Option<(&Service, &Endpoint)> {
    let of = |service: &'_ Service| service.endpoints.iter().position(|endpoint| endpoint.address == address);
    let all = snapshot.services.iter().filter_map(|(key, service)| Some((key, service, of(service)?)));
    let (_, service, at) = all.min_by_key(|(key, ..)| *key)?;
    Some((service, &service.endpoints[at]))
}

/// Why the cluster has no record of this type for a name under its domain.
fn missing(snapshot: &Snapshot, domain: &Name, labels: &[&str], kind: RecordType) -> String {
    let domain = bare(domain);
    match *labels {
        ["svc" | "lb" | "pod", namespace, ..] if snapshot.namespace(namespace).is_none() => {
            let named = match *labels {
                ["svc" | "lb", _, name, ..] => others(snapshot, name),
                _ => String::new(),
            };
            format!("there is no namespace {namespace}{named}")
        }
        [branch @ ("svc" | "lb"), namespace, name, ref rest @ ..] => match snapshot.service(namespace, name) {
            Some(service) if branch == "lb" => unbalanced(service, rest, kind),
            Some(service) => lacking(snapshot, service, rest, kind),
            None if snapshot.pods.contains(&Key::new(namespace, name)) => format!(
                "there is no Service {name} in the namespace {namespace}; there is a Pod of that name, but Pods have \
                 no names in DNS without a Service"
            ),
            None => {
                format!("there is no Service {name} in the namespace {namespace}{}", others(snapshot, name))
            }
        },
        ["pod", namespace, _] => {
            format!("names of Pods are addresses with dashes, and no Pod of the namespace {namespace} has this one")
        }
        ["lb"] | ["lb", _] => {
            format!("the name exists, but it is no load balancer's: those are called SERVICE.NAMESPACE.lb.{domain}")
        }
        ["svc" | "pod"] | ["svc" | "pod", _] | [] => {
            format!("the name exists, but it is no Service's: those are called SERVICE.NAMESPACE.svc.{domain}")
        }
        ["pod", ..] => "the name has too many labels: those of Pods are ADDRESS.NAMESPACE.pod".into(),
        [namespace, name] if snapshot.service(namespace, name).is_some() => {
            format!("`svc` is missing: the Service is called {name}.{namespace}.svc.{domain}")
        }
        [other, ..] => format!("under {domain} there are `svc`, `lb` and `pod`, but no `{other}`"),
    }
}

/// Why a Service that exists has no such record.
fn lacking(snapshot: &Snapshot, service: &Service, rest: &[&str], kind: RecordType) -> String {
    let key = &service.key;
    let unready: Vec<_> = service.endpoints.iter().filter(|endpoint| !service.publishes(endpoint)).collect();
    match (&service.address, rest) {
        (Address::ExternalName(target), []) => {
            format!("Service {key} is of type ExternalName, but {target:?} is no name that an alias can lead to")
        }
        (Address::ExternalName(_), _) => format!("Service {key} is of type ExternalName: nothing has a name below it"),
        (_, [protocol, port]) if protocol.starts_with('_') && port.starts_with('_') => no_port(service, protocol, port),
        (_, [_, _, ..]) => format!("the name has too many labels in front of Service {key}"),
        (Address::Headless, _) if unready.len() == service.endpoints.len() => match &unready[..] {
            [] => format!("Service {key} is headless and has no endpoints: no running Pod matches its selector"),
            unready => format!("Service {key} is headless and none of its endpoints is ready: {}", list(unready)),
        },
        (_, [host]) => match unready.iter().find(|endpoint| endpoint.hostname.as_deref() == Some(host)) {
            Some(endpoint) => format!("Service {key} leaves out {}", of(snapshot, endpoint)),
            None => format!("Service {key} has no ready endpoint that is called {host}"),
        },
        (Address::ClusterIp(own), []) if own.is_empty() => format!("Service {key} has no cluster IP yet"),
        (_, []) => {
            let families = if matches!(kind, RecordType::A | RecordType::AAAA) { " of the other family" } else { "" };
            format!(
                "Service {key} exists, but has no {kind} records: its addresses are{families}: {}",
                addresses(service)
            )
        }
    }
}

/// Why a Service has no such port.
fn no_port(service: &Service, protocol: &str, port: &str) -> String {
    let named = |own: &state::Port| (!own.name.is_empty()).then(|| format!("{} ({})", own.name, own.protocol));
    let ports: Vec<_> = service.ports.iter().filter_map(named).collect();
    let ports = if ports.is_empty() { "none with a name".into() } else { ports.join(", ") };
    let (key, port, protocol) = (&service.key, &port[1..], &protocol[1..]);
    format!("Service {key} publishes no port {port}.{protocol} now; its ports are: {ports}")
}

/// Why the load balancers of a Service have no such record.
fn unbalanced(service: &Service, rest: &[&str], kind: RecordType) -> String {
    let key = &service.key;
    let addresses: Vec<String> = service.balancers().map(|address| address.to_string()).collect();
    match rest {
        _ if addresses.is_empty() && service.kind != Type::LoadBalancer => {
            let own = self::kind(service.kind);
            format!("Service {key} is of type {own}: names under `lb` are those of LoadBalancers")
        }
        _ if addresses.is_empty() => format!(
            "the load balancer of Service {key} has no address; for why, see: kubectl describe service {} -n {}",
            key.name, key.namespace
        ),
        [] => {
            format!("the load balancer of Service {key} has no {kind} records: it is at {}", shorten(addresses))
        }
        [protocol, port] if protocol.starts_with('_') && port.starts_with('_') => no_port(service, protocol, port),
        _ => format!("nothing has a name below the load balancer of Service {key} but its ports: _PORT._PROTOCOL"),
    }
}

/// The addresses that a Service's name leads to.
fn addresses(service: &Service) -> String {
    let published = service.endpoints.iter().filter(|endpoint| service.publishes(endpoint));
    let all: Vec<String> = match &service.address {
        Address::ClusterIp(own) => own.iter().map(ToString::to_string).collect(),
        _ => published.map(|endpoint| endpoint.address.to_string()).collect(),
    };
    shorten(all)
}

fn list(endpoints: &[&Endpoint]) -> String {
    let what = |endpoint: &&Endpoint| match &endpoint.pod {
        Some(pod) => format!("Pod {}", pod.name),
        None => endpoint.address.to_string(),
    };
    shorten(endpoints.iter().map(what).collect())
}

fn shorten(mut all: Vec<String>) -> String {
    let more = all.len().saturating_sub(LISTED);
    all.truncate(LISTED);
    all.join(", ") + &if more > 0 { format!(" and {more} more") } else { String::new() }
}

/// The namespaces that have a Service of this name.
fn others(snapshot: &Snapshot, name: &str) -> String {
    let namespaces = snapshot.services.iter().filter(|(key, _)| *key.name == *name).map(|(key, _)| &*key.namespace);
    let mut namespaces: Vec<String> = namespaces.map(str::to_owned).collect();
    namespaces.sort();
    match namespaces.is_empty() {
        true => String::new(),
        false => format!("; there is a Service {name} in {}", shorten(namespaces)),
    }
}

/// A name as people write it.
fn bare(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_owned()
}

/// Why the world has no such name.
fn outside(snapshot: &Snapshot, domain: &Name, name: &Name) -> String {
    if let Ok(net) = name.parse_arpa_name() {
        return format!("neither a Service nor a ready endpoint has the address {}", net.addr());
    }
    let (name, domain) = (bare(name), bare(domain));
    let lower = name.to_ascii_lowercase();
    let parts: Vec<&str> = lower.split('.').collect();
    match parts[..] {
        [service, namespace] | [service, namespace, "svc"] if snapshot.service(namespace, service).is_some() => {
            format!("the name is not complete: the Service is called {service}.{namespace}.svc.{domain}")
        }
        [service, namespace, "lb"] if snapshot.service(namespace, service).is_some() => {
            format!("the name is not complete: the load balancer is called {service}.{namespace}.lb.{domain}")
        }
        [only] => format!("the world has no {name}{}", others(snapshot, only)),
        _ => format!("{name} is not of the cluster, and the resolvers that the Corefile forwards to know no such name"),
    }
}

#[cfg(test)]
mod tests;
