//! The paths of one host, before they are made into rules.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::networking::v1::{HTTPIngressPath, IngressRule};
use regex::bytes::Regex;
use state::Key;

use crate::annotations::expression;
use crate::path::canonical;
use crate::{Matcher, Path, Route, Rules};

/// How many different expressions a Table may have.
const EXPRESSIONS: usize = 4096;
/// What hardly is in a path, unless it is meant for an expression or a pattern.
const SIGNS: [char; 9] = ['(', ')', '[', ']', '*', '|', '^', '$', '\\'];

/// A host that Ingresses have rules for.
#[derive(Debug, Clone, Default)]
pub(super) struct Host {
    /// By their text and type.
    pub(super) paths: BTreeMap<(String, Kind), Candidate>,
    /// The `spec.defaultBackend` of the oldest Ingress that has one.
    pub(super) default: Option<Arc<Route>>,
}

/// `pathType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Exact,
    Prefix,
    Specific,
}

/// A path of an Ingress.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    /// `use-regex`.
    pub(super) regex: bool,
    pub(super) route: Route,
}

/// The name of a rule's host in lower case; empty for all.
pub(super) fn name(rule: &IngressRule) -> String {
    rule.host.as_deref().unwrap_or_default().to_ascii_lowercase()
}

/// What is written as a path; `/` where nothing is.
pub(super) fn text(path: &HTTPIngressPath) -> &str {
    path.path.as_deref().filter(|text| !text.is_empty()).unwrap_or("/")
}

fn place(path: &HTTPIngressPath) -> (String, Kind) {
    let kind = match path.path_type.as_str() {
        "Exact" => Kind::Exact,
        "Prefix" => Kind::Prefix,
        _ => Kind::Specific,
    };
    (text(path).to_owned(), kind)
}

impl Candidate {
    /// As in ingress-nginx, a target that is the path itself rewrites nothing.
    fn rewrites(&self) -> bool {
        self.route.policy.rewrite.as_ref().is_some_and(|target| *target != self.route.path)
    }
}

impl Host {
    /// The route that a path has already.
    pub(super) fn find(&mut self, path: &HTTPIngressPath) -> Option<&mut Route> {
        self.paths.get_mut(&place(path)).map(|known| &mut known.route)
    }

    pub(super) fn add(&mut self, path: &HTTPIngressPath, candidate: Candidate) {
        self.paths.insert(place(path), candidate);
    }

    /// The rules, and what is wrong with expressions. One path with `use-regex` or `rewrite-target` makes all paths of
    /// its host expressions, as in ingress-nginx. The same expression is compiled once for all hosts.
    pub(super) fn rules(self, tls: bool, patterns: &mut BTreeMap<String, Regex>) -> (Rules, Vec<(Key, String)>) {
        let regex = self.paths.values().any(|candidate| candidate.regex || candidate.rewrites());
        let mut complaints = Vec::new();
        // `app-root` is of the host, whichever of its paths says it.
        let root = self.paths.values().map(|candidate| &candidate.route).find(|route| route.policy.app_root.is_some());
        let root = root
            .map(|route| Path { matcher: Matcher::Exact("/".into()), route: Arc::new(Route { tls, ..route.clone() }) });
        let mut paths: Vec<Path> = root.into_iter().collect();
        for ((text, kind), candidate) in self.paths.iter().rev() {
            if !regex && text.contains(SIGNS) {
                let message = format!("path {text} is taken as it is written: use-regex would make it an expression");
                complaints.push((candidate.route.ingress.clone(), message));
            }
            let matcher = match regex {
                false => self.plain(text, *kind),
                true => match compile(text, patterns) {
                    Ok(regex) => Matcher::Regex(regex),
                    Err(wrong) => {
                        let message = format!("path {text:?} {wrong}; it is left out");
                        complaints.push((candidate.route.ingress.clone(), message));
                        continue;
                    }
                },
            };
            let mut route = Route { tls, ..candidate.route.clone() };
            if let Matcher::Regex(regex) = &matcher
                && candidate.rewrites()
            {
                route.pattern = Some(regex.clone());
            }
            paths.push(Path { matcher, route: Arc::new(route) });
        }
        let default = self.default.map(|route| Arc::new(Route { tls, ..Route::clone(&route) }));
        (Rules::new(paths, default), complaints)
    }

    /// A prefix stands for the path itself, for those below it, and for itself with a slash at its end, unless that is
    /// another path of this host.
    fn plain(&self, text: &str, kind: Kind) -> Matcher {
        let trimmed = text.trim_end_matches('/');
        let path = canonical(text);
        match kind {
            Kind::Exact => Matcher::Exact(path.into()),
            Kind::Prefix if trimmed == text || !self.paths.contains_key(&(trimmed.to_owned(), kind)) => {
                Matcher::Prefix(path.trim_end_matches('/').into())
            }
            Kind::Prefix | Kind::Specific => Matcher::Start(path.into()),
        }
    }
}

fn compile(text: &str, patterns: &mut BTreeMap<String, Regex>) -> Result<Regex, String> {
    if let Some(known) = patterns.get(text) {
        return Ok(known.clone());
    }
    if patterns.len() == EXPRESSIONS {
        return Err(format!("is one expression too many: {EXPRESSIONS} different ones are compiled at most"));
    }
    let regex = expression(&format!("^(?:{text})"), true)?;
    patterns.insert(text.to_owned(), regex.clone());
    Ok(regex)
}
