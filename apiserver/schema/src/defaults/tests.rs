use serde_json::{Value, json};

use crate::registry::Registry;

fn defaulted(group: &str, version: &str, kind: &str, mut object: Value) -> Value {
    let registry = Registry::builtin();
    let ty = registry.type_of(group, version, kind).unwrap();
    registry.set_defaults(&mut object, ty);
    let once = object.clone();
    registry.set_defaults(&mut object, ty);
    assert_eq!(once, object, "setting twice changes nothing");
    object
}

#[test]
fn a_pod() {
    let pod = json!({"metadata": {"name": "a"}, "spec": {
        "containers": [{
            "name": "c", "image": "nginx", "ports": [{"containerPort": 80}],
            "readinessProbe": {"httpGet": {"port": 80}},
            "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}},
            "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
        }],
        "volumes": [{"name": "v"}, {"name": "s", "secret": {"secretName": "x"}}],
        "serviceAccountName": "robot",
    }});
    let pod = defaulted("", "v1", "Pod", pod);
    let spec = &pod["spec"];
    for (pointer, value) in [
        ("/restartPolicy", json!("Always")),
        ("/dnsPolicy", json!("ClusterFirst")),
        ("/terminationGracePeriodSeconds", json!(30)),
        ("/securityContext", json!({})),
        ("/schedulerName", json!("default-scheduler")),
        ("/enableServiceLinks", json!(true)),
        ("/serviceAccount", json!("robot")),
        ("/containers/0/imagePullPolicy", json!("Always")),
        ("/containers/0/terminationMessagePath", json!("/dev/termination-log")),
        ("/containers/0/ports/0/protocol", json!("TCP")),
        ("/containers/0/resources/requests", json!({"cpu": "500m", "memory": "1Gi"})),
        ("/containers/0/env/0/valueFrom/fieldRef/apiVersion", json!("v1")),
        (
            "/containers/0/readinessProbe",
            json!({"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1,
                   "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}),
        ),
        ("/volumes/0", json!({"name": "v", "emptyDir": {}})),
        ("/volumes/1/secret/defaultMode", json!(420)),
    ] {
        assert_eq!(spec.pointer(pointer), Some(&value), "{pointer}");
    }
}

#[test]
fn workloads_and_their_templates() {
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"image": "x:1"}]}});
    let deployment = defaulted("apps", "v1", "Deployment", json!({"spec": {"template": template}}));
    let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}});
    assert_eq!(deployment["spec"]["strategy"], rolling);
    assert_eq!(deployment["spec"]["replicas"], 1);
    assert_eq!(deployment["spec"]["revisionHistoryLimit"], 10);
    assert_eq!(deployment["spec"]["progressDeadlineSeconds"], 600);
    let spec = &deployment["spec"]["template"]["spec"];
    assert_eq!(spec["containers"][0]["imagePullPolicy"], "IfNotPresent");
    assert_eq!(spec["restartPolicy"], "Always");
    assert_eq!(spec.get("enableServiceLinks"), None, "only in the Pod itself");
    assert_eq!(deployment.get("metadata"), None);

    let recreate = json!({"spec": {"replicas": 0, "strategy": {"type": "Recreate"}}});
    let recreate = defaulted("apps", "v1", "Deployment", recreate);
    assert_eq!(recreate["spec"]["strategy"], json!({"type": "Recreate"}));
    assert_eq!(recreate["spec"]["replicas"], 0);

    let job = defaulted("batch", "v1", "Job", json!({"spec": {"template": template}}));
    assert_eq!(job["spec"]["completions"], 1);
    assert_eq!(job["spec"]["backoffLimit"], 6);
    assert_eq!(job["metadata"]["labels"], json!({"a": "b"}));
    let job = defaulted("batch", "v1", "Job", json!({"spec": {"parallelism": 2, "template": {}}}));
    assert_eq!(job["spec"].get("completions"), None);

    let controller = json!({"spec": {"template": template}});
    let controller = defaulted("", "v1", "ReplicationController", controller);
    assert_eq!(controller["spec"]["selector"], json!({"a": "b"}));
    let set = defaulted("apps", "v1", "StatefulSet", json!({"spec": {"volumeClaimTemplates": [{"spec": {}}]}}));
    assert_eq!(set["spec"]["updateStrategy"]["rollingUpdate"]["partition"], 0);
    assert_eq!(set["spec"]["volumeClaimTemplates"][0]["status"]["phase"], "Pending");
}

