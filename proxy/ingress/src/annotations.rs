//! The annotations of an Ingress, read into its policy: `nginx.ingress.kubernetes.io/*` with the meaning and the
//! defaults that ingress-nginx documents for them.
//!
//! What would open a door if it were passed over (who may come in, and how they show it) closes it when it is wrong.

mod auth;
mod canary;
mod cookie;
mod cors;
mod table;
mod value;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderValue, StatusCode};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use k8s_openapi::api::core::v1::Secret;

use crate::{Canary, Limits, Policy, Redirect, Upstream};

use table::{Entry, PREFIX, TABLE};
pub(crate) use value::expression;

/// What the annotations say; what is not of the policy alone is read from here.
#[derive(Debug, Default)]
pub(crate) struct Annotations {
    policy: Policy,
    /// `use-regex`.
    pub(crate) regex: bool,
    /// `server-alias`: more hosts for the same rules.
    pub(crate) aliases: Vec<String>,
    /// `from-to-www-redirect`.
    pub(crate) www: bool,
    /// `service-upstream`: requests go to the Service's own address.
    pub(crate) virtual_ip: bool,
    /// `custom-http-errors`.
    errors: Vec<StatusCode>,
    /// `default-backend`: a Service in the same namespace.
    pub(crate) fallback: Option<String>,
    /// `disable-proxy-intercept-errors`: not even the errors above.
    pass_errors: bool,
    closed: bool,
    canary: canary::Draft,
    cookie: cookie::Draft,
    cors: cors::Draft,
    auth: auth::Draft,
    limits: Limits,
    permanent: (Option<HeaderValue>, Option<StatusCode>),
    temporal: (Option<HeaderValue>, Option<StatusCode>),
}

/// What is wrong with an annotation: an event's reason and its message.
pub(crate) type Complaint = (&'static str, String);

impl Annotations {
    /// Reads them; says what it makes nothing of.
    pub(crate) fn read(annotations: &BTreeMap<String, String>) -> (Self, Vec<Complaint>) {
        let mut read = Annotations::default();
        read.limits.burst = 5;
        let mut complaints = Vec::new();
        for (full, value) in annotations {
            let Some(name) = full.strip_prefix(PREFIX) else { continue };
            let value = value.trim();
            let entry = TABLE.iter().find(|(known, _)| *known == name).map(|(_, entry)| entry);
            match entry {
                None => complaints.push(("UnknownAnnotation", format!("{full} is not known and has no effect"))),
                Some(Entry::Guard(reader)) => {
                    if let Err(wrong) = reader(&mut read, value) {
                        read.closed = true;
                        complaints.push(("InvalidAnnotation", format!("{full}: {value:?} {wrong}; nobody is let in")));
                    }
                }
                Some(_) if value.is_empty() => {}
                Some(Entry::Harmless) => {}
                Some(Entry::Without(why)) => complaints.push(("UnsupportedAnnotation", format!("{full}: {why}"))),
                Some(Entry::Closed(why)) => {
                    read.closed = true;
                    complaints.push(("UnsupportedAnnotation", format!("{full}: {why}; nobody is let in")));
                }
                Some(Entry::Read(reader, otherwise)) => {
                    if let Err(wrong) = reader(&mut read, value) {
                        complaints.push(("InvalidAnnotation", format!("{full}: {value:?} {wrong}; {otherwise}")));
                    }
                }
            }
        }
        read.canary.check(&mut complaints);
        (read, complaints)
    }

    /// True where the Ingress only says which requests of another one go elsewhere.
    pub(crate) fn is_canary(&self) -> bool {
        self.canary.enabled
    }

    /// The requests that go to `backend` instead.
    pub(crate) fn canary(&self, backend: Arc<Upstream>) -> Canary {
        self.canary.clone().with(backend)
    }

    /// The Secret with users and passwords.
    pub(crate) fn secret(&self) -> Option<&str> {
        self.auth.secret.as_deref()
    }

    /// True where every path has a cookie of its own, which only goes with that path.
    pub(crate) fn cookie_by_path(&self) -> bool {
        self.cookie.enabled && self.cookie.path.is_none()
    }

    /// The answers that `default-backend` gives instead of the backend.
    pub(crate) fn errors(&self) -> Vec<StatusCode> {
        if self.pass_errors { Vec::new() } else { self.errors.clone() }
    }

    /// The policy for the paths of the Ingress. The `secret` is the one that the annotations name.
    pub(crate) fn policy(&self, secret: Option<&Secret>, complaints: &mut Vec<Complaint>) -> Policy {
        let mut policy = self.policy.clone();
        let redirect = |(to, code): &(Option<HeaderValue>, Option<StatusCode>), usual| {
            Some(Redirect { to: to.clone()?, code: code.unwrap_or(usual) })
        };
        policy.redirect = redirect(&self.temporal, StatusCode::FOUND)
            .or_else(|| redirect(&self.permanent, StatusCode::MOVED_PERMANENTLY));
        policy.affinity = self.cookie.finish();
        policy.cors = self.cors.finish();
        policy.auth = self.auth.finish(secret, complaints);
        let Limits { per_second, per_minute, at_once, .. } = &self.limits;
        if per_second.or(*per_minute).or(*at_once).is_some() {
            policy.limits = Some(Arc::new(self.limits.clone()));
        }
        if self.closed {
            policy.deny = vec![IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())];
        }
        policy
    }
}

#[cfg(test)]
mod tests;
