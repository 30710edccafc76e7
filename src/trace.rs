//! `coracle trace`: the path of a packet to a Service, and one real probe that shows where it ends.
//!
//! `asked` reads what is asked for, `target` finds what that means, `path` tells the hops and `nobody` and `verdict` what
//! is wrong with them: these are pure. `listening` reads the kernel's tables and `send` sends the probe.

mod asked;
mod listening;
mod nobody;
mod path;
mod pods;
mod send;
mod target;
#[cfg(test)]
mod tests;
mod verdict;

use std::{net::IpAddr, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, bail};
use hickory_proto::rr::{Name, RecordType};
use k8s_openapi::api::core::v1::{Event, Pod, Service as Object};
use kube::{Api, Client, api::ListParams};
use state::{Key, Protocol, Snapshot};

use self::{
    asked::{Asked, Host},
    listening::listening,
    path::{Hop, Known, path},
    pods::{name, runs, takes, trouble, written},
    send::Send,
    target::{Asker, Names, Target, Via, find},
    verdict::{Outcome, told, verdict},
};
use crate::{
    cli::DataDir,
    client,
    data::Dir,
    dig::{pod, snapshot},
    place::Place,
    progress::say,
    resolver::{PATIENCE, Resolver},
    unix,
    up::Facts,
};

/// How many pods are looked into for what they listen on.
const LOOKED_INTO: usize = 64;

/// Where to, and from where.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// A Service's name or address, a node's address with a NodePort, or a pod's address: `web`, `web.dev:http`,
    /// `10.96.0.80:80`, `localhost:30001`
    #[arg(value_parser = str::parse::<Asked>)]
    address: Asked,
    /// Ask from this pod of the namespace, not from the node
    #[arg(long, value_name = "POD")]
    from: Option<String>,
    /// The namespace of the pod, and of names that have none
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// Send a datagram
    #[arg(long, conflicts_with = "http")]
    udp: bool,
    /// Ask for this path over HTTP; otherwise the connection is only made
    #[arg(long, value_name = "PATH")]
    http: Option<String>,
    /// Tell the way in another cluster, and send the probe from this machine
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    kubeconfig: Option<PathBuf>,
    /// DNS domain of that cluster
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local", requires = "kubeconfig")]
    cluster_domain: String,
    #[command(flatten)]
    data_dir: DataDir,
}

/// Where the way breaks off.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Lost {
    hop: &'static str,
    why: String,
    /// What to do; may be empty.
    help: String,
}

impl Lost {
    fn new(hop: &'static str, why: impl Into<String>, help: impl Into<String>) -> Self {
        Self { hop, why: why.into(), help: help.into() }
    }
}

/// A cluster.
struct Cluster {
    client: Client,
    domain: String,
    /// Of one that runs on this machine.
    here: Option<(Dir, Facts)>,
}

/// Prints the path, and sends the probe. Fails when it does not get through.
///
/// # Errors
/// When no cluster runs or the API server does not answer.
pub(crate) fn run(options: Options) -> anyhow::Result<ExitCode> {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    if let Some(path) = &options.kubeconfig {
        return runtime()?.block_on(async {
            let client = client::connect(Some(path)).await?;
            trace(&options, &Cluster { client, domain: options.cluster_domain.clone(), here: None }).await
        });
    }
    let dir = Dir::new(&options.data_dir.data_dir)?;
    let facts = Facts::of_running(&dir)?;
    // The localhost with NodePorts is this machine's own.
    let outside = matches!(options.address.host, Host::Address(address) if address.is_loopback());
    if !outside || options.from.is_some() {
        facts.enter()?;
    }
    runtime()?.block_on(async {
        let client = unix::client(dir.api_socket(), "coracle");
        trace(&options, &Cluster { client, domain: facts.domain.clone(), here: Some((dir, facts)) }).await
    })
}

