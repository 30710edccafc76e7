//! The proxies under measure, each a process with one thread for requests.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use super::backend::endpoints;
use super::case::Layer;
use super::certificates::host;
use crate::process::{Process, find};

/// The ports for plain requests and for TLS; each proxy has an address of its own.
pub(crate) const PORTS: [u16; 2] = [80, 443];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Coracle,
    /// With an access log and metrics, as `coracle up` has them.
    CoracleLogged,
    Nginx,
    /// With an access log.
    NginxLogged,
    Haproxy,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] =
        [Self::Coracle, Self::CoracleLogged, Self::Nginx, Self::NginxLogged, Self::Haproxy];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Coracle => "coracle",
            Self::CoracleLogged => "coracle, access log",
            Self::Nginx => "nginx",
            Self::NginxLogged => "nginx, access log",
            Self::Haproxy => "haproxy",
        }
    }
}

/// A proxy, which ends with this value.
pub(crate) struct Peer {
    pub(crate) kind: Kind,
    address: Ipv4Addr,
    process: Process,
}

impl Peer {
    /// Starts one for so many hosts, whose certificates are in `dir`.
    pub(crate) fn start(kind: Kind, hosts: usize, dir: &Path) -> anyhow::Result<Self> {
        let address = Ipv4Addr::new(127, if hosts > 1 { 3 } else { 2 }, 0, kind as u8 + 1);
        let (file, own) = (format!("{address}.conf"), dir.join(address.to_string()));
        fs::create_dir_all(&own)?;
        let path = dir.join(file);
        let mut command;
        match kind {
            Kind::Coracle | Kind::CoracleLogged => {
                command = Command::new(std::env::current_exe()?);
                command.args(["ingress-relay", &address.to_string(), &hosts.to_string()]).arg(dir);
                if kind == Kind::CoracleLogged {
                    command.arg("--log").arg(own.join("access.log"));
                }
            }
            Kind::Nginx | Kind::NginxLogged => {
                fs::write(&path, nginx(address, hosts, kind == Kind::NginxLogged, dir, &own)?)?;
                command = Command::new(find("nginx")?);
                command.arg("-c").arg(&path).arg("-e").arg(own.join("error.log"));
            }
            Kind::Haproxy => {
                fs::write(&path, haproxy(address, hosts, dir, &own)?)?;
                command = Command::new(find("haproxy")?);
                command.arg("-db").arg("-f").arg(&path);
            }
        }
        let listens = || Ok(PORTS.iter().all(|port| TcpStream::connect((address, *port)).is_ok()));
        Ok(Self { kind, address, process: Process::another(command, listens)? })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub(crate) fn to(&self, layer: Layer) -> SocketAddr {
        SocketAddr::from((self.address, PORTS[usize::from(layer != Layer::Plain)]))
    }
}

/// Bodies are passed on as they come, as by the other proxies; connections are kept for as long as they can be.
fn nginx(address: Ipv4Addr, hosts: usize, log: bool, dir: &Path, own: &Path) -> anyhow::Result<String> {
    let log = if log { format!("{}/access.log", own.display()) } else { "off".into() };
    let servers = endpoints().map(|endpoint| format!("server {endpoint};")).join(" ");
    let [plain, tls] = PORTS;
    let mut text = format!(
        "daemon off; master_process off; worker_processes 1; pid {own}/pid;
events {{ worker_connections 4096; }}
http {{
  access_log {log}; server_tokens off; tcp_nodelay on;
  keepalive_requests 1000000000; keepalive_timeout 75s;
  server_names_hash_max_size 8192; server_names_hash_bucket_size 128;
  client_body_temp_path {own}/body; proxy_temp_path {own}/proxy;
  fastcgi_temp_path {own}/fastcgi; scgi_temp_path {own}/scgi; uwsgi_temp_path {own}/uwsgi;
  upstream pods {{ {servers} keepalive 256; keepalive_requests 1000000000; }}
  proxy_http_version 1.1; proxy_request_buffering off; proxy_max_temp_file_size 0;
  proxy_buffer_size 16k; proxy_buffers 8 16k; proxy_busy_buffers_size 32k;
  proxy_set_header Host $http_host; proxy_set_header Connection \"\";
  proxy_set_header X-Request-ID $request_id; proxy_set_header X-Real-IP $remote_addr;
  proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Host $http_host;
  proxy_set_header X-Forwarded-Port $server_port; proxy_set_header X-Forwarded-Proto $scheme;
  proxy_set_header X-Forwarded-Scheme $scheme; proxy_set_header X-Scheme $scheme;
  ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache shared:tls:10m;
",
        own = own.display(),
    );
    for (number, host) in (0..hosts).map(host).enumerate() {
        let (pem, backlog) = (dir.join(format!("{host}.pem")), if number == 0 { "backlog=4096" } else { "" });
        writeln!(
            text,
            "  server {{ listen {address}:{plain} {backlog}; listen {address}:{tls} ssl http2 {backlog}; server_name {host};
    ssl_certificate {pem}; ssl_certificate_key {pem}; location / {{ proxy_pass http://pods; }} }}",
            pem = pem.display()
        )?;
    }
    Ok(text + "}\n")
}

fn haproxy(address: Ipv4Addr, hosts: usize, dir: &Path, own: &Path) -> anyhow::Result<String> {
    let (mut map, mut certificates) = (String::new(), String::new());
    for host in (0..hosts).map(host) {
        writeln!(map, "{host} pods")?;
        writeln!(certificates, "{}/{host}.pem", dir.display())?;
    }
    fs::write(own.join("hosts.map"), map)?;
    fs::write(own.join("certificates"), certificates)?;
    let mut text = format!(
        "global
  maxconn 4096
  nbthread 1
defaults
  mode http
  http-reuse always
  option splice-auto
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout http-keep-alive 75s
frontend all
  bind {address}:{} backlog 4096
  bind {address}:{} backlog 4096 ssl crt-list {own}/certificates alpn h2,http/1.1
  http-request set-header X-Request-ID %[uuid]
  http-request set-header X-Real-IP %[src]
  http-request set-header X-Forwarded-For %[src]
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header X-Forwarded-Port %[dst_port]
  http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]
  http-request set-header X-Forwarded-Scheme %[ssl_fc,iif(https,http)]
  http-request set-header X-Scheme %[ssl_fc,iif(https,http)]
  use_backend %[req.hdr(host),lower,map({own}/hosts.map)]
backend pods
  balance roundrobin
",
        PORTS[0],
        PORTS[1],
        own = own.display(),
    );
    for (at, endpoint) in endpoints().iter().enumerate() {
        writeln!(text, "  server pod{at} {endpoint}")?;
    }
    Ok(text)
}
