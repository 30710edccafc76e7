//! Question → records: the Kubernetes DNS specification 1.1.0 and what CoreDNS adds, pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hickory_proto::rr::rdata::{CNAME, HINFO, NS, PTR, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use state::{Address, Protocol, Service};

use crate::zone::{Origin, Pods, Zone, address, alias, reversed, under};

/// The version of the specification that is followed.
const VERSION: &str = "1.1.0";

/// What becomes of a question.
#[derive(Debug, PartialEq)]
pub(crate) enum Answer {
    /// Records; when there are none the name exists without any of this type.
    Records { answers: Vec<Record>, additionals: Vec<Record> },
    /// No such name.
    NxDomain,
    /// It is not answered here at all.
    Refused,
    /// Nothing is known yet.
    ServFail,
    /// It is not ours.
    Next,
    /// An alias: ask about `target`.
    Follow { answers: Vec<Record>, target: Name },
}

impl Answer {
    fn records(answers: Vec<Record>) -> Self {
        Answer::Records { answers, additionals: Vec::new() }
    }

    fn no_data() -> Self {
        Answer::records(Vec::new())
    }
}

/// Answers a question of class IN. `turn` rotates the addresses.
pub(crate) fn answer(zone: &Zone, name: &Name, kind: RecordType, turn: usize) -> Answer {
    let Some(origin) = zone.origin_of(name) else {
        return Answer::Next;
    };
    let asked = match kind {
        RecordType::AXFR | RecordType::IXFR => return Answer::Refused,
        RecordType::ANY => RecordType::A,
        kind => kind,
    };
    let answer = match zone.snapshot.synced {
        true => Question { zone, origin, name, kind: asked, turn }.answer(),
        false => Answer::ServFail,
    };
    match answer {
        Answer::NxDomain | Answer::ServFail if zone.falls_through(name) => Answer::Next,
        Answer::Records { .. } | Answer::Follow { .. } if kind == RecordType::ANY => {
            // RFC 8482 §4.2.
            let data = RData::HINFO(HINFO::new("RFC8482".into(), String::new()));
            Answer::records(vec![Record::from_rdata(name.clone(), zone.options.ttl, data)])
        }
        answer => answer,
    }
}

/// The servers of a zone, by CoreDNS's rule: the Services that our own addresses are endpoints of,
/// or else `ns.dns`.
pub(crate) fn servers(zone: &Zone, origin: &Name) -> Vec<(Name, IpAddr)> {
    let mut servers = Vec::new();
    for own in &zone.options.addresses {
        for service in zone.endpoints_at(*own) {
            let ips = service.cluster_ips().iter().map(|ip| (service_name(service, None, origin), *ip));
            servers.extend(ips);
            if service.address == Address::Headless {
                let host = |e| service_name(service, Some(&*zone.options.label(e)), origin);
                servers.extend(zone.published(service).map(|e| (host(e), e.address)));
            }
        }
    }
    if servers.is_empty() {
        let own = zone.options.addresses.iter();
        servers.extend(own.map(|address| (under(&["ns", "dns"], origin), *address)));
    }
    servers
}

/// The name of a Service, or of an endpoint under it.
pub(crate) fn service_name(service: &Service, host: Option<&str>, origin: &Name) -> Name {
    let labels: Vec<&str> = host.into_iter().chain([&*service.key.name, &*service.key.namespace, "svc"]).collect();
    under(&labels, origin)
}

/// The name of a Service's load balancers.
pub(crate) fn balancer_name(service: &Service, origin: &Name) -> Name {
    under(&[&*service.key.name, &*service.key.namespace, "lb"], origin)
}

/// The record of an address.
pub(crate) fn address_record(name: Name, ttl: u32, address: IpAddr) -> Record {
    let data = match address {
        IpAddr::V4(address) => RData::A(address.into()),
        IpAddr::V6(address) => RData::AAAA(address.into()),
    };
    Record::from_rdata(name, ttl, data)
}

