//! etcd, as the measure of durable writes: the same bytes put and got over its gRPC, without TLS.

use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::load::{Until, load};
use super::server::Server;
use crate::meter::Sample;

const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes on their way at a time: a large answer does not wait for this client.
const WINDOW: u32 = 16 << 20;

/// An etcd of its own.
pub(crate) struct Peer {
    server: Server,
    address: SocketAddr,
    value: Vec<u8>,
    _dir: tempfile::TempDir,
}

impl Peer {
    /// None, with a word about it, where etcd is not installed.
    pub(crate) async fn start(value: &[u8]) -> anyhow::Result<Option<Self>> {
        let dir = tempfile::tempdir()?;
        let (address, peers) = (free()?, free()?);
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(dir.path()).args(["--log-level", "error", "--initial-cluster"]);
        command.arg(format!("default=http://{peers}"));
        for (option, address) in [
            ("--listen-client-urls", address),
            ("--advertise-client-urls", address),
            ("--listen-peer-urls", peers),
            ("--initial-advertise-peer-urls", peers),
        ] {
            command.arg(option).arg(format!("http://{address}"));
        }
        let Ok(server) = Server::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())) else {
            println!("no etcd to compare with: apt-get install etcd-server");
            return Ok(None);
        };
        let peer = Self { server, address, value: value.to_vec(), _dir: dir };
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Ok(mut client) = Client::open(address).await
                && client.call("Put", &put(b"ready", b"")).await.is_ok()
            {
                for index in 0..super::CLIENTS {
                    client.call("Put", &put(own(index).as_bytes(), value)).await?;
                }
                return Ok(Some(peer));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bail!("etcd does not answer within {PATIENCE:?}")
    }

    /// Puts of new keys, gets of keys that are there, or lists of those put; each client over a connection of its own.
    pub(crate) async fn load(&self, what: &str, clients: usize, until: Until) -> anyhow::Result<Sample> {
        let mut all = Vec::new();
        for index in 0..clients {
            let mut client = Client::open(self.address).await?;
            let get = field(1, own(index).as_bytes());
            // All that such a load of puts made.
            let list = [field(1, b"/64/"), field(2, b"/640")].concat();
            all.push(async move |number: u64| match what {
                "get" => client.call("Range", &get).await,
                "list" => client.call("Range", &list).await,
                _ => client.call("Put", &put(format!("/{clients}/{number}").as_bytes(), &self.value)).await,
            });
        }
        let sample = load(all, &[self.server.pid()], 0, until).await?;
        super::row(&format!("etcd {what}, {clients} clients"), &sample, None);
        Ok(sample)
    }
}

fn own(index: usize) -> String {
    format!("/own-{index}")
}

/// A port of loopback that was free a moment ago.
fn free() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// etcdserverpb.PutRequest.
fn put(key: &[u8], value: &[u8]) -> Vec<u8> {
    [field(1, key), field(2, value)].concat()
}

/// A field of bytes in protobuf.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
    out
}

struct Client(SendRequest<Full<Bytes>>);

impl Client {
    async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let io = TokioIo::new(stream);
        let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .handshake(io)
            .await?;
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    /// The size of the answer of one gRPC call.
    async fn call(&mut self, method: &str, message: &[u8]) -> anyhow::Result<usize> {
        let mut body = vec![0];
        body.extend_from_slice(&u32::try_from(message.len())?.to_be_bytes());
        body.extend_from_slice(message);
        let request = hyper::Request::post(format!("http://etcd/etcdserverpb.KV/{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(body.into()))?;
        self.0.ready().await?;
        let collected = self.0.send_request(request).await?.into_body().collect().await?;
        let status = collected.trailers().and_then(|trailers| trailers.get("grpc-status"));
        if status.context("gRPC without a status")? != "0" {
            bail!("etcd: {:?}", collected.trailers());
        }
        Ok(collected.to_bytes().len())
    }
}
