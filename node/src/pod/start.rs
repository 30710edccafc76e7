//! One start of a container, from its image to its running program.

use super::{check::Check, env, fetch, files_of, image, limits, record::Slot, user};
use crate::{pods::Pods, volume};
use ::image::Image;
use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Pod, PodSpec};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// Most bytes of an image's passwd or group file that are read.
const ACCOUNTS_MAX: u64 = 1 << 20;
/// How long a hook may take when nothing else limits it.
const HOOK_MAX: Duration = Duration::from_secs(600);

/// Why a container is not started: the reason and message of its waiting state.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Refused {
    pub(crate) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { reason, message }
    }
}

/// What came of a start.
#[derive(Debug)]
pub(crate) enum Came {
    /// It runs. With the text of a post-start hook that failed: then it has to be stopped.
    Running(shim::State, Option<String>),
    /// Its program could not be started: counts as a start that ended.
    Broken(String),
}

/// A start to do.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) pods: Arc<Pods>,
    pub(crate) pod: Arc<Pod>,
    pub(crate) dir: PathBuf,
    pub(crate) shim: shim::Client,
    pub(crate) container: Container,
    /// `spec.containers{web}`, for events.
    pub(crate) path: String,
    /// The state before, with `starts` counting this one already.
    pub(crate) slot: Slot,
    /// The pod's address.
    pub(crate) address: String,
    /// The attempt of the container whose processes it is to see; or empty.
    pub(crate) processes_of: String,
}

impl Start {
    /// Does it. With the image's reference and id, as soon as they are known.
    pub(crate) async fn run(self) -> (Option<(String, String)>, Result<Came, Refused>) {
        let image = match image::have(&self.pods, &self.pod, &self.container, &self.path).await {
            Ok(image) => image,
            Err(refused) => return (None, Err(refused)),
        };
        let known = (image.reference.clone(), image.image_id());
        (Some(known), self.with(image).await)
    }

    fn note(&self, warning: bool, reason: &'static str, message: String) {
        self.pods.note(&self.pod, &self.path, warning, reason, message);
    }

    async fn with(&self, image: Image) -> Result<Came, Refused> {
        let (pods, name) = (&self.pods, &self.container.name);
        let lost = |error: tokio::task::JoinError| Refused::new("CreateContainerError", error.to_string());
        let config = |text: String| Refused::new("CreateContainerConfigError", text);
        let store = pods.images.clone();
        let unpacked = image.clone();
        let lower = tokio::task::spawn_blocking(move || store.unpack(&unpacked).map(|u| u.lower));
        let found =
            tokio::try_join!(fetch::sources(pods, &self.pod, self.address.clone()), fetch::services(pods, &self.pod));
        let (sources, services) = found.map_err(config)?;
        let lower = lower.await.map_err(lost)?;
        let lower = lower.map_err(|error| Refused::new("CreateContainerError", format!("failed to {error}")))?;
        let env = env::environment(&self.pod, &self.container, &sources, &services);
        let container = self.container(&image, lower, env.map_err(config)?)?;
        self.directories(&container).map_err(|error| Refused::new("CreateContainerError", error.to_string()))?;
        // An attempt of that name can be there after a crash of the agent in mid-start.
        let _ = self.shim.remove(&container.name).await;
        self.note(false, "Created", "Container created".into());
        match self.shim.start(&container).await {
            Ok(state) => {
                self.note(false, "Started", "Container started".into());
                tracing::debug!(container = name, pid = state.pid, "started");
                let failed = self.post_start(&container.name).await.err();
                Ok(Came::Running(state, failed))
            }
            Err(error @ shim::Error::Refused(_)) => {
                self.note(true, "Failed", format!("Error: {error}"));
                Ok(Came::Broken(error.to_string()))
            }
            Err(error) => Err(Refused::new("CreateContainerError", error.to_string())),
        }
    }

