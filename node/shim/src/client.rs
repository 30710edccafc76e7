//! The agent's end of a shim: an async client over its Unix socket.

mod connection;
mod spawn;

use crate::{
    error::Error,
    spec::{Container, Exec, Exit, Limits, Sandbox, State},
    wire::{Answer, Stream, Verb},
};
use connection::Connection;
use spawn::Ending;
use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

/// A pod's shim. Cheap to clone; each call is a connection of its own, so calls never wait for one
/// another, and dropping a client changes nothing for the pod.
#[derive(Clone, Debug)]
pub struct Client {
    dir: PathBuf,
    pid: u32,
}

impl Client {
    /// Starts `exe shim <sandbox.dir>` in a session and pid namespace of its own and returns when
    /// it answers. Needs a tokio runtime, and CAP_SYS_ADMIN in the current user namespace.
    pub async fn spawn(exe: &Path, sandbox: &Sandbox) -> Result<Self, Error> {
        spawn::spawn(exe, sandbox).await?;
        Self::connect(&sandbox.dir).await
    }

    /// Adopts the shim of the pod directory `dir`; [`Error::Gone`] when there is none any more.
    pub async fn connect(dir: &Path) -> Result<Self, Error> {
        let (mut connection, pid) = Connection::open(dir).await?;
        connection.call(Verb::Hello).await?;
        Ok(Self { dir: dir.to_owned(), pid })
    }

    /// The shim's process, numbered as the caller's pid namespace does: the pod's network namespace
    /// is `/proc/<pid>/ns/net`.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Starts a container; returns when its program runs. On [`Error::Refused`] nothing of it is
    /// left, and the text names the step that failed.
    pub async fn start(&self, container: &Container) -> Result<State, Error> {
        match self.call(Verb::Start(Box::new(container.clone()))).await? {
            Answer::State(state) => Ok(state),
            other => Err(unexpected(&other)),
        }
    }

    /// Sends signal `signo` to a container's first process; SIGKILL (9) ends all its processes.
    /// Does nothing when it ended already.
    pub async fn signal(&self, name: &str, signo: i32) -> Result<(), Error> {
        self.call(Verb::Signal(name.to_owned(), signo)).await.map(drop)
    }

    /// Changes the limits of a running container; `pod` are those of the pod as a whole with it. Does nothing where there
    /// are no cgroups.
    pub async fn limit(&self, name: &str, limits: &Limits, pod: &Limits) -> Result<(), Error> {
        self.call(Verb::Limit(name.to_owned(), limits.clone(), pod.clone())).await.map(drop)
    }

    /// All containers that were started and not removed, in order of their names.
    pub async fn states(&self) -> Result<Vec<State>, Error> {
        match self.call(Verb::States).await? {
            Answer::States(states) => Ok(states),
            other => Err(unexpected(&other)),
        }
    }

    /// The ends of containers: first of those that ended already and are not removed, then each as
    /// it happens.
    pub async fn exits(&self) -> Result<Exits, Error> {
        let mut connection = Connection::open(&self.dir).await?.0;
        connection.send(Verb::Watch).await?;
        Ok(Exits { connection })
    }

    /// Forgets a container that ended, and frees its name. Refused while it runs.
    pub async fn remove(&self, name: &str) -> Result<(), Error> {
        self.call(Verb::Remove(name.to_owned())).await.map(drop)
    }

    /// Runs one more process in a container; returns when its program runs.
    pub async fn exec(&self, exec: &Exec) -> Result<Process, Error> {
        let mut connection = Connection::open(&self.dir).await?.0;
        let answer = connection.call(Verb::Exec(exec.clone())).await?;
        let mut process = Process { stdin: None, stdout: None, stderr: None, tty: None, connection };
        for (stream, fd) in streams(&answer, process.connection.take_fds())? {
            match stream {
                Stream::Stdin => process.stdin = Some(fd),
                Stream::Stdout => process.stdout = Some(fd),
                Stream::Stderr => process.stderr = Some(fd),
                Stream::Tty => process.tty = Some(fd),
            }
        }
        Ok(process)
    }

