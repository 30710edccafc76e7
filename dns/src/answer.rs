//! Question → records: the Kubernetes DNS specification 1.1.0, pure.

use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::rr::rdata::{CNAME, NS, PTR, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use state::{Address, Service};

use crate::zone::{Zone, alias, host};

/// The version of the specification that is followed.
const VERSION: &str = "1.1.0";

/// How many aliases within the cluster are followed; more is a circle.
const ALIASES: usize = 8;

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
    Forward,
    /// An alias that leads out of the cluster: ask others about `target`.
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
    let ours = zone.domain.zone_of(name);
    let reverse = if kind == RecordType::PTR { reversed(name) } else { None };
    if !ours && reverse.is_none() {
        return Answer::Forward;
    }
    if !zone.snapshot.synced {
        return Answer::ServFail;
    }
    if let Some(address) = reverse.filter(|_| !ours) {
        return pointers(zone, name, address);
    }
    if matches!(kind, RecordType::AXFR | RecordType::IXFR) {
        return Answer::Refused;
    }
    local(zone, name, kind, turn, ALIASES)
}

/// Answers for a name under the domain.
fn local(zone: &Zone, name: &Name, kind: RecordType, turn: usize, aliases: usize) -> Answer {
    let labels: Vec<String> = name.iter().map(|l| String::from_utf8_lossy(l).to_ascii_lowercase()).collect();
    let front = labels.len() - zone.domain.iter().count();
    let mut labels: Vec<&str> = labels[..front].iter().map(String::as_str).collect();
    labels.reverse();
    let own = |kinds: &[(RecordType, RData)]| {
        let records = kinds.iter().filter(|(of, _)| *of == kind);
        Answer::records(records.map(|(_, data)| Record::from_rdata(name.clone(), zone.ttl, data.clone())).collect())
    };
    match labels[..] {
        [] => apex(zone, name, kind),
        ["svc"] | ["pod"] | ["dns"] => Answer::no_data(),
        ["dns-version"] => own(&[(RecordType::TXT, RData::TXT(TXT::new(vec![VERSION.into()])))]),
        ["dns", "ns"] => match zone.address {
            Some(address) => own(&[(RecordType::A, RData::A(address.into()))]),
            None => Answer::no_data(),
        },
        ["svc" | "pod", namespace] if zone.namespaces.contains_key(namespace) => Answer::no_data(),
        ["pod", namespace, label] => match crate::fast::dashed(label) {
            Some(ip) if zone.namespaces.contains_key(namespace) => own(&[(RecordType::A, RData::A(ip.into()))]),
            _ => Answer::NxDomain,
        },
        ["svc", namespace, service, ref rest @ ..] => {
            let Some(service) = zone.snapshot.service(namespace, service) else {
                return Answer::NxDomain;
            };
            match &service.address {
                Address::ExternalName(target) if rest.is_empty() && alias(target) => {
                    follow(zone, name, target, kind, turn, aliases)
                }
                _ => of_service(zone, name, service, rest, kind, turn),
            }
        }
        _ => Answer::NxDomain,
    }
}

fn apex(zone: &Zone, name: &Name, kind: RecordType) -> Answer {
    match kind {
        RecordType::SOA => {
            let soa = zone.soa();
            Answer::records(vec![Record::from_rdata(name.clone(), soa.ttl, soa.data)])
        }
        RecordType::NS => {
            let server = zone.name_server();
            let address = zone.address.map(|ip| Record::from_rdata(server.clone(), zone.ttl, RData::A(ip.into())));
            let answers = vec![Record::from_rdata(name.clone(), zone.ttl, RData::NS(NS(server)))];
            Answer::Records { answers, additionals: address.into_iter().collect() }
        }
        _ => Answer::no_data(),
    }
}

/// An alias, and where it leads when that is in the cluster.
fn follow(zone: &Zone, name: &Name, target: &str, kind: RecordType, turn: usize, aliases: usize) -> Answer {
    let Ok(mut target) = Name::from_ascii(target) else {
        return Answer::NxDomain;
    };
    target.set_fqdn(true);
    let mut answers = vec![Record::from_rdata(name.clone(), zone.ttl, RData::CNAME(CNAME(target.clone())))];
    if kind == RecordType::CNAME || aliases == 0 {
        return Answer::records(answers);
    }
    if !zone.domain.zone_of(&target) {
        return Answer::Follow { answers, target };
    }
    match local(zone, &target, kind, turn, aliases - 1) {
        Answer::Records { answers: more, additionals } => {
            answers.extend(more);
            Answer::Records { answers, additionals }
        }
        Answer::Follow { answers: more, target } => {
            answers.extend(more);
            Answer::Follow { answers, target }
        }
        _ => Answer::records(answers),
    }
}

/// One place that a name of a Service leads to.
#[derive(PartialEq)]
struct Place {
    address: IpAddr,
    port: Option<u16>,
    /// Its label under the Service; none for the cluster IP.
    host: Option<String>,
}

