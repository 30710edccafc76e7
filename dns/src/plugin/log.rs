//! A line for each question, in CoreDNS's formats.

use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use tokio::time::Instant;
use tower::ServiceExt;

use crate::chain::{Next, Plugin, Setup};
use crate::corefile::{self, Directive, Word};
use crate::rcode;
use crate::request::{Body, Failure, Reply, Request, Sections, Transport};

const COMMON: &str = "{remote}:{port} - {>id} \"{type} {class} {name} {proto} {size} {>do} {>bufsize}\" {rcode} {>rflags} {rsize} {duration}";

/// Writes one thing about an exchange.
type Field = fn(&Exchange, &mut String);

/// What of a [`Rule`]'s format is not text.
const FIELDS: &[(&str, Field)] = &[
    ("{type}", |exchange, line| put(line, exchange.request.kind())),
    ("{name}", |exchange, line| put(line, exchange.request.name().to_lowercase())),
    ("{class}", |exchange, line| put(line, exchange.request.query.query_class())),
    ("{proto}", |exchange, line| {
        line.push_str(if exchange.request.context.transport == Transport::Udp { "udp" } else { "tcp" });
    }),
    ("{size}", |exchange, line| put(line, exchange.request.question().to_vec().map_or(0, |bytes| bytes.len()))),
    ("{remote}", |exchange, line| address(line, exchange.request.context.client.ip())),
    ("{port}", |exchange, line| put(line, exchange.request.context.client.port())),
    ("{local}", |exchange, line| address(line, exchange.request.context.server.ip())),
    ("{>id}", |exchange, line| put(line, exchange.request.message.metadata.id)),
    ("{>opcode}", |exchange, line| put(line, u8::from(exchange.request.message.metadata.op_code))),
    ("{>do}", |exchange, line| {
        put(line, exchange.request.message.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok));
    }),
    ("{>bufsize}", |exchange, line| put(line, exchange.buffer())),
    ("{rcode}", |exchange, line| match exchange.answer {
        Some(answer) => line.push_str(&rcode::name(answer.metadata.response_code)),
        None => line.push('-'),
    }),
    ("{rsize}", |exchange, line| {
        put(line, exchange.answer.map_or(0, |answer| exchange.request.encode(answer.clone()).len()));
    }),
    ("{duration}", |exchange, line| {
        put(line, exchange.seconds);
        line.push('s');
    }),
    ("{>rflags}", |exchange, line| line.push_str(&exchange.answer.map_or("-".into(), flags))),
    ("{/log/class}", |exchange, line| line.push_str(Class::of(exchange.answer).name())),
    ("{/log/type}", |exchange, line| line.push_str(kind(exchange.answer))),
];

/// A question with what became of it.
struct Exchange<'a> {
    request: &'a Request,
    /// None when the client got nothing.
    answer: Option<&'a Message>,
    seconds: f64,
}

impl Exchange<'_> {
    /// What the client says it takes, or what its transport does.
    fn buffer(&self) -> u16 {
        match (self.request.context.transport, &self.request.message.edns) {
            (Transport::Udp, Some(edns)) => edns.max_payload().max(512),
            (Transport::Udp, None) => 512,
            _ => u16::MAX,
        }
    }
}

fn put(line: &mut String, value: impl std::fmt::Display) {
    // A String takes everything.
    let _ = write!(line, "{value}");
}

/// An address, in brackets when it has colons itself.
fn address(line: &mut String, address: IpAddr) {
    match address {
        IpAddr::V4(address) => put(line, address),
        IpAddr::V6(address) => put(line, format_args!("[{address}]")),
    }
}

/// The flags that are set.
fn flags(answer: &Message) -> String {
    let metadata = &answer.metadata;
    let all = [
        ("qr", true),
        ("aa", metadata.authoritative),
        ("tc", metadata.truncation),
        ("rd", metadata.recursion_desired),
        ("ra", metadata.recursion_available),
        ("ad", metadata.authentic_data),
        ("cd", metadata.checking_disabled),
    ];
    let set: Vec<&str> = all.into_iter().filter_map(|(name, set)| set.then_some(name)).collect();
    set.join(",")
}

/// What kind of answer it is, by CoreDNS's names.
pub(super) fn kind(answer: Option<&Message>) -> &'static str {
    let Some(answer) = answer else { return "OTHERERROR" };
    let signed = answer.authorities.iter().any(|record| record.record_type() == RecordType::SOA);
    let delegated = answer.authorities.iter().any(|record| record.record_type() == RecordType::NS);
    match (answer.metadata.response_code, answer.answers.is_empty()) {
        (ResponseCode::NoError, false) => "NOERROR",
        (ResponseCode::NoError, true) if signed => "NODATA",
        (ResponseCode::NoError, true) if delegated => "DELEGATION",
        (ResponseCode::NoError, true) => "NOERROR",
        (ResponseCode::NXDomain, true) => "NXDOMAIN",
        (ResponseCode::ServFail | ResponseCode::NotImp, true) => "SERVERERROR",
        _ => "OTHERERROR",
    }
}

/// What a rule may be limited to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    All,
    Success,
    Denial,
    Error,
}

impl Class {
    const NAMES: [(&str, Class); 4] =
        [("all", Class::All), ("success", Class::Success), ("denial", Class::Denial), ("error", Class::Error)];

