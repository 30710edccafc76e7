//! Where pods go and why they do not, by table; the ledger through its life.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::fit::pick;
use super::ledger::Ledger;
use crate::cache::Change;

fn merge(into: &mut Value, change: Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (name, value) in change {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, change) => *into = change,
    }
}

fn node(name: &str, change: Value) -> Arc<Node> {
    let mut object = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": {},
        "status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "10"}},
    });
    merge(&mut object, change);
    Arc::new(serde_json::from_value(object).expect("a node"))
}

fn pod(name: &str, change: Value) -> Arc<Pod> {
    let mut object = json!({
        "metadata": {"name": name, "namespace": "default", "uid": name, "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "500m"}}}]},
    });
    merge(&mut object, change);
    Arc::new(serde_json::from_value(object).expect("a pod"))
}

fn added<K>(object: &Arc<K>) -> Change<K> {
    Change { before: None, after: Some(object.clone()) }
}

fn ledger(nodes: &[Arc<Node>], pods: &[Arc<Pod>]) -> Ledger {
    let (mut ledger, now) = (Ledger::default(), Instant::now());
    nodes.iter().for_each(|node| ledger.node(&added(node), now));
    pods.iter().for_each(|pod| ledger.pod(&added(pod), now));
    ledger
}

fn answer(pod: &Pod, ledger: &Ledger, services: &[Arc<Service>]) -> String {
    pick(pod, ledger.nodes(), services).unwrap_or_else(|refusal| refusal.to_string())
}

fn requests(cpu: &str) -> Value {
    json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}})
}

const NO_HELP: &str = "no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful \
                       for scheduling.";
const NO_VICTIMS: &str = "no new claims to deallocate, preemption: 0/1 nodes are available: 1 No preemption victims \
                          found for incoming pod.";

/// What the node is, which pods are on it, what is asked, and the reason and the rest of the refusal.
type Case<'a> = (Value, Vec<Arc<Pod>>, Value, &'a str, &'a str);

#[test]
fn one_node_takes_a_pod_or_says_why_not() {
    let taint = |effect: &str| json!({"spec": {"taints": [{"key": "k", "value": "v", "effect": effect}]}});
    let tolerant = json!({"spec": {"tolerations": [{"key": "k", "operator": "Equal", "value": "v"}]}});
    let affine = |operator: &str, values: Value| {
        json!({"spec": {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "size", "operator": operator, "values": values}]}],
        }}}}})
    };
    let sized = json!({"metadata": {"labels": {"size": "5"}}});
    let port = json!({"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]}});
    let selective = json!({"spec": {"nodeSelector": {"disk": "ssd"}}});
    let used = |change: &Value| {
        let mut bound = change.clone();
        merge(&mut bound, json!({"spec": {"nodeName": "n"}}));
        vec![pod("used", bound)]
    };
    let cases: Vec<Case<'_>> = vec![
        (json!({}), vec![], json!({}), "", ""),
        (json!({}), vec![], requests("3"), "1 Insufficient cpu", NO_HELP),
        (json!({}), used(&requests("1600m")), json!({}), "1 Insufficient cpu", NO_VICTIMS),
        (json!({}), used(&requests("1500m")), json!({}), "", ""),
        (json!({"status": {"allocatable": {"pods": "1"}}}), used(&json!({})), json!({}), "1 Too many pods", NO_VICTIMS),
        (json!({"spec": {"unschedulable": true}}), vec![], json!({}), "1 node(s) were unschedulable", NO_HELP),
        (taint("NoSchedule"), vec![], json!({}), "1 node(s) had untolerated taint(s)", NO_HELP),
        (taint("NoExecute"), vec![], json!({}), "1 node(s) had untolerated taint(s)", NO_HELP),
        (taint("PreferNoSchedule"), vec![], json!({}), "", ""),
        (taint("NoSchedule"), vec![], tolerant, "", ""),
        (json!({}), vec![], selective.clone(), "1 node(s) didn't match Pod's node affinity/selector", NO_HELP),
        (json!({"metadata": {"labels": {"disk": "ssd"}}}), vec![], selective, "", ""),
        (sized.clone(), vec![], affine("In", json!(["5", "6"])), "", ""),
        (sized.clone(), vec![], affine("Gt", json!(["4"])), "", ""),
        (sized.clone(), vec![], affine("Exists", json!([])), "", ""),
        (sized, vec![], affine("NotIn", json!(["5"])), "1 node(s) didn't match Pod's node affinity/selector", NO_HELP),
        (
            json!({}),
            used(&port),
            port.clone(),
            "1 node(s) didn't have free ports for the requested pod ports",
            NO_VICTIMS,
        ),
        (json!({}), vec![], port, "", ""),
    ];
    for (of_node, pods, asked, reason, rest) in cases {
        let expected = match reason {
            "" => "n".to_owned(),
            reason => format!("0/1 nodes are available: {reason}. {rest}"),
        };
        let ledger = ledger(&[node("n", of_node.clone())], &pods);
        assert_eq!(answer(&pod("p", asked.clone()), &ledger, &[]), expected, "{of_node} {asked}");
    }
}

