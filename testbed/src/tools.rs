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
        "ip" => "iproute2",
        "nft" => "nftables",
        "nginx" => "nginx-light",
        "newuidmap" => "uidmap",
        "unshare" | "nsenter" | "setpriv" => "util-linux",
        other => other,
    };
    found.unwrap_or_else(|| panic!("this test needs {program}: apt-get install {package} (./test does that)"))
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
