//! Every annotation, and who reads it.

use http::HeaderName;

use super::Annotations;
use super::value::{
    Read, attribute, boolean, expression, header, limit, list, names, networks, number, seconds, set, size, some,
    status, url, word,
};
use crate::Protocol;

/// What all annotations of ingress-nginx begin with.
pub(super) const PREFIX: &str = "nginx.ingress.kubernetes.io/";

/// What becomes of an annotation.
pub(super) enum Entry {
    /// It is read so, and what is assumed where that fails.
    Read(fn(&mut Annotations, &str) -> Read<()>, &'static str),
    /// It says who may come in: nobody, where it is wrong or empty.
    Guard(fn(&mut Annotations, &str) -> Read<()>),
    /// It has nothing to say here, and all is well without it.
    Harmless,
    /// It is not done, and why.
    Without(&'static str),
    /// It is not done, and who may come in would hang on it.
    Closed(&'static str),
}

use Entry::{Closed, Guard, Harmless, Read as By, Without};

const LEFT_OUT: &str = "it is left out";
const SNIPPET: &str = "there is no nginx here that could run snippets of its configuration";
const NO_EXTERNAL: &str = "requests cannot be shown to another service for its consent";
const NO_CERTIFICATES: &str = "clients are not asked for certificates";
const NO_BANDWIDTH: &str = "what a connection may carry is not limited";
const NO_VERIFY: &str = "certificates of backends are not verified, and none is shown to them";
const NO_EDIT: &str = "answers of backends go to clients as they are";
const NO_MIRROR: &str = "requests go to one backend only";
const NO_FIREWALL: &str = "there is no ModSecurity here";
const NO_SHARED: &str = "limits are counted by each node for itself; use limit-rps";
const NO_HASH: &str = "endpoints take turns; use affinity for clients that are to stay with theirs";
const NO_FASTCGI: &str = "backends are spoken to by HTTP only";

/// The table. Those that `Harmless` is said of, and why: buffers (bodies stream through, so none is needed or could be
/// too small), versions and ciphers of the protocols (they are agreed on with each peer), traces (there
/// are none), pushes of HTTP/2 (browsers gave them up), and choices of which ours is one already.
#[rustfmt::skip]
pub(super) const TABLE: &[(&str, Entry)] = &[
    // Paths and redirects.
    ("rewrite-target", By(rewrite, "paths are not rewritten")),
    ("x-forwarded-prefix", By(|it, text| some(&mut it.policy.prefix, header(text)), LEFT_OUT)),
    ("use-regex", By(|it, text| set(&mut it.regex, boolean(text)), "false is assumed")),
    ("app-root", By(app_root, LEFT_OUT)),
    ("ssl-redirect", By(|it, text| set(&mut it.policy.ssl_redirect, boolean(text)), "true is assumed")),
    ("force-ssl-redirect", By(|it, text| set(&mut it.policy.force_ssl_redirect, boolean(text)), "false is assumed")),
    ("preserve-trailing-slash", By(|it, text| set(&mut it.policy.trailing_slash, boolean(text)), "false is assumed")),
    ("permanent-redirect", By(|it, text| some(&mut it.permanent.0, url(text)), LEFT_OUT)),
    ("permanent-redirect-code", By(|it, text| some(&mut it.permanent.1, status(text, 300, 308)), "301 is assumed")),
    ("temporal-redirect", By(|it, text| some(&mut it.temporal.0, url(text)), LEFT_OUT)),
    ("temporal-redirect-code", By(|it, text| some(&mut it.temporal.1, status(text, 300, 307)), "302 is assumed")),
    ("relative-redirects", Harmless),
    ("use-port-in-redirects", Harmless),
    ("from-to-www-redirect", By(|it, text| set(&mut it.www, boolean(text)), "false is assumed")),
    ("server-alias", By(|it, text| set(&mut it.aliases, aliases(text)), LEFT_OUT)),
    // Backends.
    ("backend-protocol", By(|it, text| set(&mut it.policy.protocol, protocol(text)), "HTTP is assumed")),
    ("service-upstream", By(|it, text| set(&mut it.virtual_ip, boolean(text)), "false is assumed")),
    ("upstream-vhost", By(|it, text| some(&mut it.policy.vhost, header(text)), LEFT_OUT)),
    ("proxy-body-size", By(|it, text| set(&mut it.policy.body, size(text)), "1m is assumed")),
    ("proxy-connect-timeout", By(|it, text| set(&mut it.policy.timeouts.connect, seconds(text)), "5 is assumed")),
    ("proxy-send-timeout", By(|it, text| set(&mut it.policy.timeouts.send, seconds(text)), "60 is assumed")),
    ("proxy-read-timeout", By(|it, text| set(&mut it.policy.timeouts.read, seconds(text)), "60 is assumed")),
    ("custom-http-errors", By(errors, LEFT_OUT)),
    ("default-backend", By(|it, text| { it.fallback = Some(text.to_owned()); Ok(()) }, LEFT_OUT)),
    ("disable-proxy-intercept-errors", By(|it, text| set(&mut it.pass_errors, boolean(text)), "false is assumed")),
    ("proxy-next-upstream", Harmless),
    ("proxy-next-upstream-timeout", Harmless),
    ("proxy-next-upstream-tries", Harmless),
    ("load-balance", Harmless),
    ("upstream-hash-by", Without(NO_HASH)),
    ("upstream-hash-by-subset", Without(NO_HASH)),
    ("upstream-hash-by-subset-size", Without(NO_HASH)),
    ("proxy-http-version", Harmless),
    ("connection-proxy-header", Harmless),
    ("proxy-buffering", Harmless),
    ("proxy-buffers-number", Harmless),
    ("proxy-buffer-size", Harmless),
    ("proxy-busy-buffers-size", Harmless),
    ("proxy-max-temp-file-size", Harmless),
    ("proxy-request-buffering", Harmless),
    ("client-body-buffer-size", Harmless),
    ("proxy-redirect-from", By(|_, text| off(text), NO_EDIT)),
    ("proxy-redirect-to", By(|_, text| off(text), NO_EDIT)),
    ("proxy-cookie-domain", By(|_, text| off(text), NO_EDIT)),
    ("proxy-cookie-path", By(|_, text| off(text), NO_EDIT)),
    ("custom-headers", Without(NO_EDIT)),
    ("proxy-ssl-secret", Without(NO_VERIFY)),
    ("proxy-ssl-verify", By(|_, text| off(text), NO_VERIFY)),
    ("proxy-ssl-verify-depth", Harmless),
    ("proxy-ssl-ciphers", Harmless),
    ("proxy-ssl-protocols", Harmless),
    ("proxy-ssl-name", Without(NO_VERIFY)),
    ("proxy-ssl-server-name", Harmless),
    ("fastcgi-index", Without(NO_FASTCGI)),
    ("fastcgi-params-configmap", Without(NO_FASTCGI)),
    ("mirror-target", Without(NO_MIRROR)),
    ("mirror-host", Without(NO_MIRROR)),
    ("mirror-request-body", Harmless),
    // Clients that stay with their endpoint.
    ("affinity", By(|it, text| { word(text, &["cookie"])?; it.cookie.enabled = true; Ok(()) }, LEFT_OUT)),
    ("affinity-mode", By(|_, text| word(text, &["balanced", "persistent"]).map(drop), "balanced is assumed")),
    ("affinity-canary-behavior", By(|_, text| word(text, &["sticky"]).map(drop), "sticky is assumed")),
    ("session-cookie-name", By(|it, text| some(&mut it.cookie.name, cookie(text)), "INGRESSCOOKIE is assumed")),
    ("session-cookie-path", By(|it, text| some(&mut it.cookie.path, attribute(text)), LEFT_OUT)),
    ("session-cookie-domain", By(|it, text| some(&mut it.cookie.domain, attribute(text)), LEFT_OUT)),
    ("session-cookie-expires", By(|it, text| some(&mut it.cookie.expires, age(text)), LEFT_OUT)),
    ("session-cookie-max-age", By(|it, text| some(&mut it.cookie.max_age, age(text)), LEFT_OUT)),
    ("session-cookie-samesite", By(|it, text| some(&mut it.cookie.same_site, word(text, &["None", "Lax", "Strict"])), LEFT_OUT)),
    ("session-cookie-conditional-samesite-none", Harmless),
    ("session-cookie-secure", By(|it, text| set(&mut it.cookie.secure, boolean(text)), "false is assumed")),
    ("session-cookie-change-on-failure", By(|it, text| set(&mut it.cookie.change_on_failure, boolean(text)), "false is assumed")),
    // Other origins.
    ("enable-cors", By(|it, text| set(&mut it.cors.enabled, boolean(text)), "false is assumed")),
    ("cors-allow-origin", By(|it, text| it.cors.origins(text), LEFT_OUT)),
    ("cors-allow-methods", By(|it, text| set(&mut it.cors.cors.methods, names(text, "")), "the usual ones are assumed")),
    ("cors-allow-headers", By(|it, text| set(&mut it.cors.cors.headers, names(text, "-_")), "the usual ones are assumed")),
    ("cors-expose-headers", By(|it, text| some(&mut it.cors.cors.expose, names(text, "-_*")), LEFT_OUT)),
    ("cors-allow-credentials", By(|it, text| set(&mut it.cors.cors.credentials, boolean(text)), "true is assumed")),
    ("cors-max-age", By(|it, text| set(&mut it.cors.cors.max_age, age(text).and_then(|age| header(&age))), "1728000 is assumed")),
    // Who may come in.
    ("allowlist-source-range", Guard(allow)),
    ("whitelist-source-range", Guard(allow)),
    ("denylist-source-range", Guard(|it, text| set(&mut it.policy.deny, networks(text)))),
    ("auth-type", Guard(auth_type)),
    ("auth-secret", By(|it, text| { it.auth.secret = Some(text.to_owned()); Ok(()) }, LEFT_OUT)),
    ("auth-secret-type", By(|it, text| set(&mut it.auth.map, word(text, &["auth-file", "auth-map"]).map(|word| word == "auth-map")), "auth-file is assumed")),
    ("auth-realm", By(realm, LEFT_OUT)),
    ("satisfy", By(|_, text| word(text, &["all"]).map(drop), "all is assumed")),
    ("auth-url", Closed(NO_EXTERNAL)),
    ("auth-signin", Without(NO_EXTERNAL)),
    ("auth-signin-redirect-param", Without(NO_EXTERNAL)),
    ("auth-method", Without(NO_EXTERNAL)),
    ("auth-response-headers", Without(NO_EXTERNAL)),
    ("auth-request-redirect", Without(NO_EXTERNAL)),
    ("auth-proxy-set-headers", Without(NO_EXTERNAL)),
    ("auth-snippet", Without(SNIPPET)),
    ("auth-cache-key", Harmless),
    ("auth-cache-duration", Harmless),
    ("auth-always-set-cookie", Harmless),
    ("auth-keepalive", Harmless),
    ("auth-keepalive-requests", Harmless),
    ("auth-keepalive-share-vars", Harmless),
    ("auth-keepalive-timeout", Harmless),
    ("enable-global-auth", Harmless),
    ("auth-tls-secret", Closed(NO_CERTIFICATES)),
    ("auth-tls-verify-client", By(|_, text| off(text), NO_CERTIFICATES)),
    ("auth-tls-verify-depth", Harmless),
    ("auth-tls-error-page", Without(NO_CERTIFICATES)),
    ("auth-tls-pass-certificate-to-upstream", Without(NO_CERTIFICATES)),
    ("auth-tls-match-cn", Closed(NO_CERTIFICATES)),
    // How much they may ask.
    ("limit-rps", By(|it, text| set(&mut it.limits.per_second, limit(text)), LEFT_OUT)),
    ("limit-rpm", By(|it, text| set(&mut it.limits.per_minute, limit(text)), LEFT_OUT)),
    ("limit-connections", By(|it, text| set(&mut it.limits.at_once, limit(text)), LEFT_OUT)),
    ("limit-burst-multiplier", By(|it, text| set(&mut it.limits.burst, number(text)), "5 is assumed")),
    ("limit-allowlist", By(exempt, LEFT_OUT)),
    ("limit-whitelist", By(exempt, LEFT_OUT)),
    ("limit-rate", Without(NO_BANDWIDTH)),
    ("limit-rate-after", Without(NO_BANDWIDTH)),
    ("global-rate-limit", Without(NO_SHARED)),
    ("global-rate-limit-window", Without(NO_SHARED)),
    ("global-rate-limit-key", Without(NO_SHARED)),
    ("global-rate-limit-ignored-cidrs", Without(NO_SHARED)),
    // Canaries.
    ("canary", By(|it, text| set(&mut it.canary.enabled, boolean(text)), "false is assumed")),
    ("canary-by-header", By(|it, text| some(&mut it.canary.header, header_name(text)), LEFT_OUT)),
    ("canary-by-header-value", By(|it, text| { it.canary.value = Some(text.into()); Ok(()) }, LEFT_OUT)),
    ("canary-by-header-pattern", By(|it, text| some(&mut it.canary.pattern, expression(text, false)), LEFT_OUT)),
    ("canary-by-cookie", By(|it, text| some(&mut it.canary.cookie, cookie(text)), LEFT_OUT)),
    ("canary-weight", By(|it, text| some(&mut it.canary.weight, number(text)), "0 is assumed")),
    ("canary-weight-total", By(|it, text| some(&mut it.canary.total, number(text)), "100 is assumed")),
    // The rest.
    ("configuration-snippet", Without(SNIPPET)),
    ("server-snippet", Without(SNIPPET)),
    ("stream-snippet", Without(SNIPPET)),
    ("modsecurity-snippet", Without(NO_FIREWALL)),
    ("enable-modsecurity", By(|_, text| off(text), NO_FIREWALL)),
    ("enable-owasp-core-rules", By(|_, text| off(text), NO_FIREWALL)),
    ("modsecurity-transaction-id", Harmless),
    ("ssl-passthrough", By(|_, text| off(text), "TLS ends here, before the backend")),
    ("ssl-ciphers", Harmless),
    ("ssl-prefer-server-ciphers", Harmless),
    ("http2-push-preload", Harmless),
    ("enable-access-log", By(|it, text| set(&mut it.policy.logged, boolean(text)), "true is assumed")),
    ("enable-rewrite-log", Harmless),
    ("enable-opentelemetry", Harmless),
    ("opentelemetry-operation-name", Harmless),
    ("opentelemetry-trust-incoming-span", Harmless),
    ("enable-opentracing", Harmless),
    ("opentracing-trust-incoming-span", Harmless),
];

fn rewrite(it: &mut Annotations, text: &str) -> Read<()> {
    if text.split('$').skip(1).any(|after| !after.starts_with(|first: char| first.is_ascii_digit())) {
        return Err("has variables of nginx besides $1 to $9".into());
    }
    if text.contains("://") {
        return Err("is no path (permanent-redirect and temporal-redirect lead elsewhere)".into());
    }
    if text.contains(|letter: char| letter.is_control() || letter == ' ' || letter == '#') {
        return Err("is no path".into());
    }
    it.policy.rewrite = Some(text.into());
    Ok(())
}

fn app_root(it: &mut Annotations, text: &str) -> Read<()> {
    if !text.starts_with('/') {
        return Err("does not begin with a slash".into());
    }
    some(&mut it.policy.app_root, header(text))
}

fn protocol(text: &str) -> Read<Protocol> {
    Ok(match word(text, &["HTTP", "HTTPS", "GRPC", "GRPCS"])? {
        "HTTPS" => Protocol::Https,
        "GRPC" => Protocol::Grpc,
        "GRPCS" => Protocol::Grpcs,
        _ => Protocol::Http,
    })
}

fn aliases(text: &str) -> Read<Vec<String>> {
    let name = |alias: &str| match alias.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.*".contains(&byte)) {
        true => Ok(alias.to_ascii_lowercase()),
        false => Err("is no list of hosts; expressions are not read".to_owned()),
    };
    list(text).map(name).collect()
}

fn errors(it: &mut Annotations, text: &str) -> Read<()> {
    set(&mut it.errors, list(text).map(|code| status(code, 400, 599)).collect())
}

/// What only has an effect here when it is off.
fn off(text: &str) -> Read<()> {
    word(text, &["off", "default", "false"]).map(drop).map_err(|_| "is not done here".to_owned())
}

fn cookie(text: &str) -> Read<Box<str>> {
    match !text.contains(['=', ',', '"', '\\']) {
        true => attribute(text),
        false => Err("is no name of a cookie".into()),
    }
}

fn age(text: &str) -> Read<Box<str>> {
    text.parse::<i64>().map(|seconds| seconds.to_string().into()).map_err(|_| "is no number of seconds".to_owned())
}

fn header_name(text: &str) -> Read<HeaderName> {
    text.parse().map_err(|_| "is no name of a header".to_owned())
}

/// The older name is there for those who do not use the newer one, which comes first.
fn allow(it: &mut Annotations, text: &str) -> Read<()> {
    match it.policy.allow[..] {
        [] => set(&mut it.policy.allow, networks(text)),
        _ => Ok(()),
    }
}

fn exempt(it: &mut Annotations, text: &str) -> Read<()> {
    let read = networks(text)?;
    if it.limits.exempt.is_empty() {
        it.limits.exempt = read;
    }
    Ok(())
}

/// As for ingress-nginx, none of that kind is none at all.
fn auth_type(it: &mut Annotations, text: &str) -> Read<()> {
    if !text.is_empty() {
        word(text, &["basic"])?;
        it.auth.basic = true;
    }
    Ok(())
}

fn realm(it: &mut Annotations, text: &str) -> Read<()> {
    if text.contains(['"', '\\']) || header(text).is_err() {
        return Err("is no text for a header".into());
    }
    it.auth.realm = text.into();
    Ok(())
}
