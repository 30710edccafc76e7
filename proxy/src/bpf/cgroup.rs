//! Where the programs are: the cgroup of a cluster's pods in the hierarchy of version 2.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

use crate::Error;

/// Opens it; makes it when no pod did so yet.
pub(crate) fn open(cluster_id: &str) -> Result<File, Error> {
    let make = || {
        let path = path(cluster_id).ok_or(io::ErrorKind::Unsupported)?;
        fs::create_dir_all(&path)?;
        File::open(path)
    };
    make().map_err(failed)
}

/// Opens it if it is there.
pub(crate) fn existing(cluster_id: &str) -> Result<Option<File>, Error> {
    match path(cluster_id).map(File::open) {
        Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
        opened => Ok(opened.and_then(Result::ok)),
    }
}

/// Removes it unless there are pods; who removes the last one removes it, too.
pub(crate) fn leave(cluster_id: &str) {
    let _ = path(cluster_id).map(fs::remove_dir);
}

/// The cgroup above those of all pods; None without the hierarchy of version 2.
fn path(cluster_id: &str) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    Some(mount_point(&mounts)?.join(format!("coracle-{cluster_id}")))
}

fn failed(source: io::Error) -> Error {
    Error::Bpf { doing: "open the cgroup of the pods".into(), source }
}

/// The first hierarchy of version 2 in `/proc/self/mountinfo`, as the pods take it; in the hybrid layout there is
/// one beside those of version 1.
fn mount_point(mounts: &str) -> Option<PathBuf> {
    let unified =
        mounts.lines().filter_map(|line| line.split_once(" - ")).find(|(_, kind)| kind.starts_with("cgroup2 "));
    unified?.0.split(' ').nth(4).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hybrid_and_unified_layouts() {
        let cases = [
            (
                "31 30 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                 33 30 0:29 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw\n",
                Some("/sys/fs/cgroup/unified"),
            ),
            ("29 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n", Some("/sys/fs/cgroup")),
            ("31 30 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n", None),
        ];
        for (mounts, point) in cases {
            assert_eq!(mount_point(mounts), point.map(PathBuf::from), "{mounts}");
        }
    }
}
