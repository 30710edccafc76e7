//! Images made from Debian's packages, and Debian's registry to pull them from.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

use crate::tools::{need, text, wait};

/// What the nginx image has besides nginx, for lessons that look around in a pod.
const TOOLS: [&str; 12] =
    ["sh", "cat", "ls", "sleep", "hostname", "env", "curl", "getent", "id", "head", "rm", "touch"];

// Its workers are root's, too, since there may be no other user.
const CONFIG: &str = "
user root;
daemon off;
error_log /dev/stderr;
pid /run/nginx.pid;
events {}
http {
  access_log /dev/stdout;
  types { text/html html; }
  server { listen 80; root /usr/share/nginx/html; }
}
";

const PAGE: &str = "<!DOCTYPE html>\n<h1>Welcome to nginx!</h1>\n";

/// An archive as `docker save nginx:latest` writes it, made from the machine's nginx.
///
/// # Panics
/// When a tool is missing or fails.
pub fn nginx(dir: &Path) -> PathBuf {
    let root = dir.join("nginx-root");
    for made in ["etc/nginx", "usr/share/nginx/html", "run", "tmp", "var/log/nginx", "var/lib/nginx"] {
        fs::create_dir_all(root.join(made)).expect("the image's directories");
    }
    for program in TOOLS.iter().chain(&["nginx"]) {
        add(&root, &need(program));
    }
    fs::write(root.join("etc/nginx/nginx.conf"), CONFIG).expect("nginx.conf");
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n").expect("passwd");
    fs::write(root.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n").expect("group");
    fs::write(root.join("etc/nsswitch.conf"), "hosts: files dns\n").expect("nsswitch.conf");
    fs::write(root.join("usr/share/nginx/html/index.html"), PAGE).expect("the page");
    let config = json!({
        "Cmd": ["nginx"], "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], "StopSignal": "SIGQUIT",
        "ExposedPorts": {"80/tcp": {}},
    });
    archive(dir, "nginx", &root, &config)
}

/// An archive as `docker save busybox:latest` writes it, made from the machine's busybox.
///
/// # Panics
/// When a tool is missing or fails.
pub fn busybox(dir: &Path) -> PathBuf {
    let root = dir.join("busybox-root");
    fs::create_dir_all(root.join("tmp")).expect("the image's directories");
    let busybox = need("busybox");
    add(&root, &busybox);
    for name in text(Command::new(&busybox).arg("--list")).lines().filter(|name| *name != "busybox") {
        std::os::unix::fs::symlink("busybox", root.join("usr/bin").join(name)).expect("a link");
    }
    archive(dir, "busybox", &root, &json!({"Cmd": ["sh"], "Env": ["PATH=/bin"]}))
}

/// An archive of these programs and their libraries, as `docker save NAME:latest` writes it.
///
/// # Panics
/// When a tool is missing or fails.
#[must_use]
pub fn programs(dir: &Path, name: &str, programs: &[PathBuf]) -> PathBuf {
    let root = dir.join(format!("{name}-root"));
    fs::create_dir_all(root.join("tmp")).expect("the image's directories");
    for program in programs {
        add(&root, program);
    }
    fs::create_dir_all(root.join("etc")).expect("the image's directories");
    fs::write(root.join("etc/nsswitch.conf"), "hosts: files dns\n").expect("nsswitch.conf");
    archive(dir, name, &root, &json!({"Env": ["PATH=/bin"]}))
}

/// Packs a root file system as the image `NAME:latest` in a Docker archive.
fn archive(dir: &Path, name: &str, root: &Path, config: &Value) -> PathBuf {
    let image = dir.join(format!("{name}-image"));
    fs::create_dir_all(&image).expect("the image");
    let layer = image.join("layer.tar");
    text(Command::new("tar").arg("-C").arg(root).arg("-cf").arg(&layer).args(["--owner=0", "--group=0", "."]));
    let config = json!({
        "architecture": architecture(), "os": "linux", "config": config,
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
    });
    fs::write(image.join("config.json"), config.to_string()).expect("config.json");
    let manifest = json!([{"Config": "config.json", "RepoTags": [format!("{name}:latest")], "Layers": ["layer.tar"]}]);
    fs::write(image.join("manifest.json"), manifest.to_string()).expect("manifest.json");
    let archive = dir.join(format!("{name}.tar"));
    text(Command::new("tar").arg("-C").arg(&image).arg("-cf").arg(&archive).arg("."));
    archive
}

/// The same image as an OCI layout in a tar archive, named `example.org/web:2`. Call [`nginx`] first.
///
/// # Panics
/// When a tool is missing or fails.
#[must_use]
pub fn nginx_layout(dir: &Path) -> PathBuf {
    let layout = dir.join("layout");
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("the layout");
    let image = dir.join("nginx-image");
    let add = |file: &Path, kind: &str| -> Value {
        let digest = digest(file);
        copy(file, &blobs.join(digest.trim_start_matches("sha256:")));
        let size = fs::metadata(file).expect("a part of the image").len();
        json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest, "size": size})
    };
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": add(&image.join("config.json"), "config.v1+json"),
        "layers": [add(&image.join("layer.tar"), "layer.v1.tar")],
    });
    let file = image.join("layout.json");
    fs::write(&file, manifest.to_string()).expect("layout.json");
    let mut entry = add(&file, "manifest.v1+json");
    entry["annotations"] = json!({
        "io.containerd.image.name": "example.org/web:2", "org.opencontainers.image.ref.name": "2",
    });
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    fs::write(layout.join("index.json"), index.to_string()).expect("index.json");
    fs::write(layout.join("oci-layout"), json!({"imageLayoutVersion": "1.0.0"}).to_string()).expect("oci-layout");
    let archive = dir.join("layout.tar");
    text(Command::new("tar").arg("-C").arg(&layout).arg("-cf").arg(&archive).arg("."));
    archive
}

