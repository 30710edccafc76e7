//! The formats of names, labels and ports, each answering what is wrong in Kubernetes' words
//! (k8s.io/apimachinery/pkg/util/validation).

use std::net::IpAddr;

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const QUALIFIED: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const QUALIFIED_RULE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must \
     start and end with an alphanumeric character";
const QUALIFIED_EXAMPLES: [&str; 3] = ["MyName", "my.name", "123-abc"];

/// Longest DNS label, and name of a label or annotation.
pub(crate) const LABEL_LENGTH: usize = 63;
/// Longest DNS subdomain.
pub(crate) const SUBDOMAIN_LENGTH: usize = 253;
const PORT_NAME_LENGTH: usize = 15;

fn regex_error(rule: &str, regex: &str, examples: &[&str]) -> String {
    let examples: Vec<String> = examples.iter().map(|example| format!("'{example}', ")).collect();
    format!("{rule} (e.g. {}regex used for validation is '{regex}')", examples.join(" or "))
}

pub(crate) fn too_long(length: usize) -> String {
    format!("must be no more than {length} bytes")
}

/// Ends are of `end`, the middle of `end` or one of `middle`, and nothing is empty.
fn is_word(text: &str, end: fn(&u8) -> bool, middle: &[u8]) -> bool {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    end(first) && end(last) && bytes.iter().all(|byte| end(byte) || middle.contains(byte))
}

