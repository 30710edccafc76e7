//! The kernel data plane: one table of nf_tables with two flat maps, kept true to a Snapshot.
//!
//! The tables `coracle-<id>`, one for IPv4 and one for IPv6, hold, for each address and port of a
//! Service, an element of the map `services` that leads to the chain for its NUMBER of endpoints
//! (`n3`), which picks an index and looks the endpoint up in the map `endpoints`. So a change adds
//! and removes elements, in one transaction over a raw nfnetlink socket, and costs the same with ten
//! thousand Services as with ten. What is masqueraded, refused and let through is elements, too;
//! `chains` has the few rules that never change.
//!
//! Session affinity is a map that packets fill: client and frontend lead to the id of an endpoint,
//! for as long as the Service says; it counts only while the map `sticky` has the id.

mod batch;
mod chains;
mod conntrack;
mod expr;
mod family;
mod firewall;
mod frontends;
mod rules;
mod table;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use state::Snapshot;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::Error;
use crate::netlink::Socket;
use batch::Batch;
use family::Family;
use rules::{Element, Pick, Rules, Side, Target};

/// How long after a failure the whole table is loaded anew.
const RETRY: Duration = Duration::from_secs(1);
/// How often the kernel is asked whether another program changed its rules.
const LOOK: Duration = Duration::from_secs(10);

/// What the data plane needs to know of its node and cluster.
#[derive(Debug, Clone)]
pub struct Config {
    /// Six lower-case hex characters; part of the table's name, and the mark of rules elsewhere.
    pub cluster_id: String,
    /// This node's name, for traffic policies of Local.
    pub node_name: String,
    /// This node's addresses, at which NodePorts are served; at least one, and never a loopback
    /// address (that is `user`'s part). IPv4, or IPv6, is served where there is one of it; the first
    /// one is then the source of connections to pods that need one of this node.
    pub node_addresses: Vec<IpAddr>,
    /// The addresses of all pods of the cluster: at most one range of each family.
    pub pod_cidrs: Vec<IpNet>,
    /// The addresses of all Services: at most one range of each family. In it, what belongs to no
    /// Service is refused.
    pub service_cidrs: Vec<IpNet>,
    /// The cluster's DNS addresses, if they are addresses of this node: their port 53 is kept out of
    /// connection tracking.
    pub dns: Vec<IpAddr>,
    /// Other addresses of Services that are addresses of this node, answered by this node itself
    /// and never translated.
    pub local: Vec<IpAddr>,
    /// There is no other program that makes the pods' network: what they send to the world is
    /// masqueraded, their `hostPort`s are served, and other programs' firewalls are opened to them.
    pub own_network: bool,
    /// Leaves the tables where they are when the plane stops, so that pods keep their Services.
    pub keep: bool,
}

impl Config {
    /// False for an address of a Service that this node answers itself.
    fn serves(&self, address: IpAddr) -> bool {
        !self.dns.contains(&address) && !self.local.contains(&address)
    }

    /// The node's first address of a family.
    fn node_address(&self, family: Family) -> Option<IpAddr> {
        self.node_addresses.iter().copied().find(|address| Family::of(*address) == family)
    }

    /// The pods that other programs' firewalls have to let through.
    fn obstructed(&self) -> &[IpNet] {
        if self.own_network { &self.pod_cidrs } else { &[] }
    }

    /// The families that there are tables for.
    fn families(&self) -> impl Iterator<Item = Family> {
        Family::ALL.into_iter().filter(|family| self.node_address(*family).is_some())
    }

    fn validate(&self) -> Result<(), Error> {
        if self.node_addresses.is_empty() {
            return Err(Error::Config("a node needs an address"));
        }
        if self.node_addresses.iter().any(IpAddr::is_loopback) {
            return Err(Error::Config("a loopback address cannot be a node's address"));
        }
        let many =
            |networks: &[IpNet], family| networks.iter().filter(|net| Family::of(net.addr()) == family).count() > 1;
        if Family::ALL.iter().any(|family| many(&self.pod_cidrs, *family) || many(&self.service_cidrs, *family)) {
            return Err(Error::Config("pods and Services have at most one range of each family"));
        }
        Ok(())
    }
}

/// The data plane of one node, in the network namespace that it was opened in.
pub struct Plane {
    config: Config,
    table: String,
    socket: Socket,
    warnings: Vec<String>,
    /// What is in the kernel; None when it has to be loaded whole.
    loaded: Option<Loaded>,
    /// The kernel's count of changes when it was last looked at.
    seen: Option<u32>,
    /// The failure that was reported last, so that it is reported once.
    failure: Option<String>,
}

/// What is in the kernel.
struct Loaded {
    snapshot: Arc<Snapshot>,
    rules: Rules,
    picks: BTreeSet<(Family, Pick)>,
}

impl Plane {
    /// Finds out whether the kernel can do what is needed, and opens other programs' firewalls to
    /// the pods. A table that is there already (after a crash) goes on working until the first
    /// Snapshot replaces it. Blocks for some milliseconds.
    pub fn open(config: Config) -> Result<Self, Error> {
        config.validate()?;
        let mut socket = Socket::open()?;
        let table = table::name(&config.cluster_id);
        let mut batch = Batch::default();
        table::replace(&mut batch, &table, &config);
        let pick = Pick { side: Side::Main, count: 1, affinity: Some(1), guarded: true };
        for family in config.families() {
            pick.needed().for_each(|pick| table::add_pick(&mut batch, &table, family, pick));
        }
        batch.check(&mut socket)?;
        let warnings = firewall::open(&mut socket, &table, config.obstructed())?;
        Ok(Plane { config, table, socket, warnings, loaded: None, seen: None, failure: None })
    }

