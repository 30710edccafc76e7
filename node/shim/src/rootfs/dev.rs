//! A container's /dev.
//!
//! Devices are bind mounts of the host's, as root and in a user namespace alike, on a tmpfs that
//! is itself mounted `nodev` (as everything else in a container is): a node that a container makes
//! is dead, so no device cgroup is needed.

use super::{
    instance,
    place::{Kind, attach, clone, has, link, place},
};
use crate::kernel::{NODEV, NOSUID, failed};
use rustix::{
    fd::OwnedFd,
    fs::{CWD, FileType, Mode, chmodat, mknodat},
    mount::MountAttrFlags,
};
use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
};

const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];
/// Directories of /dev that are not the host's in any container.
const OWN: [&str; 5] = ["pts", "shm", "mqueue", "fd", "hugepages"];
/// How deep the host's /dev is copied for a privileged container.
const DEPTH: u32 = 4;

/// Mounts /dev with all that belongs below it; `shm` is the pod's shared memory.
pub(super) fn mount(root: &OwnedFd, privileged: bool, shm: &Path) -> Result<(), String> {
    let step = || failed("mount tmpfs at /dev");
    let attributes = NOSUID | if privileged { 0 } else { NODEV };
    let dev = instance("tmpfs", &[("mode", "755"), ("size", "65536k")], attributes);
    let dev = dev.map_err(|error| step()(error.into()))?;
    let target = place(root, Path::new("dev"), Kind::Directory).map_err(step())?;
    attach(&dev, &target).map_err(|error| step()(error.into()))?;
    if privileged {
        copy(&dev, Path::new("/dev"), DEPTH);
    }
    for name in DEVICES {
        if !has(&dev, name) {
            bind(&dev, name).map_err(failed(format!("make /dev/{name}")))?;
        }
    }
    for (name, to) in LINKS {
        link(&dev, name, to).map_err(failed(format!("make /dev/{name}")))?;
    }
    mount_pts(&dev)?;
    let shm = clone(CWD, shm).map_err(failed("mount /dev/shm"))?;
    put(&dev, "shm", &shm)?;
    let noexec = MountAttrFlags::MOUNT_ATTR_NOEXEC.bits() as u64;
    // An optional part of the kernel, and not every user namespace may mount it.
    if let Ok(mqueue) = instance("mqueue", &[], NOSUID | NODEV | noexec) {
        put(&dev, "mqueue", &mqueue)?;
    }
    Ok(())
}

fn bind(dev: &OwnedFd, name: &str) -> std::io::Result<()> {
    let tree = clone(CWD, &Path::new("/dev").join(name))?;
    let target = place(dev, Path::new(name), Kind::File)?;
    Ok(attach(&tree, &target)?)
}

fn put(dev: &OwnedFd, name: &str, tree: &OwnedFd) -> Result<(), String> {
    let target = place(dev, Path::new(name), Kind::Directory).map_err(failed(format!("make /dev/{name}")))?;
    attach(tree, &target).map_err(failed(format!("mount /dev/{name}")))
}

fn mount_pts(dev: &OwnedFd) -> Result<(), String> {
    let options = [("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")];
    let noexec = MountAttrFlags::MOUNT_ATTR_NOEXEC.bits() as u64;
    // Group 5, tty, may not be mapped in a user namespace.
    let pts = instance("devpts", &options, NOSUID | noexec)
        .or_else(|_| instance("devpts", &options[..3], NOSUID | noexec))
        .map_err(failed("mount devpts at /dev/pts"))?;
    put(dev, "pts", &pts)
}

/// Makes the host's devices for a privileged container; those that may not be made are left out.
fn copy(dev: &OwnedFd, from: &Path, depth: u32) {
    for entry in fs::read_dir(from).into_iter().flatten().flatten() {
        let (path, Ok(meta)) = (entry.path(), entry.metadata()) else {
            continue;
        };
        let Ok(inside) = path.strip_prefix("/dev") else {
            continue;
        };
        if OWN.iter().any(|own| inside == Path::new(own)) {
            continue;
        }
        let kind = meta.file_type();
        if kind.is_dir() && depth > 0 {
            if place(dev, inside, Kind::Directory).is_ok() {
                copy(dev, &path, depth - 1);
            }
        } else if kind.is_char_device() || kind.is_block_device() {
            let kind = FileType::from_raw_mode(meta.mode());
            let mode = Mode::from_raw_mode(meta.mode());
            if mknodat(dev, inside, kind, mode, meta.rdev()).is_ok() {
                let _ = chmodat(dev, inside, mode, rustix::fs::AtFlags::empty());
            }
        }
    }
}
