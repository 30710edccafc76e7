//! Clients that stay with their endpoint, by a cookie: `ENDPOINT|BACKEND`, both opaque. The backend says whether a client
//! stays with the canary.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::SocketAddr;

use http::{HeaderMap, HeaderValue};

use crate::canary::cookie;
use crate::{Cookie, Upstream};

/// Where a client has been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stay {
    endpoint: u64,
    backend: u64,
}

impl Stay {
    pub(crate) fn new(upstream: &Upstream, at: SocketAddr) -> Self {
        let hash = |write: &dyn Fn(&mut DefaultHasher)| {
            let mut hasher = DefaultHasher::new();
            write(&mut hasher);
            hasher.finish()
        };
        let backend = hash(&|hasher| (&upstream.service, &upstream.port).hash(hasher));
        Stay { endpoint: hash(&|hasher| at.hash(hasher)), backend }
    }

    /// What the client's cookie says.
    pub(crate) fn read(name: &str, headers: &HeaderMap) -> Option<Self> {
        let (endpoint, backend) = cookie(headers, name)?.split_once('|')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        Some(Stay { endpoint: number(endpoint)?, backend: number(backend)? })
    }

    /// The cookie that says it, to a client that came by TLS or not.
    pub(crate) fn write(self, cookie: &Cookie, tls: bool) -> Option<HeaderValue> {
        let (Stay { endpoint, backend }, Cookie { name, attributes, secure, .. }) = (self, cookie);
        let secure = if *secure || tls { "; Secure" } else { "" };
        HeaderValue::try_from(format!("{name}={endpoint:016x}|{backend:016x}{attributes}{secure}")).ok()
    }

    /// Whether it is with `upstream`.
    pub(crate) fn with(self, upstream: &Upstream) -> bool {
        let any = SocketAddr::from(([0, 0, 0, 0], 0));
        self.backend == Stay::new(upstream, any).backend
    }

    /// The number of its endpoint among those of `upstream`, if it is still there.
    pub(crate) fn find(self, upstream: &Upstream, endpoints: &[SocketAddr]) -> Option<usize> {
        endpoints.iter().position(|at| Stay::new(upstream, *at) == self)
    }
}

#[cfg(test)]
mod tests {
    use http::header::COOKIE;
    use state::Key;

    use super::*;

    #[test]
    fn a_cookie_is_read_as_it_was_written() {
        let (app, other) = (Key::new("default", "app"), Key::new("default", "other"));
        let (app, other) = (Upstream::new(app, "80"), Upstream::new(other, "80"));
        let endpoints = ["10.0.0.1:80", "10.0.0.2:80"].map(|at| at.parse().unwrap());
        let mut cookie = Cookie {
            name: "route".into(),
            attributes: "; Path=/; HttpOnly".into(),
            secure: false,
            change_on_failure: false,
        };
        let stay = Stay::new(&app, endpoints[1]);
        let written = stay.write(&cookie, false).unwrap();
        let written = written.to_str().unwrap();
        let (pair, attributes) = written.split_once(';').unwrap();
        assert_eq!(attributes, " Path=/; HttpOnly");
        // What came by TLS does not go without it; by the annotation nothing does.
        for (secure, tls) in [(false, true), (true, false), (true, true)] {
            cookie.secure = secure;
            assert!(stay.write(&cookie, tls).unwrap().to_str().unwrap().ends_with("; Path=/; HttpOnly; Secure"));
        }
        assert!(!written.contains("10.0"), "{written}");
        let headers = HeaderMap::from_iter([(COOKIE, HeaderValue::try_from(format!("a=b; {pair}; c=d")).unwrap())]);
        assert_eq!(Stay::read("route", &headers), Some(stay));
        assert_eq!(Stay::read("other", &headers), None);
        assert_eq!(stay.find(&app, &endpoints), Some(1));
        assert_eq!(stay.find(&app, &endpoints[..1]), None, "the endpoint is gone");
        assert_eq!(stay.find(&other, &endpoints), None);
        assert!(stay.with(&app) && !stay.with(&other));
    }

    #[test]
    fn cookies_of_others() {
        for text in ["route=", "route=x", "route=1", "route=|", "route=x|y", "route=1|", "route", ""] {
            let headers = HeaderMap::from_iter([(COOKIE, HeaderValue::from_static(text))]);
            assert_eq!(Stay::read("route", &headers), None, "{text}");
        }
    }
}
