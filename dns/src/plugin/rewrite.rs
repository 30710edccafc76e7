//! Questions changed on their way in, and their answers on the way back.

mod change;
mod edns;
mod matcher;

use std::slice;
use std::sync::Arc;

use hickory_proto::rr::{DNSClass, RecordType};
use tower::ServiceExt;

use crate::chain::{Next, Plugin, Setup};
use crate::corefile::{self, Directive, Word};
use crate::rcode;
use crate::request::{Body, Failure, Reply, Request, Sections};

use change::{Change, Rewriter, parse};
use matcher::{Matcher, expansion, qualified};

const NAME: &str = "rewrite";

/// What a rule does to a question.
enum Field {
    /// `auto` leads the names of the answer back.
    Name {
        from: Matcher,
        to: String,
        auto: bool,
    },
    Type(RecordType, RecordType),
    Class(DNSClass, DNSClass),
    Edns(edns::Option),
    /// Nothing: it is about the answers to questions for such names.
    AnswersTo(Matcher),
    /// Nothing: it is about all answers.
    Answers,
}

struct Rule {
    /// No rule behind it is tried.
    stop: bool,
    field: Field,
    changes: Vec<Change>,
}

struct Rewrite {
    rules: Vec<Rule>,
}

/// `rewrite [continue|stop] FIELD ...`, or the same words in braces. FIELD is
/// `name [exact|prefix|suffix|substring|regex] FROM TO [answer auto|name FROM TO|value FROM TO ...]`,
/// `type FROM TO`, `class FROM TO`, `edns0 local|nsid|subnet set|append|replace|unset ...`,
/// `ttl [KIND] NAME SECONDS|MIN-MAX`, `rcode [KIND] NAME FROM TO` or `cname [KIND] FROM TO`.
pub(crate) fn setup(directive: &Directive, setup: &mut Setup) -> Result<(), corefile::Error> {
    let rules = setup.together(directive).into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
    if !rules.is_empty() {
        let rewrite = Arc::new(Rewrite { rules });
        let seen = rewrite.clone();
        setup.slow(move |name| seen.touches(&name.to_ascii()));
        setup.push(Link { rewrite });
    }
    Ok(())
}

fn read(directive: &Directive) -> Result<Rule, corefile::Error> {
    let body = if directive.arguments.len() < 2 { directive.body.concat() } else { Vec::new() };
    let words = [&directive.arguments[..], &body].concat();
    let (stop, words) = match &words[..] {
        [mode, rest @ ..] if mode.text.eq_ignore_ascii_case("continue") => (false, rest),
        [mode, rest @ ..] if mode.text.eq_ignore_ascii_case("stop") => (true, rest),
        rest => (true, rest),
    };
    let [name, words @ ..] = words else {
        return Err(directive.name.error("no rule type specified for rewrite"));
    };
    let (field, changes) = match name.text.to_ascii_lowercase().as_str() {
        "name" => name_rule(name, words)?,
        "type" => {
            let kind = |word: &Word| {
                let kind = word.text.to_ascii_uppercase().parse();
                kind.map_err(|_| word.error(format!("invalid type {:?}", word.text)))
            };
            let [from, to] = pair(name, words)?;
            (Field::Type(kind(from)?, kind(to)?), vec![])
        }
        "class" => {
            let class = |word: &Word| {
                let class = word.text.to_ascii_uppercase().parse();
                class.map_err(|_| word.error(format!("invalid class {:?}", word.text)))
            };
            let [from, to] = pair(name, words)?;
            (Field::Class(class(from)?, class(to)?), vec![])
        }
        "edns0" => (Field::Edns(edns::Option::read(name, words)?), vec![]),
        "ttl" => {
            let (of, rest) = Matcher::read(name, words, 1)?;
            let [range] = rest else { return Err(name.error("too many arguments for a ttl rule")) };
            let Some((least, most)) = ttl(&range.text) else {
                return Err(range.error(format!("invalid TTL '{}' for a ttl rule", range.text)));
            };
            (Field::AnswersTo(of), vec![Change::Ttl(least, most)])
        }
        "rcode" => {
            let (of, rest) = Matcher::read(name, words, 2)?;
            let code = |word: &Word| {
                rcode::parse(&word.text).ok_or_else(|| word.error(format!("invalid RCODE '{}'", word.text)))
            };
            let [from, to] = pair(name, rest)?;
            (Field::AnswersTo(of), vec![Change::Code(code(from)?, code(to)?)])
        }
        "cname" => {
            let (from, rest) = Matcher::read(name, words, 1)?;
            let [to] = rest else { return Err(name.error("too many arguments for a cname rule")) };
            (Field::Answers, vec![Change::Target(from, qualified(to))])
        }
        "answer" => return Err(name.error("response rewrites must begin with a name rule")),
        other => return Err(name.error(format!("invalid rule type {other:?}"))),
    };
    Ok(Rule { stop, field, changes })
}

fn pair<'a>(field: &Word, words: &'a [Word]) -> Result<&'a [Word; 2], corefile::Error> {
    words.try_into().map_err(|_| field.error(format!("{} rules must have exactly two arguments", field.text)))
}

/// `SECONDS`, `MIN-MAX`, `MIN-` or `-MAX`.
fn ttl(text: &str) -> Option<(u32, u32)> {
    let (least, most) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str, default: Option<u32>| if text.is_empty() { default } else { text.parse().ok() };
    let one = !least.is_empty() || !most.is_empty();
    let (least, most) = (number(least, Some(0))?, number(most, Some(i32::MAX as u32))?);
    (one && least <= most).then_some((least, most))
}

