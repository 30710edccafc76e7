//! What an address means in this cluster: Snapshot × address → Service, port and where to connect to; pure.

use std::net::{IpAddr, SocketAddr};

use state::{Address, Key, Port, Protocol, Service, Snapshot, Target as TargetPort};

use super::{
    Lost,
    asked::{self, Asked, Host},
    pods::{LISTED, list, near},
};

/// What kind of address it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Via {
    /// The Service's own.
    ClusterIp,
    /// A node's, at a port that leads to the Service.
    NodePort,
    /// The machine's localhost, where a relay in user space listens at the NodePorts.
    Relay,
    /// An external address or a load balancer's.
    External,
    /// A pod of a Service without an address.
    Headless,
    /// Another name, outside.
    Alias,
    /// A pod's own.
    Pod(Key),
    /// A port of a node that leads to a pod, and the pod's port.
    HostPort(Key, u16),
    /// None that the cluster knows.
    Elsewhere,
}

/// Who asks.
#[derive(Clone, Debug)]
pub(super) struct Asker<'a> {
    /// Names without a namespace are of this one.
    pub(super) namespace: &'a str,
    pub(super) domain: &'a str,
    /// None for the node itself, or this machine.
    pub(super) pod: Option<Key>,
    /// The node where it is; empty outside the cluster.
    pub(super) node: &'a str,
    pub(super) protocol: Protocol,
}

/// What DNS said.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    /// What was asked, in this order, without the dots at the end, and why it has no address.
    pub(super) tried: Vec<(String, String)>,
    /// The name that has addresses.
    pub(super) found: Option<String>,
    pub(super) addresses: Vec<IpAddr>,
}

impl Names {
    /// What the cluster's DNS has to say by the cluster's state, for who cannot ask it.
    pub(super) fn expected(snapshot: &Snapshot, domain: &str, tried: impl IntoIterator<Item = String>) -> Self {
        let mut names = Self::default();
        for name in tried {
            let service = service_of(snapshot, domain, SERVICE, &name);
            let balancers = service_of(snapshot, domain, BALANCER, &name).map(|service| service.balancers().collect());
            names.addresses = match service.map(|service| (&service.address, service)) {
                Some((Address::ClusterIp(own), _)) => own.clone(),
                Some((Address::Headless, service)) => {
                    let published = service.endpoints.iter().filter(|endpoint| service.publishes(endpoint));
                    published.map(|endpoint| endpoint.address).collect()
                }
                _ => balancers.unwrap_or_default(),
            };
            if !names.addresses.is_empty() {
                names.found = Some(name);
                return names;
            }
            names.tried.push((name, "the cluster has no address for it".into()));
        }
        names
    }
}

/// Where the way leads.
#[derive(Clone, Debug)]
pub(super) struct Target<'a> {
    pub(super) via: Via,
    pub(super) service: Option<&'a Service>,
    /// The Service's port that is meant.
    pub(super) port: Option<&'a Port>,
    /// What to connect to; none where a name has no address.
    pub(super) to: Option<SocketAddr>,
    /// What is wrong already.
    pub(super) lost: Option<Lost>,
}

impl<'a> Target<'a> {
    fn of(via: Via, service: Option<&'a Service>, to: SocketAddr) -> Self {
        Self { via, service, port: None, to: Some(to), lost: None }
    }

    fn lost(self, hop: &'static str, why: String, help: impl Into<String>) -> Self {
        Self { lost: Some(Lost::new(hop, why, help)), ..self }
    }
}

/// Finds out what is meant.
///
/// # Errors
/// When there is nothing to connect to.
pub(super) fn find<'a>(
    snapshot: &'a Snapshot,
    asker: &Asker<'_>,
    asked: &Asked,
    names: Option<&Names>,
) -> Result<Target<'a>, Lost> {
    match (&asked.host, names) {
        (Host::Address(address), _) => by_address(snapshot, asker, *address, asked.port.as_ref()),
        (Host::Name(name), names) => {
            by_name(snapshot, asker, name, asked.port.as_ref(), &names.cloned().unwrap_or_default())
        }
    }
}

/// What full names of Services, and of their load balancers, have before the domain.
const SERVICE: &str = ".svc.";
const BALANCER: &str = ".lb.";

/// The Service that a full name is of; it may begin with a pod's host name.
fn service_of<'a>(snapshot: &'a Snapshot, domain: &str, branch: &str, name: &str) -> Option<&'a Service> {
    let labels = name.strip_suffix(domain)?.strip_suffix(branch)?;
    let (rest, namespace) = labels.rsplit_once('.')?;
    let service = rest.rsplit('.').next()?;
    snapshot.service(namespace, service).map(|service| &**service)
}

