//! Addresses for Services of type LoadBalancer, so that they are reached from outside without a cloud.
//!
//! They are of the pools in the ConfigMap `kube-system/load-balancer-pools`, or, where there are none, the node's own.
//! `plan` decides; here Snapshots and the ConfigMap come in, and statuses and Events go out. Services of another
//! `loadBalancerClass` are left alone. Nothing is watched before there is a Service to serve.

mod listeners;
mod plan;
mod pools;
mod problem;
mod taken;

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt as _};
use ipnet::IpNet;
use k8s_openapi::api::core::v1 as core;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource as _};
use serde_json::json;
use state::{Key, Service, Snapshot};
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use plan::{Assignment, Means, Services, plan};
use pools::Pools;
use problem::Problem;
use taken::Taken;

/// The `loadBalancerClass` of Services that want to be served here and nowhere else.
const CLASS: &str = "coracle";
/// Where the pools are.
const NAMESPACE: &str = "kube-system";
const NAME: &str = "load-balancer-pools";
/// How often a port that was taken is looked at again, and what failed is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How long there is no other plan after one, for each Service in it: about ten times what it took. So the cost of Services
/// made one by one does not grow with their square.
const REST: Duration = Duration::from_micros(20);
/// How many statuses are written at once.
const WRITES: usize = 16;

/// What the balancer has to know of its node.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its name.
    pub node_name: String,
    /// Its own addresses, which Services get where there is no pool.
    pub node_addresses: Vec<IpAddr>,
    /// The ranges of pods and Services, which no pool may have.
    pub reserved: Vec<IpNet>,
    /// `/proc/PID/net` of a process in the node's network, which tells who listens there.
    pub network: PathBuf,
}

/// True for a Service that gets its addresses here.
pub fn serves(service: &Service) -> bool {
    let ours = |class: Option<&str>| class.is_none_or(|class| class == CLASS);
    !service.cluster_ips().is_empty() && service.balancing.as_ref().is_some_and(|asked| ours(asked.class.as_deref()))
}

