//! Other people's programs, and waiting.

use std::{
    path::PathBuf,
    process::{Command, Output},
    time::{Duration, Instant},
};

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// A program on the PATH.
///
/// # Panics
/// When it is missing, with the package that has it: a test that cannot run has failed.
#[must_use]
pub fn need(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = [PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")];
    let found = std::env::split_paths(&path).chain(sbin).map(|dir| dir.join(program)).find(|path| path.is_file());
    let package = match program {
        "dig" => "bind9-dnsutils",
        "busybox" => "busybox-static",
        "dnsmasq" => "dnsmasq-base",
        "h2load" => "nghttp2-client",
        "ip" => "iproute2",
        "musl-gcc" => "musl-tools",
        "nft" => "nftables",
        "nginx" => "nginx-light",
        "newuidmap" => "uidmap",
        "node" => "nodejs",
        "python3" => "python3-venv",
        "unshare" | "nsenter" | "setpriv" | "taskset" => "util-linux",
        other => other,
    };
    found.unwrap_or_else(|| panic!("this test needs {program}: apt-get install {package} (./test does that)"))
}

/// The kubectl on the PATH, and those of other versions beside it (`kubectl.1.27`).
///
/// # Panics
/// When there is none.
#[must_use]
pub fn kubectls() -> Vec<PathBuf> {
    let first = need("kubectl");
    let real = std::fs::canonicalize(&first).unwrap_or_else(|_| first.clone());
    let beside = real.parent().and_then(|dir| std::fs::read_dir(dir).ok()).into_iter().flatten().flatten();
    let versions = beside.map(|entry| entry.path());
    let mut all: Vec<_> = versions
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("kubectl.")))
        .collect();
    all.sort();
    all.push(first);
    all
}

/// Runs a command to its end.
///
/// # Panics
/// When it cannot be started.
pub fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Runs a command that has to succeed, and returns what it printed.
///
/// # Panics
/// When it fails, with all it said.
pub fn text(command: &mut Command) -> String {
    let output = run(command);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    out.into_owned()
}

/// Looks until the condition holds, and returns what it found.
///
/// # Panics
/// When it does not in time, with what was seen last.
pub fn wait<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if began.elapsed() > patience => panic!("no {what} within {patience:?}; last seen: {seen}"),
            Err(_) => std::thread::sleep(LOOK),
        }
    }
}
