//! The client: HTTP/1.1 in prepared bytes, on one thread, the same for all proxies.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::case::{Case, Layer};
use super::certificates::host;
use crate::meter::Histogram;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time between two requests, where time is what is measured.
const MODERATE: Duration = Duration::from_micros(500);
/// Bytes read at once.
const READ: usize = 256 << 10;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// What is asked of a proxy, ready to be sent.
pub(crate) struct Load {
    case: Case,
    to: SocketAddr,
    tls: Option<TlsConnector>,
    /// By host.
    requests: Vec<Vec<u8>>,
}

impl Load {
    pub(crate) fn new(case: Case, to: SocketAddr, roots: &RootCertStore) -> anyhow::Result<Arc<Self>> {
        let tls = match case.layer {
            Layer::Plain => None,
            layer => Some(Arc::new(tls(roots, layer == Layer::Resumed)?).into()),
        };
        let request = |number| {
            let (method, size) = if case.body > 0 { ("POST", case.body) } else { ("GET", 0) };
            let head = format!(
                "{method} /shop/items/{} HTTP/1.1\r\nhost: {}\r\nuser-agent: Mozilla/5.0 (X11; Linux x86_64)\r\n\
                 accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\naccept-language: en-GB,en;q=0.5\r\n\
                 accept-encoding: gzip, deflate, br\r\ncookie: session=0123456789abcdef0123456789abcdef\r\n",
                case.answer,
                host(number)
            );
            let length = if size > 0 { format!("content-length: {size}\r\n") } else { String::new() };
            [head.as_bytes(), length.as_bytes(), b"\r\n", &vec![b'x'; size]].concat()
        };
        Ok(Arc::new(Self { case, to, tls, requests: (0..case.hosts).map(request).collect() }))
    }

    /// As many requests as can be had in that time; returns how many that were. Begins the count with a function, when
    /// all is ready.
    pub(crate) async fn run(self: &Arc<Self>, time: Duration, begin: impl FnOnce()) -> anyhow::Result<f64> {
        let (mut connections, clients) = (Vec::new(), self.case.clients);
        for number in 0..clients {
            connections.push((!self.case.fresh).then_some(self.ready(number).await?));
        }
        begin();
        let (began, mut tasks) = (Instant::now(), JoinSet::new());
        for (first, mut kept) in connections.into_iter().enumerate() {
            let this = self.clone();
            tasks.spawn(async move {
                let (mut number, mut done) = (first, 0.0);
                while began.elapsed() < time {
                    this.once(&mut kept, number).await?;
                    (number, done) = (number + clients, done + 1.0);
                }
                anyhow::Ok(done)
            });
        }
        let all = async {
            let mut done = 0.0;
            while let Some(one) = tasks.join_next().await {
                done += one??;
            }
            anyhow::Ok(done)
        };
        tokio::time::timeout(time + PATIENCE, all).await.context("no answer")?
    }

    /// How long an answer takes when there is little to do.
    pub(crate) async fn times(&self, time: Duration) -> anyhow::Result<Histogram> {
        let mut kept = (!self.case.fresh).then_some(self.ready(0).await?);
        let (mut histogram, mut number, began) = (Histogram::new(), 0, Instant::now());
        while began.elapsed() < time {
            // Nothing else is to do on this thread, and tokio's own pauses are whole milliseconds.
            std::thread::sleep(MODERATE);
            let asked = Instant::now();
            tokio::time::timeout(PATIENCE, self.once(&mut kept, number)).await.context("no answer")??;
            histogram.add(asked.elapsed());
            number += 1;
        }
        Ok(histogram)
    }

    /// One request, on the connection that is kept or on one of its own.
    async fn once(&self, kept: &mut Option<Connection>, number: usize) -> anyhow::Result<()> {
        match kept {
            Some(connection) => self.ask(connection, number).await,
            None => self.ask(&mut self.open(number).await?, number).await,
        }
    }

    /// A connection that is as fast as it becomes.
    async fn ready(&self, number: usize) -> anyhow::Result<Connection> {
        let mut connection = self.open(number).await?;
        self.ask(&mut connection, number).await?;
        Ok(connection)
    }

    async fn open(&self, number: usize) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(self.to).await.with_context(|| format!("connect to {}", self.to))?;
        stream.set_nodelay(true)?;
        let name = host(number % self.case.hosts);
        let Some(tls) = &self.tls else { return Ok(Connection::new(stream)) };
        let stream = tls.connect(ServerName::try_from(name)?, stream).await.context("TLS")?;
        let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
        // The first few have nothing to resume.
        if resumed != (self.case.layer == Layer::Resumed) && number >= self.case.clients {
            bail!("request {number}: resumed: {resumed}");
        }
        Ok(Connection::new(stream))
    }

    async fn ask(&self, connection: &mut Connection, number: usize) -> anyhow::Result<()> {
        connection.stream.write_all(&self.requests[number % self.requests.len()]).await?;
        connection.answer(self.case.answer).await
    }
}

/// Versions, ciphers and groups are the client's choice, so that all proxies have the same.
fn tls(roots: &RootCertStore, resume: bool) -> anyhow::Result<ClientConfig> {
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites = vec![rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256];
    provider.kx_groups = vec![rustls::crypto::ring::kx_group::X25519];
    let builder =
        ClientConfig::builder_with_provider(provider.into()).with_protocol_versions(&[&rustls::version::TLS13])?;
    let mut config = builder.with_root_certificates(roots.clone()).with_no_client_auth();
    if !resume {
        config.resumption = rustls::client::Resumption::disabled();
    }
    Ok(config)
}

struct Connection {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

impl Connection {
    fn new(stream: impl Stream + 'static) -> Self {
        Self { stream: Box::new(stream), buffer: vec![0; READ] }
    }

    /// Reads an answer, which has to be 200 and of that size.
    async fn answer(&mut self, size: usize) -> anyhow::Result<()> {
        let (mut read, mut whole) = (0, None);
        loop {
            // Of a body only the length matters: it is read over itself.
            let at = if whole.is_some() { 0 } else { read };
            let count = self.stream.read(&mut self.buffer[at..]).await?;
            if count == 0 {
                bail!("the proxy closed the connection after {read} bytes");
            }
            read += count;
            if whole.is_none() {
                let Some(end) = memchr::memmem::find(&self.buffer[..read], b"\r\n\r\n") else { continue };
                let head = std::str::from_utf8(&self.buffer[..end])?;
                let length = head.lines().filter_map(|line| line.split_once(':'));
                let length = length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
                let lengths: Vec<_> = length.map(|(_, value)| value.trim().parse::<usize>()).collect();
                if !head.starts_with("HTTP/1.1 200 ") || lengths != [Ok(size)] {
                    bail!("not 200 with {size} bytes: {head}");
                }
                whole = Some(end + 4 + size);
            }
            match whole {
                Some(whole) if read == whole => return Ok(()),
                Some(whole) if read > whole => bail!("{} bytes too many", read - whole),
                _ => {}
            }
        }
    }
}
