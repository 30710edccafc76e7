//! What a `forward` directive says.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::tls::client;
use crate::config::{resolvers, without_loops};
use crate::corefile::{Directive, Error, Line, Word, zones};
use crate::forward::{self, Limits, Policy, Question, Target};
use crate::rcode;

/// How many resolvers a directive names at most; CoreDNS takes no more.
const TARGETS: usize = 15;

/// Nothing takes longer, so that no sum of times is too large.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// A directive.
pub(super) struct Settings {
    /// One zone, or those of a network.
    pub(super) from: Vec<Name>,
    pub(super) except: Vec<Name>,
    pub(super) max_concurrent: Option<usize>,
    pub(super) next: Vec<ResponseCode>,
    pub(super) next_on_nodata: bool,
    pub(super) targets: Vec<Target>,
    tls: Tls,
    /// What is said of all of them.
    pub(super) upstreams: forward::Settings,
}

/// What TLS needs.
#[derive(Default)]
struct Tls {
    /// Made when a resolver needs it.
    config: Option<Arc<ClientConfig>>,
    name: Option<ServerName<'static>>,
}

impl Settings {
    /// Reads a directive; resolvers that are `own` addresses are left out, with a warning.
    pub(super) fn read(directive: &Directive, own: &[SocketAddr]) -> Result<Self, Error> {
        let words = directive.line().between(2, usize::MAX)?;
        let mut settings = Settings {
            from: zones(&words[..1])?,
            except: Vec::new(),
            max_concurrent: None,
            next: Vec::new(),
            next_on_nodata: false,
            targets: Vec::new(),
            tls: Tls::default(),
            upstreams: forward::Settings::standard().map_err(|error| words[0].error(error))?,
        };
        for line in directive.properties() {
            if !settings.upstreams(line)? {
                settings.own(line)?;
            }
        }
        let Limits { age, expire, .. } = settings.upstreams.limits;
        if !age.is_zero() && age < expire {
            return Err(words[0].error(format!("max_age ({age:?}) must not be less than expire ({expire:?})")));
        }
        for word in &words[1..] {
            settings.to(word, own)?;
        }
        match settings.targets.len() {
            0 => tracing::warn!("forward {}: there is no resolver to ask, so such names get SERVFAIL", words[0].text),
            1..=TARGETS => {}
            more => return Err(words[0].error(format!("more than {TARGETS} TOs configured: {more}"))),
        }
        Ok(settings)
    }

    /// Reads what is about which names are forwarded when.
    fn own(&mut self, line: Line) -> Result<(), Error> {
        match line.name.text.as_str() {
            "except" => self.except.extend(zones(line.between(1, usize::MAX)?)?),
            "max_concurrent" => {
                let most = line.one()?.number(0..=usize::MAX >> 3)?;
                self.max_concurrent = Some(most).filter(|most| *most > 0);
            }
            "next" => self.next.extend(codes(line)?),
            "next_on_nodata" => {
                line.exactly::<0>()?;
                self.next_on_nodata = true;
            }
            "doh_method" | "resolver" => {
                return Err(line.name.error(format!("'{}' is not supported", line.name.text)));
            }
            _ => return Err(line.unknown()),
        }
        Ok(())
    }

