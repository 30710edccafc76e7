//! A model of nf_tables for tests: it walks our own chains over a packet, with the elements that the kernel would get.

mod policy;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use state::Snapshot;

use super::batch::{Batch, DELETE_ELEMENT, NEW_ELEMENT, NEW_SET};
use super::chains::{Chain, FORWARD, INPUT, chains};
use super::expr::{Expr, Field, Register, Verdict};
use super::family::{Family, octets};
use super::frontends::Frontend;
use super::{Config, Loaded, table};
use crate::netlink::Attrs;

const PREROUTING: u32 = 0;
const OUTPUT: u32 = 3;
const POSTROUTING: u32 = 4;
/// The state "new", and the status "destination translated".
const NEW: u32 = 8;
const TRANSLATED: u32 = 0x20;

/// What became of the first packet of a connection, and whose address it has then as its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    To(SocketAddr, IpAddr),
    Refused,
    Dropped,
    /// It goes where it was sent.
    Passed(IpAddr),
}

/// The first packet of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) from: IpAddr,
    pub(crate) to: Frontend,
}

/// What the kernel has, and the data plane that put it there.
#[derive(Default)]
pub(crate) struct Model {
    pub(super) loaded: Loaded,
    chains: BTreeMap<(Family, String), Arc<Chain>>,
    pub(crate) sets: Sets,
}

type Sets = BTreeMap<(Family, String), Set>;

/// A set or map: how long a key is, and the elements: from the first key to the last key and the data.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Set {
    length: usize,
    pub(crate) elements: BTreeMap<Vec<u8>, (Vec<u8>, Vec<u8>)>,
}

/// A packet on its way.
struct Flow {
    family: Family,
    from: IpAddr,
    to: SocketAddr,
    original: SocketAddr,
    protocol: u8,
    priority: [u8; 4],
    tracked: bool,
    random: u32,
    registers: [Option<[u8; 4]>; 16],
}

/// How a step ends.
enum Step {
    Next,
    /// The rule does not match.
    Break,
    Verdict(Verdict),
    Refuse,
}

impl Model {
    /// A fresh load of a Snapshot.
    pub(crate) fn new(snapshot: Arc<Snapshot>, config: &Config) -> Self {
        let mut model = Model::default();
        let mut batch = Batch::default();
        table::replace(&mut batch, "model", config);
        model.take(&batch);
        for family in config.families() {
            model.chains.extend(
                chains(family, config).into_iter().map(|chain| ((family, chain.name.clone()), Arc::new(chain))),
            );
        }
        model.step(snapshot, config);
        model
    }

    /// Goes on to a Snapshot by the difference.
    pub(crate) fn step(&mut self, snapshot: Arc<Snapshot>, config: &Config) {
        let mut batch = Batch::default();
        self.loaded.step(snapshot, &mut batch, "model", config);
        for (family, pick) in &self.loaded.picks {
            self.chains.entry((*family, pick.chain())).or_insert_with(|| Arc::new(pick.build(*family)));
        }
        self.take(&batch);
    }

    /// Does with the sets what the kernel would do, which takes all of it or nothing.
    fn take(&mut self, batch: &Batch) {
        for item in batch.messages() {
            let Some(family) = Family::numbered(item.family) else {
                continue;
            };
            let name = (family, item.attrs.text(2).unwrap_or_default().to_owned());
            let elements = item.attrs.inner(3).each().map(|(.., element)| Attrs(element));
            match item.kind & 0xff {
                NEW_SET => {
                    let length = item.attrs.number(5).expect("a length") as usize;
                    self.sets.insert(name, Set { length, elements: BTreeMap::new() });
                }
                NEW_ELEMENT => {
                    let set = self.sets.get_mut(&name).expect("a set");
                    for element in elements {
                        let key = element.inner(1).get(1).expect("a key").to_vec();
                        let last = element.inner(10).get(1).map_or_else(|| key.clone(), <[u8]>::to_vec);
                        let data = element.inner(2).get(1).or(element.inner(2).get(2)).unwrap_or_default().to_vec();
                        assert_eq!(key.len(), set.length, "a key of {}", name.1);
                        assert_eq!(
                            set.elements.insert(key, (last, data)),
                            None,
                            "two values for one key in {}",
                            name.1
                        );
                    }
                }
                DELETE_ELEMENT => {
                    let set = self.sets.get_mut(&name).expect("a set");
                    for element in elements {
                        let key = element.inner(1).get(1).expect("a key");
                        assert!(set.elements.remove(key).is_some(), "removes what is not there from {}", name.1);
                    }
                }
                _ => {}
            }
        }
    }

