//! The part of Go's templates (text/template) that records are written with.

use hickory_proto::op::Query;
use hickory_proto::rr::Name;
use regex::Captures;

/// What a template can speak of.
pub(super) struct Data<'a> {
    pub(super) zone: &'a Name,
    /// The name that is asked for, in lower case.
    pub(super) name: &'a str,
    pub(super) class: String,
    pub(super) kind: String,
    pub(super) client: String,
    pub(super) query: &'a Query,
    pub(super) id: u16,
    /// What the expression of the match caught; none without an expression.
    pub(super) groups: Option<Captures<'a>>,
}

/// How many parentheses an action may have.
const DEPTH: usize = 8;

/// Text with values in it.
#[derive(Debug)]
pub(super) struct Text {
    pieces: Vec<Expression>,
}

#[derive(Debug)]
enum Expression {
    Literal(String),
    Field(Field),
    /// `.Match`, or its group of that number.
    Match(usize),
    /// `.Group.NAME`.
    Group(String),
    /// `parseInt TEXT BASE BITS`.
    Number(Box<Expression>, u32, u32),
}

/// Reads a value.
type Field = fn(&Data) -> String;

/// The fields that stand for themselves.
const FIELDS: &[(&str, Field)] = &[
    (".Zone", |data| data.zone.to_ascii()),
    (".Name", |data| data.name.to_owned()),
    (".Class", |data| data.class.clone()),
    (".Type", |data| data.kind.clone()),
    (".Remote", |data| data.client.clone()),
    (".Question.Name", |data| data.query.name().to_ascii()),
    (".Question.Qtype", |data| u16::from(data.query.query_type()).to_string()),
    (".Question.Qclass", |data| u16::from(data.query.query_class()).to_string()),
    (".Message.Id", |data| data.id.to_string()),
];

impl Text {
    /// Reads a template. A function or field that there is not here is an error.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (mut pieces, mut rest) = (Vec::new(), text);
        while let Some((before, after)) = rest.split_once("{{") {
            let (action, after) = after.split_once("}}").ok_or("unclosed action")?;
            // A dash beside the braces takes the white space on its side away.
            let (before, action) = match action.strip_prefix('-') {
                Some(action) => (before.trim_end(), action),
                None => (before, action),
            };
            let (action, after) = match action.strip_suffix('-') {
                Some(action) => (action, after.trim_start()),
                None => (action, after),
            };
            pieces.push(Expression::Literal(before.to_owned()));
            if !action.trim_start().starts_with("/*") {
                pieces.push(expression(&mut &words(action)?[..])?);
            }
            rest = after;
        }
        pieces.push(Expression::Literal(rest.to_owned()));
        Ok(Text { pieces })
    }

    /// The text for a question.
    pub(super) fn render(&self, data: &Data) -> Result<String, String> {
        self.pieces.iter().map(|piece| piece.value(data)).collect()
    }
}

/// The words of an action: strings in quotes begin with one, parentheses are words.
fn words(action: &str) -> Result<Vec<String>, String> {
    let (mut words, mut rest) = (Vec::new(), action.trim_start());
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '(' | ')' => 1,
            '"' | '`' => rest[1..].find(first).map(|end| end + 2).ok_or("unterminated string")?,
            _ => rest.find(|c: char| c.is_whitespace() || "()\"`".contains(c)).unwrap_or(rest.len()),
        };
        let (word, after) = rest.split_at(end);
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    match words.iter().filter(|word| *word == "(").count() > DEPTH {
        true => Err(format!("more than {DEPTH} parentheses")),
        false => Ok(words),
    }
}

/// Reads all words as one expression.
fn expression(words: &mut &[String]) -> Result<Expression, String> {
    let number = |words: &mut &[String]| {
        let word = next(words)?;
        word.parse::<u32>().map_err(|_| format!("{word:?} is not a number"))
    };
    let value = match words.first().map(String::as_str) {
        Some("index") => {
            next(words)?;
            match (next(words)?, next(words)?) {
                (".Match", index) => Expression::Match(index.parse().map_err(|_| format!("{index:?} is no index"))?),
                (".Group", name) => Expression::Group(string(name).ok_or_else(|| format!("{name:?} is no string"))?),
                (other, _) => return Err(format!("{other:?} has no index")),
            }
        }
        Some("parseInt") => {
            next(words)?;
            let (text, base, bits) = (operand(words)?, number(words)?, number(words)?);
            if !(2..=36).contains(&base) || bits > 64 {
                return Err(format!("parseInt knows no base {base} with {bits} bits"));
            }
            Expression::Number(Box::new(text), base, bits)
        }
        _ => operand(words)?,
    };
    match words.first() {
        Some(word) => Err(format!("unexpected {word:?}")),
        None => Ok(value),
    }
}

fn next<'a>(words: &mut &'a [String]) -> Result<&'a str, String> {
    let (first, rest) = words.split_first().ok_or("missing value")?;
    *words = rest;
    Ok(first)
}

/// A string without its quotes.
fn string(word: &str) -> Option<String> {
    let quote = word.chars().next().filter(|quote| "\"`".contains(*quote))?;
    Some(word.strip_prefix(quote)?.strip_suffix(quote)?.to_owned())
}

