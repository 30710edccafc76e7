//! The kernel data plane: tables of nf_tables with flat maps, kept true to a Snapshot.
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
//!
//! At the start, and whenever another program changed the kernel's rules, what is there is compared with what should
//! be, and mended (`resync`).

mod affinity;
mod batch;
mod chains;
mod conntrack;
mod expr;
mod family;
mod firewall;
mod frontends;
#[cfg(test)]
mod model;
mod resync;
mod rules;
mod table;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use state::Snapshot;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::netlink::Socket;
use crate::{Error, Metrics};
use batch::Batch;
use family::Family;
use rules::{Change, Element, Pick, Rules, Side, Target};

/// How long after a failure the whole table is loaded anew.
const RETRY: Duration = Duration::from_secs(1);
/// How often the kernel is asked whether another program changed its rules.
const LOOK: Duration = Duration::from_secs(10);
/// How often the tables are compared with what they should be even if nobody seems to have changed anything.
const COMPARE: Duration = Duration::from_secs(3600);

/// What the data plane needs to know of its node and cluster.
#[derive(Debug, Clone)]
pub struct Config {
    /// Part of the tables' name, and the mark of rules elsewhere: six lower-case hex characters, or another short name.
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
    /// What is in the kernel; None when that has to be found out.
    loaded: Option<Loaded>,
    /// The kernel's count of changes, as far as they are ours or were looked at.
    seen: Option<u32>,
    /// When the tables were last compared with what they should be.
    compared: Instant,
    /// Other configurations, in the course of time.
    configs: Option<watch::Receiver<Config>>,
    /// The failure that was reported last, so that it is reported once.
    failure: Option<String>,
    metrics: Arc<Metrics>,
    /// The last Snapshot that was counted.
    counted: Arc<Snapshot>,
    /// The last Snapshot that is in the kernel, for those who wait for that.
    applied: watch::Sender<Arc<Snapshot>>,
}

/// What is in the kernel.
#[derive(Default)]
struct Loaded {
    snapshot: Arc<Snapshot>,
    rules: Rules,
    picks: BTreeSet<(Family, Pick)>,
}

