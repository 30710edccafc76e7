use std::collections::BTreeSet;

use super::policy::demanded;
use super::*;
use crate::world::{PORTS, World, ip};

/// A node with two addresses of each family.
fn config(own_network: bool) -> Config {
    let nets = |of: &[&str]| of.iter().map(|net| net.parse().expect("a network")).collect();
    Config {
        node_addresses: [ip(true, 7, 1), ip(true, 7, 2), ip(false, 7, 1), ip(false, 7, 2)].into(),
        pod_cidrs: nets(&["10.244.0.0/16", "2001:db8:244::/48"]),
        service_cidrs: nets(&["10.96.0.0/16", "2001:db8:96::/48"]),
        dns: vec![ip(true, 96, 200)],
        local: vec![ip(false, 96, 200)],
        own_network,
        ..super::super::tests::config()
    }
}

/// Connections to all that there may be, and to some that there is not, from pods, the node and outside.
fn packets() -> Vec<Packet> {
    let mut packets = Vec::new();
    for v4 in [true, false] {
        let clients = [(244, 0), (244, 1), (244, 99), (7, 1), (7, 2), (9, 1), (50, 9), (244, 7)];
        let clients = clients.map(|(net, host)| ip(v4, net, host));
        let addresses = (0..9).map(|host| ip(v4, 96, host));
        let addresses = addresses.chain((0..3).flat_map(|host| [ip(v4, 50, host), ip(v4, 51, host)]));
        let addresses: Vec<IpAddr> =
            addresses.chain([ip(v4, 7, 1), ip(v4, 7, 2), ip(v4, 244, 3), ip(v4, 60, 1)]).collect();
        for from in clients {
            for address in &addresses {
                for (protocol, port, _) in PORTS {
                    let ports = if address.to_string().contains("7") { 30000..30005 } else { port..port + 1 };
                    let to = ports.map(|port| Frontend { address: *address, protocol, port });
                    packets.extend(to.map(|to| Packet { from, to }));
                }
            }
        }
    }
    packets
}

/// All that may become of a packet of a new client, over so many random numbers.
fn outcomes(model: &mut Model, packet: Packet, config: &Config, count: usize) -> BTreeSet<Outcome> {
    let one = |random| {
        model.forget();
        let outcome = model.send(packet, config, random);
        if model.remembers() {
            assert_eq!(model.send(packet, config, random + 1), outcome, "a client stays");
        }
        outcome
    };
    (0..count as u32).map(one).collect()
}

#[test]
fn every_connection_goes_where_the_policy_demands() {
    let packets = packets();
    let mut seen = BTreeSet::new();
    for seed in 0..6 {
        let (mut world, config) = (World::new(seed), config(seed % 3 > 0));
        (0..40).for_each(|_| world.turn());
        let snapshot = world.snapshot();
        let mut model = Model::new(snapshot.clone(), &config);
        for packet in &packets {
            let demanded = demanded(&snapshot, &config, *packet);
            let found = outcomes(&mut model, *packet, &config, demanded.len());
            let at = |service: &&Arc<state::Service>| format!("{service:?}").contains(&packet.to.address.to_string());
            let services = snapshot.services.iter().map(|(_, service)| service);
            assert_eq!(found, demanded, "seed {seed}, {packet:?}, {:#?}", services.filter(at).collect::<Vec<_>>());
            seen.extend(
                found
                    .iter()
                    .map(|outcome| (format!("{outcome:?}").split('(').next().map(str::to_owned), model.remembers())),
            );
        }
    }
    assert_eq!(seen.len(), 5, "every kind of outcome occurs, and clients that are remembered: {seen:?}");
}

#[test]
fn changes_in_sequence_equal_a_fresh_load() {
    for seed in 0..8 {
        let (mut world, config) = (World::new(seed), config(seed % 2 == 0));
        let mut model = Model::new(world.snapshot(), &config);
        for _ in 0..40 {
            (0..world.dice.roll(4)).for_each(|_| world.turn());
            model.step(world.snapshot(), &config);
            let fresh = Model::new(world.snapshot(), &config);
            assert_eq!(model.loaded.rules, fresh.loaded.rules, "seed {seed}");
            assert_eq!(model.sets, fresh.sets, "seed {seed}");
        }
    }
}