/// The names that an address has: its Service's, or those that it has as an endpoint and a load balancer.
pub(crate) fn pointers(zone: &Zone, address: IpAddr) -> Vec<Name> {
    let mut names = Vec::new();
    for service in zone.services_at(address) {
        if service.cluster_ips().contains(&address) {
            return vec![service_name(service, None, zone.primary())];
        }
        for endpoint in zone.published(service).filter(|endpoint| endpoint.address == address) {
            let name = service_name(service, Some(&*zone.options.label(endpoint)), zone.primary());
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if zone.options.balancers(service).0.contains(&address) {
            names.push(balancer_name(service, zone.primary()));
        }
    }
    names
}

/// A question for a name of one of our zones.
struct Question<'a> {
    zone: &'a Zone,
    origin: &'a Origin,
    name: &'a Name,
    kind: RecordType,
    turn: usize,
}

/// One place that a name of a Service leads to.
struct Place {
    address: IpAddr,
    port: Option<u16>,
    /// Its label under the Service; none for an address of the Service's own.
    host: Option<String>,
}

/// Which of a Service's places a name leads to: what is in front of the Service's own.
enum Which<'a> {
    All,
    Host(&'a str),
    Port { name: &'a str, protocol: &'a str },
    Near { zone: String, or_all: bool },
}

impl<'a> Which<'a> {
    /// Reads labels, the nearest to the Service first.
    fn read(labels: &[&'a str], zonal: bool) -> Option<Self> {
        let bare = |label: &'a str| Some(label.strip_prefix('_').unwrap_or(label)).filter(|label| !label.is_empty());
        Some(match labels {
            [] => Which::All,
            [host] => Which::Host(host),
            [protocol, name] => Which::Port { name: bare(name)?, protocol: bare(protocol)? },
            ["_zone", directive @ ("pin" | "prefer"), zone @ ..] if zonal => {
                let labels: Vec<&str> = zone.iter().rev().copied().collect();
                Which::Near { zone: labels.join("."), or_all: *directive == "prefer" }
            }
            _ => return None,
        })
    }

    fn port(&self, own: &str, transport: Protocol) -> bool {
        match self {
            Which::Port { name, protocol } => {
                own.eq_ignore_ascii_case(name) && transport.to_string().eq_ignore_ascii_case(protocol)
            }
            _ => true,
        }
    }
}

impl Question<'_> {
    fn answer(&self) -> Answer {
        let front = usize::from(self.name.num_labels() - self.origin.name.num_labels());
        if front == 0 {
            return self.apex();
        }
        let labels = self.name.iter().take(front).map(|l| String::from_utf8_lossy(l).to_ascii_lowercase());
        let labels: Vec<String> = labels.collect();
        let labels: Vec<&str> = labels.iter().rev().map(String::as_str).collect();
        if labels == ["dns", "ns"] {
            return self.addresses(servers(self.zone, &self.origin.name).into_iter().map(|(_, ip)| ip));
        }
        if self.origin.reverse {
            let targets = match (self.kind, reversed(self.name)) {
                (RecordType::PTR, Some(address)) => pointers(self.zone, address),
                _ => Vec::new(),
            };
            return match targets.is_empty() {
                true => Answer::NxDomain,
                false => self.own(targets.into_iter().map(|target| RData::PTR(PTR(target)))),
            };
        }
        match labels[..] {
            ["svc"] | ["lb"] | ["pod"] | ["dns"] => Answer::no_data(),
            ["dns-version"] => self.own([RData::TXT(TXT::new(vec![VERSION.into()]))]),
            ["svc" | "lb", namespace] if self.zone.has_namespace(namespace) => Answer::no_data(),
            ["pod", namespace, ref rest @ ..] => self.pod(namespace, rest),
            [branch @ ("svc" | "lb"), namespace, service, ref rest @ ..] => match self.zone.service(namespace, service)
            {
                Some(service) if branch == "lb" => self.balancers(service, rest),
                Some(service) => self.service(service, rest),
                None => Answer::NxDomain,
            },
            _ => Answer::NxDomain,
        }
    }

