//! Who a container's process is and what it may do.

use crate::{
    kernel::failed,
    spec::{Capabilities, User},
};
use rustix::{
    io::Errno,
    process::{Gid, Uid},
    thread::{
        CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, remove_capability_from_bounding_set,
        set_capabilities, set_keep_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid,
        set_thread_res_uid,
    },
};

/// All capabilities by number, which is their place in this list (capability.h).
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What containerd and Docker give a container that asks for nothing.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// The capabilities a container is to have: the default ones, all or none, then `add`,
/// then `drop`, as containerd does it for the CRI.
pub(crate) fn wanted(privileged: bool, change: &Capabilities) -> Result<CapabilitySet, String> {
    let all = CapabilitySet::from_bits_retain((1 << NAMES.len()) - 1);
    if privileged {
        return Ok(all);
    }
    let is_all = |name: &String| name.eq_ignore_ascii_case("ALL");
    let mut set = CapabilitySet::empty();
    let (none, every) = (change.drop.iter().any(is_all), change.add.iter().any(is_all));
    if every && !none {
        set = all;
    } else if !none {
        for name in DEFAULT {
            set |= named(name)?;
        }
    }
    for name in change.add.iter().filter(|name| !is_all(name)) {
        set |= named(name)?;
    }
    for name in change.drop.iter().filter(|name| !is_all(name)) {
        set -= named(name)?;
    }
    Ok(set)
}

fn named(name: &str) -> Result<CapabilitySet, String> {
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
    let number = NAMES.iter().position(|known| *known == short);
    let number = number.ok_or_else(|| format!("unknown capability {name:?}"))?;
    Ok(CapabilitySet::from_bits_retain(1 << number))
}

/// Makes this process `user` with at most `wanted`, and with nothing to inherit.
pub(crate) fn become_user(user: &User, wanted: CapabilitySet, no_new: bool) -> Result<(), String> {
    let own = capabilities(None).map_err(failed("read own capabilities"))?.permitted;
    let kept = wanted & own;
    for number in 0..NAMES.len() {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if !kept.contains(one) {
            match remove_capability_from_bounding_set(one) {
                // A kernel that does not know it has nothing to drop.
                Ok(()) | Err(Errno::INVAL) => {}
                Err(error) => return Err(failed("drop capabilities")(error)),
            }
        }
    }
    set_keep_capabilities(true).map_err(failed("keep capabilities"))?;
    set_groups(&user.groups)?;
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    let no_user = |what, id| move |error| unmapped(what, id, error);
    set_thread_res_gid(gid, gid, gid).map_err(no_user("group", user.gid))?;
    set_thread_res_uid(uid, uid, uid).map_err(no_user("user", user.uid))?;
    set_keep_capabilities(false).map_err(failed("keep capabilities"))?;
    let _ = clear_ambient_capability_set();
    let inheritable = CapabilitySet::empty();
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable };
    set_capabilities(None, sets).map_err(failed("set capabilities"))?;
    if no_new {
        set_no_new_privs(true).map_err(failed("set no_new_privs"))?;
    }
    Ok(())
}

/// In a user namespace of one id setgroups is denied; without groups to set that is no loss.
fn set_groups(groups: &[u32]) -> Result<(), String> {
    let gids: Vec<Gid> = groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    match set_thread_groups(&gids) {
        Err(Errno::PERM) if groups.is_empty() => Ok(()),
        Err(Errno::INVAL) => Err(format!("failed to set groups {groups:?}: not all are mapped in this user namespace")),
        other => other.map_err(failed(format!("set groups {groups:?}"))),
    }
}

fn unmapped(what: &str, id: u32, error: Errno) -> String {
    if error == Errno::INVAL {
        return format!("failed to set {what} {id}: it is not mapped in this user namespace");
    }
    format!("failed to set {what} {id}: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_of_the_default_set() {
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        // (add, drop) → the bits of CapEff in /proc/self/status.
        let table: [(&[&str], &[&str], u64); 8] = [
            (&[], &[], 0xa804_25fb),
            (&[], &["ALL"], 0),
            (&["NET_BIND_SERVICE"], &["all"], 1 << 10),
            (&["cap_net_admin"], &[], 0xa804_25fb | 1 << 12),
            (&[], &["CAP_CHOWN", "KILL"], 0xa804_25fb & !(1 | 1 << 5)),
            (&["ALL"], &[], (1 << 41) - 1),
            (&["ALL"], &["ALL"], 0),
            (&["ALL"], &["SYS_TIME"], ((1 << 41) - 1) & !(1 << 25)),
        ];
        for (add, drop, bits) in table {
            let change = Capabilities { add: names(add), drop: names(drop) };
            assert_eq!(wanted(false, &change).unwrap().bits(), bits, "{change:?}");
        }
        assert_eq!(wanted(true, &Capabilities::default()).unwrap().bits(), (1 << 41) - 1);
        let strange = Capabilities { add: names(&["FLY"]), drop: vec![] };
        assert_eq!(wanted(false, &strange).unwrap_err(), "unknown capability \"FLY\"");
    }
}
