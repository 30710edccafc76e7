//! The files that every container gets: /etc/hosts, /etc/hostname, /etc/resolv.conf.

use k8s_openapi::api::core::v1::{HostAlias, PodSpec};
use std::net::Ipv4Addr;

/// Most search domains in a resolv.conf (Kubernetes' limit since 1.28).
const SEARCH_MAX: usize = 32;
/// Most name servers in a resolv.conf (the C library's limit).
const SERVERS_MAX: usize = 3;

/// A resolv.conf, taken apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resolv {
    /// Whom to ask.
    pub servers: Vec<String>,
    /// What is put behind names that are not complete.
    pub search: Vec<String>,
    /// Like `ndots:5`.
    pub options: Vec<String>,
}

impl Resolv {
    /// Reads the file's text; unknown lines are left out.
    pub fn parse(text: &str) -> Self {
        let mut resolv = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace().map(str::to_owned);
            match words.next().as_deref() {
                Some("nameserver") => resolv.servers.extend(words.next()),
                Some("search" | "domain") => resolv.search = words.collect(),
                Some("options") => resolv.options.extend(words),
                _ => {}
            }
        }
        resolv
    }

    /// The file's text.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        if !self.search.is_empty() {
            text.push_str(&format!("search {}\n", self.search.join(" ")));
        }
        for server in &self.servers {
            text.push_str(&format!("nameserver {server}\n"));
        }
        if !self.options.is_empty() {
            text.push_str(&format!("options {}\n", self.options.join(" ")));
        }
        text
    }
}

/// A pod's resolv.conf by its dnsPolicy and dnsConfig. `host` is the node's own.
pub fn resolv(spec: &PodSpec, namespace: &str, domain: &str, dns: Ipv4Addr, host: &Resolv) -> Resolv {
    let host_network = spec.host_network.unwrap_or(false);
    let cluster = match spec.dns_policy.as_deref().unwrap_or("ClusterFirst") {
        "ClusterFirst" => !host_network,
        "ClusterFirstWithHostNet" => true,
        "None" => {
            return configured(spec, Resolv::default());
        }
        _ => false,
    };
    if !cluster {
        return configured(spec, host.clone());
    }
    let own = [format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.to_owned()];
    configured(
        spec,
        Resolv {
            servers: vec![dns.to_string()],
            search: own.into_iter().chain(host.search.clone()).collect(),
            options: vec!["ndots:5".into()],
        },
    )
}

/// Adds the pod's dnsConfig: its options replace those of the same name.
fn configured(spec: &PodSpec, mut resolv: Resolv) -> Resolv {
    if let Some(config) = &spec.dns_config {
        resolv.servers.extend(config.nameservers.iter().flatten().cloned());
        resolv.search.extend(config.searches.iter().flatten().cloned());
        for option in config.options.iter().flatten() {
            let name = option.name.clone().unwrap_or_default();
            resolv.options.retain(|known| known.split(':').next() != Some(&name));
            resolv.options.push(match &option.value {
                Some(value) => format!("{name}:{value}"),
                None => name,
            });
        }
    }
    for list in [&mut resolv.servers, &mut resolv.search] {
        let mut seen = std::collections::BTreeSet::new();
        list.retain(|entry| seen.insert(entry.clone()));
    }
    resolv.servers.truncate(SERVERS_MAX);
    resolv.search.truncate(SEARCH_MAX);
    resolv
}

/// A pod's host name, and the name under which its subdomain has it.
pub(crate) fn hostname(spec: &PodSpec, name: &str, namespace: &str, domain: &str) -> (String, Option<String>) {
    let host = spec.hostname.as_deref().filter(|host| !host.is_empty());
    let mut host = host.unwrap_or(name).to_owned();
    // Linux allows 64 bytes, a DNS label 63.
    host.truncate(63);
    let host = host.trim_end_matches(['-', '.']).to_owned();
    let full = spec.subdomain.as_deref().filter(|sub| !sub.is_empty());
    let full = full.map(|sub| format!("{host}.{sub}.{namespace}.svc.{domain}"));
    if let (true, Some(full)) = (spec.set_hostname_as_fqdn.unwrap_or(false), &full) {
        return (full.chars().take(64).collect(), Some(full.clone()));
    }
    (host, full)
}