    /// Those of some records at the question's name that are of the type that is asked for.
    fn own(&self, data: impl IntoIterator<Item = RData>) -> Answer {
        let data = data.into_iter().filter(|data| data.record_type() == self.kind);
        Answer::records(data.map(|data| Record::from_rdata(self.name.clone(), self.zone.options.ttl, data)).collect())
    }

    fn addresses(&self, addresses: impl Iterator<Item = IpAddr>) -> Answer {
        let mut seen = BTreeSet::new();
        let record = |ip| address_record(self.name.clone(), self.zone.options.ttl, ip);
        let records = addresses.filter(|ip| seen.insert(*ip)).map(record);
        let mut records: Vec<Record> = records.filter(|record| record.record_type() == self.kind).collect();
        let turn = self.turn % records.len().max(1);
        records.rotate_left(turn);
        Answer::records(records)
    }

    fn apex(&self) -> Answer {
        match self.kind {
            RecordType::SOA => {
                let soa = self.zone.soa(&self.origin.name);
                Answer::records(vec![Record::from_rdata(self.name.clone(), soa.ttl, soa.data)])
            }
            RecordType::NS => {
                let servers = servers(self.zone, self.name);
                let names: BTreeSet<&Name> = servers.iter().map(|(name, _)| name).collect();
                let Answer::Records { answers, .. } =
                    self.own(names.into_iter().map(|name| RData::NS(NS(name.clone()))))
                else {
                    return Answer::no_data();
                };
                let ttl = self.zone.options.ttl;
                let additionals = servers.iter().map(|(name, ip)| address_record(name.clone(), ttl, *ip)).collect();
                Answer::Records { answers, additionals }
            }
            _ => Answer::no_data(),
        }
    }

    /// Pods by their address; what else is in front of that does not exist.
    fn pod(&self, namespace: &str, rest: &[&str]) -> Answer {
        let mode = self.zone.options.pods;
        if mode == Pods::Disabled || !self.zone.has_namespace(namespace) {
            return Answer::NxDomain;
        }
        let verified = |ip: &IpAddr| {
            let pod = self.zone.snapshot.pod_at(*ip);
            mode == Pods::Insecure || pod.is_some_and(|pod| *pod.key.namespace == *namespace)
        };
        match rest {
            [] => Answer::no_data(),
            [label] => match address(label).filter(verified) {
                Some(ip) => self.addresses([ip].into_iter()),
                None => Answer::NxDomain,
            },
            _ => Answer::NxDomain,
        }
    }

    fn service(&self, service: &Service, rest: &[&str]) -> Answer {
        if let Address::ExternalName(target) = &service.address {
            return match Name::from_ascii(target) {
                Ok(target_name) if rest.is_empty() && alias(target) => self.alias(target_name),
                _ => Answer::NxDomain,
            };
        }
        let which = Which::read(rest, self.zone.options.zonal);
        let places = which.and_then(|which| self.places(service, &which));
        self.of_places(places, service_name(service, None, &self.origin.name))
    }

    /// A Service's load balancers; as with other names, there is none without an address.
    fn balancers(&self, service: &Service, rest: &[&str]) -> Answer {
        let (addresses, alias) = self.zone.options.balancers(service);
        match (alias.map(Name::from_ascii), Which::read(rest, false)) {
            (Some(Ok(target)), Some(Which::All)) => self.alias(target),
            (None, Some(which @ (Which::All | Which::Port { .. }))) if !addresses.is_empty() => {
                let addresses = Vec::from_iter(addresses);
                self.of_places(at(service, &which, &addresses), balancer_name(service, &self.origin.name))
            }
            _ => Answer::NxDomain,
        }
    }

    /// What is asked of these places, whose names are this one or under it.
    fn of_places(&self, places: Option<Vec<Place>>, base: Name) -> Answer {
        match (places, self.kind) {
            (None, _) => Answer::NxDomain,
            (Some(places), RecordType::A | RecordType::AAAA) => {
                self.addresses(places.iter().map(|place| place.address))
            }
            (Some(places), RecordType::SRV) => self.servers(base, places),
            _ => Answer::no_data(),
        }
    }

