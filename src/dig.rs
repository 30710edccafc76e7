//! `coracle dig`: asks the cluster's DNS as a pod does, and says where each record comes from.

use std::{net::IpAddr, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use hickory_proto::{
    op::Message,
    rr::{Name, RecordType},
};
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use kube::{Api, Client};
use state::{Scope, Snapshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{
    cli::DataDir,
    data::Dir,
    place::Place,
    progress::say,
    resolver::{PATIENCE, Resolver},
    unix,
    up::Facts,
};

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
    let facts = Facts::of_running(&dir)?;
    facts.enter()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(dig(&options, &dir, &facts))
}

async fn dig(options: &Options, dir: &Dir, facts: &Facts) -> anyhow::Result<ExitCode> {
    let client = unix::client(dir.api_socket(), "coracle");
    let spec = match &options.from {
        None => PodSpec::default(),
        Some(name) => pod(&client, &options.namespace, name).await?.spec.unwrap_or_default(),
    };
    let snapshot = snapshot(client).await?;
    let resolver = Resolver::of(&spec, &options.namespace, &facts.domain, &facts.dns)?;
    let server = resolver.server.ip();
    say(format_args!("server {server}  search {}  ndots {}", resolver.search.join(" "), resolver.ndots));
    if server.to_string() != facts.dns {
        say(format_args!(
            "this is not the cluster's DNS ({}), which dnsPolicy or dnsConfig of the Pod passes by",
            facts.dns
        ));
    }
    let (names, kind) = match options.name.parse::<IpAddr>() {
        Ok(address) => (vec![Name::from(address)], RecordType::PTR),
        Err(_) => (resolver.names(&options.name)?, RecordType::A),
    };
    let domain = Name::from_ascii(format!("{}.", facts.domain))?;
    for name in names {
        if report(&snapshot, &domain, &resolver, name, options.kind.unwrap_or(kind)).await? {
            return Ok(ExitCode::SUCCESS);
        }
    }
    Ok(ExitCode::FAILURE)
}

/// The Pod that a person named.
///
/// # Errors
/// When there is none.
pub(crate) async fn pod(client: &Client, namespace: &str, name: &str) -> anyhow::Result<Pod> {
    let pod = Api::<Pod>::namespaced(client.clone(), namespace).get_opt(name).await?;
    pod.with_context(|| format!("there is no Pod {name} in the namespace {namespace}"))
}

/// The cluster's state at this moment.
///
/// # Errors
/// When the API server does not answer in time.
pub(crate) async fn snapshot(client: Client) -> anyhow::Result<Arc<Snapshot>> {
    let watching = CancellationToken::new();
    let _stop = watching.clone().drop_guard();
    let mut snapshots = state::watch(client, Scope::default(), watching);
    let snapshot = timeout(STATE, snapshots.wait_for(|snapshot| snapshot.synced)).await;
    Ok(snapshot.context("the API server does not answer")??.clone())
}

/// Asks one question and prints what comes back; returns whether it is an answer.
async fn report(
    snapshot: &Snapshot,
    domain: &Name,
    resolver: &Resolver,
    name: Name,
    kind: RecordType,
) -> anyhow::Result<bool> {
    let Some(answer) = resolver.ask(&Place::default(), &name, kind).await? else {
        bail!("{} does not answer within {PATIENCE:?}", resolver.server);
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
