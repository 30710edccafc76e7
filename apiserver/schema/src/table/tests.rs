use serde_json::{Value, json};

use crate::registry::Registry;

const NOW: &str = "2026-01-01T01:00:00Z";

fn row(group: &str, plural: &str, mut object: Value) -> String {
    let registry = Registry::builtin();
    let resource = registry.resource(group, "v1", plural).unwrap();
    object["metadata"]["name"] = "x".into();
    object["metadata"]["creationTimestamp"] = "2026-01-01T00:58:00Z".into();
    let cells = registry.cells(resource, &object, NOW.parse().unwrap());
    let columns = registry.column_definitions(resource).as_array().unwrap().len();
    assert_eq!(cells.len(), columns, "{plural}");
    let text = |cell: &Value| cell.as_str().map_or(cell.to_string(), str::to_owned);
    cells.iter().map(text).collect::<Vec<_>>().join("|")
}

#[test]
fn every_row_has_as_many_cells_as_there_are_columns() {
    let registry = Registry::builtin();
    for resource in registry.resources() {
        let columns = registry.column_definitions(resource).as_array().unwrap().len();
        let cells = registry.cells(resource, &json!({}), NOW.parse().unwrap());
        assert_eq!(cells.len(), columns, "{}", resource.plural);
    }
}

fn pod(status: Value) -> String {
    let spec = json!({
        "containers": [{"name": "a"}, {"name": "b"}], "nodeName": "n",
        "initContainers": [{"name": "i"}, {"name": "j"}],
    });
    row("", "pods", json!({"spec": spec, "status": status}))
}

