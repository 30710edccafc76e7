//! Who may ask what.

use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RecordType};
use ipnet::IpNet;
use tower::ServiceExt;

use crate::chain::{Next, Plugin, Setup};
use crate::corefile::{self, Directive, Word};
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
    zones: Vec<Name>,
    policies: Vec<Policy>,
}

struct Acl {
    rules: Vec<Rule>,
}

/// `acl [ZONES...] { allow|block|filter|drop [type QTYPE...] [net SOURCE...] }`: of the first line
/// that fits the question's zone, type and client its action is taken. Without one it is allowed.
pub(crate) fn setup(directive: &Directive, setup: &mut Setup) -> Result<(), corefile::Error> {
    let mut rules = Vec::new();
    for directive in setup.together(directive) {
        let policies = directive.body.iter().map(|line| policy(line)).collect::<Result<_, _>>()?;
        rules.push(Rule { zones: setup.block.zones(&directive.arguments)?, policies });
    }
    if !rules.is_empty() {
        let zones: Vec<Name> = rules.iter().flat_map(|rule| rule.zones.clone()).collect();
        setup.slow(move |name| zones.iter().any(|zone| zone.zone_of(name)));
        setup.push(Acl { rules });
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

impl Acl {
    fn action(&self, name: &Name, kind: RecordType, client: IpAddr) -> Action {
        let rules = self.rules.iter().filter(|rule| rule.zones.iter().any(|zone| zone.zone_of(name)));
        let first = rules.flat_map(|rule| &rule.policies).find(|policy| policy.fits(kind, client.to_canonical()));
        first.map_or(Action::Allow, |policy| policy.action)
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
