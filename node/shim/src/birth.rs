//! Making a child, and hearing from it until its program runs.
//!
//! Parent and child talk over a socket that closes with exec: its number as the agent sees it
//! first, its terminal perhaps, and at the end nothing more, or the step that failed.

use crate::kernel::{failed, fork};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::{AsFd, BorrowedFd, OwnedFd},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    },
    process::{Pid, PidfdFlags, pidfd_open},
    thread::{ThreadNameSpaceType, move_into_thread_name_spaces},
};
use std::{
    convert::Infallible,
    ffi::c_int,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
};

/// How long a child may take from its fork to its program.
const PATIENCE: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };
/// The longest message of a child.
const MESSAGE: usize = 8 << 10;

/// A child whose program runs.
#[derive(Debug)]
pub(crate) struct Born {
    /// Its number in the shim's pid namespace.
    pub(crate) inner: Pid,
    /// Its number in the agent's pid namespace.
    pub(crate) outer: u32,
    pub(crate) pidfd: OwnedFd,
    /// The master side of its terminal.
    pub(crate) tty: Option<OwnedFd>,
}

/// The child's end.
pub(crate) struct Parent(OwnedFd);

impl Parent {
    /// Hands the terminal over.
    pub(crate) fn give(&self, tty: BorrowedFd<'_>) -> io::Result<()> {
        self.say(b"tty", Some(tty))
    }

    fn say(&self, text: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = fd.map(|fd| [fd]);
        if let Some(fds) = &fds {
            control.push(SendAncillaryMessage::ScmRights(fds));
        }
        let text = &text[..text.len().min(MESSAGE)];
        sendmsg(&self.0, &[IoSlice::new(text)], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

/// Forks; `child` becomes another program or says which step failed. With `within` the child is
/// born in that process's pid namespace; `home` is the shim's own.
pub(crate) fn bear(
    flags: c_int,
    within: Option<(BorrowedFd<'_>, BorrowedFd<'_>)>,
    child: impl FnOnce(&Parent) -> Result<Infallible, String>,
) -> Result<Born, String> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(failed("make a socket pair"))?;
    if let Some((pidfd, _)) = within {
        move_into_thread_name_spaces(pidfd, ThreadNameSpaceType::PROCESS_ID)
            .map_err(failed("enter the pid namespace"))?;
    }
    let parent = Parent(theirs);
    let pid = fork(flags, || {
        // Nothing inside a container may look into this process before it is the program.
        let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
        let outer = std::fs::read_link("/proc/self").unwrap_or_default();
        let told = parent.say(format!("pid{}", outer.display()).as_bytes(), None);
        let text = match told.map_err(failed("report")) {
            Ok(()) => child(&parent).map_or_else(|error| error, |never| match never {}),
            Err(error) => error,
        };
        let _ = parent.say(format!("err{text}").as_bytes(), None);
    });
    drop(parent);
    if let Some((_, home)) = within {
        move_into_thread_name_spaces(home, ThreadNameSpaceType::PROCESS_ID)
            .map_err(failed("return to the own pid namespace"))?;
    }
    let inner = pid.map_err(failed("fork"))?;
    let pidfd = pidfd_open(inner, PidfdFlags::empty()).map_err(failed("open the child"))?;
    match listen(&ours) {
        Ok((outer, tty)) => Ok(Born { inner, outer, pidfd, tty }),
        Err(error) => {
            let _ = crate::kernel::signal(&pidfd, libc::SIGKILL);
            let _ = rustix::process::waitpid(Some(inner), rustix::process::WaitOptions::empty());
            Err(error)
        }
    }
}

/// Hears the child out.
fn listen(socket: &OwnedFd) -> Result<(u32, Option<OwnedFd>), String> {
    let (mut outer, mut tty) = (0, None);
    loop {
        let ready = poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&PATIENCE));
        match ready {
            Ok(0) => return Err(format!("failed to start within {} s", PATIENCE.tv_sec)),
            Err(rustix::io::Errno::INTR) => continue,
            other => other.map_err(failed("hear from the child"))?,
        };
        let mut text = [0; MESSAGE];
        let (length, fd) = hear(socket.as_fd(), &mut text).map_err(failed("hear from the child"))?;
        tty = tty.or(fd);
        let text = String::from_utf8_lossy(&text[..length]);
        match text.split_at_checked(3) {
            Some(("pid", number)) => outer = number.parse().unwrap_or_default(),
            Some(("err", error)) => return Err(error.to_owned()),
            Some(_) => {}
            None => return Ok((outer, tty)),
        }
    }
}

fn hear(socket: BorrowedFd<'_>, text: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let length = recvmsg(socket, &mut [IoSliceMut::new(text)], &mut control, flags)?.bytes;
    let fd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok((length, fd))
}
