//! Names from a hosts(5) file, or from the Corefile.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, RwLock};
use std::time::{Duration, SystemTime};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::PTR;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tower::ServiceExt;

use crate::chain::{Next, Plugin, Setup};
use crate::corefile::{self, Block, Directive};
use crate::file::File;
use crate::metrics::Exposition;
use crate::request::{Failure, Reply, Request, Sections};

const NAME: &str = "hosts";

/// Names and addresses.
#[derive(Debug, Default)]
struct Table {
    /// By name; a first label `*` stands for any one label.
    addresses: HashMap<Name, Vec<IpAddr>>,
    names: HashMap<IpAddr, Vec<Name>>,
    /// When the file was last changed.
    modified: Option<SystemTime>,
}

impl Table {
    /// Adds a line of hosts(5); what is no address or no name of the zones is left out.
    fn add(&mut self, line: &str, zones: &[Name], reverse: bool) {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let Some(address) = words.next().and_then(address) else { return };
        for word in words {
            let Ok(mut name) = Name::from_ascii(word.to_ascii_lowercase()) else { continue };
            name.set_fqdn(true);
            if !zones.iter().any(|zone| zone.zone_of(&name)) {
                continue;
            }
            if reverse && !name.is_wildcard() {
                self.names.entry(address).or_default().push(name.clone());
            }
            self.addresses.entry(name).or_default().push(address);
        }
    }

    /// How many addresses of names and names of addresses there are.
    fn len(&self) -> usize {
        self.addresses.values().map(Vec::len).sum::<usize>() + self.names.values().map(Vec::len).sum::<usize>()
    }

    /// The addresses of a name in lower case, of one family.
    fn lookup(&self, name: &Name, v4: bool) -> impl Iterator<Item = IpAddr> + '_ {
        let of = |name: &Name| {
            let all = self.addresses.get(name).into_iter().flatten().copied();
            all.filter(move |address| address.is_ipv4() == v4).peekable()
        };
        let mut own = of(name);
        if own.peek().is_some() || name.is_root() { own } else { of(&name.clone().into_wildcard()) }
    }
}

/// The address that a line begins with, without its scope.
fn address(word: &str) -> Option<IpAddr> {
    word.split('%').next()?.parse().ok()
}

/// All names, and what is said of them.
struct Hosts {
    path: PathBuf,
    zones: Vec<Name>,
    ttl: u32,
    reverse: bool,
    /// Where names that are not here may be known to others.
    fallthrough: Vec<Name>,
    /// Other types of names that are here may be, too.
    fallthrough_unsupported: bool,
    inline: Table,
    /// What is in the file; locked for writing only while another is put in.
    file: RwLock<Arc<Table>>,
}

/// `hosts [FILE [ZONES...]] { LINE...; ttl SECONDS; no_reverse; reload DURATION;
/// fallthrough [ZONES...]; fallthrough_unsupported }`: A, AAAA and PTR records from the file
/// (/etc/hosts), read again when it has changed (looked at every 5 s), and from lines in the
/// Corefile. Other names under the zones get SERVFAIL, or with `fallthrough` the next plugin's answer.
pub(crate) fn setup(directive: &Directive, setup: &mut Setup) -> Result<(), corefile::Error> {
    directive.once(setup.block)?;
    let (hosts, reload) = read(directive, setup.block)?;
    let hosts = Arc::new(hosts);
    let mut file = File::new(&hosts.path);
    if !hosts.refresh(&mut file) {
        tracing::warn!("plugin/hosts: {} can't be read", hosts.path.display());
    }
    if !reload.is_zero() {
        let hosts = hosts.clone();
        setup.background.push(Box::pin(async move {
            loop {
                tokio::time::sleep(reload).await;
                hosts.refresh(&mut file);
            }
        }));
    }
    let counted = hosts.clone();
    setup.beside.collectors.push(Box::new(move |out, _| counted.expose(out)));
    let seen = hosts.clone();
    setup.slow(move |name| seen.covers(name) && (seen.knows(name) || !seen.falls_through(name)));
    setup.push(Link { hosts });
    Ok(())
}

