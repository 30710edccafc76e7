//! The controller: objects come in by watches, a Table comes out, and the API server is told of it.
//!
//! Nothing but Ingresses is watched before there is one, and nothing listens before there is one of ours. A Table is made
//! when an Ingress, a class, a Secret or the shape of a Service changes; endpoints that come and go only change the
//! upstreams of the Table that there is. Writes never hold either of them up.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::net::{IpAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use ingress::{Certificates, Objects, Remark, Table, Upstreams};
use k8s_openapi::api::networking::v1::Ingress;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::events::EventType;
use kube::{Client, Resource as _};
use proxy::user::Open;
use state::{Key, Service, Snapshot};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::certificates;
use crate::door::{self, Door};
use crate::publish::{self, Publisher, Write};
use crate::watches::{self, Watches};

/// For how long changes are gathered before a Table is made of them.
const FOLD: Duration = Duration::from_millis(10);
/// For how long something has to be wrong until people are told: an Ingress, its Secret and its Services are often made
/// together, and pods take a moment.
const SETTLE: Duration = Duration::from_secs(3);
/// How soon what failed is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How many events may wait to be written; further ones are dropped, as they are for people only.
const EVENTS: usize = 4096;

/// Where a controller is.
#[derive(Clone)]
pub struct Place {
    /// The API server.
    pub client: Client,
    /// The node's name.
    pub node_name: String,
    /// The node's address towards its pods, where clients are let in.
    pub address: IpAddr,
    /// The file of the access log.
    pub log: PathBuf,
    /// How that address is listened on.
    pub listen: Open<TcpListener>,
    /// How endpoints are reached.
    pub connect: Open<TcpStream>,
}

/// Serves the Ingresses of our classes, with the Services of the Snapshots, until `shutdown`.
pub async fn run(place: Place, mut snapshots: watch::Receiver<Arc<Snapshot>>, shutdown: CancellationToken) {
    let mut watches = Watches::new(place.client.clone());
    let mut controller = Controller::new(place);
    snapshots.mark_changed();
    loop {
        controller.begin_writing();
        let Controller { objects, due, writing, .. } = &mut controller;
        let awake = due.is_some() || !objects.ingresses.is_empty();
        let ready = objects.snapshot.synced && watches.synced();
        let at = due.unwrap_or_else(Instant::now);
        tokio::select! {
            () = shutdown.cancelled() => break,
            changed = watches.next(objects) => if changed {
                earliest(due, Instant::now() + FOLD);
            },
            changed = snapshots.changed(), if awake => match changed {
                Ok(()) => controller.hear(snapshots.borrow_and_update().clone()),
                Err(_) => break,
            },
            () = sleep_until(at), if due.is_some() && ready => controller.build(&mut watches).await,
            again = async { match writing { Some(writing) => writing.await, None => pending().await } } => {
                *writing = None;
                controller.dirty |= again;
            }
        }
    }
    controller.close().await;
}

/// What was heard, and what was made of it.
struct Controller {
    place: Place,
    objects: Objects,
    upstreams: Upstreams,
    certificates: certificates::Read,
    table: watch::Sender<Arc<Table>>,
    door: Option<Door>,
    /// The Ingresses of ours, once a Table was made.
    served: Option<BTreeSet<Key>>,
    /// What people were told, and of which version of the Ingress.
    told: BTreeMap<Key, (Arc<Ingress>, BTreeSet<Remark>)>,
    /// What they may have to be told, and since when it is wrong.
    doubts: BTreeMap<Remark, Instant>,
    publisher: Publisher,
    events: Vec<Write>,
    /// When the next Table is to be made.
    due: Option<Instant>,
    /// Something is to be compared with what the API server has.
    dirty: bool,
    /// The writes under way; true when some are to be tried again.
    writing: Option<BoxFuture<'static, bool>>,
}

impl Controller {
    fn new(place: Place) -> Self {
        let publisher = Publisher::new(place.client.clone(), &place.node_name);
        let (objects, upstreams, certificates, door, served, told, doubts, events, due, dirty, writing) =
            Default::default();
        let (table, _) = watch::channel(Arc::default());
        Controller {
            place,
            objects,
            upstreams,
            certificates,
            table,
            door,
            served,
            told,
            doubts,
            publisher,
            events,
            due,
            dirty,
            writing,
        }
    }

    /// Takes in a Snapshot: endpoints at once, all else by the next Table.
    fn hear(&mut self, snapshot: Arc<Snapshot>) {
        let old = std::mem::replace(&mut self.objects.snapshot, snapshot);
        let new = &self.objects.snapshot;
        self.upstreams.follow(new, &old);
        for key in new.services.changed(&old.services) {
            self.dirty |= door::is_service(key);
            let shape = |service: &Arc<Service>| (service.address.clone(), service.ports.clone());
            if new.services.get(key).map(shape) != old.services.get(key).map(shape) {
                earliest(&mut self.due, Instant::now() + FOLD);
            }
        }
    }