/// Copies a program and the libraries it is linked with.
fn add(root: &Path, program: &Path) {
    // It fails for what is linked statically, and says nothing about libraries.
    let output = crate::tools::run(Command::new("ldd").arg(program)).stdout;
    let output = String::from_utf8_lossy(&output);
    let libraries = output.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from);
    let place = Path::new("/usr/bin").join(program.file_name().expect("a program has a name"));
    copy(program, &root.join(place.strip_prefix("/").expect("absolute")));
    for library in libraries {
        copy(&library, &root.join(library.strip_prefix("/").expect("absolute")));
    }
    for (link, target) in [("bin", "usr/bin"), ("sbin", "usr/bin"), ("usr/sbin", "bin")] {
        // Made once.
        let _ = std::os::unix::fs::symlink(target, root.join(link));
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().expect("a file has a directory")).expect("the directory");
    fs::copy(from, to).unwrap_or_else(|error| panic!("copy {}: {error}", from.display()));
}

fn digest(file: &Path) -> String {
    let output = text(Command::new("sha256sum").arg(file));
    format!("sha256:{}", output.split_whitespace().next().unwrap_or_default())
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Debian's registry on loopback; ends when dropped.
pub struct Registry {
    process: Child,
    dir: PathBuf,
    /// `127.0.0.1:5000`
    pub address: String,
}

/// Starts a registry whose files are in `dir`.
///
/// # Panics
/// When it does not come up.
#[must_use]
pub fn registry(dir: &Path) -> Registry {
    let config = dir.join("registry.yml");
    let address = "127.0.0.1:5000".to_owned();
    let storage = dir.join("registry");
    let storage = storage.display();
    fs::write(
        &config,
        format!("version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {storage}\nhttp:\n  addr: {address}\n"),
    )
    .expect("registry.yml");
    let process = Command::new(need("docker-registry"))
        .arg("serve")
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let registry = Registry { process: process.expect("docker-registry starts"), dir: dir.to_owned(), address };
    wait("registry", Duration::from_secs(10), || registry.curl(&["--request", "GET"], "/v2/"));
    registry
}

impl Registry {
    /// Pushes the image that [`nginx`] made in the same directory. Returns the manifest's digest.
    ///
    /// # Panics
    /// When the registry refuses it.
    pub fn push_nginx(&self, repository: &str, tag: &str) -> String {
        let image = self.dir.join("nginx-image");
        let part = |file: &str, kind: &str| -> Value {
            let path = image.join(file);
            self.push_blob(repository, &path);
            let size = fs::metadata(&path).expect("a part of the image").len();
            json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest(&path), "size": size})
        };
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": part("config.json", "config.v1+json"), "layers": [part("layer.tar", "layer.v1.tar")],
        });
        let file = image.join("pushed.json");
        fs::write(&file, manifest.to_string()).expect("pushed.json");
        let kind = "Content-Type: application/vnd.oci.image.manifest.v1+json";
        let upload = file.display().to_string();
        self.curl(&["--header", kind, "--upload-file", &upload], &format!("/v2/{repository}/manifests/{tag}"))
            .expect("the registry takes the manifest");
        digest(&file)
    }

    fn push_blob(&self, repository: &str, file: &Path) {
        let begun = self
            .curl(&["--request", "POST", "--include"], &format!("/v2/{repository}/blobs/uploads/"))
            .expect("the registry begins an upload");
        let location = begun.lines().find_map(|line| line.strip_prefix("Location: ")).expect("a location").trim();
        let path = location.trim_start_matches(&format!("http://{}", self.address));
        let upload = file.display().to_string();
        let kind = "Content-Type: application/octet-stream";
        let target = format!("{path}&digest={}", digest(file));
        self.curl(&["--header", kind, "--upload-file", &upload], &target).expect("the registry takes the blob");
    }

    fn curl(&self, arguments: &[&str], path: &str) -> Result<String, String> {
        let mut command = Command::new(need("curl"));
        command.args(["--silent", "--show-error", "--fail"]).args(arguments);
        let output = crate::tools::run(command.arg(format!("http://{}{path}", self.address)));
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