/// Gives addresses to Services, as the Snapshots have them, until `shutdown`.
pub async fn run(config: Config, client: Client, mut snapshots: Receiver<Arc<Snapshot>>, shutdown: CancellationToken) {
    let mut balancer = Balancer::new(config, client);
    let (mut maps, mut retry): (Option<BoxStream<'static, _>>, _) = (None, None);
    let (mut due, mut rested) = (false, Instant::now());
    snapshots.mark_changed();
    loop {
        let next = if due && balancer.map.is_some() { Some(rested) } else { retry };
        due |= tokio::select! {
            () = shutdown.cancelled() => return,
            changed = snapshots.changed() => if changed.is_ok() { false } else { return },
            map = async { match &mut maps { Some(maps) => maps.next().await, None => pending().await } } => match map {
                Some(Ok(map)) => balancer.read(map).await,
                Some(Err(error)) => { debug!("watch of {NAMESPACE}/{NAME}: {error}"); false }
                None => return,
            },
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => true,
        };
        let snapshot = snapshots.borrow_and_update().clone();
        due |= balancer.hear(snapshot);
        if maps.is_none() && !balancer.services.is_empty() {
            let api = Api::<core::ConfigMap>::namespaced(balancer.client.clone(), NAMESPACE);
            maps = Some(watcher::watch_object(api, NAME).default_backoff().boxed());
        }
        if due && balancer.map.is_some() && Instant::now() >= rested {
            retry = balancer.act().await.then(|| Instant::now() + RETRY);
            (due, rested) = (false, Instant::now() + REST * balancer.services.len() as u32);
        }
    }
}

/// What was heard, and what was made of it.
struct Balancer {
    config: Config,
    client: Client,
    snapshot: Arc<Snapshot>,
    services: Services,
    /// What the ConfigMap holds, once it was read.
    map: Option<BTreeMap<String, String>>,
    /// The pools of the last one that was right.
    pools: Option<Pools>,
    before: BTreeMap<Key, Assignment>,
}

impl Balancer {
    fn new(config: Config, client: Client) -> Self {
        let (snapshot, services, map, pools, before) = Default::default();
        Self { config, client, snapshot, services, map, pools, before }
    }

    /// Takes in a Snapshot; true when it concerns addresses.
    fn hear(&mut self, snapshot: Arc<Snapshot>) -> bool {
        let mut due = false;
        for key in snapshot.services.changed(&self.snapshot.services).filter(|_| snapshot.synced) {
            let new = snapshot.services.get(key).filter(|service| serves(service));
            let old = match new {
                Some(new) => self.services.insert(key.clone(), new.clone()),
                None => self.services.remove(key),
            };
            let asks = |service: &Service| {
                let Service { address, ports, balancing, .. } = service;
                (address.clone(), ports.clone(), balancing.clone())
            };
            // What was written comes back, which is no news.
            let has =
                |service: &Service| self.before.get(key).is_some_and(|before| before.ips == service.load_balancer_ips);
            due |= new.map(|new| asks(new)) != old.map(|old| asks(&old)) || new.is_some_and(|new| !has(new));
        }
        if snapshot.synced {
            self.snapshot = snapshot;
        }
        due
    }

    /// Takes in the ConfigMap, if there is one; true when it is not as before.
    async fn read(&mut self, map: Option<core::ConfigMap>) -> bool {
        let data = map.as_ref().and_then(|map| map.data.clone()).unwrap_or_default();
        if self.map.as_ref() == Some(&data) {
            return false;
        }
        match Pools::parse(&data, &self.config.reserved) {
            Ok(pools) => {
                info!("addresses for Services come from {} pools", pools.0.len());
                self.pools = Some(pools);
            }
            Err(why) => {
                let goes_on = if self.pools.is_some() { "the pools stay as before" } else { "no address is given" };
                warn!("{NAMESPACE}/{NAME} is refused, {goes_on}: {why}");
                if let Some(map) = map {
                    let note = format!("{why}; {goes_on}");
                    self.event(&map.object_ref(&()), EventType::Warning, "InvalidPools", note).await;
                }
            }
        }
        self.map = Some(data);
        true
    }

    /// Gives each Service what it should have; true when that is to be tried again.
    async fn act(&mut self) -> bool {
        let taken = self.taken().await;
        let means = Means {
            pools: self.pools.as_ref(),
            node: &self.config.node_addresses,
            taken: &taken,
            before: &self.before,
        };
        let planned = plan(&self.services, &means);
        let passes = planned.values().any(|now| now.problem.as_ref().is_some_and(Problem::passes));
        let (count, this) = (planned.len(), &*self);
        let tell = |(key, now): (Key, Assignment)| async move { this.tell(&key, &now).await.then_some((key, now)) };
        let told = futures::stream::iter(planned).map(tell).buffer_unordered(WRITES);
        let before: BTreeMap<_, _> = told.filter_map(std::future::ready).collect().await;
        let failed = before.len() < count;
        self.before = before;
        passes || failed
    }

    /// Who has the ports that Services do not have yet.
    async fn taken(&self) -> Taken {
        let new = |(key, service): &(&Key, &Arc<Service>)| {
            self.before.get(*key).is_none_or(|before| before.ips.is_empty() || before.ports != plan::ports(service))
        };
        let wanted: BTreeSet<_> =
            self.services.iter().filter(new).flat_map(|(_, service)| plan::ports(service)).collect();
        let network = self.config.network.clone();
        let listeners = match wanted.is_empty() {
            true => Vec::new(),
            false => tokio::task::spawn_blocking(move || listeners::listeners(&network)).await.unwrap_or_default(),
        };
        Taken::new(&wanted, &self.snapshot, &self.config.node_name, listeners, serves)
    }

    /// Writes a Service's addresses into its status, and says what is new; false when that failed.
    async fn tell(&self, key: &Key, now: &Assignment) -> bool {
        let before = self.before.get(key);
        let written = self.services.get(key).is_some_and(|service| service.load_balancer_ips == now.ips);
        let given = !written && !now.ips.is_empty() && before.is_none_or(|before| before.ips != now.ips);
        let problem = now.problem.as_ref().filter(|new| before.and_then(|before| before.problem.as_ref()) != Some(new));
        if written && problem.is_none() {
            return true;
        }
        let kind = ApiResource::erase::<core::Service>(&());
        let api = Api::<DynamicObject>::namespaced_with(self.client.clone(), &key.namespace, &kind);
        let service = if written { api.get(&key.name).await } else { write(&api, &key.name, &now.ips).await };
        let service = match service {
            Ok(service) => service.object_ref(&kind),
            Err(kube::Error::Api(status)) if status.is_not_found() => return true,
            Err(error) => {
                debug!("failed to write the addresses of the Service {key}: {error}");
                return false;
            }
        };
        if given {
            self.event(&service, EventType::Normal, "IPAllocated", self.allocated(&now.ips)).await;
        }
        if let Some(problem) = problem {
            let socket = problem.socket();
            let program = tokio::task::spawn_blocking(move || listeners::program(socket?)).await.ok().flatten();
            let note = problem.text(program.as_deref());
            warn!("the Service {key} lacks an address: {note}");
            self.event(&service, EventType::Warning, "AllocationFailed", note).await;
        }
        true
    }

    fn allocated(&self, ips: &[IpAddr]) -> String {
        let of = |ip: &IpAddr| match self.pools.as_ref().and_then(|pools| pools.home(*ip)) {
            Some(pool) => format!("{ip} of the pool {pool:?}"),
            None => format!("{ip}, the node's own address"),
        };
        format!("Assigned {}", ips.iter().map(of).collect::<Vec<_>>().join(" and "))
    }

    /// A recorder that lives on would repeat the text of the first event of a reason.
    async fn event(&self, about: &core::ObjectReference, type_: EventType, reason: &str, note: String) {
        let recorder =
            Recorder::new(self.client.clone(), Reporter { controller: "load-balancer".into(), instance: None });
        let event =
            Event { type_, reason: reason.into(), note: Some(note), action: "Allocate".into(), secondary: None };
        if let Err(error) = recorder.publish(&event, about).await {
            debug!("event {reason}: {error}");
        }
    }
}

/// Replaces all that the status says of load balancers.
async fn write(api: &Api<DynamicObject>, name: &str, ips: &[IpAddr]) -> kube::Result<DynamicObject> {
    let ingress: Vec<_> = ips.iter().map(|ip| json!({"ip": ip, "ipMode": "VIP"})).collect();
    let ingress = if ingress.is_empty() { None } else { Some(ingress) };
    let status = json!({"status": {"loadBalancer": {"ingress": ingress}}});
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await
}

#[cfg(test)]
mod tests;
