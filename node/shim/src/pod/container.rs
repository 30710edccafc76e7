//! A container as its shim holds it: started, read, attached to, ended.

use super::{Pod, now, output::Output, pipe};
use crate::{
    birth::{Born, bear},
    cgroup::Group,
    kernel::{close_from, failed, fork, signal},
    log::Log,
    program::{self, Streams},
    rootfs,
    spec::{Container, Exit, State},
    wire::Stream,
};
use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{Mode, OFlags, open},
    process::{Pid, PidfdFlags, pidfd_open},
    thread::{UnshareFlags, unshare_unsafe},
};
use std::{fs, io};

/// How much output is still read when a container ended, while others hold its pipes.
const LAST_CHUNKS: usize = 4096;
/// The end of the name of a file that keeps a state.
pub(crate) const STATE: &str = ".state.json";

#[derive(Debug)]
pub(crate) struct Managed {
    pub(super) spec: Container,
    pub(super) state: State,
    pub(super) inner: Pid,
    /// The first process, while it runs.
    pub(super) pidfd: Option<OwnedFd>,
    pub(super) group: Option<Group>,
    pub(super) outputs: Vec<Output>,
    stdin: Option<OwnedFd>,
    tty: Option<OwnedFd>,
    log: Option<Log>,
}

/// The name becomes a file's and a cgroup's.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > 200 || name.starts_with('.') || !name.bytes().all(plain) {
        return Err(format!("container name {name:?} is not a plain name"));
    }
    Ok(())
}

/// Starts a container; on an error nothing of it is left.
pub(super) fn start(mut spec: Container, pod: &Pod) -> Result<Managed, String> {
    let (group, limits) = group(&spec, pod)?;
    let made = bring_up(&spec, pod, group.as_ref());
    let (born, outputs, stdin, log) = match made {
        Ok(made) => made,
        Err(error) => {
            group.iter().for_each(Group::remove);
            return Err(error);
        }
    };
    // What is only needed once is not kept for the life of the pod.
    spec.mounts = Vec::new();
    spec.root.lower = Vec::new();
    let state = State { name: spec.name.clone(), pid: born.outer, started: now(), limits, exit: None };
    Ok(Managed { spec, state, inner: born.inner, pidfd: Some(born.pidfd), group, outputs, stdin, tty: born.tty, log })
}

/// The container's cgroup, if there can be one, and whether it limits.
fn group(spec: &Container, pod: &Pod) -> Result<(Option<Group>, bool), String> {
    let (Some(hierarchy), Some(path), Some(_)) = (&pod.hierarchy, &pod.sandbox.cgroup, &pod.group) else {
        return Ok((None, false));
    };
    let path = format!("{path}/{}", spec.name);
    let Ok(group) = hierarchy.make(&path) else {
        return Ok((None, false));
    };
    match group.limit(&spec.limits) {
        Ok(limits) => Ok((Some(group), limits)),
        Err(error) => {
            group.remove();
            Err(error)
        }
    }
}

type Made = (Born, Vec<Output>, Option<OwnedFd>, Option<Log>);

fn bring_up(spec: &Container, pod: &Pod, group: Option<&Group>) -> Result<Made, String> {
    let log = spec.log.as_ref().map(Log::open).transpose().map_err(failed("open the log"))?;
    let piped = || pipe().map_err(failed("make a pipe"));
    let (mut stdin, mut outputs) = (None, Vec::new());
    let streams = if spec.tty {
        Streams::Terminal
    } else {
        let input = if spec.stdin {
            let (read, write) = piped()?;
            stdin = Some(write);
            read
        } else {
            null().map_err(failed("open /dev/null"))?
        };
        let (out, err) = (piped()?, piped()?);
        for (from, stream) in [(out.0, "stdout"), (err.0, "stderr")] {
            outputs.push(Output::new(from, stream).map_err(failed("make a pipe"))?);
        }
        Streams::Three([input, out.1, err.1])
    };
    let of = match (spec.processes_of.as_str(), &pod.pause) {
        ("", pause) => pause.as_ref(),
        (target, _) => {
            let running = pod.containers.get(target).and_then(|container| container.pidfd.as_ref());
            Some(running.ok_or_else(|| format!("target container {target:?} is not running"))?)
        }
    };
    let flags = if of.is_some() || pod.sandbox.host_pid { 0 } else { libc::CLONE_NEWPID };
    let within = of.map(|of| (of.as_fd(), pod.home.as_fd()));
    let mut streams = Some(streams);
    let born = bear(flags, within, |parent| {
        let streams = streams.take().ok_or("no streams")?;
        let _ = rustix::process::setsid();
        group.map_or(Ok(()), Group::join)?;
        adjust_oom(spec.oom_score_adj);
        let mut new = UnshareFlags::NEWNS;
        if group.is_some() {
            new |= UnshareFlags::NEWCGROUP;
        }
        // SAFETY: the child has one thread and is about to become another program.
        unsafe { unshare_unsafe(new) }.map_err(failed("make the container's namespaces"))?;
        rootfs::enter(spec, &pod.sandbox.dir, group)?;
        program::run(&spec.program, spec.privileged, streams, parent)
    })?;
    drop(streams);
    if let Some(tty) = &born.tty {
        let held = tty.try_clone().and_then(|copy| Output::new(copy, "stdout"));
        outputs.push(held.map_err(|error| {
            let _ = signal(&born.pidfd, libc::SIGKILL);
            failed("hold the terminal")(error)
        })?);
    }
    Ok((born, outputs, stdin, log))
}

