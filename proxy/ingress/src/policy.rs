//! What is done with the requests of a path besides sending them on: the annotations of its Ingress, read.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use ipnet::IpNet;

use crate::Upstream;

/// The policy of an Ingress; the default is that of one without annotations, with the figures of ingress-nginx.
#[derive(Debug, Clone)]
pub struct Policy {
    /// `rewrite-target`: the path that the backend sees; `$1` to `$9` are the captures of the path's expression.
    pub rewrite: Option<Box<str>>,
    /// `x-forwarded-prefix`, sent with rewritten paths.
    pub prefix: Option<HeaderValue>,
    /// `ssl-redirect`: plain requests go to HTTPS where the host has a certificate of its own.
    pub ssl_redirect: bool,
    /// `force-ssl-redirect`: they do in any case.
    pub force_ssl_redirect: bool,
    /// `preserve-trailing-slash`: these redirects leave the slash at the path's end where it is.
    pub trailing_slash: bool,
    /// `app-root`: where `/` redirects to.
    pub app_root: Option<HeaderValue>,
    /// `permanent-redirect`, `temporal-redirect` and their codes: the answer to everything.
    pub redirect: Option<Redirect>,
    /// `from-to-www-redirect`: the other host that everything is redirected to, its scheme and path kept (308).
    pub other_host: Option<Box<str>>,
    /// `backend-protocol`.
    pub protocol: Protocol,
    /// `proxy-body-size`, in bytes; none is unlimited.
    pub body: Option<u64>,
    /// `proxy-connect-timeout`, `proxy-send-timeout`, `proxy-read-timeout`.
    pub timeouts: Timeouts,
    /// `affinity: cookie`.
    pub affinity: Option<Cookie>,
    /// `enable-cors`.
    pub cors: Option<Box<Cors>>,
    /// `allowlist-source-range` (`whitelist-source-range`): only these clients, when not empty.
    pub allow: Vec<IpNet>,
    /// `denylist-source-range`: not these.
    pub deny: Vec<IpNet>,
    /// `auth-type: basic`.
    pub auth: Option<Arc<Users>>,
    /// `limit-rps` and its kin.
    pub limits: Option<Arc<Limits>>,
    /// `upstream-vhost`: the Host that the backend sees.
    pub vhost: Option<HeaderValue>,
    /// `custom-http-errors`.
    pub errors: Option<Arc<Errors>>,
    /// `enable-access-log`: requests are in the log.
    pub logged: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            rewrite: None,
            prefix: None,
            ssl_redirect: true,
            force_ssl_redirect: false,
            trailing_slash: false,
            app_root: None,
            redirect: None,
            other_host: None,
            protocol: Protocol::Http,
            body: Some(1 << 20),
            timeouts: Timeouts::default(),
            affinity: None,
            cors: None,
            allow: Vec::new(),
            deny: Vec::new(),
            auth: None,
            limits: None,
            vhost: None,
            errors: None,
            logged: true,
        }
    }
}

/// How a backend is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// HTTP/1.1.
    Http,
    /// HTTP/1.1 over TLS; the certificate is not verified.
    Https,
    /// HTTP/2 without TLS.
    Grpc,
    /// HTTP/2 over TLS; the certificate is not verified.
    Grpcs,
}

/// A redirect of all requests.
#[derive(Debug, Clone)]
pub struct Redirect {
    /// The Location.
    pub to: HeaderValue,
    /// 301 or 302, or what the annotation says.
    pub code: StatusCode,
}

/// For how long a backend is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// Until it has taken the connection.
    pub connect: Duration,
    /// Between two pieces of the request that it takes.
    pub send: Duration,
    /// Between two pieces of its answer.
    pub read: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts { connect: Duration::from_secs(5), send: Duration::from_secs(60), read: Duration::from_secs(60) }
    }
}

/// Clients stay with their endpoint by a cookie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cookie {
    /// `session-cookie-name`.
    pub name: Box<str>,
    /// What follows the value: `; Path=/; HttpOnly` and what the annotations add.
    pub attributes: Box<str>,
    /// `session-cookie-secure`: `Secure` to all clients, and not only to those that come by TLS.
    pub secure: bool,
    /// `session-cookie-expires`/`-max-age` are in the attributes; `session-cookie-change-on-failure`: a client whose
    /// endpoint does not answer gets another one for good.
    pub change_on_failure: bool,
}

/// Cross-origin requests (the Fetch standard's CORS protocol).
#[derive(Debug, Clone)]
pub struct Cors {
    /// `cors-allow-origin`: `*`, origins, or origins with a wildcard label.
    pub origins: Vec<Box<str>>,
    /// `cors-allow-methods`.
    pub methods: HeaderValue,
    /// `cors-allow-headers`.
    pub headers: HeaderValue,
    /// `cors-expose-headers`.
    pub expose: Option<HeaderValue>,
    /// `cors-allow-credentials`.
    pub credentials: bool,
    /// `cors-max-age`, in seconds.
    pub max_age: HeaderValue,
}

/// Who may come in, by HTTP basic authentication (RFC 7617).
#[derive(Debug, Clone)]
pub struct Users {
    /// `auth-realm`.
    pub realm: Box<str>,
    /// Names and hashed passwords in the forms of htpasswd. Empty, when the Secret is missing: nobody may.
    pub passwords: Vec<(Box<str>, Box<str>)>,
}

/// How much a client, by its address, may ask.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// `limit-rps`: requests a second; none is unlimited.
    pub per_second: Option<u32>,
    /// `limit-rpm`: requests a minute.
    pub per_minute: Option<u32>,
    /// `limit-connections`: requests at once.
    pub at_once: Option<u32>,
    /// `limit-burst-multiplier`: how many times as many at once, before any is refused.
    pub burst: u32,
    /// `limit-allowlist` (`limit-whitelist`): not these clients.
    pub exempt: Vec<IpNet>,
}

/// Answers of a backend that the default backend answers instead.
#[derive(Debug, Clone)]
pub struct Errors {
    /// These codes; where there are none, only the lack of endpoints (`default-backend` alone).
    pub codes: Vec<StatusCode>,
    /// Who answers; the backend's own answer is kept where there is nobody.
    pub backend: Option<Arc<Upstream>>,
}

/// Which of a path's requests go to another backend (`canary`): the header decides, then the cookie, then the weight.
#[derive(Debug, Clone)]
pub struct Canary {
    /// `canary-by-header`: `always` and `never`, or exactly `header_value`.
    pub header: Option<HeaderName>,
    /// `canary-by-header-value`.
    pub header_value: Option<Box<str>>,
    /// `canary-by-header-pattern`: an expression instead of the value.
    pub header_pattern: Option<regex::bytes::Regex>,
    /// `canary-by-cookie`: `always` and `never`.
    pub cookie: Option<Box<str>>,
    /// `canary-weight` of `canary-weight-total`.
    pub weight: u32,
    /// 100 unless said.
    pub total: u32,
    /// Where these go.
    pub backend: Arc<Upstream>,
}
