//! h2load, for HTTP/2.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context as _, bail};

use super::case::Case;
use super::certificates::host;
use crate::process::find;

/// Requests at a time on each connection.
const STREAMS: &str = "16";

/// Sends so many requests, which all have to succeed; returns how many seconds they took.
pub(crate) fn run(case: &Case, to: SocketAddr, count: usize) -> anyhow::Result<f64> {
    let mut command = Command::new(find("h2load")?);
    command.args(["-t", "1", "-m", STREAMS, "-c", &case.clients.to_string(), "-n", &count.to_string()]);
    command.args(["--groups", "X25519"]);
    command.args(["--connect-to", &to.to_string()]).arg(format!("https://{}/shop/items/{}", host(0), case.answer));
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    // finished in 1.03s, 9700.21 req/s, 1.5MB/s
    // requests: 10000 total, 10000 started, 10000 done, 10000 succeeded, 0 failed, 0 errored, 0 timeout
    // traffic: 1.53MB (1600000) total, 0.1MB (100000) headers (space savings 90%), 1.22MB (1280000) data
    let succeeded = text.contains(&format!(" {count} succeeded"));
    let length = text.contains(&format!("({}) data", count * case.answer));
    if !succeeded || !length || !text.contains("Application protocol: h2") {
        bail!("{command:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    }
    let rate =
        text.lines().find_map(|line| line.strip_prefix("finished in ")?.split(", ").nth(1)?.strip_suffix(" req/s"));
    Ok(count as f64 / rate.context("no rate from h2load")?.parse::<f64>()?)
}
