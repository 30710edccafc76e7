//! Ingresses, as people use them: with kubectl, curl and openssl.

use std::{process::Command, time::Duration};

use testbed::{Lab, Options, inside, need, run, wait};

const PATIENCE: Duration = Duration::from_secs(30);

fn lab() -> Lab {
    Lab::start(env!("CARGO_BIN_EXE_coracle"), Options::default())
}

/// Applies a lesson's manifest.
fn apply(lab: &Lab, example: &str) {
    lab.kubectl(&format!("apply -f {}/examples/{example}", env!("CARGO_MANIFEST_DIR")));
}

/// The address of all Ingresses inside the cluster, once there is one.
fn cluster_ip(lab: &Lab) -> String {
    let find = "get service ingress --namespace kube-system --ignore-not-found -o jsonpath={.spec.clusterIP}";
    wait("Service of the Ingresses", PATIENCE, || match lab.kubectl(find) {
        none if none.is_empty() => Err(none),
        address => Ok(address),
    })
}

/// What `https://HOST/PATH` answers at an address.
fn https(host: &str, path: &str, address: &str) -> Result<String, String> {
    let mut curl = Command::new(need("curl"));
    curl.args(["--silent", "--show-error", "--insecure", "--max-time", "5", "--fail"]);
    curl.args(["--resolve", &format!("{host}:443:{address}"), &format!("https://{host}{path}")]);
    let output = run(&mut curl);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

#[test]
fn an_ingress_is_served_with_the_first_one_and_after_a_kill() {
    if !inside("an_ingress_is_served_with_the_first_one_and_after_a_kill") {
        return;
    }
    let mut lab = lab();
    assert_eq!(lab.kubectl("get services --namespace kube-system -o name").trim(), "service/kube-dns");
    let classes = lab.kubectl("get ingressclasses --no-headers -o custom-columns=:metadata.name,:spec.controller");
    assert_eq!(
        classes.split_whitespace().collect::<Vec<_>>(),
        ["coracle", "coracle.dev/ingress-controller", "nginx", "k8s.io/ingress-nginx"]
    );
    apply(&lab, "ingress.yaml");
    let address = cluster_ip(&lab);
    let answers = |lab: &Lab| {
        wait("answer of admin", PATIENCE, || {
            let answer = https("admin.app.com", "/x", &address)?;
            if answer.contains("pod: admin-") && answer.contains("GET /x") { Ok(()) } else { Err(answer) }
        });
        assert_eq!(cluster_ip(lab), address);
    };
    answers(&lab);
    wait("events", PATIENCE, || {
        let said = lab.kubectl("describe ingress app");
        let told = "Secret \"default/app-tls\" was not found. Using default certificate for admin.app.com, app.com";
        let all = said.contains("Scheduled for sync") && said.matches(told).count() == 1;
        if all { Ok(()) } else { Err(said) }
    });
    lab.kill();
    lab.up();
    answers(&lab);
    lab.kubectl("delete ingress --all");
    wait("end of the Service", PATIENCE, || {
        let services = lab.kubectl("get services,endpointslices --namespace kube-system -o name");
        if services.contains("ingress") { Err(services) } else { Ok(()) }
    });
}
