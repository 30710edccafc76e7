use std::net::TcpListener;
use std::process::Command;

use apiserver::{ApiServer, Identity, Pki, server_names};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio_util::sync::CancellationToken;

use crate::support::start;

/// Serves over TLS, and writes a kubeconfig of its administrator.
fn serve(server: &ApiServer, dir: &std::path::Path, shutdown: CancellationToken) -> tokio::task::JoinHandle<()> {
    let pki = Pki::open(&dir.join("pki")).expect("certificates");
    let pair = pki.server(&server_names("cluster.local", "10.96.0.1".parse().expect("an address")));
    let tls = pki.server_config(&pair.expect("a certificate")).expect("TLS");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let admin = pki.admin().expect("a certificate");
    let kubeconfig = format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: c\n  cluster: {{server: 'https://{address}', \
         certificate-authority-data: {}}}\nusers:\n- name: u\n  user: {{client-certificate-data: {}, \
         client-key-data: {}}}\n- name: nobody\n  user: {{token: nonsense}}\ncontexts:\n- name: x\n  context: {{cluster: c, user: u}}\n- name: nobody\n  \
         context: {{cluster: c, user: nobody}}\ncurrent-context: x\n",
        STANDARD.encode(pki.authority_pem()),
        STANDARD.encode(admin.certificate_pem),
        STANDARD.encode(admin.key_pem),
    );
    std::fs::write(dir.join("kubeconfig"), kubeconfig).expect("a file");
    let server = server.clone();
    tokio::spawn(async move { server.serve_tls(listener, tls, shutdown).await.expect("it serves") })
}

/// What kubectl prints; it has to succeed if `works`.
async fn kubectl(dir: &std::path::Path, works: bool, args: &[&str]) -> String {
    let mut command = Command::new("kubectl");
    command.arg("--kubeconfig").arg(dir.join("kubeconfig")).args(args).env("HOME", dir);
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("it runs");
    let output = output.expect("kubectl is installed: https://kubernetes.io/docs/tasks/tools");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert_eq!(output.status.success(), works, "kubectl {args:?}: {text}");
    text
}

const MANIFEST: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: nginx, image: nginx, ports: [{containerPort: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, nodePort: 30001}]
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_over_tls() {
    let (server, _client) = start().await;
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let shutdown = CancellationToken::new();
    let serving = serve(&server, dir, shutdown.clone());
    let file = dir.join("web.yaml");
    std::fs::write(&file, MANIFEST).unwrap();
    let file = file.to_str().unwrap();
    let said = kubectl(dir, true, &["apply", "-f", file]).await;
    assert_eq!(said, "deployment.apps/web created\nservice/web created\n");
    let said = kubectl(dir, true, &["apply", "-f", file]).await;
    assert_eq!(said, "deployment.apps/web unchanged\nservice/web unchanged\n");
    let said = kubectl(dir, true, &["apply", "--server-side", "--force-conflicts", "-f", file]).await;
    assert_eq!(said, "deployment.apps/web serverside-applied\nservice/web serverside-applied\n");
    let said = kubectl(dir, true, &["get", "deployments"]).await;
    assert!(said.starts_with("NAME   READY   UP-TO-DATE   AVAILABLE   AGE\nweb    0/3 "), "{said}");
    let said = kubectl(dir, true, &["get", "service", "web", "-o", "jsonpath={.spec.ports[0].nodePort}"]).await;
    assert_eq!(said, "30001");
    kubectl(dir, true, &["scale", "deployment", "web", "--replicas=5"]).await;
    let said = kubectl(dir, true, &["get", "deployment", "web", "-o", "yaml"]).await;
    assert!(said.contains("  replicas: 5\n"), "{said}");
    kubectl(dir, true, &["expose", "deployment", "web", "--name=other", "--port=80"]).await;
    kubectl(dir, true, &["create", "deployment", "second", "--image=nginx"]).await;
    kubectl(dir, true, &["create", "namespace", "dev"]).await;
    kubectl(dir, true, &["label", "deployment", "web", "x=y"]).await;
    kubectl(dir, true, &["describe", "service", "web"]).await;
    let said = kubectl(dir, true, &["auth", "can-i", "create", "pods"]).await;
    assert_eq!(said, "yes\n");
    let said = kubectl(dir, true, &["auth", "whoami"]).await;
    assert!(said.contains("kubernetes-admin"), "{said}");
    let said = kubectl(dir, true, &["api-resources"]).await;
    assert!(said.contains("deployments"), "{said}");
    explained(dir).await;
    let wrong = dir.join("wrong.yaml");
    std::fs::write(&wrong, MANIFEST.replace("replicas: 3", "replica: 3")).unwrap();
    let said = kubectl(dir, false, &["apply", "-f", wrong.to_str().unwrap()]).await;
    assert!(said.contains("strict decoding error: unknown field \"spec.replica\""), "{said}");
    kubectl(dir, true, &["delete", "-f", file]).await;
    let said = kubectl(dir, false, &["get", "service", "web"]).await;
    assert_eq!(said, "Error from server (NotFound): services \"web\" not found\n");
    let said = kubectl(dir, false, &["get", "pods", "--context=nobody", "--request-timeout=5s"]).await;
    assert!(said.contains("Unauthorized") || said.contains("logged in"), "{said}");
    shutdown.cancel();
    serving.await.unwrap();
}

/// kubectl reads OpenAPI v3 as JSON, and v2 as protobuf.
async fn explained(dir: &std::path::Path) {
    let field = "deploy.spec.template.spec.containers.resources";
    for (output, parts) in [
        ("plaintext", ["FIELD: resources <ResourceRequirements>", "limits\t<map[string]Quantity>"]),
        ("plaintext-openapiv2", ["RESOURCE: resources <Object>", "limits\t<map[string]string>"]),
    ] {
        let output = format!("--output={output}");
        let said = kubectl(dir, true, &["explain", field, &output]).await;
        for part in parts.into_iter().chain(["Compute Resources required by this container."]) {
            assert!(said.contains(part), "no {part:?} in:\n{said}");
        }
        let said =
            kubectl(dir, true, &["explain", "hpa", "--recursive", "--api-version=autoscaling/v2", &output]).await;
        assert!(said.contains("stabilizationWindowSeconds\t<integer>"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_ends_watches_at_once() {
    let (server, _client) = start().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("api.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let shutdown = CancellationToken::new();
    let serving = {
        let (server, shutdown) = (server.clone(), shutdown.clone());
        tokio::spawn(async move { server.serve_unix(listener, Identity::admin(), shutdown).await })
    };
    let stream = tokio::net::UnixStream::connect(&path).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("/api/v1/pods?watch=true").header("host", "api").body(String::new()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    shutdown.cancel();
    use http_body_util::BodyExt;
    // To its end, and not cut off when connections have been waited for.
    response.into_body().collect().await.unwrap();
    serving.await.unwrap().unwrap();
}
