//! What is done to an answer on its way back.

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use regex::Regex;

use super::matcher::{Matcher, expand};
use crate::request::{Body, Reply, Request};

/// What is done to an answer.
pub(super) enum Change {
    /// The names that records are of.
    Owners(Rewriter),
    /// The names that records lead to.
    Values(Rewriter),
    Ttl(u32, u32),
    Code(ResponseCode, ResponseCode),
    /// The target of an alias: what it led to is asked anew.
    Target(Matcher, String),
}

pub(super) enum Rewriter {
    Regex(Regex, String),
    Suffix(String, String),
    /// A name, and those under it.
    Name(String, String),
}

impl Rewriter {
    fn rewrite(&self, name: &str) -> Option<String> {
        match self {
            Rewriter::Regex(from, to) => expand(from, name, to),
            Rewriter::Suffix(from, to) => name.strip_suffix(from).map(|rest| format!("{rest}{to}")),
            Rewriter::Name(from, to) => {
                let rest = name.strip_suffix(from).filter(|rest| rest.is_empty() || rest.ends_with('.'))?;
                Some(format!("{rest}{to}"))
            }
        }
    }
}

/// Reads a name, whose dot at the end may be missing.
pub(super) fn parse(name: &str) -> Option<Name> {
    let mut name = Name::from_ascii(name).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// The name that a record leads to.
fn target(data: &mut RData) -> Option<&mut Name> {
    match data {
        RData::CNAME(name) => Some(&mut name.0),
        RData::NS(name) => Some(&mut name.0),
        RData::PTR(name) => Some(&mut name.0),
        RData::SRV(srv) => Some(&mut srv.target),
        RData::MX(mx) => Some(&mut mx.exchange),
        RData::NAPTR(naptr) => Some(&mut naptr.replacement),
        RData::SOA(soa) => Some(&mut soa.mname),
        _ => None,
    }
}

fn rename(name: &mut Name, rewriter: &Rewriter) {
    let new = rewriter.rewrite(&name.to_lowercase().to_ascii());
    if let Some(new) = new.and_then(|new| parse(&new)) {
        *name = new;
    }
}

impl Change {
    fn apply(&self, record: &mut Record) {
        match self {
            Change::Owners(rewriter) => rename(&mut record.name, rewriter),
            Change::Values(rewriter) => target(&mut record.data).into_iter().for_each(|name| rename(name, rewriter)),
            Change::Ttl(least, most) => record.ttl = record.ttl.clamp(*least, *most),
            Change::Code(..) | Change::Target(..) => {}
        }
    }

    /// Applies it to a whole answer to `request`.
    pub(super) async fn to(&self, answer: &mut Message, request: &Request) {
        match self {
            Change::Code(from, to) if answer.metadata.response_code == *from => answer.metadata.response_code = *to,
            Change::Target(from, to) => retarget(answer, request, from, to).await,
            _ => {
                let sections = [&mut answer.answers, &mut answer.authorities, &mut answer.additionals];
                sections.into_iter().flatten().for_each(|record| self.apply(record));
            }
        }
    }
}

/// Leads the first alias that fits elsewhere, with what is there in place of what came behind it.
async fn retarget(answer: &mut Message, request: &Request, from: &Matcher, to: &str) {
    let new = |record: &Record| match &record.data {
        RData::CNAME(name) => from.replace(&name.0.to_lowercase().to_ascii(), to).and_then(|new| parse(&new)),
        _ => None,
    };
    let found = answer.answers.iter().enumerate().find_map(|(at, record)| Some((at, new(record)?)));
    let Some((at, name)) = found else { return };
    match request.look_up(name.clone(), request.kind()).await {
        Ok(Reply { body: Body::Message(known), .. }) => {
            answer.answers.truncate(at + 1);
            answer.answers.retain(|record| record.record_type() == RecordType::CNAME);
            answer
                .answers
                .last_mut()
                .and_then(|alias| target(&mut alias.data))
                .into_iter()
                .for_each(|old| *old = name.clone());
            answer.answers.extend(known.answers);
            answer.metadata.truncation = known.metadata.truncation;
        }
        Ok(_) => {}
        Err(failure) => tracing::error!("plugin/rewrite: upstream lookup failed: {}", failure.reason),
    }
}
