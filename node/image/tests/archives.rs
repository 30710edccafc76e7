//! Archives as Docker and OCI tools write them, imported and unpacked.

use std::{fs, io::Write as _, path::Path};

use image::{Error, Store};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect::<String>())
}

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        builder.append_data(&mut header, name, *content).expect("append");
    }
    builder.into_inner().expect("tar")
}

fn config(layers: &[&[u8]]) -> Vec<u8> {
    let ids: Vec<_> = layers.iter().map(|layer| digest(layer)).collect();
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    json!({"architecture": arch, "os": "linux", "config": {"Cmd": ["/run"]}, "rootfs": {"type": "layers", "diff_ids": ids}})
        .to_string()
        .into_bytes()
}

/// What `docker save` wrote before version 25.
fn saved(tags: Value) -> Vec<u8> {
    let (one, two) = (tar(&[("a", b"1"), ("b", b"1")]), tar(&[("b", b"2")]));
    let config = config(&[&one, &two]);
    let manifest =
        json!([{"Config": "c.json", "RepoTags": tags, "Layers": ["1/layer.tar", "2/layer.tar"]}]).to_string();
    tar(&[("1/layer.tar", &one), ("2/layer.tar", &two), ("c.json", &config), ("manifest.json", manifest.as_bytes())])
}

/// An OCI layout whose index points at an index with one entry for each of two platforms.
fn layout(name: &str) -> Vec<u8> {
    let layer = tar(&[("a", b"1")]);
    let config = config(&[&layer]);
    let architecture: Value = serde_json::from_slice(&config).expect("config");
    let manifest = json!({"schemaVersion": 2,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(&config), "size": config.len()},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest(&layer), "size": layer.len()}],
    })
    .to_string();
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let inner = json!({"schemaVersion": 2, "manifests": [
        {"mediaType": kind, "digest": digest(b"absent"), "size": 6, "platform": {"os": "linux", "architecture": "s390x"}},
        {"mediaType": kind, "digest": digest(manifest.as_bytes()), "size": manifest.len(),
         "platform": {"os": "linux", "architecture": architecture["architecture"]}},
    ]})
    .to_string();
    let index = json!({"schemaVersion": 2, "manifests": [
        {"mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest(inner.as_bytes()), "size": inner.len(),
         "annotations": {"io.containerd.image.name": name}},
    ]})
    .to_string();
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", &digest(bytes)[7..]);
    tar(&[
        ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#),
        (&blob(&layer), &layer),
        (&blob(&config), &config),
        (&blob(manifest.as_bytes()), manifest.as_bytes()),
        (&blob(inner.as_bytes()), inner.as_bytes()),
        ("index.json", index.as_bytes()),
    ])
}

fn import(dir: &Path, archive: &[u8]) -> (Store, Result<Vec<String>, Error>) {
    let store = Store::open(&dir.join("images")).expect("open");
    fs::write(dir.join("archive"), archive).expect("archive");
    let names = store.import(&dir.join("archive")).map(|all| all.into_iter().map(|i| i.reference).collect());
    (store, names)
}

#[test]
fn docker_save_is_imported_unpacked_and_removed() {
    let temp = tempfile::tempdir().expect("tempdir");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&saved(json!(["nginx:latest", "nginx:1"]))).expect("gzip");
    let (store, names) = import(temp.path(), &gzip.finish().expect("gzip"));
    assert_eq!(names.expect("import"), ["docker.io/library/nginx:latest", "docker.io/library/nginx:1"]);

    let image = store.resolve("nginx").expect("resolve").expect("present");
    assert!(image.id.starts_with("sha256:"));
    let unpacked = store.unpack(&image).expect("unpack");
    assert_eq!(unpacked.lower.len(), 2);
    assert_eq!(fs::read(unpacked.lower[0].join("b")).expect("top layer"), b"2");
    assert_eq!(fs::read(unpacked.lower[1].join("b")).expect("bottom layer"), b"1");
    assert_eq!(store.unpack(&image).expect("again"), unpacked);

    store.remove("nginx").expect("remove");
    assert!(unpacked.lower[0].exists(), "the other name keeps the layers");
    store.remove("nginx:1").expect("remove");
    assert!(!unpacked.lower[0].exists());
    assert!(store.list().expect("list").is_empty());
    assert!(matches!(store.remove("nginx"), Err(Error::Unknown(_))));
}