fn by_name<'a>(
    snapshot: &'a Snapshot,
    asker: &Asker<'_>,
    name: &str,
    port: Option<&asked::Port>,
    names: &Names,
) -> Result<Target<'a>, Lost> {
    let found = names.found.iter().map(|name| (name, ""));
    let mut candidates = found.chain(names.tried.iter().map(|(name, absent)| (name, &**absent)));
    if let (Some(name), Some(address)) = (&names.found, names.addresses.first())
        && let Some(service) = service_of(snapshot, asker.domain, BALANCER, name)
    {
        return at_service(Via::External, service, asker.protocol, *address, port);
    }
    let service =
        candidates.find_map(|(name, absent)| Some((service_of(snapshot, asker.domain, SERVICE, name)?, absent)));
    let Some((service, absent)) = service else {
        let Some(address) = names.addresses.first() else { return Err(no_service(snapshot, asker, name, names)) };
        return by_address(snapshot, asker, *address, port);
    };
    match (&service.address, names.addresses.first()) {
        (Address::ExternalName(alias), address) => {
            let why = || format!("Service {} is an alias of {alias}: {absent}", service.key);
            let address =
                address.ok_or_else(|| Lost::new("DNS", why(), "Correct spec.externalName of the Service."))?;
            let to = SocketAddr::new(*address, number(port, "an ExternalName is only another name, and has no ports")?);
            Ok(Target::of(Via::Alias, Some(service), to))
        }
        (Address::Headless, address) => headless(service, asker.protocol, address.copied(), port),
        (Address::ClusterIp(_), None) => {
            let help = "Look at the Corefile: kubectl get configmap coredns -n kube-system -o yaml";
            Err(Lost::new("DNS", format!("Service {} exists, but {absent}", service.key), help))
        }
        (Address::ClusterIp(_), Some(address)) => by_address(snapshot, asker, *address, port),
    }
}

/// A Service whose name leads to its pods.
fn headless<'a>(
    service: &'a Service,
    protocol: Protocol,
    address: Option<IpAddr>,
    asked: Option<&asked::Port>,
) -> Result<Target<'a>, Lost> {
    let behind = |port: &Port| {
        let backends = service.backends(port);
        let backend = backends.iter().find(|backend| Some(backend.address) == address).or(backends.first());
        match &port.target {
            _ if backend.is_some() => backend.map(|backend| backend.port),
            TargetPort::Number(number) => Some(*number),
            TargetPort::Name(_) => None,
        }
    };
    // Clients that name no port take the one in the SRV records; those that do reach just that one.
    let of = |port: &&Port| port.protocol == protocol;
    let meant = asked.and_then(asked::Port::number);
    let port = match meant {
        Some(number) => service.ports.iter().filter(of).find(|p| behind(p) == Some(number) || p.port == number),
        None if service.ports.is_empty() => None,
        None => Some(choose(service, asked, protocol)?),
    };
    let number = match meant.or_else(|| behind(port?)) {
        Some(number) => Some(number),
        None if port.is_some() => None,
        None => Some(number(None, "the Service names none")?),
    };
    let to = address.zip(number).map(|(address, number)| SocketAddr::new(address, number));
    Ok(Target { via: Via::Headless, service: Some(service), port, to, lost: None })
}

fn by_address<'a>(
    snapshot: &'a Snapshot,
    asker: &Asker<'_>,
    address: IpAddr,
    port: Option<&asked::Port>,
) -> Result<Target<'a>, Lost> {
    if let Some(service) = snapshot.service_at(address) {
        return at_service(Via::ClusterIp, service, asker.protocol, address, port);
    }
    if let (true, Some(pod)) = (address.is_loopback(), &asker.pod) {
        let number = number(port, "inside a pod localhost is the pod itself")?;
        return Ok(Target::of(Via::Pod(pod.clone()), None, SocketAddr::new(address, number)));
    }
    let outside =
        |service: &&Service| service.external_ips.contains(&address) || service.load_balancer_ips.contains(&address);
    let lacks = |service: &Service| choose(service, port, asker.protocol).is_err();
    let services = snapshot.services.iter().map(|(_, service)| &**service).filter(outside);
    let service = services.min_by_key(|service| (lacks(service), service.key.clone()));
    let node = address.is_loopback() || snapshot.nodes.iter().any(|(_, node)| node.addresses.contains(&address));
    match service {
        // A load balancer's address may be the node's own, where others have ports, too.
        Some(service) if !node || port.is_some() && !lacks(service) => {
            return at_service(Via::External, service, asker.protocol, address, port);
        }
        _ if node => return at_node(snapshot, asker.protocol, address, port),
        _ => {}
    }
    let number = number(port, "only a Service's own address can do without")?;
    let to = SocketAddr::new(address, number);
    Ok(match snapshot.pod_at(address) {
        Some(pod) => Target::of(Via::Pod(pod.key.clone()), None, to),
        None => Target::of(Via::Elsewhere, None, to),
    })
}

