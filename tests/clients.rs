//! The clients that other languages generate from Kubernetes' OpenAPI, unchanged, against a cluster with a node.
//!
//! Their packages come from PyPI and npm, in the versions that `tests/clients/` names, into the target directory.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use testbed::{Lab, Options, inside, need, text};

fn sources(client: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(client)
}

/// A directory with a client's packages: made by `install` unless it was for the same `list` of them.
fn packages(client: &str, list: &str, install: impl FnOnce(&Path)) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(client);
    fs::create_dir_all(&directory).expect("the target directory can be written");
    // Another run may be at it.
    let lock = File::create(directory.with_extension("lock")).expect("a lock file");
    lock.lock().expect("the lock");
    let wanted = fs::read_to_string(sources(client).join(list)).expect("the list of packages");
    let installed = directory.join("installed");
    if fs::read_to_string(&installed).ok().as_ref() != Some(&wanted) {
        install(&directory);
        fs::write(&installed, wanted).expect("a note");
    }
    directory
}

/// Runs a client's tests with the kubeconfig of a cluster.
fn pass(command: &mut Command) {
    let lab = Lab::start(env!("CARGO_BIN_EXE_coracle"), Options::default());
    text(command.env("KUBECONFIG", lab.data().join("kubeconfig")).env("HOME", lab.scratch()));
}

#[test]
fn python() {
    let packages = packages("python", "requirements.txt", |directory| {
        text(Command::new(need("python3")).args(["-m", "venv", "--clear"]).arg(directory));
        let mut pip = Command::new(directory.join("bin/pip"));
        text(pip.args(["install", "--quiet", "--requirement"]).arg(sources("python").join("requirements.txt")));
    });
    if inside("python") {
        let mut python = Command::new(packages.join("bin/python"));
        pass(python.args(["-B", "-m", "unittest", "--verbose", "test_client"]).current_dir(sources("python")));
    }
}

#[test]
fn node() {
    let packages = packages("node", "package-lock.json", |directory| {
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
