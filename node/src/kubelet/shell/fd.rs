//! A pipe or terminal, read and written without blocking.

use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    io::Errno,
};
use std::{io, os::fd::OwnedFd};
use tokio::io::unix::AsyncFd;

/// A file descriptor on the runtime.
#[derive(Debug)]
pub(super) struct Fd(AsyncFd<OwnedFd>);

impl Fd {
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        let flags = fcntl_getfl(&fd)?;
        fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?;
        // SAFETY: the descriptor is owned, open, and stays the same one until the AsyncFd is dropped.
        let fd = unsafe { AsyncFd::register(fd)? };
        Ok(Self(fd))
    }

    /// Some bytes; 0 at the end. A terminal whose other side is closed is at its end.
    pub(super) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.0.readable().await?;
            let done = ready.try_io(|fd| match rustix::io::read(fd, &mut *buffer) {
                Err(Errno::IO) => Ok(0),
                done => Ok(done?),
            });
            if let Ok(done) = done {
                return done;
            }
        }
    }

    pub(super) async fn write_all(&self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let mut ready = self.0.writable().await?;
            if let Ok(done) = ready.try_io(|fd| Ok(rustix::io::write(fd, data)?)) {
                data = &data[done?..];
            }
        }
        Ok(())
    }
}
