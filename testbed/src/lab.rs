//! A cluster under test.

use std::{
    fs::{self, File},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    following::Following,
    namespaces::{hand_over, ordinary},
    tools::{need, run, text, wait},
};

/// How long anything may take that has no deadline of its own.
const PATIENCE: Duration = Duration::from_secs(60);

/// How the cluster is started.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Further arguments of `coracle up`.
    pub arguments: Vec<String>,
    /// Run by an [`ordinary`] user.
    pub ordinary: bool,
}

impl Options {
    /// Runs with these arguments of `coracle up`, separated by spaces.
    #[must_use]
    pub fn with(arguments: &str) -> Self {
        Self { arguments: words(arguments), ..Self::default() }
    }
}

/// A cluster in a directory of its own; stopped and removed when dropped.
pub struct Lab {
    coracle: PathBuf,
    /// Kept until the end, also when the cluster is started again.
    directory: TempDir,
    process: Option<Child>,
    options: Options,
}

impl Lab {
    /// A cluster that is up, run by this binary.
    ///
    /// # Panics
    /// When it does not come up, with its log.
    #[must_use]
    pub fn start(coracle: &str, options: Options) -> Self {
        let mut lab = Self::prepare(coracle, options);
        lab.up();
        lab
    }

    /// A cluster that has not been started yet: [`Self::up`] does.
    ///
    /// # Panics
    /// When its directory cannot be made.
    #[must_use]
    pub fn prepare(coracle: &str, options: Options) -> Self {
        let directory = tempfile::Builder::new().prefix("lab").tempdir().expect("a temporary directory");
        let mut lab = Self { coracle: coracle.into(), directory, process: None, options };
        if lab.options.ordinary {
            // What belongs to root may lie where nobody else can read.
            let copy = lab.scratch().join("coracle");
            fs::copy(coracle, &copy).expect("a copy of the binary");
            hand_over(lab.scratch());
            lab.coracle = copy;
        }
        lab
    }

    /// Starts it, again after [`Self::kill`] or [`Self::stop`].
    ///
    /// # Panics
    /// When it does not come up, with its log.
    pub fn up(&mut self) {
        let log = File::options().append(true).create(true).open(self.log()).expect("the log");
        let mut command = self.command();
        command.arg("up").args(&self.options.arguments).arg("--data-dir").arg(self.data());
        let output = log.try_clone().expect("the log");
        let mut process = command.stdin(Stdio::null()).stdout(output).stderr(log).spawn().expect("coracle starts");
        let before = self.said().matches("Coracle is up").count();
        let log = self.log();
        wait("cluster", PATIENCE, || {
            let said = fs::read_to_string(&log).unwrap_or_default();
            if said.matches("Coracle is up").count() > before {
                return Ok(());
            }
            if let Ok(Some(status)) = process.try_wait() {
                panic!("coracle up: {status}\n{said}");
            }
            Err(said)
        });
        self.process = Some(process);
    }

    /// The binary, run by the lab's user.
    fn command(&self) -> Command {
        let mut command = if self.options.ordinary { ordinary(&self.coracle) } else { Command::new(&self.coracle) };
        command.env_remove("XDG_DATA_HOME").env("HOME", self.scratch()).env("TMPDIR", self.scratch());
        command
    }

    /// `coracle` with the lab's data directory.
    pub fn coracle(&self, arguments: &[&str]) -> Output {
        run(self.command().args(arguments).arg("--data-dir").arg(self.data()))
    }

    /// `coracle demo`, which has a directory of its own in [`Self::scratch`].
    pub fn demo(&self) -> Output {
        run(self.command().arg("demo"))
    }

