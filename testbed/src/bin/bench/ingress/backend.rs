//! What all proxies lead to: one thread that answers with prepared bytes.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Bytes read at once.
const READ: usize = 256 << 10;
/// What a request has to say of its client, so that all proxies do that work.
const SAID: [&str; 6] =
    ["x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto", "x-real-ip", "x-request-id"];

/// Whole answers by the size of their bodies.
type Answers = Arc<BTreeMap<usize, Vec<u8>>>;

/// Where the endpoints are.
pub(crate) fn endpoints() -> [SocketAddr; 3] {
    [1, 2, 3].map(|last| SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 1, last)), 880))
}

/// Listens at all of them; from then on a thread answers there for as long as this process lives. The last part of a
/// path is the size of its answer.
pub(crate) fn start(sizes: impl Iterator<Item = usize>) -> anyhow::Result<()> {
    let answer = |size| {
        let head = format!(
            "HTTP/1.1 200 OK\r\ndate: Mon, 01 Jan 2026 00:00:00 GMT\r\ncontent-type: text/plain; charset=utf-8\r\n\
             cache-control: no-cache\r\ncontent-length: {size}\r\n\r\n"
        );
        (size, [head.as_bytes(), &vec![b'x'; size]].concat())
    };
    let answers = Answers::new(sizes.map(answer).collect());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    for endpoint in endpoints() {
        let listener = runtime.block_on(TcpListener::bind(endpoint)).with_context(|| endpoint.to_string())?;
        runtime.spawn(accept(listener, answers.clone()));
    }
    std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    Ok(())
}

async fn accept(listener: TcpListener, answers: Answers) {
    while let Ok((stream, _)) = listener.accept().await {
        let answers = answers.clone();
        tokio::spawn(async move {
            if let Err(error) = serve(stream, &answers).await {
                eprintln!("backend: {error:#}");
            }
        });
    }
}

async fn serve(mut stream: TcpStream, answers: &Answers) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut read = BytesMut::new();
    loop {
        read.reserve(READ);
        // A proxy may reset what it no longer needs.
        if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
            return Ok(());
        }
        while let Some(end) = memchr::memmem::find(&read, b"\r\n\r\n") {
            let (size, mut body) = parse(std::str::from_utf8(&read[..end])?)?;
            read.advance(end + 4);
            while body > 0 {
                let part = body.min(read.len());
                read.advance(part);
                body -= part;
                read.reserve(READ);
                if body > 0 && stream.read_buf(&mut read).await? == 0 {
                    bail!("a body ended too early");
                }
            }
            // So may a client that has measured enough.
            if stream.write_all(answers.get(&size).context("a size that is not there")?).await.is_err() {
                return Ok(());
            }
        }
    }
}

/// The sizes of the answer that is asked for, and of the request's own body.
fn parse(head: &str) -> anyhow::Result<(usize, usize)> {
    let path = head.split(' ').nth(1).context("no path")?;
    let size = path.rsplit('/').next().unwrap_or_default().parse().with_context(|| path.to_owned())?;
    let (mut body, mut said) = (0, 0);
    for (name, value) in head.lines().skip(1).filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            body = value.trim().parse()?;
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            bail!("a request in chunks");
        } else if SAID.iter().any(|header| name.eq_ignore_ascii_case(header)) {
            said += 1;
        }
    }
    if said != SAID.len() {
        bail!("of {SAID:?} the request says {said}: {head}");
    }
    Ok((size, body))
}