/// A rule about the name, with what it does to the answer.
fn name_rule(field: &Word, words: &[Word]) -> Result<(Field, Vec<Change>), corefile::Error> {
    let (from, rest) = Matcher::read(field, words, 1)?;
    let Some((to, mut options)) = rest.split_first() else {
        return Err(field.error("too few arguments for a name rule"));
    };
    let target = match &from {
        Matcher::Regex(_) => expansion(&words[1], to)?.1,
        _ => qualified(to),
    };
    let (mut auto, mut changes, mut owners) = (matches!(from, Matcher::Exact(_)), Vec::new(), false);
    if options.first().is_some_and(|word| word.text != "answer") {
        return Err(options[0].error("exceeded the number of arguments for a non-answer rule"));
    }
    while let [first, after @ ..] = options {
        let words = if first.text == "answer" { after } else { options };
        options = match words {
            [kind, rest @ ..] if kind.text == "auto" => {
                auto = true;
                rest
            }
            // As in `answer name auto`, which CoreDNS's documentation has.
            [name, kind, rest @ ..] if name.text == "name" && kind.text == "auto" => {
                auto = true;
                rest
            }
            [kind, from, to, rest @ ..] if kind.text == "name" || kind.text == "value" => {
                let (from, to) = expansion(from, to)?;
                let rewriter = Rewriter::Regex(from, to);
                let owner = kind.text == "name";
                owners |= owner;
                changes.push(if owner { Change::Owners(rewriter) } else { Change::Values(rewriter) });
                rest
            }
            _ => return Err(first.error("invalid arguments for an answer rule: auto, name FROM TO or value FROM TO")),
        };
    }
    if auto && owners && !matches!(from, Matcher::Exact(_)) {
        return Err(field.error("answer auto and answer name exclude each other"));
    }
    if let Matcher::Suffix(from) = &from
        && auto
    {
        let back = || Rewriter::Suffix(target.clone(), from.clone());
        changes.splice(0..0, [Change::Owners(back()), Change::Values(back())]);
        auto = false;
    }
    Ok((Field::Name { from, to: target, auto }, changes))
}

impl Rule {
    /// True when it has to see questions for a name.
    fn touches(&self, name: &str) -> bool {
        match &self.field {
            Field::Name { from, .. } | Field::AnswersTo(from) => from.fits(name),
            Field::Type(..) | Field::Class(..) | Field::Edns(_) | Field::Answers => true,
        }
    }

    /// Changes a question; true when the rule is for it. What leads names of the answer back is
    /// added to `back`.
    fn apply(&self, request: &mut Request, back: &mut Vec<Change>) -> Result<bool, Failure> {
        let name = request.name().to_lowercase().to_ascii();
        let fits = match &self.field {
            Field::Name { from, to, auto } => match from.replace(&name, to) {
                Some(new) => {
                    let Some(target) = parse(&new) else {
                        return Err(Failure::server(format!("invalid name after rewrite: {new}")));
                    };
                    if *auto {
                        let (from, to) = (target.to_lowercase().to_ascii(), request.name().to_ascii());
                        back.push(Change::Owners(Rewriter::Name(from.clone(), to.clone())));
                        back.push(Change::Values(Rewriter::Name(from, to)));
                    }
                    request.query.set_name(target);
                    true
                }
                None => false,
            },
            Field::Type(from, to) => {
                let fits = request.kind() == *from;
                if fits {
                    request.query.set_query_type(*to);
                }
                fits
            }
            Field::Class(from, to) => {
                let fits = request.query.query_class() == *from;
                if fits {
                    request.query.set_query_class(*to);
                }
                fits
            }
            Field::Edns(option) => {
                option.apply(request);
                true
            }
            Field::AnswersTo(of) => of.fits(&name),
            Field::Answers => true,
        };
        Ok(fits)
    }
}

impl Rewrite {
    fn touches(&self, name: &str) -> bool {
        self.rules.iter().any(|rule| rule.touches(name))
    }
}

struct Link {
    rewrite: Arc<Rewrite>,
}

impl Plugin for Link {
    async fn handle(self: Arc<Self>, request: Request, next: Next) -> Result<Reply, Failure> {
        let (mut changed, mut back) = (request.clone(), Vec::new());
        let mut steps: Vec<(usize, usize, &[Change])> = Vec::new();
        for rule in &self.rewrite.rules {
            let before = back.len();
            if rule.apply(&mut changed, &mut back)? {
                steps.push((before, back.len(), &rule.changes));
                if rule.stop {
                    break;
                }
            }
        }
        let mut reply = match next.oneshot(changed).await {
            Err(failure) => {
                // Only a code that is rewritten makes an answer of a failure.
                let mut answer = request.reply(failure.code, false, Sections::default());
                for change in steps.iter().rev().flat_map(|(_, _, changes)| changes.iter().rev()) {
                    change.to(&mut answer, &request).await;
                }
                if answer.metadata.response_code == failure.code {
                    return Err(failure);
                }
                Reply::message(NAME, answer)
            }
            Ok(reply) => reply,
        };
        if let Body::Message(answer) = &mut reply.body {
            // What was done last is undone first.
            for (before, after, changes) in steps.iter().rev() {
                for change in changes.iter().rev().chain(back[*before..*after].iter().rev()) {
                    change.to(answer, &request).await;
                }
            }
            slice::from_ref(&request.query).clone_into(&mut answer.queries);
        }
        Ok(reply)
    }
}

#[cfg(test)]
mod tests;
