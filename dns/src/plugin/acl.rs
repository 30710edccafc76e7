//! Who may ask what.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RecordType};
use ipnet::IpNet;
use tower::ServiceExt;

use crate::chain::{Next, Plugin, Setup};
use crate::corefile::{self, Directive, Word};
use crate::metrics::Exposition;
use crate::request::{Body, Failure, Reply, Request, Sections, extended_error};

const NAME: &str = "acl";

/// Extended errors (RFC 8914 §4.16, §4.18).
const BLOCKED: u16 = 15;
const FILTERED: u16 = 17;

/// What becomes of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// It goes on.
    Allow,
    /// REFUSED.
    Block,
    /// An empty answer.
    Filter,
    /// No answer.
    Drop,
}

const ACTIONS: [(&str, Action); 4] =
    [("allow", Action::Allow), ("block", Action::Block), ("filter", Action::Filter), ("drop", Action::Drop)];

/// A line of a directive.
struct Policy {
    action: Action,
    /// Empty means all.
    kinds: Vec<RecordType>,
    /// Empty means all.
    nets: Vec<IpNet>,
}

impl Policy {
    fn fits(&self, kind: RecordType, client: IpAddr) -> bool {
        (self.kinds.is_empty() || self.kinds.contains(&kind))
            && (self.nets.is_empty() || self.nets.iter().any(|net| net.contains(&client)))
    }
}

/// A directive.
struct Rule {
    zones: Vec<Zone>,
    policies: Vec<Policy>,
}

/// A zone, and how often each of the [`ACTIONS`] was taken in it.
struct Zone {
    name: Name,
    taken: [AtomicU64; ACTIONS.len()],
}

struct Acl {
    rules: Vec<Rule>,
    allowed: AtomicU64,
}

/// `acl [ZONES...] { allow|block|filter|drop [type QTYPE...] [net SOURCE...] }`: of the first line
/// that fits the question's zone, type and client its action is taken. Without one it is allowed.
pub(crate) fn setup(directive: &Directive, setup: &mut Setup) -> Result<(), corefile::Error> {
    let mut rules = Vec::new();
    for directive in setup.together(directive) {
        let policies = directive.body.iter().map(|line| policy(line)).collect::<Result<_, _>>()?;
        let zones = setup.block.zones(&directive.arguments)?.into_iter();
        rules.push(Rule { zones: zones.map(|name| Zone { name, taken: Default::default() }).collect(), policies });
    }
    if !rules.is_empty() {
        let acl = Arc::new(Acl { rules, allowed: AtomicU64::new(0) });
        let (seen, counted) = (acl.clone(), acl.clone());
        setup.slow(move |name| seen.rules.iter().any(|rule| rule.zone(name).is_some()));
        setup.beside.collectors.push(Box::new(move |out, server| counted.expose(out, server)));
        setup.push_with(|_| acl);
    }
    Ok(())
}

fn policy(line: &[Word]) -> Result<Policy, corefile::Error> {
    let unexpected =
        |word: &Word, want: &str| Err(word.error(format!("unexpected token {:?}; expect {want}", word.text)));
    let Some((_, action)) = ACTIONS.iter().find(|(name, _)| name.eq_ignore_ascii_case(&line[0].text)) else {
        return unexpected(&line[0], "'allow', 'block', 'filter' or 'drop'");
    };
    let (mut kinds, mut nets) = (Vec::new(), Vec::new());
    let section = |word: &Word| ["type", "net"].into_iter().find(|name| name.eq_ignore_ascii_case(&word.text));
    let mut rest = &line[1..];
    while let [first, after @ ..] = rest {
        let end = after.iter().position(|word| section(word).is_some()).unwrap_or(after.len());
        let (values, left) = after.split_at(end);
        if values.is_empty() {
            return Err(first.error(format!("no token specified in {:?} section", first.text)));
        }
        let all = values.iter().any(|word| word.text == "*");
        match section(first) {
            Some("type") if all => kinds.clear(),
            Some("type") => {
                for word in values {
                    let Ok(kind) = word.text.parse::<RecordType>() else { return unexpected(word, "legal QTYPE") };
                    kinds.push(kind);
                }
            }
            Some(_) if all => nets.clear(),
            Some(_) => {
                for word in values {
                    let net = word.text.parse().or_else(|_| word.text.parse::<IpAddr>().map(IpNet::from));
                    let Ok(net) = net else { return unexpected(word, "an address or CIDR notation") };
                    nets.push(net);
                }
            }
            None => return unexpected(first, "'type | net'"),
        }
        rest = left;
    }
    Ok(Policy { action: *action, kinds, nets })
}

impl Rule {
    /// The closest of the zones that a name is in.
    fn zone(&self, name: &Name) -> Option<&Zone> {
        self.zones.iter().filter(|zone| zone.name.zone_of(name)).max_by_key(|zone| zone.name.num_labels())
    }
}

impl Acl {
    /// What becomes of a question; it is counted.
    fn action(&self, name: &Name, kind: RecordType, client: IpAddr) -> Action {
        let client = client.to_canonical();
        let taken = self.rules.iter().find_map(|rule| {
            let zone = rule.zone(name)?;
            let policy = rule.policies.iter().find(|policy| policy.fits(kind, client))?;
            Some((policy.action, &zone.taken[policy.action as usize]))
        });
        let (action, count) =
            taken.filter(|(action, _)| *action != Action::Allow).unwrap_or((Action::Allow, &self.allowed));
        count.fetch_add(1, Ordering::Relaxed);
        action
    }

    fn expose(&self, out: &mut Exposition, server: &str) {
        const NAMES: [(Action, &str); 3] = [
            (Action::Block, "coredns_acl_blocked_requests_total"),
            (Action::Filter, "coredns_acl_filtered_requests_total"),
            (Action::Drop, "coredns_acl_dropped_requests_total"),
        ];
        let all = self.rules.iter().flat_map(|rule| &rule.zones);
        for (zone, (action, name)) in all.flat_map(|zone| NAMES.map(|name| (zone, name))) {
            let labels = [("server", server), ("zone", &*zone.name.to_ascii()), ("view", "")];
            out.seen(
                name,
                "Questions that acl did not allow.",
                &labels,
                zone.taken[action as usize].load(Ordering::Relaxed),
            );
        }
        let labels = [("server", server), ("view", "")];
        let count = self.allowed.load(Ordering::Relaxed);
        out.seen("coredns_acl_allowed_requests_total", "Questions that acl allowed.", &labels, count);
    }
}

impl Plugin for Acl {
    async fn handle(self: Arc<Self>, request: Request, next: Next) -> Result<Reply, Failure> {
        let (code, why) = match self.action(request.name(), request.kind(), request.context.client.ip()) {
            Action::Allow => return next.oneshot(request).await,
            Action::Drop => return Ok(Reply { body: Body::Silence, plugin: NAME }),
            Action::Block => (ResponseCode::Refused, BLOCKED),
            Action::Filter => (ResponseCode::NoError, FILTERED),
        };
        let mut reply = request.reply(code, false, Sections::default());
        extended_error(&mut reply, why, "");
        Ok(Reply::message(NAME, reply))
    }
}

#[cfg(test)]
mod tests;
