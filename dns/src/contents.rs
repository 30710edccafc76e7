//! Everything in a zone, one Service after the other: what a transfer sends.

use std::collections::BTreeSet;
use std::iter::once;
use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::rr::rdata::{NS, PTR};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use state::{Address, Service};

use crate::answer::{Answer, address_record, answer, balancer_name, pointers, servers, service_name};
use crate::zone::{Zone, arpa, is_reverse, under};

/// All records of one of the zones, between two of its SOA record, as RFC 5936 §2.2 has it; made as
/// they are asked for. Left out are names that only exist because someone asks: of pods, of
/// topology zones, and the addresses of ports.
pub(crate) fn contents(zone: Arc<Zone>, origin: Name) -> impl Iterator<Item = Record> + Send {
    let soa = zone.soa(&origin);
    let servers = servers(&zone, &origin);
    let names: BTreeSet<&Name> = servers.iter().map(|(name, _)| name).collect();
    let ttl = zone.options.ttl;
    let mut head: Vec<Record> =
        names.into_iter().map(|name| Record::from_rdata(origin.clone(), ttl, RData::NS(NS(name.clone())))).collect();
    head.extend(servers.iter().map(|(name, address)| address_record(name.clone(), ttl, *address)));
    let (mut keys, mut addresses) = (Vec::new(), BTreeSet::new());
    if is_reverse(&origin) {
        addresses = zone.addresses().filter(|address| origin.zone_of(&arpa(*address))).collect();
    } else {
        keys = zone.snapshot.services.iter().map(|(key, _)| key.clone()).collect();
        keys.sort();
        head.extend(answers(&zone, &under(&["dns-version"], &origin), RecordType::TXT));
    }
    let (names, sources) = (zone.clone(), zone);
    let services = keys.into_iter().flat_map(move |key| {
        let service = sources.service(&key.namespace, &key.name).cloned();
        service.map(|service| of_service(&sources, &origin, &service)).unwrap_or_default()
    });
    let pointers = addresses.into_iter().flat_map(move |address| of_address(&names, address));
    once(soa.clone()).chain(head).chain(services).chain(pointers).chain(once(soa))
}

fn answers(zone: &Zone, name: &Name, kind: RecordType) -> Vec<Record> {
    match answer(zone, name, kind, 0) {
        Answer::Records { answers, .. } => answers,
        _ => Vec::new(),
    }
}

fn of_service(zone: &Zone, origin: &Name, service: &Service) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    let mut hosts = BTreeSet::new();
    for endpoint in zone.published(service) {
        let host = zone.options.label(endpoint);
        if hosts.insert((host.clone(), endpoint.address)) {
            let name = service_name(service, Some(&*host), origin);
            records.push(address_record(name, zone.options.ttl, endpoint.address));
        }
    }
    let own = service.ports.iter().map(|port| (&*port.name, port.protocol));
    let mut ports: BTreeSet<_> = own.collect();
    let mut kinds = vec![RecordType::A, RecordType::AAAA, RecordType::CNAME];
    if service.address == Address::Headless {
        ports = zone.published(service).flat_map(|e| e.ports.iter()).map(|p| (&*p.name, p.protocol)).collect();
    } else {
        kinds.push(RecordType::SRV);
    }
    for base in [service_name(service, None, origin), balancer_name(service, origin)] {
        records.extend(kinds.iter().flat_map(|kind| answers(zone, &base, *kind)));
        for (name, protocol) in ports.iter().filter(|(name, _)| !name.is_empty()) {
            let labels = [format!("_{name}"), format!("_{protocol}")].map(|label| label.to_ascii_lowercase());
            records.extend(answers(zone, &under(&labels.each_ref().map(String::as_str), &base), RecordType::SRV));
        }
    }
    records
}

fn of_address(zone: &Zone, address: IpAddr) -> Vec<Record> {
    let record = |name| Record::from_rdata(arpa(address), zone.options.ttl, RData::PTR(PTR(name)));
    pointers(zone, address).into_iter().map(record).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    /// Every name of the Snapshot whose records are transferred, by the Snapshot alone.
    fn names(zone: &Zone) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for (key, service) in zone.snapshot.services.iter() {
            let base = format!("{}.{}.svc.cluster.local.", key.name, key.namespace);
            let ready: Vec<_> = service.endpoints.iter().filter(|e| service.publishes(e)).collect();
            let exists = match &service.address {
                Address::ClusterIp(addresses) => !addresses.is_empty(),
                Address::Headless => !ready.is_empty(),
                Address::ExternalName(target) => target.parse::<IpAddr>().is_err(),
            };
            names.extend(exists.then(|| base.clone()));
            for endpoint in &ready {
                let dashed = endpoint.address.to_string().replace(['.', ':'], "-");
                let dashed = if dashed.ends_with('-') { dashed + "0" } else { dashed };
                names.insert(format!("{}.{base}", endpoint.hostname.as_deref().unwrap_or(&dashed)));
            }
            let port = |port: &state::Port, base: &str| {
                format!("_{}._{}.{base}", port.name, port.protocol.to_string().to_lowercase())
            };
            let ports = || service.ports.iter().filter(|port| !port.name.is_empty());
            names.extend(ports().filter(|_| exists).map(|own| port(own, &base)));
            let balancer = format!("{}.{}.lb.cluster.local.", key.name, key.namespace);
            if service.balancers().next().is_some() {
                names.extend(ports().map(|own| port(own, &balancer)));
                names.insert(balancer);
            } else if !service.load_balancer_hosts.is_empty() {
                names.insert(balancer);
            }
        }
        names.extend(["cluster.local.", "ns.dns.cluster.local.", "dns-version.cluster.local."].map(String::from));
        names
    }

    #[test]
    fn what_is_transferred_is_the_snapshot() {
        let zone = Arc::new(fixture::zone(fixture::outer().snapshot()));
        let mut found = BTreeSet::new();
        for origin in &zone.options.zones {
            let records: Vec<Record> = contents(zone.clone(), origin.clone()).collect();
            let [soa, between @ .., last] = &records[..] else { panic!("{records:?}") };
            assert_eq!((soa, soa.record_type()), (last, RecordType::SOA));
            for record in between {
                let known = answers(&zone, &record.name, record.record_type());
                assert!(known.contains(record), "{record} is not among {known:?}");
                assert!(origin.zone_of(&record.name), "{record} in {origin}");
                found.insert(record.name.to_ascii());
            }
            let distinct: BTreeSet<String> = between.iter().map(Record::to_string).collect();
            assert_eq!(distinct.len(), between.len(), "each record once");
        }
        let (reverse, forward): (BTreeSet<_>, BTreeSet<_>) =
            found.into_iter().partition(|name| name.ends_with(".arpa."));
        assert_eq!(forward, names(&zone));
        let published = zone.addresses().map(|address| arpa(address).to_ascii());
        let own = reverse.iter().filter(|name| !name.starts_with("ns.dns.") && name.matches('.').count() > 2);
        assert_eq!(own.cloned().collect::<BTreeSet<_>>(), published.collect());
    }
}
