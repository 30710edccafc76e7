//! Answers that are kept for a while.
//!
//! What the cluster itself answers is not kept: it costs nothing to make, and so is never too old.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use hickory_proto::op::{Message, ResponseCode};
use tokio::time::{Instant, timeout};
use tower::ServiceExt;

use super::kubernetes;
use crate::cache::{Cache, Entry, Refresh, Stale, count, resolves};
use crate::chain::{Next, Plugin, Setup};
use crate::corefile::{self, Directive};
use crate::question::Question;
use crate::request::{Body, Failure, Reply, Request};

mod metrics;
mod settings;

pub(crate) const NAME: &str = "cache";

/// `cache [TTL] [ZONES...] { ... }`, see the `settings`.
pub(crate) fn setup(directive: &Directive, setup: &mut Setup) -> Result<(), corefile::Error> {
    let cache = Arc::new(Cache::new(settings::read(directive, setup.block)?));
    setup.quick.cache = Some((cache.clone(), setup.quick.slow.len()));
    let counted = cache.clone();
    setup.beside.collectors.push(Box::new(move |out, server| metrics::collect(&counted, out, server)));
    setup.push_with(|_| cache);
    Ok(())
}

impl Plugin for Cache {
    async fn handle(self: Arc<Self>, request: Request, next: Next) -> Result<Reply, Failure> {
        let cache = &self;
        let packet = request.question().to_vec().unwrap_or_default();
        let Some(question) = Question::parse(&packet).filter(|question| cache.serves(question)) else {
            return next.oneshot(request).await;
        };
        let now = Instant::now();
        let Some((entry, hits)) = cache.find(&question, now) else {
            count(&cache.counts.misses);
            let mut reply = ask(&request, next).await?;
            take(cache, &request, &mut reply, None);
            return Ok(reply);
        };
        count(hits);
        let left = entry.left(now);
        let mut ttl = if cache.settings.keep { entry.ttl } else { left.max(0) as u32 };
        match cache.settings.stale {
            Some(stale) if left <= 0 => {
                if let Some(reply) = verify(cache, stale, &entry, request, next).await {
                    return Ok(reply);
                }
                count(&cache.counts.stale);
                if stale.ttl > 0 {
                    ttl = stale.ttl;
                }
            }
            _ => {
                if cache.wanted(&entry, now)
                    && let Some(refresh) = entry.refresh(now)
                {
                    prefetch(cache.clone(), refresh, request, next);
                }
            }
        }
        match entry.message(&question, ttl) {
            Some(message) => Ok(Reply::message(NAME, message)),
            None => Err(Failure::server("a kept answer can't be read")),
        }
    }
}

/// Asks the rest of the chain, for answers that all clients can have: also those that want to know
/// whether they are authentic.
async fn ask(request: &Request, next: Next) -> Result<Reply, Failure> {
    let mut request = request.clone();
    request.message.metadata.authentic_data = true;
    next.oneshot(request).await
}

/// Keeps a reply if it may be kept, and fits it to its client. `old` is what it replaces.
fn take(cache: &Cache, request: &Request, reply: &mut Reply, old: Option<&Entry>) {
    let packet = request.question().to_vec().unwrap_or_default();
    let (Body::Message(message), Some(question)) = (&mut reply.body, Question::parse(&packet)) else {
        return;
    };
    if reply.plugin == kubernetes::NAME {
        // What others answered before the cluster did.
        return cache.forget(&question);
    }
    if is_for(message, request) {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        cache.keep(&question, message, Instant::now(), unix as u32, old);
    } else {
        count(&cache.counts.drops);
    }
    // Who did not ask for it is not told (RFC 6840 §5.8).
    message.metadata.authentic_data &= request.message.metadata.authentic_data || question.dnssec();
}

/// True for an answer to that question.
fn is_for(message: &Message, request: &Request) -> bool {
    message.queries[..] == [request.query.clone()]
}

/// Fetches an entry again, beside the questions.
fn prefetch(cache: Arc<Cache>, refresh: Refresh, request: Request, next: Next) {
    count(&cache.counts.prefetches);
    tokio::spawn(async move {
        if let Ok(mut reply) = ask(&request, next).await {
            take(&cache, &request, &mut reply, Some(refresh.entry()));
        }
    });
}

/// What is to be answered instead of an entry that is too old; it is fetched again, before or
/// after, unless that was tried a moment ago.
async fn verify(cache: &Arc<Cache>, stale: Stale, entry: &Arc<Entry>, request: Request, next: Next) -> Option<Reply> {
    let refresh = entry.refresh(Instant::now());
    let tries = refresh.is_some();
    let renewed = renew(cache.clone(), stale, refresh, request, next);
    match stale.verify {
        None if tries => {
            count(&cache.counts.prefetches);
            tokio::spawn(renewed);
            None
        }
        Some(limit) if tries || stale.recheck.is_zero() => match limit {
            None => renewed.await,
            Some(limit) => timeout(limit, tokio::spawn(renewed)).await.ok()?.ok()?,
        },
        _ => None,
    }
}

/// Fetches an entry again that is too old. What comes is an answer when it is better than that.
async fn renew(
    cache: Arc<Cache>,
    stale: Stale,
    refresh: Option<Refresh>,
    request: Request,
    next: Next,
) -> Option<Reply> {
    let reply = ask(&request, next).await;
    match reply.ok().filter(|reply| better(reply, &request, stale)) {
        Some(mut reply) => {
            take(&cache, &request, &mut reply, refresh.as_ref().map(Refresh::entry));
            Some(reply)
        }
        None => {
            refresh.inspect(|refresh| refresh.failed(Instant::now(), stale.recheck));
            None
        }
    }
}

/// True for an answer that is better than one that is too old (RFC 8767 §4).
fn better(reply: &Reply, request: &Request, stale: Stale) -> bool {
    let Body::Message(message) = &reply.body else {
        return false;
    };
    let current = match message.metadata.response_code {
        ResponseCode::NoError => !stale.positive || resolves(message),
        ResponseCode::NXDomain => !stale.positive && message.answers.is_empty(),
        _ => false,
    };
    current && !message.metadata.truncation && is_for(message, request)
}

#[cfg(test)]
mod tests;
