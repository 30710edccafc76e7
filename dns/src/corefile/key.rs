//! The keys of a block, and zones wherever they stand: names, or networks for their reverse zones.

use std::net::IpAddr;

use hickory_proto::rr::Name;

use super::source::ZONES;
use super::{Error, Key, Transport, Word};

impl Transport {
    const ALL: [Transport; 3] = [Transport::Dns, Transport::Tls, Transport::Https];

    /// As before `://`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Transport::Dns => "dns",
            Transport::Tls => "tls",
            Transport::Https => "https",
        }
    }

    /// The port where nobody says another.
    pub(crate) fn port(self) -> u16 {
        match self {
            Transport::Dns => 53,
            Transport::Tls => 853,
            Transport::Https => 443,
        }
    }
}

/// What `[transport://]zone[:port]` stands for: several keys for a network that is no whole zone.
pub(super) fn keys(word: &Word) -> Result<Vec<Key>, Error> {
    let (transport, text) = transport(word)?;
    if text.ends_with('{') {
        return Err(word.error("there is no space before '{'"));
    }
    let (zone, port) = port(word, text)?;
    let port = port.unwrap_or(transport.port());
    Ok(zones_of(word, zone)?.into_iter().map(|zone| Key { transport, zone, port }).collect())
}

/// The zones that words stand for: names, in lower case, and the reverse zones of networks.
/// Transport and port of a key are left out.
pub(crate) fn zones(words: &[Word]) -> Result<Vec<Name>, Error> {
    let of = |word: &Word| zones_of(word, port(word, transport(word)?.1)?.0);
    let mut zones = Vec::new();
    for word in words {
        zones.append(&mut of(word)?);
        if zones.len() > ZONES {
            return Err(word.error(format!("more than {ZONES} zones")));
        }
    }
    Ok(zones)
}

fn transport(word: &Word) -> Result<(Transport, &str), Error> {
    let Some((name, rest)) = word.text.split_once("://") else {
        return Ok((Transport::Dns, &word.text));
    };
    match Transport::ALL.into_iter().find(|transport| transport.name() == name) {
        Some(transport) => Ok((transport, rest)),
        None => Err(word.error(format!("transport {name:?} is not supported"))),
    }
}

/// Zone and port. An IPv6 network has a length behind its last colon, so that is no port.
fn port<'a>(word: &Word, text: &'a str) -> Result<(&'a str, Option<u16>), Error> {
    match text.rsplit_once(':') {
        Some((_, "")) => Err(word.error(format!("expected a port after the last colon of {text:?}"))),
        Some((zone, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => match port.parse() {
            Ok(port) if port > 0 => Ok((zone, Some(port))),
            _ => Err(word.error(format!("{port:?} is not a port"))),
        },
        _ => Ok((text, None)),
    }
}

fn zones_of(word: &Word, text: &str) -> Result<Vec<Name>, Error> {
    if let Some((address, length)) = text.split_once('/')
        && let Ok(address) = address.parse()
    {
        let bits = if matches!(address, IpAddr::V4(_)) { 32 } else { 128 };
        return match length.parse() {
            Ok(length) if length <= bits => reverse(address, length).map_err(|error| word.error(error)),
            _ => Err(word.error(format!("{text:?} is not a network"))),
        };
    }
    let labels = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let labels: Vec<&[u8]> = labels.split('.').filter(|_| !labels.is_empty()).map(str::as_bytes).collect();
    let plain = labels.concat().iter().all(|byte| byte.is_ascii_graphic() && *byte != b'\\');
    let name = Name::from_labels(labels).ok().filter(|_| plain);
    name.map(|name| vec![name]).ok_or_else(|| word.error(format!("{text:?} is not a domain name")))
}

/// The reverse zones of a network: one when its length ends with a label (8 bits of IPv4, 4 of
/// IPv6), else all those of the next longer such length.
fn reverse(address: IpAddr, length: u32) -> Result<Vec<Name>, hickory_proto::ProtoError> {
    let (address, bits, step) = match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, 32, 8),
        IpAddr::V6(address) => (address.to_bits(), 128, 4),
    };
    let labels = length.div_ceil(step);
    let network = if length == 0 { 0 } else { address >> (128 - length) << (128 - length) };
    let zone = |number: u128| {
        let network = network | if labels == 0 { 0 } else { number << (128 - labels * step) };
        let label = |index| {
            let label = network >> (128 - (index + 1) * step) & ((1 << step) - 1);
            if bits == 32 { format!("{label}.") } else { format!("{label:x}.") }
        };
        let labels: String = (0..labels).rev().map(label).collect();
        Name::from_ascii(labels + if bits == 32 { "in-addr.arpa." } else { "ip6.arpa." })
    };
    (0..1 << (labels * step - length)).map(zone).collect()
}
