use anyhow::{Context as _, bail};
use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::target::Target;

/// Bytes of the head of an answer, at most.
const HEAD: usize = 64 << 10;
/// Bytes read at once, at least.
const READ: usize = 64 << 10;

/// A request that is ready to be sent, but for one number of twelve digits.
#[derive(Clone)]
pub(crate) struct Request {
    bytes: Vec<u8>,
    numbers: Vec<usize>,
}

/// Stands for the number in paths and bodies.
pub(crate) const NUMBER: &str = "############";

impl Request {
    /// `headers` are whole lines.
    pub(crate) fn new(target: &Target, method: &str, path: &str, headers: &str, body: &str) -> Self {
        let (host, prefix) = target.host.split_once('/').unwrap_or((&target.host, ""));
        let prefix = if prefix.is_empty() { String::new() } else { format!("/{prefix}") };
        let token = target.token.as_ref().map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
        let text = format!(
            "{method} {prefix}{path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: bench/1\r\n{token}{headers}content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let numbers = text.match_indices(NUMBER).map(|(at, _)| at).collect();
        Self { bytes: text.into_bytes(), numbers }
    }

    fn fill(&mut self, number: u64) {
        let digits = format!("{number:012}");
        for at in &self.numbers {
            self.bytes[*at..at + NUMBER.len()].copy_from_slice(digits.as_bytes());
        }
    }
}

/// HTTP/1.1 over TLS, one request at a time, as cheap as can be: it shares the machine with the server.
pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    read: BytesMut,
    body: Vec<u8>,
}

enum Length {
    Known(usize),
    Chunked,
}

impl Connection {
    pub(crate) async fn open(target: &Target) -> anyhow::Result<Self> {
        let stream =
            TcpStream::connect(target.address).await.with_context(|| format!("connect to {}", target.address))?;
        stream.set_nodelay(true)?;
        let stream = TlsConnector::from(target.tls.clone()).connect(target.name.clone(), stream).await?;
        Ok(Self { stream, read: BytesMut::with_capacity(2 * READ), body: Vec::new() })
    }

    /// The code of the answer; its body is then in [`Connection::body`].
    pub(crate) async fn send(&mut self, request: &mut Request, number: u64) -> anyhow::Result<u16> {
        let (code, length) = self.begin(request, number).await?;
        self.body.clear();
        match length {
            Length::Known(mut left) => {
                while left > 0 {
                    if self.read.is_empty() {
                        self.more().await?;
                    }
                    let part = left.min(self.read.len());
                    self.body.extend_from_slice(&self.read[..part]);
                    self.read.advance(part);
                    left -= part;
                }
            }
            Length::Chunked => while self.chunk().await? > 0 {},
        }
        Ok(code)
    }

    /// The same for an answer that has to be of the 200s.
    pub(crate) async fn succeed(&mut self, request: &mut Request, number: u64) -> anyhow::Result<()> {
        let code = self.send(request, number).await?;
        if !(200..300).contains(&code) {
            bail!("answered {code}: {}", String::from_utf8_lossy(&self.body[..self.body.len().min(500)]));
        }
        Ok(())
    }

    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    /// Begins a request whose answer does not end.
    pub(crate) async fn watch(&mut self, request: &mut Request) -> anyhow::Result<()> {
        match self.begin(request, 0).await? {
            (200, Length::Chunked) => Ok(()),
            (code, _) => bail!("a watch answered {code}"),
        }
    }

    /// The next bytes of such an answer; empty at its end.
    pub(crate) async fn next(&mut self) -> anyhow::Result<&[u8]> {
        self.body.clear();
        self.chunk().await?;
        Ok(&self.body)
    }

    async fn begin(&mut self, request: &mut Request, number: u64) -> anyhow::Result<(u16, Length)> {
        request.fill(number);
        self.stream.write_all(&request.bytes).await?;
        self.stream.flush().await?;
        let end = loop {
            if let Some(end) = memchr::memmem::find(&self.read, b"\r\n\r\n") {
                break end + 4;
            }
            if self.read.len() > HEAD {
                bail!("an answer with an endless head");
            }
            self.more().await?;
        };
        let head = self.read.split_to(end);
        let head = std::str::from_utf8(&head)?;
        let code = head.split(' ').nth(1).context("an answer without a code")?.parse()?;
        let mut length = Length::Known(0);
        for line in head.lines().skip(1) {
            match line.split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = Length::Known(value.trim().parse()?);
                }
                Some((name, _)) if name.eq_ignore_ascii_case("transfer-encoding") => length = Length::Chunked,
                _ => {}
            }
        }
        Ok((code, length))
    }

    /// Adds one chunk to the body; its size, 0 after the last one.
    async fn chunk(&mut self) -> anyhow::Result<usize> {
        let end = loop {
            if let Some(end) = memchr::memmem::find(&self.read, b"\r\n") {
                break end;
            }
            self.more().await?;
        };
        let size = self.read.split_to(end + 2);
        let size = std::str::from_utf8(&size[..end])?.split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(size, 16).context("a chunk without a size")?;
        while self.read.len() < size + 2 {
            self.more().await?;
        }
        self.body.extend_from_slice(&self.read[..size]);
        self.read.advance(size + 2);
        Ok(size)
    }

    async fn more(&mut self) -> anyhow::Result<()> {
        self.read.reserve(READ);
        if self.stream.read_buf(&mut self.read).await? == 0 {
            bail!("the server closed the connection");
        }
        Ok(())
    }
}
