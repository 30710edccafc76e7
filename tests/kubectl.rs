//! Stock kubectl against a cluster: every command that a lesson or a habit may use.

use std::{
    io::Write as _,
    process::{Command, Stdio},
    time::Duration,
};

use testbed::{Lab, NODE, Options, inside, need, run, wait};

const PATIENCE: Duration = Duration::from_secs(30);

fn lab() -> Lab {
    Lab::start(env!("CARGO_BIN_EXE_coracle"), Options::default())
}

fn lab_with_nginx() -> Lab {
    let lab = lab();
    lab.import_nginx();
    lab
}

/// The NodePort lesson, its pods ready.
fn deployed(lab: &Lab) {
    lab.apply(include_str!("../examples/nodeport.yaml"));
    lab.kubectl("rollout status deployment/nginx-deploy --timeout=30s");
}

/// A pod of the nginx image that runs a shell script.
fn script(lab: &Lab, name: &str, script: &str) {
    lab.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:\n  - name: main\n    image: nginx\n    command: [sh, -c, {}]\n",
        serde_json::Value::from(script)
    ));
}

/// Asserts that every one of these is in the text.
fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}

#[test]
fn get_prints_every_format() {
    if !inside("get_prints_every_format") {
        return;
    }
    let lab = lab();
    let created = lab.apply(include_str!("../examples/nodeport.yaml"));
    assert_eq!(created, "deployment.apps/nginx-deploy created\nservice/nodeport-svc created\n");
    lab.kubectl("rollout status deployment/nginx-deploy --timeout=30s");
    let again = lab.apply(include_str!("../examples/nodeport.yaml"));
    assert_eq!(again, "deployment.apps/nginx-deploy unchanged\nservice/nodeport-svc unchanged\n");

    let pods = lab.kubectl("get pods");
    has(&pods, &["NAME", "READY", "STATUS", "RESTARTS", "AGE", "nginx-deploy-", "1/1", "Running"]);
    let wide = lab.kubectl("get pods -o wide");
    has(&wide, &["IP", "NODE", "NOMINATED NODE", "READINESS GATES", "10.244.0.", "coracle"]);
    let services = lab.kubectl("get service nodeport-svc");
    has(&services, &["TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "NodePort", "10.", "<none>", "80:30001/TCP"]);
    has(
        &lab.kubectl("get deploy,rs"),
        &["deployment.apps/nginx-deploy", "3/3", "replicaset.apps/nginx-deploy-", "DESIRED"],
    );
    has(&lab.kubectl("get nodes -o wide"), &["coracle", "Ready", "v1.36", &NODE.to_string()]);
    has(&lab.kubectl("get endpoints nodeport-svc"), &["10.244.0.", ":80"]);
    has(&lab.kubectl("get endpointslices"), &["nodeport-svc-", "IPv4", "10.244.0."]);
    assert_eq!(lab.kubectl("get deployment nginx-deploy -o name"), "deployment.apps/nginx-deploy\n");
    has(
        &lab.kubectl("get deployment nginx-deploy -o yaml"),
        &["apiVersion: apps/v1\n", "kind: Deployment\n", "replicas: 3\n"],
    );
    let deployment = lab.get("deployment nginx-deploy");
    assert_eq!(deployment["status"]["readyReplicas"], 3);
    assert_eq!(deployment["spec"]["strategy"]["rollingUpdate"]["maxSurge"], "25%");
    let all = lab.kubectl("get pods -A --show-labels");
    has(&all, &["NAMESPACE", "LABELS", "env=demo,pod-template-hash="]);
    assert_eq!(lab.kubectl("get pods -l env=demo --no-headers").lines().count(), 3);
    assert_eq!(lab.kubectl("get pods --field-selector status.phase=Pending -o name"), "");
    has(&lab.kubectl("get all"), &["pod/nginx-deploy-", "service/nodeport-svc", "service/kubernetes"]);
}

#[test]
fn watches_see_changes() {
    if !inside("watches_see_changes") {
        return;
    }
    let lab = lab();
    let watch = lab.follow("get deployments --watch");
    deployed(&lab);
    watch.until("three ready replicas", PATIENCE, |said| said.contains("nginx-deploy   3/3"));
    lab.kubectl("scale deployment/nginx-deploy --replicas=1");
    watch.until("one ready replica", PATIENCE, |said| said.contains("nginx-deploy   1/1"));
    has(&watch.said(), &["nginx-deploy   0/3"]);
    let mut waiting = lab.follow("wait --for=delete deployment/nginx-deploy --timeout=30s");
    lab.kubectl("delete deployment nginx-deploy");
    assert!(waiting.end(PATIENCE), "{}", waiting.said());
    wait("end of the pods", PATIENCE, || {
        let pods = lab.kubectl("get pods -o name");
        if pods.is_empty() { Ok(()) } else { Err(pods) }
    });
}

#[test]
fn describe_tells_the_story() {
    if !inside("describe_tells_the_story") {
        return;
    }
    let lab = lab();
    deployed(&lab);
    let pod = lab.kubectl("describe pods -l env=demo");
    has(&pod, &["Controlled By:  ReplicaSet/nginx-deploy-", "Image:          coracle/echo", "State:          Running"]);
    has(
        &pod,
        &[
            "Scheduled",
            "Successfully assigned default/nginx-deploy-",
            "Pulled",
            "Created",
            "Started",
            "Ready             True",
        ],
    );
    let deployment = lab.kubectl("describe deployment nginx-deploy");
    has(
        &deployment,
        &[
            "3 desired | 3 updated | 3 total | 3 available | 0 unavailable",
            "ScalingReplicaSet",
            "MinimumReplicasAvailable",
        ],
    );
    let service = lab.kubectl("describe service nodeport-svc");
    has(&service, &["NodePort:", "30001/TCP", "Endpoints:", "10.244.0.", "Selector:"]);
    let node = lab.kubectl("describe node coracle");
    has(
        &node,
        &[
            "Ready",
            "KubeletReady",
            "InternalIP:",
            "PodCIDR:",
            "10.244.0.0/24",
            "Non-terminated Pods:",
            "nginx-deploy-",
            "Lease:",
        ],
    );
    let events = lab.kubectl("get events");
    has(&events, &["LAST SEEN", "REASON", "SuccessfulCreate", "ScalingReplicaSet", "Scheduled", "Started"]);
}

#[test]
fn deployments_are_created_scaled_exposed_and_deleted() {
    if !inside("deployments_are_created_scaled_exposed_and_deleted") {
        return;
    }
    let lab = lab();
    assert_eq!(lab.kubectl("create deployment web --image=coracle/echo --replicas=2"), "deployment.apps/web created\n");
    assert_eq!(lab.kubectl("scale deployment web --replicas=3"), "deployment.apps/web scaled\n");
    assert_eq!(lab.kubectl("expose deployment web --port=80 --type=NodePort"), "service/web exposed\n");
    has(&lab.kubectl("rollout status deployment/web --timeout=30s"), &["successfully rolled out"]);
    lab.kubectl("wait --for=condition=Available deployment/web --timeout=30s");
    let port = lab.kubectl("get service web -o jsonpath={.spec.ports[0].nodePort}");
    wait("answer", PATIENCE, || lab.curl(&format!("http://{NODE}:{port}")));
    assert_eq!(lab.kubectl("label deployment web tier=front"), "deployment.apps/web labeled\n");
    assert_eq!(lab.kubectl("annotate deployment web note=seen"), "deployment.apps/web annotated\n");
    lab.kubectl("patch deployment web --type=merge -p '{\"spec\":{\"replicas\":1}}'");
    lab.kubectl("patch deployment web --type=json -p '[{\"op\":\"replace\",\"path\":\"/spec/replicas\",\"value\":2}]'");
    lab.kubectl("patch deployment web -p '{\"spec\":{\"template\":{\"spec\":{\"containers\":[{\"name\":\"echo\",\"args\":[\"--http\",\"80\"]}]}}}}'");
    let deployment = lab.get("deployment web");
    assert_eq!(deployment["spec"]["replicas"], 2);
    assert_eq!(deployment["spec"]["template"]["spec"]["containers"][0]["image"], "coracle/echo");
    assert_eq!(deployment["metadata"]["labels"]["tier"], "front");
    lab.kubectl("rollout status deployment/web --timeout=30s");

    assert_eq!(lab.kubectl("run one --image=coracle/echo"), "pod/one created\n");
    lab.kubectl("wait --for=condition=Ready pod/one --timeout=30s");
    assert_eq!(lab.kubectl("delete pod one"), "pod \"one\" deleted\n");
    assert_eq!(
        lab.kubectl("delete deployment/web service/web"),
        "deployment.apps \"web\" deleted\nservice \"web\" deleted\n"
    );
    let gone = lab.kubectl_fails("get deployment web");
    assert_eq!(gone, "Error from server (NotFound): deployments.apps \"web\" not found\n");
    assert_eq!(lab.kubectl("delete deployment web --ignore-not-found"), "");
}

#[test]
fn a_rolling_update_never_stops_answering() {
    if !inside("a_rolling_update_never_stops_answering") {
        return;
    }
    let lab = lab_with_nginx();
    deployed(&lab);
    let ask = || lab.curl(&format!("http://{NODE}:30001")).expect("the Service answers all along");
    lab.kubectl("set env deployment/nginx-deploy COLOUR=blue");
    let mut rollout = lab.follow("rollout status deployment/nginx-deploy --timeout=30s");
    while lab.get("deployment nginx-deploy")["status"]["updatedReplicas"] != 3 {
        ask();
    }
    assert!(rollout.end(PATIENCE), "{}", rollout.said());
    has(&rollout.said(), &["successfully rolled out"]);
    ask();
    let sets = lab.get("replicasets -l env=demo");
    assert_eq!(sets["items"].as_array().map(Vec::len), Some(2), "{sets}");

    lab.kubectl("set image deployment/nginx-deploy web=nginx");
    lab.kubectl("rollout status deployment/nginx-deploy --timeout=30s");
    wait("nginx alone", PATIENCE, || {
        let pods = lab.kubectl("get pods -l env=demo --no-headers");
        if pods.lines().count() == 3 { Ok(()) } else { Err(pods) }
    });
    has(&ask(), &["Welcome to nginx!"]);
    has(&lab.kubectl("rollout history deployment/nginx-deploy"), &["REVISION", "1", "2", "3"]);
    assert_eq!(lab.kubectl("rollout undo deployment/nginx-deploy"), "deployment.apps/nginx-deploy rolled back\n");
    lab.kubectl("rollout status deployment/nginx-deploy --timeout=30s");
    let template = lab.kubectl("get deployment nginx-deploy -o jsonpath={.spec.template.spec.containers[0].image}");
    assert_eq!(template, "coracle/echo");
    lab.kubectl("rollout restart deployment/nginx-deploy");
    lab.kubectl("rollout status deployment/nginx-deploy --timeout=30s");
}

#[test]
fn logs_are_read_followed_and_kept() {
    if !inside("logs_are_read_followed_and_kept") {
        return;
    }
    let lab = lab_with_nginx();
    script(
        &lab,
        "talker",
        "echo first; echo oops >&2; while [ ! -e /tmp/go ]; do sleep 0.1; done; echo last; sleep 1000",
    );
    lab.kubectl("wait --for=condition=Ready pod/talker --timeout=30s");
    wait("lines", PATIENCE, || {
        let log = lab.kubectl("logs talker");
        if log.lines().count() == 2 { Ok(()) } else { Err(log) }
    });
    has(&lab.kubectl("logs talker"), &["first\n", "oops\n"]);
    assert_eq!(lab.kubectl("logs talker --tail=1").lines().count(), 1);
    let stamped = lab.kubectl("logs talker --timestamps");
    assert!(stamped.starts_with("20") && stamped.contains("Z first"), "{stamped}");
    let follow = lab.follow("logs --follow talker");
    follow.until("what was said before", PATIENCE, |said| said.contains("first\n"));
    lab.kubectl("exec talker -- touch /tmp/go");
    follow.until("what is said now", PATIENCE, |said| said.contains("last\n"));
    has(
        &lab.kubectl_fails("logs talker --previous"),
        &["previous terminated container \"main\" in pod \"talker\" not found"],
    );

    script(&lab, "failing", "echo attempt; exit 3");
    wait("restart", PATIENCE, || {
        let pod = lab.get("pod failing");
        let restarts = &pod["status"]["containerStatuses"][0]["restartCount"];
        if restarts.as_u64() > Some(0) { Ok(()) } else { Err(pod.to_string()) }
    });
    assert_eq!(lab.kubectl("logs failing --previous"), "attempt\n");
    has(&lab.kubectl_fails("logs nobody"), &["pods \"nobody\" not found"]);
    has(&lab.kubectl_fails("logs talker -c other"), &["container other is not valid for pod talker"]);
}

#[test]
fn exec_carries_input_output_and_exit_codes() {
    if !inside("exec_carries_input_output_and_exit_codes") {
        return;
    }
    let lab = lab_with_nginx();
    script(&lab, "shell", "sleep 1000");
    lab.kubectl("wait --for=condition=Ready pod/shell --timeout=30s");
    assert_eq!(lab.kubectl("exec shell -- hostname"), "shell\n");
    has(&lab.kubectl("exec shell -- env"), &["HOSTNAME=shell\n", "KUBERNETES_SERVICE_HOST=10.96.0.1\n", "PATH="]);
    let output = run(&mut lab.kubectl_command("exec shell -- sh -c 'echo out; echo err >&2; exit 7'"));
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "out\n");
    has(&String::from_utf8_lossy(&output.stderr), &["err\n", "command terminated with exit code 7"]);

    let mut command = lab.kubectl_command("exec --stdin shell -- cat");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("kubectl starts");
    let long = "a line of some length that is repeated\n".repeat(5_000);
    let mut input = child.stdin.take().expect("a pipe");
    let text = long.clone();
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = child.wait_with_output().expect("kubectl ends");
    writer.join().expect("no panic").expect("all is written");
    assert!(output.status.success());
    assert!(
        String::from_utf8_lossy(&output.stdout) == long,
        "{} of {} bytes came back",
        output.stdout.len(),
        long.len()
    );

    // A terminal on both ends: `script` gives kubectl one.
    let kubectl = lab.kubectl_command("exec --stdin --tty shell -- sh -c '[ -t 0 ] && echo a terminal'");
    let words: Vec<_> = std::iter::once(kubectl.get_program()).chain(kubectl.get_args()).collect();
    let quoted: Vec<_> = words.iter().map(|word| format!("'{}'", word.to_string_lossy())).collect();
    let terminal = run(Command::new(need("script")).args(["-qec", &quoted.join(" "), "/dev/null"]));
    has(&String::from_utf8_lossy(&terminal.stdout), &["a terminal\r\n"]);

    has(&lab.kubectl_fails("exec shell -- nothing-like-this"), &["nothing-like-this"]);
    has(&lab.kubectl_fails("exec shell -c other -- true"), &["container other is not valid for pod shell"]);
    has(&lab.kubectl_fails("exec nobody -- true"), &["pods \"nobody\" not found"]);
}

#[test]
fn namespaces_and_the_api_are_listed() {
    if !inside("namespaces_and_the_api_are_listed") {
        return;
    }
    let lab = lab();
    assert_eq!(lab.kubectl("create namespace dev"), "namespace/dev created\n");
    let exists = lab.kubectl_fails("create namespace dev");
    assert_eq!(exists, "Error from server (AlreadyExists): namespaces \"dev\" already exists\n");
    has(&lab.kubectl("get namespaces"), &["default", "dev", "kube-node-lease", "kube-public", "kube-system", "Active"]);
    lab.kubectl("run one --image=coracle/echo --namespace dev");
    lab.kubectl("wait --for=condition=Ready pod/one --namespace dev --timeout=30s");
    has(&lab.kubectl("get pods -A"), &["NAMESPACE", "dev", "one"]);
    assert_eq!(lab.kubectl("get pods -o name"), "");
    has(&lab.kubectl("get serviceaccounts --namespace dev"), &["default"]);
    lab.kubectl("delete namespace dev --timeout=30s");
    assert_eq!(lab.kubectl("get pods -A -o name"), "");
    let nowhere = lab.kubectl_fails("run one --image=coracle/echo --namespace dev");
    assert_eq!(nowhere, "Error from server (NotFound): namespaces \"dev\" not found\n");

    has(&lab.kubectl("version"), &["Client Version: v1.", "Server Version: v1.36"]);
    let resources = lab.kubectl("api-resources");
    has(&resources, &["NAME", "SHORTNAMES", "deployments", "deploy", "apps/v1", "services", "svc", "endpointslices"]);
    has(&lab.kubectl("api-versions"), &["v1\n", "apps/v1\n", "discovery.k8s.io/v1\n"]);
    has(&lab.kubectl("cluster-info"), &["Kubernetes control plane", "https://127.0.0.1:6443"]);
    has(&lab.kubectl("explain deployment.spec.replicas"), &["FIELD: replicas <integer>"]);
    assert_eq!(lab.kubectl("auth can-i create pods"), "yes\n");
    assert_eq!(lab.kubectl("get --raw /readyz"), "ok");
    lab.kubectl("create configmap settings --from-literal=colour=blue");
    lab.kubectl("create secret generic password --from-literal=word=secret");
    assert_eq!(lab.kubectl("get configmap settings -o jsonpath={.data.colour}"), "blue");
    assert_eq!(lab.kubectl("get secret password -o jsonpath={.data.word}"), "c2VjcmV0");
    let dry = lab.kubectl("create deployment dry --image=x --dry-run=server -o name");
    assert_eq!(dry, "deployment.apps/dry\n");
    assert_eq!(lab.kubectl("get deployments -o name"), "");
}
