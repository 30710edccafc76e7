//! From objects to a Table.

mod backend;
mod class;
mod host;

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::networking::v1::{HTTPIngressPath, Ingress, IngressBackend, IngressClass, IngressSpec};
use state::{Key, Snapshot};

use crate::annotations::{Annotations, Complaint};
use crate::upstream::{Upstream, Upstreams};
use crate::{Errors, Policy, Route, Table};

pub use class::CONTROLLERS;
use host::{Candidate, Host};

/// All that a Table is made of.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    /// Ingresses of every class.
    pub ingresses: BTreeMap<Key, Arc<Ingress>>,
    /// IngressClasses by name.
    pub classes: BTreeMap<String, Arc<IngressClass>>,
    /// The Secrets that Ingresses name: certificates, and users with their passwords.
    pub secrets: BTreeMap<Key, Arc<Secret>>,
    /// Services and their endpoints.
    pub snapshot: Arc<Snapshot>,
}

/// What follows from them.
#[derive(Debug, Default)]
pub struct Plan {
    /// The Table, still without certificates.
    pub table: Table,
    /// The Ingresses that are served, the oldest first.
    pub served: Vec<Key>,
    /// Other names of their hosts (`server-alias`, `from-to-www-redirect`).
    pub aliases: BTreeMap<Key, Vec<String>>,
    /// What people should know about them.
    pub remarks: Vec<Remark>,
}

/// Something to be told in an Event of an Ingress.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remark {
    /// The Ingress.
    pub ingress: Key,
    /// The event's reason, such as `UnknownAnnotation`.
    pub reason: &'static str,
    /// What is wrong, and what to do.
    pub message: String,
}

/// An Ingress of ours, read.
struct Ours<'a> {
    key: &'a Key,
    spec: &'a IngressSpec,
    annotations: Annotations,
    policy: Arc<Policy>,
}

/// Makes the Table. Of two Ingresses with the same host, path and type of path the older one is right.
pub fn plan(objects: &Objects, upstreams: &mut Upstreams) -> Plan {
    let mut planner =
        Planner { objects, upstreams, plan: Plan::default(), hosts: BTreeMap::new(), certified: BTreeSet::new() };
    let ours: Vec<Ours<'_>> = planner.ours();
    let (canaries, ours): (Vec<_>, Vec<_>) = ours.into_iter().partition(|ingress| ingress.annotations.is_canary());
    ours.iter().for_each(|ingress| planner.add(ingress));
    canaries.iter().for_each(|ingress| planner.divert(ingress));
    planner.finish(&ours)
}

struct Planner<'a> {
    objects: &'a Objects,
    upstreams: &'a mut Upstreams,
    plan: Plan,
    hosts: BTreeMap<String, Host>,
    /// The hosts that Ingresses have certificates for.
    certified: BTreeSet<String>,
}

