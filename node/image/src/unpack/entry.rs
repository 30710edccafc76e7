//! One entry of a layer becomes one file.

use std::{
    ffi::{CString, OsStr},
    io::{self, Read, Write as _},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat,
        fsetxattr, linkat, lsetxattr, makedev, mkdirat, mknodat, open, openat2, statat, symlinkat, unlinkat, utimensat,
    },
    io::Errno,
};
use tar::{Entry, EntryType};

use crate::archive::clean;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// The directory of a layer while it is filled.
pub(super) struct Root {
    fd: OwnedFd,
    path: PathBuf,
    /// Directories' times are set last: each file made in one changes it.
    times: Vec<(PathBuf, u64)>,
    /// Some owner is not mapped in this user namespace.
    pub(super) squashed: bool,
}

impl Root {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let fd = open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { fd, path: path.to_owned(), times: Vec::new(), squashed: false })
    }

    pub(super) fn add<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> io::Result<()> {
        let path = clean(&entry.path()?);
        let (Some(name), Some(dir)) = (path.file_name(), path.parent()) else {
            return Ok(()); // The root itself.
        };
        let dir_fd = self.dir(dir)?;
        if name.as_bytes() == OPAQUE {
            return self.opaque(&dir_fd);
        }
        if let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT) {
            let hidden = OsStr::from_bytes(hidden);
            remove(&dir_fd, hidden, &self.path.join(dir))?;
            return Ok(mknodat(&dir_fd, hidden, FileType::CharacterDevice, Mode::empty(), makedev(0, 0))?);
        }
        let kind = entry.header().entry_type();
        if !(kind.is_dir() && is_dir(&dir_fd, name)) {
            remove(&dir_fd, name, &self.path.join(dir))?;
        }
        if self.make(entry, kind, &dir_fd, name)? {
            self.dress(entry, kind, &dir_fd, name, &path)?;
        }
        Ok(())
    }

    /// Sets the times of the directories.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        for (path, seconds) in std::mem::take(&mut self.times).into_iter().rev() {
            if let Ok(fd) = self.beneath(&path) {
                utimensat(&fd, "", &times(seconds), AtFlags::EMPTY_PATH)?;
            }
        }
        Ok(())
    }

    /// Makes the file. Returns whether owner, mode and times are to be set.
    fn make<R: Read>(
        &mut self,
        entry: &mut Entry<'_, R>,
        kind: EntryType,
        dir: &OwnedFd,
        name: &OsStr,
    ) -> io::Result<bool> {
        let target = entry.link_name()?.map(std::borrow::Cow::into_owned);
        match kind {
            EntryType::Directory => match mkdirat(dir, name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            },
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o600))?;
                let mut file = std::fs::File::from(fd);
                io::copy(entry, &mut file)?;
                file.flush()?;
            }
            EntryType::Symlink => symlinkat(target.unwrap_or_default(), dir, name)?,
            EntryType::Link => {
                let target = clean(&target.unwrap_or_default());
                let (Some(file), Some(parent)) = (target.file_name(), target.parent()) else {
                    return Err(io::Error::other("a hard link to the root"));
                };
                linkat(self.dir(parent)?, file, dir, name, AtFlags::empty())?;
                return Ok(false);
            }
            EntryType::Fifo => mknodat(dir, name, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?,
            EntryType::Char | EntryType::Block => return device(entry, kind, dir, name),
            _ => return Ok(false), // Global headers and other marks are no files.
        }
        Ok(true)
    }

    /// Owner, mode, extended attributes and times.
    fn dress<R: Read>(
        &mut self,
        entry: &mut Entry<'_, R>,
        kind: EntryType,
        dir: &OwnedFd,
        name: &OsStr,
        path: &Path,
    ) -> io::Result<()> {
        let header = entry.header();
        let (uid, gid) = (id(header.uid()?)?, id(header.gid()?)?);
        let (mode, seconds) = (header.mode()? & 0o7777, header.mtime().unwrap_or(0));
        self.squashed |= !own(dir, name, uid, gid)?;
        if !kind.is_symlink() {
            chmodat(dir, name, Mode::from_raw_mode(mode), AtFlags::empty())?;
        }
        for (key, value) in xattrs(entry)? {
            // O_PATH descriptors take no attributes: name the file through the directory's one.
            let file = Path::new("/proc/self/fd").join(raw(dir)).join(name);
            match lsetxattr(&file, key.as_str(), &value, XattrFlags::empty()) {
                Ok(()) | Err(Errno::PERM | Errno::NOTSUP | Errno::INVAL) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if kind.is_dir() {
            self.times.push((path.to_owned(), seconds));
        } else {
            utimensat(dir, name, &times(seconds), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    }

    /// Opens a directory of the layer, made where it is missing.
    fn dir(&self, path: &Path) -> io::Result<OwnedFd> {
        match self.beneath(path) {
            Err(Errno::NOENT) => {}
            opened => return Ok(opened?),
        }
        let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else {
            return Ok(self.beneath(path)?);
        };
        match mkdirat(self.dir(parent)?, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => Ok(self.beneath(path)?),
            Err(error) => Err(error.into()),
        }
    }

    fn beneath(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat2(&self.fd, path, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
    }

    /// Hides what lower layers have in this directory. Overlayfs reads `trusted.` attributes, or,
    /// mounted in a user namespace, `user.` ones.
    fn opaque(&self, dir: &OwnedFd) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(dir, ".", flags, Mode::empty())?;
        fsetxattr(&dir, "user.overlay.opaque", b"y", XattrFlags::empty())?;
        match fsetxattr(&dir, "trusted.overlay.opaque", b"y", XattrFlags::empty()) {
            Ok(()) | Err(Errno::PERM) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Gives a file to its owner; `false` when this user namespace does not have that owner.
fn own(dir: &OwnedFd, name: &OsStr, uid: u32, gid: u32) -> io::Result<bool> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    match chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(()) => Ok(true),
        Err(Errno::PERM | Errno::INVAL) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A device node, where the kernel lets us make one: containers get their own /dev anyway.
fn device<R: Read>(entry: &Entry<'_, R>, kind: EntryType, dir: &OwnedFd, name: &OsStr) -> io::Result<bool> {
    let header = entry.header();
    let (major, minor) = (header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0));
    let kind = if kind == EntryType::Char { FileType::CharacterDevice } else { FileType::BlockDevice };
    match mknodat(dir, name, kind, Mode::from_raw_mode(0o600), makedev(major, minor)) {
        Ok(()) => Ok(true),
        Err(Errno::PERM) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The extended attributes of an entry, but overlayfs' own.
fn xattrs<R: Read>(entry: &mut Entry<'_, R>) -> io::Result<Vec<(String, Vec<u8>)>> {
    let Some(extensions) = entry.pax_extensions()? else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for extension in extensions {
        let extension = extension?;
        let Some(key) = extension.key().ok().and_then(|key| key.strip_prefix("SCHILY.xattr.")) else {
            continue;
        };
        if !key.contains("overlay.") && CString::new(key).is_ok() {
            found.push((key.to_owned(), extension.value_bytes().to_vec()));
        }
    }
    Ok(found)
}

fn remove(dir: &OwnedFd, name: &OsStr, dir_path: &Path) -> io::Result<()> {
    match unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        // A directory that a file of the same layer replaces. `dir_path` may lead over symbolic
        // links, so go through the descriptor.
        Err(Errno::ISDIR) => std::fs::remove_dir_all(Path::new("/proc/self/fd").join(raw(dir)).join(name)),
        Err(error) => Err(io::Error::other(format!("replace in {}: {error}", dir_path.display()))),
    }
}

fn is_dir(dir: &OwnedFd, name: &OsStr) -> bool {
    statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

fn raw(fd: &OwnedFd) -> String {
    use std::os::fd::AsRawFd as _;
    fd.as_fd().as_raw_fd().to_string()
}

fn id(id: u64) -> io::Result<u32> {
    u32::try_from(id).map_err(|_| io::Error::other(format!("owner {id} is out of range")))
}

fn times(seconds: u64) -> Timestamps {
    let time = Timespec { tv_sec: i64::try_from(seconds).unwrap_or(0), tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}
