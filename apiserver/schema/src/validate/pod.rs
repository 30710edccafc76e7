use std::collections::BTreeSet;

use serde_json::Value;

use super::container::{self, Place};
use super::node::EFFECTS;
use super::{items, labels, number, pod_update, scheduling, security, text, volume};
use crate::field_error::Report;
use crate::names;
use crate::path::Path;

const RESTART_POLICIES: [&str; 3] = ["Always", "OnFailure", "Never"];
const DNS_POLICIES: [&str; 4] = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];

pub(super) fn pod(report: &mut Report, pod: &Value, old: Option<&Value>) {
    let path = Path::Root.field("spec");
    spec(report, &path, pod.get("spec").unwrap_or(&Value::Null));
    if let Some(old) = old {
        pod_update::update(report, &path, pod, old);
    }
}

pub(super) fn pod_template(report: &mut Report, object: &Value, _: Option<&Value>) {
    template(report, &Path::Root.field("template"), object.get("template").unwrap_or(&Value::Null));
}

/// The template of a workload: labels, annotations and the spec.
pub(super) fn template(report: &mut Report, path: &Path<'_>, template: &Value) {
    let metadata = template.get("metadata").unwrap_or(&Value::Null);
    let metadata_path = path.field("metadata");
    labels::labels(report, &metadata_path.field("labels"), metadata.get("labels"));
    let annotations = metadata.get("annotations").and_then(Value::as_object);
    for (key, _) in annotations.into_iter().flatten() {
        let wrong = names::qualified_name(&key.to_lowercase());
        report.invalid_all(&metadata_path.field("annotations"), key.as_str(), wrong);
    }
    let pod = template.get("spec").unwrap_or(&Value::Null);
    spec(report, &path.field("spec"), pod);
    if pod.get("ephemeralContainers").is_some() {
        let path = path.field("spec");
        report.forbidden(&path.field("ephemeralContainers"), "ephemeral containers not allowed in pod template");
    }
}

fn spec(report: &mut Report, path: &Path<'_>, spec: &Value) {
    let volumes = volume::volumes(report, &path.field("volumes"), items(spec, "volumes"));
    containers(report, path, spec, &volumes);
    report.one_of(&path.field("restartPolicy"), text(spec, "restartPolicy"), &RESTART_POLICIES);
    dns(report, path, spec);
    labels::labels(report, &path.field("nodeSelector"), spec.get("nodeSelector"));
    if let Some(seconds) = number(spec, "activeDeadlineSeconds") {
        let wrong = names::between(seconds, 1, i64::from(i32::MAX));
        report.invalid_all(&path.field("activeDeadlineSeconds"), seconds, wrong);
    }
    type Rule = fn(&str) -> Vec<String>;
    let named: [(&str, Rule); 7] = [
        ("serviceAccountName", names::dns_subdomain),
        ("nodeName", names::dns_subdomain),
        ("schedulerName", names::qualified_name),
        ("hostname", names::dns_label),
        ("subdomain", names::dns_label),
        ("priorityClassName", names::dns_subdomain),
        ("runtimeClassName", names::dns_subdomain),
    ];
    for (field, rule) in named {
        let name = text(spec, field);
        if !name.is_empty() {
            report.invalid_all(&path.field(field), name, rule(name));
        }
    }
    tolerations(report, &path.field("tolerations"), items(spec, "tolerations"));
    scheduling::affinity(report, &path.field("affinity"), spec.get("affinity"));
    let constraints = items(spec, "topologySpreadConstraints");
    scheduling::spread(report, &path.field("topologySpreadConstraints"), constraints);
    security::context(report, &path.field("securityContext"), spec.get("securityContext"));
    let policy = text(spec, "preemptionPolicy");
    if !matches!(policy, "" | "Never" | "PreemptLowerPriority") {
        report.not_supported(&path.field("preemptionPolicy"), policy, &["Never", "PreemptLowerPriority"]);
    }
    host_aliases(report, &path.field("hostAliases"), items(spec, "hostAliases"));
}

