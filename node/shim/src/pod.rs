//! The shim's loop: one thread, one poll, nothing that waits for an agent.

mod container;
mod exec;
mod output;
mod peer;

use crate::{
    cgroup::{Group, Hierarchy},
    kernel::{failed, next_signal, signal, trim},
    spec::{Container, Exit, Limits, Sandbox, State},
    wire::{Answer, Request, SOCKET, VERSION, Verb},
};
use container::Managed;
pub(crate) use container::STATE;
use exec::Running;
use peer::{Peer, Role};
use rustix::{
    event::{PollFd, PollFlags, poll},
    fd::{AsFd, OwnedFd},
    fs::Mode,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, acceptfrom_with, bind, listen, socket_with},
    process::{Pid, PidfdFlags, WaitId, WaitIdOptions, WaitOptions, getpid, pidfd_open, umask, wait, waitid},
};
use std::{collections::BTreeMap, fs, io};

/// Most agent connections at once.
const PEERS_MAX: usize = 256;
/// Most containers a pod can have started and not removed.
const CONTAINERS_MAX: usize = 256;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;

/// Everything a shim knows.
#[derive(Debug)]
pub(crate) struct Pod {
    sandbox: Sandbox,
    hierarchy: Option<Hierarchy>,
    /// The pod's cgroup, when cgroups can be made here.
    group: Option<Group>,
    signals: OwnedFd,
    listener: OwnedFd,
    /// The shim itself: the way back from another pid namespace.
    home: OwnedFd,
    /// The process that holds a shared pid namespace.
    pause: Option<OwnedFd>,
    containers: BTreeMap<String, Managed>,
    execs: Vec<Running>,
    peers: BTreeMap<u64, Peer>,
    next_peer: u64,
    /// Set by a request to end; the peer that asked.
    ending: Option<Option<u64>>,
}

/// What a descriptor in the poll set is.
#[derive(Clone, Debug)]
enum Source {
    Signals,
    Listener,
    Peer(u64),
    Output(String, usize),
}

impl Pod {
    /// Listens in the pod's directory, which is the working directory.
    pub(crate) fn bind(sandbox: Sandbox, signals: OwnedFd) -> Result<Self, String> {
        let home = pidfd_open(getpid(), PidfdFlags::empty()).map_err(failed("open itself"))?;
        let pause = if sandbox.share_processes { Some(container::pause()?) } else { None };
        let listener = listener().map_err(failed("listen on the socket"))?;
        let hierarchy = sandbox.cgroup.as_ref().and_then(|_| Hierarchy::here());
        let group = match (&hierarchy, &sandbox.cgroup) {
            (Some(hierarchy), Some(path)) => hierarchy.make(path).ok(),
            _ => None,
        };
        if let Some(group) = &group
            && let Err(error) = group.limit(&sandbox.limits)
        {
            group.remove();
            return Err(error);
        }
        Ok(Self {
            sandbox,
            hierarchy,
            group,
            signals,
            listener,
            home,
            pause,
            containers: BTreeMap::new(),
            execs: Vec::new(),
            peers: BTreeMap::new(),
            next_peer: 0,
            ending: None,
        })
    }

    /// Serves until told to end.
    pub(crate) fn run(&mut self) {
        trim();
        while self.ending.is_none() {
            self.turn();
        }
        self.end();
    }

    fn turn(&mut self) {
        let (mut fds, mut sources) = (Vec::new(), Vec::new());
        fds.push(PollFd::new(&self.signals, PollFlags::IN));
        sources.push(Source::Signals);
        fds.push(PollFd::new(&self.listener, PollFlags::IN));
        sources.push(Source::Listener);
        for (id, peer) in &self.peers {
            fds.push(PollFd::new(&peer.socket, peer.interest()));
            sources.push(Source::Peer(*id));
        }
        for (name, container) in &self.containers {
            for (index, output) in container.outputs.iter().enumerate() {
                fds.push(PollFd::new(&output.from, PollFlags::IN));
                sources.push(Source::Output(name.clone(), index));
            }
        }
        if let Err(error) = poll(&mut fds, None) {
            if error != rustix::io::Errno::INTR {
                eprintln!("failed to poll: {error}");
            }
            return;
        }
        let ready: Vec<_> = fds.iter().map(PollFd::revents).collect();
        drop(fds);
        for (source, events) in sources.into_iter().zip(ready) {
            if events.is_empty() {
                continue;
            }
            match source {
                Source::Signals => self.signalled(),
                Source::Listener => self.accept(),
                Source::Peer(id) => self.hear(id, events),
                Source::Output(name, index) => {
                    if let Some(container) = self.containers.get_mut(&name) {
                        container.read(index);
                    }
                }
            }
        }
        for container in self.containers.values_mut() {
            container.outputs.retain(|output| output.open);
        }
    }