#[test]
fn pods() {
    let running = json!({"running": {}});
    let waiting = |reason: &str| json!({"waiting": {"reason": reason}});
    let ended = |reason: &str, code: i64| json!({"terminated": {"reason": reason, "exitCode": code}});
    let container = |state: &Value, ready: bool, restarts: i64| {
        json!({"state": state, "ready": ready, "restartCount": restarts,
               "lastState": {"terminated": {"finishedAt": "2026-01-01T00:55:00Z"}}})
    };
    let up = container(&running, true, 0);
    for (status, expected) in [
        (json!({"phase": "Pending"}), "0/2|Pending|0"),
        (json!({"phase": "Running", "podIP": "10.0.0.1", "containerStatuses": [up, up]}), "2/2|Running|0"),
        (
            json!({"phase": "Pending", "containerStatuses": [container(&waiting("ContainerCreating"), false, 0), up]}),
            "1/2|ContainerCreating|0",
        ),
        (
            json!({"phase": "Running", "containerStatuses": [container(&waiting("CrashLoopBackOff"), false, 3), up]}),
            "1/2|CrashLoopBackOff|3 (5m ago)",
        ),
        (json!({"phase": "Failed", "containerStatuses": [container(&ended("Error", 1), false, 0)]}), "0/2|Error|0"),
        (json!({"phase": "Failed", "containerStatuses": [container(&ended("", 3), false, 0)]}), "0/2|ExitCode:3|0"),
        (json!({"phase": "Failed", "reason": "Evicted"}), "0/2|Evicted|0"),
        (
            json!({"phase": "Running", "containerStatuses": [container(&ended("Completed", 0), false, 0), up]}),
            "1/2|NotReady|0",
        ),
        (json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": running}]}), "0/2|Init:0/2|0"),
        (
            json!({"phase": "Pending", "initContainerStatuses": [
                {"name": "i", "state": ended("Completed", 0)}, {"name": "j", "state": waiting("ImagePullBackOff")}]}),
            "0/2|Init:ImagePullBackOff|0",
        ),
        (
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": ended("Error", 1), "restartCount": 2}]}),
            "0/2|Init:Error|2",
        ),
    ] {
        let found = pod(status);
        let found: Vec<&str> = found.split('|').collect();
        assert_eq!(found[1..4].join("|"), expected);
    }
    let last = pod(json!({"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}]}));
    assert_eq!(last, "x|0/2|Running|0|2m|10.0.0.1|n|<none>|<none>");
    let deleted = json!({"metadata": {"deletionTimestamp": NOW}, "status": {"phase": "Running"}});
    assert!(row("", "pods", deleted).contains("|Terminating|"));
}

#[test]
fn workloads() {
    let template = json!({"spec": {"containers": [{"name": "a", "image": "i:1"}, {"name": "b", "image": "j"}]}});
    let spec = json!({"replicas": 3, "template": template, "selector": {
        "matchLabels": {"x": "y", "a": "b"}, "matchExpressions": [{"key": "k", "operator": "In", "values": ["2", "1"]}]}});
    let status = json!({"replicas": 3, "readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 2});
    let object = json!({"spec": spec, "status": status});
    assert_eq!(row("apps", "deployments", object.clone()), "x|2/3|3|2|2m|a,b|i:1,j|a=b,k in (1,2),x=y");
    assert_eq!(row("apps", "replicasets", object.clone()), "x|3|3|2|2m|a,b|i:1,j|a=b,k in (1,2),x=y");
    assert_eq!(row("apps", "statefulsets", object), "x|2/3|2m|a,b|i:1,j");
    let job = json!({"spec": {"completions": 2, "template": template}, "status": {
        "succeeded": 2, "startTime": "2026-01-01T00:58:00Z", "completionTime": "2026-01-01T00:58:30Z",
        "conditions": [{"type": "Complete", "status": "True"}]}});
    assert_eq!(row("batch", "jobs", job), "x|Complete|2/2|30s|2m|a,b|i:1,j|<none>");
    let cron = json!({"spec": {"schedule": "* * * * *", "suspend": false}});
    assert_eq!(row("batch", "cronjobs", cron), "x|* * * * *|<none>|False|0|<none>|2m|||<none>");
}

#[test]
fn services_and_endpoints() {
    let service = |spec: Value| row("", "services", json!({"spec": spec}));
    let ports = json!([{"port": 80, "nodePort": 30001, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]);
    assert_eq!(
        service(json!({"type": "NodePort", "clusterIP": "10.96.0.5", "ports": ports, "selector": {"a": "b"}})),
        "x|NodePort|10.96.0.5|<none>|80:30001/TCP,53/UDP|2m|a=b"
    );
    assert_eq!(service(json!({"type": "LoadBalancer"})), "x|LoadBalancer|<none>|<pending>|<none>|2m|<none>");
    assert_eq!(
        service(json!({"type": "ExternalName", "externalName": "a.b"})),
        "x|ExternalName|<none>|a.b|<none>|2m|<none>"
    );
    let addresses = json!([{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]);
    let subset = json!({"addresses": addresses, "ports": [{"port": 80}, {"port": 81}]});
    assert_eq!(
        row("", "endpoints", json!({"subsets": [subset]})),
        "x|10.0.0.1:80,10.0.0.2:80,10.0.0.1:81 + 1 more...|2m"
    );
    assert_eq!(row("", "endpoints", json!({})), "x|<none>|2m");
    let slice = json!({"addressType": "IPv4", "ports": [{"port": 80}], "endpoints": [{"addresses": ["10.0.0.1"]}]});
    assert_eq!(row("discovery.k8s.io", "endpointslices", slice), "x|IPv4|80|10.0.0.1|2m");
    let ingress = json!({"spec": {"rules": [{"host": "a.b"}, {}], "tls": [{}]}});
    assert_eq!(row("networking.k8s.io", "ingresses", ingress), "x|<none>|a.b||80, 443|2m");
}

#[test]
fn others() {
    let node = json!({
        "metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}, "spec": {"unschedulable": true},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "10.1.1.1"}],
            "nodeInfo": {"kubeletVersion": "v1.36.0", "osImage": "Debian"},
        },
    });
    assert_eq!(
        row("", "nodes", node),
        "x|Ready,SchedulingDisabled|control-plane|2m|v1.36.0|10.1.1.1|<none>|Debian|<unknown>|<unknown>"
    );
    let event = json!({
        "type": "Normal", "reason": "Pulled", "message": " done\n", "count": 2, "source": {"component": "kubelet", "host": "n"},
        "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec.containers{a}"},
        "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:59:50Z",
    });
    assert_eq!(row("", "events", event), "10s|Normal|Pulled|pod/p|spec.containers{a}|kubelet, n|done|60m|2|x");
    assert_eq!(row("", "configmaps", json!({"data": {"a": "", "b": ""}})), "x|2|2m");
    assert_eq!(row("", "secrets", json!({"type": "Opaque", "data": {"a": ""}})), "x|Opaque|1|2m");
    assert_eq!(row("", "namespaces", json!({"status": {"phase": "Active"}})), "x|Active|2m");
    assert_eq!(row("", "limitranges", json!({})), "x|2026-01-01T00:58:00Z");
    assert_eq!(row("coordination.k8s.io", "leases", json!({"spec": {"holderIdentity": "h"}})), "x|h|2m");
    let claim = json!({"spec": {"volumeName": "v", "volumeMode": "Filesystem", "storageClassName": "s"},
        "status": {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}});
    assert_eq!(row("", "persistentvolumeclaims", claim), "x|Bound|v|1Gi|RWO|s|<unset>|2m|Filesystem");
    let binding = json!({"roleRef": {"kind": "ClusterRole", "name": "admin"}, "subjects": [
        {"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "namespace": "n", "name": "s"}]});
    assert_eq!(row("rbac.authorization.k8s.io", "rolebindings", binding), "x|ClusterRole/admin|2m|u||n/s");
    let registry = Registry::builtin();
    let scaler = registry.resource("autoscaling", "v2", "horizontalpodautoscalers").unwrap();
    let object = json!({"metadata": {"name": "x"}, "spec": {
        "scaleTargetRef": {"kind": "Deployment", "name": "d"}, "minReplicas": 1, "maxReplicas": 5,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 80}}}]}});
    let cells = registry.cells(scaler, &object, NOW.parse().unwrap());
    assert_eq!(cells[1..3], ["Deployment/d", "cpu: <unknown>/80%"]);
}