    /// Forgets the clients with session affinity.
    pub(crate) fn forget(&mut self) {
        for family in Family::ALL {
            self.sets.entry((family, table::AFFINITY.into())).or_default().elements.clear();
        }
    }

    /// True if some client has session affinity.
    pub(crate) fn remembers(&self) -> bool {
        self.sets.iter().any(|((_, name), set)| name == table::AFFINITY && !set.elements.is_empty())
    }

    /// Sends a packet through the hooks of the node, as its kernel does with a random number.
    pub(crate) fn send(&mut self, packet: Packet, config: &Config, random: u32) -> Outcome {
        let to = SocketAddr::new(packet.to.address, packet.to.port);
        let protocol = packet.to.value().bytes()[octets(to.ip()).len()];
        let mut flow = Flow {
            family: Family::of(packet.from),
            from: packet.from,
            to,
            original: to,
            protocol,
            priority: [0; 4],
            tracked: true,
            random,
            registers: [None; 16],
        };
        let is_here = |address: IpAddr| {
            [&config.node_addresses, &config.local, &config.dns].into_iter().flatten().any(|here| *here == address)
        };
        let mut hooks = vec![if is_here(packet.from) { OUTPUT } else { PREROUTING }];
        let mut end = None;
        while let (None, Some(hook)) = (end, hooks.pop()) {
            end = self.hook(hook, &mut flow, config);
            match hook {
                PREROUTING => hooks.push(if is_here(flow.to.ip()) { INPUT } else { FORWARD }),
                OUTPUT if is_here(flow.to.ip()) => hooks.extend([INPUT, POSTROUTING]),
                OUTPUT | FORWARD => hooks.push(POSTROUTING),
                _ => {}
            }
        }
        end.unwrap_or(if flow.to == flow.original {
            Outcome::Passed(flow.from)
        } else {
            Outcome::To(flow.to, flow.from)
        })
    }

    /// The chains of a hook, in their order. None if the packet goes on.
    fn hook(&mut self, hook: u32, flow: &mut Flow, config: &Config) -> Option<Outcome> {
        let here = |chain: &Arc<Chain>| chain.base.as_ref().is_some_and(|base| base.hook == hook);
        let ours = self.chains.iter().filter(|((family, _), chain)| *family == flow.family && here(chain));
        let mut bases: Vec<Arc<Chain>> = ours.map(|(_, chain)| chain.clone()).collect();
        bases.sort_by_key(|chain| chain.base.as_ref().map(|base| base.priority));
        bases.iter().find_map(|chain| {
            let translates = chain.base.as_ref().is_some_and(|base| base.kind == "nat");
            if translates && !flow.tracked { None } else { self.chain(chain, flow, config) }
        })
    }

    fn chain(&mut self, chain: &Chain, flow: &mut Flow, config: &Config) -> Option<Outcome> {
        for rule in &chain.rules {
            // What one rule puts into registers is not for the next one.
            flow.registers = [None; 16];
            for expr in rule {
                match flow.expr(expr, &mut self.sets, config) {
                    Step::Next => {}
                    Step::Break => break,
                    Step::Refuse => return Some(Outcome::Refused),
                    Step::Verdict(Verdict::Drop) => return Some(Outcome::Dropped),
                    Step::Verdict(Verdict::Accept) => return None,
                    Step::Verdict(Verdict::Goto(next)) => {
                        let next = self.chains.get(&(flow.family, next)).expect("a chain").clone();
                        return self.chain(&next, flow, config);
                    }
                }
            }
        }
        None
    }
}

