//! Control groups: one for the pod, one below it for each container, in cgroup v1 (also the hybrid
//! layout) or v2.
//!
//! Everything works without them: where they can not be written, as for an ordinary user, a pod
//! runs without limits and says so.

use crate::{kernel::failed, spec::Limits};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// The v1 controllers in use.
const CONTROLLERS: [&str; 4] = ["memory", "cpu", "cpuacct", "pids"];
/// The v2 controllers in use.
const ENABLE: [&str; 3] = ["+memory", "+cpu", "+pids"];
/// The period of processor quotas, in microseconds.
const PERIOD: u64 = 100_000;
/// How long the kernel may take until a cgroup without processes can be removed.
const PATIENCE: Duration = Duration::from_secs(2);

/// The mounted hierarchies.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Hierarchy {
    /// Mount points of the controllers in use, each once. In the hybrid layout the v2 hierarchy,
    /// which has none then, is the last: BPF programs know pods by it.
    V1(Vec<PathBuf>),
    /// The mount point of the only hierarchy.
    V2(PathBuf),
}

/// A cgroup in every hierarchy in use.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    v2: bool,
    dirs: Vec<PathBuf>,
}

/// Reads `/proc/self/mountinfo`. v1 controllers go first: in the hybrid layout the v2 hierarchy has
/// none.
pub(crate) fn hierarchy(mountinfo: &str) -> Option<Hierarchy> {
    let mut v1 = Vec::new();
    let mut v2 = None;
    for line in mountinfo.lines() {
        let Some((mount, kind)) = line.split_once(" - ") else {
            continue;
        };
        let Some(point) = mount.split(' ').nth(4).map(PathBuf::from) else {
            continue;
        };
        let mut kind = kind.split(' ');
        let (fs, options) = (kind.next(), kind.nth(1).unwrap_or_default());
        let used = || options.split(',').any(|option| CONTROLLERS.contains(&option));
        match fs {
            Some("cgroup") if used() && !v1.contains(&point) => v1.push(point),
            Some("cgroup2") => v2 = v2.or(Some(point)),
            _ => {}
        }
    }
    if v1.is_empty() {
        return v2.map(Hierarchy::V2);
    }
    v1.extend(v2);
    Some(Hierarchy::V1(v1))
}

impl Hierarchy {
    /// The hierarchies of this machine.
    pub(crate) fn here() -> Option<Self> {
        hierarchy(&fs::read_to_string("/proc/self/mountinfo").ok()?)
    }

    /// The group at `path` below the root, whether or not it exists.
    pub(crate) fn group(&self, path: &str) -> Group {
        match self {
            Self::V1(points) => Group { v2: false, dirs: points.iter().map(|point| point.join(path)).collect() },
            Self::V2(point) => Group { v2: true, dirs: vec![point.join(path)] },
        }
    }

    /// Makes the group at `path` and those above it; that it is there already is fine.
    pub(crate) fn make(&self, path: &str) -> io::Result<Group> {
        let group = self.group(path);
        if let Self::V2(point) = self {
            let mut parent = point.clone();
            for part in Path::new(path) {
                enable(&parent);
                parent.push(part);
                match fs::create_dir(&parent) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                        return Err(error);
                    }
                    _ => {}
                }
            }
        } else {
            for dir in &group.dirs {
                fs::create_dir_all(dir)?;
            }
        }
        Ok(group)
    }
}

/// Gives the children of a v2 group the controllers; one that is not there is found out when a
/// limit is set.
fn enable(dir: &Path) {
    for controller in ENABLE {
        let _ = fs::write(dir.join("cgroup.subtree_control"), controller);
    }
}

/// The files to write for `limits`: (name, value, whether it may be missing).
fn settings(v2: bool, limits: &Limits) -> Vec<(&'static str, String, bool)> {
    let mut list = Vec::new();
    if let Some(bytes) = limits.memory {
        if v2 {
            list.push(("memory.max", bytes.to_string(), false));
            list.push(("memory.swap.max", "0".into(), true));
            list.push(("memory.oom.group", "1".into(), true));
        } else {
            list.push(("memory.limit_in_bytes", bytes.to_string(), false));
            list.push(("memory.memsw.limit_in_bytes", bytes.to_string(), true));
        }
    }
    if let Some(shares) = limits.cpu_shares {
        let shares = shares.clamp(2, 262_144);
        if v2 {
            list.push(("cpu.weight", (1 + (shares - 2) * 9999 / 262_142).to_string(), false));
        } else {
            list.push(("cpu.shares", shares.to_string(), false));
        }
    }
    if let Some(quota) = limits.cpu_quota {
        let quota = quota.max(1000);
        if v2 {
            list.push(("cpu.max", format!("{quota} {PERIOD}"), false));
        } else {
            list.push(("cpu.cfs_period_us", PERIOD.to_string(), false));
            list.push(("cpu.cfs_quota_us", quota.to_string(), false));
        }
    }
    if let Some(pids) = limits.pids {
        list.push(("pids.max", pids.to_string(), false));
    }
    list
}

