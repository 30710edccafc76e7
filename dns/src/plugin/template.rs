//! Answers written in the Corefile.

mod text;

use std::sync::Arc;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::txt::Parser;
use regex::Regex;
use tower::ServiceExt;

use crate::chain::{Next, Plugin, Setup};
use crate::corefile::{self, Block, Directive, Line, Word};
use crate::pattern::pattern;
use crate::rcode;
use crate::request::{Body, Failure, Reply, Request, Sections, extended_error};

use text::{Data, Text};

const NAME: &str = "template";

/// The seconds that records without a TTL of their own may be kept, as in CoreDNS.
const TTL: u32 = 3600;

/// A directive.
struct Template {
    class: DNSClass,
    kind: RecordType,
    zones: Vec<Name>,
    /// Empty means that every name fits.
    regexes: Vec<Regex>,
    answers: Vec<Text>,
    additionals: Vec<Text>,
    authorities: Vec<Text>,
    code: ResponseCode,
    /// The code of an extended error, and its text.
    error: Option<(u16, String)>,
    /// Where names that fit no expression go on.
    fallthrough: Vec<Name>,
}

struct Templates {
    templates: Vec<Template>,
}

/// `template CLASS TYPE [ZONE...] { match REGEX...; answer|additional|authority RR...; rcode CODE;
/// ederror CODE [TEXT]; fallthrough [ZONE...] }`: questions under the zones whose name fits an
/// expression (without any, all) get these records, written with Go's templates: `{{ .Name }}`,
/// `.Zone`, `.Class`, `.Type`, `.Remote`, `.Question.Name`, `.Message.Id`, `index .Match N`,
/// `.Group.NAME`, and `parseInt TEXT BASE BITS`. What fits none gets SERVFAIL, or with
/// `fallthrough` the next template's or plugin's answer.
pub(crate) fn setup(directive: &Directive, setup: &mut Setup) -> Result<(), corefile::Error> {
    let block = setup.block;
    let templates = setup.together(directive).into_iter().map(|directive| read(directive, block));
    let templates = templates.collect::<Result<Vec<_>, _>>()?;
    if !templates.is_empty() {
        let all = Arc::new(Templates { templates });
        let seen = all.clone();
        setup.slow(move |name| seen.touches(name));
        setup.push(Link { all });
    }
    Ok(())
}

fn read(directive: &Directive, block: &Block) -> Result<Template, corefile::Error> {
    let [class, kind, zones @ ..] = directive.line().between(2, usize::MAX)? else {
        return Err(directive.line().unknown());
    };
    let invalid = |word: &Word, what: &str| word.error(format!("invalid {what} {}", word.text));
    let mut template = Template {
        class: class.text.parse().map_err(|_| invalid(class, "query class"))?,
        kind: kind.text.parse().map_err(|_| invalid(kind, "RR class"))?,
        zones: block.zones(zones)?,
        regexes: Vec::new(),
        answers: Vec::new(),
        additionals: Vec::new(),
        authorities: Vec::new(),
        code: ResponseCode::NoError,
        error: None,
        fallthrough: Vec::new(),
    };
    for line in directive.properties() {
        match line.name.text.as_str() {
            "match" => {
                let regexes = line.between(1, usize::MAX)?.iter().map(pattern);
                template.regexes.extend(regexes.collect::<Result<Vec<_>, _>>()?);
            }
            "answer" => template.answers.extend(texts(line)?),
            "additional" => template.additionals.extend(texts(line)?),
            "authority" => template.authorities.extend(texts(line)?),
            "rcode" => {
                let word = line.one()?;
                template.code = rcode::parse(&word.text).ok_or_else(|| invalid(word, "rcode"))?;
            }
            "ederror" => {
                let words = line.between(1, 2)?;
                let text = words.get(1).map(|word| word.text.clone());
                template.error = Some((words[0].number(0..=u16::MAX)?, text.unwrap_or_default()));
            }
            "fallthrough" if line.arguments.is_empty() => template.fallthrough = vec![Name::root()],
            "fallthrough" => template.fallthrough = block.zones(line.arguments)?,
            "upstream" => {}
            _ => return Err(line.unknown()),
        }
    }
    Ok(template)
}

fn texts(line: Line) -> Result<Vec<Text>, corefile::Error> {
    let text = |word: &Word| {
        let compiled = Text::parse(&word.text);
        compiled.map_err(|error| word.error(format!("could not compile template: {}, {error}", word.text)))
    };
    line.between(1, usize::MAX)?.iter().map(text).collect()
}

/// What a template makes of a question.
enum Fit<'a> {
    /// Nothing: it is not for it.
    Next,
    /// It is in its zones, but fits no expression.
    Fail,
    Match(Data<'a>),
}