    /// Makes a Table of the objects, if all is known that it needs.
    async fn build(&mut self, watches: &mut Watches) {
        self.due = None;
        let mut plan = ingress::plan(&self.objects, &mut self.upstreams);
        let ours = plan.served.iter().filter_map(|key| self.objects.ingresses.get(key));
        let secrets: BTreeSet<_> = ours.flat_map(|ingress| watches::secrets(ingress)).collect();
        if !watches.secrets(secrets, &mut self.objects) {
            return debug!("waiting for Secrets that Ingresses name");
        }
        plan.table.certificates = match plan.served.is_empty() {
            true => Certificates::default(),
            false => {
                let now = Timestamp::now().as_second();
                let (certificates, remarks) = self.certificates.all(&self.objects, &plan, now);
                plan.remarks.extend(remarks);
                certificates
            }
        };
        self.table.send_replace(Arc::new(plan.table));
        self.upstreams.sweep();
        let (served, none) = (plan.served.iter().cloned().collect(), plan.served.is_empty());
        self.tell(&served, plan.remarks);
        self.served = Some(served);
        self.dirty = true;
        match (self.door.take(), none) {
            (None, false) => match Door::open(&self.place, self.table.subscribe()).await {
                Ok(door) => self.door = Some(door),
                Err(error) => {
                    warn!("failed to listen on {} for Ingresses: {error}", self.place.address);
                    earliest(&mut self.due, Instant::now() + RETRY);
                }
            },
            (Some(door), true) => _ = tokio::spawn(door.close()),
            (door, _) => self.door = door,
        }
    }

    /// Notes the events that are new: an Ingress has changed, or something else is to be remarked on.
    fn tell(&mut self, served: &BTreeSet<Key>, remarks: Vec<Remark>) {
        let mut by_ingress: BTreeMap<Key, BTreeSet<Remark>> = BTreeMap::new();
        served.iter().for_each(|key| _ = by_ingress.entry(key.clone()).or_default());
        remarks.into_iter().for_each(|remark| _ = by_ingress.entry(remark.ingress.clone()).or_default().insert(remark));
        let (mut told, mut doubts) = (std::mem::take(&mut self.told), std::mem::take(&mut self.doubts));
        let now = Instant::now();
        for (key, remarks) in by_ingress {
            let Some(ingress) = self.objects.ingresses.get(&key) else { continue };
            let before = told.remove(&key).filter(|(old, _)| watches::same(old, ingress));
            let about = ingress.object_ref(&());
            // After a restart there is nothing new to say of what was served before it.
            if before.is_none() && served.contains(&key) && !publish::written(ingress) {
                let note = "Scheduled for sync".to_owned();
                self.events.push(Write::Event(about.clone(), EventType::Normal, "Sync", note));
            }
            let known = before.map(|(_, known)| known).unwrap_or_default();
            let (mut said, new): (BTreeSet<_>, BTreeSet<_>) =
                remarks.into_iter().partition(|remark| known.contains(remark));
            for remark in new {
                let since = doubts.remove(&remark).unwrap_or(now);
                if now < since + SETTLE {
                    earliest(&mut self.due, since + SETTLE);
                    self.doubts.insert(remark, since);
                } else {
                    let Remark { reason, message, .. } = remark.clone();
                    self.events.push(Write::Event(about.clone(), EventType::Warning, reason, message));
                    said.insert(remark);
                }
            }
            self.told.insert(key, (ingress.clone(), said));
        }
        self.events.truncate(EVENTS);
    }

    /// Writes what is not as it should be, unless writes are under way.
    fn begin_writing(&mut self) {
        let Some(served) = self.served.as_ref().filter(|_| self.dirty && self.writing.is_none()) else { return };
        self.dirty = false;
        let snapshot = &self.objects.snapshot;
        let mut writes = publish::statuses(&self.objects, served, door::addresses(snapshot));
        let service = snapshot.service(door::NAMESPACE, door::NAME);
        match &self.door {
            None if served.is_empty() && service.is_some() => writes.push(Write::Withdraw),
            None => {}
            Some(door) => {
                if service.is_none() {
                    writes.push(Write::Service);
                }
                if !door.reached(&self.place.node_name, snapshot) {
                    writes.push(Write::Slice(door.slice(&self.place.node_name)));
                }
            }
        }
        writes.append(&mut self.events);
        let publisher = self.publisher.clone();
        if !writes.is_empty() {
            self.writing = Some(Box::pin(async move {
                let all = publisher.write(writes).await;
                if !all {
                    sleep(RETRY).await;
                }
                !all
            }));
        }
    }

    async fn close(self) {
        if let Some(door) = self.door {
            door.close().await;
        }
    }
}

/// Makes something due at that time, unless it is due earlier.
fn earliest(due: &mut Option<Instant>, at: Instant) {
    *due = Some(due.map_or(at, |due| due.min(at)));
}