    /// What a person has to know about other firewalls on this machine; usually nothing.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Puts a Snapshot into the kernel, in one transaction: the whole table at first, and from
    /// then on the difference to the Snapshot before. Blocks.
    pub fn apply(&mut self, snapshot: Arc<Snapshot>) -> Result<(), Error> {
        let mut batch = Batch::default();
        let first = self.loaded.is_none();
        let mut loaded = self.loaded.take().unwrap_or_else(|| {
            table::replace(&mut batch, &self.table, &self.config);
            Loaded { snapshot: Arc::default(), rules: Rules::default(), picks: BTreeSet::new() }
        });
        let change = loaded.rules.update(&loaded.snapshot, &snapshot, &self.config);
        for element in &change.added {
            if let Element::Service(_, _, Target::Pick(pick)) = element {
                let family = element.family();
                for pick in pick.needed().filter(|pick| loaded.picks.insert((family, *pick))) {
                    table::add_pick(&mut batch, &self.table, family, pick);
                }
            }
        }
        table::change(&mut batch, &self.table, &change);
        if !batch.is_empty() {
            batch.commit(&mut self.socket)?;
        }
        debug!(removed = change.removed.len(), added = change.added.len(), "rules changed");
        if first || change.reroutes_udp() {
            match conntrack::forget(&mut self.socket, &loaded.rules, &self.config) {
                Ok(count) => debug!(count, "UDP connections to endpoints that left are forgotten"),
                Err(error) => warn!("failed to {error}; UDP clients may go on to endpoints that left"),
            }
        }
        loaded.snapshot = snapshot;
        self.loaded = Some(loaded);
        Ok(())
    }

    /// Removes the table and the rules in other programs' chains. Blocks.
    pub fn remove(mut self) -> Result<(), Error> {
        remove(&mut self.socket, &self.table)
    }

    /// Follows the Snapshots until `shutdown`, and then removes everything unless it is to be
    /// kept. Failures are logged and tried again; only a failed removal is returned.
    pub async fn run(
        mut self,
        mut snapshots: watch::Receiver<Arc<Snapshot>>,
        shutdown: CancellationToken,
    ) -> Result<(), Error> {
        self.warnings.iter().for_each(|warning| warn!("{warning}"));
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut open = true;
        snapshots.mark_changed();
        loop {
            let retry = self.loaded.is_none() && snapshots.borrow().synced;
            tokio::select! {
                () = shutdown.cancelled() => break,
                changed = snapshots.changed(), if open => open = changed.is_ok(),
                () = tokio::time::sleep(RETRY), if retry => {}
                _ = look.tick() => self = blocking(self, Plane::look).await.0,
            }
            let snapshot = snapshots.borrow_and_update().clone();
            if snapshot.synced {
                self = blocking(self, |plane| plane.follow(snapshot)).await.0;
            }
        }
        if self.config.keep {
            return Ok(());
        }
        blocking(self, |plane| remove(&mut plane.socket, &plane.table)).await.1
    }

    /// Applies a Snapshot; after a failure the whole table is loaded next time.
    fn follow(&mut self, snapshot: Arc<Snapshot>) {
        if let Some(loaded) = &self.loaded
            && Arc::ptr_eq(&loaded.snapshot, &snapshot)
        {
            return;
        }
        let failure = self.apply(snapshot).err().map(|error| error.to_string());
        match &failure {
            Some(error) if failure != self.failure => warn!("failed to {error}; trying again with the whole table"),
            None if self.failure.is_some() => info!("the table {} is in the kernel now", self.table),
            _ => {}
        }
        self.failure = failure;
    }

    /// Looks whether another program changed the kernel's rules: the table may be gone, a firewall
    /// may have come.
    fn look(&mut self) {
        let now = self.generation();
        if now.is_none() || now == self.seen {
            return;
        }
        let table = self.table.as_str();
        let kind = batch::kind(batch::GET_TABLE);
        let socket = &mut self.socket;
        let mut gone =
            |family: Family| matches!(socket.get(kind, family.number(), |out| out.text(1, table), |_| ()), Ok(None));
        if self.loaded.is_some() && self.config.families().any(&mut gone) {
            info!("another program removed the table {table}; loading it again");
            self.loaded = None;
        }
        match firewall::open(&mut self.socket, table, self.config.obstructed()) {
            Ok(warnings) => {
                warnings.iter().filter(|new| !self.warnings.contains(new)).for_each(|new| warn!("{new}"));
                self.warnings = warnings;
            }
            Err(error) => warn!("failed to {error}"),
        }
        self.seen = self.generation();
    }

    /// The kernel's count of changes, whoever made them.
    fn generation(&mut self) -> Option<u32> {
        let kind = batch::kind(batch::GET_GENERATION);
        let answer = self.socket.get(kind, 0, |_| {}, |item| item.attrs.number(1));
        answer.ok().flatten().flatten()
    }
}

/// Removes what a cluster left in the kernel of this network namespace: its table, and its rules
/// in other programs' chains. Does nothing where there is nothing. Blocks.
pub fn cleanup(cluster_id: &str) -> Result<(), Error> {
    remove(&mut Socket::open()?, &table::name(cluster_id))
}

fn remove(socket: &mut Socket, table: &str) -> Result<(), Error> {
    let mut batch = Batch::default();
    table::remove(&mut batch, table);
    firewall::close(socket, &mut batch, table)?;
    batch.commit(socket)
}

/// Does something that waits for the kernel without holding up other tasks.
async fn blocking<T: Send + 'static>(
    mut plane: Plane,
    act: impl FnOnce(&mut Plane) -> T + Send + 'static,
) -> (Plane, T) {
    let done = tokio::task::spawn_blocking(move || {
        let result = act(&mut plane);
        (plane, result)
    });
    match done.await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down: nobody waits for this any more.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests;