    fn signalled(&mut self) {
        while let Some(signo) = next_signal(self.signals.as_fd()) {
            if signo == libc::SIGCHLD {
                self.reap();
            } else {
                self.ending = Some(None);
            }
        }
    }

    fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        while let Ok((socket, _)) = acceptfrom_with(&self.listener, flags) {
            if self.peers.len() < PEERS_MAX {
                self.peers.insert(self.next_peer, Peer::new(socket));
                self.next_peer += 1;
            }
        }
    }

    /// Reads what a peer sent, answers, and lets go of one that left.
    fn hear(&mut self, id: u64, events: PollFlags) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let mut alive = !events.contains(PollFlags::OUT) || peer.flush().is_ok();
        if alive && events.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            alive = peer.fill().is_ok();
            if let Some(request) = peer.request() {
                let answer = request.and_then(|request| self.answer(id, request));
                self.say(id, answer);
            }
        }
        if !alive {
            self.leave(id);
        }
    }

    /// Lets go of a peer, and ends the process of an exec that was for it.
    fn leave(&mut self, id: u64) {
        if let Some(Role::Exec(pid)) = self.peers.remove(&id).map(|peer| peer.role) {
            let running = self.execs.iter().filter(|running| running.inner == pid);
            running.for_each(|running| drop(signal(&running.pidfd, libc::SIGKILL)));
        }
    }

    fn say(&mut self, id: u64, answer: Result<Option<(Answer, Vec<OwnedFd>)>, String>) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let said = match answer {
            Ok(None) => Ok(()),
            Ok(Some((answer, fds))) => peer.say(&answer, fds),
            Err(text) => peer.say(&Answer::Refused(text), Vec::new()),
        };
        if said.is_err() {
            self.leave(id);
        }
    }

    fn answer(&mut self, id: u64, request: Request) -> Result<Option<(Answer, Vec<OwnedFd>)>, String> {
        if request.version != VERSION {
            return Err(format!("this shim speaks version {VERSION} of its protocol, not {}", request.version));
        }
        let plain = |answer| Ok(Some((answer, Vec::new())));
        match request.verb {
            Verb::Hello => plain(Answer::Done),
            Verb::Start(container) => plain(Answer::State(self.start(*container)?)),
            Verb::Signal(name, signo) => {
                self.named(&name)?.signal(signo)?;
                plain(Answer::Done)
            }
            Verb::Limit(name, limits, pod) => {
                self.limit(&name, &limits, &pod)?;
                plain(Answer::Done)
            }
            Verb::States => plain(Answer::States(self.states())),
            Verb::Watch => {
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.role = Role::Watch;
                }
                for state in self.states().into_iter().filter(|state| state.exit.is_some()) {
                    self.say(id, Ok(Some((Answer::Exited(state), Vec::new()))));
                }
                Ok(None)
            }
            Verb::Remove(name) => {
                self.remove(&name)?;
                plain(Answer::Done)
            }
            Verb::Exec(exec) => {
                let (running, streams, fds) = self.exec(&exec, id)?;
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.role = Role::Exec(running.inner);
                }
                self.execs.push(running);
                trim();
                Ok(Some((Answer::Streams(streams), fds)))
            }
            Verb::Attach(name) => {
                let (streams, fds) = self.named(&name)?.attach()?;
                Ok(Some((Answer::Streams(streams), fds)))
            }
            Verb::Shutdown => {
                self.ending = Some(Some(id));
                Ok(None)
            }
        }
    }

    fn named(&mut self, name: &str) -> Result<&mut Managed, String> {
        self.containers.get_mut(name).ok_or_else(|| format!("there is no container {name:?}"))
    }

    fn states(&self) -> Vec<State> {
        self.containers.values().map(|container| container.state.clone()).collect()
    }

    fn start(&mut self, container: Container) -> Result<State, String> {
        container::check_name(&container.name)?;
        if self.containers.contains_key(&container.name) {
            return Err(format!("there is a container {:?} already", container.name));
        }
        if self.containers.len() >= CONTAINERS_MAX {
            return Err(format!("the pod has {CONTAINERS_MAX} containers already"));
        }
        let managed = container::start(container, self)?;
        let state = managed.state.clone();
        container::keep(&state);
        self.containers.insert(state.name.clone(), managed);
        trim();
        Ok(state)
    }

    fn limit(&mut self, name: &str, limits: &Limits, pod: &Limits) -> Result<(), String> {
        let own = self.named(name)?.group.clone();
        let Some(group) = &self.group else { return Ok(()) };
        // A larger container needs a larger pod first; a smaller pod, a smaller container.
        let _ = group.change(pod);
        own.map_or(Ok(true), |own| own.change(limits))?;
        group.change(pod).map(drop)
    }

    fn remove(&mut self, name: &str) -> Result<(), String> {
        if self.named(name)?.state.exit.is_none() {
            return Err(format!("container {name:?} is running"));
        }
        self.containers.remove(name);
        container::forget(name);
        trim();
        Ok(())
    }

    /// Takes in every child that ended.
    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let signal = status.terminating_signal();
            let code = signal.map_or(status.exit_status().unwrap_or(0), |signo| 128 + signo);
            self.ended(pid, Exit { code, signal, oom: false, finished: now() });
        }
    }

    fn ended(&mut self, pid: Pid, mut exit: Exit) {
        if let Some(index) = self.execs.iter().position(|running| running.inner == pid) {
            let peer = self.execs.swap_remove(index).peer;
            return self.say(peer, Ok(Some((Answer::Ended(exit), Vec::new()))));
        }
        let shared = self.pause.is_some() || self.sandbox.host_pid;
        let mut all = self.containers.values_mut();
        let Some(container) = all.find(|one| one.inner == pid && one.state.exit.is_none()) else {
            return;
        };
        let shared = shared || !container.spec.processes_of.is_empty();
        exit.oom = exit.code != 0 && container.group.as_ref().is_some_and(Group::oom);
        container.end(exit, shared);
        let state = container.state.clone();
        container::keep(&state);
        let watchers = self.peers.iter().filter(|(_, peer)| peer.role == Role::Watch);
        for id in watchers.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.say(id, Ok(Some((Answer::Exited(state.clone()), Vec::new()))));
        }
    }

    /// Kills everything, waits for it, removes the cgroups and the socket.
    fn end(&mut self) {
        let running = self.containers.values().filter_map(|container| container.pidfd.as_ref());
        for pidfd in running.chain(self.execs.iter().map(|one| &one.pidfd)).chain(&self.pause) {
            let _ = signal(pidfd, libc::SIGKILL);
        }
        while waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).is_ok() {
            self.reap();
        }
        self.containers.clear();
        if let Some(group) = &self.group {
            group.remove_tree();
        }
        let _ = fs::remove_file(SOCKET);
        if let Some(Some(id)) = self.ending {
            self.say(id, Ok(Some((Answer::Done, Vec::new()))));
        }
    }
}

/// The socket in the working directory, for the owner only.
fn listener() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let before = umask(Mode::from_raw_mode(0o177));
    bind(&socket, &SocketAddrUnix::new(SOCKET)?)?;
    umask(before);
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// The time, in nanoseconds since 1970.
fn now() -> i64 {
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    time.map_or(0, |time| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX))
}

/// A pipe, read end first; closed on exec.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}

fn nonblocking(fd: &OwnedFd) -> io::Result<()> {
    Ok(rustix::io::ioctl_fionbio(fd, true)?)
}
