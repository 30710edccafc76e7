//! `coracle dig`: asks the cluster's DNS as a pod does, and says where each record comes from.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::AsFd as _,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, bail};
use hickory_proto::{
    op::{Edns, Message, Query},
    rr::{Name, RecordType},
};
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use kube::Api;
use rustix::{
    process::{Pid, PidfdFlags, pidfd_open},
    thread::{ThreadNameSpaceType, move_into_thread_name_spaces},
};
use state::{Scope, Snapshot};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{cli::DataDir, data::Dir, progress::say, unix, up::Facts};

/// How long one answer may take, and how often the question is sent: resolv.conf(5)'s defaults.
const PATIENCE: Duration = Duration::from_secs(5);
const ATTEMPTS: usize = 2;

/// What fits into one frame everywhere (DNS flag day 2020).
const UDP_SIZE: u16 = 1232;

/// How long the cluster's state may take.
const STATE: Duration = Duration::from_secs(10);

/// What to ask, and as whom.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// A name, completed as in a pod unless it ends with a dot; or an address
    name: String,
    /// A, AAAA, SRV, PTR, TXT, CNAME, ...; PTR for an address, else A
    #[arg(value_name = "TYPE", value_parser = record_type)]
    kind: Option<RecordType>,
    /// Ask as a pod of this namespace
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// Ask as this pod of the namespace, with its dnsPolicy and dnsConfig
    #[arg(long, value_name = "POD")]
    from: Option<String>,
    #[command(flatten)]
    data_dir: DataDir,
}

fn record_type(text: &str) -> Result<RecordType, String> {
    text.to_ascii_uppercase().parse().map_err(|_| "no type of DNS records".into())
}

