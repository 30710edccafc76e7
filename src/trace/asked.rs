//! What a person asks for: `web`, `web.dev:http`, `10.96.0.80:80`, `http://localhost:30001/`.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    str::FromStr,
};

/// Where to, in the words of who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) host: Host,
    pub(super) port: Option<Port>,
}

/// The part before the port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    Name(String),
    Address(IpAddr),
}

/// The port of a Service or a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Port {
    Number(u16),
    Name(String),
}

impl Port {
    pub(super) fn number(&self) -> Option<u16> {
        match self {
            Port::Number(number) => Some(*number),
            Port::Name(_) => None,
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Port::Number(number) => number.fmt(f),
            Port::Name(name) => name.fmt(f),
        }
    }
}

impl FromStr for Asked {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
        let usual = match scheme {
            "http" => Some(Port::Number(80)),
            "https" => Some(Port::Number(443)),
            "" | "tcp" | "udp" => None,
            other => return Err(format!("nothing is known of {other}://")),
        };
        let place = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (host, port) = match place.rsplit_once(':') {
            // The colons of a bare IPv6 address are its own.
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port.parse()?)),
            _ => (place, usual),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let host = match bare.parse() {
            Ok(address) => Host::Address(address),
            Err(_) if bare == "localhost" => Host::Address(Ipv4Addr::LOCALHOST.into()),
            Err(_) => Host::Name(name(bare)?),
        };
        Ok(Self { host, port })
    }
}

impl FromStr for Port {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(0) => Err("ports begin with 1".into()),
            Ok(number) => Ok(Port::Number(number)),
            Err(_) if text.bytes().all(|byte| byte.is_ascii_digit()) => Err(format!("{text:?} is no port")),
            Err(_) => Ok(Port::Name(text.to_ascii_lowercase())),
        }
    }
}

fn name(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    match !text.is_empty() && text.bytes().all(fits) {
        true => Ok(text.to_ascii_lowercase()),
        false => Err(format!("{text:?} is neither a name nor an address")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let asked = |host: &str, port: Option<Port>| {
            let host = host.parse().map_or_else(|_| Host::Name(host.into()), Host::Address);
            Ok(Asked { host, port })
        };
        let number = |number| Some(Port::Number(number));
        let table = [
            ("web", asked("web", None)),
            ("Web.dev:HTTP", asked("web.dev", Some(Port::Name("http".into())))),
            ("web.dev.svc.cluster.local.:8080", asked("web.dev.svc.cluster.local.", number(8080))),
            ("10.96.0.80:80", asked("10.96.0.80", number(80))),
            ("10.96.0.80", asked("10.96.0.80", None)),
            ("localhost:30001", asked("127.0.0.1", number(30001))),
            ("http://web/path?a:b", asked("web", number(80))),
            ("https://10.0.0.1", asked("10.0.0.1", number(443))),
            ("http://[fd00::1]:8080/", asked("fd00::1", number(8080))),
            ("[fd00::1]", asked("fd00::1", None)),
            ("fd00::1", asked("fd00::1", None)),
            ("web:0", Err("ports begin with 1".into())),
            ("web:70000", Err("\"70000\" is no port".into())),
            ("ftp://web", Err("nothing is known of ftp://".into())),
            ("a b", Err("\"a b\" is neither a name nor an address".into())),
            ("", Err("\"\" is neither a name nor an address".into())),
        ];
        for (text, want) in table {
            assert_eq!(text.parse::<Asked>(), want, "{text}");
        }
    }
}