/// Answers for a Service (`rest` empty), one of its endpoints or one of its ports.
fn of_service(zone: &Zone, name: &Name, service: &Service, rest: &[&str], kind: RecordType, turn: usize) -> Answer {
    let Some(mut places) = places(service, rest) else {
        return Answer::NxDomain;
    };
    if !places.is_empty() {
        let turn = turn % places.len();
        places.rotate_left(turn);
    }
    match kind {
        RecordType::A => {
            let mut addresses: Vec<Ipv4Addr> = Vec::new();
            for place in &places {
                match place.address {
                    IpAddr::V4(address) if !addresses.contains(&address) => addresses.push(address),
                    _ => {}
                }
            }
            let record = |ip: Ipv4Addr| Record::from_rdata(name.clone(), zone.ttl, RData::A(ip.into()));
            Answer::records(addresses.into_iter().map(record).collect())
        }
        RecordType::SRV => servers(zone, name, service, &places),
        _ => Answer::no_data(),
    }
}

/// `None` when there is no such name.
fn places(service: &Service, rest: &[&str]) -> Option<Vec<Place>> {
    let (label, port) = match *rest {
        [] => (None, None),
        [host] => (Some(host), None),
        [protocol, port] => (None, Some((port.strip_prefix('_')?, protocol.strip_prefix('_')?))),
        _ => return None,
    };
    let matches = |name: &str, protocol: state::Protocol| match port {
        Some((port, proto)) => {
            !name.is_empty() && name.eq_ignore_ascii_case(port) && protocol.to_string().eq_ignore_ascii_case(proto)
        }
        None => true,
    };
    if let (Address::ClusterIp(addresses), None) = (&service.address, label) {
        let ports: Vec<u16> =
            service.ports.iter().filter(|own| matches(&own.name, own.protocol)).map(|p| p.port).collect();
        if port.is_some() && ports.is_empty() {
            return None;
        }
        let place = |ip: &IpAddr, port| Place { address: *ip, port: Some(port), host: None };
        let of_address = |ip| ports.iter().map(move |port| place(ip, *port));
        return Some(addresses.iter().flat_map(of_address).collect());
    }
    if matches!(service.address, Address::ExternalName(_)) {
        return None;
    }
    let mut places = Vec::new();
    for endpoint in service.endpoints.iter().filter(|e| service.publishes(e)) {
        let own = host(endpoint);
        if label.is_some_and(|label| label != own) {
            continue;
        }
        let place = |port| Place { address: endpoint.address, port, host: Some(own.clone()) };
        let ports = endpoint.ports.iter().filter(|own| matches(&own.name, own.protocol));
        places.extend(ports.map(|own| place(Some(own.port))));
        if endpoint.ports.is_empty() && port.is_none() {
            places.push(place(None));
        }
    }
    (!places.is_empty()).then_some(places)
}

/// SRV records, and the addresses of their targets.
fn servers(zone: &Zone, name: &Name, service: &Service, places: &[Place]) -> Answer {
    let (mut answers, mut additionals) = (Vec::<Record>::new(), Vec::<Record>::new());
    let count = places.iter().filter(|place| place.port.is_some()).count();
    // As CoreDNS: all together weigh about a hundred.
    let weight = (100 / count.max(1)).max(1) as u16;
    for place in places {
        let Some(port) = place.port else { continue };
        let target = of(zone, service, place.host.as_deref());
        let srv = RData::SRV(SRV::new(0, weight, port, target.clone()));
        let record = Record::from_rdata(name.clone(), zone.ttl, srv);
        if !answers.contains(&record) {
            answers.push(record);
        }
        let address = match place.address {
            IpAddr::V4(address) => RData::A(address.into()),
            IpAddr::V6(address) => RData::AAAA(address.into()),
        };
        let address = Record::from_rdata(target, zone.ttl, address);
        if !additionals.contains(&address) {
            additionals.push(address);
        }
    }
    Answer::Records { answers, additionals }
}

/// The names that an address has: its Service's, or those that it has as an endpoint.
fn pointers(zone: &Zone, name: &Name, address: IpAddr) -> Answer {
    let mut targets = Vec::new();
    if let Some(service) = zone.snapshot.service_at(address) {
        targets.push(of(zone, service, None));
    } else {
        for key in zone.reverse.get(&address).into_iter().flatten() {
            let Some(service) = zone.snapshot.services.get(key) else {
                continue;
            };
            let published = service.endpoints.iter().filter(|e| e.address == address && service.publishes(e));
            targets.extend(published.map(|endpoint| of(zone, service, Some(&host(endpoint)))));
        }
        targets.dedup();
    }
    if targets.is_empty() {
        return Answer::Forward;
    }
    let record = |target| Record::from_rdata(name.clone(), zone.ttl, RData::PTR(PTR(target)));
    Answer::records(targets.into_iter().map(record).collect())
}

/// The name of a Service, or of an endpoint under it.
fn of(zone: &Zone, service: &Service, host: Option<&str>) -> Name {
    let labels: Vec<&str> = host.into_iter().chain([&*service.key.name, &*service.key.namespace, "svc"]).collect();
    zone.under(&labels)
}

/// The address in a name under in-addr.arpa.
fn reversed(name: &Name) -> Option<IpAddr> {
    let text = name.to_ascii().to_ascii_lowercase();
    let text = text.strip_suffix(".in-addr.arpa.").or_else(|| text.strip_suffix(".in-addr.arpa"))?;
    let mut octets = text.parse::<Ipv4Addr>().ok()?.octets();
    octets.reverse();
    Some(IpAddr::from(octets))
}

#[cfg(test)]
mod tests;
