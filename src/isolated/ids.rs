//! Which user ids exist inside: `user_namespaces(7)`, `subuid(5)`.

use std::{fs, process::Command};

use anyhow::{Context as _, bail};
use rustix::process::{getegid, geteuid};

/// What to do where user namespaces are forbidden.
pub(super) const ADVICE: &str = "This system does not let ordinary users make user namespaces, which isolation needs. One of:
  - run it with sudo;
  - Ubuntu 23.10 and later: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0
  - other systems: sudo sysctl -w user.max_user_namespaces=15000 (and, on older Debian, kernel.unprivileged_userns_clone=1)";

/// Finds out early, and with a reason, that user namespaces are forbidden.
pub(super) fn allowed() -> anyhow::Result<()> {
    if geteuid().is_root() {
        return Ok(());
    }
    let reads = |path: &str, value: &str| fs::read_to_string(path).is_ok_and(|text| text.trim() == value);
    for (path, value) in [
        ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"),
        ("/proc/sys/kernel/unprivileged_userns_clone", "0"),
        ("/proc/sys/user/max_user_namespaces", "0"),
    ] {
        if reads(path, value) {
            bail!("{path} is {value}.\n{ADVICE}");
        }
    }
    Ok(())
}

/// Maps the ids of a process that has just unshared its user namespace: all of them for root; for
/// a user the sub-ids that `newuidmap` grants, or only their own as root. Returns whether it is
/// only one.
pub(super) fn map(pid: u32) -> anyhow::Result<bool> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    if uid == 0 {
        for file in ["uid_map", "gid_map"] {
            write(pid, file, &all(&fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default()))?;
        }
        return Ok(false);
    }
    let granted = subordinate("/etc/subuid", uid).zip(subordinate("/etc/subgid", uid));
    if let Some((uids, gids)) = granted
        && run("newuidmap", pid, uid, uids)
        && run("newgidmap", pid, gid, gids)
    {
        return Ok(false);
    }
    write(pid, "uid_map", &format!("0 {uid} 1"))?;
    write(pid, "setgroups", "deny")?;
    write(pid, "gid_map", &format!("0 {gid} 1"))?;
    Ok(true)
}

/// Every id of our own namespace under its own number. `map` is ours: `inside outside count` lines.
fn all(map: &str) -> String {
    let lines = map.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let (inside, count) = (fields.next()?, fields.nth(1)?);
        Some(format!("{inside} {inside} {count}\n"))
    });
    lines.collect()
}

/// The first range in a file of lines `user:start:count` for a user.
fn subordinate(file: &str, uid: u32) -> Option<(u32, u32)> {
    let name = std::env::var("USER").unwrap_or_default();
    first_range(&fs::read_to_string(file).ok()?, &[&uid.to_string(), &name])
}

fn first_range(text: &str, owners: &[&str]) -> Option<(u32, u32)> {
    text.lines().find_map(|line| {
        let mut fields = line.trim().split(':');
        owners.contains(&fields.next()?).then_some(())?;
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}

/// `newuidmap pid 0 own 1 1 first count`; false when it is not there or refuses.
fn run(tool: &str, pid: u32, own: u32, (first, count): (u32, u32)) -> bool {
    let numbers = [pid, 0, own, 1, 1, first, count].map(|number| number.to_string());
    Command::new(tool).args(numbers).output().is_ok_and(|output| output.status.success())
}

fn write(pid: u32, file: &str, text: &str) -> anyhow::Result<()> {
    fs::write(format!("/proc/{pid}/{file}"), text)
        .with_context(|| format!("map the ids of the user namespace ({file})\n{ADVICE}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_and_ranges_are_read() {
        assert_eq!(all("         0          0 4294967295\n"), "0 0 4294967295\n");
        assert_eq!(all("0 1000 1\n1 100000 65536\n"), "0 0 1\n1 1 65536\n");
        let file = "root:1:2\nalice:100000:65536\n1001:300000:10\n";
        assert_eq!(first_range(file, &["1000", "alice"]), Some((100_000, 65_536)));
        assert_eq!(first_range(file, &["1001", "bob"]), Some((300_000, 10)));
        assert_eq!(first_range(file, &["1002", "carol"]), None);
    }
}
