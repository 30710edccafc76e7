//! What it costs to tell many watches of many changes, in process: every watch sees every event, and then watches by
//! node of which each event concerns one. `cargo run --release -p coracle-apiserver --example fanout`.

use std::time::{Duration, Instant};

use apiserver::{ApiServer, Config, Identity};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use store::{Limits, Memory, Store};
use tower::ServiceExt;

const EVENTS: usize = 10_000;
const WRITERS: usize = 8;

type Error = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let server = ApiServer::new(Config::default(), Store::open(Memory, apiserver::parse, Limits::default())?);
    let namespace = r#"{"metadata":{"name":"default"}}"#;
    call(&server, "POST", "/api/v1/namespaces", namespace).await?;
    let alone = run(&server, "alone", 0, |_| String::new(), 0).await?;
    let all = run(&server, "all", 1_000, |_| String::new(), EVENTS).await?;
    let of_node = |n| format!("&fieldSelector=spec.nodeName%3Dnode-{n}");
    let nodes = run(&server, "nodes", 5_000, of_node, EVENTS / 5_000).await?;
    println!("{EVENTS} creates alone: {alone:?}");
    let events = all.saturating_sub(alone).as_nanos() as usize / (EVENTS * 1_000);
    println!("with 1,000 watches of all: {all:?}, {events} ns an event");
    println!("with 5,000 watches by node: {nodes:?}");
    Ok(())
}

/// Creates the pods of one round while so many watches see so many events each; until the last one has.
async fn run(
    server: &ApiServer,
    round: &'static str,
    watches: usize,
    select: impl Fn(usize) -> String,
    each: usize,
) -> Result<Duration, Error> {
    let revision = server_revision(server).await?;
    let mut readers = Vec::new();
    for n in 0..watches {
        let uri = format!("/api/v1/pods?watch=1&resourceVersion={revision}{}", select(n));
        let mut body = open(server, "GET", &uri, "").await?;
        readers.push(tokio::spawn(async move {
            let mut seen = 0;
            while seen < each {
                let frame = body.frame().await.ok_or("the watch ended")??;
                seen += frame.data_ref().map_or(0, |data| data.iter().filter(|byte| **byte == b'\n').count());
            }
            Ok::<_, Error>(())
        }));
    }
    let start = Instant::now();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let server = server.clone();
            tokio::spawn(async move {
                for n in (writer..EVENTS).step_by(WRITERS) {
                    let pod = format!(
                        r#"{{"metadata":{{"name":"{round}-{n}","labels":{{"app":"web"}}}},"spec":{{"nodeName":"node-{}",
                        "containers":[{{"name":"c","image":"nginx"}}]}}}}"#,
                        n % 5_000
                    );
                    call(&server, "POST", "/api/v1/namespaces/default/pods", &pod).await?;
                }
                Ok::<_, Error>(())
            })
        })
        .collect();
    for task in writers.into_iter().chain(readers) {
        task.await??;
    }
    Ok(start.elapsed())
}

async fn server_revision(server: &ApiServer) -> Result<String, Error> {
    let list: serde_json::Value = serde_json::from_slice(&call(server, "GET", "/api/v1/pods?limit=1", "").await?)?;
    Ok(list["metadata"]["resourceVersion"].as_str().ok_or("no revision")?.to_owned())
}

async fn open(server: &ApiServer, method: &str, uri: &str, body: &str) -> Result<apiserver::Body, Error> {
    let request = http::Request::builder().method(method).uri(uri).body(Full::new(Bytes::from(body.to_owned())))?;
    let response = server.service(Identity::admin()).oneshot(request).await?;
    if !response.status().is_success() {
        return Err(format!("{method} {uri}: {}", response.status()).into());
    }
    Ok(response.into_body())
}

async fn call(server: &ApiServer, method: &str, uri: &str, body: &str) -> Result<Bytes, Error> {
    Ok(open(server, method, uri, body).await?.collect().await?.to_bytes())
}