impl Plane {
    /// Finds out whether the kernel can do what is needed, and opens other programs' firewalls to
    /// the pods. A table that is there already (after a crash) goes on working until the first
    /// Snapshot changes it. Blocks for some milliseconds.
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
        Ok(Plane {
            config,
            table,
            socket,
            warnings,
            loaded: None,
            seen: None,
            compared: Instant::now(),
            configs: None,
            failure: None,
            metrics: Arc::default(),
            counted: Arc::default(),
            applied: watch::Sender::default(),
        })
    }

    /// Counts what it does there.
    pub fn counting(self, metrics: Arc<Metrics>) -> Self {
        Plane { metrics, ..self }
    }

    /// The Snapshots that `run` has put into the kernel: what they say is so.
    pub fn applied(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.applied.subscribe()
    }

    /// Has `run` follow changes of the configuration, as `reconfigure` does.
    pub fn follow_configs(mut self, configs: watch::Receiver<Config>) -> Self {
        self.configs = Some(configs);
        self
    }

    /// Takes another configuration of the same cluster, as when the node's addresses change. The next Snapshot that is
    /// applied (the same one as before will do) changes what has to be changed in the kernel. Blocks.
    pub fn reconfigure(&mut self, config: Config) -> Result<(), Error> {
        config.validate()?;
        if config.cluster_id != self.config.cluster_id {
            return Err(Error::Config("a cluster keeps its id"));
        }
        self.warnings = firewall::open(&mut self.socket, &self.table, config.obstructed())?;
        self.config = config;
        self.loaded = None;
        Ok(())
    }

    /// How often something in our tables was not as it should be, and was mended.
    pub fn mended(&self) -> u64 {
        self.metrics.mends()
    }

    /// What a person has to know about other firewalls on this machine; usually nothing.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Puts a Snapshot into the kernel: at first whatever differs from what is there, and from then on the difference
    /// to the Snapshot before, in one transaction. Blocks.
    pub fn apply(&mut self, snapshot: Arc<Snapshot>) -> Result<(), Error> {
        let Some(mut loaded) = self.loaded.take() else {
            let differences = self.load(snapshot, &BTreeSet::new())?;
            debug!(?differences, "rules loaded");
            self.forget();
            return Ok(());
        };
        let mut batch = Batch::default();
        let change = loaded.step(snapshot, &mut batch, &self.table, &self.config);
        self.commit(batch)?;
        debug!(removed = change.removed.len(), added = change.added.len(), "rules changed");
        self.loaded = Some(loaded);
        if change.reroutes_udp {
            self.forget();
        }
        Ok(())
    }

    /// Makes the tables what a Snapshot says, whatever is in them; returns what differed, in words. Packets never see
    /// half of it, and clients stay with their endpoints.
    fn load(&mut self, snapshot: Arc<Snapshot>, retired: &BTreeSet<resync::Name>) -> Result<Vec<String>, Error> {
        let (mut loaded, mut batch) = (Loaded::default(), Batch::default());
        table::replace(&mut batch, &self.table, &self.config);
        loaded.step(snapshot, &mut batch, &self.table, &self.config);
        // After a failure nothing is taken for granted.
        let report = match self.failure {
            None => resync::compare(&mut self.socket, &self.table, &batch, retired)?,
            Some(_) => resync::Report::default(),
        };
        if let Some(mend) = report.mend {
            batch = mend;
        } else {
            for family in report.remembered {
                affinity::carry(&mut self.socket, &mut batch, &self.table, family)?;
            }
        }
        self.commit(batch)?;
        self.compared = Instant::now();
        self.loaded = Some(loaded);
        Ok(report.differences)
    }

    /// Has the kernel do something, and remembers that it was us.
    fn commit(&mut self, batch: Batch) -> Result<(), Error> {
        if !batch.is_empty() {
            let done = batch.commit(&mut self.socket)?;
            let ours = self.seen.map(|seen| seen.wrapping_add(done));
            self.seen = ours.filter(|ours| resync::generation(&mut self.socket) == Some(*ours)).or(self.seen);
        }
        Ok(())
    }

    /// Forgets the UDP connections that the rules would not make any more.
    fn forget(&mut self) {
        let Some(loaded) = &self.loaded else {
            return;
        };
        let began = Instant::now();
        match conntrack::forget(&mut self.socket, &loaded.rules, &self.config) {
            Ok(count) => self.metrics.forgot(count, began.elapsed()),
            Err(error) => warn!("failed to {error}; UDP clients may go on to endpoints that left"),
        }
    }

    /// Removes the table and the rules in other programs' chains. Blocks.
    pub fn remove(mut self) -> Result<(), Error> {
        remove(&mut self.socket, &self.table).map(drop)
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
        let mut configs = self.configs.take();
        snapshots.mark_changed();
        loop {
            let retry = self.loaded.is_none() && snapshots.borrow().synced;
            tokio::select! {
                () = shutdown.cancelled() => break,
                changed = snapshots.changed(), if open => open = changed.is_ok(),
                () = tokio::time::sleep(RETRY), if retry => {}
                _ = look.tick() => self = blocking(self, Plane::look).await.0,
                config = changed(&mut configs) => {
                    let done;
                    (self, done) = blocking(self, |plane| plane.reconfigure(config)).await;
                    done.unwrap_or_else(|error| warn!("failed to {error}"));
                }
            }
            let snapshot = snapshots.borrow_and_update().clone();
            if snapshot.synced {
                self = blocking(self, |plane| plane.follow(snapshot)).await.0;
            }
        }
        if self.config.keep {
            return Ok(());
        }
        let metrics = self.metrics.clone();
        let removed = blocking(self, |plane| remove(&mut plane.socket, &plane.table)).await.1;
        removed.inspect_err(|_| metrics.cleanup_failed()).map(drop)
    }

    /// Applies a Snapshot; after a failure the whole table is loaded next time.
    fn follow(&mut self, snapshot: Arc<Snapshot>) {
        if let Some(loaded) = &self.loaded
            && Arc::ptr_eq(&loaded.snapshot, &snapshot)
        {
            return;
        }
        if !Arc::ptr_eq(&self.counted, &snapshot) {
            self.metrics.queued(&self.counted, &snapshot);
            self.counted = snapshot.clone();
        }
        let (began, full) = (Instant::now(), self.loaded.is_none());
        let failure = self.apply(snapshot.clone()).err().map(|error| error.to_string());
        match &failure {
            None => {
                self.metrics.synced(began.elapsed(), full);
                self.applied.send_replace(snapshot);
            }
            Some(_) => self.metrics.failed(),
        }
        match &failure {
            Some(error) if failure != self.failure => warn!("failed to {error}; trying again with the whole table"),
            None if self.failure.is_some() => info!("the table {} is in the kernel now", self.table),
            _ => {}
        }
        self.failure = failure;
    }

    /// Looks whether another program changed the kernel's rules: something of ours may have gone, a firewall may have
    /// come.
    fn look(&mut self) {
        let now = resync::generation(&mut self.socket);
        if now == self.seen && self.compared.elapsed() < COMPARE {
            return;
        }
        self.seen = now;
        match self.resync() {
            Ok(differences) if differences.is_empty() => {}
            Ok(differences) => warn!("another program changed our rules, which are mended: {}", differences.join("; ")),
            Err(error) => warn!("failed to {error}; trying again with the whole table"),
        }
        match firewall::open(&mut self.socket, &self.table, self.config.obstructed()) {
            Ok(warnings) => {
                warnings.iter().filter(|new| !self.warnings.contains(new)).for_each(|new| warn!("{new}"));
                self.warnings = warnings;
            }
            Err(error) => warn!("failed to {error}"),
        }
    }

    /// Compares our tables with what was put into them, and mends what differs; returns that in words. Blocks.
    pub fn resync(&mut self) -> Result<Vec<String>, Error> {
        let Some(loaded) = self.loaded.take() else {
            return Ok(Vec::new());
        };
        let picks = loaded.picks.iter().map(|(family, pick)| (*family, pick.chain())).collect();
        let differences = self.load(loaded.snapshot, &picks)?;
        if !differences.is_empty() {
            self.metrics.mended();
            self.forget();
        }
        Ok(differences)
    }
}

