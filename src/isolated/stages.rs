//! The three stages of the isolated node's process. The first two are single-threaded and start
//! the next one by executing the binary again.

use std::{
    io,
    net::SocketAddrV4,
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::{Command, ExitCode},
    thread,
};

use anyhow::Context as _;
use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt},
    process::{Signal, WaitOptions, set_parent_process_death_signal, setsid, wait},
    thread::{UnshareFlags, unshare_unsafe},
};
use tokio_util::sync::CancellationToken;

use super::{Answer, Ask, Transport, fds};
use crate::{cluster::Worker, config::NodeConfig};

/// Connections that wait to be accepted on a listener made inside.
const BACKLOG: i32 = 1024;

/// The first stage: `coracle isolated-enter CONFIG`.
///
/// # Errors
/// What the kernel refuses.
pub(crate) fn enter(config: &str) -> anyhow::Result<ExitCode> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    setsid().context("leave the terminal's session")?;
    let asks = standard_input()?;
    // SAFETY: this process has one thread and shares nothing that the flag unshares.
    let unshared = unsafe { unshare_unsafe(UnshareFlags::NEWUSER) };
    let answer: Answer = unshared.map_err(|error| error.to_string());
    fds::send_blocking(&asks, &answer, None)?;
    let single_uid: bool = fds::receive_blocking(&asks)?;
    let answer = unshare_rest().and_then(|()| next_stage("isolated-init", config, single_uid));
    match answer {
        Ok(mut child) => {
            let status = child.wait()?;
            Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)))
        }
        Err(error) => {
            let refused: Answer = Err(format!("{error:#}"));
            fds::send_blocking(&asks, &refused, None)?;
            Ok(ExitCode::FAILURE)
        }
    }
}

fn unshare_rest() -> anyhow::Result<()> {
    let flags =
        UnshareFlags::NEWNET | UnshareFlags::NEWNS | UnshareFlags::NEWPID | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    // SAFETY: as above; no other thread can see a half-changed process.
    unsafe { unshare_unsafe(flags) }
        .with_context(|| format!("make network, mount and pid namespaces\n{}", super::ids::ADVICE))
}

/// Runs the binary again, with the sockets that this stage was given.
fn next_stage(stage: &str, config: &str, single_uid: bool) -> anyhow::Result<std::process::Child> {
    let mut command = Command::new("/proc/self/exe");
    command.arg(stage).arg(config).args(single_uid.then_some("--single-uid"));
    command.spawn().with_context(|| format!("start {stage}"))
}

/// The second stage, pid 1 inside: `coracle isolated-init CONFIG`. Ends when the node does, and
/// the kernel ends everything else inside.
///
/// # Errors
/// What the kernel refuses; the main process is told.
pub(crate) fn init(config: &str, single_uid: bool) -> anyhow::Result<ExitCode> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let started = mounts().and_then(|()| next_stage("isolated-node", config, single_uid));
    let node = match started {
        Ok(node) => node,
        Err(error) => {
            let refused: Answer = Err(format!("{error:#}"));
            fds::send_blocking(&standard_input()?, &refused, None)?;
            return Ok(ExitCode::FAILURE);
        }
    };
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get().cast_unsigned() == node.id() => {
                let code = status.exit_status().and_then(|code| u8::try_from(code).ok());
                return Ok(ExitCode::from(code.unwrap_or(1)));
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Mounts made from here on stay inside; /proc shows the pid namespace.
fn mounts() -> anyhow::Result<()> {
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE).context("make mounts private")?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "/proc", "proc", flags, None)
        .context("mount /proc (inside another container, that container must show all of /proc)")
}

/// The third stage: `coracle isolated-node CONFIG`. Runs until the main process says stop or is gone.
///
/// # Errors
/// What the worker says.
pub(crate) async fn node(config: NodeConfig) -> anyhow::Result<()> {
    let asks = standard_input()?;
    let pulls = UnixStream::from(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?);
    let worker = match Worker::bind(config, super::puller(pulls)?).await {
        Ok(worker) => worker,
        Err(error) => {
            let refused: Answer = Err(format!("{error:#}"));
            fds::send_blocking(&asks, &refused, None)?;
            return Err(error);
        }
    };
    fds::send_blocking(&asks, &Answer::Ok(()), None)?;
    let (started, shutdown) = (CancellationToken::new(), CancellationToken::new());
    let (start, stop) = (started.clone(), shutdown.clone());
    thread::Builder::new().name("sockets".into()).spawn(move || {
        // The end of the main process ends this one, and with pid 1 everything inside.
        if answer(&asks, &start, &stop).is_err() && !stop.is_cancelled() {
            std::process::exit(1);
        }
    })?;
    tokio::select! {
        () = started.cancelled() => worker.run(shutdown).await,
        () = shutdown.cancelled() => worker.teardown().await,
    }
}

/// Answers the main process until it says stop.
fn answer(asks: &OwnedFd, start: &CancellationToken, stop: &CancellationToken) -> io::Result<()> {
    loop {
        let made = match fds::receive_blocking::<Ask>(asks)? {
            Ask::Listen(address) => listener(address).map(Some),
            Ask::Bind(address) => datagrams(address).map(Some),
            Ask::Socket(Transport::Tcp) => socket(SocketType::STREAM).map(Some),
            Ask::Socket(Transport::Udp) => socket(SocketType::DGRAM).map(Some),
            Ask::Start => {
                start.cancel();
                Ok(None)
            }
            Ask::Stop => {
                stop.cancel();
                return fds::send_blocking(asks, &Answer::Ok(()), None);
            }
        };
        match made {
            Ok(fd) => fds::send_blocking(asks, &Answer::Ok(()), fd.as_ref())?,
            Err(error) => fds::send_blocking(asks, &Answer::Err(error.to_string()), None)?,
        }
    }
}

fn socket(kind: SocketType) -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::INET, kind, SocketFlags::CLOEXEC, None)?)
}

fn listener(address: SocketAddrV4) -> io::Result<OwnedFd> {
    let fd = socket(SocketType::STREAM)?;
    sockopt::set_socket_reuseaddr(&fd, true)?;
    bind(&fd, &address)?;
    listen(&fd, BACKLOG)?;
    Ok(fd)
}

fn datagrams(address: SocketAddrV4) -> io::Result<OwnedFd> {
    let fd = socket(SocketType::DGRAM)?;
    sockopt::set_socket_reuseport(&fd, true)?;
    bind(&fd, &address)?;
    Ok(fd)
}

/// The socket to the main process, of which this stage was given a copy.
fn standard_input() -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?)
}
