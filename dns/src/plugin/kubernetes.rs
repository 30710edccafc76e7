//! The cluster's names, from the Snapshot.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, Record};
use state::Snapshot;
use tower::ServiceExt;

use crate::answer::{Answer, answer};
use crate::chain::{Next, Plugin, Setup};
use crate::corefile::{self, Directive, Line};
use crate::endpoint::Slot;
use crate::request::{Body, Failure, Reply, Request, Sections};
use crate::zone::{Options, Pods, Selector, Zone};

pub(crate) const NAME: &str = "kubernetes";

/// Where versions of zones come from: no two are the same.
static VERSIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// What this thread read last, and its version: threads that answer touch nothing that
    /// others write to while there is nothing new.
    static LAST: RefCell<Option<(u64, Arc<Zone>)>> = const { RefCell::new(None) };
}

/// The cluster's zones as they are now.
pub(crate) struct Zones {
    slot: Slot<Zone>,
    version: AtomicU64,
}

impl Zones {
    fn new(zone: Zone) -> Self {
        let version = AtomicU64::new(VERSIONS.fetch_add(1, Ordering::Relaxed));
        Zones { slot: Slot::new(Arc::new(zone)), version }
    }

    /// The zones as of the last Snapshot.
    pub(crate) fn zone(&self) -> Arc<Zone> {
        self.slot.get()
    }

    /// Reads the zones as of the last Snapshot.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Zone) -> T) -> T {
        // Before the zone: what is read with an older number is read anew the next time.
        let version = self.version.load(Ordering::Acquire);
        LAST.with_borrow_mut(|last| match last {
            Some((known, zone)) if *known == version => read(zone),
            _ => read(&last.insert((version, self.zone())).1),
        })
    }

    /// Takes over a Snapshot; only its caller's task does.
    fn take(&self, snapshot: Arc<Snapshot>) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.slot.set(Arc::new(self.zone().next(snapshot, now as u32)));
        self.version.store(VERSIONS.fetch_add(1, Ordering::Relaxed), Ordering::Release);
    }
}

struct Kubernetes {
    zones: Arc<Zones>,
    turn: AtomicUsize,
}

/// `kubernetes [ZONES...] { … }`; the options are those of CoreDNS.
pub(crate) fn setup(directive: &Directive, setup: &mut Setup) -> Result<(), corefile::Error> {
    directive.once(setup.block)?;
    let mut options = Options::new(setup.block.zones(&directive.arguments)?);
    for line in directive.properties() {
        option(&mut options, line)?;
    }
    if !options.namespaces.is_empty() && options.namespace_labels.is_some() {
        return Err(directive.name.error("namespaces and namespace_labels cannot both be set"));
    }
    if options.zonal && !options.endpoints {
        return Err(directive.name.error("zonal requires the endpoint cache; remove noendpoints"));
    }
    let own = setup.environment.addresses.iter().map(|address| address.ip());
    let own = own.filter(|ip| !ip.is_unspecified() && !ip.is_loopback());
    options.addresses = setup.environment.address.map_or_else(|| own.collect(), |address| vec![address]);
    options.addresses.dedup();
    let scope = options.scope();
    let zone = Zone::new(options).ok_or_else(|| directive.name.error("non-reverse zone name must be used"))?;
    let zones = Arc::new(Zones::new(zone));
    let mut snapshots = (setup.environment.snapshots)(scope);
    zones.take(snapshots.borrow_and_update().clone());
    let kept = zones.clone();
    setup.background.push(Box::pin(async move {
        // Without a sender nothing new will come: what is known is still answered.
        while snapshots.changed().await.is_ok() {
            kept.take(snapshots.borrow_and_update().clone());
        }
    }));
    let synced = zones.clone();
    setup.beside.checks.push((NAME, Box::new(move || synced.zone().snapshot.synced)));
    setup.quick.kubernetes = Some(zones.clone());
    // There is one at most.
    let _ = setup.zones.set(zones.clone());
    setup.push(Kubernetes { zones, turn: AtomicUsize::new(0) });
    Ok(())
}