/// An address at which the Service has its ports.
fn at_service<'a>(
    via: Via,
    service: &'a Service,
    protocol: Protocol,
    address: IpAddr,
    asked: Option<&asked::Port>,
) -> Result<Target<'a>, Lost> {
    match (choose(service, asked, protocol), asked.and_then(asked::Port::number)) {
        (Ok(port), _) => {
            let to = SocketAddr::new(address, port.port);
            Ok(Target { port: Some(port), ..Target::of(via, Some(service), to) })
        }
        (Err(lost), Some(number)) => {
            let target = Target::of(via, Some(service), SocketAddr::new(address, number));
            Ok(Target { lost: Some(lost), ..target })
        }
        (Err(lost), None) => Err(lost),
    }
}

/// How a port of another transport is asked.
fn instead(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "Ask without --udp.",
        Protocol::Udp => "Ask with --udp.",
        Protocol::Sctp => "This command sends TCP and UDP only.",
    }
}

/// The Service's port that is meant.
fn choose<'a>(service: &'a Service, asked: Option<&asked::Port>, protocol: Protocol) -> Result<&'a Port, Lost> {
    let key = &service.key;
    let (own, other): (Vec<&Port>, Vec<&Port>) = service.ports.iter().partition(|port| port.protocol == protocol);
    let is = |port: &&&Port| match asked {
        None => true,
        Some(asked::Port::Number(number)) => port.port == *number,
        Some(asked::Port::Name(name)) => *port.name == **name,
    };
    let found: Vec<&&Port> = own.iter().filter(is).collect();
    let Some(port) = found.first() else {
        let why = |text: String, help: String| Err(Lost::new("Port", text, help));
        if let Some(port) = other.iter().find(is) {
            let text = format!("Service {key} has port {} with {}, not {protocol}", port.port, port.protocol);
            return why(text, instead(port.protocol).into());
        }
        let asked = asked.map(ToString::to_string).unwrap_or_default();
        let number: u16 = asked.parse().unwrap_or_default();
        let ports = list(service.ports.iter().map(described));
        let help = |port: &Port| format!("Ask for port {}, or change `port` in the Service.", port.port);
        let behind = |port: &Port| service.backends(port).iter().any(|backend| backend.port == number);
        let meant =
            |port: &&&Port| port.node_port == Some(number) || port.target == TargetPort::Number(number) || behind(port);
        return match own.iter().find(meant) {
            Some(port) if port.node_port == Some(number) => why(
                format!("{number} is the port of Service {key} on nodes; at its own address it is {}", port.port),
                help(port),
            ),
            Some(port) => why(
                format!(
                    "{number} is targetPort, the pods' port; clients ask Service {key} for its `port`, {}",
                    port.port
                ),
                help(port),
            ),
            None => why(
                format!("Service {key} has no port {asked}; it has {ports}"),
                format!("Ask for one of these: {ports}."),
            ),
        };
    };
    match (asked, found.len()) {
        (None, 2..) => {
            let all = list(own.iter().map(|port| described(port)));
            Err(Lost::new("Port", format!("Service {key} has several ports: {all}"), "Say which: ADDRESS:PORT."))
        }
        _ => Ok(port),
    }
}

/// A port as `http 80/TCP`.
pub(super) fn described(port: &Port) -> String {
    let name = if port.name.is_empty() { String::new() } else { format!("{} ", port.name) };
    format!("{name}{}/{}", port.port, port.protocol)
}

