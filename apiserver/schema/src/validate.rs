use serde_json::Value;

use crate::field_error::{FieldError, Report};
use crate::path::Path;
use crate::resource::Resource;

mod access;
mod config;
mod container;
mod cron;
mod endpoints;
mod ingress;
mod labels;
mod metadata;
mod network_policy;
mod node;
mod pod;
mod pod_update;
mod probe;
mod quota;
mod record;
mod resources;
mod scaling;
mod scheduling;
mod security;
mod service;
mod storage;
mod volume;
mod webhook;
mod workload;

/// What is checked in the objects of a kind, beyond their metadata; the old object is there
/// when one is updated.
type Rule = fn(&mut Report, &Value, Option<&Value>);

const RULES: &[(&str, &str, Rule)] = &[
    ("", "Pod", pod::pod),
    ("", "PodTemplate", pod::pod_template),
    ("", "Service", service::service),
    ("", "Endpoints", endpoints::endpoints),
    ("", "Node", node::node),
    ("", "PersistentVolume", storage::volume),
    ("", "PersistentVolumeClaim", storage::claim),
    ("", "ConfigMap", config::config_map),
    ("", "Secret", config::secret),
    ("", "ReplicationController", workload::replication_controller),
    ("", "Event", record::event),
    ("", "LimitRange", quota::limit_range),
    ("", "ResourceQuota", quota::resource_quota),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration", webhook::configuration),
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration", webhook::configuration),
    ("apps", "ControllerRevision", record::controller_revision),
    ("apps", "Deployment", workload::deployment),
    ("apps", "ReplicaSet", workload::replica_set),
    ("apps", "DaemonSet", workload::daemon_set),
    ("apps", "StatefulSet", workload::stateful_set),
    ("autoscaling", "HorizontalPodAutoscaler", scaling::autoscaler),
    ("batch", "Job", workload::job),
    ("batch", "CronJob", workload::cron_job),
    ("coordination.k8s.io", "Lease", record::lease),
    ("discovery.k8s.io", "EndpointSlice", endpoints::endpoint_slice),
    ("networking.k8s.io", "Ingress", ingress::ingress),
    ("networking.k8s.io", "IngressClass", record::ingress_class),
    ("networking.k8s.io", "NetworkPolicy", network_policy::network_policy),
    ("node.k8s.io", "RuntimeClass", record::runtime_class),
    ("policy", "PodDisruptionBudget", scaling::disruption_budget),
    ("rbac.authorization.k8s.io", "ClusterRole", access::cluster_role),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding", access::cluster_role_binding),
    ("rbac.authorization.k8s.io", "Role", access::role),
    ("rbac.authorization.k8s.io", "RoleBinding", access::role_binding),
    ("scheduling.k8s.io", "PriorityClass", node::priority_class),
    ("storage.k8s.io", "StorageClass", storage::class),
];

/// What is wrong with an object that is to be created, or updated when there is an old one. It
/// has to be [pruned](crate::Registry::prune) and [defaulted](crate::Registry::set_defaults)
/// before. Empty when it is valid.
pub fn validate(resource: &Resource, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut report = Report::default();
    // Reviews and the like are asked and answered, and have no name.
    if resource.has_verb("get") {
        metadata::metadata(&mut report, resource, new, old);
    }
    let rule = RULES.iter().find(|(group, kind, _)| *group == resource.group && *kind == resource.kind);
    if let Some((_, _, rule)) = rule {
        rule(&mut report, new, old);
    }
    report.errors
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn number(value: &Value, field: &str) -> Option<i64> {
    value.get(field).and_then(Value::as_i64)
}

fn is_true(value: &Value, field: &str) -> bool {
    value.get(field) == Some(&Value::Bool(true))
}

fn items<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A number that, when it is there, is not below zero.
fn non_negative(report: &mut Report, path: &Path<'_>, value: &Value, field: &str) {
    if let Some(number) = number(value, field).filter(|number| *number < 0) {
        report.invalid(&path.field(field), number, "must be greater than or equal to 0");
    }
}

/// A field that stays as it was.
fn immutable(report: &mut Report, path: &Path<'_>, new: &Value, old: &Value, field: &str) {
    if new.get(field) != old.get(field) {
        let value = new.get(field).cloned().unwrap_or(Value::Null);
        report.invalid(&path.field(field), value, "field is immutable");
    }
}

#[cfg(test)]
mod tests;
