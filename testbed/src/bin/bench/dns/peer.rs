//! The servers under measure, each a process with one thread for questions, on one CPU.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use testbed::{NODE, OUTSIDE, need};

use super::cluster::{self, DOMAIN};

/// What is measured; the first is the limit.
pub(crate) const ALL: [&str; 5] = ["raw", "coracle", "hickory", "unbound", "dnsmasq"];
/// The server outside that all others forward to.
pub(crate) const UPSTREAM: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(OUTSIDE), 5300);
/// The port of the first server.
const PORT: u16 = 5301;
/// How long a server may take to load its names.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server; it ends with this value, and with the namespace.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts one of [`ALL`], which then answers for so many Services.
    pub(crate) fn start(name: &'static str, services: usize, pinned: bool, dir: &Path) -> anyhow::Result<Self> {
        let at = ALL.iter().position(|one| *one == name).context("no such server")?;
        let address = SocketAddr::new(NODE.into(), PORT + at as u16);
        let mut command = match pinned {
            true => on_cpu(0),
            false => Command::new("env"),
        };
        match name {
            "unbound" => {
                let path = dir.join("unbound.conf");
                std::fs::write(&path, unbound(address, services, &dir.join("unbound.log"))?)?;
                command.arg(need("unbound")).arg("-d").arg("-c").arg(path);
            }
            "dnsmasq" => {
                let (path, hosts) = (dir.join("dnsmasq.conf"), dir.join("hosts"));
                std::fs::write(&hosts, hosts_of(services)?)?;
                std::fs::write(&path, dnsmasq(address, &hosts))?;
                let config = format!("--conf-file={}", path.display());
                command.arg(need("dnsmasq")).args(["--keep-in-foreground", &config]);
            }
            own => {
                command.arg(std::env::current_exe()?).args(["dns-server", own]);
                command.args([address.to_string(), UPSTREAM.to_string(), services.to_string()]);
            }
        }
        Self::spawn(command, name, address)
    }

    /// Starts the server that all others forward to.
    pub(crate) fn upstream() -> anyhow::Result<Self> {
        let mut command = testbed::outside("env");
        command.arg(std::env::current_exe()?).args(["dns-server", "raw"]);
        command.args([UPSTREAM.to_string(), UPSTREAM.to_string(), "0".to_owned()]);
        Self::spawn(command, "upstream", UPSTREAM)
    }

    fn spawn(mut command: Command, name: &'static str, address: SocketAddr) -> anyhow::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("start {command:?}"))?;
        let said = BufReader::new(child.stdout.take().context("no standard output")?);
        let mut peer = Self { name, address, child, said };
        peer.answers()?;
        Ok(peer)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its first answer.
    fn answers(&mut self) -> anyhow::Result<()> {
        let socket = UdpSocket::bind(("0.0.0.0", 0))?;
        socket.connect(self.address)?;
        socket.set_read_timeout(Some(Duration::from_millis(20)))?;
        let (began, question) = (Instant::now(), super::question(&cluster::name(0)));
        while began.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended: {status}", self.name);
            }
            let mut answer = [0; 512];
            if socket.send(&question).is_ok() && socket.recv(&mut answer).is_ok() && answer[3] & 15 == 0 {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        bail!("{} does not answer within {PATIENCE:?}", self.name)
    }

    /// Says a line to one of our own.
    pub(crate) fn tell(&mut self, line: &str) -> anyhow::Result<()> {
        let stdin = self.child.stdin.as_mut().context("no standard input")?;
        Ok(writeln!(stdin, "{line}")?)
    }

    /// The numbers in the next line that one of our own says.
    pub(crate) fn hear(&mut self) -> anyhow::Result<Vec<f64>> {
        let mut line = String::new();
        self.said.read_line(&mut line)?;
        line.split_whitespace().map(|number| Ok(number.parse()?)).collect()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that runs the program given as further arguments on this CPU only.
pub(crate) fn on_cpu(cpu: usize) -> Command {
    let mut command = Command::new(need("taskset"));
    command.args(["-c", &cpu.to_string()]);
    command
}

fn unbound(address: SocketAddr, services: usize, log: &Path) -> anyhow::Result<String> {
    let (ip, port) = (address.ip(), address.port());
    let mut text = format!(
        "server:
  interface: {ip}
  port: {port}
  access-control: 0.0.0.0/0 allow
  num-threads: 1
  outgoing-range: 4096
  num-queries-per-thread: 4096
  do-daemonize: no
  logfile: \"{}\"
  username: \"\"
  chroot: \"\"
  pidfile: \"\"
  module-config: \"iterator\"
  local-zone: \"{DOMAIN}.\" static
  local-data: \"{DOMAIN}. 5 IN SOA ns.{DOMAIN}. hostmaster.{DOMAIN}. 1 7200 1800 86400 5\"
",
        log.display()
    );
    for index in 0..services {
        writeln!(text, "  local-data: \"{}. 5 IN A {}\"", cluster::name(index), cluster::address(index, 0))?;
    }
    let (ip, port) = (UPSTREAM.ip(), UPSTREAM.port());
    write!(text, "remote-control:\n  control-enable: no\nforward-zone:\n  name: \".\"\n  forward-addr: {ip}@{port}\n")?;
    Ok(text)
}

fn dnsmasq(address: SocketAddr, hosts: &Path) -> String {
    format!(
        "user=root
pid-file=
port={}
listen-address={}
bind-interfaces
no-hosts
addn-hosts={}
local=/{DOMAIN}/
local-ttl=5
no-resolv
server={}#{}
cache-size=10000
dns-forward-max=10000
",
        address.port(),
        address.ip(),
        hosts.display(),
        UPSTREAM.ip(),
        UPSTREAM.port()
    )
}

fn hosts_of(services: usize) -> anyhow::Result<String> {
    let mut text = String::new();
    for index in 0..services {
        writeln!(text, "{} {}", cluster::address(index, 0), cluster::name(index))?;
    }
    Ok(text)
}