fn is_lower(byte: &u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

pub(crate) fn dns_label(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > LABEL_LENGTH {
        wrong.push(too_long(LABEL_LENGTH));
    }
    if !is_word(text, is_lower, b"-") {
        let rule = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters \
                    or '-', and must start and end with an alphanumeric character";
        wrong.push(regex_error(rule, LABEL, &["my-name", "123-abc"]));
    }
    wrong
}

pub(crate) fn dns_subdomain(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > SUBDOMAIN_LENGTH {
        wrong.push(too_long(SUBDOMAIN_LENGTH));
    }
    if !text.split('.').all(|label| is_word(label, is_lower, b"-")) {
        let rule = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
                    characters, '-' or '.', and must start and end with an alphanumeric character";
        wrong.push(regex_error(rule, SUBDOMAIN, &["example.com"]));
    }
    wrong
}

/// A name whose first label is a star: the hosts of Ingresses.
pub(crate) fn wildcard_dns_subdomain(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > SUBDOMAIN_LENGTH {
        wrong.push(too_long(SUBDOMAIN_LENGTH));
    }
    if !text.strip_prefix("*.").is_some_and(|name| name.split('.').all(|label| is_word(label, is_lower, b"-"))) {
        let rule = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which \
                    must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric \
                    character";
        wrong.push(regex_error(rule, &format!(r"\*\.{SUBDOMAIN}"), &["*.example.com"]));
    }
    wrong
}

/// A label that begins with a letter: the names of Services.
pub(crate) fn dns_1035_label(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > LABEL_LENGTH {
        wrong.push(too_long(LABEL_LENGTH));
    }
    if !is_word(text, is_lower, b"-") || !text.starts_with(|c: char| c.is_ascii_lowercase()) {
        let rule = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', \
                    start with an alphabetic character, and end with an alphanumeric character";
        wrong.push(regex_error(rule, "[a-z]([-a-z0-9]*[a-z0-9])?", &["my-name", "abc-123"]));
    }
    wrong
}

/// What may stand in a path: RBAC's names.
pub(crate) fn path_segment(text: &str) -> Vec<String> {
    if text == "." || text == ".." {
        return vec![format!("may not be '{text}'")];
    }
    let bad = ["/", "%"].into_iter().filter(|bad| text.contains(bad));
    bad.map(|bad| format!("may not contain '{bad}'")).collect()
}

/// The key of a label or an annotation: `app`, `example.com/app`.
pub(crate) fn qualified_name(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let name = match text.split_once('/') {
        None => text,
        Some((_, rest)) if rest.contains('/') => {
            let rule = regex_error(QUALIFIED_RULE, QUALIFIED, &QUALIFIED_EXAMPLES);
            return vec![format!(
                "a qualified name {rule} with an optional DNS subdomain prefix and '/' \
                 (e.g. 'example.com/MyName')"
            )];
        }
        Some(("", name)) => {
            wrong.push("prefix part must be non-empty".to_owned());
            name
        }
        Some((prefix, name)) => {
            let of_prefix = dns_subdomain(prefix);
            wrong.extend(of_prefix.iter().map(|reason| format!("prefix part {reason}")));
            name
        }
    };
    if name.is_empty() {
        wrong.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_LENGTH {
        wrong.push(format!("name part {}", too_long(LABEL_LENGTH)));
    }
    if !is_word(name, u8::is_ascii_alphanumeric, b"-_.") {
        let rule = regex_error(QUALIFIED_RULE, QUALIFIED, &QUALIFIED_EXAMPLES);
        wrong.push(format!("name part {rule}"));
    }
    wrong
}

pub(crate) fn label_value(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > LABEL_LENGTH {
        wrong.push(too_long(LABEL_LENGTH));
    }
    if !text.is_empty() && !is_word(text, u8::is_ascii_alphanumeric, b"-_.") {
        let rule = "a valid label must be an empty string or consist of alphanumeric characters, \
                    '-', '_' or '.', and must start and end with an alphanumeric character";
        let regex = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";
        wrong.push(regex_error(rule, regex, &["MyValue", "my_value", "12345"]));
    }
    wrong
}

/// The key of an entry of a ConfigMap or a Secret, also a file name.
pub(crate) fn config_key(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > SUBDOMAIN_LENGTH {
        wrong.push(too_long(SUBDOMAIN_LENGTH));
    }
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if text.is_empty() || !text.bytes().all(fits) {
        let rule = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
        wrong.push(regex_error(rule, "[-._a-zA-Z0-9]+", &["key.name", "KEY_NAME", "key-name"]));
    }
    match text {
        "." => wrong.push("must not be '.'".to_owned()),
        ".." => wrong.push("must not be '..'".to_owned()),
        _ if text.starts_with("..") => wrong.push("must not start with '..'".to_owned()),
        _ => {}
    }
    wrong
}

/// Printable ASCII but for the equals sign.
pub(crate) fn env_name(text: &str) -> Vec<String> {
    if text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=') {
        return Vec::new();
    }
    let rule = "a valid environment variable name must consist only of printable ASCII characters \
                other than '='";
    vec![rule.to_owned()]
}

/// The name of a port, as IANA has service names.
pub(crate) fn port_name(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > PORT_NAME_LENGTH {
        wrong.push(too_long(PORT_NAME_LENGTH));
    }
    if !text.bytes().all(|byte| is_lower(&byte) || byte == b'-') {
        let rule = "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)";
        wrong.push(rule.to_owned());
    }
    if !text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        wrong.push("must contain at least one letter (a-z)".to_owned());
    }
    if text.contains("--") {
        wrong.push("must not contain consecutive hyphens".to_owned());
    }
    if text.starts_with('-') || text.ends_with('-') {
        wrong.push("must not begin or end with a hyphen".to_owned());
    }
    wrong
}

pub(crate) fn between(number: i64, low: i64, high: i64) -> Vec<String> {
    if (low..=high).contains(&number) {
        return Vec::new();
    }
    vec![format!("must be between {low} and {high}, inclusive")]
}

pub(crate) fn port(number: i64) -> Vec<String> {
    between(number, 1, 65_535)
}

/// An address, in no form that programs read in different ways (KEP-4858).
pub(crate) fn ip(text: &str) -> Vec<String> {
    let wrong = match text.parse() {
        Ok(address) if is_mapped(address) => "must not be an IPv4-mapped IPv6 address",
        Ok(_) => return Vec::new(),
        Err(_) if without_zeros(text).is_some() => "must not have leading 0s",
        Err(_) => "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
    };
    vec![wrong.to_owned()]
}

