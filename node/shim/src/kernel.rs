//! The system calls that rustix does not wrap, each as a safe function.

use rustix::{
    fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    io::Errno,
    process::Pid,
};
use std::{
    ffi::{CStr, CString, c_int, c_long},
    io, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    ptr,
};

/// Attributes of `mount_setattr(2)`.
pub(crate) const RDONLY: u64 = 1;
pub(crate) const NOSUID: u64 = 2;
pub(crate) const NODEV: u64 = 4;

/// What goes wrong when `step` does: `failed to <step>: <error>`.
pub(crate) fn failed<E: std::fmt::Display>(step: impl std::fmt::Display) -> impl FnOnce(E) -> String {
    move |error| format!("failed to {step}: {error}")
}

fn check(result: c_long) -> io::Result<c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A child that runs `child` and ends; `flags` are CLONE_NEW* ones. Only for a process with one
/// thread.
pub(crate) fn fork(flags: c_int, child: impl FnOnce()) -> io::Result<Pid> {
    let flags = c_long::from(flags | libc::SIGCHLD);
    // SAFETY: without CLONE_VM this is fork(2): the child has its own copy of everything, and as
    // this process has one thread, no lock is held in it. It leaves by _exit, never by returning.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })?;
    if pid > 0 {
        return Pid::from_raw(pid as i32).ok_or_else(|| io::ErrorKind::InvalidData.into());
    }
    let _ = catch_unwind(AssertUnwindSafe(child));
    // SAFETY: ends the child at once, with no destructor of the parent's run twice.
    unsafe { libc::_exit(127) }
}

/// Becomes another program; returns only the error.
pub(crate) fn exec(path: &CStr, args: &[CString], env: &[CString]) -> io::Error {
    let pointers = |list: &[CString]| list.iter().map(|item| item.as_ptr()).chain([ptr::null()]).collect::<Vec<_>>();
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: both lists end with a null pointer and point to strings that outlive the call.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Blocks the signals a shim waits for and returns the descriptor that tells of them.
pub(crate) fn signals() -> io::Result<OwnedFd> {
    // SAFETY: plain signal calls on a local set; the descriptor is new and owned by nobody else.
    unsafe {
        let mut set = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT] {
            libc::sigaddset(&raw mut set, signal);
        }
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut());
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        check(fd.into()).map(|_| OwnedFd::from_raw_fd(fd))
    }
}

/// Takes one signal from the descriptor of [`signals`].
pub(crate) fn next_signal(fd: BorrowedFd<'_>) -> Option<c_int> {
    let mut bytes = [0; size_of::<libc::signalfd_siginfo>()];
    match rustix::io::read(fd, &mut bytes) {
        Ok(length) if length == bytes.len() => bytes.first_chunk::<4>().map(|signo| i32::from_ne_bytes(*signo)),
        _ => None,
    }
}

/// Gives a new program the signals as they are at the start of the world: none blocked or ignored.
pub(crate) fn reset_signals() {
    // SAFETY: default actions and an empty mask, in a process about to exec.
    unsafe {
        for signal in 1..=libc::SIGRTMAX() {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut set = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut());
    }
}

/// Sends any signal number to a process.
pub(crate) fn signal(pidfd: impl AsFd, signo: i32) -> io::Result<()> {
    let fd = pidfd.as_fd().as_raw_fd();
    // SAFETY: no memory is passed.
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signo, 0, 0) }).map(drop)
}

/// Adds mount attributes to the mount behind `fd`, and to all below it when `recursive`.
pub(crate) fn set_mount(fd: impl AsFd, attributes: u64, recursive: bool) -> Result<(), Errno> {
    #[repr(C)]
    struct MountAttr {
        set: u64,
        clear: u64,
        propagation: u64,
        userns: u64,
    }
    let attr = MountAttr { set: attributes, clear: 0, propagation: libc::MS_PRIVATE, userns: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    let (fd, size) = (fd.as_fd().as_raw_fd(), size_of::<MountAttr>());
    // SAFETY: the structure is the first version of the kernel's struct mount_attr, of that size.
    let done = unsafe { libc::syscall(libc::SYS_mount_setattr, fd, c"".as_ptr(), flags, &raw const attr, size) };
    check(done).map(drop).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::INVAL))
}

/// Sets the loopback interface of this network namespace up.
pub(crate) fn loopback_up() -> io::Result<()> {
    let family = rustix::net::AddressFamily::INET;
    let socket = rustix::net::socket(family, rustix::net::SocketType::DGRAM, None)?;
    // SAFETY: ifreq is plain data, for which zeroes are valid.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    request.ifr_name[..2].copy_from_slice(&[b'l' as _, b'o' as _]);
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as _;
    // SAFETY: SIOCSIFFLAGS reads an ifreq, which outlives the call.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    check(done.into()).map(drop)
}

/// Closes all descriptors from `first` on.
pub(crate) fn close_from(first: u32) {
    // SAFETY: called before this process opened any descriptor it owns.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
}

/// Gives free memory back to the kernel.
pub(crate) fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no memory in use is touched.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Never returns; children that end are forgotten at once.
pub(crate) fn sleep_forever() -> ! {
    // SAFETY: plain signal calls in a process that does nothing else.
    unsafe {
        let mut set = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::signal(libc::SIGCHLD, libc::SIG_IGN);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut());
        loop {
            libc::pause();
        }
    }
}
