//! Coracle's Ingress under measure: the only place that knows how it is made.

use std::fs::File;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ingress::{Config, Listener, Matcher, Metrics, Policy, Route, Rules, Server, Table, Upstream};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use state::Key;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::backend::endpoints;
use super::certificates::host;
use super::peer::PORTS;

/// Serves so many Ingresses, whose certificates are in `dir`, on one thread, perhaps with an access log and metrics; says a
/// line as soon as it does, and ends when it is killed.
pub(crate) fn relay(address: Ipv4Addr, hosts: usize, dir: &Path, log: Option<&Path>) -> anyhow::Result<()> {
    // As in the program itself. Where there is none, spans that nobody sees are offered to another library for logs.
    tracing_subscriber::fmt().with_env_filter("warn").init();
    let upstream = Arc::new(Upstream::new(Key::new("shop", "items"), "http"));
    upstream.update(endpoints().to_vec());
    let mut table = Table::default();
    for host in (0..hosts).map(host) {
        let pem = dir.join(format!("{host}.pem"));
        let chain = CertificateDer::pem_file_iter(&pem)?.collect::<Result<Vec<_>, _>>()?;
        let key = rustls::crypto::ring::sign::any_supported_type(&PrivateKeyDer::from_pem_file(&pem)?)?;
        table.certificates.hosts.insert(host.as_str().into(), Arc::new(CertifiedKey::new(chain, key)));
        let route = Route {
            ingress: Key::new("shop", host.as_str()),
            path: "/".into(),
            tls: false,
            backend: Some(upstream.clone()),
            policy: Arc::new(Policy::default()),
            canary: None,
            pattern: None,
        };
        let path = ingress::Path { matcher: Matcher::Prefix("".into()), route: Arc::new(route) };
        table.hosts.insert(host.into(), Rules::new(vec![path], None));
    }
    let listener = |(port, tls)| Ok(Listener { socket: TcpListener::bind(SocketAddr::from((address, port)))?, tls });
    let listeners = PORTS.into_iter().zip([false, true]).map(listener).collect::<anyhow::Result<_>>()?;
    let config = Config { connect: Arc::new(|to| Box::pin(TcpStream::connect(to))), threads: 1, grace: Duration::ZERO };
    let (_table, tables) = watch::channel(Arc::new(table));
    let mut server = Server::new(config, tables);
    if let Some(log) = log {
        let file = File::options().append(true).create(true).open(log)?;
        let sink = move |lines: &[u8]| (&file).write_all(lines).expect("the log is written");
        server = server.logging(Arc::new(sink)).counting(Arc::new(Metrics::new("bench")));
    }
    println!("ready");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(server.run(listeners, CancellationToken::new()))?)
}
