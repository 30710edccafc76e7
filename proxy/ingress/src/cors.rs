//! Who may read answers from other origins (the Fetch standard's CORS protocol, as ingress-nginx speaks it).

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode, request};
use http_body_util::Full;

use crate::Cors;
use crate::body::Body;
use crate::forward::Refusal;

/// The origin that may read the answer; none says nothing about that.
pub(crate) fn allowed(cors: &Cors, parts: &request::Parts) -> Option<HeaderValue> {
    if let [origin] = &cors.origins[..]
        && **origin == *"*"
    {
        return Some(HeaderValue::from_static("*"));
    }
    let origin = parts.headers.get(header::ORIGIN)?;
    let text = origin.to_str().ok()?.to_ascii_lowercase();
    cors.origins.iter().any(|pattern| matches(pattern, &text)).then(|| origin.clone())
}

/// Whether the `origin`, in lower case, is the one of the pattern, whose star is a label.
fn matches(pattern: &str, origin: &str) -> bool {
    let pattern = pattern.to_ascii_lowercase();
    let Some((before, after)) = pattern.split_once('*') else {
        return pattern == origin;
    };
    let label = origin.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
    label.is_some_and(|label| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    })
}

/// The answer to a question of a browser before the request itself.
pub(crate) fn preflight(parts: &request::Parts) -> Option<Refusal> {
    (parts.method == Method::OPTIONS).then(|| {
        let mut response = Response::new(Body::Full(Full::default()));
        *response.status_mut() = StatusCode::NO_CONTENT;
        response.into()
    })
}

/// Says it in an answer, in place of what the backend said.
pub(crate) fn tell(cors: &Cors, origin: HeaderValue, headers: &mut HeaderMap) {
    if origin != "*" {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    if cors.credentials {
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, cors.methods.clone());
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, cors.headers.clone());
    if let Some(expose) = &cors.expose {
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
    }
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, cors.max_age.clone());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins() {
        let cases = [
            ("https://app.com", "https://app.com", true),
            ("https://App.com", "https://app.com", true),
            ("https://app.com", "http://app.com", false),
            ("https://app.com", "https://app.com:8443", false),
            ("https://app.com", "https://evil-https://app.com", false),
            ("https://*.app.com", "https://a.app.com", true),
            ("https://*.app.com", "https://a.b.app.com", false),
            ("https://*.app.com", "https://.app.com", false),
            ("https://*.app.com", "https://app.com", false),
            ("https://*.app.com", "https://evil.com/.app.com", false),
        ];
        for (pattern, origin, expected) in cases {
            assert_eq!(matches(pattern, origin), expected, "{origin} by {pattern}");
        }
    }
}
