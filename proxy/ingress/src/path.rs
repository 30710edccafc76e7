//! Paths in one form (RFC 3986, section 6.2.2), so that no spelling of a path escapes the rule that is for it.

use std::borrow::Cow;

/// The path without needless escapes, dot segments and double slashes. What backends take for the same path is the
/// same here: an escaped slash is a slash, as it is for nginx. It only has `%` in escapes that are needed.
pub(crate) fn canonical(path: &str) -> Cow<'_, str> {
    let plain = |pair: &[u8]| plain(pair[0]) && !(pair[0] == b'/' && matches!(pair[1], b'/' | b'.'));
    let bytes = path.as_bytes();
    if bytes.windows(2).all(plain)
        && bytes.first() == Some(&b'/')
        && bytes.last().is_some_and(|last| self::plain(*last))
    {
        return Cow::Borrowed(path);
    }
    Cow::Owned(resolve(&decode(bytes)))
}

/// What may be in a path as it is (`pchar` and the slash).
fn plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@".contains(&byte)
}

/// Decodes escapes of what needs none, and escapes what does.
fn decode(path: &[u8]) -> String {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((&first, after)) = rest.split_first() {
        let escaped = match *after {
            [high, low, ..] if first == b'%' => digit(high).zip(digit(low)),
            _ => None,
        };
        let escaped = escaped.map(|(high, low)| high << 4 | low);
        rest = if escaped.is_some() { &after[2..] } else { after };
        match escaped.unwrap_or(first) {
            byte if plain(byte) => decoded.push(byte.into()),
            byte => decoded.push_str(&format!("%{byte:02X}")),
        }
    }
    decoded
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16)?.try_into().ok()
}

/// Removes empty and dot segments; the trailing slash stays.
fn resolve(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    let mut open = false;
    for segment in path.split('/') {
        open = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    let mut resolved: String = segments.iter().flat_map(|segment| ["/", segment]).collect();
    if open {
        resolved.push('/');
    }
    resolved
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn spellings_of_a_path_are_one() {
        let cases = [
            ("/", "/"),
            ("", "/"),
            ("*", "/*"),
            ("/foo/bar", "/foo/bar"),
            ("/foo/", "/foo/"),
            ("/%66oo", "/foo"),
            ("/foo%2fbar", "/foo/bar"),
            ("/foo//bar///", "/foo/bar/"),
            ("/foo/./bar/.", "/foo/bar/"),
            ("/foo/../bar", "/bar"),
            ("/foo/%2e%2E/bar", "/bar"),
            ("/foo/%2e%2e%2fbar", "/bar"),
            ("/../..", "/"),
            ("/..foo/.bar", "/..foo/.bar"),
            ("/a%20b", "/a%20b"),
            ("/a b", "/a%20b"),
            ("/%c3%bc", "/%C3%BC"),
            ("/ü", "/%C3%BC"),
            ("/%", "/%25"),
            ("/%zz%4", "/%25zz%254"),
            ("/%25", "/%25"),
            ("/%2541", "/%2541"),
            ("/%+1", "/%25+1"),
            ("/%3f%23", "/%3F%23"),
        ];
        for (sent, meant) in cases {
            assert_eq!(canonical(sent), meant, "{sent}");
            assert_eq!(canonical(meant), meant, "{meant}");
        }
    }
    /// Every path of five pieces.
    #[test]
    fn no_spelling_leads_around() {
        const PIECES: [&str; 8] = ["/", ".", "%2e", "%2F", "a", "%", "%25", "\u{e9}"];
        for number in 0..8_usize.pow(5) {
            let path: String = (0..5).map(|place| PIECES[number / 8_usize.pow(place) % 8]).collect();
            let meant = canonical(&path).into_owned();
            assert!(meant.starts_with('/') && !meant.contains("//"), "{path} {meant}");
            assert!(!meant.split('/').any(|segment| [".", ".."].contains(&segment)), "{path} {meant}");
            assert_eq!(canonical(&meant), meant, "{path}");
        }
    }
}