#[test]
fn services() {
    let spec = |spec: Value| defaulted("", "v1", "Service", json!({"spec": spec}))["spec"].clone();
    let plain = spec(json!({"ports": [{"port": 80}, {"port": 81, "targetPort": "web"}]}));
    assert_eq!(
        plain,
        json!({
            "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
            "ports": [
                {"port": 80, "protocol": "TCP", "targetPort": 80},
                {"port": 81, "protocol": "TCP", "targetPort": "web"},
            ],
        })
    );
    let node_port = spec(json!({"type": "NodePort", "sessionAffinity": "ClientIP"}));
    assert_eq!(node_port["externalTrafficPolicy"], "Cluster");
    assert_eq!(node_port["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"], 10800);
    assert_eq!(spec(json!({"type": "LoadBalancer"}))["allocateLoadBalancerNodePorts"], true);
    assert_eq!(spec(json!({"type": "ExternalName"})).get("internalTrafficPolicy"), None);
    let status = |ingress: Value| {
        defaulted("", "v1", "Service", json!({"status": {"loadBalancer": {"ingress": [ingress]}}}))["status"].clone()
    };
    assert_eq!(status(json!({"ip": "192.0.2.1"}))["loadBalancer"]["ingress"][0]["ipMode"], "VIP");
    assert_eq!(status(json!({"ip": "192.0.2.1", "ipMode": "Proxy"}))["loadBalancer"]["ingress"][0]["ipMode"], "Proxy");
    assert_eq!(status(json!({"hostname": "a.b"}))["loadBalancer"]["ingress"][0].get("ipMode"), None);
    assert_eq!(defaulted("", "v1", "Service", json!({}))["status"], json!({"loadBalancer": {}}));
}

#[test]
fn others() {
    let namespace = defaulted("", "v1", "Namespace", json!({"metadata": {"name": "dev"}}));
    assert_eq!(
        namespace,
        json!({
            "metadata": {"name": "dev", "labels": {"kubernetes.io/metadata.name": "dev"}},
            "status": {"phase": "Active"},
        })
    );
    assert_eq!(defaulted("", "v1", "Secret", json!({}))["type"], "Opaque");
    let secret = defaulted("", "v1", "Secret", json!({"data": {"a": "b2xk", "b": "Yg=="}, "stringData": {"a": "new"}}));
    assert_eq!(secret["data"], json!({"a": "bmV3", "b": "Yg=="}));
    assert_eq!(secret.get("stringData"), None);
    let autoscaler = defaulted("autoscaling", "v2", "HorizontalPodAutoscaler", json!({"spec": {}}));
    assert_eq!(autoscaler["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 80);
    let behavior = json!({"spec": {"behavior": {"scaleDown": {"selectPolicy": "Min"}}}});
    let behavior = &defaulted("autoscaling", "v2", "HorizontalPodAutoscaler", behavior)["spec"]["behavior"];
    assert_eq!(behavior["scaleDown"]["policies"][0]["value"], 100);
    assert_eq!(
        (&behavior["scaleDown"]["selectPolicy"], &behavior["scaleUp"]["selectPolicy"]),
        (&json!("Min"), &json!("Max"))
    );
    let budget = defaulted("policy", "v1", "PodDisruptionBudget", json!({"spec": {}}));
    assert_eq!(budget["status"]["disruptionsAllowed"], 0);
    let policy = json!({"spec": {"egress": [{"ports": [{"port": 53}]}]}});
    let policy = defaulted("networking.k8s.io", "v1", "NetworkPolicy", policy);
    assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(policy["spec"]["egress"][0]["ports"][0]["protocol"], "TCP");
}

#[test]
fn a_job_selects_its_own_pods() {
    let job = json!({"metadata": {"name": "pi", "uid": "u-1"}, "spec": {"template": {}}});
    let job = defaulted("batch", "v1", "Job", job);
    let label = |key: &str| job["spec"]["template"]["metadata"]["labels"][key].clone();
    assert_eq!(label("batch.kubernetes.io/controller-uid"), "u-1");
    assert_eq!(label("job-name"), "pi");
    let selector = json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u-1"}});
    assert_eq!(job["spec"]["selector"], selector);
    let own = json!({"metadata": {"uid": "u-1"}, "spec": {"manualSelector": true, "template": {}}});
    assert_eq!(defaulted("batch", "v1", "Job", own)["spec"].get("selector"), None);
}
