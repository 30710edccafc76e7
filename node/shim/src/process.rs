//! The shim as a process: how it begins, and what is left when it was killed.

use crate::{
    cgroup::Hierarchy,
    kernel::{close_from, failed, signals},
    pod::{Pod, STATE},
    sandbox,
    spec::{Sandbox, State},
    wire::{READY, SANDBOX, SOCKET},
};
use std::{
    ffi::OsString,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// The shim: `args` is what follows `coracle shim`, the pod's directory. Only for a process without
/// other threads; it starts none itself. Returns when the pod is shut down.
///
/// Standard output is where it says that it is ready, or which step failed; standard error is its
/// log.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    close_from(3);
    let dir = args.into_iter().next().map(PathBuf::from);
    let begun = dir.ok_or_else(|| "failed to start: no directory given".to_owned()).and_then(begin);
    match begun {
        Ok(mut pod) => {
            say(READY);
            pod.run();
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            say(&error);
            ExitCode::FAILURE
        }
    }
}

fn begin(dir: PathBuf) -> Result<Pod, String> {
    let json = fs::read(dir.join(SANDBOX)).map_err(failed("read the sandbox"))?;
    let mut sandbox: Sandbox = serde_json::from_slice(&json).map_err(failed("read the sandbox"))?;
    sandbox.dir = dir;
    forget_states(&sandbox.dir).map_err(failed("forget the states of an earlier shim"))?;
    let signals = signals().map_err(failed("wait for signals"))?;
    sandbox::enter(&sandbox)?;
    rustix::process::chdir(&sandbox.dir).map_err(failed("enter the pod's directory"))?;
    Pod::bind(sandbox, signals)
}

/// The one thing said on standard output, which is then closed for good.
fn say(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush());
    let null = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    if let Ok(null) = rustix::fs::open("/dev/null", null, rustix::fs::Mode::empty()) {
        let _ = rustix::stdio::dup2_stdout(null);
    }
}

/// The containers of a shim that is gone, as it last wrote them down, for an agent that comes back
/// too late; those without an exit died with it.
pub fn last_states(dir: &Path) -> io::Result<Vec<State>> {
    let mut states = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(STATE) {
            states.extend(serde_json::from_slice::<State>(&fs::read(path)?));
        }
    }
    states.sort_by(|one: &State, other| one.name.cmp(&other.name));
    Ok(states)
}

/// Removes the cgroup at `path` below the root of each hierarchy with those below it, like that of
/// a whole cluster when its last pod is gone. Those with processes stay.
pub fn remove_cgroup(path: &str) {
    if let Some(hierarchy) = Hierarchy::here() {
        hierarchy.group(path).remove_tree();
    }
}

/// Removes what a shim that was killed left behind: cgroups, states and the socket. Only when no
/// shim answers in `dir` any more.
pub fn clear(dir: &Path) -> io::Result<()> {
    let sandbox: Sandbox = serde_json::from_slice(&fs::read(dir.join(SANDBOX))?)?;
    if let Some(path) = &sandbox.cgroup {
        remove_cgroup(path);
    }
    let _ = fs::remove_file(dir.join(SOCKET));
    forget_states(dir)
}

fn forget_states(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(STATE) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}
