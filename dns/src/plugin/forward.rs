//! Questions that are not ours, sent on to other resolvers.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::Name;
use tokio::sync::Semaphore;
use tower::ServiceExt;

use crate::chain::{Next, Plugin, Setup};
use crate::corefile::{self, Directive};
use crate::forward::{Question, Upstreams};
use crate::metrics::Metrics;
use crate::request::{Failure, Reply, Request, Transport};

mod settings;
mod tls;

use settings::Settings;

const NAME: &str = "forward";

struct Forward {
    from: Vec<Name>,
    /// What is not forwarded, though it is in `from`.
    except: Vec<Name>,
    upstreams: Arc<Upstreams>,
    /// How many questions may wait at a time.
    most: Option<(Semaphore, usize)>,
    /// With these codes the next `forward` is asked, if there is one.
    next: Vec<ResponseCode>,
    next_on_nodata: bool,
    metrics: Arc<Metrics>,
}

/// `forward FROM TO...`, several times for stub domains: the one of the longest FROM is asked, and
/// of equal ones the first.
pub(crate) fn setup(directive: &Directive, setup: &mut Setup) -> Result<(), corefile::Error> {
    let own = &setup.environment.addresses;
    let read = |directive: &&Directive| Settings::read(directive, own);
    let mut all = setup.together(directive).iter().map(read).collect::<Result<Vec<_>, _>>()?;
    all.sort_by_key(|settings| std::cmp::Reverse(settings.from.first().map(Name::num_labels)));
    for (left, settings) in (0..all.len()).rev().zip(all) {
        let Settings { from, except, max_concurrent, mut next, mut next_on_nodata, targets, upstreams, .. } = settings;
        if left == 0 {
            next.clear();
            next_on_nodata = false;
        }
        let metrics = setup.environment.metrics.clone();
        let upstreams = Arc::new(Upstreams::new(targets, upstreams, metrics.clone()));
        let most = max_concurrent.map(|most| (Semaphore::new(most), most));
        setup.push(Forward { from, except, upstreams, most, next, next_on_nodata, metrics });
    }
    Ok(())
}

impl Plugin for Forward {
    async fn handle(self: Arc<Self>, request: Request, next: Next) -> Result<Reply, Failure> {
        if !self.takes(request.name()) {
            return next.oneshot(request).await;
        }
        let message = self.ask(&request).await?;
        if self.declined(&message) {
            return next.oneshot(request).await;
        }
        Ok(Reply::message(NAME, Arc::unwrap_or_clone(message)))
    }
}

impl Forward {
    fn takes(&self, name: &Name) -> bool {
        let within = |zones: &[Name]| zones.iter().any(|zone| zone.zone_of(name));
        within(&self.from) && (self.from.contains(name) || !within(&self.except))
    }

    async fn ask(&self, request: &Request) -> Result<Arc<Message>, Failure> {
        let _permit = match &self.most {
            None => None,
            Some((waiting, most)) => Some(waiting.try_acquire().map_err(|_| {
                self.metrics.proxies.rejects.fetch_add(1, Ordering::Relaxed);
                let reason = format!("concurrent queries exceeded maximum {most}");
                Failure { code: ResponseCode::Refused, reason }
            })?),
        };
        let question = Question::of(request).map_err(|error| Failure::server(error.to_string()))?;
        let tcp = request.context.transport != Transport::Udp;
        self.upstreams.clone().ask(question, tcp).await.map_err(|reason| Failure::server(&*reason))
    }

    /// Whether the next `forward` is asked instead.
    fn declined(&self, message: &Message) -> bool {
        let code = message.metadata.response_code;
        let nodata = code == ResponseCode::NoError && message.answers.is_empty();
        self.next.contains(&code) || self.next_on_nodata && nodata
    }
}

#[cfg(test)]
mod tests;
