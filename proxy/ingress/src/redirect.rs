//! Requests that are sent elsewhere by an answer of our own.

use http::header::LOCATION;
use http::{HeaderValue, StatusCode, Uri};

use crate::Route;
use crate::forward::{Refusal, page};
use crate::path::canonical;

/// What a redirect depends on.
pub(crate) struct Asked<'a> {
    /// By TLS.
    pub(crate) tls: bool,
    /// The Host as it was sent.
    pub(crate) host: &'a str,
    /// The target as it was sent.
    pub(crate) uri: &'a Uri,
}

impl Asked<'_> {
    /// The path and query.
    fn target(&self) -> &str {
        self.uri.path_and_query().map_or("/", |target| target.as_str())
    }

    fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }
}

/// `from-to-www-redirect` and `app-root`, which come before everything else.
pub(crate) fn early(route: &Route, asked: &Asked<'_>) -> Option<(StatusCode, HeaderValue)> {
    let policy = &route.policy;
    if let Some(other) = &policy.other_host {
        let to = format!("{}://{other}{}", asked.scheme(), asked.target());
        return Some((StatusCode::PERMANENT_REDIRECT, HeaderValue::try_from(to).ok()?));
    }
    if let Some(root) = &policy.app_root
        && canonical(asked.uri.path()) == "/"
    {
        let to = format!("{}://{}{}", asked.scheme(), asked.host, root.to_str().unwrap_or("/"));
        return Some((StatusCode::FOUND, HeaderValue::try_from(to).ok()?));
    }
    None
}

/// `permanent-redirect`, `temporal-redirect`, `ssl-redirect` and `force-ssl-redirect`. As with ingress-nginx, the way to
/// HTTPS loses the slash at its end without `preserve-trailing-slash`.
pub(crate) fn late(route: &Route, asked: &Asked<'_>) -> Option<(StatusCode, HeaderValue)> {
    let policy = &route.policy;
    if let Some(redirect) = &policy.redirect {
        return Some((redirect.code, redirect.to.clone()));
    }
    if asked.tls || !(policy.force_ssl_redirect || policy.ssl_redirect && route.tls) {
        return None;
    }
    let (host, target) = (without_port(asked.host), asked.target());
    let target = target.strip_suffix('/').filter(|_| !policy.trailing_slash).unwrap_or(target);
    let to = format!("https://{host}{target}");
    Some((StatusCode::PERMANENT_REDIRECT, HeaderValue::try_from(to).ok()?))
}

/// The answer.
pub(crate) fn answer((code, to): (StatusCode, HeaderValue)) -> Refusal {
    let mut response = page(code);
    response.headers_mut().insert(LOCATION, to);
    response.into()
}

/// A Host without its port; brackets of IPv6 addresses stay.
pub(crate) fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use state::Key;

    use super::*;
    use crate::policy::{Policy, Redirect};

    fn policy(change: impl FnOnce(&mut Policy)) -> Policy {
        let mut policy = Policy::default();
        change(&mut policy);
        policy
    }

    #[test]
    fn where_requests_are_sent_instead() {
        let none = || policy(|_| ());
        let quiet = || policy(|policy| policy.ssl_redirect = false);
        let slash = || policy(|policy| policy.trailing_slash = true);
        let force = || policy(|policy| policy.force_ssl_redirect = true);
        let root = || policy(|policy| policy.app_root = Some(HeaderValue::from_static("/app")));
        let all = || {
            policy(|policy| {
                let to = HeaderValue::from_static("https://new.org");
                policy.redirect = Some(Redirect { to, code: StatusCode::MOVED_PERMANENTLY });
            })
        };
        let www = || policy(|policy| policy.other_host = Some("www.a.com".into()));
        let to = |code, to: &'static str| Some((code, to));
        // policy, its host has a certificate, came by TLS, host, target, answer
        let cases = [
            (none(), false, false, "a.com", "/", None),
            (none(), true, true, "a.com", "/", None),
            (none(), true, false, "a.com", "/", to(308, "https://a.com")),
            (none(), true, false, "a.com:80", "/x?y=/", to(308, "https://a.com/x?y=")),
            (none(), true, false, "[fd00::1]:8080", "/x", to(308, "https://[fd00::1]/x")),
            (none(), true, false, "[fd00::1]", "/x", to(308, "https://[fd00::1]/x")),
            (slash(), true, false, "a.com", "/x/", to(308, "https://a.com/x/")),
            (quiet(), true, false, "a.com", "/x", None),
            (force(), false, false, "a.com", "/x", to(308, "https://a.com/x")),
            (force(), false, true, "a.com", "/x", None),
            (root(), false, false, "a.com:8080", "/", to(302, "http://a.com:8080/app")),
            (root(), true, false, "a.com", "/?x", to(302, "http://a.com/app")),
            (root(), false, true, "a.com", "/", to(302, "https://a.com/app")),
            (root(), false, false, "a.com", "//", to(302, "http://a.com/app")),
            (root(), false, false, "a.com", "/app", None),
            (www(), true, false, "a.com", "/x/?y", to(308, "http://www.a.com/x/?y")),
            (www(), true, true, "a.com", "/", to(308, "https://www.a.com/")),
            (all(), true, false, "a.com", "/", to(301, "https://new.org")),
        ];
        for (policy, certified, tls, host, target, expected) in cases {
            let route = Route {
                ingress: Key::new("default", "app"),
                path: "/".into(),
                tls: certified,
                backend: None,
                policy: Arc::new(policy),
                canary: None,
                pattern: None,
            };
            let asked = Asked { tls, host, uri: &target.parse().unwrap() };
            let found = early(&route, &asked).or_else(|| late(&route, &asked));
            let found = found.as_ref().map(|(code, to)| (code.as_u16(), to.to_str().unwrap()));
            assert_eq!(found, expected, "{host}{target} of {route:?}");
        }
    }
}