impl Loaded {
    /// Goes on to a Snapshot, and appends what makes the kernel follow.
    fn step(&mut self, snapshot: Arc<Snapshot>, batch: &mut Batch, table: &str, config: &Config) -> Change {
        let change = self.rules.update(&self.snapshot, &snapshot, config);
        for element in &change.added {
            if let Element::Service(_, _, Target::Pick(pick)) = element {
                let family = element.family();
                for pick in pick.needed().filter(|pick| self.picks.insert((family, *pick))) {
                    table::add_pick(batch, table, family, pick);
                }
            }
        }
        table::change(batch, table, &change);
        self.snapshot = snapshot;
        change
    }
}

/// The next configuration, if there are any.
async fn changed(configs: &mut Option<watch::Receiver<Config>>) -> Config {
    if let Some(receiver) = configs
        && receiver.changed().await.is_ok()
    {
        return receiver.borrow_and_update().clone();
    }
    std::future::pending().await
}

/// Removes what a cluster left in the kernel of this network namespace: its tables, and its rules
/// in other programs' chains. Returns what there was, in words. Blocks.
pub fn cleanup(cluster_id: &str) -> Result<Vec<String>, Error> {
    remove(&mut Socket::open()?, &table::name(cluster_id))
}

fn remove(socket: &mut Socket, table: &str) -> Result<Vec<String>, Error> {
    let there = Family::ALL.into_iter().filter(|family| exists(socket, table, *family));
    let mut removed: Vec<String> = there.map(|family| format!("the table {} {table}", family.name())).collect();
    let mut batch = Batch::default();
    table::remove(&mut batch, table);
    removed.extend(firewall::close(socket, &mut batch, table)?);
    batch.commit(socket)?;
    Ok(removed)
}

/// False only if there certainly is no such table.
fn exists(socket: &mut Socket, table: &str, family: Family) -> bool {
    let kind = batch::kind(batch::GET_TABLE);
    !matches!(socket.get(kind, family.number(), |out| out.text(1, table), |_| ()), Ok(None))
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
