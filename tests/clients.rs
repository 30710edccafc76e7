//! The clients that other languages generate from Kubernetes' OpenAPI, unchanged, against a cluster with a node.
//!
//! Their packages come from PyPI and npm, in the versions that `tests/clients/` names, into the target directory.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use testbed::{Lab, Options, inside, need, packages, text};

fn sources(client: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(client)
}

/// Runs a client's tests with the kubeconfig of a cluster.
fn pass(command: &mut Command) {
    let lab = Lab::start(env!("CARGO_BIN_EXE_coracle"), Options::default());
    text(command.env("KUBECONFIG", lab.data().join("kubeconfig")).env("HOME", lab.scratch()));
}

#[test]
fn python() {
    let python = testbed::python(env!("CARGO_TARGET_TMPDIR"), "python", &sources("python").join("requirements.txt"));
    if inside("python") {
        pass(
            Command::new(python)
                .args(["-B", "-m", "unittest", "--verbose", "test_client"])
                .current_dir(sources("python")),
        );
    }
}

#[test]
fn node() {
    let list = sources("node").join("package-lock.json");
    let packages = packages(env!("CARGO_TARGET_TMPDIR"), "node", &list, |directory| {
        for file in ["package.json", "package-lock.json"] {
            fs::copy(sources("node").join(file), directory.join(file)).expect("a copy");
        }
        text(Command::new(need("npm")).args(["ci", "--no-audit", "--no-fund"]).current_dir(directory));
    });
    if inside("node") {
        let test = packages.join("client.test.mjs");
        fs::copy(sources("node").join("client.test.mjs"), &test).expect("a copy");
        pass(Command::new(need("node")).arg("--test").arg(test));
    }
}