/// A range of addresses, in no form that programs read in different ways.
pub(crate) fn cidr(text: &str) -> Vec<String> {
    let invalid = || vec!["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)".to_owned()];
    let Some((address, length)) = text.split_once('/') else { return invalid() };
    let exact = address.parse().ok();
    let Some(address) = exact.or_else(|| without_zeros(address)) else { return invalid() };
    let (bits, width) = match address {
        IpAddr::V4(address) => (u32::from(address).into(), 32),
        IpAddr::V6(address) => (u128::from(address), 128),
    };
    let digits = length.bytes().all(|byte| byte.is_ascii_digit());
    let Some(prefix) = length.parse::<u32>().ok().filter(|prefix| digits && *prefix <= width) else { return invalid() };
    let beyond = u128::MAX.checked_shr(128 - (width - prefix)).unwrap_or(0);
    [
        (
            exact.is_none() || (length.len() > 1 && length.starts_with('0')),
            "must not have leading 0s in IP or prefix length",
        ),
        (is_mapped(address), "must not have an IPv4-mapped IPv6 address"),
        (bits & beyond != 0, "must not have bits set beyond the prefix length"),
    ]
    .into_iter()
    .filter(|(is_so, _)| *is_so)
    .map(|(_, why)| why.to_owned())
    .collect()
}

fn is_mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some())
}

/// The IPv4 address that is meant, when each part is read as a decimal number whatever it begins with.
fn without_zeros(text: &str) -> Option<IpAddr> {
    let part = |part: &str| part.parse::<u8>().ok().filter(|_| part.bytes().all(|byte| byte.is_ascii_digit()));
    let parts: Option<Vec<u8>> = text.split('.').map(part).collect();
    Some(IpAddr::from(<[u8; 4]>::try_from(parts?).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_and_what_does_not() {
        type Rule = fn(&str) -> Vec<String>;
        let long = "a".repeat(64);
        let cases: &[(Rule, &[&str], &[&str])] = &[
            (dns_label, &["a", "0-a", "web-1"], &["", "-a", "a-", "A", "a.b", "a_b", "é", &long]),
            (dns_subdomain, &["a", "a.b-c.d", "1.2"], &["", "a..b", ".a", "a.", "a.-b", "A"]),
            (dns_1035_label, &["a", "a-1"], &["", "1a", "a-", &long]),
            (qualified_name, &["a", "A_b.c", "example.com/a"], &["", "/a", "a/", "a/b/c", "a b", "-a", &long]),
            (label_value, &["", "a", "A.b_c-1"], &["-", "a b", "a/", &long]),
            (config_key, &["a", ".a", "A_b-c.d"], &["", ".", "..", "..a", "a/b", "a b"]),
            (env_name, &["A", "a.b-c d"], &["A=B", "é", "\n"]),
            (port_name, &["http", "a1-b"], &["", "80", "-a", "a-", "a--b", "Http", "sixteen-letters-"]),
            (path_segment, &["system:node", "a b"], &[".", "..", "a/b", "a%b"]),
            (
                cidr,
                &["10.0.0.0/8", "10.0.0.1/32", "0.0.0.0/0", "::/0", "::1/128", "fd00::/64"],
                &["", "10.0.0.0", "10.0.0.0/33", "x/8"],
            ),
            (ip, &["10.0.0.1", "::1"], &["", "10.0.0", "010.0.0.1", "10.0.0.1/8"]),
        ];
        for (rule, good, bad) in cases {
            good.iter().for_each(|text| assert_eq!(rule(text), Vec::<String>::new(), "{text}"));
            bad.iter().for_each(|text| assert_ne!(rule(text), Vec::<String>::new(), "{text}"));
        }
        assert_eq!(port(0), ["must be between 1 and 65535, inclusive"]);
        for (rule, text, expected) in [
            (ip as fn(&str) -> Vec<String>, "010.0.0.1", "must not have leading 0s"),
            (ip, "::ffff:10.0.0.1", "must not be an IPv4-mapped IPv6 address"),
            (ip, "10.0.0.+1", "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
            (cidr, "010.0.0.0/8", "must not have leading 0s in IP or prefix length"),
            (cidr, "10.0.0.0/08", "must not have leading 0s in IP or prefix length"),
            (cidr, "::ffff:10.0.0.0/104", "must not have an IPv4-mapped IPv6 address"),
            (cidr, "192.168.0.5/24", "must not have bits set beyond the prefix length"),
            (cidr, "fd00::1/127", "must not have bits set beyond the prefix length"),
            (cidr, "10.0.0.0/+8", "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"),
        ] {
            assert_eq!(rule(text), [expected], "{text}");
        }
    }

    #[test]
    fn messages() {
        assert_eq!(
            dns_label("A"),
            ["a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', \
              and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', \
              regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"]
        );
    }
}