/// A node's address, at which a port may lead to a Service or a pod.
fn at_node<'a>(
    snapshot: &'a Snapshot,
    protocol: Protocol,
    address: IpAddr,
    port: Option<&asked::Port>,
) -> Result<Target<'a>, Lost> {
    let mut services: Vec<&Service> = snapshot.services.iter().map(|(_, service)| &**service).collect();
    services.sort_by_key(|service| &service.key);
    let all = || services.iter().flat_map(|service| service.ports.iter().map(|port| (*service, port)));
    let opened = || {
        let known = all().filter_map(|(service, port)| Some(format!("{} of {}", port.node_port?, service.key)));
        let known = list(known);
        if known.is_empty() { "there are no NodePorts".into() } else { format!("the NodePorts are {known}") }
    };
    let number = number(port, &opened())?;
    let to = SocketAddr::new(address, number);
    let via = if address.is_loopback() { Via::Relay } else { Via::NodePort };
    let leads = |&(_, port): &(&Service, &Port)| port.node_port == Some(number) && port.protocol == protocol;
    if let Some((service, port)) = all().find(leads) {
        return Ok(Target { port: Some(port), ..Target::of(via, Some(service), to) });
    }
    let other = all().find(|(_, port)| port.node_port == Some(number));
    if let Some((service, port)) = other {
        let why = format!("{number} is the NodePort of Service {} for {}, not {protocol}", service.key, port.protocol);
        return Ok(Target::of(via, Some(service), to).lost("Port", why, instead(port.protocol)));
    }
    let mut pods: Vec<_> = snapshot.pods.iter().collect();
    pods.sort_by_key(|(key, _)| *key);
    let leads = |host: &&state::HostPort| {
        host.port == number && host.protocol == protocol && host.address.is_none_or(|own| own == address)
    };
    let pod = pods.iter().find_map(|(key, pod)| Some((*key, pod.host_ports.iter().find(leads)?)));
    if let Some((key, host)) = pod {
        return Ok(Target::of(Via::HostPort(key.clone(), host.target), None, to));
    }
    let inside = all().find(|(_, port)| port.port == number && port.node_port.is_some());
    let target = Target::of(Via::Elsewhere, None, to);
    Ok(match inside {
        Some((service, port)) => {
            let node = port.node_port.unwrap_or_default();
            let why =
                format!("{number} is the port of Service {} at its own address; on nodes it is {node}", service.key);
            target.lost("Port", why, format!("Ask for {}.", SocketAddr::new(address, node)))
        }
        None => {
            let why = format!("no Service has the NodePort {number}; {}", opened());
            target.lost("Service", why, "Look at the Service: kubectl get service -A")
        }
    })
}

/// The number where there has to be one.
fn number(port: Option<&asked::Port>, why: &str) -> Result<u16, Lost> {
    let wrong = |text: String| Lost::new("Port", text, "Say which port: ADDRESS:PORT.");
    match port {
        Some(asked::Port::Number(number)) => Ok(*number),
        Some(asked::Port::Name(name)) => {
            Err(wrong(format!("{name:?} is a name, and only ports of Services have names")))
        }
        None => Err(wrong(format!("no port was given: {why}"))),
    }
}

/// Why a name leads nowhere.
fn no_service(snapshot: &Snapshot, asker: &Asker<'_>, name: &str, names: &Names) -> Lost {
    let bare = name.trim_end_matches('.');
    let short = bare.strip_suffix(asker.domain).unwrap_or(bare).trim_end_matches('.');
    let balanced = short.strip_suffix(".lb");
    let short = short.strip_suffix(".svc").or(balanced).unwrap_or(short);
    let (service, namespace) = short.rsplit_once('.').unwrap_or((short, asker.namespace));
    let service = service.rsplit('.').next().unwrap_or_default();
    if let (Some(_), Some(service)) = (balanced, snapshot.service(namespace, service)) {
        let why = format!("the load balancer of Service {} has no address", service.key);
        return Lost::new(
            "DNS",
            why,
            format!("Its events say why: kubectl describe service {} -n {namespace}", service.key.name),
        );
    }
    let mut keys: Vec<&Key> = snapshot.services.iter().map(|(key, _)| key).collect();
    keys.sort();
    let there = keys.iter().filter(|key| *key.name == *service).map(|key| format!("{}.{}", key.name, key.namespace));
    if snapshot.namespace(namespace).is_none() {
        let all = snapshot.namespaces.iter().map(|(key, _)| &*key.name);
        let all = near(namespace, all).into_iter().map(|near| format!("{service}.{near}"));
        let meant = suggestion(if there.clone().next().is_some() { there.collect() } else { all.collect() });
        let world = names.tried.last().map(|(_, absent)| absent.as_str()).filter(|absent| !absent.is_empty());
        let why = format!(
            "there is no namespace {namespace} with a Service {service}; {}",
            world.unwrap_or("no more is known")
        );
        return Lost::new("DNS", why, format!("{meant}Look at what there is: kubectl get services -A"));
    }
    let here = keys.iter().filter(|key| *key.namespace == *namespace).map(|key| &*key.name);
    let meant = suggestion(there.chain(near(service, here).into_iter().map(str::to_owned)).collect());
    let pod = match snapshot.pods.contains(&Key::new(namespace, service)) {
        true => "; there is a Pod of that name, but Pods have no names in DNS without a Service",
        false => "",
    };
    let why = format!("there is no Service {service} in the namespace {namespace}{pod}");
    Lost::new("DNS", why, format!("{meant}Look at what there is: kubectl get services -n {namespace}"))
}

fn suggestion(mut names: Vec<String>) -> String {
    names.truncate(LISTED);
    if names.is_empty() { String::new() } else { format!("Did you mean {}? ", names.join(" or ")) }
}
