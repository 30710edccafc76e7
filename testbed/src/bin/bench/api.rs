//! The API server under load: Coracle's, started here, or any other by its kubeconfig.
//!
//! The load comes from one thread of this process, by prepared requests over HTTP/1.1 and TLS. It shares the machine
//! with the server, so the CPU of both is printed. In the same run, as measures of what the machine can do: etcd, for
//! durable writes and reads of the same bytes, and a server of the same hyper and rustls with one fixed answer.

mod collection;
mod connection;
mod etcd;
mod load;
mod objects;
mod requests;
pub(crate) mod server;
mod target;
mod watchers;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};

use self::connection::{Connection, Request};
use self::load::Until;
use self::server::Server;
use self::target::Target;
use crate::meter::Sample;

/// Clients at a time, where there are many.
const CLIENTS: usize = 64;
/// How long the removal of what was made may take.
const REMOVAL: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Another API server than Coracle's
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// A process of it (its etcd, too) whose CPU and memory are counted
    #[arg(long = "pid", value_name = "PID")]
    pids: Vec<u32>,
    /// What is measured; all by default
    #[arg(long, value_parser = ["starts", "requests", "lists", "watches"])]
    only: Option<String>,
    /// How long each load lasts
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Pods in the last measure of memory
    #[arg(long, default_value_t = collection::PODS)]
    pods: u64,
    /// Watches at a time
    #[arg(long, default_value_t = 1000)]
    watchers: usize,
    /// Events that each watch sees
    #[arg(long, default_value_t = 1000)]
    events: u64,
}

impl Options {
    fn wants(&self, part: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only == part)
    }
}

/// One server under measure, and the namespace in which that happens.
pub(crate) struct Bench {
    pub(crate) target: Target,
    pub(crate) pids: Vec<u32>,
    pub(crate) namespace: String,
    pub(crate) limit: Until,
}

/// Measures, and removes what it made, also after an error and when it is interrupted.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let dir = tempfile::tempdir()?;
        let (server, target) = match &options.kubeconfig {
            Some(path) => (None, Target::read(path)?),
            None => {
                let (server, target, took) = server::ready("api-server", dir.path()).await?;
                println!("start to /readyz {:.1} ms", took.as_secs_f64() * 1e3);
                (Some(server), target)
            }
        };
        let pids = server.as_ref().map_or(options.pids.clone(), |server| vec![server.pid()]);
        let namespace = format!("bench-{}", std::process::id());
        let bench = Bench { target, pids, namespace, limit: Until::Time(Duration::from_secs(options.seconds)) };
        let measured = tokio::select! {
            measured = measure(&bench, options) => measured,
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        };
        let removed = match server {
            // What is in it goes with its directory; its next start reads all of it.
            Some(server) => restart(server, dir.path()).await,
            None => tokio::time::timeout(REMOVAL, bench.remove()).await.context("within a minute").flatten(),
        };
        measured.and(removed.with_context(|| format!("remove the namespace {}", bench.namespace)))
    })
}

async fn restart(server: Server, dir: &std::path::Path) -> anyhow::Result<()> {
    server.stop()?;
    let (_server, _, took) = server::ready("api-server", dir).await?;
    println!("start to /readyz with all that in the store {:.1} ms", took.as_secs_f64() * 1e3);
    Ok(())
}

async fn measure(bench: &Bench, options: &Options) -> anyhow::Result<()> {
    bench.prepare().await?;
    bench.memory("with nothing in it")?;
    println!(
        "{:44} {:>9} {:>9} {:>9} {:>9} {:>9} {:>6} {:>6} {:>7}",
        "", "each s", "p50 ms", "p99 ms", "MB/s", "per CPU s", "CPU %", "own %", "ratio"
    );
    if options.wants("requests") {
        requests::run(bench).await?;
    }
    if options.wants("lists") {
        collection::run(bench, options.pods).await?;
    }
    if options.wants("watches") {
        watchers::run(bench, options.watchers, options.events).await?;
    }
    Ok(())
}

/// One line of the table; its last figure is the rate as a multiple of the peer's.
pub(crate) fn row(what: &str, sample: &Sample, peer: Option<&Sample>) {
    let percent = |cpu: f64| format!("{:.0}", cpu / sample.seconds * 100.0);
    let or_empty = |figure: Option<String>| figure.unwrap_or_default();
    println!(
        "{what:44} {:9.0} {:9.3} {:9.3} {:9.1} {:>9} {:>6} {:>6} {:>7}",
        sample.rate(),
        sample.histogram.quantile(0.5),
        sample.histogram.quantile(0.99),
        sample.bytes as f64 / sample.seconds / 1e6,
        or_empty(sample.server.map(|cpu| format!("{:.0}", sample.histogram.total as f64 / cpu.max(0.01)))),
        or_empty(sample.server.map(percent)),
        percent(sample.own),
        or_empty(peer.map(|peer| format!("{:.2}", sample.rate() / peer.rate()))),
    );
}

impl Bench {
    pub(crate) fn request(&self, method: &str, path: &str, headers: &str, body: &str) -> Request {
        Request::new(&self.target, method, path, headers, body)
    }

    /// The path of a collection in the namespace, or of an object of it.
    pub(crate) fn path(&self, rest: &str) -> String {
        format!("/api/v1/namespaces/{}/{rest}", self.namespace)
    }

    pub(crate) fn memory(&self, when: &str) -> anyhow::Result<()> {
        if !self.pids.is_empty() {
            let of = |key| self.pids.iter().map(|pid| crate::meter::megabytes(*pid, key)).sum::<anyhow::Result<f64>>();
            println!("resident memory {when}: {:.1} MB, {:.1} MB of it anonymous", of("VmRSS")?, of("RssAnon")?);
        }
        Ok(())
    }

    /// Makes the namespace, and its service account, which pods need.
    async fn prepare(&self) -> anyhow::Result<()> {
        let mut connection = Connection::open(&self.target).await?;
        let namespace =
            format!(r#"{{"apiVersion":"v1","kind":"Namespace","metadata":{{"name":"{}"}}}}"#, self.namespace);
        connection.succeed(&mut self.request("POST", "/api/v1/namespaces", JSON, &namespace), 0).await?;
        let account = r#"{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"default"}}"#;
        let code = connection.send(&mut self.request("POST", &self.path("serviceaccounts"), JSON, account), 0).await?;
        if !matches!(code, 200..300 | 409) {
            bail!("the service account was answered {code}");
        }
        Ok(())
    }

    async fn remove(&self) -> anyhow::Result<()> {
        let mut connection = Connection::open(&self.target).await?;
        for collection in ["pods", "configmaps"] {
            let path = self.path(&format!("{collection}?gracePeriodSeconds=0"));
            connection.succeed(&mut self.request("DELETE", &path, "", ""), 0).await?;
        }
        let path = format!("/api/v1/namespaces/{}", self.namespace);
        connection.succeed(&mut self.request("DELETE", &path, "", ""), 0).await?;
        Ok(())
    }
}

pub(crate) const JSON: &str = "content-type: application/json\r\n";
