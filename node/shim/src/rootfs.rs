//! A container's file system, made in its own mount namespace before its program runs.
//!
//! Everything is mounted with the descriptor-based mount calls (Linux 5.12): sources are taken
//! while the outside is still visible, targets are found inside the new root without ever following
//! a link out of it.

mod dev;
mod overlay;
mod place;

use crate::{
    cgroup::Group,
    kernel::{NODEV, NOSUID, RDONLY, failed, set_mount},
    spec::{Container, Mount},
};
use place::{Kind, attach, clone, place};
use rustix::{
    fd::{AsFd, OwnedFd},
    fs::CWD,
    io::Errno,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, UnmountFlags, fsconfig_create,
        fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount_change, unmount,
    },
};
use std::path::Path;

/// What a container must not see (containerd's list).
const MASKED: [&str; 11] = [
    "proc/acpi",
    "proc/asound",
    "proc/kcore",
    "proc/keys",
    "proc/latency_stats",
    "proc/timer_list",
    "proc/timer_stats",
    "proc/sched_debug",
    "proc/scsi",
    "sys/firmware",
    "sys/devices/virtual/powercap",
];

/// What a container must not write (containerd's list).
const READ_ONLY: [&str; 5] = ["proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"];

/// Where memory shared between the pod's containers is, in the shim's mount namespace.
pub(crate) const SHM: &str = "shm";

/// Builds the root of `container` and makes it this process's root; `pod` is the pod's directory.
/// The process is in the container's namespaces already, but for the mount namespace, which is
/// unshared by the caller.
pub(crate) fn enter(container: &Container, pod: &Path, group: Option<&Group>) -> Result<(), String> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(failed("make mounts private"))?;
    let guard = if container.privileged { 0 } else { NODEV };
    let root = overlay::mount(&container.root, guard)?;
    mount_proc(&root)?;
    mount_sys(&root, container.privileged, group)?;
    dev::mount(&root, container.privileged, &pod.join(SHM))?;
    for mount in &container.mounts {
        bind(&root, mount, guard).map_err(failed(format!(
            "mount {} at {}",
            mount.source.display(),
            mount.target.display()
        )))?;
    }
    if !container.privileged && !container.unmasked {
        mask(&root)?;
    }
    if container.root.read_only {
        set_mount(&root, RDONLY | guard, false).map_err(failed("make the root read-only"))?;
    }
    pivot(&root)
}

fn pivot(root: &OwnedFd) -> Result<(), String> {
    rustix::process::fchdir(root).map_err(failed("enter the root"))?;
    rustix::process::pivot_root(".", ".").map_err(failed("change the root"))?;
    unmount(".", UnmountFlags::DETACH).map_err(failed("leave the old root"))?;
    rustix::process::chdir("/").map_err(failed("enter the root"))
}

/// A new instance of a file system, mounted nowhere yet. Options without a value are flags.
pub(crate) fn instance(kind: &str, options: &[(&str, &str)], attributes: u64) -> Result<OwnedFd, Errno> {
    let fs = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        if value.is_empty() {
            fsconfig_set_flag(&fs, *key)?;
        } else {
            fsconfig_set_string(&fs, *key, *value)?;
        }
    }
    fsconfig_create(&fs)?;
    let attributes = MountAttrFlags::from_bits_retain(attributes as _);
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

fn mount_at(root: &OwnedFd, path: &str, tree: &OwnedFd) -> Result<OwnedFd, String> {
    let target = place(root, Path::new(path), Kind::Directory).map_err(failed(format!("make /{path}")))?;
    attach(tree, &target).map_err(failed(format!("mount /{path}")))?;
    Ok(target)
}

fn mount_proc(root: &OwnedFd) -> Result<(), String> {
    let attributes = NOSUID | NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC.bits() as u64;
    let proc = instance("proc", &[], attributes).map_err(|error| {
        let why = if error == Errno::PERM { ": is the /proc here partly covered, as in a container?" } else { "" };
        format!("failed to mount proc at /proc: {error}{why}")
    })?;
    mount_at(root, "proc", &proc).map(drop)
}

/// A sysfs of the pod's network namespace; where that is not ours, what the shim itself sees.
fn mount_sys(root: &OwnedFd, privileged: bool, group: Option<&Group>) -> Result<(), String> {
    let mut attributes = NOSUID | NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC.bits() as u64;
    if !privileged {
        attributes |= RDONLY;
    }
    let step = "mount sysfs at /sys";
    let sys = match instance("sysfs", &[], attributes) {
        Err(Errno::PERM) => {
            let tree = clone(CWD, Path::new("/sys")).map_err(failed(step))?;
            set_mount(&tree, attributes, true).map_err(failed(step))?;
            mount_at(root, "sys", &tree)?;
            return Ok(());
        }
        other => other.map_err(failed(step))?,
    };
    mount_at(root, "sys", &sys)?;
    let Some(group) = group else { return Ok(()) };
    let views = group.views();
    if views.is_empty() {
        // Without cgroup v2 or where it may not be mounted, a container just does not see its limits.
        if let Ok(tree) = instance("cgroup2", &[], attributes) {
            let _ = mount_at(root, "sys/fs/cgroup", &tree);
        }
        return Ok(());
    }
    let top = instance("tmpfs", &[("mode", "755"), ("size", "64k")], attributes & !RDONLY);
    let Ok(top) = top.map_err(drop) else {
        return Ok(());
    };
    if mount_at(root, "sys/fs/cgroup", &top).is_ok() {
        for (name, dir) in views {
            if let Ok(tree) = clone(CWD, &dir)
                && set_mount(&tree, attributes, true).is_ok()
            {
                mount_at(&top, &name, &tree)?;
            }
        }
        let _ = set_mount(&top, attributes, false);
    }
    Ok(())
}

fn bind(root: &OwnedFd, mount: &Mount, guard: u64) -> Result<(), String> {
    let tree = clone(CWD, &mount.source).map_err(|error| error.to_string())?;
    let attributes = guard | if mount.read_only { RDONLY } else { 0 };
    set_mount(&tree, attributes, true).map_err(|error| error.to_string())?;
    let target = place(root, &mount.target, Kind::of(&tree).map_err(|error| error.to_string())?)
        .map_err(|error| error.to_string())?;
    attach(&tree, &target).map_err(|error| error.to_string())
}

fn mask(root: &OwnedFd) -> Result<(), String> {
    for path in MASKED {
        let step = || failed(format!("mask /{path}"));
        let Some(target) = place::existing(root, Path::new(path)).map_err(step())? else {
            continue;
        };
        let cover = match Kind::of(&target).map_err(step())? {
            Kind::Directory => instance("tmpfs", &[("size", "4k")], RDONLY | NOSUID | NODEV),
            Kind::File => clone(CWD, Path::new("/dev/null")),
        };
        attach(&cover.map_err(step())?, &target).map_err(step())?;
    }
    for path in READ_ONLY {
        let step = || failed(format!("make /{path} read-only"));
        let Some(target) = place::existing(root, Path::new(path)).map_err(step())? else {
            continue;
        };
        let tree = clone(root.as_fd(), Path::new(path)).map_err(step())?;
        set_mount(&tree, RDONLY, true).map_err(step())?;
        attach(&tree, &target).map_err(step())?;
    }
    Ok(())
}