#[test]
fn an_oci_layout_is_imported_for_this_platform() {
    let temp = tempfile::tempdir().expect("tempdir");
    let (store, names) = import(temp.path(), &layout("docker.io/library/web:2"));
    assert_eq!(names.expect("import"), ["docker.io/library/web:2"]);
    let image = store.resolve("web:2").expect("resolve").expect("present");
    assert_eq!(fs::read(store.unpack(&image).expect("unpack").lower[0].join("a")).expect("a"), b"1");
}

#[test]
fn bad_archives_say_what_is_wrong() {
    for (archive, message) in [
        (b"no tar at all, but long enough to be a header".repeat(20), "it is not a tar archive, or it is damaged"),
        (tar(&[("README", b"x")]), "neither index.json (OCI layout) nor manifest.json (docker save)"),
        (tar(&[("manifest.json", b"{")]), "manifest.json: "),
        (tar(&[("manifest.json", br#"[{"Config":"c","RepoTags":["a"],"Layers":[]}]"#)]), "c is missing in it"),
        (saved(Value::Null), "no image in it has a name"),
        (saved(json!(["not a name"])), "parse image reference"),
    ] {
        let temp = tempfile::tempdir().expect("tempdir");
        let (store, names) = import(temp.path(), &archive);
        let error = names.expect_err(message).to_string();
        assert!(error.contains(message), "{error:?} should contain {message:?}");
        assert!(store.list().expect("list").is_empty());
    }
}

#[test]
fn a_damaged_layer_is_refused_and_a_compressed_one_is_not() {
    let layer = tar(&[("a", b"1")]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&layer).expect("gzip");
    let gzip = gzip.finish().expect("gzip");
    let other = tar(&[("a", b"2")]);
    let manifest = br#"[{"Config":"c","RepoTags":["web"],"Layers":["l"]}]"#;
    for (content, fits) in [(&layer, true), (&gzip, true), (&other, false), (&gzip[..gzip.len() / 2].to_vec(), false)] {
        let temp = tempfile::tempdir().expect("tempdir");
        let archive = tar(&[("c", &config(&[&layer])), ("l", content), ("manifest.json", manifest)]);
        let (store, names) = import(temp.path(), &archive);
        assert_eq!(names.is_ok(), fits, "{names:?}");
        assert_eq!(store.list().expect("list").len(), usize::from(fits));
        if let Err(error) = names {
            assert!(error.to_string().contains("l is damaged: "), "{error}");
        }
    }
}

#[test]
fn the_builtin_image_is_the_given_file() {
    let temp = tempfile::tempdir().expect("tempdir");
    let store = Store::open(temp.path()).expect("open");
    let exe = temp.path().join("exe");
    fs::write(&exe, b"elf").expect("exe");
    store.add_builtin("coracle/echo", &exe).expect("add");
    store.add_builtin("coracle/echo", &exe).expect("again");
    let image = store.resolve("coracle/echo").expect("resolve").expect("present");
    let lower = store.unpack(&image).expect("unpack").lower;
    assert_eq!(fs::read(lower[0].join("coracle")).expect("coracle"), b"elf");
    let entrypoint = image.config.config().as_ref().expect("config").entrypoint().clone();
    assert_eq!(entrypoint, Some(vec!["/coracle".to_owned(), "echo".to_owned()]));
}

#[tokio::test]
async fn an_unreachable_registry_is_explained() {
    let temp = tempfile::tempdir().expect("tempdir");
    let store = Store::open(temp.path()).expect("open");
    let error = store.pull("127.0.0.1:1/a", None).await.expect_err("nothing listens").to_string();
    assert!(error.starts_with("pull image \"127.0.0.1:1/a:latest\": "), "{error}");
    assert!(error.to_lowercase().contains("refused"), "{error}");
}
