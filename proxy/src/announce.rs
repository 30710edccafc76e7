//! Who answers for a load balancer's address on the wire: one node announces it, by ARP (RFC 826, 5227) and Neighbour
//! Discovery (RFC 4861), as MetalLB's layer 2 mode does; another one, when that node dies.
//!
//! `election` says which node; `health` asks those ranked ahead whether they live; `links` says on which links; `arp` and
//! `ndp` are the frames, and `wire` the sockets. The packets that then come are the business of `kernel`. Nothing is
//! left in the kernel when this ends.

mod arp;
mod election;
mod event;
mod health;
mod links;
mod ndp;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use state::{Key, Service, Snapshot};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use election::{Claim, Probe};
use health::Health;
use links::{Link, Machine, Watch};
use wire::{Frame, Question, Wire};

/// How often an address that came is told everyone, and with which pauses: one of these may get lost.
const TOLD: u8 = 3;
const PAUSE: Duration = Duration::from_secs(1);
/// How long after a failure it is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// What is announced for whom.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// This node's name.
    pub node_name: String,
    /// Links whose names begin with this are left out, as those of the cluster's own pods; empty for none.
    pub skip_links: String,
}

/// Announces one node's addresses in the network namespace that it runs in.
pub struct Announcer {
    config: Config,
    /// The Snapshot that was looked at last, and its Services with addresses.
    seen: Arc<Snapshot>,
    services: BTreeMap<Key, Arc<Service>>,
    claims: BTreeMap<IpAddr, Claim>,
    held: BTreeMap<IpAddr, Held>,
    wire: Wire,
    /// What was known of the machine, as long as nothing changed there.
    machine: Option<(Machine, Watch)>,
    /// The failure that was reported last, so that it is reported once.
    failure: Option<String>,
    /// Where the Services are told who announces them.
    client: Option<kube::Client>,
}

/// An address that this node announces.
struct Held {
    links: Vec<Link>,
    /// How often it is still to be told, and when.
    left: u8,
    due: Instant,
}

impl Announcer {
    /// One that announces nothing yet.
    pub fn new(config: Config) -> Self {
        Announcer {
            config,
            seen: Arc::default(),
            services: BTreeMap::new(),
            claims: BTreeMap::new(),
            held: BTreeMap::new(),
            wire: Wire::default(),
            machine: None,
            failure: None,
            client: None,
        }
    }

    /// Has Services told by Events which node announces their addresses, as MetalLB does.
    pub fn telling(self, client: kube::Client) -> Self {
        Announcer { client: Some(client), ..self }
    }