fn containers(report: &mut Report, path: &Path<'_>, spec: &Value, volumes: &BTreeSet<&str>) {
    let mut seen = BTreeSet::new();
    let lists = [("initContainers", true), ("containers", false)];
    for (field, init) in lists {
        let path = path.field(field);
        let place = Place { volumes, init, host_network: super::is_true(spec, "hostNetwork") };
        let list = items(spec, field);
        if list.is_empty() && !init {
            report.required(&path, "");
        }
        for (at, item) in list.iter().enumerate() {
            let path = path.item(at);
            container::container(report, &path, item, &place);
            let name = text(item, "name");
            if !name.is_empty() && !seen.insert(name) {
                report.duplicate(&path.field("name"), name);
            }
        }
    }
    host_ports(report, &path.field("containers"), items(spec, "containers"));
    let path = path.field("ephemeralContainers");
    for (at, item) in items(spec, "ephemeralContainers").iter().enumerate() {
        let path = path.item(at);
        let place = Place { volumes, init: false, host_network: false };
        container::container(report, &path, item, &place);
        let (name, target) = (text(item, "name"), text(item, "targetContainerName"));
        if !target.is_empty() && !seen.contains(target) {
            report.not_found(&path.field("targetContainerName"), target);
        }
        if !name.is_empty() && !seen.insert(name) {
            report.duplicate(&path.field("name"), name);
        }
        for field in ["ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle"] {
            if item.get(field).is_some() {
                report.forbidden(&path.field(field), "cannot be set for an Ephemeral Container");
            }
        }
        if item.get("resources").and_then(Value::as_object).is_some_and(|resources| !resources.is_empty()) {
            report.forbidden(&path.field("resources"), "cannot be set for an Ephemeral Container");
        }
    }
}

fn host_ports(report: &mut Report, path: &Path<'_>, containers: &[Value]) {
    let mut seen = BTreeSet::new();
    for (at, container) in containers.iter().enumerate() {
        let path = path.item(at);
        let path = path.field("ports");
        for (at, port) in items(container, "ports").iter().enumerate() {
            let Some(number) = number(port, "hostPort").filter(|number| *number != 0) else {
                continue;
            };
            let key = format!("{}/{}/{number}", text(port, "protocol"), text(port, "hostIP"));
            if !seen.insert(key.clone()) {
                report.duplicate(&path.item(at).field("hostPort"), key);
            }
        }
    }
}

fn dns(report: &mut Report, path: &Path<'_>, spec: &Value) {
    let policy = text(spec, "dnsPolicy");
    report.one_of(&path.field("dnsPolicy"), policy, &DNS_POLICIES);
    let path = path.field("dnsConfig");
    let config = spec.get("dnsConfig");
    let servers = config.map_or(&[][..], |config| items(config, "nameservers"));
    if policy == "None" && config.is_none() {
        report.required(&path, "must provide `dnsConfig` when `dnsPolicy` is None");
    } else if policy == "None" && servers.is_empty() {
        let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        report.required(&path.field("nameservers"), detail);
    }
    for (at, server) in servers.iter().filter_map(Value::as_str).enumerate() {
        report.invalid_all(&path.field("nameservers").item(at), server, names::ip(server));
    }
}

fn tolerations(report: &mut Report, path: &Path<'_>, tolerations: &[Value]) {
    for (at, toleration) in tolerations.iter().enumerate() {
        let path = path.item(at);
        let (key, operator, effect) =
            (text(toleration, "key"), text(toleration, "operator"), text(toleration, "effect"));
        if !key.is_empty() {
            report.invalid_all(&path.field("key"), key, names::qualified_name(key));
        } else if operator != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            report.invalid(&path.field("operator"), operator, detail);
        }
        match operator {
            "Equal" | "" => {
                let value = text(toleration, "value");
                report.invalid_all(&path.field("operator"), value, names::label_value(value));
            }
            "Exists" if !text(toleration, "value").is_empty() => {
                let detail = "value must be empty when `operator` is 'Exists'";
                report.invalid(&path.field("operator"), text(toleration, "value"), detail);
            }
            "Exists" => {}
            other => report.not_supported(&path.field("operator"), other, &["Equal", "Exists"]),
        }
        if !effect.is_empty() && !EFFECTS.contains(&effect) {
            report.not_supported(&path.field("effect"), effect, &EFFECTS);
        }
        if toleration.get("tolerationSeconds").is_some() && effect != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            report.invalid(&path.field("effect"), effect, detail);
        }
    }
}

fn host_aliases(report: &mut Report, path: &Path<'_>, aliases: &[Value]) {
    for (at, alias) in aliases.iter().enumerate() {
        let path = path.item(at);
        let ip = text(alias, "ip");
        report.invalid_all(&path.field("ip"), ip, names::ip(ip));
        for host in items(alias, "hostnames").iter().filter_map(Value::as_str) {
            report.invalid_all(&path.field("hostnames"), host, names::dns_subdomain(host));
        }
    }
}
