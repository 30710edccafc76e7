//! Whole zones for those who may have them: AXFR (RFC 5936), and IXFR (RFC 1995) answered by the
//! whole zone, or by its SOA record alone when the client has it.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use tower::ServiceExt;

use crate::chain::{Next, Plugin, Setup};
use crate::contents::contents;
use crate::corefile::{self, Directive, Word};
use crate::plugin::kubernetes::Zones;
use crate::request::{Body, Failure, Reply, Request, Sections, Transport};

const NAME: &str = "transfer";

/// How many records a message has: with the longest names they fit.
const RECORDS: usize = 100;

/// A directive.
struct Rule {
    zones: Vec<Name>,
    /// Who may have them.
    to: Vec<IpNet>,
}

struct Transfer {
    rules: Vec<Rule>,
    zones: Arc<OnceLock<Arc<Zones>>>,
}

/// `transfer [ZONE...] { to ADDRESS... }`: an ADDRESS is one, with or without a port, a network, or
/// `*`. Nobody is notified, so `source` has no effect.
pub(crate) fn setup(directive: &Directive, setup: &mut Setup) -> Result<(), corefile::Error> {
    let mut rules = Vec::new();
    for directive in setup.together(directive) {
        let mut rule = Rule { zones: setup.block.zones(&directive.arguments)?, to: Vec::new() };
        for line in directive.properties() {
            match &*line.name.text {
                "to" => {
                    for word in line.between(1, usize::MAX)? {
                        rule.to.extend(networks(word)?);
                    }
                }
                "source" => drop(line.one()?),
                _ => return Err(line.unknown()),
            }
        }
        if rule.to.is_empty() {
            return Err(directive.name.error("'to' is required"));
        }
        rules.push(rule);
    }
    if !rules.is_empty() {
        setup.push(Transfer { rules, zones: setup.zones.clone() });
    }
    Ok(())
}

fn networks(word: &Word) -> Result<Vec<IpNet>, corefile::Error> {
    let text = &*word.text;
    if text == "*" {
        return Ok(vec![IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())]);
    }
    let address = || text.parse::<IpAddr>().or_else(|_| text.parse::<SocketAddr>().map(|at| at.ip()));
    let network = text.parse::<IpNet>().or_else(|_| address().map(IpNet::from));
    Ok(vec![network.map_err(|_| word.error(format!("'{text}' is neither an address nor a network")))?])
}

impl Transfer {
    /// The rule of the longest zone that a name is in.
    fn rule(&self, name: &Name) -> Option<&Rule> {
        let depth = |rule: &&Rule| rule.zones.iter().filter(|zone| zone.zone_of(name)).map(Name::num_labels).max();
        self.rules.iter().filter(|rule| depth(rule).is_some()).max_by_key(depth)
    }
}

impl Plugin for Transfer {
    async fn handle(self: Arc<Self>, request: Request, next: Next) -> Result<Reply, Failure> {
        let refused = || Err(Failure { code: ResponseCode::Refused, reason: String::new() });
        if !matches!(request.kind(), RecordType::AXFR | RecordType::IXFR) {
            return next.oneshot(request).await;
        }
        if request.context.transport != Transport::Tcp {
            return refused();
        }
        let (Some(rule), Some(zones)) = (self.rule(request.name()), self.zones.get()) else {
            return next.oneshot(request).await;
        };
        let client = request.context.client.ip().to_canonical();
        if !rule.to.iter().any(|network| network.contains(&client)) {
            return refused();
        }
        let zone = zones.zone();
        let Some(origin) = zone.origin_of(request.name()).filter(|origin| origin.name == *request.name()) else {
            return next.oneshot(request).await;
        };
        if !zone.snapshot.synced {
            return Err(Failure::server("the cluster's Services are not known yet"));
        }
        let soa = zone.soa(&origin.name);
        let known = match (request.kind(), &request.message.authorities[..]) {
            (RecordType::AXFR, _) => None,
            (_, [Record { data: RData::SOA(soa), .. }]) => Some(soa.serial),
            _ => return Err(Failure::server("IXFR without the SOA record that the client has")),
        };
        // Serial numbers go round (RFC 1982 §3.2).
        if known.is_some_and(|known| known.wrapping_sub(zone.serial) < 1 << 31) {
            let sections = Sections { answers: vec![soa], ..Default::default() };
            return Ok(Reply::message(NAME, request.reply(ResponseCode::NoError, true, sections)));
        }
        tracing::info!("transfer of zone {} to {client} at serial {}", origin.name, zone.serial);
        let mut records = contents(zone.clone(), origin.name.clone());
        let messages = std::iter::from_fn(move || {
            let answers: Vec<Record> = records.by_ref().take(RECORDS).collect();
            let sections = Sections { answers, ..Default::default() };
            (!sections.answers.is_empty()).then(|| request.reply(ResponseCode::NoError, true, sections))
        });
        Ok(Reply { body: Body::Messages(Box::new(messages)), plugin: NAME })
    }
}

#[cfg(test)]
mod tests;
