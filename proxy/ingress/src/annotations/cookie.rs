//! `affinity: cookie` and `session-cookie-*`.

use crate::Cookie;

/// What is said of the cookie so far.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) enabled: bool,
    pub(super) name: Option<Box<str>>,
    pub(super) path: Option<Box<str>>,
    pub(super) domain: Option<Box<str>>,
    pub(super) expires: Option<Box<str>>,
    pub(super) max_age: Option<Box<str>>,
    pub(super) same_site: Option<&'static str>,
    pub(super) secure: bool,
    pub(super) change_on_failure: bool,
}

impl Draft {
    /// The cookie; its path is left to be added where the annotations do not say it. Its expiry is told as an age: that
    /// needs no clock.
    pub(super) fn finish(&self) -> Option<Cookie> {
        if !self.enabled {
            return None;
        }
        let mut attributes = String::new();
        let said = [
            ("Path", self.path.as_deref()),
            ("Domain", self.domain.as_deref()),
            ("Max-Age", self.max_age.as_deref().or(self.expires.as_deref())),
            ("SameSite", self.same_site),
        ];
        for (name, value) in said {
            if let Some(value) = value {
                attributes.push_str(&format!("; {name}={value}"));
            }
        }
        attributes.push_str("; HttpOnly");
        Some(Cookie {
            name: self.name.clone().unwrap_or("INGRESSCOOKIE".into()),
            attributes: attributes.into(),
            secure: self.secure,
            change_on_failure: self.change_on_failure,
        })
    }
}
