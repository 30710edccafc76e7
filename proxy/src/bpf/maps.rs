//! The kernel's maps that the programs read, and how they are brought from one Snapshot to the next.
//!
//! A Service's endpoints have a generation, which is part of their keys. A change writes those of
//! the next generation, swaps the one value that names the generation, and only then removes what
//! was before. So a program sees either the old or the new endpoints; one that is in between finds
//! none and leaves the connection to nftables.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use state::{Protocol, Snapshot};

use super::Config;
use super::call::{Kind, Map};
use super::services::{Steps, steps};
use crate::Error;

/// The length of a spot: address (16 bytes, IPv4 mapped into IPv6), port (big-endian), protocol
/// (IANA's number), direction.
pub(crate) const SPOT: i16 = 20;
/// Offsets in a spot.
pub(crate) const PORT: i16 = 16;
pub(crate) const PROTOCOL: i16 = 18;
pub(crate) const DIRECTION: i16 = 19;
/// The direction of endpoints whose Service is looked up; 0 for all others.
pub(crate) const REVERSE: i32 = 1;
/// Protocols (IANA).
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;

/// An address and port in a map.
type Spot = [u8; SPOT as usize];
/// A frontend, its generation and an index.
type Slot = [u8; SPOT as usize + 8];
/// A frontend and an endpoint.
type Pair = [u8; 2 * SPOT as usize];
/// A map of what sockets did: (socket's cookie, spot) → spot.
pub(crate) type Flows = Map<{ 8 + SPOT as usize }, { SPOT as usize }>;

/// How many ways of UDP sockets are remembered, two for each socket and Service; and how many
/// connections of TCP can tell their Service as their peer. Both take their memory at once, 0.1
/// kB for each.
const REMEMBERED: u32 = 8192;
/// The least and the most that the other maps have room for. Room costs 16 bytes, an element 0.1 kB.
const ROOM: (usize, usize) = (1024, 1 << 20);

/// What sockets did. It goes on from one set of programs to the next.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) flows: Flows,
    pub(crate) peers: Flows,
}

impl Memory {
    /// That of programs that run, or a new one.
    pub(crate) fn new(mut found: Vec<OwnedFd>) -> Result<Self, Error> {
        let mut map = |name| match Map::found(name, &mut found) {
            Some(map) => Ok(map),
            None => Map::new(name, Kind::Recent, REMEMBERED),
        };
        Ok(Memory { flows: map("flows")?, peers: map("peers")? })
    }
}

/// What a Snapshot leads to.
#[derive(Debug)]
pub(crate) struct Maps {
    /// Frontend → generation and number of endpoints (each 32 bits).
    pub(crate) services: Map<{ SPOT as usize }, 8>,
    /// Frontend, generation and index → endpoint.
    pub(crate) endpoints: Map<{ size_of::<Slot>() }, { SPOT as usize }>,
    /// Frontends of UDP with each of their endpoints.
    pub(crate) pairs: Map<{ size_of::<Pair>() }, 1>,
    snapshot: Arc<Snapshot>,
    /// Endpoints of the generations before. They stay until the next change, because the kernel
    /// gives the memory of a removed element to the next one while a program may still read it.
    stale: Vec<Slot>,
}

impl Maps {
    /// New ones with what a Snapshot says, and room for as much again.
    pub(crate) fn new(snapshot: &Arc<Snapshot>, config: &Config) -> Result<Self, Error> {
        let steps = steps(&Snapshot::default(), snapshot, config);
        let room = |need: usize| (2 * need).next_power_of_two().clamp(ROOM.0, ROOM.1) as u32;
        let endpoints = room(steps.values().map(|step| step.new.len()).sum());
        let mut maps = Maps {
            services: Map::new("services", Kind::Hash, room(steps.len()))?,
            endpoints: Map::new("endpoints", Kind::Hash, endpoints)?,
            pairs: Map::new("pairs", Kind::Hash, endpoints)?,
            snapshot: snapshot.clone(),
            stale: Vec::new(),
        };
        maps.apply(&steps)?;
        Ok(maps)
    }

    /// Goes on to a Snapshot. After an error they are good for nothing more.
    pub(crate) fn follow(&mut self, snapshot: &Arc<Snapshot>, config: &Config) -> Result<(), Error> {
        let steps = steps(&self.snapshot, snapshot, config);
        self.snapshot = snapshot.clone();
        self.apply(&steps)
    }

    fn apply(&mut self, steps: &Steps) -> Result<(), Error> {
        let (mut services, mut slots, mut pairs) = (Vec::new(), Vec::new(), Vec::new());
        let (mut no_services, mut no_slots, mut no_pairs) = (Vec::new(), Vec::new(), Vec::new());
        for (frontend, step) in steps {
            let key = spot(frontend.socket, frontend.protocol);
            let generation = self.services.get(&key).map_or(0, generation);
            let next = generation.wrapping_add(1);
            no_slots.extend((0..step.old.len()).map(|index| slot(&key, generation, index as u32)));
            for (index, endpoint) in (0..).zip(&step.new) {
                slots.push((slot(&key, next, index), spot(*endpoint, frontend.protocol)));
            }
            if frontend.protocol == Protocol::Udp {
                let pair = |endpoint: &&SocketAddr| pair(&key, &spot(**endpoint, frontend.protocol));
                pairs.extend(step.new.iter().filter(|new| !step.old.contains(new)).map(|new| (pair(&new), [1])));
                no_pairs.extend(step.old.iter().filter(|old| !step.new.contains(old)).map(|old| pair(&old)));
            }
            match step.new.len() as u32 {
                0 => no_services.push(key),
                count => services.push((key, value(next, count))),
            }
        }
        self.endpoints.delete(&std::mem::replace(&mut self.stale, no_slots))?;
        self.endpoints.put(&slots)?;
        self.pairs.put(&pairs)?;
        self.services.put(&services)?;
        self.services.delete(&no_services)?;
        self.pairs.delete(&no_pairs)
    }
}

/// The key or value of an address and port.
fn spot(socket: SocketAddr, protocol: Protocol) -> Spot {
    let mut spot = [0; SPOT as usize];
    let address = match socket.ip() {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    spot[..PORT as usize].copy_from_slice(&address.octets());
    spot[PORT as usize..PROTOCOL as usize].copy_from_slice(&socket.port().to_be_bytes());
    spot[PROTOCOL as usize] = if protocol == Protocol::Udp { UDP } else { TCP };
    spot
}

fn slot(frontend: &Spot, generation: u32, index: u32) -> Slot {
    let mut slot = [0; size_of::<Slot>()];
    slot[..SPOT as usize].copy_from_slice(frontend);
    slot[SPOT as usize..].copy_from_slice(&value(generation, index));
    slot
}

fn pair(frontend: &Spot, endpoint: &Spot) -> Pair {
    let mut pair = [0; size_of::<Pair>()];
    pair[..SPOT as usize].copy_from_slice(frontend);
    pair[SPOT as usize..].copy_from_slice(endpoint);
    pair
}

/// The generation in a value of `services`.
fn generation(value: [u8; 8]) -> u32 {
    value.first_chunk().map_or(0, |half| u32::from_ne_bytes(*half))
}

fn value(generation: u32, number: u32) -> [u8; 8] {
    let mut value = [0; 8];
    value[..4].copy_from_slice(&generation.to_ne_bytes());
    value[4..].copy_from_slice(&number.to_ne_bytes());
    value
}
