//! Wrong input: each is refused with the words of Kubernetes, and the cluster goes on.

use testbed::{Lab, Options, inside, run};

const DEPLOYMENT: &str = include_str!("../examples/nodeport.yaml");

fn lab() -> Lab {
    Lab::start(env!("CARGO_BIN_EXE_coracle"), Options::default())
}

fn refused(lab: &Lab, manifest: &str) -> String {
    lab.kubectl_fails(&format!("apply -f {}", lab.manifest(manifest).display()))
}

/// A Service with this name and port.
fn service(name: &str, port: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  selector:\n    app: x\n  ports:\n  - port: {port}\n"
    )
}

/// A Pod with this name, label and further lines of its container.
fn pod(name: &str, label: &str, container: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  labels:\n    app: {label}\nspec:\n  containers:\n  - name: main\n    image: coracle/echo\n{container}"
    )
}

#[test]
fn manifests_that_do_not_parse_or_fit() {
    if !inside("manifests_that_do_not_parse_or_fit") {
        return;
    }
    let lab = lab();
    let cases = [
        (
            DEPLOYMENT.replace("  name: nginx-deploy", "  name: nginx: deploy"),
            "mapping values are not allowed in this context",
        ),
        (DEPLOYMENT.replace("  replicas: 3", "\treplicas: 3"), "found character that cannot start any token"),
        (
            DEPLOYMENT.replace("kind: Deployment", "kind: Deploymnt"),
            "no matches for kind \"Deploymnt\" in version \"apps/v1\"",
        ),
        (DEPLOYMENT.replace("apps/v1", "apps/v2"), "no matches for kind \"Deployment\" in version \"apps/v2\""),
        (DEPLOYMENT.replace("kind: Deployment\n", ""), "kind not set"),
        (
            DEPLOYMENT.replace("replicas: 3", "replicas: three"),
            "Deployment in version \"v1\" cannot be handled as a Deployment: json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            DEPLOYMENT.replace("replicas: 3", "replica: 3"),
            "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: unknown field \"spec.replica\"",
        ),
        (
            DEPLOYMENT.replace("        image: coracle/echo", "        imagee: coracle/echo"),
            "strict decoding error: unknown field \"spec.template.spec.containers[0].imagee\"",
        ),
    ];
    for (manifest, message) in cases {
        assert_ne!(manifest, DEPLOYMENT, "{message}");
        let said = refused(&lab, &manifest);
        assert!(said.contains(message), "no {message:?} in {said:?}");
        // The Service in the same file is fine and may have been made.
        lab.kubectl("delete service nodeport-svc --ignore-not-found");
    }
    lab.apply(DEPLOYMENT);
}

#[test]
fn unknown_fields_are_warned_about_on_request() {
    if !inside("unknown_fields_are_warned_about_on_request") {
        return;
    }
    let lab = lab();
    let manifest = lab.manifest(&DEPLOYMENT.replace("replicas: 3", "replicas: 1\n  colour: blue"));
    let output = run(&mut lab.kubectl_command(&format!("apply --validate=warn -f {}", manifest.display())));
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("Warning: unknown field \"spec.colour\""), "{said}");
    assert!(lab.get("deployment nginx-deploy")["spec"]["colour"].is_null());
    let output = run(&mut lab.kubectl_command(&format!("apply --validate=ignore -f {}", manifest.display())));
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let strict = lab.kubectl_fails(&format!("apply --validate=strict -f {}", manifest.display()));
    assert!(strict.contains("unknown field \"spec.colour\""), "{strict}");
}

#[test]
fn values_that_are_not_allowed() {
    if !inside("values_that_are_not_allowed") {
        return;
    }
    let lab = lab();
    let long = "n".repeat(64);
    let longest = "n".repeat(254);
    let cases = [
        (service("web", "70000"), "* spec.ports[0].port: Invalid value: 70000: must be between 1 and 65535, inclusive".to_owned()),
        (service("web", "0"), "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive".to_owned()),
        (service(&long, "80"), format!("metadata.name: Invalid value: \"{long}\": must be no more than 63 bytes")),
        (service("Web", "80"), "metadata.name: Invalid value: \"Web\": a DNS-1035 label must consist of lower case alphanumeric characters".to_owned()),
        (pod(&longest, "x", ""), format!("metadata.name: Invalid value: \"{longest}\": must be no more than 253 bytes")),
        (pod("under_score", "x", ""), "metadata.name: Invalid value: \"under_score\": a lowercase RFC 1123 subdomain must consist of".to_owned()),
        (pod("one", &long, ""), format!("metadata.labels: Invalid value: \"{long}\": must be no more than 63 bytes")),
        (
            pod("one", "x", "    ports:\n    - containerPort: 65536\n"),
            "spec.containers[0].ports[0].containerPort: Invalid value: 65536: must be between 1 and 65535, inclusive".to_owned(),
        ),
        (
            pod("one", "x", "    imagePullPolicy: Sometimes\n"),
            "spec.containers[0].imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"IfNotPresent\", \"Never\"".to_owned(),
        ),
        (
            pod("one", "x", "    volumeMounts:\n    - name: data\n      mountPath: /data\n"),
            "spec.containers[0].volumeMounts[0].name: Not found: \"data\"".to_owned(),
        ),
        (
            pod("one", "x", "  - name: main\n    image: coracle/echo\n"),
            "spec.containers[1].name: Duplicate value: \"main\"".to_owned(),
        ),
        (pod("one", "x", "    resources:\n      limits:\n        memory: lots\n"), "quantities must match the regular expression".to_owned()),
        (
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: none\nspec:\n  containers: []\n".to_owned(),
            "spec.containers: Required value".to_owned(),
        ),
        (
            DEPLOYMENT.replacen("      env: demo\n  template", "      env: other\n  template", 1),
            "The Deployment \"nginx-deploy\" is invalid: spec.template.metadata.labels: Invalid value: {\"env\":\"demo\"}: `selector` does not match template `labels`".to_owned(),
        ),
    ];
    for (manifest, message) in cases {
        let said = refused(&lab, &manifest);
        assert!(said.contains(&message), "no {message:?} in {said:?}");
    }
    lab.kubectl("create deployment web --image=coracle/echo --replicas=1");
    lab.kubectl("rollout status deployment/web --timeout=30s");
    let negative = lab.kubectl_fails("patch deployment web --type=merge -p '{\"spec\":{\"replicas\":-1}}'");
    assert!(negative.contains("spec.replicas: Invalid value: -1: must be greater than or equal to 0"), "{negative}");
    let changed = lab.kubectl_fails(
        "patch deployment web --type=merge -p '{\"spec\":{\"selector\":{\"matchLabels\":{\"app\":\"other\"}}}}'",
    );
    assert!(changed.contains("is invalid"), "{changed}");
    let unknown = lab.kubectl_fails("get deploymentz");
    assert_eq!(unknown, "error: the server doesn't have a resource type \"deploymentz\"\n");
    let name = lab.kubectl("get pods -o name");
    let fixed =
        lab.kubectl_fails(&format!("patch {} --type=merge -p '{{\"spec\":{{\"nodeName\":\"other\"}}}}'", name.trim()));
    assert!(fixed.contains("pod updates may not change fields other than"), "{fixed}");
}