async fn trace(options: &Options, cluster: &Cluster) -> anyhow::Result<ExitCode> {
    let Cluster { client, domain, here } = cluster;
    let from = match &options.from {
        Some(name) => Some(pod(client, &options.namespace, name).await?),
        None => None,
    };
    let place = match (&from, here) {
        (Some(pod), Some((dir, _))) => place(dir, pod).await?,
        _ => Place::default(),
    };
    let snapshot = snapshot(client.clone()).await?;
    let asker = Asker {
        namespace: &options.namespace,
        domain,
        pod: from.as_ref().map(|pod| Key::new(&*options.namespace, name(pod))),
        node: here.as_ref().map_or("", |(_, facts)| &facts.node),
        protocol: if options.udp { Protocol::Udp } else { Protocol::Tcp },
    };
    let (mut names, mut servers) = (None, None);
    if let Host::Name(name) = &options.address.host {
        let spec = from.as_ref().and_then(|pod| pod.spec.clone()).unwrap_or_default();
        let dns = here.as_ref().map_or("0.0.0.0", |(_, facts)| &facts.dns);
        let resolver = Resolver::of(&spec, asker.namespace, domain, dns)?;
        names = Some(if here.is_some() {
            servers = Some((resolver.server.ip(), dns));
            look_up(&resolver, &place, &snapshot, domain, name).await?
        } else {
            let tried = resolver.names(name)?.into_iter().map(|name| bare(&name));
            Names::expected(&snapshot, domain, tried)
        });
    }
    let found = find(&snapshot, &asker, &options.address, names.as_ref());
    if let Some(names) = &names {
        print(&path::dns(names, servers, found.as_ref().ok()));
    }
    let target = match found {
        Ok(target) => target,
        Err(lost) => return Ok(end(Some(lost))),
    };
    let known = known(client, &target, asker.protocol, here.as_ref().map(|(dir, _)| dir)).await?;
    let path = path(&snapshot, &asker, &known, &target);
    path.hops.iter().for_each(print);
    let Some(to) = target.to else { return Ok(end(path.lost)) };
    let address = from.as_ref().and_then(|pod| pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok());
    let host = match &options.address.host {
        Host::Name(name) => name.clone(),
        Host::Address(address) => address.to_string(),
    };
    let http = options.http.as_ref().map(|path| (host.as_str(), path.as_str()));
    let service = matches!(target.via, Via::ClusterIp | Via::NodePort | Via::External | Via::Relay);
    let send = Send { place: &place, from: address, to, http, service };
    let probe = if options.udp { send.udp().await? } else { send.tcp().await? };
    let who = who(&asker, address, target.via == Via::Relay);
    print(&Hop { name: "Probe", lines: told(&path, &probe, asker.protocol, &who) });
    let lost = verdict(&path, &target, &probe, &asker);
    if lost.is_none() && probe.outcome == Outcome::Unanswered {
        say("\nNothing hinders it, as far as can be seen: what answers to an empty datagram is the program's affair.");
        return Ok(ExitCode::SUCCESS);
    }
    Ok(end(lost))
}

/// Who asks, in words.
fn who(asker: &Asker<'_>, address: Option<IpAddr>, outside: bool) -> String {
    match (&asker.pod, address) {
        (Some(pod), Some(address)) => format!("Pod {} ({address})", pod.name),
        (Some(pod), None) => format!("Pod {}", pod.name),
        (None, _) if outside || asker.node.is_empty() => "this machine".into(),
        (None, _) => format!("the node {}", asker.node),
    }
}

fn print(hop: &Hop) {
    for (number, line) in hop.lines.iter().enumerate() {
        say(format_args!("{:<10} {line}", if number == 0 { hop.name } else { "" }));
    }
}

fn end(lost: Option<Lost>) -> ExitCode {
    let Some(lost) = lost else {
        say("\nIt gets through.");
        return ExitCode::SUCCESS;
    };
    say(format_args!("\nLost at {}: {}.", lost.hop, lost.why));
    if !lost.help.is_empty() {
        say(format_args!("What to do: {}", lost.help));
    }
    ExitCode::FAILURE
}

/// The directory that the node keeps a pod in.
fn pod_dir(dir: &Dir, pod: &Pod) -> PathBuf {
    dir.join("node/pods").join(pod.metadata.uid.as_deref().unwrap_or_default())
}