#[test]
fn a_port_of_a_node_is_taken_once_for_each_address_and_protocol() {
    let with = |port: Value| json!({"spec": {"containers": [{"name": "c", "ports": [port]}]}});
    let sidecar = json!({"spec": {"initContainers": [{"name": "s", "restartPolicy": "Always",
        "ports": [{"containerPort": 1, "hostPort": 80}]}]}});
    let own = json!({"spec": {"hostNetwork": true, "containers": [{"name": "c", "ports": [{"containerPort": 80}]}]}});
    let here = json!({"containerPort": 1, "hostPort": 80, "hostIP": "127.0.0.1"});
    let taken = with(json!({"containerPort": 1, "hostPort": 80, "hostIP": "10.0.0.1"}));
    for (there, asked, fits) in [
        (&taken, with(json!({"containerPort": 80})), true),
        (&taken, with(here.clone()), true),
        (&taken, with(json!({"containerPort": 1, "hostPort": 81})), true),
        (&taken, with(json!({"containerPort": 1, "hostPort": 80, "protocol": "UDP"})), true),
        (&taken, with(json!({"containerPort": 1, "hostPort": 80})), false),
        (&taken, taken.clone(), false),
        (&taken, own.clone(), false),
        (&sidecar, own.clone(), false),
        (&own, with(here), false),
    ] {
        let mut bound = there.clone();
        merge(&mut bound, json!({"spec": {"nodeName": "n"}}));
        let ledger = ledger(&[node("n", json!({}))], &[pod("there", bound)]);
        assert_eq!(answer(&pod("p", asked.clone()), &ledger, &[]) == "n", fits, "{there} {asked}");
    }
}

#[test]
fn reasons_of_all_nodes_are_counted() {
    let pod = pod("p", requests("3"));
    assert_eq!(answer(&pod, &ledger(&[], &[]), &[]), "no nodes available to schedule pods");
    let tainted = json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}});
    let nodes = [node("a", tainted), node("b", json!({})), node("c", json!({}))];
    let expected = "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu. no new claims to \
                    deallocate, preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.";
    assert_eq!(answer(&pod, &ledger(&nodes, &[]), &[]), expected);
}

#[test]
fn pods_of_one_service_spread_and_preferences_count() {
    let bound = |name: &str, at: &str, change: Value| {
        let mut whole = json!({"spec": {"nodeName": at}});
        merge(&mut whole, change);
        pod(name, whole)
    };
    let service: Service = serde_json::from_value(json!({"spec": {"selector": {"app": "web"}}})).expect("a service");
    let nodes = [node("a", json!({})), node("b", json!({}))];
    let fresh = pod("p", json!({}));
    let busy = bound("x", "b", json!({"metadata": {"labels": {"app": "other"}}}));
    let spread = ledger(&nodes, &[bound("y", "a", json!({})), busy.clone(), bound("z", "b", requests("1"))]);
    assert_eq!(answer(&fresh, &spread, &[]), "a", "more room");
    let alone = ledger(&nodes, &[bound("y", "a", json!({})), busy]);
    assert_eq!(answer(&fresh, &alone, &[Arc::new(service)]), "b", "no pod of the Service");
    let preferred = pod(
        "p",
        json!({"spec": {"affinity": {"nodeAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": {
            "matchFields": [{"key": "metadata.name", "operator": "In", "values": ["b"]}]}}]}}}}),
    );
    assert_eq!(answer(&preferred, &ledger(&nodes, &[]), &[]), "b");
}

