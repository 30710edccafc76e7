//! What the agent asks of a shim and what it is told: plain data, JSON on the wire.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf};

/// A pod before its first container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sandbox {
    /// The pod's directory, absolute; it exists. The shim keeps `shim.sock`, `shim.log`,
    /// `sandbox.json` and `<container>.state.json` in it.
    pub dir: PathBuf,
    /// The pod's host name (at most 64 bytes), set in a uts namespace of its own.
    /// Ignored with `host_network`, as Kubernetes has it.
    pub hostname: String,
    /// Stay in the host's network and uts namespaces.
    pub host_network: bool,
    /// Stay in the host's ipc namespace.
    pub host_ipc: bool,
    /// Stay in the host's pid namespace. Without cgroups, what a container leaves running when its first process ends lives
    /// on.
    pub host_pid: bool,
    /// Containers see each other's processes (`shareProcessNamespace`). Without cgroups, what a
    /// container leaves running when its first process ends lives on until the pod ends.
    pub share_processes: bool,
    /// The pod's cgroup below the root of each hierarchy, like `coracle-1a2b3c/<pod uid>`; `None`
    /// makes no cgroups, and limits are not enforced.
    pub cgroup: Option<String>,
    /// Limits of the pod as a whole.
    pub limits: Limits,
    /// Kernel settings of the pod's namespaces, by their dotted name (`net.ipv4.tcp_syncookies`).
    /// `net.ipv4.ip_unprivileged_port_start` is 0 unless given, as containerd has it.
    pub sysctls: BTreeMap<String, String>,
    /// Memory file systems (`emptyDir` with `medium: Memory`), mounted where only the shim and its
    /// containers see them; give their paths as [`Mount::source`].
    pub tmpfs: Vec<Tmpfs>,
}

/// One memory file system of a pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tmpfs {
    /// An existing directory to mount it on.
    pub path: PathBuf,
    /// Its size in bytes; `None` is half of the machine's memory.
    pub size: Option<u64>,
}

/// A container to start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Container {
    /// Its name, one path component, unique in the pod until [`crate::Client::remove`]; with an
    /// attempt number when containers are started again (`web.3`).
    pub name: String,
    /// Its root file system.
    pub root: Root,
    /// Its first process.
    pub program: Program,
    /// What is mounted from outside, in this order.
    pub mounts: Vec<Mount>,
    /// All devices and capabilities, nothing masked or read-only.
    pub privileged: bool,
    /// Leave `/proc` unmasked (`procMount: Unmasked`).
    pub unmasked: bool,
    /// Join the pid namespace of that running container of the pod (`targetContainerName`); empty is a namespace of its
    /// own, or the pod's shared one.
    pub processes_of: String,
    /// Keep standard input open for [`crate::Client::attach`]; otherwise it is /dev/null.
    pub stdin: bool,
    /// Close standard input when the first attached client leaves.
    pub stdin_once: bool,
    /// Give it a terminal for its standard input, output and error.
    pub tty: bool,
    /// Limits of this container.
    pub limits: Limits,
    /// Where its output goes; `None` throws it away.
    pub log: Option<Log>,
    /// How readily the kernel kills it when memory is short, -1000 to 1000; never made lower than
    /// the shim's own.
    pub oom_score_adj: i32,
}

/// A root file system: an overlay of image layers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Root {
    /// The layers, top first; absolute directories.
    pub lower: Vec<PathBuf>,
    /// An existing directory that takes what the container writes.
    pub upper: PathBuf,
    /// An existing empty directory on the same file system as `upper`.
    pub work: PathBuf,
    /// Mount it read-only.
    pub read_only: bool,
}

/// A process: the first one of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Program {
    /// The program and its arguments; a name without a slash is looked up in the container's PATH.
    pub args: Vec<String>,
    /// `NAME=value`, in order.
    pub env: Vec<String>,
    /// The working directory, made when missing; empty is `/`.
    pub cwd: String,
    /// Whom it runs as.
    pub user: User,
    /// What it may do beyond an ordinary user. Ignored for a privileged container, which has all.
    pub capabilities: Capabilities,
    /// It and its children can not gain privileges by running a program.
    pub no_new_privileges: bool,
}

/// A user by numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// Changes of the default set of capabilities (that of containerd and Docker), as
/// `securityContext.capabilities` has them; names with or without `CAP_`, or `ALL`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// Added ones.
    pub add: Vec<String>,
    /// Dropped ones.
    pub drop: Vec<String>,
}

/// A file or directory mounted into a container (bind mount, recursive).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// The existing file or directory outside, absolute.
    pub source: PathBuf,
    /// Where the container sees it, absolute; made when missing. Symbolic links on the way are
    /// followed inside the container's root only.
    pub target: PathBuf,
    /// The container can not write to it.
    pub read_only: bool,
}

/// Limits of a cgroup; `None` is no limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// Share of the processor against others, as cgroup v1 counts it: 1024 is one core, 2 the least.
    pub cpu_shares: Option<u64>,
    /// Microseconds of processor time in each 100 ms: 100000 is one core.
    pub cpu_quota: Option<u64>,
    /// Number of processes and threads.
    pub pids: Option<u64>,
}

/// A log file in the format of the Kubernetes CRI (`<RFC 3339 nanoseconds> <stream> <F|P> <text>`),
/// rotated by size to `path.1` (newest), `path.2` ….
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Log {
    /// The file; appended to. Its directory exists.
    pub path: PathBuf,
    /// Size in bytes beyond which it is rotated (kubelet's `containerLogMaxSize`).
    pub max_size: u64,
    /// Number of files kept, this one included (kubelet's `containerLogMaxFiles`).
    pub max_files: u32,
}

impl Default for Log {
    fn default() -> Self {
        Self { path: PathBuf::new(), max_size: 10 << 20, max_files: 5 }
    }
}

/// One more process in a running container, with the container's user, environment, working
/// directory, capabilities and cgroup.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Exec {
    /// The container's name.
    pub container: String,
    /// The program and its arguments.
    pub args: Vec<String>,
    /// Environment beyond the container's.
    pub env: Vec<String>,
    /// Give it a terminal; the three streams below are then one, and not asked for.
    pub tty: bool,
    /// Connect standard input; otherwise it is /dev/null.
    pub stdin: bool,
    /// Connect standard output.
    pub stdout: bool,
    /// Connect standard error.
    pub stderr: bool,
}

/// A container as its shim knows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Its name.
    pub name: String,
    /// Its first process, as the agent's pid namespace numbers it.
    pub pid: u32,
    /// When it was started, nanoseconds since 1970.
    pub started: i64,
    /// Whether its cgroup limits are enforced; false where cgroups can not be written.
    pub limits: bool,
    /// How it ended; `None` while it runs.
    pub exit: Option<Exit>,
}

/// How a process ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Exit {
    /// Its exit code; 128 + n when signal n ended it.
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The kernel killed a process of the container for lack of memory.
    pub oom: bool,
    /// When, in nanoseconds since 1970.
    pub finished: i64,
}