    fn of(answer: Option<&Message>) -> Self {
        match kind(answer) {
            "NOERROR" | "DELEGATION" => Class::Success,
            "NXDOMAIN" | "NODATA" => Class::Denial,
            _ => Class::Error,
        }
    }

    fn name(self) -> &'static str {
        Class::NAMES.iter().find(|(_, class)| *class == self).map_or("", |(name, _)| name)
    }
}

/// A piece of a format: text, or one of [`FIELDS`] or other metadata, of which there is none.
enum Piece {
    Text(String),
    Field(Field),
    Unknown,
}

/// Reads a format. What looks like a field and is none is text.
fn format(text: &str) -> Vec<Piece> {
    let text = text.replace("{common}", COMMON).replace("{combined}", &format!("{COMMON} \"{{>opcode}}\""));
    let (mut pieces, mut rest) = (Vec::new(), &text[..]);
    // A field's brace is the last one before the one that closes it.
    while let Some(end) = rest.find('}') {
        let start = rest[..end].rfind('{').unwrap_or(end);
        let (field, after) = rest[start..].split_at(end + 1 - start);
        let known = match FIELDS.iter().find(|(name, _)| *name == field) {
            Some((_, put)) => Some(Piece::Field(*put)),
            None if field.starts_with("{/") => Some(Piece::Unknown),
            None => None,
        };
        let text = if known.is_some() { start } else { end + 1 };
        pieces.push(Piece::Text(rest[..text].to_owned()));
        pieces.extend(known);
        rest = after;
    }
    pieces.push(Piece::Text(rest.to_owned()));
    pieces
}

/// What is logged of the names under a zone.
struct Rule {
    zone: Name,
    format: Arc<[Piece]>,
    classes: Arc<[Class]>,
}

impl Rule {
    /// The line for a question and what came back, if its class is wanted.
    fn line(&self, request: &Request, result: &Result<Reply, Failure>, seconds: f64) -> Option<String> {
        let failed;
        let answer = match result {
            Ok(Reply { body: Body::Message(message), .. }) => Some(&**message),
            Ok(_) => None,
            Err(failure) => {
                failed = request.reply(failure.code, false, Sections::default());
                Some(&failed)
            }
        };
        if !self.classes.contains(&Class::All) && !self.classes.contains(&Class::of(answer)) {
            return None;
        }
        let (exchange, mut line) = (Exchange { request, answer, seconds }, String::new());
        for piece in &*self.format {
            match piece {
                Piece::Text(text) => line.push_str(text),
                Piece::Field(put) => put(&exchange, &mut line),
                Piece::Unknown => line.push('-'),
            }
        }
        Some(line)
    }
}

struct Log {
    rules: Vec<Rule>,
}

/// `log [NAMES...] [FORMAT] { class success|denial|error|all... }`: each question under one of the
/// names (without any, all) gets a line, once it is answered, by the first directive that has its
/// name. The lines are `tracing` events of the level info and the target `dns::log`.
pub(crate) fn setup(directive: &Directive, setup: &mut Setup) -> Result<(), corefile::Error> {
    let mut rules = Vec::new();
    for directive in setup.together(directive) {
        rules.extend(read(directive)?);
    }
    if !rules.is_empty() {
        let zones: Vec<Name> = rules.iter().map(|rule| rule.zone.clone()).collect();
        setup.slow(move |name| zones.iter().any(|zone| zone.zone_of(name)));
        setup.push(Log { rules });
    }
    Ok(())
}

fn read(directive: &Directive) -> Result<Vec<Rule>, corefile::Error> {
    let mut classes = Vec::new();
    for line in directive.properties() {
        if line.name.text != "class" {
            return Err(line.unknown());
        }
        let class = |word: &Word| match Class::NAMES.iter().find(|(name, _)| *name == word.text) {
            Some((_, class)) => Ok(*class),
            None => Err(word.error(format!("invalid class {:?}", word.text))),
        };
        classes.extend(line.between(1, usize::MAX)?.iter().map(class).collect::<Result<Vec<_>, _>>()?);
    }
    if classes.is_empty() {
        classes.push(Class::All);
    }
    let (names, text) = match &directive.arguments[..] {
        [names @ .., last] if !names.is_empty() && last.text.contains('{') => (names, &last.text[..]),
        names => (names, COMMON),
    };
    let mut zones = corefile::zones(names)?;
    if zones.is_empty() {
        zones.push(Name::root());
    }
    let (format, classes): (Arc<[Piece]>, Arc<[Class]>) = (format(text).into(), classes.into());
    Ok(zones.into_iter().map(|zone| Rule { zone, format: format.clone(), classes: classes.clone() }).collect())
}

impl Plugin for Log {
    async fn handle(self: Arc<Self>, request: Request, next: Next) -> Result<Reply, Failure> {
        let Some(rule) = self.rules.iter().find(|rule| rule.zone.zone_of(request.name())) else {
            return next.oneshot(request).await;
        };
        let start = Instant::now();
        let result = next.oneshot(request.clone()).await;
        if let Some(line) = rule.line(&request, &result, start.elapsed().as_secs_f64()) {
            tracing::info!(target: "dns::log", "{line}");
        }
        result
    }
}

#[cfg(test)]
mod tests;