    async fn post_start(&self, attempt: &str) -> Result<(), String> {
        let lifecycle = self.container.lifecycle.as_ref();
        let hook = lifecycle.and_then(|lifecycle| lifecycle.post_start.as_ref());
        let Some(hook) = hook.and_then(|hook| handler(&self.container, &self.address, hook)) else {
            return Ok(());
        };
        let done = hook.run(&self.shim, attempt, HOOK_MAX).await;
        if done.is_err() {
            self.note(true, "FailedPostStartHook", "PostStartHook failed".into());
        }
        done
    }

    /// The container as its shim is told it.
    fn container(
        &self,
        image: &Image,
        lower: Vec<PathBuf>,
        own: Vec<(String, String)>,
    ) -> Result<shim::Container, Refused> {
        let config = |text: String| Refused::new("CreateContainerConfigError", text);
        let container = &self.container;
        let spec = self.pod.spec.clone().unwrap_or_default();
        let user = self.user(&spec, image, &lower)?;
        let defaults = image.config.config().clone().unwrap_or_default();
        let expand = |text: &str| env::expand(text, |name| env::get(&own, name));
        let list = |given: &Option<Vec<String>>| -> Option<Vec<String>> {
            let given = given.as_ref().filter(|given| !given.is_empty())?;
            Some(given.iter().map(|text| expand(text)).collect())
        };
        let command = list(&container.command);
        let args = match (&command, list(&container.args)) {
            (_, Some(args)) => args,
            (Some(_), None) => Vec::new(),
            (None, None) => defaults.cmd().clone().unwrap_or_default(),
        };
        let mut argv = command.unwrap_or_else(|| defaults.entrypoint().clone().unwrap_or_default());
        argv.extend(args);
        if argv.is_empty() {
            return Err(Refused::new("CreateContainerError", "no command specified"));
        }
        let cwd = container.working_dir.clone().filter(|dir| !dir.is_empty());
        let cwd = cwd.or_else(|| defaults.working_dir().clone()).unwrap_or_default();
        let mut mounts = volume::mounts(&self.dir, &spec, container, expand).map_err(config)?;
        files_of(&self.dir, container, &self.slot, &mut mounts);
        let security = container.security_context.clone().unwrap_or_default();
        let capabilities = security.capabilities.unwrap_or_default();
        let files = Files::new(&self.dir, container, &self.slot);
        let host = fs::read_to_string(self.dir.join("etc/hostname")).unwrap_or_default();
        let status = self.pod.status.as_ref();
        let qos = status.and_then(|status| status.qos_class.as_deref());
        Ok(shim::Container {
            name: self.slot.attempt(&container.name),
            root: shim::Root {
                lower,
                upper: files.root.join("upper"),
                work: files.root.join("work"),
                read_only: security.read_only_root_filesystem.unwrap_or(false),
            },
            program: shim::Program {
                args: argv,
                env: environment(host.trim(), defaults.env().clone().unwrap_or_default(), own),
                cwd,
                user,
                capabilities: shim::Capabilities {
                    add: capabilities.add.unwrap_or_default(),
                    drop: capabilities.drop.unwrap_or_default(),
                },
                no_new_privileges: security.allow_privilege_escalation == Some(false),
            },
            mounts,
            privileged: security.privileged.unwrap_or(false),
            unmasked: security.proc_mount.as_deref() == Some("Unmasked"),
            processes_of: self.processes_of.clone(),
            stdin: container.stdin.unwrap_or(false),
            stdin_once: container.stdin_once.unwrap_or(false),
            tty: container.tty.unwrap_or(false),
            limits: limits::limits(container.resources.as_ref()),
            log: Some(shim::Log { path: files.log, ..shim::Log::default() }),
            oom_score_adj: limits::oom_score_adj(qos, container, self.pods.capacity.1),
        })
    }

    fn user(&self, spec: &PodSpec, image: &Image, lower: &[PathBuf]) -> Result<shim::User, Refused> {
        let accounts = user::Accounts { passwd: read(lower, "etc/passwd"), group: read(lower, "etc/group") };
        let defaults = image.config.config().as_ref();
        let wanted = defaults.and_then(|config| config.user().clone()).unwrap_or_default();
        let mut user = user::user(spec, &self.container, &wanted, &accounts)
            .map_err(|text| Refused::new("CreateContainerConfigError", text))?;
        if self.pods.config.single_uid {
            user::only_root(&user).map_err(|text| Refused::new("CreateContainerError", text))?;
            user.groups.clear();
        }
        Ok(user)
    }

