//! The servers that are measured against each other, each a process of its own on loopback.

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use apiserver::{ApiServer, Pki};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Request, Response, body::Incoming, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::json;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, Request as Prepared};
use super::target::Target;

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server in a process of its own; it ends with this value, and with this process.
pub(crate) struct Server {
    child: Child,
    door: Option<ChildStdin>,
}

impl Server {
    /// Runs `bench <verb> <dir>`: one of the functions below.
    pub(crate) fn start(verb: &str, dir: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        Self::spawn(command.arg(verb).arg(dir).stdin(Stdio::piped()))
    }

    pub(crate) fn spawn(command: &mut Command) -> anyhow::Result<Self> {
        let mut child = command.spawn().with_context(|| format!("start {command:?}"))?;
        let door = child.stdin.take();
        Ok(Self { child, door })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets it end as it wants to.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        drop(self.door.take());
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        bail!("process {} does not end", self.child.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts one of the servers below over what is in the directory; and the time from there to its first `/readyz`.
pub(crate) async fn ready(verb: &str, dir: &Path) -> anyhow::Result<(Server, Target, Duration)> {
    let kubeconfig = dir.join("kubeconfig");
    let _ = std::fs::remove_file(&kubeconfig);
    let began = Instant::now();
    let server = Server::start(verb, dir)?;
    while began.elapsed() < PATIENCE {
        if kubeconfig.exists() {
            let target = Target::read(&kubeconfig)?;
            let mut connection = Connection::open(&target).await?;
            connection.succeed(&mut Prepared::new(&target, "GET", "/readyz", "", ""), 0).await?;
            return Ok((server, target, began.elapsed()));
        }
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    bail!("no {verb} within {PATIENCE:?}")
}

/// Coracle's API server alone, with its store in the directory, until standard input ends.
pub(crate) fn api(dir: &Path) -> anyhow::Result<()> {
    runtime()?.block_on(async {
        let backend = store::Sled::open(dir.join("store"))?;
        let store = store::Store::open(backend, apiserver::parse, store::Limits::default())?;
        let (listener, tls) = listen(dir)?;
        let shutdown = at_end_of_input();
        ApiServer::new(apiserver::Config::default(), store.clone()).serve_tls(listener, tls, shutdown).await?;
        store.close().await;
        Ok(())
    })
}

/// Answers every request with the bytes in the file `answer` of the directory, by the same hyper and rustls: what
/// HTTP and TLS alone cost.
pub(crate) fn fixed(dir: &Path) -> anyhow::Result<()> {
    let answer = Bytes::from(std::fs::read(dir.join("answer"))?);
    runtime()?.block_on(async {
        let (listener, tls) = listen(dir)?;
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let acceptor = TlsAcceptor::from(tls);
        let shutdown = at_end_of_input();
        while let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await {
            let (stream, _) = accepted?;
            stream.set_nodelay(true)?;
            let (acceptor, answer) = (acceptor.clone(), answer.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let fixed = service_fn(move |_: Request<Incoming>| {
                    let answer = Response::builder()
                        .header(header::CONTENT_TYPE, "application/json")
                        .body(Full::new(answer.clone()));
                    async move { answer }
                });
                let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), fixed).await;
            });
        }
        Ok(())
    })
}

/// As `coracle` has it.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// A port of loopback with TLS; a kubeconfig for it is put into the directory.
fn listen(dir: &Path) -> anyhow::Result<(TcpListener, Arc<rustls::ServerConfig>)> {
    let pki = Pki::open(&dir.join("pki"))?;
    let tls = pki.server_config(&pki.server(&["127.0.0.1".to_owned()])?)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address: SocketAddr = listener.local_addr()?;
    let admin = pki.admin()?;
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "bench",
        "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
        "clusters": [{"name": "bench", "cluster": {
            "server": format!("https://{address}"),
            "certificate-authority-data": STANDARD.encode(pki.authority_pem()),
        }}],
        "users": [{"name": "bench", "user": {
            "client-certificate-data": STANDARD.encode(admin.certificate_pem),
            "client-key-data": STANDARD.encode(admin.key_pem),
        }}],
    });
    let made = dir.join("kubeconfig.new");
    std::fs::write(&made, config.to_string())?;
    std::fs::rename(made, dir.join("kubeconfig"))?;
    Ok((listener, tls))
}

fn at_end_of_input() -> CancellationToken {
    let shutdown = CancellationToken::new();
    let token = shutdown.clone();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read(&mut [0]);
        token.cancel();
    });
    shutdown
}
