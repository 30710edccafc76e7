//! Hosts, paths, and where they lead: what Ingresses say, made ready for being asked.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use regex::bytes::Regex;
use regex_syntax::hir::literal::{Extractor, Seq};
use state::Key;

use crate::path::canonical;
use crate::{Canary, Certificates, Policy, Upstream};

/// All rules of all Ingresses. Immutable.
#[derive(Debug, Default)]
pub struct Table {
    /// Exact hosts, in lower case.
    pub hosts: HashMap<Box<str>, Rules>,
    /// Wildcard hosts by what follows `*.`; the star is exactly one label.
    pub wildcards: HashMap<Box<str>, Rules>,
    /// The rules without a host: for hosts that have none of their own.
    pub any: Rules,
    /// What no rule is for; without one that is answered 404.
    pub default: Option<Arc<Route>>,
    /// What TLS shows to clients.
    pub certificates: Certificates,
}

/// The paths of a host.
#[derive(Debug, Default)]
pub struct Rules {
    /// In the order in which they are tried, each with what a path must begin with, in whatever case, to be worth it.
    paths: Vec<(Box<[u8]>, Path)>,
    /// What none of them is for (`spec.defaultBackend` of an Ingress with rules for this host).
    default: Option<Arc<Route>>,
}

/// One path.
#[derive(Debug)]
pub struct Path {
    /// What matches.
    pub matcher: Matcher,
    /// Where it goes then.
    pub route: Arc<Route>,
}

/// How a path matches (networking.k8s.io/v1 PathType). The texts are canonical.
#[derive(Debug)]
pub enum Matcher {
    /// `Exact`.
    Exact(Box<str>),
    /// `Prefix`, element by element; without the trailing slash.
    Prefix(Box<str>),
    /// Whatever begins with this (`ImplementationSpecific`, as nginx understands it).
    Start(Box<str>),
    /// An expression (`use-regex`, `rewrite-target`), anchored at the path's begin.
    Regex(Regex),
}

/// Where requests go, and how.
#[derive(Debug, Clone)]
pub struct Route {
    /// The Ingress.
    pub ingress: Key,
    /// The path as it is written there.
    pub path: Box<str>,
    /// Its host has a certificate, so that plain requests may be redirected.
    pub tls: bool,
    /// Where; without one the answer is 503.
    pub backend: Option<Arc<Upstream>>,
    /// How.
    pub policy: Arc<Policy>,
    /// Where some of them go instead.
    pub canary: Option<Canary>,
    /// The path as an expression, where `rewrite-target` may ask for its captures.
    pub pattern: Option<Regex>,
}

impl Table {
    /// The route of a request. The `host` is in lower case, without a port; the `path` as it was sent, without a query.
    /// Once a host is known, only its own rules count, and the default of all.
    pub fn find(&self, host: &str, path: &str) -> Option<&Arc<Route>> {
        let host = host.strip_suffix('.').unwrap_or(host);
        let wildcard = || self.wildcards.get(parent(host)?);
        let rules = self.hosts.get(host).or_else(wildcard).unwrap_or(&self.any);
        rules.find(&canonical(path)).or(self.default.as_ref())
    }

    /// The host of the rules for `host` as it is written there, its star apart; none for those without one.
    pub(crate) fn label<'a>(&'a self, host: &'a str) -> Option<(&'static str, &'a str)> {
        let host = host.strip_suffix('.').unwrap_or(host);
        let wildcard = || self.wildcards.get_key_value(parent(host)?).map(|(rest, _)| ("*.", &**rest));
        self.hosts.get_key_value(host).map(|(host, _)| ("", &**host)).or_else(wildcard)
    }
}

/// The host without its first label.
fn parent(host: &str) -> Option<&str> {
    host.split_once('.').filter(|(label, _)| !label.is_empty()).map(|(_, rest)| rest)
}

impl Rules {
    /// Rules of these paths, the older one first where two are alike. Exact ones are tried first, then expressions, and
    /// then prefixes; the longer ones first.
    pub fn new(mut paths: Vec<Path>, default: Option<Arc<Route>>) -> Self {
        paths.sort_by_key(|path| match &path.matcher {
            Matcher::Exact(_) => (0, Reverse(0), 0),
            Matcher::Regex(_) => (1, Reverse(path.route.path.len()), 0),
            Matcher::Prefix(text) => (2, Reverse(text.len()), 0),
            Matcher::Start(text) => (2, Reverse(text.len()), 1),
        });
        let paths = paths.into_iter().map(|path| (path.matcher.start(), path)).collect();
        Rules { paths, default }
    }

    fn find(&self, path: &str) -> Option<&Arc<Route>> {
        let worth =
            |start: &[u8]| path.as_bytes().get(..start.len()).is_some_and(|own| own.eq_ignore_ascii_case(start));
        let found = self.paths.iter().find(|(start, candidate)| worth(start) && candidate.matcher.matches(path));
        found.map(|(_, found)| &found.route).or(self.default.as_ref())
    }
}

impl Matcher {
    /// What every path that an expression matches begins with: a hundred times as fast to look at.
    fn start(&self) -> Box<[u8]> {
        let Matcher::Regex(regex) = self else { return Box::default() };
        let parsed = regex_syntax::parse(regex.as_str()).ok();
        let starts = parsed.map(|parsed| Extractor::new().extract(&parsed));
        starts.as_ref().and_then(Seq::longest_common_prefix).unwrap_or_default().into()
    }

    /// Whether `path`, which is canonical, matches.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Matcher::Exact(exact) => **exact == *path,
            Matcher::Prefix(prefix) => {
                path.strip_prefix(&**prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            Matcher::Start(start) => path.starts_with(&**start),
            Matcher::Regex(regex) => regex.is_match(path.as_bytes()),
        }
    }
}

impl Route {
    /// The path that the backend is to see instead of `path` (as it was sent, without a query), where it is another one.
    pub fn rewrite(&self, path: &str) -> Option<String> {
        let target = self.policy.rewrite.as_deref()?;
        let path = canonical(path);
        let captures = self.pattern.as_ref()?.captures(path.as_bytes())?;
        let mut pieces = target.split('$');
        let mut rewritten = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            match piece.chars().next().and_then(|first| first.to_digit(10)) {
                Some(number) => {
                    let capture = captures.get(number as usize).map_or(&b""[..], |capture| capture.as_bytes());
                    // Canonical paths are ASCII, so that nothing is lost.
                    rewritten.push_str(&String::from_utf8_lossy(capture));
                    rewritten.push_str(&piece[1..]);
                }
                None => {
                    rewritten.push('$');
                    rewritten.push_str(piece);
                }
            }
        }
        if !rewritten.starts_with('/') {
            rewritten.insert(0, '/');
        }
        Some(rewritten)
    }
}
