//! What a request has to pass before a backend is asked, in the order of nginx's phases: what is rewritten, how much
//! may be asked, who may.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::WWW_AUTHENTICATE;
use http::{HeaderValue, StatusCode, request};
use tokio::time::Instant;

use crate::auth::Known;
use crate::forward::{Refusal, page};
use crate::head::Client;
use crate::limit::{Clients, Place};
use crate::redirect::{self, Asked};
use crate::{Policy, Route, Users, cors};

/// What all threads share, to know a client again.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    clients: Arc<Clients>,
    known: Known,
}

impl Gate {
    /// Lets a request pass, or answers it. What it passes with is to be kept until it is answered to the end.
    pub(crate) async fn pass(
        &self,
        client: &Client,
        route: &Route,
        host: &str,
        parts: &request::Parts,
    ) -> Result<Option<Place>, Refusal> {
        let policy = &*route.policy;
        let asked = Asked { tls: client.tls, host, uri: &parts.uri };
        if let Some(to) = redirect::early(route, &asked) {
            return Err(redirect::answer(to));
        }
        if let Some(cors) = &policy.cors
            && cors::allowed(cors, parts).is_some()
            && let Some(answer) = cors::preflight(parts)
        {
            return Err(answer);
        }
        if let Some(to) = redirect::late(route, &asked) {
            return Err(redirect::answer(to));
        }
        let from = client.from.ip();
        let place = match &policy.limits {
            None => None,
            Some(limits) => {
                let admitted = self.clients.admit(limits, &route.ingress, from, Instant::now());
                admitted.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?
            }
        };
        if !welcome(policy, from) {
            return Err(StatusCode::FORBIDDEN.into());
        }
        if let Some(users) = &policy.auth {
            self.identify(users, parts).await?;
        }
        Ok(place)
    }

    async fn identify(&self, users: &Arc<Users>, parts: &request::Parts) -> Result<(), Refusal> {
        if users.passwords.is_empty() {
            return Err(StatusCode::SERVICE_UNAVAILABLE.into());
        }
        if self.known.admit(users, &parts.headers).await {
            return Ok(());
        }
        let mut response = page(StatusCode::UNAUTHORIZED);
        let realm = users.realm.replace(['\\', '"'], "");
        if let Ok(challenge) = HeaderValue::try_from(format!("Basic realm=\"{realm}\"")) {
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        Err(response.into())
    }
}

/// Whether an address may come in: not one of those denied, and one of those allowed, where any are.
fn welcome(policy: &Policy, from: IpAddr) -> bool {
    let among = |nets: &[ipnet::IpNet]| nets.iter().any(|net| net.contains(&from));
    !among(&policy.deny) && (policy.allow.is_empty() || among(&policy.allow))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
        // allowed, denied, client, welcome
        let cases = [
            (nets(&[]), nets(&[]), "192.0.2.1", true),
            (nets(&["192.0.2.0/24"]), nets(&[]), "192.0.2.1", true),
            (nets(&["192.0.2.0/24"]), nets(&[]), "192.0.3.1", false),
            (nets(&["192.0.2.0/24", "fd00::/8"]), nets(&[]), "fd00::1", true),
            (nets(&[]), nets(&["192.0.2.1/32"]), "192.0.2.1", false),
            (nets(&[]), nets(&["192.0.2.1/32"]), "192.0.2.2", true),
            (nets(&["192.0.2.0/24"]), nets(&["192.0.2.1/32"]), "192.0.2.1", false),
        ];
        for (allow, deny, client, expected) in cases {
            let policy = Policy { allow, deny, ..Policy::default() };
            assert_eq!(welcome(&policy, client.parse().unwrap()), expected, "{client} by {policy:?}");
        }
    }
}
