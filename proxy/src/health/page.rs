//! What each address answers; pure.

use std::collections::BTreeSet;
use std::fmt;

use http::StatusCode;
use jiff::Timestamp;
use state::{Key, Service};

use super::Site;
use crate::web::Answer;

const JSON: &str = "application/json";

/// What an address is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Page {
    /// The health of the proxy and of its node.
    Health,
    /// Its metrics.
    Metrics,
    /// The endpoints of a Service on this node.
    Service(Key),
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Page::Health => f.write_str("the proxy's health"),
            Page::Metrics => f.write_str("the proxy's metrics"),
            Page::Service(key) => write!(f, "the health of the Service {key}"),
        }
    }
}

impl Page {
    /// What a path of this address has, at a moment.
    pub(super) fn answer(&self, path: &str, site: &Site, now: Timestamp) -> Answer {
        match (self, path) {
            (Page::Health, "/healthz") => proxy(site, now, false),
            (Page::Health, "/livez") => proxy(site, now, true),
            (Page::Metrics, "/healthz") => Answer::text("ok".into()),
            (Page::Metrics, "/proxyMode") => Answer::text(site.config.mode.into()),
            (Page::Metrics, "/metrics") => {
                Answer::text(site.metrics.text(&site.snapshots.borrow(), &site.config.node_name))
            }
            // As kube-proxy: at every path.
            (Page::Service(key), _) => service(key, site, now),
            _ => Answer { status: StatusCode::NOT_FOUND, ..Answer::text("404 page not found\n".into()) },
        }
    }
}

fn json(well: bool, weight: Option<usize>, body: String) -> Answer {
    let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Answer { status, kind: JSON, weight, body }
}

/// `/livez` says whether the proxy should be started again, `/healthz` whether connections may be sent to this node.
fn proxy(site: &Site, now: Timestamp, live: bool) -> Answer {
    let health = site.metrics.health(now);
    let eligible = site.eligible();
    let well = health.healthy && (live || eligible);
    site.metrics.asked(live, well);
    let node = if live { String::new() } else { format!("\"nodeEligible\":{eligible},") };
    let updated = health.updated.unwrap_or_default();
    // Of one that is well it is recent, whenever the last change was.
    let recent = if well { now } else { updated };
    let family = format!("{{\"lastUpdated\":\"{updated}\",\"healthy\":{}}}", health.healthy);
    let status = match health.updated {
        Some(_) => format!(",\"status\":{{\"IPv4\":{family},\"IPv6\":{family}}}"),
        None => String::new(),
    };
    let healthy = health.healthy;
    let body =
        format!("{{\"lastUpdated\":\"{recent}\",\"currentTime\":\"{now}\",{node}\"healthy\":{healthy}{status}}}");
    json(well, None, body)
}

/// 200 for as long as the node has ready endpoints and the proxy is well.
fn service(key: &Key, site: &Site, now: Timestamp) -> Answer {
    let healthy = site.metrics.health(now).healthy;
    let snapshot = site.snapshots.borrow();
    let count = snapshot.services.get(key).map_or(0, |service| here(service, &site.config.node_name));
    let Key { namespace, name } = key;
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": \"{namespace}\",\n\t\t\"name\": \"{name}\"\n\t}},\n\t\"localEndpoints\": \
         {count},\n\t\"serviceProxyHealthy\": {healthy}\n}}"
    );
    json(count > 0 && healthy, Some(count), body)
}

/// How many ready endpoints of a Service are on a node; one with an address of each family is one.
fn here(service: &Service, node: &str) -> usize {
    let ready = service.endpoints.iter().filter(|e| e.ready && e.node.as_deref() == Some(node));
    let (v4, v6): (BTreeSet<_>, BTreeSet<_>) = ready.map(|e| e.address).partition(|address| address.is_ipv4());
    v4.len().max(v6.len())
}
