//! A pod in a directory of its own, and waiting for things to become true.

use shim::{Client, Container, Log, Program, Root, Sandbox, State};
use std::{
    fs,
    future::Future,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Runs `test` with a runtime; as another user than root, once more inside a user namespace.
pub(crate) fn pod_test<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
    if !rustix::process::geteuid().is_root() {
        return in_user_namespace();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.unwrap().block_on(test());
}

/// Runs the calling test as root of a user namespace in which only one id is mapped.
pub(crate) fn in_user_namespace() {
    let thread = std::thread::current();
    let name = thread.name().expect("tests run on named threads").to_owned();
    run_isolated(&["--exact", &name, "--nocapture"]);
}

pub(crate) fn run_isolated(args: &[&str]) {
    let status = Command::new("unshare")
        .args(["-Urm", "--fork", "--kill-child"])
        .arg(std::env::current_exe().unwrap())
        .args(args)
        .stdin(Stdio::null())
        .status()
        .expect("unshare is needed: apt-get install util-linux");
    assert!(status.success(), "in a user namespace: {status}");
}

/// Whether only one user id is there.
pub(crate) fn single_id() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap();
    map.split_whitespace().nth(2) == Some("1")
}

pub(crate) struct Pod {
    pub(crate) client: Client,
    pub(crate) sandbox: Sandbox,
    dir: TempDir,
}

/// The program that is the shim and runs in the containers.
pub(crate) fn exe() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let exe = exe.ancestors().nth(2).unwrap().join("examples/inside");
    assert!(exe.exists(), "{} is missing: cargo build -p coracle-shim --examples", exe.display());
    exe
}

impl Pod {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Sandbox)) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let dir = tempfile::tempdir().unwrap();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mut sandbox = Sandbox {
            dir: dir.path().join("pod"),
            hostname: "pod-1".into(),
            cgroup: Some(format!("coracle-test-{}-{number}/pod", dir.path().file_name().unwrap().display())),
            ..Sandbox::default()
        };
        fs::create_dir(&sandbox.dir).unwrap();
        fs::create_dir(dir.path().join("layer")).unwrap();
        fs::copy(exe(), dir.path().join("layer/inside")).unwrap();
        change(&mut sandbox);
        let client = Client::spawn(&exe(), &sandbox).await.unwrap();
        Self { client, sandbox, dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A container that runs `commands`.
    pub(crate) fn container(&self, name: &str, commands: &str) -> Container {
        for part in ["upper", "work"] {
            fs::create_dir_all(self.path(&format!("{name}/{part}"))).unwrap();
        }
        let args = std::iter::once("/inside").chain(commands.split(' ')).map(str::to_owned).collect();
        Container {
            name: name.into(),
            root: Root {
                lower: vec![self.path("layer")],
                upper: self.path(name).join("upper"),
                work: self.path(name).join("work"),
                read_only: false,
            },
            program: Program { args, env: vec!["PATH=/bin:/".into()], ..Program::default() },
            log: Some(Log { path: self.path(&format!("{name}.log")), ..Log::default() }),
            ..Container::default()
        }
    }

    /// Starts a container and waits for its end; its state and what it printed.
    pub(crate) async fn run(&self, container: &Container) -> (State, String) {
        let mut exits = self.client.exits().await.unwrap();
        self.client.start(container).await.unwrap();
        loop {
            let state = in_time(exits.next()).await.unwrap();
            if state.name == container.name {
                return (state, self.output(&container.name));
            }
        }
    }

    /// Standard output and error from the log, without the prefixes.
    pub(crate) fn output(&self, name: &str) -> String {
        let log = fs::read_to_string(self.path(&format!("{name}.log"))).unwrap_or_default();
        log.lines().map(|line| format!("{}\n", line.splitn(4, ' ').nth(3).unwrap())).collect()
    }

    pub(crate) async fn printed(&self, name: &str, text: &str) {
        until(&format!("{text:?} in the log of {name}"), || self.output(name).contains(text)).await;
    }

    /// Ends the pod and looks for what must not be left.
    pub(crate) async fn finish(self) {
        self.client.shutdown().await.unwrap();
        self.nothing_left();
    }

    pub(crate) fn nothing_left(&self) {
        let here = self.dir.path().to_str().unwrap();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(!mounts.contains(here), "{mounts}");
        assert!(!self.sandbox.dir.join("shim.sock").exists());
        assert!(cgroups(&self.sandbox).iter().all(|dir| !dir.exists()), "{:?}", cgroups(&self.sandbox));
    }
}

impl Drop for Pod {
    /// After a failed test, nothing is left either.
    fn drop(&mut self) {
        let pid = i32::try_from(self.client.pid()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid.filter(|_| self.sandbox.dir.join("shim.sock").exists()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            let deadline = Instant::now() + PATIENCE;
            while lives(self.client.pid()) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
            let _ = shim::clear(&self.sandbox.dir);
        }
        if let Some((cluster, _)) = self.sandbox.cgroup.as_ref().and_then(|path| path.split_once('/')) {
            shim::remove_cgroup(cluster);
        }
    }
}

/// Where the pod's cgroups are, if they are.
pub(crate) fn cgroups(sandbox: &Sandbox) -> Vec<PathBuf> {
    let Some(path) = &sandbox.cgroup else {
        return Vec::new();
    };
    ["", "memory", "cpu", "cpuacct", "pids", "unified"]
        .map(|controller| Path::new("/sys/fs/cgroup").join(controller).join(path))
        .to_vec()
}

pub(crate) async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it took too long")
}

/// Waits until something is true.
pub(crate) async fn until(what: &str, mut truth: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !truth() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether a process is there and not a zombie.
pub(crate) fn lives(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().starts_with(" Z"))
}