impl Flow {
    fn expr(&mut self, expr: &Expr, sets: &mut Sets, config: &Config) -> Step {
        let goes = |on: bool| if on { Step::Next } else { Step::Break };
        match expr {
            Expr::Load(field, to) => match self.field(*field) {
                Some(value) => self.write(*to, &value),
                None => return Step::Break,
            },
            Expr::Set(bytes, to) => self.write(*to, bytes),
            Expr::Prioritise(from) => self.priority = self.read(*from, 4).try_into().expect("a register"),
            Expr::Bits { register, mask, value, equal } => {
                let masked = self.read(*register, mask.len()).iter().zip(mask).map(|(a, b)| a & b).collect::<Vec<_>>();
                return goes((masked == *value) == *equal);
            }
            Expr::Compare { register, value, equal } => {
                return goes((self.read(*register, value.len()) == *value) == *equal);
            }
            Expr::Contains { set: name, register, member } => {
                let set = self.set(name, sets);
                return goes(set.find(&self.read(*register, set.length)).is_some() == *member);
            }
            Expr::Map { map, from, to } => {
                let set = self.set(map, sets);
                match set.find(&self.read(*from, set.length)) {
                    Some(data) => self.write(*to, &data),
                    None => return Step::Break,
                }
            }
            Expr::VerdictMap { map, register } => {
                let set = self.set(map, sets);
                let found = set.find(&self.read(*register, set.length));
                return found.map_or(Step::Break, |data| Step::Verdict(verdict(Attrs(&data))));
            }
            Expr::Random { modulus, offset, to } => self.write(*to, &(offset + self.random % modulus).to_ne_bytes()),
            Expr::Remember { map, key, data, .. } => {
                let set = self.set(map, sets);
                let (key, data) = (self.read(*key, set.length), self.read(*data, 4));
                set.elements.entry(key.clone()).or_insert((key, data));
            }
            Expr::Forget { map, key, .. } => {
                let set = self.set(map, sets);
                set.elements.remove(&self.read(*key, set.length));
            }
            Expr::Verdict(verdict) => return Step::Verdict(verdict.clone()),
            Expr::Dnat(address, port) => {
                let address = self.read(*address, self.family.length() as usize);
                let address =
                    Attrs(&[&(address.len() as u16 + 4).to_ne_bytes()[..], &[1, 0], &address].concat()).address(1);
                let port = self.read(*port, 2);
                self.to = SocketAddr::new(address.expect("an address"), u16::from_be_bytes([port[0], port[1]]));
                return Step::Verdict(Verdict::Accept);
            }
            Expr::Snat(_) | Expr::Masquerade => {
                let node = config.node_address(self.family).expect("an address");
                assert!(!matches!(expr, Expr::Snat(address) if *address != node));
                self.from = node;
                return Step::Verdict(Verdict::Accept);
            }
            Expr::Reset => {
                assert_eq!(self.protocol, 6, "only TCP has a reset");
                return Step::Refuse;
            }
            Expr::Unreachable => return Step::Refuse,
            Expr::Untrack => self.tracked = false,
            Expr::Count => {}
        }
        Step::Next
    }

    fn set<'a>(&self, name: &str, sets: &'a mut Sets) -> &'a mut Set {
        sets.get_mut(&(self.family, name.to_owned())).unwrap_or_else(|| panic!("no set {name}"))
    }

    /// None where the packet does not have it.
    fn field(&self, field: Field) -> Option<Vec<u8>> {
        Some(match field {
            Field::Saddr => octets(self.from),
            Field::Daddr => octets(self.to.ip()),
            // Nobody serves there.
            Field::Sport => vec![0xff, 0xfe],
            Field::Dport => self.to.port().to_be_bytes().into(),
            Field::Transport => vec![self.protocol],
            Field::Family => vec![self.family.number()],
            Field::Priority => self.priority.into(),
            _ if !self.tracked => return None,
            Field::OriginalDaddr => octets(self.original.ip()),
            Field::OriginalDport => self.original.port().to_be_bytes().into(),
            Field::Status => (if self.to == self.original { 0 } else { TRANSLATED }).to_ne_bytes().into(),
            Field::State => NEW.to_ne_bytes().into(),
        })
    }

    fn write(&mut self, at: Register, value: &[u8]) {
        for (register, bytes) in self.registers[at as usize..].iter_mut().zip(value.chunks(4)) {
            let mut padded = [0; 4];
            padded[..bytes.len()].copy_from_slice(bytes);
            *register = Some(padded);
        }
    }

    fn read(&self, at: Register, length: usize) -> Vec<u8> {
        let registers = self.registers[at as usize..].iter().take(length.div_ceil(4));
        let mut bytes: Vec<u8> = registers.flat_map(|register| register.expect("a value in the register")).collect();
        bytes.truncate(length);
        bytes
    }
}

impl Set {
    /// The data of the element that a key is in.
    fn find(&self, key: &[u8]) -> Option<Vec<u8>> {
        let (_, (last, data)) = self.elements.range(..=key.to_vec()).next_back()?;
        (key <= last.as_slice()).then(|| data.clone())
    }
}

fn verdict(data: Attrs<'_>) -> Verdict {
    match (data.number(1), data.text(2)) {
        (Some(0), None) => Verdict::Drop,
        (Some(0xffff_fffc), Some(chain)) => Verdict::Goto(chain.to_owned()),
        other => panic!("the verdict {other:?}"),
    }
}

mod tests;