    /// What a `coracle` command prints; it has to succeed.
    ///
    /// # Panics
    /// When it fails, with all it said.
    pub fn says(&self, arguments: &[&str]) -> String {
        let output = self.coracle(arguments);
        assert!(output.status.success(), "coracle {arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What a `coracle` command says on standard error; it has to fail.
    ///
    /// # Panics
    /// When it succeeds.
    pub fn complains(&self, arguments: &[&str]) -> String {
        let output = self.coracle(arguments);
        assert!(!output.status.success(), "coracle {arguments:?} succeeded: {output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Imports the image that [`crate::nginx`] makes, as `docker.io/library/nginx:latest`.
    ///
    /// # Panics
    /// When that fails.
    pub fn import_nginx(&self) {
        self.import(&crate::nginx(self.scratch()), "nginx");
    }

    /// Imports the image that [`crate::busybox`] makes, as `docker.io/library/busybox:latest`.
    ///
    /// # Panics
    /// When that fails.
    pub fn import_busybox(&self) {
        self.import(&crate::busybox(self.scratch()), "busybox");
    }

    /// Imports an archive as `docker.io/library/NAME:latest`.
    ///
    /// # Panics
    /// When that fails.
    pub fn import(&self, archive: &Path, name: &str) {
        let said = self.says(&["image", "import", &archive.display().to_string()]);
        assert_eq!(said.trim(), format!("docker.io/library/{name}:latest"));
    }

    /// Ends the cluster with SIGTERM and waits for it.
    ///
    /// # Panics
    /// When it does not end well, with its log.
    pub fn stop(&mut self) {
        self.stop_with(Signal::TERM);
    }

    /// Ends the cluster with Ctrl-C's signal and waits for it.
    ///
    /// # Panics
    /// When it does not end well, with its log.
    pub fn interrupt(&mut self) {
        self.stop_with(Signal::INT);
    }

    fn stop_with(&mut self, by: Signal) {
        let Some(mut process) = self.process.take() else { return };
        signal(&process, by);
        let status = wait("end of the cluster", PATIENCE, || match process.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(format!("{other:?}\n{}", self.said())),
        });
        assert!(status.success(), "coracle up: {status}\n{}", self.said());
    }

    /// Waits until the cluster has ended by itself, or by a command.
    ///
    /// # Panics
    /// When it does not, or did not end well, with its log.
    pub fn ended(&mut self) {
        let mut process = self.process.take().expect("the cluster runs");
        let status = process.wait().expect("the cluster ends");
        assert!(status.success(), "coracle up: {status}\n{}", self.said());
    }

    /// Ends the cluster's process with SIGKILL.
    ///
    /// # Panics
    /// When it is not running.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("the cluster runs");
        signal(&process, Signal::KILL);
        process.wait().expect("the cluster is gone");
    }

    /// The process id of the cluster.
    ///
    /// # Panics
    /// When it is not running.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("the cluster runs").id()
    }

    /// Its data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Its id, which is part of every name that it makes on the machine.
    ///
    /// # Panics
    /// When it was never started.
    #[must_use]
    pub fn id(&self) -> String {
        fs::read_to_string(self.data().join("id")).expect("the cluster's id").trim().to_owned()
    }

    /// A place for files of the test.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        self.directory.path()
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// Everything that the cluster has printed.
    #[must_use]
    pub fn said(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// A kubectl command, not yet run.
    #[must_use]
    pub fn kubectl_command(&self, arguments: &str) -> Command {
        self.kubectl_of(&need("kubectl"), arguments)
    }

    /// A command of a certain kubectl, not yet run; see [`crate::kubectls`].
    #[must_use]
    pub fn kubectl_of(&self, kubectl: &Path, arguments: &str) -> Command {
        let mut command = Command::new(kubectl);
        command.arg("--kubeconfig").arg(self.data().join("kubeconfig"));
        // Discovery is cached by address, and all labs have the same one.
        command.arg("--cache-dir").arg(self.directory.path().join("cache")).args(words(arguments));
        // kubectl 1.29 and 1.30 need to be asked for WebSockets.
        command.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "true").env("HOME", self.directory.path());
        command
    }

    /// What kubectl prints; it has to succeed. Words are separated by spaces, and quoted with `'`.
    ///
    /// # Panics
    /// When it fails, with all it said.
    pub fn kubectl(&self, arguments: &str) -> String {
        text(&mut self.kubectl_command(arguments))
    }

    /// What kubectl says on standard error; it has to fail.
    ///
    /// # Panics
    /// When it succeeds.
    pub fn kubectl_fails(&self, arguments: &str) -> String {
        let output = run(&mut self.kubectl_command(arguments));
        assert!(!output.status.success(), "kubectl {arguments} succeeded: {}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// A kubectl command that goes on, read while it runs.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn follow(&self, arguments: &str) -> Following {
        Following::of(self.kubectl_command(arguments))
    }

    /// `kubectl get … -o json`.
    ///
    /// # Panics
    /// When it fails.
    pub fn get(&self, arguments: &str) -> Value {
        serde_json::from_str(&self.kubectl(&format!("get {arguments} -o json"))).expect("kubectl prints JSON")
    }

    /// Applies manifests given as text.
    ///
    /// # Panics
    /// When that fails.
    pub fn apply(&self, manifest: &str) -> String {
        self.kubectl(&format!("apply -f {}", self.manifest(manifest).display()))
    }

    /// A file with manifests.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn manifest(&self, manifest: &str) -> PathBuf {
        let path = self.directory.path().join("manifest.yaml");
        fs::write(&path, manifest).expect("the manifest is written");
        path
    }

    /// What a URL answers, from the node.
    ///
    /// # Errors
    /// What curl says.
    pub fn curl(&self, url: &str) -> Result<String, String> {
        answer(&mut Command::new(need("curl")), url)
    }

    /// What a URL answers, from another machine.
    ///
    /// # Errors
    /// What curl says.
    pub fn curl_outside(&self, url: &str) -> Result<String, String> {
        answer(&mut crate::outside("curl"), url)
    }

    /// The addresses that the cluster's DNS has for a name, sorted.
    pub fn dig(&self, name: &str) -> Vec<Ipv4Addr> {
        let mut command = Command::new(need("dig"));
        let output = text(command.args(["@10.96.0.10", "+short", "+tries=1", "+time=10", name]));
        let mut addresses: Vec<_> = output.lines().filter_map(|line| line.parse().ok()).collect();
        addresses.sort();
        addresses
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the cluster's log\n{}", self.said());
            for what in ["get nodes,pods,services,endpointslices -A -o wide", "get events -A"] {
                let output = run(&mut self.kubectl_command(what));
                eprintln!("--- kubectl {what}\n{}", String::from_utf8_lossy(&output.stdout));
            }
            if let Some(mut process) = self.process.take() {
                signal(&process, Signal::TERM);
                let _ = process.wait();
            }
            // Control groups would outlive the test's namespaces.
            let _ = self.coracle(&["down"]);
        } else {
            self.stop();
        }
    }
}

fn signal(process: &Child, signal: Signal) {
    if let Some(pid) = i32::try_from(process.id()).ok().and_then(Pid::from_raw) {
        // It may have ended by itself.
        let _ = kill_process(pid, signal);
    }
}

fn answer(curl: &mut Command, url: &str) -> Result<String, String> {
    let output = run(curl.args(["--silent", "--show-error", "--max-time", "5", url]));
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// Splits at spaces that are not between `'`.
fn words(arguments: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (number, part) in arguments.split('\'').enumerate() {
        if number % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}
