//! Services of a whole cluster: requests go on while pods are replaced, and while Coracle is dead.

use std::{net::Ipv4Addr, process::Command, time::Duration};

use testbed::{Following, Lab, NODE, OUTSIDE, Options, inside, outside, wait};

const PATIENCE: Duration = Duration::from_secs(60);

const PODS: &str = "
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  replicas: 3
  selector:
    matchLabels:
      app: web
  template:
    metadata:
      labels:
        app: web
    spec:
      containers:
      - name: web
        image: nginx
        command: [sh, -c, sleep 1; exec nginx]
        readinessProbe:
          httpGet:
            port: 80
          periodSeconds: 1
        lifecycle:
          preStop:
            sleep:
              seconds: 2
---
apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  type: NodePort
  selector:
    app: web
  ports:
  - port: 80
    nodePort: 30001
";

/// Asks over many connections at a time, and then over one, and says how it went. (In parallel, curl shows its progress
/// whatever it is told.)
const LOAD: &str = "while :; do for how in --parallel --no-parallel; do \
    said=$(curl --silent --show-error --fail --max-time 10 --output /dev/null $how URL/?[1-30] 2>&1); \
    case $said in *curl:*) echo failed $how: $said;; *) echo answered;; esac; done; done";

/// How many rounds of requests are enough.
const MANY: usize = 20;

/// Clients that ask a Service: a pod, and another machine.
struct Load<'a> {
    lab: &'a Lab,
    outside: &'a Following,
}

/// Asks the NodePort from another machine.
fn outside_load() -> Following {
    let mut command: Command = outside("sh");
    command.args(["-c", &LOAD.replace("URL", &format!("http://{NODE}:30001"))]);
    Following::of(command)
}

/// A pod that asks a URL.
fn pod_load(lab: &Lab, url: &str) {
    let script = LOAD.replace("URL", url);
    lab.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: client\nspec:\n  containers:\n  - name: client\n    \
         image: nginx\n    command: [sh, -c, '{script}']\n"
    ));
    lab.kubectl("wait --for=condition=Ready pod/client --timeout=30s");
}

impl Load<'_> {
    /// Waits until both have asked often, and asserts that they always had an answer.
    fn goes_on(&self) {
        let count = |said: &str| {
            assert!(!said.contains("failed"), "{said}");
            said.matches("answered").count()
        };
        let pod = || self.lab.kubectl("logs client");
        let before = [count(&self.outside.said()), count(&pod())];
        wait("answers", PATIENCE, || {
            let now = [count(&self.outside.said()), count(&pod())];
            let enough = now.iter().zip(before).all(|(now, before)| *now >= before + MANY);
            if enough { Ok(()) } else { Err(format!("{before:?}, now {now:?}")) }
        });
    }
}

fn lab() -> Lab {
    let lab = Lab::start(env!("CARGO_BIN_EXE_coracle"), Options::default());
    lab.import_nginx();
    lab.apply(PODS);
    lab.kubectl("rollout status deployment/web --timeout=60s");
    wait("answer", PATIENCE, || lab.curl(&format!("http://{NODE}:30001")));
    lab
}

#[test]
fn a_rolling_update_loses_no_request() {
    if !inside("a_rolling_update_loses_no_request") {
        return;
    }
    let lab = lab();
    pod_load(&lab, "http://web");
    let load = Load { lab: &lab, outside: &outside_load() };
    load.goes_on();
    let names = || lab.kubectl("get pods -l app=web -o name").lines().map(str::to_owned).collect::<Vec<_>>();
    for round in 0..2 {
        let before = names();
        lab.kubectl(&format!("set env deployment/web ROUND={round}"));
        lab.kubectl("rollout status deployment/web --timeout=60s");
        wait("end of the old pods", PATIENCE, || {
            let now = names();
            if now.len() == 3 && !now.iter().any(|pod| before.contains(pod)) { Ok(()) } else { Err(now.join(" ")) }
        });
        load.goes_on();
    }
}

#[test]
fn services_go_on_while_coracle_is_dead() {
    if !inside("services_go_on_while_coracle_is_dead") {
        return;
    }
    let mut lab = lab();
    let address = lab.kubectl("get service web -o jsonpath={.spec.clusterIP}");
    pod_load(&lab, &format!("http://{address}"));
    let outside = outside_load();
    Load { lab: &lab, outside: &outside }.goes_on();
    for _ in 0..2 {
        lab.kill();
        let before = outside.said().len();
        outside.until("answers", PATIENCE, |said| said[before..].matches("answered").count() >= MANY);
        lab.up();
        Load { lab: &lab, outside: &outside }.goes_on();
    }
}

#[test]
fn pods_see_who_asks() {
    if !inside("pods_see_who_asks") {
        return;
    }
    let lab = Lab::start(env!("CARGO_BIN_EXE_coracle"), Options::default());
    lab.apply(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: web, labels: {app: web}}\n\
         spec: {containers: [{name: web, image: coracle/echo, ports: [{containerPort: 80, hostPort: 8080}]}]}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {type: NodePort, selector: {app: web}, \
         externalTrafficPolicy: Local, ports: [{port: 80, nodePort: 30001}]}\n",
    );
    lab.kubectl("wait --for=condition=Ready pod/web --timeout=30s");
    let client = |port: u16, wanted: Ipv4Addr| {
        wait("answer", PATIENCE, || {
            let answer = lab.curl_outside(&format!("http://{NODE}:{port}"))?;
            if answer.contains(&format!("client: {wanted}:")) { Ok(()) } else { Err(answer) }
        });
    };
    client(30001, OUTSIDE);
    client(8080, OUTSIDE);
    lab.kubectl("patch service web --patch '{\"spec\":{\"externalTrafficPolicy\":\"Cluster\"}}'");
    client(30001, NODE);
}
