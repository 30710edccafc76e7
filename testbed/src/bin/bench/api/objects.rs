//! The objects that are written.

use serde_json::{Value, json};

use super::connection::NUMBER;

/// Bytes of the JSON of a ConfigMap.
const CONFIG_MAP: usize = 500;

/// A ConfigMap of half a kilobyte.
pub(crate) fn config_map(name: &str) -> String {
    let of = |text: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"app": "bench"}},
            "data": {"sent": NUMBER, "text": text}})
        .to_string()
    };
    of(&"x".repeat(CONFIG_MAP.saturating_sub(of("").len())))
}

/// What pods are called.
pub(crate) fn pod_name() -> String {
    format!("web-6d4cf56db6-{NUMBER}")
}

/// A pod as a Deployment's, running, of two to three kilobytes; no scheduler takes it.
pub(crate) fn pod() -> String {
    let probe = |path: &str| json!({"httpGet": {"path": path, "port": 8080}, "periodSeconds": 10});
    let condition = |of: &str| json!({"type": of, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let conditions = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];
    let variable = |name: &str, value: &str| json!({"name": name, "value": value});
    let pod: Value = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": pod_name(), "generateName": "web-6d4cf56db6-",
            "labels": {"app": "web", "tier": "front", "pod-template-hash": "6d4cf56db6"},
            "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "8080"},
        },
        "spec": {
            "schedulerName": "bench", "serviceAccountName": "default", "automountServiceAccountToken": false,
            "containers": [{
                "name": "web", "image": "registry.example/team/web:1.4.2",
                "ports": [{"name": "http", "containerPort": 8080}],
                "env": [variable("LOG", "info"), variable("BACKEND", "http://backend.default.svc:8080")],
                "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
                "livenessProbe": probe("/live"), "readinessProbe": probe("/ready"),
                "volumeMounts": [{"name": "config", "mountPath": "/etc/web", "readOnly": true}],
            }],
            "volumes": [{"name": "config", "configMap": {"name": "web"}}],
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": 300}],
        },
        "status": {
            "phase": "Running", "hostIP": "10.0.0.7", "podIP": "10.244.3.17", "podIPs": [{"ip": "10.244.3.17"}],
            "startTime": "2026-01-01T00:00:00Z", "qosClass": "Burstable",
            "conditions": conditions.map(condition),
            "containerStatuses": [{
                "name": "web", "ready": true, "started": true, "restartCount": 0,
                "image": "registry.example/team/web:1.4.2",
                "imageID": "registry.example/team/web@sha256:6d4cf56db66d4cf56db66d4cf56db66d4cf56db66d4cf56db66d4cf56db6aaaa",
                "containerID": "containerd://6d4cf56db66d4cf56db66d4cf56db66d4cf56db66d4cf56db66d4cf56db6aaaa",
                "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
            }],
        },
    });
    pod.to_string()
}
