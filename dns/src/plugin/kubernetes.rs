//! The cluster's names, from the Snapshot.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, Record};
use state::Snapshot;
use tower::ServiceExt;

use crate::answer::{Answer, answer};
use crate::chain::{Next, Plugin, Setup};
use crate::corefile::{self, Directive, Word};
use crate::request::{Body, Failure, Reply, Request, Sections};
use crate::zone::{Options, Pods, Selector, Zone};

pub(crate) const NAME: &str = "kubernetes";

/// The cluster's zones as they are now.
pub(crate) struct Zones(RwLock<Arc<Zone>>);

impl Zones {
    /// The zones as of the last Snapshot; the lock is never held for longer than this takes.
    pub(crate) fn zone(&self) -> Arc<Zone> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes over a Snapshot; only its caller's task does.
    fn take(&self, snapshot: Arc<Snapshot>) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let next = Arc::new(self.zone().next(snapshot, now as u32));
        let last = std::mem::replace(&mut *self.0.write().unwrap_or_else(PoisonError::into_inner), next);
        // What it alone had is freed here, without the lock.
        drop(last);
    }
}

struct Kubernetes {
    zones: Arc<Zones>,
    turn: AtomicUsize,
}

/// `kubernetes [ZONES...] { … }`; the options are those of CoreDNS.
pub(crate) fn setup(directive: &Directive, setup: &mut Setup) -> Result<(), corefile::Error> {
    let mut options = Options::new(setup.block.zones(&directive.arguments)?);
    for line in &directive.body {
        if let [name, arguments @ ..] = &line[..] {
            option(&mut options, name, arguments)?;
        }
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
    let zones = Arc::new(Zones(RwLock::new(Arc::new(zone))));
    let mut snapshots = (setup.environment.snapshots)(scope);
    zones.take(snapshots.borrow_and_update().clone());
    let kept = zones.clone();
    setup.background.push(Box::pin(async move {
        // Without a sender nothing new will come: what is known is still answered.
        while snapshots.changed().await.is_ok() {
            kept.take(snapshots.borrow_and_update().clone());
        }
    }));
    setup.quick.kubernetes = Some(zones.clone());
    setup.push(Kubernetes { zones, turn: AtomicUsize::new(0) });
    Ok(())
}

/// Reads a line of the directive's body.
fn option(options: &mut Options, name: &Word, arguments: &[Word]) -> Result<(), corefile::Error> {
    let wrong = || name.error(format!("wrong arguments of '{}'", name.text));
    let text = || arguments.iter().map(|word| &*word.text).collect::<Vec<_>>().join(" ");
    match (&*name.text, arguments) {
        ("endpoint_pod_names", []) => options.pod_names = true,
        ("noendpoints", []) => options.endpoints = false,
        ("zonal", []) => options.zonal = true,
        ("ignore", [what]) if what.text == "empty_service" => options.ignore_empty = true,
        ("pods", [mode]) => {
            options.pods = match &*mode.text {
                "disabled" => Pods::Disabled,
                "insecure" => Pods::Insecure,
                "verified" => Pods::Verified,
                other => {
                    let message = "must be one of: disabled, verified, insecure";
                    return Err(mode.error(format!("wrong value for pods: {other}, {message}")));
                }
            }
        }
        ("ttl", [ttl]) => {
            let seconds = ttl.text.parse().ok().filter(|seconds| *seconds <= 3600);
            options.ttl = seconds.ok_or_else(|| ttl.error(format!("ttl must be in range [0, 3600]: {}", ttl.text)))?;
        }
        ("namespaces", [_, ..]) => options.namespaces.extend(arguments.iter().map(|word| word.text.clone())),
        ("namespace_labels", [_, ..]) => {
            let selector =
                Selector::parse(&text()).ok_or_else(|| name.error(format!("no label selector: {}", text())))?;
            options.namespace_labels = Some(selector);
        }
        ("labels", [_, ..]) => {
            Selector::parse(&text()).ok_or_else(|| name.error(format!("no label selector: {}", text())))?;
            options.labels = Some(text());
        }
        ("fallthrough", []) => options.fallthrough = vec![Name::root()],
        ("fallthrough", names) => options.fallthrough = corefile::zones(names)?,
        // How the cluster is reached is said elsewhere, and Services of other clusters are not known.
        ("endpoint" | "tls" | "kubeconfig" | "startup_timeout" | "apiserver_qps" | "apiserver_burst", _)
        | ("apiserver_max_inflight" | "multicluster", _) => {
            tracing::warn!("{}", name.error(format!("kubernetes: {} is left out of account", name.text)));
        }
        ("endpoint_pod_names" | "noendpoints" | "zonal" | "ignore" | "pods" | "ttl" | "namespaces", _)
        | ("namespace_labels" | "labels", _) => return Err(wrong()),
        _ => return Err(name.error(format!("unknown property '{}'", name.text))),
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