/// The network of a pod, which has to run.
async fn place(dir: &Dir, pod: &Pod) -> anyhow::Result<Place> {
    match shim::Client::connect(&pod_dir(dir, pod)).await {
        Ok(shim) => Place::of(shim.pid()).context("enter the pod's network; is the cluster another user's?"),
        Err(error) => bail!("Pod {} does not run here: {}", name(pod), trouble(pod, None).unwrap_or(error.to_string())),
    }
}

/// Asks the DNS server for each name that a resolver tries, until one has addresses.
async fn look_up(
    resolver: &Resolver,
    from: &Place,
    snapshot: &Snapshot,
    domain: &str,
    name: &str,
) -> anyhow::Result<Names> {
    let domain = Name::from_ascii(format!("{domain}."))?;
    let mut names = Names::default();
    for name in resolver.names(name)? {
        let bare = bare(&name);
        let mut absent = String::new();
        for kind in [RecordType::A, RecordType::AAAA] {
            let Some(answer) = resolver.ask(from, &name, kind).await? else {
                names.tried.push((bare, format!("{} does not answer within {PATIENCE:?}", resolver.server)));
                return Ok(names);
            };
            names.addresses = answer.answers.iter().filter_map(|record| record.data.ip_addr()).collect();
            if !names.addresses.is_empty() {
                names.found = Some(bare);
                return Ok(names);
            }
            if kind == RecordType::A {
                absent = dns::absence(snapshot, &domain, &answer);
            }
        }
        names.tried.push((bare, absent));
    }
    Ok(names)
}

/// A name without the dot at its end.
fn bare(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_owned()
}

/// What the API server and the kernel know besides; the latter of pods in this cluster's directory.
async fn known(client: &Client, target: &Target<'_>, protocol: Protocol, dir: Option<&Dir>) -> anyhow::Result<Known> {
    let mut known = Known::default();
    let namespace = match (&target.via, target.service) {
        (_, Some(service)) => {
            let key = &service.key;
            let objects = Api::<Object>::namespaced(client.clone(), &key.namespace);
            known.object = objects.get_opt(&key.name).await?.unwrap_or_default();
            &key.namespace
        }
        (Via::Pod(key) | Via::HostPort(key, _), None) => &key.namespace,
        _ => return Ok(known),
    };
    known.pods = Api::namespaced(client.clone(), namespace).list(&ListParams::default()).await?.items;
    let selector = known.object.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default();
    let pointed = |pod: &&Pod| match &target.via {
        Via::Pod(key) | Via::HostPort(key, _) => name(pod) == &*key.name,
        _ => !selector.is_empty() && takes(&selector, pod),
    };
    let pods: Vec<&Pod> = known.pods.iter().filter(pointed).collect();
    if pods.is_empty() && !selector.is_empty() {
        let others = Api::<Pod>::all(client.clone()).list(&ListParams::default().labels(&written(&selector))).await?;
        let key = |pod: &Pod| Key::new(pod.metadata.namespace.as_deref().unwrap_or_default(), name(pod));
        known.elsewhere = others.iter().map(key).collect();
    }
    if pods.iter().any(|pod| trouble(pod, None).is_some()) {
        let events = Api::<Event>::namespaced(client.clone(), namespace);
        let events = events.list(&ListParams::default().fields("reason=Unhealthy")).await?;
        let said = |event: Event| Some((event.involved_object.name?, event.message?));
        known.unhealthy = events.into_iter().filter_map(said).collect();
    }
    let Some(dir) = dir else { return Ok(known) };
    for pod in pods.into_iter().filter(|pod| runs(pod)).take(LOOKED_INTO) {
        // A pod of another machine, or one that does not run, tells nothing.
        let Ok(shim) = shim::Client::connect(&pod_dir(dir, pod)).await else { continue };
        known.listening.extend(listening(shim.pid(), protocol).map(|sockets| (name(pod).to_owned(), sockets)));
    }
    Ok(known)
}
