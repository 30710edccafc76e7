//! Images: imported from files, pulled from a registry, listed and removed.

use std::time::Duration;

use testbed::{Lab, Options, Registry, inside, nginx, nginx_layout, registry, wait};

const PATIENCE: Duration = Duration::from_secs(30);

fn lab() -> Lab {
    Lab::start(env!("CARGO_BIN_EXE_coracle"), Options::default())
}

/// A registry that has the nginx image as `127.0.0.1:5000/team/web:1`, and the digest of that.
fn registry_with_nginx(lab: &Lab) -> (Registry, String) {
    nginx(lab.scratch());
    let registry = registry(lab.scratch());
    let digest = registry.push_nginx("team/web", "1");
    (registry, digest)
}

/// A pod of one container with this image and policy.
fn pod(lab: &Lab, name: &str, image: &str, policy: &str) {
    lab.kubectl(&format!("run {name} --image={image} --image-pull-policy={policy}"));
}

fn ready(lab: &Lab, pod: &str) {
    lab.kubectl(&format!("wait --for=condition=Ready pod/{pod} --timeout=30s"));
}

/// Waits until the pod's container waits for this reason, and returns the message.
fn waits(lab: &Lab, pod: &str, reason: &str) -> String {
    wait(reason, PATIENCE, || {
        let pod = lab.get(&format!("pod {pod}"));
        let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
        if waiting["reason"] == reason { Ok(waiting["message"].to_string()) } else { Err(pod["status"].to_string()) }
    })
}

/// What a request to a pod's address answers.
fn page(lab: &Lab, pod: &str) -> String {
    let address = lab.kubectl(&format!("get pod {pod} -o jsonpath={{.status.podIP}}"));
    wait("page", PATIENCE, || lab.curl(&format!("http://{address}")))
}

#[test]
fn files_are_imported_listed_and_removed() {
    if !inside("files_are_imported_listed_and_removed") {
        return;
    }
    let lab = lab();
    lab.import_nginx();
    let layout = nginx_layout(lab.scratch());
    assert_eq!(lab.says(&["image", "import", &layout.display().to_string()]), "example.org/web:2\n");
    let list = lab.says(&["image", "ls"]);
    for part in
        ["REFERENCE", "docker.io/library/nginx:latest", "example.org/web:2", "docker.io/coracle/echo:latest", " MB"]
    {
        assert!(list.contains(part), "{list}");
    }
    // Imported images are what their name means: no registry is asked, there is none.
    for (name, image) in [("saved", "nginx"), ("layout", "example.org/web:2")] {
        pod(&lab, name, image, "IfNotPresent");
        ready(&lab, name);
        assert!(page(&lab, name).contains("Welcome to nginx!"));
    }
    let refused = lab.complains(&["image", "rm", "nginx"]);
    assert!(refused.contains("docker.io/library/nginx:latest is used by pod default/saved"), "{refused}");
    lab.kubectl("delete pod saved --timeout=30s");
    assert_eq!(lab.says(&["image", "rm", "nginx"]), "docker.io/library/nginx:latest\n");
    let list = lab.says(&["image", "ls"]);
    assert!(!list.contains("nginx") && list.contains("example.org/web:2"), "{list}");
    let unknown = lab.complains(&["image", "rm", "nginx"]);
    assert!(unknown.contains("docker.io/library/nginx:latest"), "{unknown}");
    // What is shared with the image that was removed is still there.
    lab.kubectl("delete pod layout --timeout=30s");
    pod(&lab, "again", "example.org/web:2", "IfNotPresent");
    ready(&lab, "again");
    assert!(page(&lab, "again").contains("Welcome to nginx!"));
}

#[test]
fn what_is_no_image_is_refused() {
    if !inside("what_is_no_image_is_refused") {
        return;
    }
    let lab = lab();
    let archive = nginx(lab.scratch());
    let whole = std::fs::read(&archive).expect("the archive");
    let file = lab.scratch().join("wrong.tar");
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 4096].fill(0xAA);
    for wrong in [b"no archive at all".to_vec(), whole[..whole.len() / 3].to_vec(), damaged, Vec::new()] {
        std::fs::write(&file, &wrong).expect("written");
        let said = lab.complains(&["image", "import", &file.display().to_string()]);
        assert!(said.contains("import") && said.contains("wrong.tar"), "{said}");
    }
    assert!(!lab.says(&["image", "ls"]).contains("nginx"));
    lab.import_nginx();
}

#[test]
fn images_are_pulled_as_the_policy_says() {
    if !inside("images_are_pulled_as_the_policy_says") {
        return;
    }
    let lab = lab();
    let (registry, digest) = registry_with_nginx(&lab);
    let image = format!("{}/team/web:1", registry.address);

    pod(&lab, "never", &image, "Never");
    let said = waits(&lab, "never", "ErrImageNeverPull");
    assert!(said.contains("is not present with pull policy of Never"), "{said}");
    pod(&lab, "pulled", &image, "IfNotPresent");
    ready(&lab, "pulled");
    assert!(page(&lab, "pulled").contains("Welcome to nginx!"));
    ready(&lab, "never");
    let events = lab.kubectl("get events");
    assert!(events.contains(&format!("Pulling image \"{image}\"")), "{events}");
    assert!(events.contains(&format!("Successfully pulled image \"{image}\"")), "{events}");
    pod(&lab, "always", &image, "Always");
    ready(&lab, "always");
    let id = lab.kubectl("get pod always -o jsonpath={.status.containerStatuses[0].imageID}");
    assert_eq!(id, format!("{}/team/web@{digest}", registry.address));

    pod(&lab, "absent", &format!("{}/team/web:2", registry.address), "IfNotPresent");
    let said = waits(&lab, "absent", "ImagePullBackOff");
    assert!(said.contains("team/web:2"), "{said}");
    let events = lab.kubectl("get events");
    assert!(events.contains("not found"), "{events}");
    // It is pushed while the pod waits: the next try finds it.
    registry.push_nginx("team/web", "2");
    lab.kubectl("wait --for=condition=Ready pod/absent --timeout=60s");

    pod(&lab, "by-digest", &format!("{}/team/web@{digest}", registry.address), "IfNotPresent");
    ready(&lab, "by-digest");

    drop(registry);
    pod(&lab, "present", &image, "IfNotPresent");
    ready(&lab, "present");
    pod(&lab, "offline", &image, "Always");
    let said = waits(&lab, "offline", "ImagePullBackOff");
    assert!(said.contains(&image), "{said}");
}