/// A field, a string, or an expression in parentheses.
fn operand(words: &mut &[String]) -> Result<Expression, String> {
    let word = next(words)?;
    if word == "(" {
        let end = words.iter().rposition(|word| word == ")").ok_or("unclosed left paren")?;
        let (mut inner, rest) = words.split_at(end);
        *words = &rest[1..];
        return expression(&mut inner);
    }
    if let Some(text) = string(word) {
        return Ok(Expression::Literal(text));
    }
    if let Some((_, field)) = FIELDS.iter().find(|(name, _)| *name == word) {
        return Ok(Expression::Field(*field));
    }
    match word.strip_prefix(".Group.").filter(|name| !name.contains('.')) {
        Some(name) => Ok(Expression::Group(name.to_owned())),
        None => Err(format!("function or field {word:?} is not supported")),
    }
}

impl Expression {
    fn value(&self, data: &Data) -> Result<String, String> {
        match self {
            Expression::Literal(text) => Ok(text.clone()),
            Expression::Field(field) => Ok(field(data)),
            Expression::Match(index) => match &data.groups {
                Some(groups) if *index < groups.len() => {
                    Ok(groups.get(*index).map_or("", |group| group.as_str()).into())
                }
                None if *index == 0 => Ok(data.name.into()),
                _ => Err(format!("index out of range: {index}")),
            },
            Expression::Group(name) => {
                let group = |groups: &Captures| match name.parse() {
                    Ok(index) => groups.get(index).map(|group| group.as_str().to_owned()),
                    Err(_) => groups.name(name).map(|group| group.as_str().to_owned()),
                };
                Ok(data.groups.as_ref().and_then(group).unwrap_or_default())
            }
            Expression::Number(text, base, bits) => {
                let text = text.value(data)?;
                let number = u64::from_str_radix(&text, *base).ok().filter(|_| !text.starts_with('+'));
                let number = number.filter(|number| matches!(*bits, 0 | 64) || number >> bits == 0);
                number.map(|number| number.to_string()).ok_or_else(|| format!("parseInt: {text:?} is no such number"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::RecordType;
    use regex::Regex;

    use super::*;

    /// The text for the name `ip0a7b.example.`.
    fn render(text: &str) -> Result<String, String> {
        let name = Name::from_ascii("IP0a7b.example.").unwrap();
        let regex = Regex::new("^ip(?P<a>[0-9a-f]{2})(?P<b>..)(x?)[.]example[.]$").unwrap();
        let data = Data {
            zone: &Name::from_ascii("example.").unwrap(),
            name: "ip0a7b.example.",
            class: "IN".into(),
            kind: "A".into(),
            client: "10.0.0.1".into(),
            query: &Query::query(name, RecordType::A),
            id: 7,
            groups: regex.captures("ip0a7b.example."),
        };
        Text::parse(text)?.render(&data)
    }

    #[test]
    fn values() {
        let table = [
            ("plain", "plain"),
            ("{{ .Name }} 60 {{.Class}} {{ .Type}}|", "ip0a7b.example. 60 IN A|"),
            ("{{ .Zone }} {{ .Remote }} {{ .Message.Id }}", "example. 10.0.0.1 7"),
            ("{{ .Question.Name }} {{ .Question.Qtype }} {{ .Question.Qclass }}", "IP0a7b.example. 1 1"),
            ("{{ index .Match 0 }},{{ index .Match 1 }},{{ index .Match 3 }}", "ip0a7b.example.,0a,"),
            ("{{ .Group.a }},{{ index .Group \"b\" }},{{ index .Group \"2\" }},{{ .Group.none }}", "0a,7b,7b,"),
            ("10.{{ parseInt .Group.b 16 8 }}.{{ parseInt (index .Match 1) 16 8 }}", "10.123.10"),
            ("a {{- \"b c\" -}} d {{ `e` }}{{/* nothing */}}", "ab cd e"),
        ];
        for (text, want) in table {
            assert_eq!(render(text).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_is_wrong() {
        let table = [
            ("{{ .Name", "unclosed action"),
            ("{{ .Nome }}", "function or field \".Nome\" is not supported"),
            ("{{ .Meta \"x/y\" }}", "function or field \".Meta\" is not supported"),
            ("{{ if .Name }}", "function or field \"if\" is not supported"),
            ("{{ printf \"%s\" .Name }}", "function or field \"printf\" is not supported"),
            ("{{ .Name | len }}", "unexpected \"|\""),
            ("{{ }}", "missing value"),
            ("{{ index .Match }}", "missing value"),
            ("{{ index .Match 9 }}", "index out of range: 9"),
            ("{{ index .Name 0 }}", "\".Name\" has no index"),
            ("{{ parseInt .Group.a 16 (2) }}", "\"(\" is not a number"),
            ("{{ parseInt .Group.a 99 8 }}", "parseInt knows no base 99 with 8 bits"),
            ("{{ parseInt .Name 16 8 }}", "parseInt: \"ip0a7b.example.\" is no such number"),
            ("{{ parseInt \"1ff\" 16 8 }}", "parseInt: \"1ff\" is no such number"),
            ("{{ \"x }}", "unterminated string"),
            ("{{ (index .Match 1 }}", "unclosed left paren"),
            ("{{ (((((((((.Name))))))))) }}", "more than 8 parentheses"),
        ];
        for (text, want) in table {
            assert_eq!(render(text).unwrap_err(), want, "{text}");
        }
    }
}
