//! What an Ingress carries: gRPC, WebSockets and HTTP/2, spoken by other people's programs, through TLS.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use testbed::{Lab, NODE, Options, inside, need, python, text, wait};

const PATIENCE: Duration = Duration::from_secs(60);

/// Programs on the node itself are what the Services lead to.
const BACKENDS: &str = "
apiVersion: v1
kind: Service
metadata: {name: NAME}
spec: {ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: NAME, labels: {kubernetes.io/service-name: NAME}}
addressType: IPv4
endpoints: [{addresses: [NODE]}]
ports: [{port: PORT, protocol: TCP, name: ''}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: NAME
  annotations:
    nginx.ingress.kubernetes.io/backend-protocol: PROTOCOL
    nginx.ingress.kubernetes.io/proxy-body-size: '0'
spec:
  tls: [{hosts: [NAME.app.com], secretName: app-tls}]
  rules:
  - host: NAME.app.com
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: NAME, port: {number: 80}}}}]}
---
";

/// A cluster with a certificate for `*.app.com`, which it returns, and Ingresses for these backends.
fn lab(backends: &[(&str, u16, &str)]) -> (Lab, PathBuf) {
    let lab = Lab::start(env!("CARGO_BIN_EXE_coracle"), Options::default());
    let [key, certificate] = ["key", "pem"].map(|ending| lab.scratch().join("app").with_extension(ending));
    let mut openssl = Command::new(need("openssl"));
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]);
    openssl.args(["-subj", "/CN=app.com", "-addext", "subjectAltName=DNS:*.app.com"]);
    text(openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate));
    let (cert, key) = (certificate.display(), key.display());
    lab.kubectl(&format!("create secret tls app-tls --cert={cert} --key={key}"));
    for (name, port, protocol) in backends {
        let manifest = BACKENDS.replace("NAME", name).replace("NODE", &NODE.to_string());
        lab.apply(&manifest.replace("PORT", &port.to_string()).replace("PROTOCOL", protocol));
        // What is there answers, or nothing is yet; but no longer that nobody has heard of it.
        let connect = format!("{name}.app.com:443:{NODE}:443");
        wait("Ingress", PATIENCE, || {
            let mut curl = Command::new(need("curl"));
            curl.args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--max-time", "5"]);
            curl.arg("--cacert").arg(&certificate).args(["--connect-to", &connect]);
            let status = testbed::run(curl.arg(format!("https://{name}.app.com/")));
            match &*String::from_utf8_lossy(&status.stdout) {
                "000" | "404" | "503" => Err(format!("{status:?}")),
                _ => Ok(()),
            }
        });
    }
    (lab, certificate)
}

#[test]
fn grpc_and_websockets() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/ingress");
    let python = python(env!("CARGO_TARGET_TMPDIR"), "ingress", &sources.join("requirements.txt"));
    if !inside("grpc_and_websockets") {
        return;
    }
    let (_lab, certificate) = lab(&[("grpc", 50051, "GRPC"), ("ws", 50052, "HTTP")]);
    let mut tests = Command::new(python);
    tests.args(["-B", "-m", "unittest", "--verbose", "test_ingress"]).current_dir(sources);
    text(tests.env("ADDRESS", NODE.to_string()).env("AUTHORITY", certificate));
}

#[test]
fn many_streams_at_once() {
    if !inside("many_streams_at_once") {
        return;
    }
    let (lab, _) = lab(&[]);
    lab.kubectl("create deployment web --image=coracle/echo --replicas=2 --port=80");
    lab.kubectl("expose deployment web --port=80");
    lab.kubectl("create ingress web --rule=web.app.com/*=web:80,tls=app-tls");
    lab.kubectl("rollout status deployment/web --timeout=60s");
    let connect = format!("{NODE}:443");
    wait("answer", PATIENCE, || {
        let mut curl = Command::new(need("curl"));
        curl.args(["--silent", "--insecure", "--fail", "--max-time", "5"]);
        let answer = testbed::run(curl.args(["--connect-to", &format!("::{connect}"), "https://web.app.com/"]));
        if answer.status.success() { Ok(()) } else { Err(format!("{answer:?}")) }
    });
    for (how, requests) in [(&["-m100"][..], "20000"), (&["-m1"], "5000"), (&["--h1"], "5000")] {
        let mut h2load = Command::new(need("h2load"));
        h2load.args(["-n", requests, "-c20", "-t1", "--connect-to", &connect]).args(how);
        let said = text(h2load.arg("https://web.app.com/"));
        let all = format!("{requests} succeeded, 0 failed, 0 errored, 0 timeout");
        assert!(said.contains(&all) && said.contains(&format!("status codes: {requests} 2xx")), "{said}");
    }
}
