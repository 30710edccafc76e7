//! Requests for one object: creates, updates, patches, gets.

use super::connection::{Connection, NUMBER, Request};
use super::load::{Until, load};
use super::target::Target;
use super::{Bench, CLIENTS, JSON, etcd, objects, row, server};
use crate::meter::Sample;

const MERGE: &str = "content-type: application/merge-patch+json\r\n";

pub(crate) async fn run(bench: &Bench) -> anyhow::Result<()> {
    let path = bench.path("configmaps");
    let create = |_: usize| bench.request("POST", &path, JSON, &objects::config_map(&format!("new-{NUMBER}")));
    let own = |index: usize| (format!("own-{index}"), format!("{path}/own-{index}"));
    let patch = format!(r#"{{"data":{{"sent":"{NUMBER}"}}}}"#);
    let mut connection = Connection::open(&bench.target).await?;
    for index in 0..CLIENTS {
        let body = objects::config_map(&own(index).0);
        connection.succeed(&mut bench.request("POST", &path, JSON, &body), 0).await?;
    }
    connection.succeed(&mut bench.request("GET", &own(0).1, "", ""), 0).await?;
    let object = connection.body().to_vec();
    let peer = etcd::Peer::start(&object).await?;
    let mut first = 0;
    for clients in [1, CLIENTS] {
        let puts = match &peer {
            Some(peer) => Some(peer.load("put", clients, bench.limit).await?),
            None => None,
        };
        for (what, request) in [
            ("create", &create as &dyn Fn(usize) -> Request),
            ("update", &|index| bench.request("PUT", &own(index).1, JSON, &objects::config_map(&own(index).0))),
            ("merge patch", &|index| bench.request("PATCH", &own(index).1, MERGE, &patch)),
        ] {
            let sample = send(&bench.target, &bench.pids, clients, first, bench.limit, request).await?;
            row(&format!("{what}, {clients} clients"), &sample, puts.as_ref());
            first += sample.histogram.total;
        }
    }
    let dir = tempfile::tempdir()?;
    std::fs::write(dir.path().join("answer"), object)?;
    let (fixed, floor, _) = server::ready("fixed-server", dir.path()).await?;
    for clients in [1, CLIENTS] {
        let plain =
            send(&floor, &[fixed.pid()], clients, 0, bench.limit, &|_| Request::new(&floor, "GET", "/", "", ""))
                .await?;
        row(&format!("fixed answer, {clients} clients"), &plain, None);
        if let Some(peer) = &peer {
            peer.load("get", clients, bench.limit).await?;
        }
        let get = |index| bench.request("GET", &own(index).1, "", "");
        let sample = send(&bench.target, &bench.pids, clients, 0, bench.limit, &get).await?;
        row(&format!("get, {clients} clients"), &sample, Some(&plain));
    }
    Ok(())
}

/// Each client over a connection of its own.
pub(crate) async fn send(
    target: &Target,
    pids: &[u32],
    clients: usize,
    first: u64,
    until: Until,
    request: &dyn Fn(usize) -> Request,
) -> anyhow::Result<Sample> {
    let mut all = Vec::new();
    for index in 0..clients {
        let (mut connection, mut request) = (Connection::open(target).await?, request(index));
        all.push(async move |number| {
            connection.succeed(&mut request, number).await?;
            Ok(connection.body().len())
        });
    }
    load(all, pids, first, until).await
}