impl Template {
    /// The zone that a name is in.
    fn zone(&self, name: &Name) -> Option<&Name> {
        let zones = self.zones.iter().filter(|zone| zone.zone_of(name));
        zones.max_by_key(|zone| zone.num_labels())
    }

    /// True when a name is in the zones but fits no expression, and is not for others.
    fn denies(&self, name: &Name) -> bool {
        !self.fallthrough.iter().any(|zone| zone.zone_of(name))
    }

    fn fits(&self, text: &str) -> bool {
        self.regexes.is_empty() || self.regexes.iter().any(|regex| regex.is_match(text))
    }

    /// `text` is the name in lower case.
    fn fit<'a>(&'a self, request: &'a Request, text: &'a str) -> Fit<'a> {
        let (name, kind, class) = (request.name(), request.kind(), request.query.query_class());
        let Some(zone) = self.zone(name) else { return Fit::Next };
        if self.class != DNSClass::ANY && class != DNSClass::ANY && self.class != class
            || self.kind != RecordType::ANY && kind != RecordType::ANY && self.kind != kind
        {
            return Fit::Next;
        }
        if !self.fits(text) {
            return if self.denies(name) { Fit::Fail } else { Fit::Next };
        }
        Fit::Match(Data {
            zone,
            name: text,
            class: if class == DNSClass::ANY { self.class } else { class }.to_string(),
            kind: if kind == RecordType::ANY { self.kind } else { kind }.to_string(),
            client: request.context.client.ip().to_string(),
            query: &request.query,
            id: request.message.metadata.id,
            groups: self.regexes.iter().find_map(|regex| regex.captures(text)),
        })
    }

    /// The answer to a question that fits.
    async fn reply(&self, request: &Request, data: &Data<'_>) -> Result<Reply, Failure> {
        if self.code == ResponseCode::ServFail {
            return Err(Failure { code: self.code, reason: String::new() });
        }
        let records = |texts: &[Text]| texts.iter().map(|text| record(text, data)).collect::<Result<Vec<_>, _>>();
        let (mut answers, mut truncation) = (Vec::new(), false);
        for record in records(&self.answers)? {
            let target = match &record.data {
                RData::CNAME(target) => Some(target.0.clone()),
                _ => None,
            };
            answers.push(record);
            if let Some(target) = target
                && matches!(request.kind(), RecordType::A | RecordType::AAAA)
                && let Ok(Reply { body: Body::Message(known), .. }) = request.look_up(target, request.kind()).await
            {
                truncation |= known.metadata.truncation;
                answers.extend(known.answers);
            }
        }
        let (authorities, additionals) = (records(&self.authorities)?, records(&self.additionals)?);
        let mut reply = request.reply(self.code, true, Sections { answers, authorities, additionals });
        reply.metadata.truncation = truncation;
        if let Some((code, text)) = &self.error {
            extended_error(&mut reply, *code, text);
        }
        Ok(Reply::message(NAME, reply))
    }
}

/// The record that a text describes, as in a zone file (RFC 1035 §5.1).
fn record(text: &Text, data: &Data) -> Result<Record, Failure> {
    let text = text.render(data).map_err(|error| Failure::server(format!("template: {error}")))?;
    let wrong = |error: &str| Failure::server(format!("template: {text:?} is no record: {error}"));
    // Names may come from questions: nothing but a record is read.
    if text.lines().any(|line| line.trim_start().starts_with('$')) {
        return Err(wrong("a control entry"));
    }
    let parser = Parser::new(format!("$TTL {TTL}\n{text}\n"), None, Some(Name::root()));
    let (_, sets) = parser.parse().map_err(|error| wrong(&error.to_string()))?;
    let record = sets.values().flat_map(|set| set.records_without_rrsigs()).next();
    record.cloned().ok_or_else(|| wrong("it is empty"))
}

impl Templates {
    /// True when a question for the name may not be for the next plugin.
    fn touches(&self, name: &Name) -> bool {
        let text = name.to_ascii();
        let touches =
            |template: &Template| template.zone(name).is_some() && (template.fits(&text) || template.denies(name));
        self.templates.iter().any(touches)
    }
}

struct Link {
    all: Arc<Templates>,
}

impl Plugin for Link {
    async fn handle(self: Arc<Self>, request: Request, next: Next) -> Result<Reply, Failure> {
        let text = request.name().to_lowercase().to_ascii();
        for template in &self.all.templates {
            match template.fit(&request, &text) {
                Fit::Match(data) => return template.reply(&request, &data).await,
                Fit::Fail => return Err(Failure { code: ResponseCode::ServFail, reason: String::new() }),
                Fit::Next => {}
            }
        }
        next.oneshot(request).await
    }
}

#[cfg(test)]
mod tests;