    fn alias(&self, mut target: Name) -> Answer {
        target.set_fqdn(true);
        let data = RData::CNAME(CNAME(target.clone()));
        let answers = vec![Record::from_rdata(self.name.clone(), self.zone.options.ttl, data)];
        match self.kind {
            RecordType::CNAME => Answer::records(answers),
            _ => Answer::Follow { answers, target },
        }
    }

    /// `None` when there is no such name.
    fn places(&self, service: &Service, which: &Which) -> Option<Vec<Place>> {
        let headless = service.address == Address::Headless;
        if !headless && self.zone.options.ignores(service) {
            return None;
        }
        match which {
            Which::Near { zone, or_all } => {
                let near = self.endpoints(service, which, Some(zone));
                return headless.then(|| match near.is_empty() && *or_all {
                    true => self.endpoints(service, which, None),
                    false => near,
                });
            }
            Which::All | Which::Port { .. } if !headless => return at(service, which, service.cluster_ips()),
            _ => {}
        }
        Some(self.endpoints(service, which, None)).filter(|places| !places.is_empty())
    }

    /// The endpoints of a Service at their ports, those of one topology zone if so wanted.
    fn endpoints(&self, service: &Service, which: &Which, near: Option<&str>) -> Vec<Place> {
        let mut places = Vec::new();
        for endpoint in self.zone.published(service) {
            let host = self.zone.options.label(endpoint).into_owned();
            let zone = endpoint.zone.as_deref().unwrap_or_default();
            if matches!(which, Which::Host(label) if !host.eq_ignore_ascii_case(label))
                || near.is_some_and(|near| !zone.eq_ignore_ascii_case(near))
            {
                continue;
            }
            let place = |port| Place { address: endpoint.address, port, host: Some(host.clone()) };
            let ports = endpoint.ports.iter().filter(|own| which.port(&own.name, own.protocol));
            places.extend(ports.map(|own| place(Some(own.port))));
            if endpoint.ports.is_empty() && !matches!(which, Which::Port { .. }) {
                places.push(place(None));
            }
        }
        places
    }

    /// SRV records, and the addresses of their targets.
    fn servers(&self, base: Name, mut places: Vec<Place>) -> Answer {
        let (mut answers, mut additionals) = (Vec::new(), Vec::new());
        let (mut targets, mut addresses) = (BTreeSet::new(), BTreeSet::new());
        // As CoreDNS: all together weigh about a hundred.
        let weight = (100 / places.len().max(1)).max(1) as u16;
        let turn = self.turn % places.len().max(1);
        places.rotate_left(turn);
        for place in places {
            let Some(port) = place.port else { continue };
            let target = place.host.as_deref().map_or_else(|| base.clone(), |host| under(&[host], &base));
            let ttl = self.zone.options.ttl;
            if targets.insert((place.host.clone(), port)) {
                let srv = RData::SRV(SRV::new(0, weight, port, target.clone()));
                answers.push(Record::from_rdata(self.name.clone(), ttl, srv));
            }
            if addresses.insert((place.host, place.address)) {
                additionals.push(address_record(target, ttl, place.address));
            }
        }
        Answer::Records { answers, additionals }
    }
}

/// A Service's ports at its own addresses; `None` when it has no such port.
fn at(service: &Service, which: &Which, addresses: &[IpAddr]) -> Option<Vec<Place>> {
    let ports = service.ports.iter().filter(|own| which.port(&own.name, own.protocol));
    let mut ports: Vec<Option<u16>> = ports.map(|own| Some(own.port)).collect();
    if matches!(which, Which::All) && ports.is_empty() {
        ports.push(None);
    }
    let place = |address: &IpAddr, port: &Option<u16>| Place { address: *address, port: *port, host: None };
    let places = ports.iter().flat_map(|port| addresses.iter().map(move |address| place(address, port)));
    (!ports.is_empty()).then(|| places.collect())
}

#[cfg(test)]
mod tests;
