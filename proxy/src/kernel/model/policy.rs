//! What Kubernetes demands of a connection, said once more and in other words than in the data plane.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use state::{Endpoint, Port, Service, Snapshot};

use super::{Outcome, Packet};
use crate::kernel::Config;
use crate::kernel::frontends::Frontend;

/// By which of its addresses a Service was asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    ClusterIp,
    NodePort,
    ExternalIp,
    LoadBalancer,
}

/// Where a connection may go, each with the same probability.
pub(super) fn demanded(snapshot: &Snapshot, config: &Config, packet: Packet) -> BTreeSet<Outcome> {
    let mut services: Vec<_> = snapshot.services.iter().map(|(_, service)| service).collect();
    services.sort_by_key(|service| &service.key);
    for service in services {
        for port in &service.ports {
            if let Some(asked) = asked(service, port, packet.to, config) {
                return serve(snapshot, config, packet, service, port, asked);
            }
        }
    }
    let here = |address: IpAddr| config.node_addresses.contains(&address);
    let mut pods: Vec<_> = snapshot.pods.iter().map(|(_, pod)| pod).collect();
    pods.sort_by_key(|pod| &pod.key);
    for pod in pods.iter().filter(|pod| config.own_network && pod.node.as_deref() == Some("node")) {
        for port in
            pod.host_ports.iter().filter(|port| (port.protocol, port.port) == (packet.to.protocol, packet.to.port))
        {
            let same = |ip: &&IpAddr| ip.is_ipv4() == packet.to.address.is_ipv4();
            if let Some(ip) = pod.ips.iter().find(same)
                && port.address.map_or(here(packet.to.address), |address| address == packet.to.address)
            {
                return [arrive(config, packet, SocketAddr::new(*ip, port.target), false)].into();
            }
        }
    }
    let within = |networks: &[ipnet::IpNet], address: IpAddr| networks.iter().any(|network| network.contains(&address));
    let inside = within(&config.pod_cidrs, packet.to.address) || here(packet.to.address);
    if within(&config.service_cidrs, packet.to.address) {
        return [Outcome::Refused].into();
    }
    let hidden = config.own_network && within(&config.pod_cidrs, packet.from) && !inside;
    [Outcome::Passed(if hidden { node(config, packet) } else { packet.from })].into()
}

fn asked(service: &Service, port: &Port, to: Frontend, config: &Config) -> Option<Asked> {
    let family = service.cluster_ips().iter().any(|ip| ip.is_ipv4() == to.address.is_ipv4());
    if port.protocol != to.protocol || service.other_proxy || !family {
        return None;
    }
    let own = port.port == to.port;
    match to.address {
        ip if own && service.cluster_ips().contains(&ip) => Some(Asked::ClusterIp),
        ip if port.node_port == Some(to.port) && config.node_addresses.contains(&ip) => Some(Asked::NodePort),
        ip if own && service.external_ips.contains(&ip) => Some(Asked::ExternalIp),
        ip if own && service.load_balancer_ips.contains(&ip) => Some(Asked::LoadBalancer),
        _ => None,
    }
}

fn serve(
    snapshot: &Snapshot,
    config: &Config,
    packet: Packet,
    service: &Service,
    port: &Port,
    asked: Asked,
) -> BTreeSet<Outcome> {
    let from_pod = config.pod_cidrs.iter().any(|pods| pods.contains(&packet.from));
    let from_node = config.node_addresses.contains(&packet.from);
    let local = match asked {
        Asked::ClusterIp => service.internal_local,
        _ => service.external_local && !from_pod && !from_node,
    };
    let all: Vec<&Endpoint> =
        service.endpoints.iter().filter(|e| e.address.is_ipv4() == packet.to.address.is_ipv4()).collect();
    let on_node = |e: &&&Endpoint| e.node.as_deref() == Some("node");
    let near: Vec<&Endpoint> = all.iter().filter(|e| !local || on_node(e)).copied().collect();
    let ready: Vec<&Endpoint> = near.iter().filter(|e| e.ready).copied().collect();
    let leaving: Vec<&Endpoint> = near.iter().filter(|e| e.serving && e.terminating).copied().collect();
    let zone = snapshot.node("node").and_then(|node| node.zone.as_deref());
    let for_node = hinted(&ready, Some("node"), |e| e.hints.iter().flat_map(|h| &h.nodes).map(|n| &**n).collect());
    let for_zone = hinted(&ready, zone, |e| e.hints.iter().flat_map(|h| &h.zones).map(|n| &**n).collect());
    let chosen = match (for_node, for_zone) {
        _ if ready.is_empty() => leaving,
        _ if local => ready,
        (Some(hinted), _) | (None, Some(hinted)) => hinted,
        (None, None) => ready,
    };
    if chosen.is_empty() {
        let elsewhere = local && all.iter().any(|e| e.ready || e.serving && e.terminating);
        return [if elsewhere { Outcome::Dropped } else { Outcome::Refused }].into();
    }
    let ranges: Vec<_> =
        service.source_ranges.iter().filter(|net| net.addr().is_ipv4() == packet.from.is_ipv4()).collect();
    if asked == Asked::LoadBalancer && !ranges.is_empty() && !ranges.iter().any(|net| net.contains(&packet.from)) {
        return [Outcome::Dropped].into();
    }
    let hides = match asked {
        Asked::ClusterIp => !from_pod,
        _ => !service.external_local,
    };
    let target = |e: &&Endpoint| e.ports.iter().find(|own| own.name == port.name).map(|own| own.port);
    chosen
        .iter()
        .map(|e| arrive(config, packet, SocketAddr::new(e.address, target(e).expect("a port")), hides))
        .collect()
}

/// Those of the ready endpoints that are for a place, if all have hints and some are.
fn hinted<'a>(
    ready: &[&'a Endpoint],
    place: Option<&str>,
    hints: impl Fn(&'a Endpoint) -> Vec<&'a str>,
) -> Option<Vec<&'a Endpoint>> {
    let all = ready.iter().all(|e| !hints(e).is_empty());
    let here: Vec<&Endpoint> = ready.iter().filter(|e| place.is_some_and(|p| hints(e).contains(&p))).copied().collect();
    (all && !here.is_empty()).then_some(here)
}

/// The client keeps its address unless it is to be hidden, would talk to itself, or is this node, which has one for all
/// that it sends. What is for a program of this node never leaves, and so needs no other address.
fn arrive(config: &Config, packet: Packet, endpoint: SocketAddr, hides: bool) -> Outcome {
    let from_node = config.node_addresses.contains(&packet.from);
    let stays = config.node_addresses.contains(&endpoint.ip()) && !from_node;
    let changes = (hides || packet.from == endpoint.ip() || from_node) && !stays;
    Outcome::To(endpoint, if changes { node(config, packet) } else { packet.from })
}

fn node(config: &Config, packet: Packet) -> IpAddr {
    let family = |address: &&IpAddr| address.is_ipv4() == packet.from.is_ipv4();
    *config.node_addresses.iter().find(family).expect("an address of the node")
}