    /// Makes the directories and files of this start, and removes those of starts long past.
    fn directories(&self, container: &shim::Container) -> io::Result<()> {
        let files = Files::new(&self.dir, &self.container, &self.slot);
        let _ = fs::remove_dir_all(&files.root);
        fs::create_dir_all(&container.root.upper)?;
        fs::create_dir_all(&container.root.work)?;
        fs::set_permissions(&container.root.upper, fs::Permissions::from_mode(0o755))?;
        File::create(&files.message)?;
        fs::set_permissions(&files.message, fs::Permissions::from_mode(0o666))?;
        let restarts = self.slot.restarts();
        if let Some(past) = restarts.checked_sub(1) {
            let _ = fs::remove_dir_all(files.own.join(format!("root.{past}")));
        }
        if let Some(past) = restarts.checked_sub(2) {
            let _ = fs::remove_file(files.own.join(format!("message.{past}")));
            let prefix = format!("{past}.log");
            for entry in fs::read_dir(&files.own)?.flatten() {
                if entry.file_name().to_string_lossy().starts_with(&prefix) {
                    fs::remove_file(entry.path())?;
                }
            }
        }
        Ok(())
    }
}

/// The paths of one start of a container.
#[derive(Debug)]
pub(crate) struct Files {
    /// The container's own directory in its pod's.
    pub(crate) own: PathBuf,
    pub(crate) root: PathBuf,
    pub(crate) log: PathBuf,
    /// What the program leaves as its last words.
    pub(crate) message: PathBuf,
}

impl Files {
    pub(crate) fn new(dir: &Path, container: &Container, slot: &Slot) -> Self {
        let own = dir.join(&container.name);
        let number = slot.restarts();
        Self {
            root: own.join(format!("root.{number}")),
            log: own.join(format!("{number}.log")),
            message: own.join(format!("message.{number}")),
            own,
        }
    }
}

/// What a hook does; `None` for one that is empty.
pub(crate) fn handler(container: &Container, address: &str, hook: &LifecycleHandler) -> Option<Check> {
    if let Some(sleep) = &hook.sleep {
        let seconds = u64::try_from(sleep.seconds).unwrap_or(0);
        return Some(Check::Sleep(Duration::from_secs(seconds)));
    }
    let (exec, http, tcp) = (&hook.exec, &hook.http_get, &hook.tcp_socket);
    Check::new(container, address, exec.as_ref(), http.as_ref(), tcp.as_ref())
}

/// The host name, as runtimes have it, over it the image's variables, and over them the container's.
fn environment(host: &str, image: Vec<String>, own: Vec<(String, String)>) -> Vec<String> {
    let mut all: Vec<(String, String)> = vec![("HOSTNAME".into(), host.into())];
    let image = image.iter().filter_map(|line| line.split_once('='));
    let image = image.map(|(name, value)| (name.to_owned(), value.to_owned()));
    for (name, value) in image.chain(own) {
        env::set(&mut all, name, value);
    }
    if env::get(&all, "PATH").is_none() {
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        all.insert(0, ("PATH".into(), path.into()));
    }
    let lines = all.into_iter().map(|(name, value)| format!("{name}={value}"));
    lines.collect()
}

/// A file of the image from its topmost layer that has it. Symbolic links in the image can not
/// lead out of the layer.
fn read(lower: &[PathBuf], path: &str) -> String {
    let open = |layer: &PathBuf| {
        let layer = rustix::fs::openat(CWD, layer, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        openat2(layer, path, flags, Mode::empty(), ResolveFlags::IN_ROOT).ok()
    };
    let mut text = String::new();
    if let Some(file) = lower.iter().find_map(open) {
        let _ = File::from(file).take(ACCOUNTS_MAX).read_to_string(&mut text);
    }
    text
}