/// Reads a line of the directive's body.
fn option(options: &mut Options, line: Line) -> Result<(), corefile::Error> {
    let text = || line.arguments.iter().map(|word| &*word.text).collect::<Vec<_>>().join(" ");
    let selector = || {
        line.between(1, usize::MAX)?;
        Selector::parse(&text()).ok_or_else(|| line.name.error(format!("'{}' is no label selector", text())))
    };
    match &*line.name.text {
        "endpoint_pod_names" => line.exactly().map(|[]| options.pod_names = true)?,
        "noendpoints" => line.exactly().map(|[]| options.endpoints = false)?,
        "zonal" => line.exactly().map(|[]| options.zonal = true)?,
        "ignore" => match line.one()? {
            what if what.text == "empty_service" => options.ignore_empty = true,
            what => return Err(what.error(format!("unable to parse ignore value: '{}'", what.text))),
        },
        "pods" => {
            options.pods = match line.one()? {
                mode if mode.text == "disabled" => Pods::Disabled,
                mode if mode.text == "insecure" => Pods::Insecure,
                mode if mode.text == "verified" => Pods::Verified,
                mode => return Err(mode.error("pods must be one of: disabled, verified, insecure")),
            }
        }
        "ttl" => options.ttl = line.one()?.number(0..=3600)?,
        "namespaces" => {
            let names = line.between(1, usize::MAX)?.iter();
            options.namespaces.extend(names.map(|word| word.text.clone()));
        }
        "namespace_labels" => options.namespace_labels = Some(selector()?),
        "labels" => options.labels = selector().map(|_| Some(text()))?,
        "fallthrough" if line.arguments.is_empty() => options.fallthrough = vec![Name::root()],
        "fallthrough" => options.fallthrough = corefile::zones(line.arguments)?,
        // How the cluster is reached is said elsewhere; Services of other clusters are not known.
        "endpoint"
        | "tls"
        | "kubeconfig"
        | "startup_timeout"
        | "apiserver_qps"
        | "apiserver_burst"
        | "apiserver_max_inflight"
        | "multicluster" => {
            tracing::warn!("{}", line.name.error(format!("kubernetes: {} has no effect", line.name.text)));
        }
        _ => return Err(line.unknown()),
    }
    Ok(())
}

impl Plugin for Kubernetes {
    async fn handle(self: Arc<Self>, request: Request, next: Next) -> Result<Reply, Failure> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let zone = self.zones.zone();
        match answer(&zone, request.name(), request.kind(), turn) {
            Answer::Records { answers, additionals } if !answers.is_empty() => {
                let sections = Sections { answers, additionals, ..Default::default() };
                Ok(Reply::message(NAME, request.reply(ResponseCode::NoError, true, sections)))
            }
            Answer::Records { .. } => Ok(negative(&zone, &request, ResponseCode::NoError)),
            Answer::NxDomain => Ok(negative(&zone, &request, ResponseCode::NXDomain)),
            Answer::Refused => Err(Failure { code: ResponseCode::Refused, reason: String::new() }),
            Answer::ServFail => Err(Failure::server("the cluster's Services are not known yet")),
            Answer::Next => {
                drop(zone);
                next.oneshot(request).await
            }
            Answer::Follow { answers, target } => {
                drop(zone);
                follow(&request, answers, target).await
            }
        }
    }
}

fn negative(zone: &Zone, request: &Request, code: ResponseCode) -> Reply {
    let soa = |labels: usize| zone.soa(&request.name().trim_to(labels));
    let origin = zone.origin_of(request.name());
    let authorities = origin.map(|origin| soa(usize::from(origin.name.num_labels()))).into_iter().collect();
    Reply::message(NAME, request.reply(code, true, Sections { authorities, ..Default::default() }))
}

/// The alias, and what is known of its target.
async fn follow(request: &Request, mut answers: Vec<Record>, target: Name) -> Result<Reply, Failure> {
    let mut code = ResponseCode::NoError;
    if let Body::Message(known) = request.look_up(target, request.kind()).await?.body {
        answers.extend(known.answers);
        code = known.metadata.response_code;
    }
    Ok(Reply::message(NAME, request.reply(code, true, Sections { answers, ..Default::default() })))
}

#[cfg(test)]
mod tests;