/// Asks, and prints. Fails when there is no record.
///
/// # Errors
/// When no cluster runs or it does not answer at all.
pub(crate) fn run(options: Options) -> anyhow::Result<ExitCode> {
    let dir = Dir::new(&options.data_dir.data_dir)?;
    if dir.pid().is_none() {
        bail!("no cluster runs with the data directory {}: start it with `coracle up`", dir.path().display());
    }
    let facts = Facts::read(&dir)?;
    if let Some(process) = facts.inside {
        enter(process).context("enter the isolated node's network; is the cluster another user's?")?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(dig(&options, &dir, &facts))
}

/// Moves this process, which has one thread, to where the cluster's network is.
fn enter(process: u32) -> anyhow::Result<()> {
    let pid = Pid::from_raw(process.cast_signed()).context("no process")?;
    let namespaces = ThreadNameSpaceType::USER | ThreadNameSpaceType::NETWORK;
    Ok(move_into_thread_name_spaces(pidfd_open(pid, PidfdFlags::empty())?.as_fd(), namespaces)?)
}

async fn dig(options: &Options, dir: &Dir, facts: &Facts) -> anyhow::Result<ExitCode> {
    let client = unix::client(dir.api_socket(), "coracle");
    let watching = CancellationToken::new();
    let mut snapshots = state::watch(client.clone(), Scope::default(), watching.clone());
    let resolv = resolv(options, &client, facts).await?;
    let snapshot = timeout(STATE, snapshots.wait_for(|snapshot| snapshot.synced)).await;
    let snapshot = snapshot.context("the API server does not answer")??.clone();
    watching.cancel();

    let server = resolv.servers.first().context("the pod has no name server")?;
    let server = SocketAddr::new(server.parse().with_context(|| format!("ask {server}"))?, 53);
    let ndots = resolv.options.iter().find_map(|option| option.strip_prefix("ndots:")?.parse().ok()).unwrap_or(1);
    say(format_args!("server {}  search {}  ndots {ndots}", server.ip(), resolv.search.join(" ")));
    if server.ip().to_string() != facts.dns {
        say(format_args!(
            "this is not the cluster's DNS ({}), which dnsPolicy or dnsConfig of the Pod passes by",
            facts.dns
        ));
    }
    let (names, kind) = match options.name.parse::<IpAddr>() {
        Ok(address) => (vec![Name::from(address)], RecordType::PTR),
        Err(_) => (candidates(&options.name, &resolv.search, ndots)?, RecordType::A),
    };
    let domain = Name::from_ascii(format!("{}.", facts.domain))?;
    for name in names {
        if report(&snapshot, &domain, server, name, options.kind.unwrap_or(kind)).await? {
            return Ok(ExitCode::SUCCESS);
        }
    }
    Ok(ExitCode::FAILURE)
}

/// The resolv.conf of the pod that asks.
async fn resolv(options: &Options, client: &kube::Client, facts: &Facts) -> anyhow::Result<node::Resolv> {
    let spec = match &options.from {
        None => PodSpec::default(),
        Some(name) => {
            let pod = Api::<Pod>::namespaced(client.clone(), &options.namespace).get_opt(name).await?;
            let pod = pod.with_context(|| format!("there is no Pod {name} in the namespace {}", options.namespace))?;
            pod.spec.unwrap_or_default()
        }
    };
    let host = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let dns = facts.dns.parse().context("read the cluster's DNS address")?;
    Ok(node::resolv(&spec, &options.namespace, &facts.domain, dns, &node::Resolv::parse(&host)))
}

/// The names that a resolver tries one after the other (resolv.conf(5)).
fn candidates(name: &str, search: &[String], ndots: usize) -> anyhow::Result<Vec<Name>> {
    let full = |text: &str| Name::from_ascii(text).with_context(|| format!("{text:?} is no domain name"));
    if name.ends_with('.') {
        return Ok(vec![full(name)?]);
    }
    let mut names: Vec<Name> = Vec::new();
    for domain in search {
        // What gets too long is left out.
        names.extend(full(&format!("{name}.{}.", domain.trim_end_matches('.'))).ok());
    }
    let own = full(&format!("{name}."))?;
    let at = if name.matches('.').count() < ndots { names.len() } else { 0 };
    names.insert(at, own);
    Ok(names)
}

/// Asks one question and prints what comes back; returns whether it is an answer.
async fn report(
    snapshot: &Snapshot,
    domain: &Name,
    server: SocketAddr,
    name: Name,
    kind: RecordType,
) -> anyhow::Result<bool> {
    let Some(answer) = ask(server, &name, kind).await? else {
        bail!("{server} does not answer within {PATIENCE:?}");
    };
    say(format_args!("\n{name} {kind}: {}", code(&answer)));
    for record in &answer.answers {
        let data = &record.data;
        say(format_args!("  {} {} {} {data}", record.name, record.ttl, record.record_type()));
        say(format_args!("    {}", dns::origin(snapshot, domain, &answer, record)));
    }
    let found = answer.answers.iter().any(|record| record.record_type() == kind || kind == RecordType::ANY);
    if !found {
        say(format_args!("  {}", dns::absence(snapshot, domain, &answer)));
    }
    Ok(found)
}

/// RFC 1035's word for the outcome.
fn code(answer: &Message) -> String {
    use hickory_proto::op::ResponseCode::{NXDomain, NoError, Refused, ServFail};
    match answer.metadata.response_code {
        NoError => "NOERROR".into(),
        NXDomain => "NXDOMAIN".into(),
        ServFail => "SERVFAIL".into(),
        Refused => "REFUSED".into(),
        other => other.to_string(),
    }
}

/// The answer to a question, by TCP where UDP is too small; none when there is none in time.
async fn ask(server: SocketAddr, name: &Name, kind: RecordType) -> anyhow::Result<Option<Message>> {
    let mut question = Message::query();
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(name.clone(), kind));
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_SIZE);
    question.edns = Some(edns);
    let packet = question.to_vec()?;
    for _ in 0..ATTEMPTS {
        let Ok(bytes) = timeout(PATIENCE, over_udp(server, &packet)).await else { continue };
        let answer = Message::from_vec(&bytes.with_context(|| format!("ask {server}"))?)?;
        if !answer.metadata.truncation {
            return Ok(Some(answer));
        }
        let bytes = timeout(PATIENCE, over_tcp(server, &packet)).await;
        return Ok(Some(Message::from_vec(&bytes.context("no answer over TCP")??)?));
    }
    Ok(None)
}

async fn over_udp(server: SocketAddr, packet: &[u8]) -> std::io::Result<Vec<u8>> {
    let any: IpAddr = if server.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(packet).await?;
    let mut bytes = vec![0; usize::from(UDP_SIZE)];
    loop {
        let length = socket.recv(&mut bytes).await?;
        if bytes[..length].starts_with(&packet[..2]) {
            bytes.truncate(length);
            return Ok(bytes);
        }
    }
}

async fn over_tcp(server: SocketAddr, packet: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(packet.len())?.to_be_bytes();
    stream.write_all(&[&length, packet].concat()).await?;
    let mut bytes = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_tried() {
        let table = [
            ("web.", 5, "web."),
            ("web", 5, "web.a. web.b.c. web."),
            ("web.dev", 2, "web.dev.a. web.dev.b.c. web.dev."),
            ("web.dev", 1, "web.dev. web.dev.a. web.dev.b.c."),
        ];
        for (name, ndots, want) in table {
            let names = candidates(name, &["a".into(), "b.c.".into()], ndots).expect("names");
            assert_eq!(names.iter().map(Name::to_string).collect::<Vec<_>>().join(" "), want, "{name} {ndots}");
        }
        assert!(candidates("a..b", &[], 5).is_err());
    }
}
