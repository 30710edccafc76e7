//! Search paths, followed here instead of by the client: of the names that its resolver would try,
//! the first that exists is the answer to the first question.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::rdata::CNAME;
use hickory_proto::rr::{Name, RData, Record};
use tower::ServiceExt;

use crate::chain::{Next, Plugin, Setup};
use crate::corefile::{self, Directive, Word};
use crate::plugin::kubernetes::Zones;
use crate::request::{Body, Failure, Reply, Request};
use crate::zone::{Pods, under};

/// Whose search path it is when the client is a pod; its own is added.
const HOST: &str = "/etc/resolv.conf";

/// Where a client's search path comes from.
enum Source {
    /// The client's Pod, known by its address, and then these.
    Pods(Arc<OnceLock<Arc<Zones>>>, Vec<Name>),
    /// These.
    Names(Vec<Name>),
}

struct Autopath {
    zones: Vec<Name>,
    source: Source,
}

/// `autopath [ZONE...] RESOLV-CONF`: a file like resolv.conf(5), or `@kubernetes`, which needs
/// `pods verified`.
pub(crate) fn setup(directive: &Directive, setup: &mut Setup) -> Result<(), corefile::Error> {
    directive.once(setup.block)?;
    let [zones @ .., source] = &directive.arguments[..] else {
        return Err(directive.name.error("no resolv-conf specified"));
    };
    let zones = setup.block.zones(zones)?;
    let source = match source.text.strip_prefix('@') {
        // Without the host's file pods have none of its search path either.
        Some("kubernetes") => {
            let host = std::fs::read_to_string(Path::new(HOST)).unwrap_or_default();
            Source::Pods(setup.zones.clone(), search(&host))
        }
        Some(_) => return Err(source.error(format!("{} has no search paths", source.text))),
        None => Source::Names(search(&read(source)?)),
    };
    setup.quick.searches = true;
    setup.push(Autopath { zones, source });
    Ok(())
}

fn read(word: &Word) -> Result<String, corefile::Error> {
    std::fs::read_to_string(&word.text).map_err(|e| word.error(format!("failed to parse '{}': {e}", word.text)))
}

/// The last `search` or `domain` line of a resolv.conf(5).
fn search(text: &str) -> Vec<Name> {
    let line = |line: &'_ str| {
        let mut words = line.split_whitespace();
        matches!(words.next(), Some("search" | "domain")).then(|| words.filter_map(name).collect())
    };
    text.lines().rev().find_map(line).unwrap_or_default()
}

fn name(text: &str) -> Option<Name> {
    let mut name = Name::from_ascii(text).ok()?.to_lowercase();
    name.set_fqdn(true);
    Some(name).filter(|name| !name.is_root())
}

impl Autopath {
    /// The names under which the client's resolver looks, without the last, which is none.
    fn path(&self, request: &Request) -> Vec<Name> {
        let (zones, more) = match &self.source {
            Source::Names(names) => return names.clone(),
            Source::Pods(zones, more) => (zones, more),
        };
        let Some(zone) = zones.get().map(|zones| zones.zone()) else {
            return Vec::new();
        };
        let client = request.context.client.ip().to_canonical();
        let pod = zone.snapshot.pod_at(client).filter(|_| zone.options.pods == Pods::Verified);
        let (Some(pod), Some(origin)) = (pod, zone.origin_of(request.name())) else {
            return Vec::new();
        };
        let own = [&[&*pod.key.namespace, "svc"][..], &["svc"], &[]];
        own.into_iter().map(|labels| under(labels, &origin.name)).chain(more.iter().cloned()).collect()
    }
}

impl Plugin for Autopath {
    async fn handle(self: Arc<Self>, request: Request, next: Next) -> Result<Reply, Failure> {
        let ours = self.zones.iter().any(|zone| zone.zone_of(request.name()));
        let path = if ours { self.path(&request) } else { Vec::new() };
        let Some(first) = path.first().filter(|first| first.zone_of(request.name()) && *first != request.name()) else {
            return next.oneshot(request).await;
        };
        let front: Vec<&[u8]> = request.name().iter().collect();
        let front = &front[..front.len() - usize::from(first.num_labels())];
        let asked = |under: &Name| Name::from_labels(front.iter().copied()).ok()?.append_domain(under).ok();
        // A first answer that is no answer is what the client gets when there is no better one.
        let reply = next.clone().oneshot(request.clone()).await?;
        if !absent(&reply) {
            return Ok(reply);
        }
        for name in path[1..].iter().chain([&Name::root()]).filter_map(asked) {
            let mut other = request.clone();
            other.query = Query::query(name, request.kind());
            match next.clone().oneshot(other).await {
                Ok(mut found) if !absent(&found) => {
                    if let Body::Message(message) = &mut found.body {
                        rename(message, request.name());
                    }
                    return Ok(found);
                }
                _ => {}
            }
        }
        Ok(reply)
    }
}

/// True for an answer that lets the client go on along its path.
fn absent(reply: &Reply) -> bool {
    matches!(&reply.body, Body::Message(message) if message.metadata.response_code == ResponseCode::NXDomain)
}

/// Makes an answer about another name one about the name that was asked, an alias of the other.
fn rename(message: &mut Message, asked: &Name) {
    if let Some(other) = message.answers.iter().find(|record| record.name != *asked) {
        let alias = RData::CNAME(CNAME(other.name.clone()));
        message.answers.insert(0, Record::from_rdata(asked.clone(), other.ttl, alias));
    }
}

#[cfg(test)]
mod tests;
