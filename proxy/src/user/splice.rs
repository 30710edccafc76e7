//! Bulk: from socket to socket through a pipe, so that no byte is copied here.

use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::copy::SMALL;

/// How much a pipe holds, and how many there are at most: the kernel permits a user as many (and
/// where it does not, there are buffers).
const SIZE: usize = 1024 * 1024;
static ROOM: Semaphore = Semaphore::const_new(64);

pub(crate) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    _room: SemaphorePermit<'static>,
}

impl Pipe {
    /// None where the kernel has no room left for this user's pipes, or only for small ones, which are
    /// slower than buffers.
    pub(crate) fn new() -> Option<Self> {
        let room = ROOM.try_acquire().ok()?;
        let (read, write) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).ok()?;
        fcntl_setpipe_size(&write, SIZE).ok()?;
        Some(Pipe { read, write, _room: room })
    }

    /// Moves what comes while it is much; true at its end.
    pub(crate) async fn move_all(self, from: &TcpStream, to: &TcpStream) -> io::Result<bool> {
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        loop {
            poll_fn(|cx| from.poll_read_ready(cx)).await?;
            let moved = from.try_io(Interest::READABLE, || Ok(splice(from, None, &self.write, None, SIZE, flags)?));
            let length = match moved {
                Ok(0) => return Ok(true),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            };
            let mut held = length;
            while held > 0 {
                poll_fn(|cx| to.poll_write_ready(cx)).await?;
                match to.try_io(Interest::WRITABLE, || Ok(splice(&self.read, None, to, None, held, flags)?)) {
                    Ok(length) => held -= length,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            if length < SMALL {
                return Ok(false);
            }
        }
    }
}
