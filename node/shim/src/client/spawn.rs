//! Bringing a shim up, and waiting until one is gone.

use super::connection::Connection;
use crate::{
    error::Error,
    spec::Sandbox,
    wire::{READY, SANDBOX, SOCKET},
};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::{
    fs::{self, File},
    io::{self, Read},
    os::{fd::OwnedFd, unix::process::CommandExt},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};
use tokio::io::{Interest, unix::AsyncFd};

/// How long a shim may take to come up, and to be gone.
const PATIENCE: Duration = Duration::from_secs(30);

/// Writes the sandbox into its directory, starts the shim there and waits until it answers.
pub(super) async fn spawn(exe: &Path, sandbox: &Sandbox) -> Result<(), Error> {
    let failed = |what: &str, error: &dyn std::fmt::Display| Error::Spawn(format!("failed to {what}: {error}"));
    if Connection::open(&sandbox.dir).await.is_ok() {
        return Err(Error::Spawn(format!("a shim runs in {} already", sandbox.dir.display())));
    }
    let json = serde_json::to_vec(sandbox).map_err(|error| failed("write the sandbox", &error))?;
    fs::write(sandbox.dir.join(SANDBOX), json).map_err(|error| failed("write the sandbox", &error))?;
    match fs::remove_file(sandbox.dir.join(SOCKET)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove the old socket", &error));
        }
        _ => {}
    }
    let (exe, dir, host_pid) = (exe.to_owned(), sandbox.dir.clone(), sandbox.host_pid);
    let up = tokio::task::spawn_blocking(move || launch(&exe, &dir, host_pid));
    let mut child = up
        .await
        .map_err(|error| failed("start the shim", &error))?
        .map_err(|error| failed("start the shim", &error))?;
    let said = tokio::time::timeout(PATIENCE, read_all(child.stdout.take())).await;
    let pid = child.id();
    reap_later(child);
    match said {
        Ok(Ok(text)) if text == READY => Ok(()),
        Ok(Ok(text)) if text.is_empty() => {
            Err(Error::Spawn("the shim ended before it was ready; see its shim.log".into()))
        }
        Ok(Ok(text)) => Err(Error::Spawn(text)),
        Ok(Err(error)) => Err(failed("hear from the shim", &error)),
        Err(_) => {
            kill(pid);
            Err(Error::Spawn(format!("the shim was not ready after {} s", PATIENCE.as_secs())))
        }
    }
}

/// Starts the process on a thread of its own, which first leaves the pid namespace for its
/// children: so the shim is process 1 of a new one, and still a child of ours. With `host_pid` it stays.
fn launch(exe: &Path, dir: &Path, host_pid: bool) -> io::Result<Child> {
    let log = File::options().create(true).append(true).open(dir.join("shim.log"))?;
    let mut command = Command::new(exe);
    command.arg("shim").arg(dir).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    // SAFETY: between fork and exec the closure makes one system call and allocates nothing.
    unsafe { command.pre_exec(|| Ok(rustix::process::setsid().map(drop)?)) };
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            if !host_pid {
                // SAFETY: a new pid namespace for children changes nothing that Rust relies on, and the
                // thread ends with this call.
                unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWPID)? };
            }
            command.spawn()
        });
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the starting thread panicked")))
    })
}

async fn read_all(stdout: Option<std::process::ChildStdout>) -> io::Result<String> {
    let Some(stdout) = stdout else {
        return Ok(String::new());
    };
    let mut file = File::from(OwnedFd::from(stdout));
    tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        file.read_to_string(&mut text).map(|_| text)
    })
    .await
    .map_err(io::Error::other)?
}

/// Waits in the background for the shim that is our child, so that it is no zombie.
fn reap_later(mut child: Child) {
    tokio::spawn(async move {
        if let Ok(fd) = open_pid(child.id()) {
            ended(fd).await;
            let _ = child.wait();
        }
    });
}

fn kill(pid: u32) {
    if let Ok(fd) = open_pid(pid) {
        let _ = rustix::process::pidfd_send_signal(fd, rustix::process::Signal::KILL);
    }
}

/// A process that may end; taken while it is known to be the right one.
pub(super) struct Ending(Option<OwnedFd>);

impl Ending {
    pub(super) fn of(pid: u32) -> Self {
        Self(open_pid(pid).ok())
    }

    /// Returns when the process is gone or a zombie.
    pub(super) async fn wait(self) -> Result<(), Error> {
        let Some(fd) = self.0 else { return Ok(()) };
        tokio::time::timeout(PATIENCE, ended(fd))
            .await
            .map_err(|_| Error::Protocol(format!("the shim did not end within {} s", PATIENCE.as_secs())))
    }
}

async fn ended(fd: OwnedFd) {
    // SAFETY: the descriptor is owned by the AsyncFd and not replaced while it is registered.
    if let Ok(fd) = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) } {
        let _ = fd.readable().await;
    }
}

fn open_pid(pid: u32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    Ok(pidfd_open(pid, PidfdFlags::NONBLOCK)?)
}