fn read(directive: &Directive, block: &Block) -> Result<(Hosts, Duration), corefile::Error> {
    let (path, zones) = match &directive.arguments[..] {
        [] => ("/etc/hosts", &[][..]),
        [path, zones @ ..] => (path.text.as_str(), zones),
    };
    let mut hosts = Hosts {
        path: path.into(),
        zones: block.zones(zones)?,
        ttl: 3600,
        reverse: true,
        fallthrough: Vec::new(),
        fallthrough_unsupported: false,
        inline: Table::default(),
        file: RwLock::default(),
    };
    let (mut reload, mut inline) = (Duration::from_secs(5), Vec::new());
    for line in directive.properties() {
        match line.name.text.as_str() {
            "fallthrough" if line.arguments.is_empty() => hosts.fallthrough = vec![Name::root()],
            "fallthrough" => hosts.fallthrough = block.zones(line.arguments)?,
            "fallthrough_unsupported" => {
                let [] = line.exactly()?;
                hosts.fallthrough_unsupported = true;
            }
            "no_reverse" => hosts.reverse = false,
            "ttl" => hosts.ttl = line.one()?.number(1..=65535)?,
            "reload" => reload = line.one()?.duration()?,
            text if address(text).is_some() => {
                let names: Vec<&str> = line.arguments.iter().map(|word| word.text.as_str()).collect();
                inline.push(format!("{text} {}", names.join(" ")));
            }
            _ => return Err(line.unknown()),
        }
    }
    if hosts.fallthrough_unsupported && hosts.fallthrough.is_empty() {
        return Err(directive.name.error("fallthrough_unsupported requires fallthrough"));
    }
    inline.iter().for_each(|line| hosts.inline.add(line, &hosts.zones, hosts.reverse));
    Ok((hosts, reload))
}

impl Hosts {
    /// Takes what is in the file when it changed; true when it did. When it can't be read, what it
    /// said stays.
    fn refresh(&self, file: &mut File) -> bool {
        let Some((text, modified)) = file.changed() else { return false };
        let mut table = Table { modified: Some(modified), ..Default::default() };
        text.lines().for_each(|line| table.add(line, &self.zones, self.reverse));
        *self.file.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = Arc::new(table);
        true
    }

    fn file(&self) -> Arc<Table> {
        self.file.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    fn covers(&self, name: &Name) -> bool {
        self.zones.iter().any(|zone| zone.zone_of(name))
    }

    fn falls_through(&self, name: &Name) -> bool {
        self.fallthrough.iter().any(|zone| zone.zone_of(name))
    }

    fn addresses(&self, name: &Name, v4: bool) -> Vec<IpAddr> {
        self.file().lookup(name, v4).chain(self.inline.lookup(name, v4)).collect()
    }

    fn knows(&self, name: &Name) -> bool {
        [true, false].into_iter().any(|v4| !self.addresses(name, v4).is_empty())
    }

    fn names(&self, reverse: &Name) -> Vec<Name> {
        let net = reverse.parse_arpa_name().ok().filter(|net| net.prefix_len() == net.max_prefix_len());
        let of = |table: &Table| net.and_then(|net| table.names.get(&net.addr()).cloned()).unwrap_or_default();
        [of(&self.file()), of(&self.inline)].concat()
    }

    fn expose(&self, out: &mut Exposition) {
        let (file, path) = (self.file(), self.path.display().to_string());
        let entries = (file.len() + self.inline.len()) as f64;
        out.gauge(
            "coredns_hosts_entries",
            "Entries of the hosts file and the Corefile.",
            &[("hostsfile", &path)],
            entries,
        );
        let since = file.modified.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        let help = "When the hosts file that is served was changed.";
        out.gauge("coredns_hosts_reload_timestamp_seconds", help, &[], since.map_or(0.0, |since| since.as_secs_f64()));
    }

    /// The records for a question, or none when it is for the next plugin.
    fn records(&self, name: &Name, kind: RecordType) -> Option<Result<Vec<RData>, Failure>> {
        let lower = name.to_lowercase();
        if !self.covers(&lower) && kind != RecordType::PTR {
            return None;
        }
        let data: Vec<RData> = match kind {
            RecordType::PTR => {
                let names = self.names(&lower);
                return (!names.is_empty()).then(|| Ok(names.into_iter().map(|name| RData::PTR(PTR(name))).collect()));
            }
            RecordType::A | RecordType::AAAA => {
                self.addresses(&lower, kind == RecordType::A).into_iter().map(RData::from).collect()
            }
            _ if self.fallthrough_unsupported && self.falls_through(&lower) => return None,
            _ => Vec::new(),
        };
        if !data.is_empty() || self.knows(&lower) {
            return Some(Ok(data));
        }
        // There is no SOA record to deny a name with.
        let unknown = Failure { code: ResponseCode::ServFail, reason: String::new() };
        (!self.falls_through(&lower)).then_some(Err(unknown))
    }
}

struct Link {
    hosts: Arc<Hosts>,
}

impl Plugin for Link {
    async fn handle(self: Arc<Self>, request: Request, next: Next) -> Result<Reply, Failure> {
        let Some(records) = self.hosts.records(request.name(), request.kind()) else {
            return next.oneshot(request).await;
        };
        let record = |data| Record::from_rdata(request.name().clone(), self.hosts.ttl, data);
        let answers = records?.into_iter().map(record).collect();
        let sections = Sections { answers, ..Default::default() };
        Ok(Reply::message(NAME, request.reply(ResponseCode::NoError, true, sections)))
    }
}

#[cfg(test)]
mod tests;
