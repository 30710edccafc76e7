use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::quantity;

/// Labels of nodes that have other names now.
const NODE_LABELS: [(&str, &str); 5] = [
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    ("failure-domain.beta.kubernetes.io/zone", "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"),
    ("beta.kubernetes.io/instance-type", "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"),
];

const ANNOTATIONS: [(&str, &str); 4] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    ("seccomp.security.alpha.kubernetes.io/pod", "non-functional in v1.27+; use the \"seccompProfile\" field instead"),
    ("security.alpha.kubernetes.io/sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
    ("security.alpha.kubernetes.io/unsafe-sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
];

const VOLUMES: [(&str, &str); 9] = [
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
];

/// A pod, or a template of pods; `at` is the path before its fields.
pub(super) fn pod(told: &mut Vec<String>, at: &str, pod: &Value) {
    let Some(spec) = pod.get("spec") else { return };
    node_labels(told, at, spec);
    for (annotation, why) in ANNOTATIONS {
        if super::has_annotation(pod, annotation) {
            told.push(format!("{at}metadata.annotations[{annotation}]: {why}"));
        }
    }
    for (index, volume) in items(spec, "volumes").iter().enumerate() {
        for (source, why) in VOLUMES.iter().filter(|(source, _)| volume.get(source).is_some()) {
            told.push(format!("{at}spec.volumes[{index}].{source}: {why}"));
        }
    }
    repeated(told, &format!("{at}spec.hostAliases"), items(spec, "hostAliases"), "ip");
    repeated(told, &format!("{at}spec.imagePullSecrets"), items(spec, "imagePullSecrets"), "name");
    for (index, secret) in items(spec, "imagePullSecrets").iter().enumerate() {
        if text(secret, "name").is_empty() {
            told.push(format!("{at}spec.imagePullSecrets[{index}].name: invalid empty name \"\""));
        }
    }
    for list in ["initContainers", "containers"] {
        for (index, container) in items(spec, list).iter().enumerate() {
            self::container(told, &format!("{at}spec.{list}[{index}]"), container);
        }
    }
    ports(told, at, spec);
    if spec.get("terminationGracePeriodSeconds").and_then(Value::as_i64).is_some_and(|seconds| seconds < 0) {
        told.push(format!(
            "{at}spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
        ));
    }
}

fn node_labels(told: &mut Vec<String>, at: &str, spec: &Value) {
    let deprecated = |label: &str| NODE_LABELS.iter().find(|(old, _)| *old == label).map(|(_, why)| *why);
    for label in spec.get("nodeSelector").and_then(Value::as_object).into_iter().flat_map(|labels| labels.keys()) {
        told.extend(deprecated(label).map(|why| format!("{at}spec.nodeSelector[{label}]: {why}")));
    }
    for (index, constraint) in items(spec, "topologySpreadConstraints").iter().enumerate() {
        let key = text(constraint, "topologyKey");
        let path = format!("{at}spec.topologySpreadConstraints[{index}]");
        told.extend(deprecated(key).map(|why| format!("{path}.topologyKey: {key} is {why}")));
        if constraint.get("labelSelector").is_none() {
            told.push(format!("{path}.labelSelector: a null labelSelector results in matching no pod"));
        }
    }
    let terms = spec.pointer("/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution");
    for (index, term) in terms.map_or(&[][..], |terms| items(terms, "nodeSelectorTerms")).iter().enumerate() {
        for (inner, expression) in items(term, "matchExpressions").iter().enumerate() {
            let key = text(expression, "key");
            told.extend(deprecated(key).map(|why| {
                format!(
                    "{at}spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.\
                     nodeSelectorTerms[{index}].matchExpressions[{inner}].key: {key} is {why}"
                )
            }));
        }
    }
}

fn repeated(told: &mut Vec<String>, path: &str, list: &[Value], field: &str) {
    let mut seen = BTreeSet::new();
    for (index, item) in list.iter().enumerate() {
        let value = text(item, field);
        if !seen.insert(value) {
            told.push(format!("{path}[{index}].{field}: duplicate {field} {value:?}"));
        }
    }
}

fn container(told: &mut Vec<String>, path: &str, container: &Value) {
    for kind in ["limits", "requests"] {
        for resource in ["ephemeral-storage", "memory"] {
            let amount = container["resources"][kind][resource].as_str();
            if let Some(amount) = amount.filter(|amount| quantity::parse(amount).is_some_and(|is| !is.is_whole())) {
                told.push(format!(
                    "{path}.resources.{kind}[{resource}]: fractional byte value \"{amount}\" is invalid, must be an integer"
                ));
            }
        }
    }
    let mut seen = BTreeSet::new();
    for (index, variable) in items(container, "env").iter().enumerate() {
        let name = text(variable, "name");
        let extends = text(variable, "value").contains(&format!("$({name})"));
        if !seen.insert(name) && !extends {
            told.push(format!(
                "{path}.env[{index}]: hides previous definition of {name:?}, which may be dropped when using apply"
            ));
        }
    }
}

/// The same port twice, in one container or in several.
fn ports(told: &mut Vec<String>, at: &str, spec: &Value) {
    let mut seen: BTreeMap<(String, i64), String> = BTreeMap::new();
    for (index, container) in items(spec, "containers").iter().enumerate() {
        for (inner, port) in items(container, "ports").iter().enumerate() {
            let number = port.get("containerPort").and_then(Value::as_i64).unwrap_or(0);
            let path = format!("{at}spec.containers[{index}].ports[{inner}]");
            let key = (text(port, "protocol").to_owned(), number);
            match seen.get(&key) {
                Some(first) => told.push(format!("{path}: duplicate port definition with {first}")),
                None => drop(seen.insert(key, path)),
            }
        }
    }
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn items<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