impl Group {
    /// Sets limits; false when the controllers for them are not ours to use.
    pub(crate) fn limit(&self, limits: &Limits) -> Result<bool, String> {
        use io::ErrorKind::{NotFound, PermissionDenied};
        for (name, value, optional) in settings(self.v2, limits) {
            match self.write(name, &value) {
                Ok(()) => {}
                Err(_) if optional => {}
                Err(error) if matches!(error.kind(), NotFound | PermissionDenied) => {
                    return Ok(false);
                }
                Err(error) => return Err(failed(format!("set {name} to {value}"))(error)),
            }
        }
        Ok(true)
    }

    /// Changes limits. Some may not exceed others, so what fails at first may succeed when all others were changed.
    pub(crate) fn change(&self, limits: &Limits) -> Result<bool, String> {
        for (name, value, _) in settings(self.v2, limits) {
            let _ = self.write(name, &value);
        }
        self.limit(limits)
    }

    /// Moves the calling process in.
    pub(crate) fn join(&self) -> Result<(), String> {
        for dir in &self.dirs {
            fs::write(dir.join("cgroup.procs"), "0").map_err(failed(format!("join cgroup {}", dir.display())))?;
        }
        Ok(())
    }

    /// Whether the kernel killed a process in it for lack of memory.
    pub(crate) fn oom(&self) -> bool {
        let file = if self.v2 { "memory.events" } else { "memory.oom_control" };
        self.read(file).is_some_and(|text| {
            let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
            count.is_some_and(|count| count.trim() != "0")
        })
    }

    /// Kills what is left in it, also what is forked meanwhile.
    pub(crate) fn kill(&self) {
        let deadline = Instant::now() + PATIENCE;
        while let Some(procs) = self.read("cgroup.procs").filter(|procs| !procs.is_empty()) {
            let pids = procs.lines().filter_map(|line| line.parse().ok().and_then(Pid::from_raw));
            for pid in pids {
                let _ = kill_process(pid, Signal::KILL);
            }
            if Instant::now() > deadline {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// The directories of v1, to be shown in the container: (name in /sys/fs/cgroup, directory).
    pub(crate) fn views(&self) -> Vec<(String, PathBuf)> {
        let name = |dir: &Path| {
            let point = dir.strip_prefix("/sys/fs/cgroup").ok()?;
            Some(point.components().next()?.as_os_str().to_string_lossy().into_owned())
        };
        if self.v2 {
            return Vec::new();
        }
        let v1 = self.dirs.iter().filter(|dir| !dir.join("cgroup.controllers").exists());
        v1.filter_map(|dir| Some((name(dir)?, dir.clone()))).collect()
    }

    /// Removes it, waiting until its last process has left.
    pub(crate) fn remove(&self) {
        for dir in &self.dirs {
            let deadline = Instant::now() + PATIENCE;
            while fs::remove_dir(dir).is_err_and(|error| error.kind() == io::ErrorKind::ResourceBusy)
                && Instant::now() < deadline
            {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// Removes it with all groups below it.
    pub(crate) fn remove_tree(&self) {
        for dir in &self.dirs {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    Self { v2: self.v2, dirs: vec![entry.path()] }.remove_tree();
                }
            }
        }
        self.remove();
    }

    fn write(&self, name: &str, value: &str) -> io::Result<()> {
        let mut result = Err(io::ErrorKind::NotFound.into());
        for path in self.dirs.iter().map(|dir| dir.join(name)).filter(|path| path.exists()) {
            result = fs::write(path, value);
        }
        result
    }

    fn read(&self, name: &str) -> Option<String> {
        self.dirs.iter().find_map(|dir| fs::read_to_string(dir.join(name)).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hybrid_and_unified_layouts() {
        let hybrid = "\
            30 20 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
            31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
            32 30 0:28 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n\
            33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
            34 30 0:30 / /sys/fs/cgroup/blkio rw - cgroup cgroup rw,blkio\n";
        let points = ["/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/unified"];
        assert_eq!(hierarchy(hybrid), Some(Hierarchy::V1(points.map(PathBuf::from).to_vec())));
        let unified = "29 20 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(hierarchy(unified), Some(Hierarchy::V2("/sys/fs/cgroup".into())));
        assert_eq!(hierarchy("20 1 8:1 / / rw - ext4 /dev/sda rw\n"), None);
    }

    #[test]
    fn limits_in_both_versions() {
        let limits = Limits { memory: Some(64 << 20), cpu_shares: Some(1024), cpu_quota: Some(50_000), pids: Some(10) };
        let told = |v2| {
            let list = settings(v2, &limits);
            list.iter().map(|(name, value, _)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            told(false),
            "memory.limit_in_bytes=67108864 memory.memsw.limit_in_bytes=67108864 cpu.shares=1024 \
             cpu.cfs_period_us=100000 cpu.cfs_quota_us=50000 pids.max=10"
        );
        assert_eq!(
            told(true),
            "memory.max=67108864 memory.swap.max=0 memory.oom.group=1 cpu.weight=39 \
             cpu.max=50000 100000 pids.max=10"
        );
    }
}
