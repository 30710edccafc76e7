//! Questions that are not ours, sent on to resolvers: which of them, in which order, how often.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, WeakShared};
use hickory_proto::ProtoError;
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use tokio::time::{Instant, sleep, timeout_at};

use crate::metrics::Metrics;

mod question;
mod streams;
mod upstream;

pub(crate) use question::{Question, random};
pub(crate) use streams::{Limits, Stream};
pub(crate) use upstream::Target;
use upstream::Upstream;

/// How long all resolvers are waited for: clients ask again after 5 seconds (resolv.conf(5)).
const PATIENCE: Duration = Duration::from_millis(4500);

/// How long to wait after all resolvers failed where questions are not limited in number.
const PAUSE: Duration = Duration::from_millis(100);

/// In which order resolvers are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    Random,
    RoundRobin,
    Sequential,
}

/// What a directive says of all its resolvers.
pub(crate) struct Settings {
    pub(crate) policy: Policy,
    pub(crate) limits: Limits,
    pub(crate) force_tcp: bool,
    pub(crate) prefer_udp: bool,
    /// The address that questions leave from.
    pub(crate) source: Option<IpAddr>,
    /// How many checks must fail before a resolver is not asked; 0: none is checked.
    pub(crate) max_fails: u32,
    pub(crate) check_interval: Duration,
    /// What resolvers are checked with.
    pub(crate) check: Question,
    /// How many questions without an answer one question may cost; 0 for no limit; by default two
    /// to each resolver.
    pub(crate) max_connect_attempts: Option<usize>,
    /// With these codes the next resolver is asked.
    pub(crate) failover: Vec<ResponseCode>,
    /// No resolver is asked when all are down, rather than one of them.
    pub(crate) failfast: bool,
}

impl Settings {
    /// What holds where a directive says nothing.
    pub(crate) fn standard() -> Result<Self, ProtoError> {
        Ok(Settings {
            policy: Policy::Random,
            limits: Limits {
                idle: 0,
                expire: Duration::from_secs(10),
                age: Duration::ZERO,
                patience: Duration::from_secs(2),
            },
            force_tcp: false,
            prefer_udp: false,
            source: None,
            max_fails: 2,
            check_interval: Duration::from_millis(500),
            check: Question::check(Query::query(Name::root(), RecordType::NS), true)?,
            max_connect_attempts: None,
            failover: Vec::new(),
            failfast: false,
        })
    }
}

/// What questions get, which may be several: an answer, or why there is none.
type Outcome = Result<Arc<Message>, Arc<str>>;

/// A question, and whether it goes by TCP.
type Key = (Question, bool);

/// The resolvers of a directive.
pub(crate) struct Upstreams {
    all: Vec<Arc<Upstream>>,
    settings: Arc<Settings>,
    turn: AtomicUsize,
    /// The questions on their way.
    flights: Mutex<HashMap<Key, WeakShared<BoxFuture<'static, Outcome>>>>,
    metrics: Arc<Metrics>,
}

/// Takes a question off the list when it is answered, or nobody waits any more.
struct Landing {
    upstreams: Arc<Upstreams>,
    key: Key,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.upstreams.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

impl Upstreams {
    pub(crate) fn new(targets: Vec<Target>, settings: Settings, metrics: Arc<Metrics>) -> Self {
        let settings = Arc::new(settings);
        let upstream = |target: Target| {
            let counts = metrics.proxies.proxy(target.address);
            Arc::new(Upstream::new(target, settings.clone(), counts))
        };
        let all = targets.into_iter().map(upstream).collect();
        let (turn, flights) = Default::default();
        Upstreams { all, settings, turn, flights, metrics }
    }

    /// The answer of the first resolver that gives one, in time for the client. Equal questions
    /// share one; it ends when all of them do.
    pub(crate) async fn ask(self: Arc<Self>, question: Question, tcp: bool) -> Outcome {
        let tcp = self.settings.force_tcp || tcp && !self.settings.prefer_udp;
        let key = (question, tcp);
        let flight = {
            let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
            flights.get(&key).and_then(WeakShared::upgrade).unwrap_or_else(|| {
                let landing = Landing { upstreams: self.clone(), key: key.clone() };
                let flight = async move {
                    let Landing { upstreams, key: (question, tcp) } = &landing;
                    upstreams.rounds(question, *tcp).await.map(Arc::new).map_err(Arc::from)
                };
                let flight = flight.boxed().shared();
                flight.downgrade().and_then(|flight| flights.insert(key, flight));
                flight
            })
        };
        flight.await
    }

    async fn rounds(&self, question: &Question, tcp: bool) -> Result<Message, String> {
        let (order, attempts) = self.order()?;
        // A longer time for each is what somebody wanted.
        let deadline = Instant::now() + PATIENCE.max(self.settings.limits.patience);
        let (mut failed, mut declined) = (0, 0);
        let mut reason = "no resolver answered in time".to_owned();
        for (step, upstream) in order.iter().cycle().enumerate() {
            if attempts == 0 && step > 0 && step % order.len() == 0 {
                sleep(PAUSE).await;
            }
            match timeout_at(deadline, upstream.ask(question, tcp)).await {
                Ok(Ok(message)) if self.settings.failover.contains(&message.metadata.response_code) => {
                    declined += 1;
                    if declined >= order.len() {
                        return Ok(message);
                    }
                }
                Ok(Ok(message)) => return Ok(message),
                Ok(Err(error)) => {
                    upstream.suspect();
                    reason = format!("resolver {}: {error}", upstream.target.address);
                    failed += 1;
                    if failed == attempts {
                        break;
                    }
                }
                Err(_) => break,
            }
        }
        Err(reason)
    }

    /// Whom to ask, and how many failures to take.
    fn order(&self) -> Result<(Vec<Arc<Upstream>>, usize), String> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let all = order(self.settings.policy, self.all.len(), turn, || random().into());
        let mut up: Vec<_> = all.iter().map(|index| self.all[*index].clone()).filter(|each| !each.down()).collect();
        // Those that failed just now come last.
        up.sort_by_cached_key(|upstream| upstream.suspected());
        if !up.is_empty() {
            return Ok((up, self.settings.max_connect_attempts.unwrap_or(2 * self.all.len())));
        }
        let Some(any) = self.all.get(usize::from(random()) % self.all.len().max(1)) else {
            return Err("no resolver is known".into());
        };
        self.metrics.proxies.broken.fetch_add(1, Ordering::Relaxed);
        match self.settings.failfast {
            true => Err("all resolvers are down".into()),
            false => Ok((vec![any.clone()], 1)),
        }
    }
}

/// The order of `count` resolvers at a turn.
fn order(policy: Policy, count: usize, turn: usize, draw: impl Fn() -> usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    match policy {
        Policy::Random => (1..count).for_each(|last| order.swap(last, draw() % (last + 1))),
        Policy::RoundRobin => order.rotate_left(turn % count.max(1)),
        Policy::Sequential => {}
    }
    order
}

#[cfg(test)]
pub(crate) mod tests;