    /// Follows a running container's output from now on, and gives it input.
    pub async fn attach(&self, name: &str) -> Result<Attached, Error> {
        let mut connection = Connection::open(&self.dir).await?.0;
        let answer = connection.call(Verb::Attach(name.to_owned())).await?;
        let mut attached = Attached { stdin: None, stdout: None, stderr: None, tty: None };
        for (stream, fd) in streams(&answer, connection.take_fds())? {
            match stream {
                Stream::Stdin => attached.stdin = Some(fd),
                Stream::Stdout => attached.stdout = Some(fd),
                Stream::Stderr => attached.stderr = Some(fd),
                Stream::Tty => attached.tty = Some(fd),
            }
        }
        Ok(attached)
    }

    /// Kills everything in the pod, removes its cgroups and returns when the shim is gone; that it
    /// is gone already is no error.
    pub async fn shutdown(&self) -> Result<(), Error> {
        let mut connection = match Connection::open(&self.dir).await {
            Ok((connection, _)) => connection,
            Err(Error::Gone(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        let ending = Ending::of(self.pid);
        match connection.call(Verb::Shutdown).await {
            Ok(_) | Err(Error::Gone(_)) => {}
            Err(error) => return Err(error),
        }
        ending.wait().await
    }

    async fn call(&self, verb: Verb) -> Result<Answer, Error> {
        Connection::open(&self.dir).await?.0.call(verb).await
    }
}

/// The ends of a pod's containers, from [`Client::exits`].
#[derive(Debug)]
pub struct Exits {
    connection: Connection,
}

impl Exits {
    /// The next container that ended; its `exit` is set. [`Error::Gone`] when the shim ended.
    /// Cancel safe.
    pub async fn next(&mut self) -> Result<State, Error> {
        match self.connection.receive().await? {
            Answer::Exited(state) => Ok(state),
            other => Err(unexpected(&other)),
        }
    }
}

/// A process of [`Client::exec`]. It is killed (itself, not its children) when this is dropped
/// before it ended.
#[derive(Debug)]
pub struct Process {
    /// Write end of its standard input; close it for end of file.
    pub stdin: Option<OwnedFd>,
    /// Read end of its standard output.
    pub stdout: Option<OwnedFd>,
    /// Read end of its standard error.
    pub stderr: Option<OwnedFd>,
    /// The master side of its terminal, when one was asked for: read, write, and set its size with
    /// TIOCSWINSZ. Reading fails with EIO after the process ended.
    pub tty: Option<OwnedFd>,
    connection: Connection,
}

impl Process {
    /// How it ended. Cancel safe. [`Error::Gone`] when the shim ended.
    pub async fn wait(&mut self) -> Result<Exit, Error> {
        match self.connection.receive().await? {
            Answer::Ended(exit) => Ok(exit),
            other => Err(unexpected(&other)),
        }
    }
}

/// A container's live streams, from [`Client::attach`]. The pipes end when the container does;
/// output that is not read in time (a pipe's 64 KiB) is dropped here, never in the log.
#[derive(Debug)]
pub struct Attached {
    /// Write end of its standard input; `None` with a terminal or without [`Container::stdin`].
    pub stdin: Option<OwnedFd>,
    /// Read end of a copy of its standard output; of all its output with a terminal.
    pub stdout: Option<OwnedFd>,
    /// Read end of a copy of its standard error; `None` with a terminal.
    pub stderr: Option<OwnedFd>,
    /// The terminal's master side, to write input and to set its size with TIOCSWINSZ; do not read it.
    pub tty: Option<OwnedFd>,
}

fn streams(answer: &Answer, fds: Vec<OwnedFd>) -> Result<Vec<(Stream, OwnedFd)>, Error> {
    match answer {
        Answer::Streams(names) if names.len() == fds.len() => Ok(names.iter().copied().zip(fds).collect()),
        other => Err(unexpected(other)),
    }
}

fn unexpected(answer: &Answer) -> Error {
    Error::Protocol(format!("{answer:?}"))
}
