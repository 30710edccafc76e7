//! What is wrong with a request that reached us, though it can be read.

use http::header::{HeaderMap, HeaderName};

/// Removes headers whose names backends may mix up with others, most of all by underscores: CGI has no other letters
/// for a hyphen (nginx: `underscores_in_headers off`, `ignore_invalid_headers on`).
pub(crate) fn hide(headers: &mut HeaderMap) {
    let odd = |name: &HeaderName| name.as_str().bytes().any(|byte| !byte.is_ascii_alphanumeric() && byte != b'-');
    if headers.keys().any(odd) {
        let names: Vec<HeaderName> = headers.keys().filter(|name| odd(name)).cloned().collect();
        for name in names {
            headers.remove(name);
        }
    }
}
