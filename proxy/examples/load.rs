//! How long the kernel takes for 10,000 Services with two endpoints each, and for one change, by
//! the data plane and by `nft -f` with the same elements.
//!
//! `unshare -Urn target/…/examples/load [services]`, or as root `unshare -n …`: there the whole is
//! one transaction, whatever its size.

#[path = "../tests/network/cluster.rs"]
mod cluster;

use std::io::Write;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use proxy::kernel::{Config, Plane};
use state::Protocol::Tcp;

use cluster::{Cluster, PortOf};

const PORT: [PortOf; 1] = [(Tcp, 80, None)];
const CHANGES: u32 = 50;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let count: u32 = std::env::args().nth(1).as_deref().unwrap_or("10000").parse()?;
    let mut cluster = Cluster::new();
    for i in 0..count {
        add(&mut cluster, i);
    }
    let mut plane = Plane::open(config())?;
    let snapshot = cluster.snapshot();
    let start = Instant::now();
    plane.apply(snapshot)?;
    println!("{count} Services, the data plane: {:?}", start.elapsed());
    let start = Instant::now();
    assert!(plane.resync()?.is_empty(), "what was loaded is there");
    println!("{count} Services, read back and compared: {:?}", start.elapsed());
    let more = changes(&mut plane, &mut cluster, count, add)?;
    println!("one Service more, median of {CHANGES}: {more:?}");
    let less = changes(&mut plane, &mut cluster, count, |cluster, i| cluster.remove(&name(i)))?;
    println!("one Service less, median of {CHANGES}: {less:?}");
    nft("delete table ip coracle-bench1\n")?;
    match nft(&script(0..count, true)) {
        Ok(time) => println!("{count} Services, nft -f: {time:?}"),
        Err(error) => return Err(format!("{error}: in a user namespace it cannot send that much at once").into()),
    }
    println!("one Service more, nft -f: {:?}", nft(&script(count..count + 1, false))?);
    nft("delete table ip coracle-bench1\n")?;
    Ok(())
}

/// The median time of one change among many Services.
fn changes(
    plane: &mut Plane,
    cluster: &mut Cluster,
    first: u32,
    change: impl Fn(&mut Cluster, u32),
) -> Result<Duration, proxy::Error> {
    let mut times: Vec<Duration> = Vec::new();
    for i in first..first + CHANGES {
        change(cluster, i);
        let snapshot = cluster.snapshot();
        let start = Instant::now();
        plane.apply(snapshot)?;
        times.push(start.elapsed());
    }
    times.sort();
    Ok(times[times.len() / 2])
}

fn name(i: u32) -> String {
    format!("service-{i}")
}

fn add(cluster: &mut Cluster, i: u32) {
    let name = name(i);
    cluster.service(&name, &address(i).to_string(), &PORT);
    cluster.endpoints(&name, &PORT, 8080, &["10.244.0.2", "10.244.0.3"]);
}

fn address(i: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 1, 0)) + i)
}

fn config() -> Config {
    Config {
        cluster_id: "bench1".into(),
        node_name: "node".into(),
        node_addresses: vec![[192, 0, 2, 1].into()],
        pod_cidrs: vec!["10.244.0.0/16".parse().expect("a network")],
        service_cidrs: vec!["10.96.0.0/12".parse().expect("a network")],
        dns: Vec::new(),
        local: Vec::new(),
        own_network: true,
        keep: false,
    }
}

/// The same maps and elements in nft's language.
fn script(services: std::ops::Range<u32>, table: bool) -> String {
    let mut text = String::new();
    if table {
        text += "table ip coracle-bench1 {
            map services { type ipv4_addr . inet_proto . inet_service : verdict; }
            map endpoints { type ipv4_addr . inet_proto . inet_service . mark : ipv4_addr . inet_service; }
            chain n2 { }
        }\n";
    }
    let all: Vec<Ipv4Addr> = services.map(address).collect();
    let endpoint = |a: &Ipv4Addr, i: u32| format!("{a} . tcp . 80 . {i} : 10.244.0.{} . 8080", i + 2);
    let endpoints: Vec<String> = all.iter().flat_map(|a| [endpoint(a, 0), endpoint(a, 1)]).collect();
    let services: Vec<String> = all.iter().map(|a| format!("{a} . tcp . 80 : goto n2")).collect();
    text += &format!("add element ip coracle-bench1 endpoints {{ {} }}\n", endpoints.join(", "));
    text += &format!("add element ip coracle-bench1 services {{ {} }}\n", services.join(", "));
    text
}

fn nft(script: &str) -> Result<Duration, Box<dyn std::error::Error>> {
    let start = Instant::now();
    let mut child = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn()?;
    child.stdin.take().ok_or("no pipe")?.write_all(script.as_bytes())?;
    if !child.wait()?.success() {
        return Err("nft failed".into());
    }
    Ok(start.elapsed())
}
