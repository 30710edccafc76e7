//! Ingresses from another machine: by name and TLS, and while everything behind them changes.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::{Value, json};
use testbed::{Following, Lab, NODE, OUTSIDE, Options, inside, need, outside, run, text, wait};

const PATIENCE: Duration = Duration::from_secs(60);
/// The cluster's DNS.
const DNS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// The name of the address where all Ingresses are.
const DOOR: &str = "ingress.kube-system.lb.cluster.local";

/// A cluster with the lesson's Ingresses, whose programs come and go as they should, and one without TLS.
fn lab() -> Lab {
    let lab = Lab::start(env!("CARGO_BIN_EXE_coracle"), Options::default());
    text(Command::new(need("ip")).args(["-n", "outside", "route", "add", &DNS.to_string(), "via", &NODE.to_string()]));
    lab.kubectl(&format!("apply -f {}/examples/ingress.yaml", env!("CARGO_MANIFEST_DIR")));
    let told = json!({"spec": {"template": {"spec": {"containers": [{
        "name": "web",
        "readinessProbe": {"httpGet": {"port": 80}, "periodSeconds": 1},
        "lifecycle": {"preStop": {"sleep": {"seconds": 2}}},
    }]}}}});
    lab.kubectl(&format!("patch deployment frontend --patch '{told}'"));
    lab.kubectl("create ingress plain --class=nginx --rule=plain.app.com/*=frontend:80");
    for name in ["frontend", "backend", "admin"] {
        lab.kubectl(&format!("rollout status deployment/{name} --timeout=60s"));
    }
    lab
}

/// Makes a certificate of its own for app.com and admin.app.com, and the Secret of the lesson of it.
fn certificate(lab: &Lab, name: &str) -> PathBuf {
    let [key, certificate] = ["key", "pem"].map(|ending| lab.scratch().join(name).with_extension(ending));
    let mut openssl = Command::new(need("openssl"));
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]);
    openssl.args(["-subj", &format!("/CN={name}"), "-addext", "subjectAltName=DNS:app.com,DNS:*.app.com"]);
    text(openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate));
    let secret = lab.kubectl(&format!(
        "create secret tls app-tls --cert={} --key={} --dry-run=client -o yaml",
        certificate.display(),
        key.display()
    ));
    lab.apply(&secret);
    certificate
}

