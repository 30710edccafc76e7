//! Finding and making places inside a root, and putting mounts there.

use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat, openat2},
    io::Errno,
    mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree},
};
use std::{
    io,
    path::{Component, Path, PathBuf},
};

/// How often a path with `..` is looked up again, as the kernel wants it when anything anywhere was
/// mounted or renamed meanwhile.
const RETRIES: u32 = 1000;

/// What a mount point has to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Directory,
    File,
}

impl Kind {
    pub(super) fn of(fd: impl AsFd) -> Result<Self, Errno> {
        let mode = fstat(fd)?.st_mode;
        let directory = FileType::from_raw_mode(mode) == FileType::Directory;
        Ok(if directory { Self::Directory } else { Self::File })
    }
}

/// The mounts at and below `path`, mounted nowhere yet.
pub(super) fn clone(dir: impl AsFd, path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    open_tree(dir, path, flags)
}

/// Mounts `tree` on `target`.
pub(super) fn attach(tree: &OwnedFd, target: &OwnedFd) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, "", target, "", flags)
}

/// What is at `path` inside `root`; links lead nowhere else.
pub(super) fn existing(root: &OwnedFd, path: &Path) -> Result<Option<OwnedFd>, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..RETRIES {
        match openat2(root, path, flags, Mode::empty(), resolve) {
            Ok(fd) => return Ok(Some(fd)),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::AGAIN) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Errno::AGAIN)
}

/// The file or directory at `path` inside `root`, made when it is not there.
pub(super) fn place(root: &OwnedFd, path: &Path, kind: Kind) -> io::Result<OwnedFd> {
    let mut at = PathBuf::new();
    let mut here = rustix::io::fcntl_dupfd_cloexec(root, 3)?;
    let mut parts = path.components().peekable();
    while let Some(part) = parts.next() {
        let name = match part {
            Component::Normal(name) => name,
            Component::RootDir | Component::CurDir => continue,
            _ => return Err(io::Error::other("a mount point must not contain ..")),
        };
        at.push(name);
        here = match existing(root, &at)? {
            Some(found) => found,
            None => {
                make(&here, name.as_ref(), if parts.peek().is_some() { Kind::Directory } else { kind })?;
                existing(root, &at)?.ok_or_else(|| io::Error::from(Errno::NOENT))?
            }
        };
    }
    if Kind::of(&here)? != kind {
        return Err(match kind {
            Kind::File => Errno::ISDIR.into(),
            Kind::Directory => Errno::NOTDIR.into(),
        });
    }
    Ok(here)
}

fn make(dir: &OwnedFd, name: &Path, kind: Kind) -> io::Result<()> {
    match kind {
        Kind::Directory => mkdirat(dir, name, Mode::from_raw_mode(0o755))?,
        Kind::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(dir, name, flags | OFlags::WRONLY, Mode::from_raw_mode(0o644)).map(drop)?;
        }
    }
    Ok(())
}

/// A symbolic link in `dir`; one that is there already stays.
pub(super) fn link(dir: &OwnedFd, name: &str, to: &str) -> Result<(), Errno> {
    match rustix::fs::symlinkat(to, dir, name) {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

/// Whether `dir` has an entry `name`.
pub(super) fn has(dir: &OwnedFd, name: &str) -> bool {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}
