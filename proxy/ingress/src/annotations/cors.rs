//! `enable-cors` and `cors-*`.

use http::HeaderValue;

use super::value::{Read, list};
use crate::Cors;

/// What is said of other origins so far.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) enabled: bool,
    pub(super) cors: Cors,
}

impl Default for Draft {
    fn default() -> Self {
        let headers = "DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,Content-Type,Range,\
                       Authorization";
        let cors = Cors {
            origins: vec!["*".into()],
            methods: HeaderValue::from_static("GET, PUT, POST, DELETE, PATCH, OPTIONS"),
            headers: HeaderValue::from_static(headers),
            expose: None,
            credentials: true,
            max_age: HeaderValue::from_static("1728000"),
        };
        Draft { enabled: false, cors }
    }
}

impl Draft {
    /// Keeps the origins that are some; a star stands for all.
    pub(super) fn origins(&mut self, text: &str) -> Read<()> {
        let all = || list(text).map(Box::<str>::from);
        let (good, bad): (Vec<_>, Vec<_>) = all().partition(|origin| is_origin(origin));
        self.cors.origins = if good.iter().any(|origin| **origin == *"*") { vec!["*".into()] } else { good };
        match bad.first() {
            None => Ok(()),
            Some(bad) => Err(format!("has {bad:?}, which is no origin such as https://app.com")),
        }
    }

    pub(super) fn finish(&self) -> Option<Box<Cors>> {
        self.enabled.then(|| Box::new(self.cors.clone()))
    }
}

/// A scheme and a host, its first label perhaps a star, and perhaps a port; `null`, or all.
fn is_origin(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else {
        return matches!(text, "*" | "null");
    };
    let (host, port) = rest.split_once(':').unwrap_or((rest, "0"));
    let host = host.strip_prefix("*.").unwrap_or(host);
    !scheme.is_empty()
        && scheme.bytes().all(|byte| byte.is_ascii_lowercase())
        && !host.is_empty()
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte))
        && port.parse::<u16>().is_ok()
}