/// What curl says on the other machine, which asks the cluster's DNS where the Ingresses are.
fn curl(lab: &Lab, arguments: &[&str]) -> Result<String, String> {
    let resolver = lab.scratch().join("resolv.conf");
    fs::write(&resolver, format!("nameserver {DNS}\n")).expect("a file");
    // Mounts made there are not seen here.
    let script = "mount --bind \"$0\" /etc/resolv.conf && exec curl --silent --show-error --max-time 5 \"$@\"";
    let mut command = outside("sh");
    command.args(["-c", script]).arg(resolver).args(["--connect-to", &format!("::{DOOR}:")]).args(arguments);
    let output = run(&mut command);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// Waits until an answer has all of these.
fn answered(lab: &Lab, arguments: &[&str], expected: &[&str]) {
    wait(&format!("{expected:?} from {arguments:?}"), PATIENCE, || {
        let answer = curl(lab, arguments)?;
        if expected.iter().all(|part| answer.contains(part)) { Ok(()) } else { Err(answer) }
    });
}

/// Waits until the certificate that is shown is this one.
fn believed(lab: &Lab, certificate: &Path) {
    answered(lab, &["--cacert", &certificate.display().to_string(), "https://app.com/"], &["pod: frontend-"]);
}

#[test]
fn three_programs_behind_one_name() {
    if !inside("three_programs_behind_one_name") {
        return;
    }
    let lab = lab();
    let authority = certificate(&lab, "first");
    believed(&lab, &authority);
    let authority = authority.display().to_string();
    let client = format!("on behalf of: {OUTSIDE}\n");
    let cases: [(&[&str], &[&str]); 8] = [
        (&["https://app.com/"], &["pod: frontend-", "request: GET /\n", &client]),
        (&["https://app.com/index?a=b"], &["pod: frontend-", "request: GET /index?a=b\n"]),
        (&["https://app.com/api"], &["pod: backend-", "request: GET /\n", &client]),
        (&["https://app.com/api/users?a=b"], &["pod: backend-", "request: GET /users?a=b\n"]),
        (&["https://app.com/apis"], &["pod: frontend-", "request: GET /apis\n"]),
        (&["https://admin.app.com/x"], &["pod: admin-", "request: GET /x\n", &client]),
        // What a client says of itself is not believed.
        (&["--header", "X-Forwarded-For: 203.0.113.9", "https://app.com/"], &[&client]),
        (&["--http2", "--write-out", "version %{http_version}", "https://app.com/"], &["pod: frontend-", "version 2"]),
    ];
    for (arguments, expected) in cases {
        answered(&lab, &[&["--cacert", &authority], arguments].concat(), expected);
    }
    let redirected = ["--write-out", "%{http_code} %{redirect_url}", "http://app.com/x?a=b"];
    answered(&lab, &redirected, &["308 https://app.com/x?a=b"]);
    answered(&lab, &["--http2-prior-knowledge", "http://plain.app.com/"], &["pod: frontend-"]);
    answered(&lab, &["--write-out", "%{http_code}", "http://other.com/"], &["404"]);
    let shown = lab.kubectl("get ingress app --no-headers");
    assert!(shown.contains(&NODE.to_string()), "{shown}");
}

/// Asks over many connections at a time, and then over one, plainly and by TLS, and says how it went. (In parallel, curl
/// shows its progress whatever it is told.)
fn load() -> Following {
    let script = "while :; do for url in http://plain.app.com https://app.com; do for how in --parallel --no-parallel; do \
        said=$(curl --silent --show-error --fail --insecure --max-time 10 --output /dev/null $how \
        --connect-to ::ADDRESS: $url/?[1-30] 2>&1); \
        case $said in *curl:*) echo failed $how $url: $said;; *) echo answered;; esac; done; done; done";
    let mut command = outside("sh");
    command.args(["-c", &script.replace("ADDRESS", &NODE.to_string())]);
    Following::of(command)
}

/// Waits for many more answers, and asserts that there were always some.
fn goes_on(load: &Following) {
    let before = load.said().matches("answered").count();
    load.until("answers", PATIENCE, |said| said.matches("answered").count() >= before + 8);
    assert!(!load.said().contains("failed"), "{}", load.said());
}

#[test]
fn requests_go_on_while_everything_changes() {
    if !inside("requests_go_on_while_everything_changes") {
        return;
    }
    let mut lab = lab();
    let first = certificate(&lab, "first");
    believed(&lab, &first);
    answered(&lab, &["http://plain.app.com/"], &["pod: frontend-"]);
    let requests = load();
    goes_on(&requests);
    for round in 0..2 {
        lab.kubectl(&format!("set env deployment/frontend ROUND={round}"));
        lab.kubectl("rollout status deployment/frontend --timeout=60s");
        goes_on(&requests);
    }
    believed(&lab, &certificate(&lab, "second"));
    goes_on(&requests);
    for value in ["5m", "0", "8k"] {
        lab.kubectl(&format!(
            "annotate ingress app plain --overwrite nginx.ingress.kubernetes.io/proxy-body-size={value}"
        ));
        lab.kubectl(&format!(
            "annotate ingress plain --overwrite nginx.ingress.kubernetes.io/upstream-vhost={value}.com"
        ));
        goes_on(&requests);
    }
    lab.kubectl("create ingress more --class=nginx --rule=app.com/more=admin:80");
    answered(&lab, &["--insecure", "https://app.com/more"], &["pod: admin-"]);
    lab.kubectl("delete ingress more");
    goes_on(&requests);
    drop(requests);

    none_and_back(&lab);
    let address = |lab: &Lab| lab.get("ingress app")["status"]["loadBalancer"]["ingress"].clone();
    let before: Value = address(&lab);
    lab.kill();
    lab.up();
    answered(&lab, &["--insecure", "https://app.com/"], &["pod: frontend-"]);
    assert_eq!(address(&lab), before);
    goes_on(&load());
}

/// Without pods the answer is 503, or 502 in the moment when the last one has ended and nobody has told; with them it is
/// theirs again.
fn none_and_back(lab: &Lab) {
    lab.kubectl("scale deployment frontend --replicas=0");
    let status = ["--output", "/dev/null", "--write-out", "%{http_code}", "http://plain.app.com/"];
    let mut seen = Vec::new();
    let mut until = |expected: &str| {
        wait(&format!("answer {expected}"), PATIENCE, || {
            let found = curl(lab, &status)?;
            seen.push(found.clone());
            if found == expected { Ok(()) } else { Err(found) }
        });
    };
    until("503");
    lab.kubectl("scale deployment frontend --replicas=2");
    until("200");
    seen.dedup();
    // The pods may be gone before the first question.
    let seen = seen.join(" ");
    assert!(["503 200", "502 503 200"].contains(&seen.strip_prefix("200 ").unwrap_or(&seen)), "{seen}");
}
