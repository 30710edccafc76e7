//! Hosts, paths, and where they lead: what Ingresses say, made ready for being asked.

use std::collections::HashMap;
use std::sync::Arc;

use state::Key;

use crate::{Canary, Certificates, Policy, Upstream};

/// All rules of all Ingresses. Immutable.
#[derive(Debug, Default)]
pub struct Table {
    /// Exact hosts, in lower case.
    pub hosts: HashMap<Box<str>, Rules>,
    /// Wildcard hosts by what follows `*.`; the star is exactly one label.
    pub wildcards: HashMap<Box<str>, Rules>,
    /// The rules without a host.
    pub any: Rules,
    /// What no rule is for; without one that is answered 404.
    pub default: Option<Arc<Route>>,
    /// What TLS shows to clients.
    pub certificates: Certificates,
}

/// The paths of a host, the one to be taken first first.
#[derive(Debug, Default)]
pub struct Rules {
    /// In the order in which they are tried.
    pub paths: Vec<Path>,
}

/// One path.
#[derive(Debug)]
pub struct Path {
    /// What matches.
    pub matcher: Matcher,
    /// Where it goes then.
    pub route: Arc<Route>,
}

/// How a path matches (networking.k8s.io/v1 PathType).
#[derive(Debug)]
pub enum Matcher {
    /// `Exact`.
    Exact(Box<str>),
    /// `Prefix`, element by element; without the trailing slash.
    Prefix(Box<str>),
    /// An expression (`use-regex`, `rewrite-target`), anchored at the path's begin.
    Regex(regex::Regex),
}

/// Where requests go, and how.
#[derive(Debug)]
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
}

impl Table {
    /// The route of a request. The `host` is in lower case, without a port; the `path` without a query.
    pub fn find(&self, host: &str, path: &str) -> Option<&Arc<Route>> {
        let wildcard = || self.wildcards.get(host.split_once('.')?.1);
        let rules = self.hosts.get(host).or_else(wildcard);
        rules.and_then(|rules| rules.find(path)).or_else(|| self.any.find(path)).or(self.default.as_ref())
    }
}

impl Rules {
    fn find(&self, path: &str) -> Option<&Arc<Route>> {
        self.paths.iter().find(|candidate| candidate.matcher.matches(path)).map(|found| &found.route)
    }
}

impl Matcher {
    /// Whether `path` matches.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Matcher::Exact(exact) => **exact == *path,
            Matcher::Prefix(prefix) => {
                path.strip_prefix(&**prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            Matcher::Regex(regex) => regex.is_match(path),
        }
    }
}
