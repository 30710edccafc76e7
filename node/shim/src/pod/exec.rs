//! One more process in a running container.

use super::{Pod, container, pipe};
use crate::{
    birth::bear,
    cgroup::Group,
    kernel::failed,
    program::{self, Streams},
    spec::Exec,
    wire::Stream,
};
use rustix::{
    fd::{AsFd, OwnedFd},
    process::Pid,
    thread::{ThreadNameSpaceType, move_into_thread_name_spaces},
};

/// Most processes of execs at once in a pod.
const EXECS_MAX: usize = 128;

/// A process of an exec, and the connection that waits for it.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) inner: Pid,
    pub(super) pidfd: OwnedFd,
    pub(super) peer: u64,
}

type Started = (Running, Vec<Stream>, Vec<OwnedFd>);

impl Pod {
    /// Runs `exec` for the connection `peer`; gives the process and the agent's ends.
    pub(super) fn exec(&self, exec: &Exec, peer: u64) -> Result<Started, String> {
        let name = &exec.container;
        let container = self.containers.get(name).ok_or_else(|| format!("there is no container {name:?}"))?;
        let Some(init) = &container.pidfd else {
            return Err(format!("container {name:?} is not running"));
        };
        if self.execs.len() >= EXECS_MAX {
            return Err(format!("{EXECS_MAX} processes are running in the pod already"));
        }
        let mut program = container.spec.program.clone();
        program.args.clone_from(&exec.args);
        program.env.extend(exec.env.iter().cloned());
        let (streams, mut names, mut fds) = ends(exec)?;
        let mut streams = Some(streams);
        let within = Some((init.as_fd(), self.home.as_fd()));
        let born = bear(0, within, |parent| {
            let streams = streams.take().ok_or("no streams")?;
            let _ = rustix::process::setsid();
            container.group.as_ref().map_or(Ok(()), Group::join)?;
            container::adjust_oom(container.spec.oom_score_adj);
            let mut into = ThreadNameSpaceType::MOUNT;
            if container.group.is_some() {
                into |= ThreadNameSpaceType::CONTROL_GROUP;
            }
            move_into_thread_name_spaces(init.as_fd(), into).map_err(failed("enter the container's namespaces"))?;
            program::run(&program, container.spec.privileged, streams, parent)
        })?;
        if let Some(tty) = born.tty {
            names.push(Stream::Tty);
            fds.push(tty);
        }
        Ok((Running { inner: born.inner, pidfd: born.pidfd, peer }, names, fds))
    }
}

/// The process's ends and the agent's.
fn ends(exec: &Exec) -> Result<(Streams, Vec<Stream>, Vec<OwnedFd>), String> {
    let (mut names, mut fds) = (Vec::new(), Vec::new());
    if exec.tty {
        return Ok((Streams::Terminal, names, fds));
    }
    let mut end = |asked: bool, stream: Stream| {
        if !asked {
            return container::null().map_err(failed("open /dev/null"));
        }
        let (read, write) = pipe().map_err(failed("make a pipe"))?;
        let (theirs, ours) = if stream == Stream::Stdin { (read, write) } else { (write, read) };
        names.push(stream);
        fds.push(ours);
        Ok(theirs)
    };
    let three = [end(exec.stdin, Stream::Stdin)?, end(exec.stdout, Stream::Stdout)?, end(exec.stderr, Stream::Stderr)?];
    Ok((Streams::Three(three), names, fds))
}
