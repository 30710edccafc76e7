//! A node with pods behind it and a machine outside, each a network namespace.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use testbed::need;

/// The node's address on the wire to the outside, and the address there.
pub(crate) const NODE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// The pod that asks, and those that answer.
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 9);
pub(crate) const PODS: [Ipv4Addr; 3] =
    [Ipv4Addr::new(10, 244, 0, 2), Ipv4Addr::new(10, 244, 0, 3), Ipv4Addr::new(10, 244, 0, 4)];
/// What pods send everything to.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// Namespaces NAME-node, -outside, -client and -pod0 to -pod2; they end with the mount namespace.
pub(crate) struct Topology {
    name: String,
}

impl Topology {
    /// One that is there.
    pub(crate) fn of(name: &str) -> Self {
        Self { name: name.to_owned() }
    }

    /// Makes the namespaces, and the links between them.
    pub(crate) fn build(name: &str) -> anyhow::Result<Self> {
        let this = Self::of(name);
        let pods = PODS.iter().enumerate().map(|(at, address)| (format!("pod{at}"), *address));
        let pods: Vec<_> = pods.chain([("client".to_owned(), CLIENT)]).collect();
        let mut node = format!(
            "link set lo up\nlink add out type veth peer name eth0 netns {name}-outside\n\
             addr add {NODE}/24 dev out\nlink set out up\nroute add default via {OUTSIDE}\n"
        );
        let parts = ["node", "outside"].into_iter().chain(pods.iter().map(|(pod, _)| pod.as_str()));
        ip(&[], &parts.map(|part| format!("netns add {name}-{part}\n")).collect::<String>())?;
        for (pod, address) in &pods {
            node += &format!(
                "link add {pod} type veth peer name eth0 netns {name}-{pod}\naddr add {GATEWAY}/32 dev {pod} scope link\n\
                 link set {pod} up\nroute add {address}/32 dev {pod} src {NODE}\n"
            );
        }
        this.ip("node", &node)?;
        let outside = format!("addr add {OUTSIDE}/24 dev eth0\nlink set eth0 up\nroute add default via {NODE}\n");
        this.ip("outside", &outside)?;
        for (pod, address) in &pods {
            let wire = format!("link set eth0 up\nroute add {GATEWAY} dev eth0 scope link\n");
            let pod_lines = format!("addr add {address}/32 dev eth0\n{wire}route add default via {GATEWAY} dev eth0\n");
            this.ip(pod, &pod_lines)?;
        }
        this.set("node", "ip_forward", "1")?;
        // As long as it usually is, it would fill the table, and what comes after would not be the same.
        this.set("node", "../netfilter/nf_conntrack_tcp_timeout_time_wait", "5")?;
        for clients in ["client", "node", "outside"] {
            this.set(clients, "ip_local_port_range", "1024 30000")?;
            this.set(clients, "tcp_tw_reuse", "1")?;
        }
        Ok(this)
    }

    fn ip(&self, part: &str, lines: &str) -> anyhow::Result<()> {
        ip(&["-n", &format!("{}-{part}", self.name)], lines)
    }

    fn set(&self, part: &str, key: &str, value: &str) -> anyhow::Result<()> {
        self.within(part, || fs::write(format!("/proc/sys/net/ipv4/{key}"), value).with_context(|| key.to_owned()))
    }

    /// Does something in one of the namespaces. Sockets that it makes stay there.
    pub(crate) fn within<T>(&self, part: &str, act: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        let own = File::open("/proc/thread-self/ns/net")?;
        let there = File::open(self.path(part)).with_context(|| self.path(part))?;
        move_into_link_name_space(there.as_fd(), Some(LinkNameSpaceType::Network))?;
        let result = act();
        move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::Network))?;
        result
    }

    /// A command that runs the program given as further arguments in one of the namespaces.
    pub(crate) fn command(&self, part: &str) -> Command {
        let mut command = Command::new(need("nsenter"));
        command.arg(format!("--net={}", self.path(part)));
        command
    }

    pub(crate) fn path(&self, part: &str) -> String {
        format!("/run/netns/{}-{part}", self.name)
    }
}

fn ip(arguments: &[&str], lines: &str) -> anyhow::Result<()> {
    let mut command = Command::new(need("ip"));
    feed(command.args(arguments).args(["-batch", "-"]), lines)
}

/// Runs a program that reads this on its standard input, and has to succeed.
pub(crate) fn feed(command: &mut Command, text: &str) -> anyhow::Result<()> {
    let mut child = command.stdin(Stdio::piped()).spawn().with_context(|| format!("start {command:?}"))?;
    child.stdin.take().context("no standard input")?.write_all(text.as_bytes())?;
    let status = child.wait()?;
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    Ok(())
}