/// Only root of the machine may lower it; that it can not is no failure.
pub(super) fn adjust_oom(wanted: i32) {
    const FILE: &str = "/proc/self/oom_score_adj";
    let own = fs::read_to_string(FILE).ok().and_then(|text| text.trim().parse().ok());
    let _ = fs::write(FILE, wanted.max(own.unwrap_or(wanted)).to_string());
}

pub(super) fn null() -> io::Result<OwnedFd> {
    Ok(open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)
}

/// The first process of a pid namespace that containers share; it sleeps, and the kernel takes in
/// what ends there, as it ignores SIGCHLD.
pub(super) fn pause() -> Result<OwnedFd, String> {
    let pid = fork(libc::CLONE_NEWPID, || {
        let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
        close_from(0);
        crate::kernel::sleep_forever();
    })
    .map_err(failed("make the shared pid namespace"))?;
    pidfd_open(pid, PidfdFlags::empty()).map_err(failed("open the shared pid namespace"))
}

impl Managed {
    pub(super) fn signal(&self, signo: i32) -> Result<(), String> {
        match self.pidfd.as_ref().map(|pidfd| signal(pidfd, signo)) {
            None | Some(Ok(())) => Ok(()),
            Some(Err(error)) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            Some(Err(error)) => Err(failed(format!("send signal {signo}"))(error)),
        }
    }

    /// Passes on output of one stream.
    pub(super) fn read(&mut self, index: usize) {
        let Some(output) = self.outputs.get_mut(index) else {
            return;
        };
        if output.pass(self.log.as_mut()).is_err() {
            output.finish(self.log.as_mut());
            output.open = false;
        }
    }

    /// Takes the end in: the last output, the cgroup, the state.
    pub(super) fn end(&mut self, exit: Exit, shared: bool) {
        if let Some(group) = &self.group {
            if shared {
                group.kill();
            }
            group.remove();
        }
        for output in &mut self.outputs {
            for _ in 0..LAST_CHUNKS {
                if !output.pass(self.log.as_mut()).unwrap_or(false) {
                    break;
                }
            }
            output.finish(self.log.as_mut());
        }
        self.outputs = Vec::new();
        (self.pidfd, self.group, self.stdin, self.tty, self.log) = (None, None, None, None, None);
        self.state.exit = Some(exit);
    }

    /// Copies of the output from now on, and the input.
    pub(super) fn attach(&mut self) -> Result<(Vec<Stream>, Vec<OwnedFd>), String> {
        if self.state.exit.is_some() {
            return Err(format!("container {:?} is not running", self.state.name));
        }
        let (mut streams, mut fds) = (Vec::new(), Vec::new());
        for output in &mut self.outputs {
            fds.push(output.copy()?);
            streams.push(if output.stream == "stderr" { Stream::Stderr } else { Stream::Stdout });
        }
        let (input, stream) = match &self.tty {
            Some(tty) => (Some(tty), Stream::Tty),
            None => (self.stdin.as_ref(), Stream::Stdin),
        };
        if let Some(input) = input {
            fds.push(input.try_clone().map_err(failed("share the input"))?);
            streams.push(stream);
        }
        if self.spec.stdin_once {
            self.stdin = None;
        }
        Ok((streams, fds))
    }
}

/// Writes a state where it survives the shim; in the working directory, which is the pod's.
pub(super) fn keep(state: &State) {
    let path = format!("{}{STATE}", state.name);
    let new = format!("{path}.new");
    let written = serde_json::to_vec(state).map_err(io::Error::from).and_then(|json| fs::write(&new, json));
    if let Err(error) = written.and_then(|()| fs::rename(&new, &path)) {
        eprintln!("failed to write {path}: {error}");
    }
}

/// Removes what [`keep`] wrote.
pub(super) fn forget(name: &str) {
    let _ = fs::remove_file(format!("{name}{STATE}"));
}
