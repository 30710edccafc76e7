//! Affinity, spreading, security and the other parts of a pod's spec.

use serde_json::{Value, json};

use super::{faults, with};

fn pod(pointer: &str, value: Value) -> Vec<String> {
    let pod = json!({"spec": {
        "affinity": {"nodeAffinity": {}, "podAntiAffinity": {}},
        "containers": [{"name": "c", "image": "x"}],
    }});
    faults("", "Pod", with(pod, pointer, value), None)
}

#[test]
fn specs() {
    let terms = |terms: Value| json!({"nodeSelectorTerms": terms});
    let required = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution";
    let preferred = "/spec/affinity/nodeAffinity/preferredDuringSchedulingIgnoredDuringExecution";
    let apart = "/spec/affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution";
    let constraint =
        |skew: i64, when: &str| json!([{"maxSkew": skew, "topologyKey": "zone", "whenUnsatisfiable": when}]);
    for (pointer, value, expected) in [
        ("/spec/terminationGracePeriodSeconds", json!(-1), vec![]),
        (required, terms(json!([{"matchExpressions": [{"key": "a", "operator": "Exists"}]}])), vec![]),
        (
            required,
            terms(json!([])),
            vec![
                "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required \
                 value: must have at least one node selector term",
            ],
        ),
        (
            required,
            terms(json!([{"matchExpressions": [{"key": "a", "operator": "In"}, {"key": "b", "operator": "Is"}]}])),
            vec![
                "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].\
                 matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
                "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].\
                 matchExpressions[1].operator: Invalid value: \"Is\": not a valid selector operator",
            ],
        ),
        (
            preferred,
            json!([{"weight": 0, "preference": {}}]),
            vec![
                "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: \
                 0: must be in the range 1-100",
            ],
        ),
        (
            apart,
            json!([{"topologyKey": ""}]),
            vec![
                "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Required \
                 value: can not be empty",
            ],
        ),
        ("/spec/topologySpreadConstraints", constraint(1, "ScheduleAnyway"), vec![]),
        (
            "/spec/topologySpreadConstraints",
            constraint(0, "Later"),
            vec![
                "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
                "spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: \"Later\": supported values: \
                 \"DoNotSchedule\", \"ScheduleAnyway\"",
            ],
        ),
        (
            "/spec/securityContext",
            json!({"runAsUser": -1}),
            vec!["spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive"],
        ),
        (
            "/spec/preemptionPolicy",
            json!("Maybe"),
            vec![
                "spec.preemptionPolicy: Unsupported value: \"Maybe\": supported values: \"Never\", \
                 \"PreemptLowerPriority\"",
            ],
        ),
        (
            "/spec/volumes",
            json!([{"name": "v", "hostPath": {"path": "/x", "type": "Thing"}}]),
            vec![
                "spec.volumes[0].hostPath.type: Unsupported value: \"Thing\": supported values: \"\", \"BlockDevice\", \
                 \"CharDevice\", \"Directory\", \"DirectoryOrCreate\", \"File\", \"FileOrCreate\", \"Socket\"",
            ],
        ),
        (
            "/spec/initContainers",
            json!([{"name": "i", "image": "x", "lifecycle": {"preStop": {"sleep": {"seconds": 1}}}}]),
            vec![
                "spec.initContainers[0].lifecycle: Forbidden: may not be set for init containers without \
                 restartPolicy=Always",
            ],
        ),
        (
            "/spec/ephemeralContainers",
            json!([{"name": "c", "image": "x", "targetContainerName": "d", "ports": [{"containerPort": 80}]}]),
            vec![
                "spec.ephemeralContainers[0].targetContainerName: Not found: \"d\"",
                "spec.ephemeralContainers[0].name: Duplicate value: \"c\"",
                "spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container",
            ],
        ),
    ] {
        assert_eq!(pod(pointer, value), expected, "{pointer}");
    }
}

#[test]
fn a_port_of_the_node_is_asked_for_once() {
    let pod = |ports: [Value; 2], own: bool| {
        let [one, two] = ports;
        let container = |name: &str, port: Value| json!({"name": name, "image": "i", "ports": [port]});
        let spec = json!({"hostNetwork": own, "containers": [container("a", one), container("b", two)]});
        faults("", "Pod", json!({"spec": spec}), None)
    };
    let port = |number: u16| json!({"containerPort": number, "hostPort": 80});
    let udp = json!({"containerPort": 1, "hostPort": 80, "protocol": "UDP"});
    let local = json!({"containerPort": 1, "hostPort": 80, "hostIP": "127.0.0.1"});
    let twice = ["spec.containers[1].ports[0].hostPort: Duplicate value: \"TCP//80\""];
    assert_eq!(pod([port(1), udp], false), Vec::<String>::new());
    assert_eq!(pod([port(1), local], false), Vec::<String>::new());
    assert_eq!(pod([port(1), port(2)], false), twice);
    let plain = json!({"containerPort": 80});
    assert_eq!(pod([plain.clone(), plain.clone()], false), Vec::<String>::new());
    assert_eq!(pod([plain.clone(), plain], true), twice, "in the node's own network each port is one of the node");
}
