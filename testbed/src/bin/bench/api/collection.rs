//! Lists of many pods, and the memory that they take.

use std::time::Duration;

use super::connection::Connection;
use super::load::{Until, load};
use super::requests::send;
use super::{Bench, CLIENTS, JSON, etcd, objects, row, server};
use crate::meter::Sample;

/// Pods in the lists.
pub(crate) const PODS: u64 = 10_000;
/// Objects in one answer of a list in chunks, as kubectl asks for.
const CHUNK: usize = 500;

const TABLE: &str = "accept: application/json;as=Table;v=v1;g=meta.k8s.io\r\n";

pub(crate) async fn run(bench: &Bench, pods: u64) -> anyhow::Result<()> {
    fill(bench, 0, PODS).await?;
    let mut connection = Connection::open(&bench.target).await?;
    connection.succeed(&mut bench.request("GET", &bench.path("pods"), "", ""), 0).await?;
    let list = connection.body().to_vec();
    let dir = tempfile::tempdir()?;
    println!("a list of {PODS} pods is {:.1} MB", list.len() as f64 / 1e6);
    if let Some(peer) = etcd::Peer::start(&list[list.len() - list.len() / PODS as usize..]).await? {
        peer.load("put", CLIENTS, Until::Count(PODS)).await?;
        peer.load("list", 1, bench.limit).await?;
    }
    std::fs::write(dir.path().join("answer"), list)?;
    let (server, target, _) = server::ready("fixed-server", dir.path()).await?;
    let request = |_| super::Request::new(&target, "GET", "/", "", "");
    let plain = send(&target, &[server.pid()], 1, 0, bench.limit, &request).await?;
    row("fixed answer of the same size", &plain, None);
    for (what, headers) in [
        ("list", ""),
        ("list as a Table", TABLE),
        ("list, gzip", "accept-encoding: gzip\r\n"),
        ("list, protobuf", "accept: application/vnd.kubernetes.protobuf\r\n"),
    ] {
        let mut request = bench.request("GET", &bench.path("pods"), headers, "");
        if connection.send(&mut request, 0).await? == 406 {
            println!("{what}: not served");
            continue;
        }
        let sample = send(&bench.target, &bench.pids, 1, 0, bench.limit, &|_| request.clone()).await?;
        row(what, &sample, Some(&plain));
    }
    for (what, headers) in [("list in chunks", ""), ("list as a Table in chunks", TABLE)] {
        row(what, &chunked(bench, headers).await?, Some(&plain));
    }
    if pods > PODS {
        fill(bench, PODS, pods - PODS).await?;
    }
    Ok(())
}

/// Makes running pods, from this number on.
async fn fill(bench: &Bench, first: u64, count: u64) -> anyhow::Result<()> {
    let pods = bench.path("pods");
    for (what, method, path) in
        [("pod create", "POST", pods.clone()), ("pod status", "PUT", format!("{pods}/{}/status", objects::pod_name()))]
    {
        let request = |_| bench.request(method, &path, JSON, &objects::pod());
        let sample = send(&bench.target, &bench.pids, CLIENTS, first, Until::Count(count), &request).await?;
        row(&format!("{what}, {CLIENTS} clients"), &sample, None);
    }
    // What was only needed for the writes is given back by then.
    tokio::time::sleep(Duration::from_secs(1)).await;
    bench.memory(&format!("with {} pods", first + count))
}

/// Whole lists, put together from chunks.
async fn chunked(bench: &Bench, headers: &str) -> anyhow::Result<Sample> {
    let mut connection = Connection::open(&bench.target).await?;
    let page = format!("{}?limit={CHUNK}", bench.path("pods"));
    let whole = async |_| {
        let (mut size, mut next) = (0, String::new());
        loop {
            let mut request = bench.request("GET", &format!("{page}{next}"), headers, "");
            connection.succeed(&mut request, 0).await?;
            size += connection.body().len();
            match token(connection.body()) {
                Some(token) => next = format!("&continue={token}"),
                None => return Ok(size),
            }
        }
    };
    load(vec![whole], &bench.pids, 0, bench.limit).await
}

/// The token of the next chunk, if there is one.
fn token(list: &[u8]) -> Option<&str> {
    let at = memchr::memmem::find(list, br#""continue":""#)? + br#""continue":""#.len();
    let end = memchr::memchr(b'"', &list[at..])?;
    std::str::from_utf8(&list[at..at + end]).ok().filter(|token| !token.is_empty())
}
