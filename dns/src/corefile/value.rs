//! What plugins read from their directives: counts of arguments, numbers, durations, zones.

use std::fmt::Display;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use hickory_proto::rr::Name;

use super::{Block, Directive, Error, Word, zones};

/// A line of a directive: its own, or one of its body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'a> {
    pub(crate) name: &'a Word,
    pub(crate) arguments: &'a [Word],
}

impl<'a> Line<'a> {
    /// The arguments, when there are as many as that.
    pub(crate) fn exactly<const N: usize>(self) -> Result<&'a [Word; N], Error> {
        self.arguments.try_into().map_err(|_| self.count())
    }

    /// The only argument.
    pub(crate) fn one(self) -> Result<&'a Word, Error> {
        self.exactly().map(|[word]| word)
    }

    /// The arguments, when at least so many and at most so many are there.
    pub(crate) fn between(self, least: usize, most: usize) -> Result<&'a [Word], Error> {
        match (least..=most).contains(&self.arguments.len()) {
            true => Ok(self.arguments),
            false => Err(self.count()),
        }
    }

    /// The only argument as an address to listen on, `[HOST]:PORT`; without one, or without one of
    /// its parts, the default.
    pub(crate) fn address(self, default: ([u8; 4], u16)) -> Result<SocketAddr, Error> {
        let [word] = self.between(0, 1)? else {
            return Ok(if default.0 == [0; 4] { (Ipv6Addr::UNSPECIFIED, default.1).into() } else { default.into() });
        };
        let wrong = || word.error(format!("'{}' is not an address", word.text));
        let (host, port) = match word.text.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| wrong())?),
            None => return Err(wrong()),
        };
        let ip = match host.trim_start_matches('[').trim_end_matches(']') {
            "" => Ipv6Addr::UNSPECIFIED.into(),
            "localhost" => Ipv4Addr::LOCALHOST.into(),
            ip => ip.parse().map_err(|_| wrong())?,
        };
        Ok(SocketAddr::new(ip, port))
    }

    fn count(self) -> Error {
        let last = self.arguments.last().unwrap_or(self.name);
        last.error(format!("wrong argument count or unexpected line ending after '{}'", last.text))
    }

    /// The error about a property that the plugin does not have.
    pub(crate) fn unknown(self) -> Error {
        self.name.error(format!("unknown property '{}'", self.name.text))
    }
}

impl Directive {
    /// The line of the directive itself.
    pub(crate) fn line(&self) -> Line<'_> {
        Line { name: &self.name, arguments: &self.arguments }
    }

    /// The lines of the body.
    pub(crate) fn properties(&self) -> impl Iterator<Item = Line<'_>> {
        self.body.iter().filter_map(|line| line.split_first()).map(|(name, arguments)| Line { name, arguments })
    }

    /// An error when the directive has a body.
    pub(crate) fn bodiless(&self) -> Result<(), Error> {
        self.properties().next().map_or(Ok(()), |line| Err(line.unknown()))
    }

    /// An error when it is not the only one of its plugin in the block.
    pub(crate) fn once(&self, block: &Block) -> Result<(), Error> {
        let mut same = block.directives.iter().filter(|other| other.name.text == self.name.text);
        match same.nth(1) {
            Some(second) => {
                Err(second.name.error(format!("{} can only be used once per server block", self.name.text)))
            }
            None => Ok(()),
        }
    }
}

impl Block {
    /// The zones that the words stand for; without any, those of the block.
    pub(crate) fn zones(&self, words: &[Word]) -> Result<Vec<Name>, Error> {
        match words {
            [] => Ok(self.keys.iter().map(|key| key.zone.clone()).collect()),
            _ => zones(words),
        }
    }
}

impl Word {
    /// A number of the range.
    pub(crate) fn number<T: FromStr + PartialOrd + Display>(&self, range: RangeInclusive<T>) -> Result<T, Error> {
        match self.text.parse() {
            Ok(number) if range.contains(&number) => Ok(number),
            _ => Err(self.error(format!("'{}' is not a number from {} to {}", self.text, range.start(), range.end()))),
        }
    }

    /// A duration as Go writes it: `5s`, `1h30m`, `1.5ms`, `0`.
    pub(crate) fn duration(&self) -> Result<Duration, Error> {
        duration(&self.text).ok_or_else(|| self.error(format!("invalid duration '{}'", self.text)))
    }
}

fn duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 8] =
        [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("μs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let (mut seconds, mut rest) = (0.0, text);
    if text == "0" {
        return Some(Duration::ZERO);
    }
    while !rest.is_empty() || text.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, from) = rest.split_at(digits);
        let end = from.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(from.len());
        let (unit, after) = from.split_at(end);
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit)?;
        seconds += number.parse::<f64>().ok()? * scale;
        rest = after;
    }
    Duration::try_from_secs_f64(seconds).ok()
}
