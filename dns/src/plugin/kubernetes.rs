//! The cluster's names, from the Snapshot.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, Record};
use state::Snapshot;
use tower::ServiceExt;

use crate::answer::{Answer, answer};
use crate::chain::{Next, Plugin, Setup};
use crate::corefile::{self, Directive};
use crate::request::{Body, Failure, Reply, Request, Sections};
use crate::zone::Zone;

pub(crate) const NAME: &str = "kubernetes";

/// The cluster's names as they are now.
pub(crate) struct Zones {
    /// Locked for writing only while what changed is put in.
    zone: RwLock<Zone>,
}

impl Zones {
    /// The zone, to read from; a writer that panicked has left it usable.
    pub(crate) fn zone(&self) -> std::sync::RwLockReadGuard<'_, Zone> {
        self.zone.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Puts a Snapshot into the zone.
    fn take(&self, snapshot: Arc<Snapshot>) {
        let serial = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut zone = self.zone.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        zone.update(snapshot, serial as u32);
    }
}

struct Kubernetes {
    zones: Arc<Zones>,
    turn: AtomicUsize,
}

/// `kubernetes [ZONES...]`.
pub(crate) fn setup(directive: &Directive, setup: &mut Setup) -> Result<(), corefile::Error> {
    let domain = directive.arguments.first().map_or("cluster.local", |word| &word.text);
    let IpAddr::V4(address) = setup.environment.address.unwrap_or(IpAddr::from([0; 4])) else {
        return Err(directive.name.error("the address of the server is not of IPv4"));
    };
    let address = Some(address).filter(|address| !address.is_unspecified());
    let zone = Zone::new(domain, address).map_err(|error| directive.name.error(error.to_string()))?;
    let zones = Arc::new(Zones { zone: RwLock::new(zone) });
    let mut snapshots = (setup.environment.snapshots)(state::Scope::default());
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

impl Plugin for Kubernetes {
    async fn handle(self: Arc<Self>, request: Request, next: Next) -> Result<Reply, Failure> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let answer = answer(&self.zones.zone(), request.name(), request.kind(), turn);
        match answer {
            Answer::Records { answers, additionals } if !answers.is_empty() => {
                let sections = Sections { answers, additionals, ..Default::default() };
                Ok(Reply::message(NAME, request.reply(ResponseCode::NoError, true, sections)))
            }
            Answer::Records { .. } => Ok(self.negative(&request, ResponseCode::NoError)),
            Answer::NxDomain => Ok(self.negative(&request, ResponseCode::NXDomain)),
            Answer::Refused => Err(Failure { code: ResponseCode::Refused, reason: String::new() }),
            Answer::ServFail => Err(Failure::server("the cluster's Services are not known yet")),
            Answer::Forward => next.oneshot(request).await,
            Answer::Follow { answers, target } => follow(&request, answers, target).await,
        }
    }
}

impl Kubernetes {
    fn negative(&self, request: &Request, code: ResponseCode) -> Reply {
        let authorities = vec![self.zones.zone().soa()];
        Reply::message(NAME, request.reply(code, true, Sections { authorities, ..Default::default() }))
    }
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