#[test]
fn topology_spread_constraints_hold() {
    let constraint = json!({"spec": {"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone",
        "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "web"}}}]}});
    let zone = |name: &str, zone: &str| node(name, json!({"metadata": {"labels": {"zone": zone}}}));
    let on = |name: &str, at: &str| pod(name, json!({"spec": {"nodeName": at}}));
    let nodes = [zone("a", "1"), zone("b", "2")];
    let spread = pod("p", constraint);
    assert_eq!(answer(&spread, &ledger(&nodes, &[on("x", "a")]), &[]), "b");
    assert_eq!(answer(&spread, &ledger(&nodes, &[on("x", "b")]), &[]), "a");
    let full = node("b", json!({"metadata": {"labels": {"zone": "2"}}, "status": {"allocatable": {"pods": "0"}}}));
    let refusal = answer(&spread, &ledger(&[zone("a", "1"), full], &[on("x", "a")]), &[]);
    let reasons = "1 Too many pods, 1 node(s) didn't match pod topology spread constraints.";
    assert!(refusal.starts_with(&format!("0/2 nodes are available: {reasons}")), "{refusal}");
    let unlabelled = answer(&spread, &ledger(&[node("c", json!({}))], &[]), &[]);
    assert!(unlabelled.contains("(missing required label)"), "{unlabelled}");
}

#[test]
fn priority_goes_first_and_assumed_pods_count() {
    let urgent = pod("urgent", json!({"spec": {"priority": 10}}));
    let mut ledger = ledger(&[node("n", json!({}))], &[pod("a", json!({})), urgent, pod("b", json!({}))]);
    let mut order = vec![];
    while let Some(pod) = ledger.next() {
        ledger.assume(&pod, "n");
        order.push(pod.metadata.name.clone().unwrap_or_default());
    }
    assert_eq!(order, ["urgent", "a", "b"]);
    let more = answer(&pod("c", requests("600m")), &ledger, &[]);
    assert!(more.contains("Insufficient cpu"), "three assumed pods take 1.5 of 2: {more}");
}

#[test]
fn a_refused_pod_waits_for_a_change() {
    let (now, big) = (Instant::now(), pod("big", requests("3")));
    let mut ledger = ledger(&[node("n", json!({}))], std::slice::from_ref(&big));
    let taken = ledger.next().expect("the pod waits");
    ledger.park(&taken, now);
    assert!(ledger.next().is_none());
    let heartbeat = Change {
        before: Some(node("n", json!({}))),
        after: Some(node("n", json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}))),
    };
    ledger.node(&heartbeat, now);
    assert!(ledger.next().is_none(), "a heartbeat changes nothing");
    ledger.node(&added(&node("m", json!({"status": {"allocatable": {"cpu": "4"}}}))), now);
    assert_eq!(ledger.next().expect("a new node gives hope").metadata.name, big.metadata.name);
}

#[test]
fn a_pod_that_is_refused_again_and_again_is_tried_less_often() {
    let (now, big) = (Instant::now(), pod("big", requests("3")));
    let mut ledger = ledger(&[], std::slice::from_ref(&big));
    for try_ in 0..6 {
        let Some(pod) = ledger.next() else {
            assert!(try_ > 3, "the first tries are free");
            let retry = ledger.next_retry().expect("a time");
            assert!(retry > now && retry <= now + Duration::from_secs(10));
            return;
        };
        ledger.park(&pod, now);
        ledger.node(&added(&node(&format!("n{try_}"), json!({}))), now);
    }
    panic!("it is tried at once every time");
}

#[test]
fn a_failed_binding_and_a_deletion_give_the_room_back() {
    let now = Instant::now();
    let first = pod("first", requests("2"));
    let mut ledger = ledger(&[node("n", json!({}))], std::slice::from_ref(&first));
    let taken = ledger.next().expect("the pod waits");
    ledger.assume(&taken, "n");
    assert!(answer(&pod("second", json!({})), &ledger, &[]).contains("Insufficient cpu"));
    ledger.unassume(&taken, now);
    assert_eq!(answer(&pod("second", json!({})), &ledger, &[]), "n");
    let again = ledger.next().expect("it waits again");
    ledger.assume(&again, "n");
    let bound = pod(
        "first",
        json!({"spec": {"nodeName": "n", "containers": [
        {"name": "c", "resources": {"requests": {"cpu": "2"}}}]}}),
    );
    ledger.pod(&Change { before: Some(first), after: Some(bound.clone()) }, now);
    assert!(answer(&pod("second", json!({})), &ledger, &[]).contains("Insufficient cpu"));
    ledger.pod(&Change { before: Some(bound), after: None }, now);
    assert_eq!(answer(&pod("second", json!({})), &ledger, &[]), "n");
}

#[test]
fn the_pods_of_others_are_left_alone() {
    let foreign = pod("foreign", json!({"spec": {"schedulerName": "mine"}}));
    let gated = pod("gated", json!({"spec": {"schedulingGates": [{"name": "wait"}]}}));
    let dying = pod("dying", json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    let bound = pod("bound", json!({"spec": {"nodeName": "n"}}));
    let done = pod("done", json!({"status": {"phase": "Failed"}}));
    let mut ledger = ledger(&[node("n", json!({}))], &[foreign, gated, dying, bound, done]);
    assert!(ledger.next().is_none());
}
