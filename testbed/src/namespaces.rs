//! A machine of its own for each test.

use std::{fs, net::Ipv4Addr, os::unix::fs::chown, path::Path, process::Command};

use crate::tools::{need, run, text};

/// The address of the machine that the test runs on.
pub const NODE: Ipv4Addr = Ipv4Addr::new(192, 168, 50, 2);
/// The address of another machine on the same wire; see [`outside`].
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 168, 50, 1);

/// The user id of [`ordinary`], which /etc/subuid does not know.
const ORDINARY: u32 = 12345;

/// Set where the test runs for the second time, inside.
const MARK: &str = "CORACLE_TEST_INSIDE";

/// Runs the test of that name again in fresh network, mount and pid namespaces, with an uplink,
/// as root of a user namespace when this is not root. Returns whether this is inside.
///
/// ```no_run
/// # fn nodeport() {
/// if !testbed::inside("nodeport") {
///     return;
/// }
/// # }
/// ```
///
/// # Panics
/// When the test fails inside.
#[must_use]
pub fn inside(test: &str) -> bool {
    if std::env::var_os(MARK).is_some() {
        uplink();
        return true;
    }
    let mut command = unshare();
    let test_binary = std::env::current_exe().expect("the test's binary");
    command.arg(test_binary).args([test, "--exact", "--nocapture", "--test-threads=1"]).env(MARK, "1");
    let output = run(&mut command);
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("1 passed"), "no test has the name {test:?}:\n{said}");
    false
}

/// A command that runs the program given as further arguments in namespaces of its own, as root.
/// Process 1 there reaps orphans, as everywhere.
///
/// # Panics
/// When unshare is missing.
#[must_use]
pub fn unshare() -> Command {
    let mut command = Command::new(need("unshare"));
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["sh", "-c", "\"$@\"; exit $?", "sh"]);
    command
}

/// A command that runs the program as a user without privileges or sub-ids.
///
/// # Panics
/// When setpriv or unshare is missing.
#[must_use]
pub fn ordinary(program: &Path) -> Command {
    let user = ORDINARY.to_string();
    let mut command = if all_ids() {
        let mut command = Command::new(need("setpriv"));
        command.args(["--reuid", &user, "--regid", &user, "--clear-groups", "--"]);
        command
    } else {
        // There is no other user here; another name for this one has no privileges either.
        let mut command = Command::new(need("unshare"));
        command.args(["--user", "--map-user", &user, "--map-group", &user, "--"]);
        command
    };
    command.arg(program);
    command
}

/// Gives a directory and what is in it to the [`ordinary`] user.
///
/// # Panics
/// When that fails.
pub fn hand_over(dir: &Path) {
    if !all_ids() {
        return;
    }
    let give = |path: &Path| chown(path, Some(ORDINARY), Some(ORDINARY)).expect("the directory is given away");
    give(dir);
    for entry in fs::read_dir(dir).expect("the directory").flatten() {
        give(&entry.path());
    }
}

/// For tests of control groups and of other users.
///
/// # Panics
/// When this is not root of the machine.
pub fn need_root() {
    assert!(all_ids(), "this test needs root: run it with sudo");
}

/// Whether other users exist: not so for root of a user namespace that an ordinary user made.
fn all_ids() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.lines().any(|line| line.split_whitespace().nth(2).and_then(|count| count.parse().ok()) > Some(ORDINARY))
}

/// Gives a machine that has nothing a wire to another one, which is the way to everywhere.
///
/// # Panics
/// When `ip` fails.
pub fn uplink() {
    let ip = |arguments: &str| {
        text(Command::new(need("ip")).args(arguments.split(' ')));
    };
    ip("link set lo up");
    // Named namespaces are mounts: keep them in this mount namespace.
    text(Command::new("mount").args(["-t", "tmpfs", "tmpfs", "/run"]).env_clear());
    ip("netns add outside");
    ip("link add eth0 type veth peer name eth0 netns outside");
    ip(&format!("addr add {NODE}/24 dev eth0"));
    ip("link set eth0 up");
    ip(&format!("-n outside addr add {OUTSIDE}/24 dev eth0"));
    ip("-n outside link set eth0 up");
    ip("-n outside link set lo up");
    ip(&format!("route add default via {OUTSIDE}"));
}

/// A command that runs on the other machine.
#[must_use]
pub fn outside(program: &str) -> Command {
    let mut command = Command::new(need("ip"));
    command.args(["netns", "exec", "outside"]).arg(need(program));
    command
}