/// A pod's /etc/hosts as kubelet writes it.
pub(crate) fn hosts(address: &str, host: &str, full: Option<&str>, aliases: &[HostAlias]) -> String {
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n\
         127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\n\
         fe00::0\tip6-mcastprefix\n\
         fe00::1\tip6-allnodes\n\
         fe00::2\tip6-allrouters\n",
    );
    match full {
        Some(full) => text.push_str(&format!("{address}\t{full}\t{host}\n")),
        None => text.push_str(&format!("{address}\t{host}\n")),
    }
    text.push_str(&aliased(aliases));
    text
}

/// The lines of hostAliases.
pub(crate) fn aliased(aliases: &[HostAlias]) -> String {
    let mut text = String::new();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
    }
    for alias in aliases {
        let names = alias.hostnames.as_deref().unwrap_or_default().join("\t");
        text.push_str(&format!("{}\t{names}\n", alias.ip));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(mut value: serde_json::Value) -> PodSpec {
        value["containers"] = json!([]);
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn names_are_resolved_as_the_policy_says() {
        let host = Resolv::parse("# x\nnameserver 192.0.2.53\nsearch lan\noptions edns0\n");
        let cluster = "search dev.svc.cluster.local svc.cluster.local cluster.local lan\n\
                       nameserver 10.96.0.10\noptions ndots:5\n";
        let own = "search lan\nnameserver 192.0.2.53\noptions edns0\n";
        let with_config = json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["192.0.2.1"],
            "searches": ["a.b", "a.b"], "options": [{"name": "ndots", "value": "2"}, {"name": "x"}]}});
        for (value, text) in [
            (json!({}), cluster),
            (json!({"dnsPolicy": "ClusterFirst"}), cluster),
            (json!({"dnsPolicy": "Default"}), own),
            (json!({"hostNetwork": true}), own),
            (json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"}), cluster),
            (with_config, "search a.b\nnameserver 192.0.2.1\noptions ndots:2 x\n"),
        ] {
            let dns = Ipv4Addr::new(10, 96, 0, 10);
            let made = resolv(&spec(value.clone()), "dev", "cluster.local", dns, &host);
            assert_eq!(made.text(), text, "{value}");
        }
    }

    #[test]
    fn options_of_the_pod_replace_the_clusters() {
        let spec = spec(json!({"dnsConfig": {"options": [{"name": "ndots", "value": "1"}]}}));
        let dns = Ipv4Addr::new(10, 96, 0, 10);
        let made = resolv(&spec, "a", "c.l", dns, &Resolv::default());
        assert_eq!(made.options, ["ndots:1"]);
    }

    #[test]
    fn host_names_and_hosts_files() {
        let plain = hostname(&spec(json!({})), "web-0", "dev", "c.l");
        assert_eq!(plain, ("web-0".into(), None));
        let value = json!({"hostname": "h", "subdomain": "s"});
        let (host, full) = hostname(&spec(value), "web-0", "dev", "c.l");
        assert_eq!((host.as_str(), full.as_deref()), ("h", Some("h.s.dev.svc.c.l")));
        let aliases = [HostAlias { ip: "192.0.2.9".into(), hostnames: Some(vec!["a".into(), "b".into()]) }];
        let text = hosts("10.244.0.2", "h", full.as_deref(), &aliases);
        assert!(text.contains("\n10.244.0.2\th.s.dev.svc.c.l\th\n"));
        assert!(text.ends_with("192.0.2.9\ta\tb\n"));
        let long = hostname(&spec(json!({})), &"a".repeat(80), "dev", "c.l").0;
        assert_eq!(long.len(), 63);
    }
}
