//! Many watchers of one collection.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use anyhow::bail;
use futures::future::{join_all, try_join};
use serde_json::Value;

use super::connection::{Connection, Request};
use super::load::{Until, load};
use super::{Bench, JSON, objects, row};
use crate::meter::{Histogram, Meter};

/// Clients that write as fast as they can.
const WRITERS: usize = 8;
/// Time between two writes that are to find everything at rest.
const PAUSE: Duration = Duration::from_millis(50);
/// How long watchers may take for their events.
const PATIENCE: Duration = Duration::from_secs(600);

pub(crate) async fn run(bench: &Bench, watchers: usize, events: u64) -> anyhow::Result<()> {
    let mut connection = Connection::open(&bench.target).await?;
    for index in 0..WRITERS {
        let body = objects::config_map(&format!("watched-{index}"));
        connection.succeed(&mut bench.request("POST", &bench.path("configmaps"), JSON, &body), 0).await?;
    }
    round(bench, "watch events, written slowly", watchers, 1, (events / 10).min(100)).await?;
    bench.memory(&format!("after {watchers} watchers"))?;
    round(bench, "watch events, written fast", watchers, WRITERS, events).await?;
    bench.memory(&format!("after {watchers} watchers"))
}

/// What the watchers have seen.
struct Seen {
    histogram: Histogram,
    bytes: u64,
    ended: usize,
}

async fn round(bench: &Bench, what: &str, watchers: usize, writers: usize, events: u64) -> anyhow::Result<()> {
    let base = Instant::now();
    let seen = RefCell::new(Seen { histogram: Histogram::new(), bytes: 0, ended: 0 });
    let revision = revision(bench).await?;
    let path = format!("{}?watch=true&resourceVersion={revision}", bench.path("configmaps"));
    let mut request = bench.request("GET", &path, "", "");
    let mut all = Vec::new();
    for _ in 0..watchers {
        let mut connection = Connection::open(&bench.target).await?;
        connection.watch(&mut request).await?;
        all.push(watch(connection, events, base, &seen));
    }
    let mut clients = Vec::new();
    for index in 0..writers {
        let mut request = update(bench, index);
        let mut connection = Connection::open(&bench.target).await?;
        clients.push(async move |_| {
            if writers == 1 {
                tokio::time::sleep(PAUSE).await;
            }
            connection.succeed(&mut request, base.elapsed().as_micros() as u64).await?;
            Ok(0)
        });
    }
    let meter = Meter::start(&bench.pids)?;
    let written = load(clients, &bench.pids, 0, Until::Count(events));
    let watched = async { Ok(tokio::time::timeout(PATIENCE, join_all(all)).await) };
    let (written, _) = try_join(written, watched).await?;
    let Seen { histogram, bytes, ended } = seen.into_inner();
    let total = histogram.total;
    row(&format!("{what}, {watchers} watchers"), &meter.stop(histogram, bytes)?, None);
    row("  the writes of it", &written, None);
    if total != events * watchers as u64 {
        println!("  {} events were not seen; {ended} watches ended early", events * watchers as u64 - total);
    }
    Ok(())
}

fn update(bench: &Bench, index: usize) -> Request {
    let name = format!("watched-{index}");
    bench.request("PUT", &bench.path(&format!("configmaps/{name}")), JSON, &objects::config_map(&name))
}

/// The revision of the collection.
async fn revision(bench: &Bench) -> anyhow::Result<String> {
    let mut connection = Connection::open(&bench.target).await?;
    connection.succeed(&mut bench.request("GET", &bench.path("configmaps?limit=1"), "", ""), 0).await?;
    match serde_json::from_slice::<Value>(connection.body())?["metadata"]["resourceVersion"].as_str() {
        Some(revision) => Ok(revision.to_owned()),
        None => bail!("a list without a revision"),
    }
}

/// Reads until all events are there or the watch ends.
async fn watch(mut connection: Connection, events: u64, base: Instant, seen: &RefCell<Seen>) {
    let mark = memchr::memmem::Finder::new(br#""sent":""#);
    let mut left = events;
    while left > 0 {
        let chunk = match connection.next().await {
            Ok(chunk) if !chunk.is_empty() => chunk,
            _ => {
                seen.borrow_mut().ended += 1;
                return;
            }
        };
        let (now, mut seen) = (base.elapsed(), seen.borrow_mut());
        seen.bytes += chunk.len() as u64;
        for at in mark.find_iter(chunk) {
            let digits = chunk.get(at + 8..at + 20).and_then(|digits| std::str::from_utf8(digits).ok());
            let sent = digits.and_then(|digits| digits.parse().ok()).map(Duration::from_micros).unwrap_or_default();
            seen.histogram.add(now.saturating_sub(sent));
            left = left.saturating_sub(1);
        }
    }
}
