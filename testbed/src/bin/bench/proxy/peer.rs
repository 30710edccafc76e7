//! Ways from a client to a server, each in a topology of its own.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use anyhow::bail;

use super::topology::{self, NODE, PODS, Topology};
use super::{cluster, iptables, ours, server};
use crate::process::{Process, find};

/// Connection tracking, and no rule that makes anything of it.
const TRACKED: &str = "table ip tracked {
    chain forward { type filter hook forward priority 0; ct state invalid drop; }
    chain output { type filter hook output priority 0; ct state invalid drop; }
}\n";

/// What is between client and server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing but a router.
    Direct,
    /// A router that tracks connections.
    Tracked,
    /// The kernel plane with so many Services.
    Kernel(usize),
    /// The BPF plane in front of it.
    Sockets(usize),
    /// Rules of kube-proxy's shape for so many Services, loaded by this program.
    Iptables(&'static str, usize),
    /// The user-space plane.
    User,
    Nginx,
    Haproxy,
}

impl Kind {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Direct => "direct".into(),
            Self::Tracked => "direct, tracked".into(),
            Self::Kernel(services) => format!("coracle kernel, {services}"),
            Self::Sockets(services) => format!("coracle kernel + BPF, {services}"),
            Self::Iptables(program, services) => format!("{}, {services}", program.trim_end_matches("-restore")),
            Self::User => "coracle user".into(),
            Self::Nginx => "nginx stream".into(),
            Self::Haproxy => "haproxy".into(),
        }
    }
}

/// Where the client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    Pod,
    Node,
    Outside,
}

impl From {
    fn part(self) -> &'static str {
        match self {
            Self::Pod => "client",
            Self::Node => "node",
            Self::Outside => "outside",
        }
    }
}

/// A way, which ends with this value.
pub(crate) struct Peer {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    topology: Topology,
    pub(crate) server: Process,
    /// The program between the two, if there is one.
    pub(crate) relay: Option<Process>,
    _plane: Option<proxy::kernel::Plane>,
    sockets: Option<ours::Sockets>,
}

impl Peer {
    /// Makes a topology and starts what is in it.
    pub(crate) fn start(kind: Kind, dir: &Path) -> anyhow::Result<Self> {
        let name = kind.name();
        let short = name.replace([' ', ',', '+'], "");
        let topology = Topology::build(&short)?;
        let server = spawn(&topology, &["proxy-server", &short])?;
        let mut this = Self { kind, name, topology, server, relay: None, _plane: None, sockets: None };
        match kind {
            Kind::Direct => {}
            Kind::Tracked => {
                topology::feed(this.topology.command("node").arg(testbed::need("nft")).args(["-f", "-"]), TRACKED)?;
            }
            Kind::Kernel(services) | Kind::Sockets(services) => {
                let snapshot = cluster::index(services)?.snapshot();
                let mut plane = this.topology.within("node", ours::kernel)?;
                plane.apply(snapshot.clone())?;
                this._plane = Some(plane);
                if kind == Kind::Sockets(services) {
                    this.sockets = Some(ours::Sockets::open(services, &snapshot)?);
                }
            }
            Kind::Iptables(program, services) => {
                let mut command = this.topology.command("node");
                topology::feed(command.arg(find(program)?), &iptables::whole(services))?;
            }
            Kind::User => this.relay = Some(spawn(&this.topology, &["proxy-relay"])?),
            Kind::Nginx => {
                let path = dir.join("nginx.conf");
                std::fs::write(&path, nginx(dir)?)?;
                let mut command = this.topology.command("node");
                command.arg(find("nginx")?).arg("-c").arg(path).arg("-e").arg(dir.join("error.log"));
                this.start_relay(command)?;
            }
            Kind::Haproxy => {
                let path = dir.join("haproxy.conf");
                std::fs::write(&path, haproxy())?;
                let mut command = this.topology.command("node");
                command.arg(find("haproxy")?).arg("-db").arg("-f").arg(path);
                this.start_relay(command)?;
            }
        }
        Ok(this)
    }

    fn start_relay(&mut self, command: Command) -> anyhow::Result<()> {
        let listens = || Ok(TcpStream::connect((NODE, cluster::NODE_PORT)).is_ok());
        self.relay = Some(Process::another(command, || self.topology.within("node", listens))?);
        Ok(())
    }

    /// Does something where a client is.
    pub(crate) fn within<T>(&self, from: From, act: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        let _inside = self.sockets.as_ref().map(ours::Sockets::enter).transpose()?;
        self.topology.within(from.part(), act)
    }

    /// What a client there connects to.
    pub(crate) fn addresses(&self, from: From) -> Vec<SocketAddr> {
        let at = |address: Ipv4Addr, port| SocketAddr::from((address, port));
        match self.kind {
            Kind::Direct | Kind::Tracked => PODS.iter().map(|pod| at(*pod, server::PORT)).collect(),
            Kind::Kernel(services) | Kind::Sockets(services) | Kind::Iptables(_, services) if from != From::Outside => {
                vec![at(cluster::address(cluster::target(services)), cluster::PORT)]
            }
            _ => vec![at(NODE, cluster::NODE_PORT)],
        }
    }
}

/// This program on the node, which says a line as soon as it does its work.
fn spawn(topology: &Topology, arguments: &[&str]) -> anyhow::Result<Process> {
    let mut command = topology.command("node");
    command.arg(std::env::current_exe()?).args(arguments);
    Process::ours(command)
}

fn nginx(dir: &Path) -> anyhow::Result<String> {
    let module = Path::new("/usr/lib/nginx/modules/ngx_stream_module.so");
    if !module.exists() {
        bail!("nginx's stream module is missing: apt-get install libnginx-mod-stream");
    }
    let (module, dir) = (module.display(), dir.display());
    let servers = PODS.map(|pod| format!("server {pod}:{};", server::PORT)).join(" ");
    let port = cluster::NODE_PORT;
    Ok(format!(
        "load_module {module};
daemon off; master_process off; worker_processes 1; pid {dir}/nginx.pid;
events {{ worker_connections 4096; }}
stream {{
  upstream pods {{ random; {servers} }}
  proxy_buffer_size 256k;
  server {{ listen {NODE}:{port} backlog=4096; proxy_pass pods; }}
  server {{ listen {NODE}:{port} udp; proxy_pass pods; proxy_timeout 60s; }}
}}
"
    ))
}

fn haproxy() -> String {
    let servers = PODS.iter().enumerate().map(|(at, pod)| format!("  server pod{at} {pod}:{}\n", server::PORT));
    let port = cluster::NODE_PORT;
    format!(
        "global
  maxconn 4096
  nbthread 1
defaults
  mode tcp
  option splice-auto
  timeout connect 5s
  timeout client 60s
  timeout server 60s
listen pods
  bind {NODE}:{port} backlog 4096
  balance random
{}",
        servers.collect::<String>()
    )
}
