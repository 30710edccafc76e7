//! The values that annotations have; an error says what a value is not.

use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use ipnet::IpNet;
use regex::bytes::{Regex, RegexBuilder};

/// How long an expression may be, and how large once it is compiled, in bytes.
const LONGEST: usize = 1024;
const LARGEST: usize = 1 << 14;

pub(crate) type Read<T> = Result<T, String>;

fn not<T>(what: &str) -> Read<T> {
    Err(format!("is no {what}"))
}

pub(super) fn set<T>(slot: &mut T, value: Read<T>) -> Read<()> {
    *slot = value?;
    Ok(())
}

pub(super) fn some<T>(slot: &mut Option<T>, value: Read<T>) -> Read<()> {
    *slot = Some(value?);
    Ok(())
}

/// As Go spells them.
pub(super) fn boolean(text: &str) -> Read<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("is neither true nor false".into()),
    }
}

pub(super) fn number(text: &str) -> Read<u32> {
    text.parse().or_else(|_| not("whole number"))
}

/// A number of which 0 stands for none.
pub(super) fn limit(text: &str) -> Read<Option<u32>> {
    number(text).map(|number| Some(number).filter(|number| *number > 0))
}

pub(super) fn seconds(text: &str) -> Read<Duration> {
    match text.parse() {
        Ok(seconds @ 1..=u32::MAX) => Ok(Duration::from_secs(seconds.into())),
        _ => not("whole number of seconds"),
    }
}

/// Bytes with nginx's units; 0 is without limit.
pub(super) fn size(text: &str) -> Read<Option<u64>> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|last: char| last.is_ascii_alphabetic());
    let shift = match &lower[digits.len()..] {
        "" | "b" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        _ => return not("size such as 8m"),
    };
    let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    bytes.map(|bytes| Some(bytes).filter(|bytes| *bytes > 0)).map_or_else(|| not("size such as 8m"), Ok)
}

/// What is between commas.
pub(super) fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// Addresses and networks.
pub(super) fn networks(text: &str) -> Read<Vec<IpNet>> {
    let network = |item: &str| match item.parse::<IpNet>() {
        Ok(network) => Ok(network.trunc()),
        Err(_) => item.parse::<IpAddr>().map(IpNet::from).or_else(|_| not("list of addresses and networks")),
    };
    let networks: Vec<IpNet> = list(text).map(network).collect::<Read<_>>()?;
    if networks.is_empty() { not("list of addresses and networks") } else { Ok(networks) }
}

/// HTTP statuses between two bounds.
pub(super) fn status(text: &str, least: u16, most: u16) -> Read<StatusCode> {
    let code = text.parse().ok().filter(|code| (least..=most).contains(code));
    let code = code.and_then(|code| StatusCode::from_u16(code).ok());
    code.ok_or_else(|| format!("is no status from {least} to {most}"))
}

/// What a header may hold. Variables of nginx are nothing to anyone else.
pub(super) fn header(text: &str) -> Read<HeaderValue> {
    if text.contains('$') {
        return Err("has variables of nginx".into());
    }
    HeaderValue::try_from(text).or_else(|_| not("value for a header"))
}

/// An address to redirect to.
pub(super) fn url(text: &str) -> Read<HeaderValue> {
    if !(text.starts_with("http://") || text.starts_with("https://")) || text.contains(char::is_whitespace) {
        return not("address with http or https");
    }
    header(text)
}

/// One of these words, however it is capitalised.
pub(super) fn word(text: &str, words: &[&'static str]) -> Read<&'static str> {
    let found = words.iter().find(|word| word.eq_ignore_ascii_case(text));
    found.copied().ok_or_else(|| format!("is none of {}", words.join(", ")))
}

/// A list that only has letters, digits, and some other characters.
pub(super) fn names(text: &str, others: &str) -> Read<HeaderValue> {
    if !text.chars().all(|letter| letter.is_ascii_alphanumeric() || ", ".contains(letter) || others.contains(letter)) {
        return not("list of names");
    }
    header(text)
}

/// What an attribute of a cookie may hold (RFC 6265, section 4.1.1).
pub(super) fn attribute(text: &str) -> Read<Box<str>> {
    match text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';') {
        true => Ok(text.into()),
        false => not("attribute of a cookie"),
    }
}

/// An expression, within bounds. As for nginx, its letters are bytes: classes of Unicode would be a hundred times as
/// large.
pub(crate) fn expression(text: &str, any_case: bool) -> Read<Regex> {
    if text.len() > LONGEST {
        return Err(format!("is longer than {LONGEST} bytes"));
    }
    let compiled = RegexBuilder::new(text).unicode(false).case_insensitive(any_case).size_limit(LARGEST).build();
    compiled.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "is too large an expression".to_owned(),
        error => {
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default();
            format!("is no expression ({})", last.trim_start_matches("error: "))
        }
    })
}