    /// Announces until `shutdown`. Sockets are open only while there is something to announce, and other nodes are asked
    /// for their health only while there are some ranked ahead. The Snapshots are best those that are in the kernel
    /// already ([`crate::kernel::Plane::applied`]).
    pub async fn run(mut self, mut snapshots: watch::Receiver<Arc<Snapshot>>, shutdown: CancellationToken) {
        let mut health = Health::start();
        let (mut more, mut stale, mut next) = (true, false, None);
        loop {
            if self.see(snapshots.borrow_and_update().clone(), &health) || stale {
                next = self.settle(&health.dead()).unwrap_or_else(|error| self.give_up(&error));
            }
            stale = true;
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = snapshots.changed(), if more => (more, stale) = (changed.is_ok(), false),
                () = health.changed() => {}
                served = self.serve() => if let Err(error) = served {
                    (next, stale) = (self.give_up(&error), false);
                },
                () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            }
        }
    }

    /// Takes a Snapshot in: which addresses there are, and who may announce them; true when that is not as before.
    fn see(&mut self, snapshot: Arc<Snapshot>, health: &Health) -> bool {
        if !snapshot.synced || Arc::ptr_eq(&snapshot, &self.seen) {
            return false;
        }
        let mut changed = false;
        for key in snapshot.services.changed(&self.seen.services) {
            let service = snapshot.services.get(key).filter(|service| election::announced(service));
            changed |= match service {
                Some(service) => self.services.insert(key.clone(), service.clone()).as_ref() != Some(service),
                None => self.services.remove(key).is_some(),
            };
        }
        changed |= !self.services.is_empty() && snapshot.nodes.changed(&self.seen.nodes).next().is_some();
        if changed {
            self.claims = election::claims(&self.services, &snapshot.nodes);
            health.ask(election::ahead(&self.claims, &self.config.node_name));
        }
        self.seen = snapshot;
        changed
    }

    /// Holds what is this node's, lets go what is not, and tells what is due; returns when something will be.
    fn settle(&mut self, dead: &BTreeSet<Probe>) -> io::Result<Option<Instant>> {
        let mine = |(_, claim): &(&IpAddr, &Claim)| claim.is_for(&self.config.node_name, dead);
        let mine: Vec<IpAddr> = self.claims.iter().filter(mine).map(|(address, _)| *address).collect();
        if mine.is_empty() {
            self.machine = None;
        } else if self.machine.is_none() {
            // First what hears of changes, so that none is missed.
            let watch = Watch::open()?;
            self.machine = Some((Machine::list(&self.config.skip_links)?, watch));
        }
        let mut links = BTreeMap::new();
        if let Some((machine, _)) = &self.machine {
            let here = mine.into_iter().filter(|address| !machine.own.contains(address));
            let carried = here.map(|address| (address, machine.carrying(address).into_iter().cloned().collect()));
            links = carried.filter(|(_, links): &(_, Vec<Link>)| !links.is_empty()).collect();
        }
        let gone: Vec<_> = self.held.extract_if(.., |address, _| !links.contains_key(address)).collect();
        for (address, held) in gone {
            info!("not announcing {address} from this node any more");
            // Another node has it: some who took this one for its place hear of that one at once.
            if self.claims.contains_key(&address) {
                held.send(&self.wire, |link| Frame::probe(address, link.mac));
            }
        }
        let places = links.iter().flat_map(|(address, links)| links.iter().map(|link| (*address, link.index)));
        self.wire.hear(&places.collect())?;
        let now = Instant::now();
        let mut gained = Vec::new();
        for (address, links) in links {
            let known = self.held.get(&address).map(|held| &held.links[..]).unwrap_or_default();
            if known.is_empty() {
                let names: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
                info!("announcing {address} from this node ({})", names.join(", "));
                let services = self.claims.get(&address).map(|claim| &claim.services[..]).unwrap_or_default();
                gained.extend(services.iter().map(|service| (service.clone(), address)));
            }
            if known != links {
                // A link that came, or came back, is told anew.
                let left = if links.iter().all(|link| known.contains(link)) { 0 } else { TOLD };
                self.held.insert(address, Held { links, left, due: now });
            }
        }
        if let Some(client) = self.client.clone().filter(|_| !gained.is_empty()) {
            tokio::spawn(event::write(client, self.config.node_name.clone(), gained));
        }
        self.failure = None;
        Ok(self.tell(now))
    }

    /// Tells everyone where the addresses are whose time has come.
    fn tell(&mut self, now: Instant) -> Option<Instant> {
        for (address, held) in self.held.iter_mut().filter(|(_, held)| held.left > 0 && held.due <= now) {
            held.send(&self.wire, |link| Frame::announcement(*address, link.mac));
            (held.left, held.due) = (held.left - 1, now + PAUSE);
        }
        self.held.values().filter(|held| held.left > 0).map(|held| held.due).min()
    }

    /// Announces nothing for some time.
    fn give_up(&mut self, error: &io::Error) -> Option<Instant> {
        (self.held, self.wire, self.machine) = (BTreeMap::new(), Wire::default(), None);
        let text = error.to_string();
        if self.failure.as_ref() != Some(&text) {
            warn!("failed to announce addresses of load balancers: {text}; trying again every {} s", RETRY.as_secs());
            self.failure = Some(text);
        }
        Some(Instant::now() + RETRY)
    }

    /// Answers questions until the links change.
    async fn serve(&mut self) -> io::Result<()> {
        let changed = async |machine: &Option<(Machine, Watch)>| match machine {
            Some((_, watch)) => watch.changed().await,
            None => std::future::pending().await,
        };
        loop {
            tokio::select! {
                question = self.wire.question() => {
                    let (question, link) = question?;
                    self.answer(question, link);
                }
                changed = changed(&self.machine) => {
                    self.machine = None;
                    return changed;
                }
            }
        }
    }

    fn answer(&self, question: Question, link: u32) {
        let links = self.held.get(&question.address).into_iter().flat_map(|held| &held.links);
        for link in links.filter(|at| at.index == link) {
            send(&self.wire, &Frame::answer(question, link.mac), link);
        }
    }
}

impl Held {
    fn send(&self, wire: &Wire, frame: impl Fn(&Link) -> Frame) {
        self.links.iter().for_each(|link| send(wire, &frame(link), link));
    }
}

fn send(wire: &Wire, frame: &Frame, link: &Link) {
    if let Err(error) = wire.send(frame, link) {
        debug!("failed to send on {}: {error}", link.name);
    }
}
