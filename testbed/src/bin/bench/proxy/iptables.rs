//! Rules of the shape that kube-proxy's iptables mode makes: a rule for each Service in one chain, a chain for each Service
//! with a rule for each endpoint, a chain for each endpoint. This is data for `iptables-restore`.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use super::cluster::{self, ENDPOINTS, NODE_PORT, PORT};
use super::server;

/// What stands before the chains of Services, in the table nat.
const NAT: &str = "*nat
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
";
/// The jumps that are made once, and the rules that do not depend on Services.
const HOOKS: &str = "-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING
";
const STATIC: &str = "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE --random-fully
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
";
const FILTER: &str = "*filter
:KUBE-SERVICES - [0:0]
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-FIREWALL - [0:0]
-A INPUT -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
-A INPUT -j KUBE-NODEPORTS
-A INPUT -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES
-A INPUT -j KUBE-FIREWALL
-A FORWARD -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
-A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD
-A FORWARD -m conntrack --ctstate NEW -j KUBE-SERVICES
-A FORWARD -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES
-A OUTPUT -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
-A OUTPUT -m conntrack --ctstate NEW -j KUBE-SERVICES
-A OUTPUT -j KUBE-FIREWALL
-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
";

/// All rules for so many Services.
pub(crate) fn whole(services: usize) -> String {
    let all = 0..services;
    let mut text = FILTER.to_owned() + NAT;
    all.clone().for_each(|index| declare(&mut text, index, services, ENDPOINTS));
    text += HOOKS;
    portals(&mut text, services);
    all.for_each(|index| chains(&mut text, index, services, ENDPOINTS));
    text + "COMMIT\n"
}

/// An endpoint joins a Service: all that leads to Services anew, and the chains of this one.
pub(crate) fn joins(index: usize, services: usize) -> String {
    let mut text = NAT.to_owned();
    declare(&mut text, index, services, ENDPOINTS + 1);
    portals(&mut text, services);
    chains(&mut text, index, services, ENDPOINTS + 1);
    text + "COMMIT\n"
}

fn portals(text: &mut String, services: usize) {
    text.push_str(STATIC);
    for index in 0..services {
        for protocol in cluster::protocols(index, services) {
            let (name, address, lower) = (name(index, protocol), cluster::address(index), protocol.to_lowercase());
            let _ = writeln!(
                text,
                "-A KUBE-SERVICES -d {address}/32 -p {lower} -m comment --comment \"default/svc-{index}:{protocol} cluster IP\" \
                 -m {lower} --dport {PORT} -j KUBE-SVC-{name}"
            );
            if index == cluster::target(services) {
                let _ =
                    writeln!(text, "-A KUBE-NODEPORTS -p {lower} -m {lower} --dport {NODE_PORT} -j KUBE-EXT-{name}");
            }
        }
    }
    text.push_str("-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\n");
}

fn declare(text: &mut String, index: usize, services: usize, endpoints: usize) {
    for protocol in cluster::protocols(index, services) {
        let name = name(index, protocol);
        let _ = writeln!(text, ":KUBE-SVC-{name} - [0:0]\n:KUBE-EXT-{name} - [0:0]");
        for number in 0..endpoints {
            let _ = writeln!(text, ":KUBE-SEP-{name}{number} - [0:0]");
        }
    }
}

fn chains(text: &mut String, index: usize, services: usize, count: usize) {
    for protocol in cluster::protocols(index, services) {
        let (name, address, lower) = (name(index, protocol), cluster::address(index), protocol.to_lowercase());
        let comment = format!("-m comment --comment \"default/svc-{index}:{protocol}\"");
        let _ = write!(
            text,
            "-A KUBE-EXT-{name} {comment} -j KUBE-MARK-MASQ\n-A KUBE-EXT-{name} -j KUBE-SVC-{name}\n\
             -A KUBE-SVC-{name} ! -s 10.244.0.0/15 -d {address}/32 -p {lower} {comment} -m {lower} --dport {PORT} \
             -j KUBE-MARK-MASQ\n"
        );
        let endpoints: Vec<Ipv4Addr> = cluster::endpoints(index, services, 0..count).collect();
        for (number, endpoint) in endpoints.iter().enumerate() {
            let part = 1.0 / (count - number) as f64;
            let chance = if number + 1 == count {
                String::new()
            } else {
                format!("-m statistic --mode random --probability {part:.10} ")
            };
            let _ = write!(
                text,
                "-A KUBE-SVC-{name} {comment} {chance}-j KUBE-SEP-{name}{number}\n\
                 -A KUBE-SEP-{name}{number} -s {endpoint}/32 {comment} -j KUBE-MARK-MASQ\n\
                 -A KUBE-SEP-{name}{number} -p {lower} {comment} -m {lower} -j DNAT --to-destination {endpoint}:{}\n",
                server::PORT
            );
        }
    }
}

/// A chain's name has 28 characters at most.
fn name(index: usize, protocol: &str) -> String {
    format!("{protocol}{index:012}")
}
