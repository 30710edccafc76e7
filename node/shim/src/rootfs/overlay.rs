//! The overlay of image layers.

use super::place::attach;
use crate::{kernel::failed, spec::Root};
use rustix::{
    fd::OwnedFd,
    fs::{Mode, OFlags, open},
    io::Errno,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
        fsmount, fsopen, mount as mount_old,
    },
};
use std::{
    ffi::CString,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// The user namespace every machine begins with has this number.
const FIRST_USER_NAMESPACE: &str = "user:[4026531837]";

/// Mounts the overlay over its own upper directory, which nobody else sees, and returns its root.
pub(super) fn mount(root: &Root, attributes: u64) -> Result<OwnedFd, String> {
    if root.lower.is_empty() {
        return Err("failed to mount overlay: the image has no layers".into());
    }
    let user = std::fs::read_link("/proc/self/ns/user").is_ok_and(|link| link != Path::new(FIRST_USER_NAMESPACE));
    let step = || format!("mount overlay over {}", root.upper.display());
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let target = open(&root.upper, directory, Mode::empty()).map_err(failed(step()))?;
    match layered(root, user, attributes) {
        Ok(tree) => {
            attach(&tree, &target).map_err(failed(step()))?;
            Ok(tree)
        }
        // Kernels before 6.5 take the layers in one option only.
        Err((Errno::INVAL, "lowerdir+", _)) => {
            one_option(root, user, attributes).map_err(failed(step()))?;
            open(&root.upper, directory, Mode::empty()).map_err(failed(step()))
        }
        Err((error, _, said)) => Err(failed(step())(format!("{error}{said}"))),
    }
}

/// One option for each layer, so that there can be hundreds. Each is given as `.` from inside, as an
/// option holds only 255 bytes.
fn layered(root: &Root, user: bool, attributes: u64) -> Result<OwnedFd, (Errno, &'static str, String)> {
    let quiet = |option| move |error| (error, option, String::new());
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(quiet("fsopen"))?;
    let told = |option| {
        let fs = &fs;
        move |error| (error, option, complaints(fs))
    };
    let dirs = root.lower.iter().map(|dir| ("lowerdir+", dir));
    let dirs = dirs.chain([("upperdir", &root.upper), ("workdir", &root.work)]);
    for (option, dir) in dirs {
        rustix::process::chdir(dir).map_err(|error| (error, "chdir", format!(": {}", dir.display())))?;
        fsconfig_set_string(&fs, option, ".").map_err(told(option))?;
    }
    if user {
        fsconfig_set_flag(&fs, "userxattr").map_err(told("userxattr"))?;
    }
    fsconfig_create(&fs).map_err(told("create"))?;
    let attributes = MountAttrFlags::from_bits_retain(attributes as _);
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(told("mount"))
}

/// What the kernel has to say about a failed file system.
fn complaints(fs: &OwnedFd) -> String {
    let mut text = String::new();
    let mut line = [0; 256];
    while let Ok(length) = rustix::io::read(fs, &mut line) {
        let said = String::from_utf8_lossy(&line[..length]);
        if let Some(said) = said.strip_prefix("e ") {
            text = format!("{text}: {}", said.trim_end());
        }
    }
    text
}

/// The old way: all layers in one string, which the kernel limits to a page; relative to their
/// common directory to make it short.
fn one_option(root: &Root, user: bool, attributes: u64) -> Result<(), Errno> {
    let base = common(&root.lower);
    rustix::process::chdir(&base)?;
    let escaped = |path: &Path| {
        let mut bytes = Vec::new();
        for byte in path.as_os_str().as_bytes() {
            if b"\\:,".contains(byte) {
                bytes.push(b'\\');
            }
            bytes.push(*byte);
        }
        if bytes.is_empty() { b".".to_vec() } else { bytes }
    };
    let short = |dir: &PathBuf| escaped(dir.strip_prefix(&base).unwrap_or(dir));
    let lower = root.lower.iter().map(short).collect::<Vec<_>>().join(&b':');
    let upper = escaped(&root.upper);
    let work = escaped(&root.work);
    let mut options = [b"lowerdir=", &lower[..], b",upperdir=", &upper, b",workdir=", &work].concat();
    if user {
        options.extend(b",userxattr");
    }
    let options = CString::new(options).map_err(|_| Errno::INVAL)?;
    let flags = if attributes == 0 { MountFlags::empty() } else { MountFlags::NODEV };
    mount_old("overlay", &root.upper, "overlay", flags, options.as_c_str())
}

fn common(dirs: &[PathBuf]) -> PathBuf {
    let mut base = dirs.first().cloned().unwrap_or_default();
    while !dirs.iter().all(|dir| dir.starts_with(&base)) {
        base.pop();
    }
    base
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_common_directory() {
        let dirs = |list: &[&str]| list.iter().map(PathBuf::from).collect::<Vec<_>>();
        let table: [(&[&str], &str); 4] =
            [(&["/a/b/c", "/a/b/d"], "/a/b"), (&["/a/b"], "/a/b"), (&["/a/b", "/a/b/c"], "/a/b"), (&["/a", "/b"], "/")];
        for (list, base) in table {
            assert_eq!(common(&dirs(list)), Path::new(base));
        }
    }
    /// In namespaces of its own: this test runs itself again in them.
    #[test]
    fn layers_in_one_option() {
        if std::env::var_os("LAYERS_IN_ONE_OPTION").is_none() {
            let status = std::process::Command::new("unshare")
                .args(["-Urm", "--"])
                .arg(std::env::current_exe().unwrap())
                .args(["--exact", "rootfs::overlay::tests::layers_in_one_option"])
                .env("LAYERS_IN_ONE_OPTION", "1")
                .status()
                .expect("unshare is needed: apt-get install util-linux");
            assert!(status.success());
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(&path).unwrap();
            path
        };
        let lower = ["layers/one:a", "layers/two,b"].map(path).to_vec();
        std::fs::write(lower[0].join("file"), "top").unwrap();
        std::fs::write(lower[1].join("file"), "bottom").unwrap();
        let root = Root { lower, upper: path("upper"), work: path("work"), read_only: false };
        one_option(&root, true, crate::kernel::NODEV).unwrap();
        assert_eq!(std::fs::read_to_string(root.upper.join("file")).unwrap(), "top");
        rustix::process::chdir("/").unwrap();
        rustix::mount::unmount(&root.upper, rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}
