//! Which requests go to the canary, in ingress-nginx's order: header, cookie, weight.

use http::HeaderMap;
use http::header::COOKIE;

use crate::Canary;

/// Whether a request with these headers does. The `roll` is any number, evenly spread.
pub(crate) fn chosen(canary: &Canary, headers: &HeaderMap, roll: u64) -> bool {
    let value = canary.header.as_ref().and_then(|name| headers.get(name)).and_then(|value| value.to_str().ok());
    if let Some(value) = value {
        let said = match (&canary.header_value, &canary.header_pattern) {
            (Some(wanted), _) => (**wanted == *value).then_some(true),
            (None, Some(pattern)) => pattern.is_match(value.as_bytes()).then_some(true),
            (None, None) => word(value),
        };
        if let Some(said) = said {
            return said;
        }
    }
    let said = canary.cookie.as_deref().and_then(|name| cookie(headers, name)).and_then(word);
    said.unwrap_or_else(|| roll % u64::from(canary.total.max(1)) < u64::from(canary.weight))
}

fn word(value: &str) -> Option<bool> {
    match value {
        "always" => Some(true),
        "never" => Some(false),
        _ => None,
    }
}

/// The value of a cookie (RFC 6265, section 5.4).
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::{HeaderName, HeaderValue};
    use regex::bytes::Regex;
    use state::Key;

    use super::*;
    use crate::Upstream;

    #[test]
    fn header_cookie_weight() {
        let canary = |change: fn(&mut Canary)| {
            let mut canary = Canary {
                header: Some(HeaderName::from_static("x-canary")),
                header_value: None,
                header_pattern: None,
                cookie: Some("try".into()),
                weight: 30,
                total: 100,
                backend: Arc::new(Upstream::new(Key::new("default", "canary"), "80")),
            };
            change(&mut canary);
            canary
        };
        let (plain, value) = (canary(|_| ()), canary(|canary| canary.header_value = Some("blue".into())));
        let pattern = canary(|canary| canary.header_pattern = Some(Regex::new("^b").unwrap()));
        let thousand = canary(|canary| (canary.weight, canary.total) = (1, 1000));
        // canary, header, cookies, roll, chosen
        let cases = [
            (&plain, None, None, 29, true),
            (&plain, None, None, 30, false),
            (&plain, None, None, 1029, true),
            (&plain, Some("always"), Some("try=never"), 99, true),
            (&plain, Some("never"), Some("try=always"), 0, false),
            (&plain, Some("blue"), Some("a=b; try=always"), 99, true),
            (&plain, Some("blue"), Some("try=never"), 0, false),
            (&plain, None, Some("try=perhaps"), 0, true),
            (&plain, None, Some("retry=always"), 99, false),
            (&value, Some("blue"), None, 99, true),
            (&value, Some("always"), None, 99, false),
            (&value, Some("never"), None, 0, true),
            (&pattern, Some("blue"), None, 99, true),
            (&pattern, Some("red"), None, 99, false),
            (&thousand, None, None, 0, true),
            (&thousand, None, None, 1, false),
        ];
        for (canary, header, cookies, roll, expected) in cases {
            let mut headers = HeaderMap::new();
            header.map(|value| headers.insert("x-canary", HeaderValue::from_static(value)));
            cookies.map(|value| headers.insert(COOKIE, HeaderValue::from_static(value)));
            assert_eq!(chosen(canary, &headers, roll), expected, "{header:?} {cookies:?} {roll}");
        }
    }
}
