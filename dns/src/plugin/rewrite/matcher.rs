//! Which names a rule is for, and what becomes of them.

use regex::Regex;

use crate::corefile::{Error, Word};
use crate::pattern::pattern;

/// Picks names: text in lower case with a dot at the end.
#[derive(Debug)]
pub(super) enum Matcher {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Substring(String),
    Regex(Regex),
}

impl Matcher {
    /// Reads `[exact|prefix|suffix|substring|regex] STRING`, behind which `least` or more words are
    /// needed, and returns those.
    pub(super) fn read<'a>(field: &Word, words: &'a [Word], least: usize) -> Result<(Self, &'a [Word]), Error> {
        match words {
            [from, rest @ ..] if rest.len() == least => Ok((Matcher::Exact(qualified(from)), rest)),
            [kind, from, rest @ ..] if rest.len() >= least => Ok((Matcher::of(kind, from)?, rest)),
            _ => Err(field.error(format!("too few arguments for a {} rule", field.text))),
        }
    }

    fn of(kind: &Word, from: &Word) -> Result<Self, Error> {
        Ok(match kind.text.to_ascii_lowercase().as_str() {
            "exact" => Matcher::Exact(qualified(from)),
            "prefix" => Matcher::Prefix(qualified(from)),
            "suffix" => Matcher::Suffix(qualified(from)),
            "substring" => Matcher::Substring(qualified(from)),
            "regex" => Matcher::Regex(pattern(from)?),
            other => {
                let known = "exact, prefix, suffix, substring and regex";
                return Err(kind.error(format!("{other:?} is no kind of match: {known} are")));
            }
        })
    }

    pub(super) fn fits(&self, name: &str) -> bool {
        match self {
            Matcher::Exact(from) => name == from,
            Matcher::Prefix(from) => name.starts_with(from),
            Matcher::Suffix(from) => name.ends_with(from),
            Matcher::Substring(from) => name.contains(from),
            Matcher::Regex(from) => from.is_match(name),
        }
    }

    /// What becomes of a name that fits.
    pub(super) fn replace(&self, name: &str, to: &str) -> Option<String> {
        match self {
            Matcher::Exact(from) => (name == from).then(|| to.to_owned()),
            Matcher::Prefix(from) => name.strip_prefix(from).map(|rest| format!("{to}{rest}")),
            Matcher::Suffix(from) => name.strip_suffix(from).map(|rest| format!("{rest}{to}")),
            Matcher::Substring(from) => name.contains(from).then(|| name.replace(from, to)),
            Matcher::Regex(from) => expand(from, name, to),
        }
    }
}

/// `to` with the groups of the match in place of `{0}`, `{1}`…
pub(super) fn expand(from: &Regex, name: &str, to: &str) -> Option<String> {
    let groups = from.captures(name)?;
    let text = |group: Option<regex::Match>| group.map_or("", |group| group.as_str()).to_owned();
    let groups = groups.iter().map(text).enumerate();
    Some(groups.fold(to.to_owned(), |to, (index, group)| to.replace(&format!("{{{index}}}"), &group)))
}

/// An expression and what it leads to, which uses no more groups than there are.
pub(super) fn expansion(from: &Word, to: &Word) -> Result<(Regex, String), Error> {
    let (from, to) = (pattern(from)?, (to, qualified(to)));
    match (from.captures_len()..=100).find(|index| to.1.contains(&format!("{{{index}}}"))) {
        Some(index) => Err(to.0.error(format!("{{{index}}} is more than the groups of the regex '{from}'"))),
        None => Ok((from, to.1)),
    }
}

/// A name in lower case with a dot at the end.
pub(super) fn qualified(word: &Word) -> String {
    let text = word.text.to_ascii_lowercase();
    if text.ends_with('.') { text } else { text + "." }
}