    /// Reads what is about how resolvers are asked; false when the line says something else.
    fn upstreams(&mut self, line: Line) -> Result<bool, Error> {
        let settings = &mut self.upstreams;
        match line.name.text.as_str() {
            "force_tcp" => settings.force_tcp = line.exactly::<0>().map(|_| true)?,
            "prefer_udp" => settings.prefer_udp = line.exactly::<0>().map(|_| true)?,
            "failfast_all_unhealthy_upstreams" => settings.failfast = line.exactly::<0>().map(|_| true)?,
            "expire" => settings.limits.expire = line.one()?.duration()?.min(LONGEST),
            "max_age" => settings.limits.age = line.one()?.duration()?,
            "max_idle_conns" => settings.limits.idle = line.one()?.number(0..=usize::MAX)?,
            "read_timeout" => settings.limits.patience = positive(line.one()?)?,
            "max_fails" => settings.max_fails = line.one()?.number(0..=u32::MAX)?,
            "max_connect_attempts" => settings.max_connect_attempts = Some(line.one()?.number(0..=usize::MAX)?),
            "source_address" => {
                let word = line.one()?;
                let source = word.text.parse().map_err(|_| word.error(format!("invalid IP address: {}", word.text)));
                settings.source = Some(source?);
            }
            "policy" => {
                let word = line.one()?;
                settings.policy = match word.text.as_str() {
                    "random" => Policy::Random,
                    "round_robin" => Policy::RoundRobin,
                    "sequential" => Policy::Sequential,
                    other => return Err(word.error(format!("unknown policy '{other}'"))),
                };
            }
            "failover" => {
                settings.failover.extend(codes(line)?);
                if settings.failover.contains(&ResponseCode::NoError) {
                    return Err(line.name.error("NOERROR cannot be used in failover"));
                }
            }
            "health_check" => self.health_check(line)?,
            "tls" => self.tls.config = Some(client(line)?),
            "tls_servername" => self.tls.name = Some(server_name(line.one()?, &line.one()?.text)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// `health_check DURATION [no_rec] [domain FQDN]`.
    fn health_check(&mut self, line: Line) -> Result<(), Error> {
        let [interval, options @ ..] = line.between(1, usize::MAX)? else {
            return Ok(());
        };
        self.upstreams.check_interval = interval.duration()?;
        let (mut domain, mut recursion_desired) = (Name::root(), true);
        let mut words = options.iter();
        while let Some(word) = words.next() {
            match word.text.as_str() {
                "no_rec" => recursion_desired = false,
                "domain" => {
                    let name = words.next().ok_or_else(|| word.error("'domain' has no name"))?;
                    domain = Name::from_ascii(&name.text).map_err(|error| name.error(error))?;
                    domain.set_fqdn(true);
                }
                other => return Err(word.error(format!("health_check: unknown option {other}"))),
            }
        }
        let check = Question::check(Query::query(domain, RecordType::NS), recursion_desired);
        self.upstreams.check = check.map_err(|error| line.name.error(error))?;
        Ok(())
    }

    /// Reads a TO: `[dns://|tls://]ADDRESS[%NAME][:PORT]`, or a file like resolv.conf(5).
    fn to(&mut self, word: &Word, own: &[SocketAddr]) -> Result<(), Error> {
        let (transport, text) = word.text.split_once("://").unwrap_or(("dns", &word.text));
        let port = match transport {
            "dns" => 53,
            "tls" => 853,
            other => {
                let message = format!("'{other}' is not supported as a destination protocol in forward");
                return Err(word.error(message));
            }
        };
        let (addresses, tls) = match address(text, port) {
            Some((_, Some(_))) if transport == "dns" => {
                return Err(word.error(format!("{text}: only tls:// has a name after '%'")));
            }
            Some((address, name)) if transport == "tls" => {
                let name = match (name, &self.tls.name) {
                    (Some(_), Some(_)) => return Err(word.error("a server name here and another by tls_servername")),
                    (Some(name), None) => server_name(word, name)?,
                    (None, Some(name)) => name.clone(),
                    (None, None) => ServerName::IpAddress(address.ip().into()),
                };
                let config = match &self.tls.config {
                    Some(config) => config.clone(),
                    None => self.tls.config.insert(client(Line { name: word, arguments: &[] })?).clone(),
                };
                (vec![address], Some((config, name)))
            }
            Some((address, _)) => (vec![address], None),
            None => {
                let file = std::fs::read_to_string(text);
                let file = file.map_err(|error| word.error(format!("not an IP address or file {text:?}: {error}")))?;
                (resolvers(&file), None)
            }
        };
        for address in without_loops(&addresses, own) {
            if !self.targets.iter().any(|known| known.address == address && known.tls.is_some() == tls.is_some()) {
                self.targets.push(Target { address, tls: tls.clone() });
            }
        }
        Ok(())
    }
}

/// An address with its port, and the name after `%`, which stands before the port.
fn address(text: &str, port: u16) -> Option<(SocketAddr, Option<&str>)> {
    let Some((host, name)) = text.split_once('%') else {
        let host = text.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(text);
        let address = host.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, port));
        return address.or_else(|_| text.parse()).ok().map(|address| (address, None));
    };
    let (name, port) = match name.rsplit_once(':') {
        Some((name, port)) => (name, port.parse().ok()?),
        None => (name, port),
    };
    let ip = host.strip_prefix('[').unwrap_or(host).parse().ok()?;
    Some((SocketAddr::new(ip, port), Some(name.strip_suffix(']').unwrap_or(name))))
}

fn server_name(word: &Word, name: &str) -> Result<ServerName<'static>, Error> {
    ServerName::try_from(name.to_owned()).map_err(|error| word.error(format!("{name:?}: {error}")))
}

fn positive(word: &Word) -> Result<Duration, Error> {
    let duration = word.duration()?;
    if duration.is_zero() {
        return Err(word.error(format!("{} must be positive", word.text)));
    }
    Ok(duration.min(LONGEST))
}

fn codes(line: Line) -> Result<Vec<ResponseCode>, Error> {
    let code =
        |word: &Word| rcode::parse(&word.text).ok_or_else(|| word.error(format!("{} is not a valid rcode", word.text)));
    line.between(1, usize::MAX)?.iter().map(code).collect()
}