impl<'a> Planner<'a> {
    /// The Ingresses of our classes, the oldest first.
    fn ours(&mut self) -> Vec<Ours<'a>> {
        let objects = self.objects;
        let mut ours: Vec<_> =
            objects.ingresses.iter().filter(|(_, it)| class::is_ours(it, &objects.classes)).collect();
        ours.sort_by_key(|(_, ingress)| ingress.metadata.creation_timestamp.as_ref().map(|time| time.0));
        let read = |(key, ingress): (&'a Key, &'a Arc<Ingress>)| {
            self.plan.served.push(key.clone());
            let annotations = ingress.metadata.annotations.as_ref();
            let (annotations, mut complaints) = annotations.map(Annotations::read).unwrap_or_default();
            let policy = self.policy(key, &annotations, &mut complaints);
            complaints.into_iter().for_each(|(reason, message)| self.remark(key, reason, message));
            Some(Ours { key, spec: ingress.spec.as_ref()?, annotations, policy: Arc::new(policy) })
        };
        ours.into_iter().filter_map(read).collect()
    }

    fn remark(&mut self, ingress: &Key, reason: &'static str, message: String) {
        self.plan.remarks.push(Remark { ingress: ingress.clone(), reason, message });
    }

    /// The policy with what the annotations only name: users, and the Service that answers for errors.
    fn policy(&mut self, key: &Key, annotations: &Annotations, complaints: &mut Vec<Complaint>) -> Policy {
        let secret = annotations.secret().and_then(|name| {
            let (namespace, name) = name.split_once('/').unwrap_or((&key.namespace, name));
            // Whoever may write Ingresses in one namespace must not use the Secrets of another.
            (namespace == &*key.namespace).then(|| Key::new(namespace, name))
        });
        let found = secret.and_then(|key| self.objects.secrets.get(&key));
        let mut policy = annotations.policy(found.map(|secret| &**secret), complaints);
        let codes = annotations.errors();
        let backend = annotations.fallback.as_ref().and_then(|name| {
            let found =
                backend::first_port(&Key::new(key.namespace.clone(), name.as_str()), self.objects, self.upstreams);
            let missing = || format!("the Service {name} of default-backend does not exist or has no ports");
            if found.is_none() {
                complaints.push(("MissingService", missing()));
            }
            found
        });
        if backend.is_some() || !codes.is_empty() {
            policy.errors = Some(Arc::new(Errors { codes, backend }));
        }
        policy
    }

    fn backend(&mut self, ingress: &Ours<'_>, named: &IngressBackend) -> Option<Arc<Upstream>> {
        let (namespace, virtual_ip) = (&ingress.key.namespace, ingress.annotations.virtual_ip);
        let (found, complaint) = backend::find(namespace, named, virtual_ip, self.objects, self.upstreams);
        if let Some((reason, message)) = complaint {
            self.remark(ingress.key, reason, message);
        }
        found
    }

    /// Adds the rules of an Ingress to its hosts.
    fn add(&mut self, ingress: &Ours<'_>) {
        let rules = || ingress.spec.rules.iter().flatten();
        for tls in ingress.spec.tls.iter().flatten() {
            match tls.hosts.as_deref().unwrap_or_default() {
                [] => self.certified.extend(rules().map(host::name)),
                hosts => self.certified.extend(hosts.iter().map(|host| host.to_ascii_lowercase())),
            }
        }
        let default = ingress.spec.default_backend.as_ref().map(|named| self.backend(ingress, named));
        let default = default.map(|backend| Arc::new(route(ingress, "/", backend)));
        if rules().next().is_none() {
            self.plan.table.default = self.plan.table.default.take().or(default);
            return;
        }
        for rule in rules() {
            let name = host::name(rule);
            for path in rule.http.iter().flat_map(|http| &http.paths) {
                if path.backend.service.is_none() {
                    let text = host::text(path);
                    let message =
                        format!("path {text} leads to a resource, and only Services are known; it is left out");
                    self.remark(ingress.key, "UnsupportedBackend", message);
                    continue;
                }
                if let Some(known) = self.hosts.entry(name.clone()).or_default().find(path) {
                    let (text, other) = (host::text(path), &known.ingress);
                    let message = format!("path {text} of {} is in {other} already, which is older", shown(&name));
                    self.remark(ingress.key, "DuplicatePath", message);
                    continue;
                }
                let candidate = self.candidate(ingress, path);
                self.hosts.entry(name.clone()).or_default().add(path, candidate);
            }
            let host = self.hosts.entry(name).or_default();
            host.default = host.default.take().or_else(|| default.clone());
        }
    }

    fn candidate(&mut self, ingress: &Ours<'_>, path: &HTTPIngressPath) -> Candidate {
        let text = host::text(path);
        let backend = self.backend(ingress, &path.backend);
        let mut route = route(ingress, text, backend);
        let regex = ingress.annotations.regex;
        if ingress.annotations.cookie_by_path() {
            let mut policy = Policy::clone(&route.policy);
            if let Some(cookie) = &mut policy.affinity {
                let own = if regex || policy.rewrite.is_some() { "/" } else { text };
                cookie.attributes = format!("; Path={own}{}", cookie.attributes).into();
            }
            route.policy = Arc::new(policy);
        }
        Candidate { regex, route }
    }

    /// Sends some of the requests of another Ingress to a canary's backends.
    fn divert(&mut self, ingress: &Ours<'_>) {
        if ingress.spec.default_backend.is_some() {
            let message = "its defaultBackend diverts nothing: a canary names the paths that it is for".to_owned();
            self.remark(ingress.key, "IgnoredCanary", message);
        }
        for rule in ingress.spec.rules.iter().flatten() {
            let name = host::name(rule);
            for path in rule.http.iter().flat_map(|http| &http.paths) {
                let Some(backend) = self.backend(ingress, &path.backend) else { continue };
                let known = self.hosts.get_mut(&name).and_then(|host| host.find(path));
                let text = host::text(path);
                let complaint = match known {
                    None => "no other Ingress has this path with this type: there is nothing to divert",
                    Some(known) if known.canary.is_some() => "there is a canary already, an older one",
                    Some(known) => {
                        known.canary = Some(ingress.annotations.canary(backend));
                        continue;
                    }
                };
                self.remark(ingress.key, "IgnoredCanary", format!("path {text} of {}: {complaint}", shown(&name)));
            }
        }
    }

    /// Makes the rules of all hosts, and those of hosts that are only other names.
    fn finish(mut self, ours: &[Ours<'_>]) -> Plan {
        ours.iter().for_each(|ingress| self.alias(ingress));
        let mut patterns = BTreeMap::new();
        for (name, host) in std::mem::take(&mut self.hosts) {
            let parent = || name.split_once('.').map(|(_, rest)| format!("*.{rest}"));
            let tls = self.certified.contains(&name) || parent().is_some_and(|parent| self.certified.contains(&parent));
            let (rules, complaints) = host.rules(tls, &mut patterns);
            complaints.into_iter().for_each(|(ingress, message)| self.remark(&ingress, "InvalidPath", message));
            let table = &mut self.plan.table;
            match name.strip_prefix("*.") {
                Some(rest) => drop(table.wildcards.insert(rest.into(), rules)),
                None if name.is_empty() => table.any = rules,
                None => drop(table.hosts.insert(name.into(), rules)),
            }
        }
        self.plan
    }

    /// Adds other names of an Ingress's hosts, where they are none of their own.
    fn alias(&mut self, ingress: &Ours<'_>) {
        let names: Vec<String> = ingress.spec.rules.iter().flatten().map(host::name).collect();
        let mut added = Vec::new();
        for alias in &ingress.annotations.aliases {
            let Some(host) = names.iter().find_map(|name| self.hosts.get(name)).cloned() else { return };
            if self.hosts.contains_key(alias) {
                self.remark(ingress.key, "DuplicateHost", format!("server-alias {alias} is a host of its own already"));
            } else {
                self.hosts.insert(alias.clone(), host);
                added.push(alias.clone());
            }
        }
        for name in names.iter().filter(|name| ingress.annotations.www && !name.is_empty() && !name.starts_with("*.")) {
            let other = name.strip_prefix("www.").map_or_else(|| format!("www.{name}"), str::to_owned);
            let policy = Policy { other_host: Some(name.as_str().into()), ssl_redirect: false, ..Policy::default() };
            let route = Route { policy: Arc::new(policy), ..route(ingress, "/", None) };
            if let Entry::Vacant(vacant) = self.hosts.entry(other) {
                added.push(vacant.key().clone());
                vacant.insert(Host { default: Some(Arc::new(route)), ..Host::default() });
            }
        }
        self.plan.aliases.insert(ingress.key.clone(), added);
    }
}

fn route(ingress: &Ours<'_>, path: &str, backend: Option<Arc<Upstream>>) -> Route {
    Route {
        ingress: ingress.key.clone(),
        path: path.into(),
        tls: false,
        backend,
        policy: ingress.policy.clone(),
        canary: None,
        pattern: None,
    }
}

fn shown(host: &str) -> &str {
    if host.is_empty() { "all hosts" } else { host }
}

#[cfg(test)]
mod tests;
